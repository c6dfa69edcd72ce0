"""The resources of the API, as plain data: one pure function each.

Rule: times are RFC 3339 in UTC with milliseconds, durations are seconds. What the public may not know is None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Protocol

from probe.core.events import Instant, elapsed
from probe.core.history import IncidentRow, Life, Share, Summary, Totals, incident_of
from probe.core.state import State
from probe.core.trouble import Incident, View, as_of

Data = dict[str, Any]
NOTHING = Share(0, 0, 0, 0, 0, 0)
_LAST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
_EVENTS = 1000  # of one probe; more were copies of one mail without end
_HEADERS, _OCTETS = 20, 65_536  # header blocks of one probe, and of each its beginning


class Mailbox(Protocol):
    """Whether an account's mailbox is watched, and why not."""

    @property
    def account(self) -> str: ...
    @property
    def up(self) -> bool: ...
    @property
    def reason(self) -> str: ...


class Demo(Protocol):
    """A story that an embedded provider plays: from which Unix time on, and how many of its seconds pass in one."""

    @property
    def begins(self) -> float: ...
    @property
    def speed(self) -> float: ...


class Health(Protocol):
    """How the prober itself is; texts are "" when all is well. page.Health is one."""

    @property
    def version(self) -> str: ...
    @property
    def since(self) -> Instant: ...
    @property
    def mailboxes(self) -> Sequence[Mailbox]: ...
    @property
    def ledger(self) -> str: ...
    @property
    def reload(self) -> str: ...
    @property
    def demo(self) -> Demo | None: ...


class Route(Protocol):
    """A configured route with its addresses; page.Route is one."""

    @property
    def name(self) -> str: ...
    @property
    def sender(self) -> str: ...
    @property
    def recipient(self) -> str: ...
    @property
    def view(self) -> View: ...


def time(wall: float | None) -> str | None:
    """A Unix time; None also where the calendar has no such day."""
    if wall is None or not 0 <= wall < _LAST:
        return None
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def prober(health: Health, now: Instant, public: bool) -> Data:
    """The prober's own health."""
    boxes = [
        {
            "account": None if public else box.account,
            "watched": box.up,
            "reason": None if public else box.reason or None,
        }
        for box in health.mailboxes
    ]
    return {
        "version": None if public else health.version,
        "since": time(health.since.wall),
        "up_seconds": max(0.0, elapsed(health.since, now)),
        "mailboxes": boxes,
        "record_ok": not health.ledger,
        "record_error": None if public else health.ledger or None,
        "configuration_ok": not health.reload,
        "configuration_error": None if public else health.reload or None,
        "demo": {"begins": time(health.demo.begins), "speed": _number(health.demo.speed)} if health.demo else None,
    }


def route(of: Route, sent: Mapping[State, int], day: Share | None, public: bool) -> Data:
    """A route as it is now. `sent`: all its probes on record, by state; `day`: those of the last 24 hours."""
    view = of.view
    return {
        "name": of.name,
        "from": None if public else of.sender,
        "to": None if public else of.recipient,
        "state": view.state.value,
        "reason": view.reason,
        "since": time(view.since.wall if view.since else None),
        "in_flight": view.in_flight,
        "oldest_in_flight_since": None if view.oldest is None else time(view.at.wall - view.oldest),
        "oldest_in_flight_seconds": view.oldest,
        "last_delivery": time(view.last_arrival.wall if view.last_arrival else None),
        "last_latency_seconds": view.last_latency,
        "totals": {"sent": sum(sent.values()), **{state.value: sent.get(state, 0) for state in State}},
        "last_24_hours": share(day) if day else None,
        "incidents": [incident(as_of(it, view), view.at) for it in view.incidents],
    }


def by_route(counts: Mapping[tuple[str, State], int]) -> dict[str, dict[State, int]]:
    """Numbers of probes by route and state, as route() takes them."""
    found: dict[str, dict[State, int]] = {}
    for (route, state), number in counts.items():
        found.setdefault(route, {})[state] = number
    return found


def share(of: Share) -> Data:
    """What the probes of a span came to."""
    return {**of._asdict(), "in_time_ratio": of.ratio}


def totals(of: Totals) -> Data:
    """What a route's probes came to, with the latencies' exact quantiles."""
    latencies = of.latencies
    return {
        "states": {state.value: of.states.get(state, 0) for state in State},
        "placements": {name: of.placements.get(name, 0) for name in ("inbox", "junk", "other")},
        "held_longest_by": [
            {"segment": segment, "probes": number, "seconds": seconds}
            for segment, (number, seconds) in sorted(of.holders.items())
        ],
        "latency_seconds": {
            "count": latencies.number,
            "median": latencies.median,
            "p95": latencies.p95,
            "p99": latencies.p99,
            "max": latencies.most,
        }
        if latencies
        else None,
    }


def incident(of: Incident, now: Instant, name: str | None = None) -> Data:
    """A time of trouble. The `name` by which it is on record is public: a route, a kind, a time."""
    fault = of.fault
    return {
        "id": name or of.name,
        "route": of.route,
        "kind": of.kind,
        "worst": of.worst.value,
        "begin": time(of.begin.wall),
        "noticed": time(of.noticed.wall),
        "end": time(of.end.wall if of.end else None),
        "open": of.end is None,
        "duration_seconds": max(0.0, elapsed(of.begin, of.end or now)),
        "peak_seconds": of.peak,
        "mails": {"affected": of.toll.affected, **of.toll._asdict()},
        "held_longest_by": {"segment": fault.segment, "low_seconds": fault.low, "high_seconds": fault.high}
        if fault
        else None,
        "origin": of.origin,
    }


def recorded(row: IncidentRow, now: Instant) -> Data:
    """An incident as it is on record."""
    return incident(incident_of(row), now, row.id)


def probe(of: Summary, public: bool) -> Data:
    """A probe in one row."""
    return {
        "id": of.probe,
        "route": of.route,
        "state": of.state.value,
        "started": time(of.started),
        "accepted": time(of.accepted),
        "seen": time(of.seen),
        "latency_seconds": of.latency,
        "doubtful": of.doubtful,
        "missed_deadline_seconds": of.missed,
        "unknown_deadline_seconds": of.unknown,
        "placement": of.placement,
        "held_longest_by": of.holder,
        "held_seconds": of.held,
        "status": None if public else of.status,
    }


def life(of: Life, public: bool) -> Data:
    """All that is on record of a probe."""
    found = dict(reversed(of.events))  # the first of each kind
    sending, traced = found.get("Sending", {}), found.get("Traced", {})
    start = Instant(*sending["at"]) if sending else None
    secret: Data = {
        "from": sending.get("sender"),
        "to": sending.get("recipient"),
        "hosts": _spans(traced.get("stays", ()), "host"),
        "authentication": _pairs(traced.get("authentication", ()), "method", "result"),
        "spam": list(traced.get("spam", ())),
        "headers": [raw[:_OCTETS].decode("utf-8", "replace") for raw in of.headers[:_HEADERS]],
    }
    return {
        **probe(of.summary, public),
        **(dict.fromkeys(secret) if public else secret),
        "segments": _spans(traced.get("segments", ()), "segment"),
        "timeline": [_event(kind, fields, start, public) for kind, fields in of.events[:_EVENTS]],
        "complete": len(of.events) <= _EVENTS
        and len(of.headers) <= _HEADERS
        and all(len(raw) <= _OCTETS for raw in of.headers),
    }


# -- events ---------------------------------------------------------------------------------------------------------


def _event(kind: str, fields: Mapping[str, Any], start: Instant | None, public: bool) -> Data:
    at = Instant(*fields["at"])
    told = {
        name: None if value is None else convert(value)
        for key, value in fields.items()
        if key in FIELDS
        for name, convert, is_public in [FIELDS[key]]
        if is_public or not public
    }
    return {"kind": kind.lower(), "at": time(at.wall), "seconds": elapsed(start or at, at), **told}


def _instant(value: Sequence[Any]) -> str | None:
    return time(value[0])


def _number(value: float) -> float | None:
    return value if isfinite(value) else None


def _same(value: Any) -> Any:
    return value


def _spans(parts: Iterable[Sequence[Any]], of: str) -> list[Data]:
    names = (of, "low_seconds", "high_seconds", "resolution_seconds")
    return [
        {name: _number(it) if isinstance(it, float | int) else it for name, it in zip(names, part, strict=False)}
        for part in parts
    ]


def _pairs(pairs: Iterable[Sequence[Any]], one: str, other: str) -> list[Data]:
    return [{one: first, other: second} for first, second in pairs]


# An event's field as core/events.py has it → its name here, what makes it plain, whether the public may know it. What
# is not here is told elsewhere, or to nobody.
FIELDS: Mapping[str, tuple[str, Callable[[Any], Any], bool]] = {
    "due": ("due", _instant, True),
    "since": ("since", _instant, True),
    "not_before": ("not_before", _instant, True),
    "stored": ("stored", time, True),
    "stage": ("stage", _same, True),
    "stages": ("stages", lambda stages: _pairs(stages, "stage", "seconds"), True),
    "placement": ("placement", _same, True),
    "detection": ("detection", _same, True),
    "genuine": ("genuine", _same, True),
    "action": ("action", _same, True),
    "deadline": ("deadline_seconds", _number, True),
    "met": ("met", _same, True),
    "reply": ("reply", lambda reply: dict(zip(("code", "status", "text"), reply, strict=True)), False),
    "queue_id": ("queue_id", _same, False),
    "reason": ("reason", _same, False),
    "detail": ("detail", _same, False),
    "status": ("status", _same, False),
    "text": ("text", _same, False),
    "reporting_mta": ("reporting_mta", _same, False),
    "matched": ("matched", _same, False),
    "place": (
        "place",
        lambda place: dict(zip(("account", "folder", "uidvalidity", "uid"), place, strict=True)),
        False,
    ),
}
