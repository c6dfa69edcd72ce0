"""What a report says: every mail of its evidence as one row, and what these rows and the counts come to.

Rule: everything here follows from core/evidence.py's records by core/state.py's judgement. No words for people.

Instants are Unix times by the prober's wall clock; spans are in seconds, by the clock that the row names.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any, Literal, NamedTuple, cast

from probe.core import received
from probe.core.events import (
    Accepted,
    Arrived,
    Bounced,
    Deferred,
    Detection,
    Event,
    Expired,
    Failed,
    Instant,
    Judged,
    Notified,
    Part,
    Placement,
    Rejected,
    Reply,
    Segment,
    Sending,
    Stay,
    Unconfirmed,
    Vanished,
    elapsed,
)
from probe.core.evidence import Evidence, Mail, RouteEvidence, record_digest
from probe.core.headers import parse_head
from probe.core.state import ImpossibleEvent, Probe, State, advance, arrival_bounds
from probe.core.written import typed

Fate = Literal[
    "late",
    "found",
    "lost",
    "unseen",
    "bounced",
    "in_flight",
    "unconfirmed",
    "delivered",
    "sending",
    "rejected",
    "deferred",
    "failed",
]
REFUSED = ("rejected", "deferred", "failed")
_STEPPED = 0.5  # seconds by which two clocks differ when one was set: NTP slews by 0.5 ms per s at most


class Moment(NamedTuple):
    """Something happened to a mail: at `at`, or, where `earliest` is known, at some time in (earliest, at]."""

    what: str  # a key of the texts
    at: float
    earliest: float | None = None
    width: float | None = None  # of that interval, by the better clock
    deadline: float | None = None  # of a judgement


class Notice(NamedTuple):
    """What a bounce, or a notification, said."""

    action: str
    status: str
    text: str
    reporting_mta: str


class HopRow(NamedTuple):
    """A hop as the mail's header tells it, and when by that server's clock, which covers [date, date + resolution)."""

    by: str
    from_: str
    protocol: str
    id: str
    date: float | None
    resolution: float
    after: float | None  # date − acceptance: two clocks


@dataclass(frozen=True, slots=True)
class Row:
    """A mail of which something is to be proved."""

    probe: str
    fate: Fate
    accepted: float | None  # from when on the provider answers for it, or may have to
    seen: float | None  # the end of the interval in which it came
    seen_after: float | None  # its begin; None: unknown
    held: float | None  # seen − accepted; of what has not come: as long as it had been away when the report was made
    uncertainty: float | None
    doubtful: bool  # `held` says too little to be counted
    clock: Literal["boottime", "wall"] | None  # by which `held` was measured
    step: float  # by how much the wall clock was set between two of these moments; 0: it was not, or nobody can tell
    detection: Detection | None
    missed: list[float]  # deadlines
    reply: Reply | None
    queue_id: str
    failure: str  # stage, reason and detail of what failed without a reply
    placement: Placement | None
    folder: str
    copies: int
    moments: list[Moment]
    notices: list[Notice]
    segments: list[Part]
    stays: list[Stay]
    authentication: list[tuple[str, str]]
    hops: list[HopRow]
    link: int | None
    digest: str

    @property
    def refused(self) -> bool:
        """Whether it never became the provider's."""
        return self.fate in REFUSED


class Fault(NamedTuple):
    """The segment that held late mails most for certain: seconds of so many mails, between these bounds."""

    segment: Segment
    low: float
    high: float
    mails: int


@dataclass(frozen=True, slots=True)
class RouteReport:
    """One route: `rows` are of mails that the provider took, or may have taken; oldest first, as are `refused`."""

    evidence: RouteEvidence
    sent: int
    accepted: int  # or not confirmed
    late: int  # of these were not there in time: missed a deadline, were lost or returned
    deadlines: list[float]
    rows: list[Row]
    refused: list[Row]
    worst: Row | None  # the one that was held longest
    fault: Fault | None
    clocks: dict[str, int]  # mails whose time was measured by each clock
    steps: int  # mails during whose way the wall clock was set


def report(evidence: Evidence) -> list[RouteReport]:
    """What each route's evidence says. Raises ValueError where a record is none."""
    return [_route(route, evidence) for route in evidence.routes]


def _route(route: RouteEvidence, evidence: Evidence) -> RouteReport:
    everything = [row(mail, evidence.made) for mail in route.mails]
    rows = [it for it in everything if not it.refused]
    states = route.totals.states
    never = sum(states.get(State(name), 0) for name in (*REFUSED, "sending", "early"))
    sent = sum(states.values())
    held = [
        it for it in rows if it.held is not None and not it.doubtful and (it.missed or it.fate in {"lost", "found"})
    ]
    return RouteReport(
        route,
        sent,
        sent - never,
        sum(it.fate in {"late", "found", "lost", "bounced"} or bool(it.missed) for it in rows),
        sorted({moment.deadline for it in everything for moment in it.moments if moment.deadline is not None}),
        rows,
        [it for it in everything if it.refused],
        max(held, key=lambda it: it.held or 0.0, default=None),
        _fault(it for it in rows if it.missed or it.fate == "found"),
        dict(Counter(it.clock for it in rows if it.clock)),
        sum(bool(it.step) for it in rows),
    )


def _fault(rows: Iterable[Row]) -> Fault | None:
    sums: dict[Segment, Fault] = {}
    for part in (part for it in rows for part in it.segments if part.segment != "submission"):
        _, low, high, mails = sums.get(part.segment, (part.segment, 0.0, 0.0, 0))
        sums[part.segment] = Fault(part.segment, low + part.low, high + part.high, mails + 1)
    most = max(sums.values(), key=lambda it: it.low, default=None)
    return most if most and most.low > 0 else None


# -- one mail ------------------------------------------------------------------------------------------------------


def row(mail: Mail, made: float) -> Row:
    """What is on record of this mail, as known at `made`. Raises ValueError."""
    try:
        told: list[dict[str, Any]] = json.loads(mail.record)["events"]
        events = [typed(it.pop("kind"), it) for it in told]
        probe = reduce(advance, events, cast("Probe", None))
        return _row(mail, probe, events, made)
    except (KeyError, TypeError, AttributeError, IndexError, ImpossibleEvent) as error:
        raise ValueError(f"the record with the number {mail.link} is none: {error!r}") from error


def _row(mail: Mail, probe: Probe, events: Sequence[Event], made: float) -> Row:
    low, high = arrival_bounds(probe.arrived) if probe.arrived else (None, None)
    answerable, submitted, traced = probe.answerable, probe.submitted, probe.traced
    if low and answerable and elapsed(low, answerable) > 0:
        low = answerable
    held, fate = probe.latency, _fate(probe)
    if held is None and answerable and fate in {"in_flight", "lost"}:
        held = max(0.0, made - answerable.wall)
    return Row(
        probe=probe.id,
        fate=fate,
        accepted=answerable.wall if answerable else None,
        seen=high.wall if high else None,
        seen_after=low.wall if low else None,
        held=held,
        uncertainty=probe.uncertainty,
        doubtful=probe.doubtful,
        clock="wall" if held is not None and probe.latency is None else probe.clock,
        step=_step([probe.due, *(event.at for event in events)]),
        detection=probe.arrived.detection if probe.arrived else None,
        missed=list(probe.missed),
        reply=submitted.reply if isinstance(submitted, Accepted | Deferred | Rejected) else None,
        queue_id=submitted.queue_id if isinstance(submitted, Accepted) else "",
        failure=_failure(probe),
        placement=probe.arrived.placement if probe.arrived else None,
        folder=probe.arrived.place.folder if probe.arrived else "",
        copies=len(probe.places),
        moments=sorted(_moments(probe, events), key=lambda moment: moment.at),
        notices=[
            Notice("failed" if isinstance(it, Bounced) else it.action, it.status, it.text, it.reporting_mta)
            for it in events
            if isinstance(it, Bounced | Notified)
        ],
        segments=list(traced.segments) if traced else [],
        stays=list(traced.stays) if traced else [],
        authentication=list(traced.authentication) if traced else [],
        hops=list(_hops(mail.header, answerable)),
        link=mail.link,
        digest=record_digest(mail),
    )


def _fate(probe: Probe) -> Fate:
    match probe.state:
        case State.DELIVERED:
            late = probe.missed or probe.bounced
            return "late" if probe.missed else "delivered" if late else "unconfirmed"
        case State.ACCEPTED | State.UNCONFIRMED:
            return "in_flight"
        case State.LOST if probe.expired and not probe.expired.looked:
            return "unseen"
        case State.EARLY:
            return "sending"
        case state:
            return cast("Fate", state.value)


def _failure(probe: Probe) -> str:
    match probe.submitted:
        case Failed(stage=stage, reason=reason, detail=detail):
            return ": ".join(filter(None, (stage, reason, detail)))
        case Unconfirmed(reason=reason, detail=detail):
            return ": ".join(filter(None, (reason, detail)))
        case Deferred(stage=stage) | Rejected(stage=stage):
            return stage
    return ""


def _moments(probe: Probe, events: Sequence[Event]) -> Iterator[Moment]:
    yield Moment("due", probe.due.wall)
    for event in events:
        at = event.at.wall
        match event:
            case Sending():
                yield Moment("started", at)
            case Accepted():
                yield Moment("accepted", at)
            case Unconfirmed(since=since):
                yield Moment("unconfirmed", at, since.wall, elapsed(since, event.at))
            case Arrived(stored=stored):
                low, high = arrival_bounds(event)
                what = "seen" if event == probe.arrived else "again"
                yield Moment(what, high.wall, low.wall, elapsed(low, high)) if low else Moment(what, high.wall)
                if high != event.at:
                    yield Moment("noticed", at)
                if stored is not None:
                    yield Moment("stored", stored)
            case Judged(deadline=deadline, met=met):
                yield Moment({True: "met", False: "missed", None: "unseen"}[met], at, deadline=deadline)
            case Notified(action=action):
                yield Moment(action, at)
            case Expired(looked=False):
                yield Moment("unlooked", at)
            case Rejected() | Deferred() | Failed() | Bounced() | Expired() | Vanished():
                yield Moment(type(event).__name__.lower(), at)


def _step(instants: Sequence[Instant]) -> float:
    """By how much the wall clock was set, where both clocks went on; 0 where that was less than NTP's slewing."""
    differences = [(b.wall - a.wall) - (b.boot - a.boot) for a, b in pairwise(instants) if a.boot_id == b.boot_id]
    most = max(differences, key=abs, default=0.0)
    return most if abs(most) > _STEPPED else 0.0


def _hops(header: str, accepted: Instant | None) -> Iterator[HopRow]:
    for hop in received.hops(parse_head(header.encode("latin-1", "replace"))):
        date, resolution = received.stamp(hop) or (None, 1.0)
        after = date - accepted.wall if accepted and date is not None else None
        yield HopRow(hop.by, hop.helo or hop.from_, hop.protocol, hop.id, date, resolution, after)
