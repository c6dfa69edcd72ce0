"""Incidents of a daemon at work: a tracker per route is told every outcome and, once a second, the time; what it finds
goes to the log and on record.

Rules:
- It is told what the recorder has on disk. What a crash keeps it from remembering is at most _EVERY seconds old, and of
  the mails that were held then the ledger is asked at the next start.
- An incident goes on record together with its route's memory: a crash between the two would open it a second time.
- A ledger that cannot be written keeps no incident from being noticed; it is put on record when it can be.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import inf
from typing import Any, Protocol

from probe.core.events import Instant, Traced, elapsed
from probe.core.history import IncidentRow, incident_row
from probe.core.incidents import Tracker
from probe.core.outcome import InFlight, Outcome, Sink
from probe.core.settings import Route
from probe.core.state import IN_FLIGHT, Probe, State
from probe.core.trouble import Change, Closed, Held, Incident, Opened, StateChanged, Updated, View, held_by
from probe.log import line

log = logging.getLogger("mailprobe")

_EVERY = 5.0  # seconds between two records of what is remembered, while nothing begins or ends
_AT_ONCE = 10  # routes that are put on record together: the loop is held for 2 ms by each that drains
_MEMORY = "incidents/"


class Shelf(Protocol):
    """What is needed of a ledger to remember; ledger.Ledger is one."""

    async def save(self, incidents: Iterable[IncidentRow] = (), memory: Mapping[str, Any] | None = None) -> None: ...
    async def memory(self, prefix: str = "") -> dict[str, Any]: ...
    async def find(self, probe: str) -> Probe | None: ...


class Incidents(Sink):
    """Follows the configured routes; see the module's rules."""

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self._trackers: dict[str, Tracker] = {}
        self._waiting: Outcome | None = None  # an arrival; what its header tells comes as the next event
        # What is not on record: routes of which a tracker has learnt something, and by name their incidents.
        self._unkept: dict[str, dict[str, Incident]] = {}
        self._urgent = False
        self._kept: Instant | None = None
        self.follow(routes)

    def follow(self, routes: Mapping[str, Route]) -> None:
        """Follow these routes from now on; one whose deadlines or period changed goes on from what is known of it."""
        trackers = {}
        for name, route in routes.items():
            tracker = self._trackers.get(name)
            if tracker is None or tracker.route != route:
                tracker, before = Tracker(route), tracker
                if before:
                    tracker.load(before.dump())
            trackers[name] = tracker
        for name in self._trackers.keys() - trackers.keys():
            self._leave(name, self._trackers[name])
        self._trackers = trackers

    def observe(self, outcome: Outcome) -> None:
        """An arrival waits for what its header tells."""
        waiting, self._waiting = self._waiting, None
        if waiting:
            its = outcome.event if outcome.event.probe == waiting.event.probe else None
            self._tell(waiting, held_by(its if isinstance(its, Traced) else None))
        if outcome.measured_now:
            self._waiting = outcome
        else:
            self._tell(outcome)

    def tick(self, route: str, now: Instant, flying: InFlight | None, watched: Mapping[str, bool]) -> None:
        """What the time changes on this route. `flying`: as of now; `watched`: which accounts' mailboxes are."""
        if waiting := self._waiting:
            self._waiting = None
            self._tell(waiting)
        if tracker := self._trackers.get(route):
            self._take(route, tracker.tick(now, flying, watched.get(tracker.route.recipient, False)))

    def view(self, route: str, now: Instant) -> View | None:
        """How this route is; None: there is no such route."""
        tracker = self._trackers.get(route)
        return tracker.view(now) if tracker else None

    def _tell(self, outcome: Outcome, held: Held | None = None) -> None:
        if outcome.probe and (tracker := self._trackers.get(outcome.probe.route)):
            self._unkept.setdefault(outcome.probe.route, {})
            self._take(outcome.probe.route, tracker.observe(outcome, held))

    def _take(self, route: str, changes: Iterable[Change]) -> None:
        for change in changes:
            news = self._unkept.setdefault(route, {})
            _report(change)
            if isinstance(change, Opened | Updated | Closed):
                news[change.incident.name] = change.incident
                self._urgent |= not isinstance(change, Updated)

    def _leave(self, route: str, tracker: Tracker) -> None:
        """It is not configured any more: nobody will tell how what is open goes on."""
        self._unkept.setdefault(route, {})
        self._take(route, [Closed(replace(it, origin="left")) for it in tracker.cut()])

    # -- memory --------------------------------------------------------------------------------------------------

    async def restore(self, shelf: Shelf) -> None:
        """Go on where the last run ended. Raises LedgerError."""
        for key, data in (await shelf.memory(_MEMORY)).items():
            name = key.removeprefix(_MEMORY)
            tracker = self._trackers.get(name) or Tracker(Route(name, "", "", lost_after=inf))
            try:
                tracker.load(data)
            except ValueError as error:
                log.warning(line("incidents_forgotten", route=name, reason=error))
                self._unkept.setdefault(name, {})
                continue
            if name not in self._trackers:
                self._leave(name, tracker)
                continue
            for held in tracker.held():
                probe = await shelf.find(held)
                if probe is None:
                    self._take(name, tracker.forget(held))
                elif probe.state not in IN_FLIGHT:
                    self._take(name, tracker.observe(_end(probe)))

    async def keep(self, shelf: Shelf, now: Instant) -> None:
        """Put on record what is new, if it is worth a transaction by now. Raises LedgerError; then try again."""
        due = self._kept is None or abs(elapsed(self._kept, now)) >= _EVERY
        if not self._unkept or not (self._urgent or due):
            return
        self._urgent, new = False, list(self._unkept)
        for some in (new[n : n + _AT_ONCE] for n in range(0, len(new), _AT_ONCE)):
            await self._save(shelf, some)
        self._kept = now

    async def _save(self, shelf: Shelf, routes: list[str]) -> None:
        news = {route: self._unkept.pop(route) for route in routes}
        rows = [incident_row(it) for its in news.values() for it in its.values()]
        followed = {route: self._trackers.get(route) for route in routes}
        memory = {_MEMORY + route: tracker.dump() if tracker else None for route, tracker in followed.items()}
        try:
            await shelf.save(rows, memory)
        except BaseException:
            self._unkept |= {route: its | self._unkept.get(route, {}) for route, its in news.items()}
            self._urgent = True
            raise


def _end(probe: Probe) -> Outcome:
    """What became of a mail that was held, and was not told before a crash."""
    event = probe.arrived or probe.bounced or probe.expired
    assert event is not None  # nothing else ends what was in flight
    nothing = replace(probe, state=State.ACCEPTED, arrived=None, bounced=None, expired=None)
    before = replace(nothing, latency=None, uncertainty=None)
    return Outcome(event, before, probe)


def _report(change: Change) -> None:
    """A line for what began, ended, or became another state."""
    match change:
        case StateChanged(route=route, old=old, new=new, reason=reason):
            log.info(line("route_state", route=route, state=new, was=old, reason=reason))
        case Opened(incident=it):
            ago = elapsed(it.begin, it.noticed)
            log.warning(line("incident_opened", route=it.route, kind=it.kind, state=it.worst, seconds_ago=ago))
        case Closed(incident=it) if it.end:
            about = {"lasted": elapsed(it.begin, it.end), "mails": it.toll.affected, "peak": it.peak}
            log.warning(line("incident_closed", route=it.route, kind=it.kind, **about))
