"""The recorder: the one task that owns what is known about probes. Events come in, get durable, become state, are told.

Rules:
- Order: take what is queued, commit it as one transaction, then advance the state, then tell the sinks. What was told
  is on disk.
- One task owns the state, so there are no locks; everybody else sees snapshots.
- A broken ledger stops nothing but the recording: events wait in memory and the attempt is repeated.
- That a mail did not come in time is said only after its mailbox was looked at when the time was over.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from probe.core.events import (
    Arrived,
    Bounced,
    Cursor,
    Event,
    Expired,
    Instant,
    Judged,
    Notified,
    Sending,
    Traced,
    elapsed,
)
from probe.core.match import RECORDED, Verdict, judge
from probe.core.outcome import InFlight, Outcome, Sink, Standing
from probe.core.settings import Route
from probe.core.state import IN_FLIGHT, OPEN, ImpossibleEvent, Probe, State, advance, met

_T = TypeVar("_T")
# Seconds that events for which nobody waits may wait for others, to share their transaction: an acceptance and the
# arrival a few ms later. If we are killed in between, the probe counts as unconfirmed, and is measured all the same.
_LINGER = 0.02
_RETRY = 1.0  # seconds after a failed commit
# Seconds after a deadline in which a mailbox may still be looked at, before nobody could see: as long as the deadline,
# within these bounds.
_PATIENCE = 5.0, 30.0
_LOOK_EVERY = 60.0  # seconds between looks while a mail is in flight: a server that fell silent looks like a stall
_LOST_AFTER = 5 * 86400.0  # seconds, for probes whose route is not configured any more
_CHECK_EVERY = 60.0  # seconds between checks of the conservation law
_AT_ONCE = 50  # outcomes that are worked out or told before others may run; some ms
_MANY = 1000  # entries from which on a heap is rid of what became of no interest


class Ledger(Protocol):
    """What the recorder needs of a ledger; ledger.Ledger is one."""

    async def commit(
        self, events: Sequence[Event], probes: Iterable[Probe], cursors: Collection[Cursor], finished: Collection[str]
    ) -> None: ...
    async def find(self, probe: str) -> Probe | None: ...


class Eyes(Protocol):
    """What the recorder needs to know of mailboxes, by their addresses."""

    def address(self, account: str) -> str | None:
        """The address of this account, if it is configured."""

    def looked(self, address: str) -> Instant | None:
        """The last moment at which that whole mailbox held nothing that was not reported; None: it is not watched."""

    def look(self, address: str) -> None:
        """Look into that mailbox now."""

    def watches(self, address: str) -> bool:
        """Whether that mailbox is one of ours, be it up or down."""

    def settle(self, event: Arrived | Bounced | Notified, ours: bool) -> None:
        """This mail is on record. `ours`: it is a copy of a probe."""


@dataclass(slots=True)
class _Waiting:
    event: Event
    durable: asyncio.Future[None] | None = None


@dataclass(frozen=True, slots=True)
class _Judge:
    """Judge a deadline in its turn: after the arrivals that were seen before. `absent`: what it means if there is none;
    False: the mail is not there; None: nobody could see."""

    probe: str
    at: Instant
    deadline: float
    absent: bool | None


_Item = _Waiting | _Judge | Cursor


@dataclass(slots=True)
class Recorder:
    """See the module's rules."""

    ledger: Ledger
    clock: Callable[[], Instant]
    routes: Callable[[], dict[str, Route]]
    eyes: Eyes
    sink: Sink
    transient: type[Exception]  # what the ledger raises when trying again may help
    trace: Callable[[Probe], Traced | None] = lambda probe: None  # what the header of its mail tells
    probes: dict[str, Probe] = field(default_factory=dict)  # those that are open, or have deadlines ahead
    counts: Counter[tuple[str, State]] = field(default_factory=Counter)  # all on record, by route and state
    sent: Counter[str] = field(default_factory=Counter)  # all on record, by route, counted when they were sent
    stuck: bool = False  # the ledger cannot be written just now
    steps: int = 0  # grows while it gets on; an attempt that fails is a step: a broken disk is no deadlock
    _queue: list[_Item] = field(default_factory=list)
    _open: int = 0  # items that were put and not dealt with yet
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)
    _recording: asyncio.Future[None] | None = None
    # What time brings, a heap of (s by the boot clock, probe, its deadline; infinite: its loss; when it was first due).
    _agenda: list[tuple[float, str, float, float]] = field(default_factory=list)
    _roomy: int = _MANY  # so many entries may it have before it is tidied
    _ahead: Counter[str] = field(default_factory=Counter)  # probe → deadlines to be judged
    _flying: dict[str, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))  # route → heap
    _checked: float = 0.0

    def put(self, event: Event | Cursor) -> None:
        """Record this. Never blocks; the order of calls is kept."""
        self._put(event if isinstance(event, Cursor) else _Waiting(event))

    @property
    def resting(self) -> bool:
        """Whether there is nothing to record."""
        return not self._open

    async def durable(self, event: Event) -> None:
        """Record this and return when it is on disk."""
        durable = asyncio.get_running_loop().create_future()
        self._put(_Waiting(event, durable))
        self._hurry.set()
        await durable

    def _put(self, item: _Item) -> None:
        self._queue.append(item)
        self._open += 1
        self._news.set()

    def resume(self, probes: Iterable[Probe], counts: dict[tuple[str, State], int], judged_until: float) -> None:
        """Take up what the ledger held: its open probes, and the finished ones of which a deadline may be ahead.

        Deadlines that passed long before `judged_until` (Unix time of the last judgement) were judged then, but for
        those of what is in flight: their mailbox may have been waited for until the end.
        """
        self.counts.update(counts)
        for (route, _), number in counts.items():
            self.sent[route] += number
        for probe in probes:
            self._plan(probe, judged_until - 2 * _PATIENCE[1])
            self._keep(probe)

    def standing(self) -> Standing:
        """How things stand now."""
        flying = {route: it for route in self._flying if (it := self.in_flight(route))}
        return Standing(flying, dict(self.counts), dict(self.sent))

    def in_flight(self, route: str) -> InFlight | None:
        """What is in flight on this route now; None: nothing is."""
        if (oldest := self._oldest(route)) is None:
            return None
        return InFlight(sum(self.counts[route, state] for state in IN_FLIGHT), oldest.answerable)

    def flying(self, route: str) -> list[Probe]:
        """The probes that are in flight on this route."""
        probes = (self.probes.get(name) for _, name in self._flying.get(route, ()))
        return [probe for probe in probes if probe and probe.state in IN_FLIGHT]

    def _oldest(self, route: str) -> Probe | None:
        """The one that has been in flight for longest."""
        heap = self._flying.get(route, [])
        while heap:
            if self._is_flying(heap[0][1]):
                return self.probes[heap[0][1]]
            heapq.heappop(heap)
        return None

    async def run(self) -> None:
        """Record until cancelled; then what is queued is still recorded by drain()."""
        while True:
            await self._news.wait()
            linger = asyncio.get_running_loop().call_later(_LINGER, self._hurry.set)
            await self._hurry.wait()
            linger.cancel()
            # Shielded: a cancelled commit would still be written, and the sink never told.
            self._recording = asyncio.ensure_future(self._record(self._take()))
            await asyncio.shield(self._recording)

    async def drain(self) -> None:
        """Record what is left in the queue, after run() was cancelled."""
        if self._recording:
            await self._recording
        if batch := self._take():
            await self._record(batch)

    def _take(self) -> list[_Item]:
        batch, self._queue = self._queue, []
        self._news.clear()
        self._hurry.clear()
        return batch

    # -- one batch -----------------------------------------------------------------------------------------------

    async def _record(self, batch: Sequence[_Item]) -> None:
        outcomes = await self._insist(lambda: self._outcomes(batch))
        cursors = {(item.account, item.folder): item for item in batch if isinstance(item, Cursor)}
        await self._commit([outcome for outcome in outcomes if outcome.recorded], list(cursors.values()))
        for number, outcome in enumerate(outcomes, 1):
            self._adopt(outcome)
            self.sink.observe(outcome)
            if isinstance(outcome.event, Arrived | Bounced | Notified):
                known = outcome.verdict in RECORDED or outcome.verdict is Verdict.SEEN_BEFORE
                self.eyes.settle(outcome.event, known and isinstance(outcome.event, Arrived))
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        for item in batch:
            if isinstance(item, _Waiting) and item.durable and not item.durable.done():
                item.durable.set_result(None)
        self._open -= len(batch)
        self.steps += 1

    async def _outcomes(self, batch: Sequence[_Item]) -> list[Outcome]:
        """What these would make of the probes; nothing is changed yet."""
        after: dict[str, Probe] = {}
        outcomes = []
        for number, item in enumerate(batch, 1):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            if isinstance(item, Cursor):
                continue
            name = item.probe if isinstance(item, _Judge) else item.event.probe
            probe = after.get(name) or self.probes.get(name)
            if probe is None and not (isinstance(item, _Waiting) and isinstance(item.event, Sending)):
                probe = await self.ledger.find(name)
            event = _judged(item, probe) if isinstance(item, _Judge) else item.event
            outcome = self._outcome(event, probe) if event else None
            if outcome:
                outcomes.append(outcome)
                if outcome.recorded and outcome.probe:
                    after[name] = outcome.probe
                    if outcome.measured_now and (event := self._traced(outcome.probe)):
                        after[name] = advance(outcome.probe, event)
                        outcomes.append(Outcome(event, outcome.probe, after[name]))
                        await asyncio.sleep(0)  # it takes ms, and others' stamps must not wait for hundreds
        return outcomes

    def _outcome(self, event: Event, probe: Probe | None) -> Outcome | None:
        """What the event means for the probe; None when it means nothing, or cannot be."""
        verdict = None
        if isinstance(event, Arrived | Bounced | Notified):
            verdict = judge(probe, event, self.eyes.address(event.place.account))
            if verdict not in RECORDED:
                return Outcome(event, probe, probe, verdict)
        if isinstance(event, Expired) and (probe is None or probe.state not in IN_FLIGHT):
            return None  # it arrived while its end was in the queue
        try:
            return Outcome(event, probe, advance(probe, event), verdict)
        except ImpossibleEvent as error:
            self.sink.violated(str(error))
            return None

    def _traced(self, probe: Probe) -> Traced | None:
        """Where the mail was for how long, if its header tells."""
        try:
            return self.trace(probe)
        except Exception as error:  # noqa: BLE001 - anybody may have written that header; the measurement stands
            self.sink.violated(f"the way of probe {probe.id} cannot be traced: {error!r}")
            return None

    async def _commit(self, outcomes: Sequence[Outcome], cursors: Sequence[Cursor]) -> None:
        if not outcomes and not cursors:
            return
        probes = {outcome.event.probe: outcome.probe for outcome in outcomes if outcome.probe}
        events = [outcome.event for outcome in outcomes]
        finished = self._finished(outcomes, probes.values())
        began = self.clock()
        await self._insist(lambda: self.ledger.commit(events, probes.values(), cursors, finished))
        self.sink.committed(len(events), elapsed(began, self.clock()), None)

    async def _insist(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Until it succeeds: whatever the disk does, no event may be dropped."""
        while True:
            try:
                result = await attempt()
            except self.transient as error:
                self.stuck = True
                self.steps += 1
                self.sink.committed(0, 0.0, str(error))
                await asyncio.sleep(_RETRY)
            else:
                self.stuck = False
                return result

    def _finished(self, outcomes: Sequence[Outcome], probes: Iterable[Probe]) -> set[str]:
        """Of these probes, as they are after the outcomes, those that _keep() will let go."""
        judged = Counter(outcome.event.probe for outcome in outcomes if isinstance(outcome.event, Judged))
        planned = {outcome.event.probe for outcome in outcomes if _planned(outcome)}
        routes, done = self.routes(), set()
        for probe in probes:
            ahead = self._ahead[probe.id] - judged[probe.id]
            if probe.id in planned and (route := routes.get(probe.route)):
                ahead += len(route.deadlines)
            if probe.state not in OPEN and ahead <= 0:
                done.add(probe.id)
        return done

    def _adopt(self, outcome: Outcome) -> None:
        probe, before = outcome.probe, outcome.before
        if not outcome.recorded or probe is None:
            return
        if before:
            self.counts[before.route, before.state] -= 1
        else:
            self.sent[probe.route] += 1
        self.counts[probe.route, probe.state] += 1
        if _planned(outcome):
            self._plan(probe, 0.0)
        if isinstance(outcome.event, Judged):
            self._ahead[probe.id] -= 1
        self._keep(probe)

    def _keep(self, probe: Probe) -> None:
        if probe.state in OPEN or self._ahead[probe.id] > 0:
            self.probes[probe.id] = probe
        else:
            self.probes.pop(probe.id, None)
            del self._ahead[probe.id]

    # -- what time alone decides ---------------------------------------------------------------------------------

    def _plan(self, probe: Probe, judged_until: float) -> None:
        """Note what time will bring for a probe for which the provider answers."""
        route, start = self.routes().get(probe.route), probe.answerable
        if start is None:
            return
        now = self.clock()
        began = now.boot - elapsed(start, now)
        flying = probe.state in IN_FLIGHT
        if flying:
            heapq.heappush(self._flying[probe.route], (began, probe.id))
            self._schedule(began + (route.lost_after if route else _LOST_AFTER), probe.id, math.inf)
        for deadline in route.deadlines if route else ():
            if deadline not in probe.judged and (flying or start.wall + deadline > judged_until):
                self._schedule(began + deadline, probe.id, deadline)
                self._ahead[probe.id] += 1

    def replan(self) -> None:
        """The routes have changed, and with them when a probe is lost: think of each again, now."""
        self._agenda = [entry for entry in self._agenda if entry[2] < math.inf]
        heapq.heapify(self._agenda)
        for probe in self.probes.values():
            if probe.state in IN_FLIGHT:
                self._schedule(self.clock().boot, probe.id, math.inf)

    def _schedule(self, due: float, probe: str, deadline: float) -> None:
        heapq.heappush(self._agenda, (due, probe, deadline, 0.0))

    def _tidy(self) -> None:
        """Let go of what time will decide nothing about: of what came, its loss, which stands there for days."""
        if len(self._agenda) > self._roomy:
            matters = (
                it for it in self._agenda if it[1] in self.probes and (it[2] < math.inf or self._is_flying(it[1]))
            )
            self._agenda = sorted(matters)
            self._roomy = _MANY + 2 * len(self._agenda)
        for route, heap in self._flying.items():
            if len(heap) > _MANY + 2 * sum(self.counts[route, state] for state in IN_FLIGHT):
                heap[:] = sorted(entry for entry in heap if self._is_flying(entry[1]))

    def _is_flying(self, probe: str) -> bool:
        return probe in self.probes and self.probes[probe].state in IN_FLIGHT

    def tick(self) -> None:
        """Judge and expire what is due, look again where mail is in flight, check the law; call it once a second."""
        now = self.clock()
        undecided = []
        while self._agenda and self._agenda[0][0] <= now.boot:
            _, name, deadline, since = heapq.heappop(self._agenda)
            probe = self.probes.get(name)
            start = probe.answerable if probe else None
            if probe is None or start is None:
                continue
            if deadline < math.inf:
                later = self._decide(probe, start.shifted(deadline), deadline, now, now.boot - (since or now.boot))
            else:
                later = self._give_up(probe, start, now)
            if later is not None:
                undecided.append((later, name, deadline, since or now.boot))
        for entry in undecided:
            heapq.heappush(self._agenda, entry)
        self._tidy()
        for probe in map(self._oldest, self._flying):
            if probe and probe.answerable and elapsed(probe.answerable, now) > _LOOK_EVERY:
                self._absent(probe, now.shifted(-_LOOK_EVERY))
        if now.boot - self._checked >= _CHECK_EVERY:
            self._checked = now.boot
            self.check()

    def _decide(self, probe: Probe, due: Instant, deadline: float, now: Instant, waited: float) -> float | None:
        """Judge a deadline, or tell when it is to be thought of again, by the boot clock."""
        absent = None
        if not probe.arrived:
            absent = False if self._absent(probe, due) else None
            if absent is None and waited <= min(max(deadline, _PATIENCE[0]), _PATIENCE[1]):
                return now.boot
        self._put(_Judge(probe.id, now, deadline, absent))
        return None

    def _give_up(self, probe: Probe, start: Instant, now: Instant) -> float | None:
        """Expire a probe, or tell when to think of it again, by the boot clock."""
        route = self.routes().get(probe.route)
        lost_after = route.lost_after if route else _LOST_AFTER
        if probe.state not in IN_FLIGHT:
            return None
        if (left := lost_after - elapsed(start, now)) > 0:
            return now.boot + left
        # A mailbox that is not ours any more will never be looked at.
        ours = self.eyes.watches(probe.recipient)
        if ours and not self._absent(probe, start.shifted(lost_after)):
            return now.boot
        self.put(Expired(probe.id, now, ours))
        return None

    def _absent(self, probe: Probe, when: Instant) -> bool:
        """Whether the mailbox was looked at since then without finding the probe; if not, it is looked at now."""
        looked = self.eyes.looked(probe.recipient)
        if looked is not None and elapsed(when, looked) >= 0:
            return True
        self.eyes.look(probe.recipient)
        return False

    def forget(self, gone: Mapping[tuple[str, State], int]) -> None:
        """The ledger has let go of so many finished probes."""
        for (route, state), number in gone.items():
            self.counts[route, state] -= number
            self.sent[route] -= number

    def check(self) -> None:
        """Conservation: what was sent is in exactly one state, and what is open is in memory."""
        for route, sent in self.sent.items():
            if (states := sum(self.counts[route, state] for state in State)) != sent:
                self.sink.violated(f"route {route}: {sent} probes were sent, and {states} are in some state")
        remembered = Counter((p.route, p.state) for p in self.probes.values() if p.state in OPEN)
        for key in {key for key in self.counts if key[1] in OPEN} | remembered.keys():
            if remembered[key] != self.counts[key]:
                text = f"route {key[0]}: {self.counts[key]} probes are {key[1]}, and {remembered[key]} in memory"
                self.sink.violated(text)


def _planned(outcome: Outcome) -> bool:
    """Whether it is since this very event that the provider answers for the probe, so that its deadlines are ahead."""
    if outcome.probe is None or outcome.probe.answerable is None:
        return False
    return outcome.before is None or outcome.before.answerable is None


def _judged(item: _Judge, probe: Probe | None) -> Judged | None:
    if probe is None or item.deadline in probe.judged:
        return None
    known = met(probe, item.deadline) if probe.arrived else item.absent
    return Judged(item.probe, item.at, item.deadline, known)
