"""What a ledger tells about the past: a probe in one row, and what many of them come to.

Rule: a summary follows from the probe alone, so it can be made anew from the events at any time.

Times are Unix times by our wall clock, spans are in seconds. A probe belongs to the moment at which it was started: so
it has a place before anybody knows what becomes of it, and keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from probe.core import chain
from probe.core.chain import Link
from probe.core.events import Deferred, Failed, Instant, Placement, Rejected, Segment, Unconfirmed
from probe.core.plain import plain, typed
from probe.core.state import Probe, State
from probe.core.trouble import Incident, Kind, RouteState, longest

HOUR, DAY = 3600, 86400


class Summary(NamedTuple):
    """A probe in one row."""

    route: str
    started: float
    probe: str
    state: State
    accepted: float | None = None  # from when on the provider answers for it, or may have to
    seen: float | None = None  # its first arrival
    latency: float | None = None  # by the boot clock where it can be: not always seen − accepted
    doubtful: bool = False  # the latency says too little to be counted
    missed: float | None = None  # the longest deadline that was judged as missed
    unknown: float | None = None  # the longest of which nobody could see
    placement: Placement | None = None
    holder: Segment | None = None  # who had it longest once it was submitted, as far as its header tells
    held: float | None = None  # for so long: the middle of what is possible
    # Of a bounce the status (RFC 3463), of a refusal that or the reply's code, of a failure and of a submission that
    # was never confirmed the reason; None where nothing of this happened.
    status: str | None = None


class Cell(NamedTuple):
    """The probes of a route that were started in one stretch of time, counted."""

    route: str
    begin: float
    sent: int
    open: int  # of these it is not known yet what becomes of them
    late: int  # missed a deadline, whether or not they came
    unknown: int  # there is a deadline of which nobody could see whether they missed it
    lost: int
    bounced: int
    refused: int  # rejected, deferred, failed
    measured: int  # have a latency that counts
    worst: float | None  # the longest such latency


class Point(NamedTuple):
    """Of the probes of one stretch of time the latencies that count."""

    begin: float
    number: int
    least: float
    median: float  # as everywhere here one that was measured: the nearest rank
    most: float


class Latencies(NamedTuple):
    """How latencies are distributed: exact, each one that was measured (the nearest rank)."""

    number: int
    median: float
    p95: float
    p99: float
    most: float


class Totals(NamedTuple):
    """A route in a span of time."""

    states: dict[State, int]
    late: int
    unknown: int
    placements: dict[Placement, int]
    holders: dict[Segment, tuple[int, float]]  # who had most mails longest: how many, and for how long all in all
    latencies: Latencies | None  # None: none counts


class Share(NamedTuple):
    """What the probes of a span of time came to, each counted once."""

    sent: int
    open: int  # not decided yet
    refused: int  # rejected, deferred, failed
    unknown: int  # nobody could see whether they were in time
    in_time: int  # came, and missed no deadline
    late: int  # accepted, and missed a deadline, bounced or lost

    @property
    def ratio(self) -> float | None:
        """Of those of which it is known the part that was in time; None: it is known of none."""
        return self.in_time / (self.in_time + self.late) if self.in_time + self.late else None


class Standing(NamedTuple):
    """A route by the ledger alone: its newest probe, and what is in flight."""

    newest: Summary
    in_flight: int
    oldest: float | None  # the earliest acceptance of what is in flight


class Life(NamedTuple):
    """All that is on record of a probe."""

    summary: Summary
    events: tuple[tuple[str, Mapping[str, Any]], ...]  # kind and fields, as core/events.py has them, instants as lists
    headers: tuple[bytes, ...]  # header blocks of its mails and bounces, as far as they are kept
    links: tuple[Link, ...]  # its places in the route's chain; the last is of its record, once nothing is ahead

    @property
    def record(self) -> bytes:
        """The events as they are chained."""
        return chain.record(self.summary.probe, self.events)


class Day(NamedTuple):
    """What is known of a route's chain by the end of a day (UTC)."""

    begin: float
    number: int  # the head's
    head: bytes


class IncidentRow(NamedTuple):
    """An incident as it is kept; what `record` is, is known to those who write it."""

    id: str
    route: str
    kind: str
    begin: float
    end: float | None  # None: it lasts
    record: Mapping[str, Any]


def summary(probe: Probe) -> Summary:
    """The probe in one row."""
    most = longest(probe.traced)
    return Summary(
        probe.route,
        probe.started.wall,
        probe.id,
        probe.state,
        probe.answerable.wall if probe.answerable else None,
        probe.arrived.at.wall if probe.arrived else None,
        probe.latency,
        probe.doubtful,
        max(probe.missed, default=None),
        max(probe.unknown, default=None),
        probe.arrived.placement if probe.arrived else None,
        most.segment if most else None,
        (most.low + most.high) / 2 if most else None,
        _status(probe),
    )


def incident_row(of: Incident) -> IncidentRow:
    """The incident as it is kept."""
    return IncidentRow(of.name, of.route, of.kind, of.begin.wall, of.end.wall if of.end else None, plain(of))


def incident_of(row: IncidentRow) -> Incident:
    """The incident that is kept so; of one that another version wrote in its own way, what the row itself says."""
    try:
        return cast(Incident, typed(Incident, dict(row.record)))
    except ValueError:
        begin, end = (None if at is None else Instant(at, at, "") for at in (row.begin, row.end))
        assert begin is not None
        return Incident(row.route, cast(Kind, row.kind), begin, begin, RouteState.UNKNOWN, end=end)


def _status(probe: Probe) -> str | None:
    if probe.bounced:
        return probe.bounced.status or "bounced"
    match probe.submitted:
        case Rejected(reply=reply) | Deferred(reply=reply):
            return reply.status or str(reply.code)
        case Failed(reason=reason) | Unconfirmed(reason=reason):
            return reason
    return None
