"""The recorder: the one task that owns what is known about probes. Events come in, get durable, become state, are told.

Rules:
- Order: take what is queued, commit it as one transaction, then advance the state, then tell the sinks. What was told
  is on disk.
- One task owns the state, so there are no locks; everybody else sees snapshots.
- A broken ledger stops nothing but the recording: events wait in memory and the attempt is repeated.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from probe.core.events import Arrived, Cursor, Event, Expired, Instant, Sending, elapsed
from probe.core.match import Verdict, judge
from probe.core.outcome import DeadlinePassed, InFlight, Outcome, Sink
from probe.core.settings import Route
from probe.core.state import IN_FLIGHT, OPEN, ImpossibleEvent, Probe, State, advance

log = logging.getLogger("mailprobe.recorder")

_T = TypeVar("_T")
# Seconds that events for which nobody waits may wait for others, to share their transaction: an acceptance and the
# arrival a few ms later. If we are killed in between, the probe counts as unconfirmed, and is measured all the same.
_LINGER = 0.02
_RETRY = 1.0  # seconds after a failed commit
_GRACE = 2.0  # seconds after a deadline until it is judged: arrivals stamped in time may still be in the queue


class Ledger(Protocol):
    """What the recorder needs of a ledger; ledger.Ledger is one."""

    async def commit(
        self, events: Sequence[Event], probes: Iterable[Probe], cursors: Iterable[Cursor], judged_until: float | None
    ) -> None: ...
    async def find(self, probe: str) -> Probe | None: ...


@dataclass(slots=True)
class _Waiting:
    event: Event
    durable: asyncio.Future[None] | None = None


@dataclass(frozen=True, slots=True)
class _Judge:
    """Judge the deadlines that passed until now."""

    now: Instant


@dataclass(slots=True)
class Recorder:
    """See the module's rules. `can_see(account address)` says whether that mailbox is being watched now."""

    ledger: Ledger
    clock: Callable[[], Instant]
    routes: Callable[[], dict[str, Route]]
    can_see: Callable[[str], bool]
    sink: Sink
    transient: type[Exception]  # what the ledger raises when trying again may help
    settle: Callable[[Arrived, bool], None] = lambda arrived, ours: None
    probes: dict[str, Probe] = field(default_factory=dict)  # the open ones
    counts: Counter[tuple[str, State]] = field(default_factory=Counter)  # all on record, by route and state
    stuck: bool = False  # the ledger cannot be written just now
    _queue: list[_Waiting | _Judge | Cursor] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)
    _recording: asyncio.Future[None] | None = None
    _deadlines: list[tuple[float, str, float]] = field(default_factory=list)  # heap of (boot s, probe, deadline)
    # Probes with deadlines still to be judged, and how many.
    _judged: dict[str, tuple[Probe, int]] = field(default_factory=dict)

    def put(self, event: Event | Cursor) -> None:
        """Record this. Never blocks; the order of calls is kept."""
        self._queue.append(event if isinstance(event, Cursor) else _Waiting(event))
        self._news.set()

    async def durable(self, event: Event) -> None:
        """Record this and return when it is on disk."""
        durable = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(event, durable))
        self._news.set()
        self._hurry.set()
        await durable

    def resume(
        self,
        probes: Iterable[Probe],
        young: Iterable[Probe],
        counts: dict[tuple[str, State], int],
        judged_until: float,
    ) -> None:
        """Take up what the ledger held: the open probes, and the `young` ones, of which a deadline may still be ahead.

        Deadlines that passed before `judged_until` (Unix time) were judged then.
        """
        self.counts.update(counts)
        self.probes = {probe.id: probe for probe in probes}
        for probe in {probe.id: probe for probe in (*young, *self.probes.values())}.values():
            self._plan_deadlines(probe, judged_until)

    def in_flight(self) -> dict[str, InFlight]:
        """Per route, now."""
        found: dict[str, list[Instant]] = {}
        for probe in self.probes.values():
            if probe.state in IN_FLIGHT and probe.answerable:
                found.setdefault(probe.route, []).append(probe.answerable)
        now = self.clock()
        return {
            route: InFlight(len(instants), max(instants, key=lambda instant: elapsed(instant, now)))
            for route, instants in found.items()
        }

    async def run(self) -> None:
        """Record until cancelled; then what is queued is still recorded by drain()."""
        while True:
            await self._news.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LINGER):
                    await self._hurry.wait()
            # Shielded: a cancelled commit would still be written, and the sink never told.
            self._recording = asyncio.ensure_future(self._record(self._take()))
            await asyncio.shield(self._recording)

    async def drain(self) -> None:
        """Record what is left in the queue, after run() was cancelled."""
        if self._recording:
            await self._recording
        if batch := self._take():
            await self._record(batch)

    def _take(self) -> list[_Waiting | _Judge | Cursor]:
        batch, self._queue = self._queue, []
        self._news.clear()
        self._hurry.clear()
        return batch

    async def tick(self) -> None:
        """Expire and judge what time alone decides; once a second."""
        while True:
            now, routes = self.clock(), self.routes()
            for probe in list(self.probes.values()):
                route = routes.get(probe.route)
                start = probe.answerable
                late = route and start and probe.state in IN_FLIGHT and elapsed(start, now) > route.lost_after
                if late and not self.stuck and self.can_see(probe.recipient):
                    self.put(Expired(probe.id, now))
            if self._deadlines and self._deadlines[0][0] + _GRACE <= now.boot:
                self._queue.append(_Judge(now))  # in its turn: after the arrivals that were seen before
                self._news.set()
            await asyncio.sleep(1.0)

    # -- one batch -----------------------------------------------------------------------------------------------

    async def _record(self, batch: Sequence[_Waiting | _Judge | Cursor]) -> None:
        outcomes = await self._insist(lambda: self._outcomes([i.event for i in batch if isinstance(i, _Waiting)]))
        cursors = {(item.account, item.folder): item for item in batch if isinstance(item, Cursor)}
        judged = max((item.now.wall - _GRACE for item in batch if isinstance(item, _Judge)), default=None)
        await self._commit([outcome for outcome in outcomes if outcome.recorded], list(cursors.values()), judged)
        for outcome in outcomes:
            self._adopt(outcome)
            self.sink.observe(outcome)
            if isinstance(outcome.event, Arrived):
                self.settle(outcome.event, outcome.verdict is not Verdict.FOREIGN)
        for item in batch:
            if isinstance(item, _Judge):
                self._judge_deadlines(item.now)
            if isinstance(item, _Waiting) and item.durable and not item.durable.done():
                item.durable.set_result(None)

    async def _outcomes(self, events: Sequence[Event]) -> list[Outcome]:
        """What these events would make of the probes; nothing is changed yet."""
        after: dict[str, Probe] = {}
        outcomes = []
        for event in events:
            probe = after.get(event.probe) or self.probes.get(event.probe)
            if probe is None and not isinstance(event, Sending):
                probe = await self.ledger.find(event.probe)
            outcome = _outcome(event, probe)
            if outcome:
                outcomes.append(outcome)
                if outcome.recorded and outcome.probe:
                    after[event.probe] = outcome.probe
        return outcomes

    async def _commit(self, outcomes: Sequence[Outcome], cursors: Sequence[Cursor], judged: float | None) -> None:
        if not outcomes and not cursors and judged is None:
            return
        probes = {outcome.event.probe: outcome.probe for outcome in outcomes if outcome.probe}
        events = [outcome.event for outcome in outcomes]
        began = self.clock()
        await self._insist(lambda: self.ledger.commit(events, probes.values(), cursors, judged))
        self.sink.committed(len(events), elapsed(began, self.clock()), None)

    async def _insist(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Until it succeeds: whatever the disk does, no event may be dropped."""
        while True:
            try:
                result = await attempt()
            except self.transient as error:
                self.stuck = True
                self.sink.committed(0, 0.0, str(error))
                await asyncio.sleep(_RETRY)
            else:
                self.stuck = False
                return result

    def _adopt(self, outcome: Outcome) -> None:
        probe, before = outcome.probe, outcome.before
        if not outcome.recorded or probe is None:
            return
        if before:
            self.counts[before.route, before.state] -= 1
        self.counts[probe.route, probe.state] += 1
        if probe.state in OPEN:
            self.probes[probe.id] = probe
        else:
            self.probes.pop(probe.id, None)
        if probe.answerable and (before is None or before.answerable is None):
            self._plan_deadlines(probe, 0.0)
        if probe.id in self._judged:
            self._judged[probe.id] = probe, self._judged[probe.id][1]

    # -- deadlines -----------------------------------------------------------------------------------------------

    def _plan_deadlines(self, probe: Probe, judged_until: float) -> None:
        route, start = self.routes().get(probe.route), probe.answerable
        if route is None or start is None:
            return
        now = self.clock()
        for deadline in route.deadlines:
            if start.wall + deadline > judged_until:
                due = now.boot + deadline - elapsed(start, now)
                heapq.heappush(self._deadlines, (due, probe.id, deadline))
                self._judged[probe.id] = probe, self._judged.get(probe.id, (probe, 0))[1] + 1

    def _judge_deadlines(self, now: Instant) -> None:
        while self._deadlines and self._deadlines[0][0] + _GRACE <= now.boot:
            self._judge_deadline(*heapq.heappop(self._deadlines)[1:])

    def _judge_deadline(self, probe_id: str, deadline: float) -> None:
        probe, ahead = self._judged.pop(probe_id)
        if ahead > 1:
            self._judged[probe_id] = probe, ahead - 1
        met: bool | None
        if probe.latency is not None:
            met = probe.latency <= deadline
        else:
            met = False if self.can_see(probe.recipient) else None
        self.sink.deadline_passed(DeadlinePassed(probe.route, deadline, met))


def _outcome(event: Event, probe: Probe | None) -> Outcome | None:
    """What the event means for the probe; None when it means nothing, or cannot be."""
    verdict = None
    if isinstance(event, Arrived):
        verdict = judge(probe, event)
        if verdict is Verdict.FOREIGN or verdict is Verdict.SEEN_BEFORE:
            return Outcome(event, probe, probe, verdict)
    if isinstance(event, Expired) and (probe is None or probe.state not in IN_FLIGHT):
        return None  # it arrived while its end was in the queue
    try:
        return Outcome(event, probe, advance(probe, event), verdict)
    except ImpossibleEvent as error:
        log.error("bug: %s", error, extra={"event": "impossible_event"})  # noqa: TRY400 - no traceback helps
        return None
