"""How a route is, and its incidents: told every outcome of its probes and the time, a tracker says what has changed.

Rules:
- Incidents of mail (late, refused, bounced) follow from the probes' events alone, so that the ledger's events give the
  same ones again (core/replay.py). Time and eyes (tick) decide only what they alone can know: how the route is now,
  and when the prober was blind.
- What nobody saw is no provider's fault, and nothing is called ok that was not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from probe.core.events import Expired, Instant, Judged, elapsed
from probe.core.lateness import Lateness, Limits
from probe.core.outcome import InFlight, Outcome
from probe.core.plain import plain, typed
from probe.core.refusals import Run, is_returned, runs
from probe.core.settings import Route
from probe.core.sight import GRACE, Sight
from probe.core.state import IN_FLIGHT, arrival_bounds
from probe.core.trouble import (
    Change,
    Closed,
    Held,
    Incident,
    Opened,
    RouteState,
    StateChanged,
    Updated,
    View,
    later,
)

GAP = 60.0  # seconds between ticks, of which there is one a second, after which nobody can say what happened meanwhile
SILENCE = 3  # periods of the route (and its longest deadline) without a judgement: what was known is known no more


class Facts(NamedTuple):
    """What a state is judged by, at one moment."""

    overdue: bool = False  # a mail is out beyond the longest deadline, and the mailbox is watched
    late: bool = False  # the same of the shortest, and long enough that it would have been judged, had anybody seen
    backlog: bool = False  # what was judged late is not there, after a mail was stuck, and we look
    moving: bool = False  # mail of the backlog has come lately
    worst: RouteState | None = None  # of the open incident of late mail
    refused: bool = False
    bounced: bool = False
    blind: bool = False
    known: bool = False  # a delivery was judged lately
    away: bool = False  # not since we were away
    ever: bool = False


# The first that holds is the state, and its key the reason.
RULES: tuple[tuple[RouteState, str, Callable[[Facts], bool]], ...] = (
    (RouteState.STUCK, "overdue", lambda f: (f.overdue or f.backlog) and not f.moving),
    (RouteState.FAILING, "refused", lambda f: f.refused),
    (RouteState.FAILING, "bounced", lambda f: f.bounced),
    (RouteState.BLIND, "unwatched", lambda f: f.blind),
    (RouteState.RECOVERING, "draining", lambda f: f.overdue or f.backlog),
    (RouteState.RECOVERING, "settling", lambda f: f.worst is RouteState.STUCK and f.known),
    (RouteState.SLOW, "late", lambda f: f.late or (f.worst is RouteState.SLOW and f.known)),
    (RouteState.OK, "in_time", lambda f: f.known),
    (RouteState.UNKNOWN, "away", lambda f: f.away),
    (RouteState.UNKNOWN, "silent", lambda f: f.ever),
    (RouteState.UNKNOWN, "unmeasured", lambda _: True),
)


@dataclass(slots=True)
class Memory:
    """All that a tracker remembers: dump() writes it, load() reads it."""

    state: RouteState = RouteState.UNKNOWN
    reason: str = "unmeasured"
    since: Instant | None = None
    late: Lateness = field(default_factory=Lateness)
    refused: Run = field(default_factory=Run)
    bounced: Run = field(default_factory=Run)
    sight: Sight = field(default_factory=Sight)
    in_flight: int = 0
    oldest: Instant | None = None  # of these, from when the provider answers for it
    last_arrival: Instant | None = None
    last_latency: float | None = None
    ticked: Instant | None = None
    away: bool = False  # whether we were, and no delivery was judged since
    told: Instant | None = None  # when a submission, or a bounce, was last told
    ever: bool = False  # whether a delivery was ever judged

    def parts(self) -> tuple[Lateness | Run | Sight, ...]:
        """Those that have an incident each."""
        return self.late, self.refused, self.bounced, self.sight


class Tracker:
    """Follows one route: tell it every outcome of the route's probes, in the recorder's order, and once a second the
    time."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self._limits = Limits.of(route)
        self._memory = Memory()

    def observe(self, outcome: Outcome, held: Held | None = None) -> list[Change]:
        """What this outcome changes. `held`: what a mail that arrived tells of its way."""
        memory, late, limits = self._memory, self._memory.late, self._limits
        probe, event = outcome.probe, outcome.event
        if probe is None or not outcome.recorded:
            return []
        gap = self._gap(event.at)
        if probe.answerable == memory.oldest and probe.state not in IN_FLIGHT:
            memory.oldest = None  # until the next tick says which it is now
        before = [part.incident for part in memory.parts()]
        known_there = is_returned(outcome) and late.returned(probe, event.at, limits)
        for sort, well in runs(outcome):
            run = memory.refused if sort == "refused" else memory.bounced
            memory.told = event.at
            if well:
                run.well(event.at)
            elif not known_there:  # a mail that was held belongs to the incident in which it was held
                run.ill(sort, probe, event.at)
        if outcome.measured_now and probe.arrived:
            memory.last_arrival, memory.last_latency = arrival_bounds(probe.arrived)[1], probe.latency
            late.came(outcome, probe, held, limits)
        elif isinstance(event, Judged):
            late.judged(probe, event, limits)
            if event.met is None and event.deadline >= limits.stuck:
                memory.sight.unjudged()
        elif isinstance(event, Expired):
            late.given_up(probe, event, limits)
        late.end()
        if late.known:
            memory.ever, memory.away = True, False
        return [*gap, *self._news(before), *self._settle(later(event.at, memory.ticked))]

    def tick(self, now: Instant, in_flight: InFlight | None, watched: bool) -> list[Change]:
        """What the time changes. `in_flight`: as of now; `watched`: the mailbox is, and what lay in it was reported."""
        memory, gap = self._memory, self._gap(now)
        before = [part.incident for part in memory.parts()]
        memory.ticked = now
        memory.in_flight, memory.oldest = (in_flight.number, in_flight.oldest) if in_flight else (0, None)
        memory.sight.look(self.route.name, now, watched)
        return [*gap, *self._news(before), *self._settle(now)]

    def view(self, now: Instant) -> View:
        """The route for a page: ages as of now, all else as of the last tick or outcome."""
        memory = self._memory
        return View(
            route=self.route.name,
            at=now,
            state=memory.state,
            reason=memory.reason,
            since=memory.since,
            in_flight=memory.in_flight,
            oldest=max(0.0, elapsed(memory.oldest, now)) if memory.oldest else None,
            last_arrival=memory.last_arrival,
            last_latency=memory.last_latency,
            incidents=tuple(part.incident for part in memory.parts() if part.incident),
            drain=memory.late.draining(now, self._limits),
        )

    def held(self) -> frozenset[str]:
        """The probes that are late and have not come."""
        return frozenset(self._memory.late.held)

    def forget(self, probe: str) -> list[Change]:
        """Nobody will tell what becomes of this probe: it is on record no more."""
        before = [part.incident for part in self._memory.parts()]
        self._memory.late.forget(probe)
        return list(self._news(before))

    def cut(self, at: Instant | None = None) -> list[Incident]:
        """The incidents that are open, each until when it lasted for certain, by what is known at `at`, or was at the
        last tick."""
        memory = self._memory
        lasting = [(part, part.incident) for part in memory.parts() if part.incident]
        cut = [it.ended(part.lasted(at or memory.ticked or it.noticed)) for part, it in lasting]
        return [replace(it, peak=elapsed(it.begin, it.end)) if it.kind == "blind" and it.end else it for it in cut]

    def dump(self) -> dict[str, Any]:
        """All that is remembered, as JSON types; for load()."""
        data: dict[str, Any] = plain(self._memory)
        return data

    def load(self, data: dict[str, Any]) -> None:
        """Go on from a dump. Raises ValueError, and changes nothing, where it is none; a replay finds the same."""
        self._memory = typed(Memory, data)

    def _gap(self, now: Instant) -> list[Change]:
        """If we were away until now: unknown is all since the last tick, even if it turns out to be as it was."""
        memory = self._memory
        last = memory.ticked
        if last is None or (last.boot_id == now.boot_id and elapsed(last, now) <= GAP):
            return []
        memory.ticked, memory.away, memory.told, memory.oldest = now, True, None, None
        memory.late.look_away()
        memory.sight.look_away()
        return self._settle(last)

    def _facts(self, now: Instant) -> Facts:
        memory, late, limits = self._memory, self._memory.late, self._limits
        worst = late.incident.worst if late.incident else None
        age = elapsed(memory.oldest, now) if memory.oldest and memory.sight.sees(now) else 0.0
        # Until a deadline could be judged, a mail that is out is late by nobody's word: it may lie there unseen.
        grace = 0.0 if worst is RouteState.STUCK else GRACE
        lately = late.known is not None and elapsed(late.known, now) <= SILENCE * self.route.every + limits.stuck
        blind = memory.sight.is_blind(late.known)
        return Facts(
            overdue=age >= limits.stuck + grace,
            late=age >= limits.slow + GRACE,
            backlog=worst is RouteState.STUCK and bool(late.held) and lately and not blind,
            moving=late.is_moving(now, limits),
            worst=worst,
            refused=memory.refused.incident is not None and memory.told is not None,
            bounced=memory.bounced.incident is not None and memory.told is not None,
            blind=blind,
            known=lately,
            away=memory.away,
            ever=memory.ever,
        )

    def _settle(self, now: Instant) -> list[Change]:
        memory, facts = self._memory, self._facts(now)
        new, reason = next((state, reason) for state, reason, holds in RULES if holds(facts))
        old, memory.state, memory.reason = memory.state, new, reason
        memory.since = memory.since or now
        if old is new:
            return []
        memory.since = now
        return [StateChanged(self.route.name, now, old, new, reason)]

    def _news(self, before: Sequence[Incident | None]) -> Iterator[Change]:
        for part, was in zip(self._memory.parts(), before, strict=True):
            incident = part.incident
            if incident is None or incident == was:
                continue
            if was is None:
                yield Opened(replace(incident, end=None))
            elif incident.end is None:
                yield Updated(incident)
            if incident.end:
                yield Closed(incident)
                part.incident = None
