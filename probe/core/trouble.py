"""How a route is, and what went wrong on it: the records that the incidents' tracker makes and everybody reads.

Rule: no words for people here; every record carries numbers, instants and keys, and core/phrases.py has the sentences.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal, NamedTuple

from probe.core.drain import Drain
from probe.core.events import Instant, Part, Traced, elapsed


class RouteState(StrEnum):
    """How a route is now. The order of judging is RULES in core/incidents.py."""

    OK = "ok"  # what was sent lately came in time
    SLOW = "slow"  # mails come, later than the shortest deadline
    STUCK = "stuck"  # a mail is out beyond the longest deadline, we look, and nothing of the backlog comes
    RECOVERING = "recovering"  # was stuck; mails come again, but not yet all, or not yet in time
    FAILING = "failing"  # the sender's server takes no mail, or what it took is returned
    BLIND = "blind"  # the mailbox is not watched: nobody can tell; the prober's own trouble
    UNKNOWN = "unknown"  # nothing was measured yet, or for long


Kind = Literal["late", "refused", "bounced", "blind"]
# Told while it happened, and, where its route was then configured no more, so that it lasted until its `end` at least;
# found again in the record of a version that told none, and there, where that record ends before it, with such an end.
Origin = Literal["live", "left", "replayed", "cut"]


class Toll(NamedTuple):
    """How many mails an incident affected, each counted once, by what has become of it."""

    held: int = 0  # late, and not there yet
    late: int = 0
    lost: int = 0
    bounced: int = 0
    refused: int = 0
    unknown: int = 0  # sent during it, and come without anybody knowing when; held, and nobody can tell any more

    @property
    def affected(self) -> int:
        """All of them."""
        return sum(self)

    def plus(self, fate: str, number: int = 1) -> Toll:
        """So many more (or fewer) with this fate."""
        return self._replace(**{fate: getattr(self, fate) + number})


NOBODY = Toll()


class Held(NamedTuple):
    """The segment of a mail's way that held it most, and for how long: bounds in seconds."""

    segment: str
    low: float
    high: float


def longest(traced: Traced | None) -> Part | None:
    """The segment that had the mail longest once it was submitted; None where nothing tells."""
    parts = [part for part in traced.segments if part.segment != "submission"] if traced else []
    return max(parts, key=lambda part: part.low + part.high, default=None)


def held_by(traced: Traced | None) -> Held | None:
    """The same, as an incident is told it."""
    most = longest(traced)
    return Held(most.segment, most.low, most.high) if most else None


@dataclass(frozen=True, slots=True)
class Incident:
    """A time of trouble on a route, as far as it is known.

    `begin` is when it began for people who send mail: the acceptance of the first late mail, the start of the first
    refused one. `noticed` is when we knew. `end` is the first instant at which all that had been held had come and mail
    sent was in time again; None while it lasts. `peak` in seconds: the longest time a mail was held (late), the longest
    time in which nothing was taken, or delivered, or seen (refused, bounced, blind).
    `fault`: the segment that held these mails most, for so long per mail on average; None where nothing tells.
    """

    route: str
    kind: Kind
    begin: Instant
    noticed: Instant
    worst: RouteState
    peak: float = 0.0
    toll: Toll = NOBODY
    fault: Held | None = None
    end: Instant | None = None
    origin: Origin = field(default="live", metadata={"later": True})

    @property
    def name(self) -> str:
        """The same as long as it lasts, and whoever finds it: its begin may yet move back."""
        return f"{self.route}/{self.kind}/{self.noticed.wall:.3f}"

    def ended(self, at: Instant) -> Incident:
        """The same, over since then; not before it began, whatever a wall clock that was set across a reboot tells."""
        return replace(self, end=later(at, self.begin))


@dataclass(frozen=True, slots=True)
class Opened:
    """An incident was noticed."""

    incident: Incident


@dataclass(frozen=True, slots=True)
class Updated:
    """More is known of an open incident."""

    incident: Incident


@dataclass(frozen=True, slots=True)
class Closed:
    """An incident is over; its `end` lies before the instant at which this could be known."""

    incident: Incident


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A route's state is another one since `at`, for a reason that is a key of RULES in core/incidents.py."""

    route: str
    at: Instant
    old: RouteState
    new: RouteState
    reason: str


Change = Opened | Updated | Closed | StateChanged


@dataclass(frozen=True, slots=True)
class View:
    """A route for a page, as of `at`. Durations in seconds; None: there is none."""

    route: str
    at: Instant
    state: RouteState
    reason: str
    since: Instant | None
    in_flight: int
    oldest: float | None
    last_arrival: Instant | None
    last_latency: float | None
    incidents: tuple[Incident, ...]  # those that are open
    drain: Drain


def as_of(incident: Incident, view: View) -> Incident:
    """An open one with what may be its peak by then: it knows of events only."""
    lasts = (view.oldest or 0.0) if incident.kind == "late" else elapsed(incident.begin, view.at)
    return replace(incident, peak=max(incident.peak, lasts))


def later(one: Instant, other: Instant | None) -> Instant:
    """The later one of two."""
    return one if other is None or elapsed(other, one) > 0 else other
