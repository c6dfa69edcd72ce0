"""Late mail of one route: an incident from the first mail that is late to the last one that came.

Rule: it follows from the probes' events alone, by the same judgement (state.met) that the deadlines' verdicts are.
Late is what was judged absent after a look into the mailbox, what came late, and what is lost. A mail is affected once.

In at once, out slowly, which costs nothing: the end that is recorded lies back where the trouble was over.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from probe.core.drain import Drain, Passage, drain
from probe.core.events import Expired, Instant, Judged, elapsed
from probe.core.outcome import Outcome
from probe.core.settings import Route
from probe.core.state import IN_FLIGHT, Probe, State, arrival_bounds, met
from probe.core.trouble import Held, Incident, RouteState, later

# It is over after so many points of mails sent since: three that were well in time, or twelve that were just so.
# Latencies that swing about a deadline come close to it on either side, and a run of twelve is rare among them.
POINTS = 12
COMFORTABLE = 4
MARGIN = 0.8  # of the shortest deadline: well in time
QUIET = 300.0  # seconds between the first and the last of these: a provider's retries are minutes apart
_DRAINED = 200  # mails by which a drain's order and speed are told


class Limits(NamedTuple):
    """What is late on a route, in seconds after the acceptance."""

    route: str
    slow: float  # the shortest deadline
    stuck: float  # the longest one; where there is but one deadline, a late mail is stuck at once
    halt: float  # after so long without a mail of it, a backlog does not drain

    @classmethod
    def of(cls, route: Route) -> Limits:
        """A route without deadlines knows lost mail only."""
        deadlines = route.deadlines or (route.lost_after,)
        longest = max(deadlines)
        return cls(route.name, min(deadlines), longest, max(longest, 2 * route.every))


@dataclass(slots=True)
class Lateness:
    """What is remembered of late mail. `incident` is left with its end when it is over, for the tracker to take."""

    incident: Incident | None = None
    known: Instant | None = None  # when a delivery was last judged, as in time or as late
    held: set[str] = field(default_factory=set)  # probes that are late and have not come
    latest: Instant | None = None  # the latest acceptance of a late mail
    fresh: list[tuple[Instant, int]] = field(default_factory=list)  # accepted after that and in time: when, points
    over: Instant | None = None  # when the last late mail came, or was given up
    newest: Instant | None = None  # the latest acceptance of a mail that has come
    standstill: bool = False  # when a mail was last found stuck, nothing sent after it had come
    moving: Instant | None = None  # when mail of the backlog last came
    drained: list[Passage] = field(default_factory=list)
    segments: dict[str, tuple[float, float, int]] = field(default_factory=dict)  # seconds at least, at most; mails

    def came(self, outcome: Outcome, probe: Probe, told: Held | None, limits: Limits) -> None:
        """The mail's latency was measured; `told`: what it says of its way."""
        assert probe.arrived is not None
        assert probe.answerable is not None
        assert probe.latency is not None
        seen = arrival_bounds(probe.arrived)[1]
        if self.standstill or probe.id in self.held:
            self._move(seen, limits)
        self.newest = later(probe.answerable, self.newest)
        if outcome.before and outcome.before.state in {State.LOST, State.BOUNCED}:
            return  # it was affected once, when it was given up
        in_time = met(probe, limits.slow)
        if in_time is not None:
            self.known = outcome.event.at
        if probe.id in self.held or in_time is False:
            worst = RouteState.STUCK if met(probe, limits.stuck) is False else RouteState.SLOW
            self._affect(probe, outcome.event.at, worst, "late", limits)
            self.over = later(seen, self.over)
            self.drained = [*self.drained[1 - _DRAINED :], Passage(probe.answerable, seen)]
            self._blame(told)
        elif in_time:
            self._in_time(probe.answerable, outcome.event.at, probe.latency <= MARGIN * limits.slow)
        elif self.incident and elapsed(self.incident.begin, probe.answerable) >= 0:
            self.incident = replace(self.incident, toll=self.incident.toll.plus("unknown"))

    def judged(self, probe: Probe, event: Judged, limits: Limits) -> None:
        """A deadline has passed. That a mail was in time, or late, was known when it came: news is only its absence."""
        if event.met is not False or event.deadline < limits.slow or probe.state not in IN_FLIGHT:
            return
        self.known = event.at
        worst = RouteState.STUCK if event.deadline >= limits.stuck else RouteState.SLOW
        self._affect(probe, event.at, worst, "held", limits)
        if worst is RouteState.STUCK and probe.answerable:
            self.standstill = self.newest is None or elapsed(self.newest, probe.answerable) > 0

    def given_up(self, probe: Probe, event: Expired, limits: Limits) -> None:
        """The mail is lost; where nobody looked, that is no word of the provider's."""
        if not event.looked:
            self.forget(probe.id)
            return
        self._affect(probe, event.at, RouteState.STUCK, "lost", limits)
        self.over = later(event.at, self.over)

    def forget(self, probe: str) -> None:
        """Nobody will tell what becomes of this mail."""
        if probe in self.held:
            self.held.remove(probe)
            if self.incident:
                toll = self.incident.toll.plus("held", -1).plus("unknown")
                self.incident = replace(self.incident, toll=toll)

    def returned(self, probe: Probe, at: Instant, limits: Limits) -> bool:
        """A bounce has come; whether it was of a mail that was late."""
        if probe.id not in self.held:
            return False
        self._affect(probe, at, RouteState.SLOW, "bounced", limits)
        self.over = later(at, self.over)
        return True

    def end(self) -> None:
        """End the incident, if it is over: nothing is held any more, and mail sent since comes in time."""
        if _enough(self.fresh):
            self.standstill = False  # what is still held was left behind
            if self.incident and not self.held:
                self.incident = self.incident.ended(later(self.fresh[0][0], self.over))
                self.drained = []

    def lasted(self, at: Instant) -> Instant:
        """Until when the incident lasted for certain, by what is known at `at`."""
        if self.held:
            return at
        return later(self.fresh[0][0] if self.fresh else self.over or at, self.over)

    def look_away(self) -> None:
        """Nobody looked for a while: what was known of the present is known no more. Incidents do not rest on it."""
        self.known = self.moving = None

    def is_moving(self, now: Instant, limits: Limits) -> bool:
        """Whether mail of the backlog comes."""
        return self.moving is not None and elapsed(self.moving, now) <= limits.halt

    def draining(self, now: Instant, limits: Limits) -> Drain:
        """What can be said of the backlog."""
        return drain(self.drained if self.incident and self.is_moving(now, limits) else [], now)

    def _affect(self, probe: Probe, at: Instant, worst: RouteState, fate: str, limits: Limits) -> None:
        """A mail opens an incident, joins the one that is open, or is known there and meets its fate."""
        assert probe.answerable is not None
        late = self.incident
        if late is None:
            late = Incident(limits.route, "late", probe.answerable, at, worst)
            self.over, self.drained, self.segments = None, [], {}
        toll = late.toll.plus(fate)
        if probe.id in self.held:
            toll = toll.plus("held", -1)
            self.held.remove(probe.id)
        else:
            if self.latest is None or _is_after(probe.answerable, self.latest, at):
                self.latest = probe.answerable
            self.fresh = [one for one in self.fresh if _is_after(one[0], self.latest, at)]
        if fate == "held":
            self.held.add(probe.id)
        age = elapsed(probe.answerable, at) if probe.latency is None else probe.latency
        self.incident = replace(
            late,
            begin=probe.answerable if _is_after(late.begin, probe.answerable, at) else late.begin,
            worst=RouteState.STUCK if RouteState.STUCK in {worst, late.worst} else worst,
            peak=max(late.peak, age),
            toll=toll,
        )

    def _in_time(self, accepted: Instant, at: Instant, comfortable: bool) -> None:
        """Only mail that was sent after the last late one shows that trouble is over."""
        if self.latest and not _is_after(accepted, self.latest, at):
            return
        if self.fresh and self.fresh[-1][0].boot_id != accepted.boot_id:
            self.fresh = []  # what a wall clock tells across a reboot is no measure
        self.fresh.append((accepted, COMFORTABLE if comfortable else 1))
        while _enough(self.fresh[1:]):
            del self.fresh[0]

    def _move(self, seen: Instant, limits: Limits) -> None:
        if not self.is_moving(seen, limits):
            self.drained = []  # it had come to a halt: this is another drain
        self.moving = later(seen, self.moving)

    def _blame(self, told: Held | None) -> None:
        if told and self.incident:
            low, high, mails = self.segments.get(told.segment, (0.0, 0.0, 0))
            self.segments[told.segment] = low + told.low, high + told.high, mails + 1
            segment, (low, high, mails) = max(self.segments.items(), key=lambda item: item[1])
            self.incident = replace(self.incident, fault=Held(segment, low / mails, high / mails))


def _enough(fresh: list[tuple[Instant, int]]) -> bool:
    if not fresh or elapsed(fresh[0][0], fresh[-1][0]) < QUIET:
        return False
    return sum(points for _, points in fresh[:POINTS]) >= POINTS  # each has one at least


def _is_after(one: Instant, other: Instant, at: Instant) -> bool:
    """Whether one is later than the other, known at `at`: what is of that boot is, whatever wall clocks say."""
    if one.boot_id != other.boot_id and at.boot_id in {one.boot_id, other.boot_id}:
        return one.boot_id == at.boot_id
    return elapsed(other, one) > 0
