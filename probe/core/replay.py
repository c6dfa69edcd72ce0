"""Incidents of a time in which nobody told them, found again in the record of the probes alone.

Rules:
- Late is a mail by the deadlines by which the mails of its time were judged: these are on record.
- What is not on record is not made up. Who looked when is not, so nothing is found of blindness. An incident that is
  open where the record ends is cut: it ends when it surely lasted still, and what is held then counts where it comes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from math import inf
from typing import Any, NamedTuple

from probe.core.events import Event, Instant, Judged
from probe.core.incidents import Tracker
from probe.core.outcome import Outcome
from probe.core.settings import Route
from probe.core.state import Probe, advance
from probe.core.trouble import Closed, Held, Incident, held_by

_JUDGED_WITHIN = 60.0  # seconds after a deadline: a look is waited for, and tries are a second apart


class Course(NamedTuple):
    """A probe by its whole record."""

    steps: list[tuple[int, Outcome]]  # with the number of each event
    deadlines: frozenset[float]  # that were judged
    way: Held | None

    @classmethod
    def of(cls, events: Iterable[tuple[int, Event]]) -> Course:
        """Raises ImpossibleEvent."""
        steps, probe = list[tuple[int, Outcome]](), None
        for number, event in events:
            before: Probe | None = probe
            probe = advance(before, event)
            steps.append((number, Outcome(event, before, probe)))
        deadlines = frozenset(step.event.deadline for _, step in steps if isinstance(step.event, Judged))
        return cls(steps, deadlines, held_by(probe.traced if probe else None))


class Replay:
    """One route, told the outcomes of its probes in the order of the record."""

    def __init__(self, route: str, until: float, today: Collection[float] = ()) -> None:
        """`until`: the Unix time at which the record ends. `today`: the route's deadlines as they are configured now,
        for a record that is too short to have any."""
        self._until, self._today = until, frozenset(today)
        self._deadlines: frozenset[float] | None = None
        self._at: Instant | None = None
        self._tracker = Tracker(_route(route, ()))

    def tell(self, outcome: Outcome, course: Course) -> list[Incident]:
        """Those that end with this outcome, which is of this course."""
        probe, before = outcome.probe, outcome.before
        if probe and probe.answerable and not (before and before.answerable):
            self._judge_by(self._known(probe.answerable.wall, course.deadlines))
        self._at = outcome.event.at
        changes = self._tracker.observe(outcome, course.way if outcome.measured_now else None)
        return [replace(it.incident, origin="replayed") for it in changes if isinstance(it, Closed)]

    def cut(self) -> list[Incident]:
        """Those that are open when all is told; but for what is held, which is counted when it comes."""
        found = self._tracker.cut(self._at) if self._at else []
        cut = [replace(it, toll=it.toll._replace(held=0), origin="cut") for it in found]
        return [it for it in cut if it.toll.affected]

    def held(self) -> frozenset[str]:
        """The probes that are late and have not come by now."""
        return self._tracker.held()

    def dump(self) -> dict[str, Any]:
        """All that is remembered, as JSON types; for load()."""
        deadlines = None if self._deadlines is None else sorted(self._deadlines)
        return {"deadlines": deadlines, "at": self._at, "tracker": self._tracker.dump()}

    def load(self, data: Mapping[str, Any]) -> None:
        """Go on from a dump. Raises KeyError, TypeError, ValueError where it is of another version."""
        deadlines, at, memory = data["deadlines"], data["at"], data["tracker"]
        self._tracker = Tracker(_route(self._tracker.route.name, deadlines or ()))
        self._tracker.load(memory)
        self._at = Instant(*at)
        self._deadlines = None if deadlines is None else frozenset(deadlines)

    def _known(self, accepted: float, judged: frozenset[float]) -> frozenset[float]:
        """The deadlines of a mail that was accepted at this Unix time, and of which these were judged."""
        all_known = judged | self._today | (self._deadlines or frozenset())
        if accepted + max(all_known, default=0.0) + _JUDGED_WITHIN <= self._until:
            return judged
        return self._today if self._deadlines is None else self._deadlines

    def _judge_by(self, deadlines: frozenset[float]) -> None:
        if deadlines != self._deadlines:
            before = self._tracker
            self._tracker = Tracker(_route(before.route.name, deadlines))
            self._tracker.load(before.dump())
            self._deadlines = deadlines


def _route(name: str, deadlines: Collection[float]) -> Route:
    """Without a deadline mail is late when it is lost, whenever that is."""
    return Route(name, "", "", deadlines=tuple(sorted(deadlines)), lost_after=inf)
