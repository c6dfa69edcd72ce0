"""The recorder over a real ledger and a clock that stands still: what was told is on disk, and nothing twice."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from probe import recorder as recorder_module
from probe.core.events import Cursor, Event, Traced
from probe.core.match import Verdict
from probe.core.outcome import InFlight
from probe.core.settings import Route
from probe.core.state import Probe, State
from probe.ledger import Ledger, LedgerError
from probe.recorder import Recorder

from .chained import headers
from .make import (
    PROBE,
    RECIPIENT,
    FakeClock,
    FakeEyes,
    Told,
    accepted,
    arrived,
    bounced,
    expired,
    instant,
    make_probe,
    make_route,
    notified,
    rejected,
    sending,
    traced,
    unconfirmed,
    vanished,
)


class Watched(Ledger):
    """The real ledger, whose commits are listed and can be held up."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.commits: list[list[Event]] = []
        self.finished: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def commit(
        self,
        events: Sequence[Event],
        probes: Iterable[Probe],
        cursors: Collection[Cursor] = (),
        finished: Collection[str] = (),
    ) -> None:
        self.commits.append(list(events))
        await self.gate.wait()
        await super().commit(events, probes, cursors, finished)
        self.finished += finished

    def break_(self, broken: bool) -> None:
        """From now on the file cannot be written, as SQLite itself says it; or can again."""
        self._thread.submit(lambda: self._db.execute(f"PRAGMA query_only = {broken:d}").fetchone()).result()


@dataclasses.dataclass
class World:
    """A recorder and what surrounds it."""

    path: Path
    ledger: Watched
    clock: FakeClock = dataclasses.field(default_factory=FakeClock)
    told: Told = dataclasses.field(default_factory=Told)
    routes: dict[str, Route] = dataclasses.field(default_factory=lambda: {"r": make_route()})

    def __post_init__(self) -> None:
        self.eyes = FakeEyes(self.clock)
        self.recorder = self.begin()

    def begin(self) -> Recorder:
        return Recorder(self.ledger, self.clock, lambda: self.routes, self.eyes, self.told, LedgerError)

    @property
    def settled(self) -> list[Event]:
        return [event for event, ours in self.eyes.settled if ours]

    async def put(self, *events: Event) -> None:
        for event in events:
            self.recorder.put(event)
        await self.recorder.drain()

    async def wait(self, until: float) -> None:
        """Let the clock run to this many seconds after T0, with a tick."""
        self.clock.now = instant(until)
        self.recorder.tick()
        await self.recorder.drain()

    async def restart(self) -> None:
        self.ledger.close()
        self.ledger = Watched(self.path)
        self.told = Told()
        self.recorder = self.begin()
        probes = await self.ledger.unfinished(0.0)
        self.recorder.resume(probes, await self.ledger.counts(), await self.ledger.last_judgement())

    def verdicts(self) -> list[Verdict | None]:
        return [outcome.verdict for outcome in self.told.outcomes]

    def met(self) -> list[tuple[float, bool | None]]:
        return self.told.met()

    def counts(self) -> dict[tuple[str, State], int]:
        return {key: number for key, number in self.recorder.counts.items() if number}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    path = tmp_path / "ledger.sqlite"
    world = World(path, Watched(path))
    yield world
    world.ledger.close()


@contextlib.asynccontextmanager
async def running(world: World) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(world.recorder.run())
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(what: Iterator[bool]) -> None:
    """Let the loop and the writer thread go on until something holds, which takes no time by our clock."""
    async with asyncio.timeout(5):
        while not next(what):  # noqa: ASYNC110 - the writer thread sets no event
            await asyncio.sleep(0)


def forever(condition: object) -> Iterator[bool]:
    assert callable(condition)
    while True:
        yield bool(condition())


# -- durable first -------------------------------------------------------------------------------------------------


async def test_sending_is_on_disk_before_its_future_resolves_and_before_anybody_is_told(world: World) -> None:
    world.ledger.gate.clear()
    async with running(world):
        waiting = asyncio.create_task(world.recorder.durable(sending()))
        await until(forever(lambda: world.ledger.commits))
        assert not waiting.done()
        assert await world.ledger.find(PROBE) is None
        assert world.told.outcomes == []
        assert world.recorder.probes == {}
        world.ledger.gate.set()
        await waiting
        assert await world.ledger.find(PROBE) == make_probe(sending())
        assert [outcome.event for outcome in world.told.outcomes] == [sending()]


async def test_what_queues_up_during_a_commit_becomes_one_transaction(world: World) -> None:
    world.ledger.gate.clear()
    events = [sending(probe=f"{number:016x}") for number in range(200)]
    async with running(world):
        world.recorder.put(events[0])
        await until(forever(lambda: world.ledger.commits))
        for event in events[1:]:
            world.recorder.put(event)
        world.ledger.gate.set()
        await until(forever(lambda: len(world.told.outcomes) == 200))
    assert world.ledger.commits == [events[:1], events[1:]]
    assert [outcome.event for outcome in world.told.outcomes] == events
    assert world.told.commits == [(1, None), (199, None)]
    assert await world.ledger.counts() == world.counts() == {("r", State.SENDING): 200}


async def test_a_whole_life_in_one_batch_is_one_transaction_in_order(world: World) -> None:
    await world.put(sending(), arrived(0.25), accepted(), arrived(1.0, uid=2))
    assert len(world.ledger.commits) == 1
    assert [outcome.probe.state for outcome in world.told.outcomes if outcome.probe] == [
        State.SENDING,
        State.EARLY,
        State.DELIVERED,
        State.DELIVERED,
    ]
    assert world.counts() == {("r", State.DELIVERED): 1}


async def test_what_is_queued_when_the_recorder_is_cancelled_is_still_recorded_once(world: World) -> None:
    world.ledger.gate.clear()
    async with running(world) as task:
        world.recorder.put(sending())
        await until(forever(lambda: world.ledger.commits))
        world.recorder.put(accepted())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        world.ledger.gate.set()
        await world.recorder.drain()
    assert [outcome.event for outcome in world.told.outcomes] == [sending(), accepted()]
    assert await world.ledger.find(PROBE) == make_probe(sending(), accepted())
    await world.recorder.drain()
    assert len(world.told.outcomes) == 2


async def test_a_cursor_is_written_together_with_the_events_before_it(world: World) -> None:
    older, newer = (Cursor("own", "INBOX", 7, uid, instant(uid)) for uid in (1, 2))
    for item in (sending(), older, accepted(), newer):
        world.recorder.put(item)
    await world.recorder.drain()
    assert world.ledger.commits == [[sending(), accepted()]]
    assert await world.ledger.cursors() == {("own", "INBOX"): newer}


# -- verdicts ------------------------------------------------------------------------------------------------------


async def test_copies_are_told_apart_and_only_new_ones_are_recorded(world: World) -> None:
    await world.put(sending(), accepted(), arrived(1.0, uid=1))
    for event in (arrived(2.0, uid=2), arrived(3.0, uid=1), arrived(4.0, uid=2)):
        await world.put(event)
    assert world.verdicts()[2:] == [Verdict.DELIVERED, Verdict.DUPLICATE, Verdict.SEEN_BEFORE, Verdict.SEEN_BEFORE]
    found = await world.ledger.find(PROBE)
    assert found is not None
    assert [place.uid for place in found.places] == [1, 2]
    assert world.counts() == {("r", State.DELIVERED): 1}


async def test_the_same_copy_twice_in_one_batch_is_one_arrival(world: World) -> None:
    await world.put(sending(), accepted(), arrived(1.0), arrived(1.1))
    assert world.verdicts()[2:] == [Verdict.DELIVERED, Verdict.SEEN_BEFORE]


async def test_a_probe_on_no_record_is_told_but_neither_recorded_nor_settled(world: World) -> None:
    await world.put(arrived(probe="f" * 16))
    assert world.verdicts() == [Verdict.FOREIGN]
    assert not world.told.outcomes[0].recorded
    assert world.ledger.commits == []
    assert world.counts() == {}
    assert world.settled == []


async def test_everything_on_record_is_settled_after_it_is_there(world: World) -> None:
    await world.put(sending(), accepted())
    world.ledger.gate.clear()
    async with running(world):
        world.recorder.put(arrived(1.0))
        await until(forever(lambda: len(world.ledger.commits) == 2))
        assert world.settled == []
        world.ledger.gate.set()
        await until(forever(lambda: world.settled))
    await world.put(arrived(2.0, uid=2), arrived(3.0, uid=1))
    assert [event.at for event in world.settled] == [instant(1.0), instant(2.0), instant(3.0)]


async def test_an_arrival_that_the_server_had_refused_is_on_record_and_changes_no_count(world: World) -> None:
    await world.put(sending(), rejected())
    await world.put(arrived())
    assert world.verdicts()[-1] is Verdict.CONTRADICTION
    assert world.counts() == await world.ledger.counts() == {("r", State.REJECTED): 1}


async def test_an_impossible_event_is_told_as_a_violation_and_changes_nothing(world: World) -> None:
    await world.put(sending(), rejected())
    await world.put(accepted(), unconfirmed(), accepted(probe="f" * 16))
    assert world.told.violations == [
        f"Accepted cannot happen to probe {PROBE} in state rejected",
        f"Unconfirmed cannot happen to probe {PROBE} in state rejected",
        f"Accepted cannot happen to probe {'f' * 16} in state unknown",
    ]
    assert len(world.told.outcomes) == 2
    assert world.counts() == await world.ledger.counts() == {("r", State.REJECTED): 1}


async def test_the_law_is_checked_by_the_recorder_itself(world: World) -> None:
    for number in range(5):
        await world.put(sending(probe=f"{number:016x}"), accepted(probe=f"{number:016x}"))
    world.recorder.check()
    assert world.told.violations == []
    world.recorder.counts["r", State.DELIVERED] += 1
    world.recorder.probes.popitem()
    world.recorder.check()
    assert world.told.violations == [
        "route r: 5 probes were sent, and 6 are in some state",
        "route r: 5 probes are accepted, and 4 in memory",
    ]


async def test_the_law_is_checked_every_minute(world: World) -> None:
    await world.put(sending())
    world.recorder.sent["r"] += 1
    for at in (1.0, 30.0, 59.0, 61.0):
        await world.wait(at)
    assert len(world.told.violations) == 2  # at the first tick, and a minute later


async def test_what_the_ledger_forgot_is_neither_sent_nor_in_a_state(world: World) -> None:
    await world.put(sending(), rejected())
    await world.put(sending(probe="a" * 16))
    gone = await world.ledger.forget(instant(1.0).wall, 10**9, instant(1.0).wall)
    world.recorder.forget(gone)
    assert world.counts() == await world.ledger.counts() == {("r", State.SENDING): 1}
    assert world.recorder.sent == {"r": 1}
    world.recorder.check()
    assert world.told.violations == []


async def test_a_bounce_ends_a_probe_and_is_counted_once_although_it_is_read_twice(world: World) -> None:
    await world.put(sending(), accepted(), notified(), bounced(5.0), bounced(6.0), bounced(7.0, uid=91))
    assert world.verdicts()[2:] == [Verdict.NOTICE, Verdict.BOUNCED, Verdict.SEEN_BEFORE, Verdict.NOTICE]
    assert world.counts() == await world.ledger.counts() == {("r", State.BOUNCED): 1}
    assert world.recorder.standing().in_flight == {}
    assert {ours for _, ours in world.eyes.settled} == {False}  # a bounce is never ours to remove
    await world.restart()
    await world.put(bounced(9.0))
    assert world.verdicts() == [Verdict.SEEN_BEFORE]
    await world.wait(31.0)
    assert world.met() == [(30.0, False)]


async def test_a_bounced_probe_that_comes_after_all_is_found(world: World) -> None:
    await world.put(sending(), accepted(0.5), bounced(5.0), arrived(60.5))
    assert world.verdicts()[-1] is Verdict.FOUND
    assert world.told.outcomes[-1].measured_now
    assert world.counts() == {("r", State.FOUND): 1}


async def test_a_mail_that_was_moved_is_no_duplicate(world: World) -> None:
    await world.put(sending(), accepted(), arrived(1.0, uid=1), vanished(1.5, uid=1), arrived(2.0, uid=2))
    assert world.verdicts()[-1] is Verdict.MOVED
    await world.put(arrived(3.0, uid=3))
    assert world.verdicts()[-1] is Verdict.DUPLICATE


async def test_a_copy_in_a_mailbox_to_which_it_was_not_sent_is_left_alone(world: World) -> None:
    await world.put(sending(), accepted(), arrived(1.0, account="gmx"))
    assert world.verdicts()[-1] is Verdict.ELSEWHERE
    assert world.settled == []
    assert world.counts() == {("r", State.ACCEPTED): 1}


async def test_a_replayed_token_is_left_alone(world: World) -> None:
    await world.put(sending(), accepted(), arrived(1.0), arrived(2.0, uid=2, genuine=False))
    assert world.verdicts()[-1] is Verdict.REPLAYED
    assert len(world.settled) == 1


# -- what time decides ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("submitted", [accepted(0.5), unconfirmed(20.0, since=0.5)])
async def test_a_probe_is_lost_when_it_is_older_than_the_routes_limit_and_found_when_it_comes(
    world: World, submitted: Event
) -> None:
    await world.put(sending(), submitted)
    await world.wait(1000.25)
    assert world.counts()[("r", world.recorder.probes[PROBE].state)] == 1
    await world.wait(1000.5)
    assert world.counts() == {("r", State.LOST): 1}
    await world.wait(1001.75)
    assert [type(outcome.event).__name__ for outcome in world.told.outcomes].count("Expired") == 1
    await world.put(arrived(260_000.5))
    assert world.verdicts()[-1] is Verdict.FOUND
    assert world.told.outcomes[-1].measured_now
    assert world.told.outcomes[-1].probe
    assert world.told.outcomes[-1].probe.latency == 260_000.0
    assert world.counts() == await world.ledger.counts() == {("r", State.FOUND): 1}


async def test_a_probe_that_arrived_while_its_end_was_in_the_queue_is_delivered(world: World) -> None:
    await world.put(sending(), accepted())
    await world.put(arrived(1000.0), expired(1001.0), expired(1002.0))
    assert world.counts() == {("r", State.DELIVERED): 1}
    assert len(world.told.outcomes) == 3


async def test_deadlines_are_judged_when_they_pass_and_exactly_once(world: World) -> None:
    await world.put(sending(), accepted(0.5), arrived(10.0))
    await world.wait(30.25)
    assert world.met() == []
    await world.wait(30.5)
    assert world.met() == [(30.0, True)]
    await world.wait(33.5)
    await world.wait(300.25)
    assert world.met() == [(30.0, True)]
    await world.wait(300.5)
    for later in (303.0, 1000.0, 5000.0):
        await world.wait(later)
    assert world.met() == [(30.0, True), (300.0, True)]


async def test_a_late_arrival_has_missed_the_first_deadline_and_met_the_second(world: World) -> None:
    await world.put(sending(), accepted(0.5))
    await world.wait(32.5)
    await world.put(arrived(40.0))
    await world.wait(302.5)
    assert world.met() == [(30.0, False), (300.0, True)]


@pytest.mark.parametrize(("at", "met"), [(30.5, True), (30.75, False)])
async def test_it_is_the_stamp_that_counts_and_not_when_it_was_recorded(world: World, at: float, met: bool) -> None:
    await world.put(sending(), accepted(0.5))
    world.eyes.looked_at = instant(30.25)  # what came since may still be on its way from the watcher to the recorder
    await world.wait(32.25)
    assert world.met() == []
    assert world.eyes.looks == [RECIPIENT]
    await world.put(arrived(at, not_before=30.25))
    await world.wait(32.5)
    assert world.met() == [(30.0, met)]


async def test_a_deadline_that_passes_while_nobody_looks_is_unknown(world: World) -> None:
    await world.put(sending(), accepted(0.5))
    world.eyes.open = False
    for at in (31.0, 61.0):
        await world.wait(at)
        assert world.met() == []  # it may be possible to look in a moment
    await world.wait(61.25)
    world.eyes.open = True
    await world.wait(302.5)
    assert world.met() == [(30.0, None), (300.0, False)]


async def test_a_look_after_the_deadline_is_asked_for_until_it_was_taken(world: World) -> None:
    await world.put(sending(), accepted(0.5))
    world.eyes.looked_at = instant(30.25)
    for at in (30.5, 31.5, 32.5):
        await world.wait(at)
    assert (world.met(), world.eyes.looks) == ([], [RECIPIENT] * 3)
    world.eyes.looked_at = instant(33.0)
    await world.wait(33.5)
    assert world.met() == [(30.0, False)]


async def test_a_mail_of_which_it_is_not_known_whether_it_came_in_time_is_unknown(world: World) -> None:
    await world.put(sending(), accepted(0.5))
    world.eyes.open = False
    await world.put(arrived(59.0, detection="catch-up", not_before=10.0))
    await world.wait(60.0)
    await world.wait(300.5)
    assert world.met() == [(30.0, None), (300.0, True)]


async def test_a_mail_in_flight_has_its_mailbox_looked_at_again_and_again(world: World) -> None:
    world.routes["r"] = make_route(deadlines=())
    await world.put(sending(), accepted(0.5))
    world.eyes.looked_at = instant(0.5)
    await world.wait(60.0)
    assert world.eyes.looks == []
    await world.wait(61.0)
    assert world.eyes.looks == [RECIPIENT]
    world.eyes.looked_at = instant(61.0)
    await world.wait(121.0)
    assert world.eyes.looks == [RECIPIENT]
    await world.wait(121.25)
    assert world.eyes.looks == [RECIPIENT] * 2


async def test_a_probe_whose_mailbox_is_not_ours_any_more_is_lost_without_a_look(world: World) -> None:
    await world.put(sending(), accepted(0.5))
    world.eyes.open, world.eyes.gone = False, True
    await world.wait(1000.25)
    assert world.counts() == {("r", State.ACCEPTED): 1}
    await world.wait(1000.75)
    assert world.counts() == {("r", State.LOST): 1}
    assert world.told.outcomes[-1].event == expired(1000.75, looked=False)


async def test_a_probe_whose_route_is_gone_is_lost_after_five_days(world: World) -> None:
    await world.put(sending(), accepted(0.5))
    world.routes.clear()
    world.recorder.replan()
    await world.wait(5 * 86400.0)
    assert world.counts() == {("r", State.ACCEPTED): 1}
    await world.wait(5 * 86400.0 + 1)
    assert world.counts() == {("r", State.LOST): 1}


async def test_a_deadline_that_is_looked_at_late_is_given_the_same_patience(world: World) -> None:
    await world.put(sending(), accepted(0.5))
    world.eyes.looked_at = instant(1.0)
    await world.wait(200.0)  # nobody could think of it before
    assert world.met() == []
    world.eyes.looked_at = instant(201.0)
    await world.wait(202.0)
    assert world.met() == [(30.0, False)]


async def test_a_bounce_is_no_proof_that_the_mail_is_not_there(world: World) -> None:
    await world.put(sending(), accepted(0.5), bounced(5.0))
    world.eyes.open = False
    await world.wait(31.0)
    await world.wait(62.0)
    assert world.met() == [(30.0, None)]


async def test_reloads_leave_no_trace_in_the_agenda(world: World) -> None:
    await world.put(sending(), accepted(0.5))
    before = len(world.recorder._agenda)
    for _ in range(100):
        world.recorder.replan()
    assert len(world.recorder._agenda) == before
    world.routes["r"] = make_route(lost_after=400.0)
    world.recorder.replan()
    await world.wait(400.75)
    assert world.counts() == {("r", State.LOST): 1}


async def test_what_came_leaves_the_memory_long_before_the_day_on_which_it_would_have_been_lost(world: World) -> None:
    world.routes = {"r": make_route(lost_after=5 * 86400.0, deadlines=(30.0,))}
    stuck = "f" * 16
    await world.put(sending(0.0, stuck), accepted(0.1, stuck))
    for number in range(3000):
        probe = f"{number:016x}"
        await world.put(
            sending(number, probe), accepted(number + 0.1, probe), arrived(number + 0.2, probe, uid=number + 1)
        )
        if number % 100 == 99:
            await world.wait(number + 0.5)
    assert len(world.recorder._agenda) < 2500
    assert len(world.recorder._flying["r"]) < 2500
    await world.wait(5 * 86400.0 + 1)
    assert world.counts() == {("r", State.DELIVERED): 3000, ("r", State.LOST): 1}


async def test_others_have_their_turn_while_a_big_batch_is_worked_out_and_told(world: World) -> None:
    probes = [f"{number:016x}" for number in range(500)]
    await world.put(*(event for probe in probes for event in (sending(probe=probe), accepted(probe=probe))))
    seen = set()

    async def other() -> None:
        while True:
            seen.add(world.recorder.standing().in_flight["r"].number)
            await asyncio.sleep(0)

    looking = asyncio.create_task(other())
    await world.put(*(arrived(probe=probe, uid=number) for number, probe in enumerate(probes, 1)))
    looking.cancel()
    assert {500, 450, 400, 350, 300, 250, 200, 150, 100, 50} <= seen


async def test_nothing_is_lost_before_its_mailbox_was_looked_at(world: World) -> None:
    await world.put(sending(), accepted(0.5))
    world.eyes.looked_at = instant(1000.25)
    await world.wait(2000.0)
    assert world.counts() == {("r", State.ACCEPTED): 1}
    assert RECIPIENT in world.eyes.looks
    world.eyes.looked_at = None
    await world.wait(2001.0)
    assert world.counts() == {("r", State.LOST): 1}


async def test_a_mail_that_is_known_to_have_come_is_not_unknown_although_nobody_looks_now(world: World) -> None:
    await world.put(sending(), accepted(0.5), arrived(10.0))
    world.eyes.open = False
    await world.wait(302.5)
    assert world.met() == [(30.0, True), (300.0, True)]


async def test_a_lost_probe_has_missed_its_deadlines_once(world: World) -> None:
    world.routes["r"] = make_route(lost_after=100.0)
    await world.put(sending(), accepted(0.5))
    await world.wait(200.0)
    await world.wait(400.0)
    assert world.met() == [(30.0, False), (300.0, False)]
    assert world.counts() == {("r", State.LOST): 1}


async def test_only_what_the_provider_answers_for_has_deadlines(world: World) -> None:
    await world.put(sending(), rejected())
    await world.put(sending(probe="a" * 16))
    await world.put(sending(probe="b" * 16), arrived(0.25, probe="b" * 16))
    await world.wait(400.0)
    assert world.met() == []
    await world.put(accepted(0.5, probe="b" * 16), unconfirmed(0.5, probe="a" * 16))
    await world.wait(401.0)
    assert sorted(world.met(), key=str) == [(30.0, False), (30.0, True), (300.0, False), (300.0, True)]


async def test_a_wall_clock_that_is_stepped_neither_expires_nor_judges(world: World) -> None:
    await world.put(sending(), accepted(0.5))
    world.clock.step(10 * 86400.0)
    world.recorder.tick()
    await world.recorder.drain()
    assert world.met() == []
    assert world.counts() == {("r", State.ACCEPTED): 1}


async def test_the_oldest_in_flight_is_found_across_boots(world: World) -> None:
    await world.put(sending(), accepted(0.5))
    world.clock.advance(10.0)
    world.clock.reboot(down=100.0)
    await world.restart()
    now = world.clock()
    young = dataclasses.replace(sending(probe="a" * 16), at=now)
    await world.put(young, dataclasses.replace(accepted(probe="a" * 16), at=now))
    flying = world.recorder.in_flight("r")
    assert flying == InFlight(2, instant(0.5))
    assert world.recorder.standing().in_flight == {"r": flying}
    assert [probe.id for probe in world.recorder.flying("r")] == [PROBE, "a" * 16]
    await world.put(arrived(0.75))
    assert [probe.id for probe in world.recorder.flying("r")] == ["a" * 16]
    assert (world.recorder.in_flight("none"), world.recorder.flying("none")) == (None, [])


# -- trouble with the disk -----------------------------------------------------------------------------------------


@pytest.fixture
def _prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "_RETRY", 0.0)


@pytest.mark.usefixtures("_prompt")
async def test_a_ledger_that_fails_for_a_while_loses_nothing_and_says_so(world: World) -> None:
    await world.put(sending())
    world.ledger.break_(True)
    async with running(world):
        world.recorder.put(accepted())
        await until(forever(lambda: world.recorder.stuck))
        world.recorder.put(arrived())
        waiting = asyncio.create_task(world.recorder.durable(sending(probe="a" * 16)))
        await until(forever(lambda: len(world.told.commits) > 5))
        assert world.recorder.stuck
        assert not waiting.done()
        errors = {error for _, error in world.told.commits[1:]}
        assert errors == {f"{world.path}: attempt to write a readonly database"}
        assert len(world.told.outcomes) == 1
        assert world.counts() == {("r", State.SENDING): 1}
        world.ledger.break_(False)
        await waiting
    assert not world.recorder.stuck
    assert [commit for commit in world.told.commits if commit[1] is None] == [(1, None), (1, None), (2, None)]
    assert world.counts() == await world.ledger.counts()
    assert world.counts() == {("r", State.DELIVERED): 1, ("r", State.SENDING): 1}
    assert [type(outcome.event).__name__ for outcome in world.told.outcomes] == [
        "Sending",
        "Accepted",
        "Arrived",
        "Sending",
    ]


@pytest.mark.usefixtures("_prompt")
async def test_no_deadline_is_judged_missed_while_an_arrival_in_time_waits_for_the_disk(world: World) -> None:
    await world.put(sending(), accepted(0.5))
    world.ledger.break_(True)
    async with running(world):
        world.recorder.put(arrived(1.0))
        await until(forever(lambda: world.recorder.stuck))
        world.clock.now = instant(40.0)
        world.recorder.tick()
        assert (30.0, False) not in world.met()
        world.ledger.break_(False)
        await until(forever(lambda: world.settled))
    await world.wait(41.0)
    assert world.met() == [(30.0, True)]


@pytest.mark.usefixtures("_prompt")
async def test_a_probe_does_not_expire_twice_while_the_disk_is_full(world: World) -> None:
    await world.put(sending(), accepted(0.5))
    world.ledger.break_(True)
    async with running(world):
        world.clock.now = instant(1001.0)
        world.recorder.tick()
        await until(forever(lambda: world.recorder.stuck))
        world.recorder.tick()
        world.recorder.tick()
        world.ledger.break_(False)
        await until(forever(lambda: world.counts() == {("r", State.LOST): 1}))
    await world.recorder.drain()
    assert [type(outcome.event).__name__ for outcome in world.told.outcomes].count("Expired") == 1


# -- restart -------------------------------------------------------------------------------------------------------


async def test_after_a_restart_the_same_probes_are_in_flight_and_all_are_counted(world: World) -> None:
    for number, events in enumerate(
        [
            (sending(),),
            (sending(), accepted()),
            (sending(), unconfirmed()),
            (sending(), arrived(0.1)),
            (sending(), accepted(), arrived()),
            (sending(), accepted(), expired()),
            (sending(), rejected()),
        ]
    ):
        await world.put(*(dataclasses.replace(event, probe=f"{number:016x}") for event in events))
    probes, counts, flying = dict(world.recorder.probes), world.counts(), world.recorder.standing().in_flight
    await world.restart()
    assert world.recorder.probes == probes
    assert world.counts() == counts == await world.ledger.counts()
    assert sum(counts.values()) == 7
    assert world.recorder.standing().in_flight == flying


async def test_a_mail_that_comes_after_a_restart_is_measured_once_and_the_same_copy_is_seen_before(
    world: World,
) -> None:
    await world.put(sending(), accepted(0.5))
    await world.restart()
    await world.put(arrived(259_200.5))
    assert world.told.outcomes[-1].measured_now
    assert world.told.outcomes[-1].probe
    assert world.told.outcomes[-1].probe.latency == 259_200.0
    await world.restart()
    await world.put(arrived(259_300.0))
    assert world.verdicts() == [Verdict.SEEN_BEFORE]
    assert not world.told.outcomes[-1].measured_now
    assert len(world.settled) == 2


async def test_deadlines_that_were_judged_before_a_restart_are_not_judged_again(world: World) -> None:
    await world.put(sending(), accepted(0.5))
    await world.wait(32.5)
    assert world.met() == [(30.0, False)]
    await world.restart()
    await world.wait(302.5)
    assert world.met() == [(300.0, False)]


async def test_a_deadline_that_passed_while_the_daemon_was_down_is_judged_by_what_is_found(world: World) -> None:
    await world.put(sending(), accepted(0.5))
    await world.restart()
    await world.put(arrived(5000.0, detection="catch-up", not_before=10.0, stored=20.0))
    await world.wait(5001.0)
    assert world.met() == [(30.0, True), (300.0, True)]


async def test_a_deadline_after_a_restart_also_counts_for_what_was_delivered_before_it(world: World) -> None:
    # Otherwise every restart drops deadlines that were met, and never one that was missed.
    await world.put(sending(), accepted(0.5), arrived(1.0))
    await world.restart()
    await world.wait(32.5)
    assert world.met() == [(30.0, True)]


async def test_after_a_reboot_deadlines_and_loss_go_by_the_wall_clock(world: World) -> None:
    await world.put(sending(), accepted(0.5))
    world.clock.now = instant(5.0)
    world.clock.reboot(down=10.0)
    await world.restart()
    world.clock.advance(15.25)  # 30.25 s after T0 by the wall clock
    world.recorder.tick()
    await world.recorder.drain()
    assert world.met() == []
    world.clock.advance(0.25)
    world.recorder.tick()
    await world.recorder.drain()
    assert world.met() == [(30.0, False)]
    world.clock.advance(1000.0)
    world.recorder.tick()
    await world.recorder.drain()
    assert world.counts() == {("r", State.LOST): 1}


async def test_a_route_that_is_no_longer_configured_keeps_its_probes_in_the_count(world: World) -> None:
    await world.put(sending(), accepted(0.5))
    world.routes.clear()
    await world.restart()
    await world.wait(5000.0)
    assert world.met() == []
    assert world.counts() == {("r", State.ACCEPTED): 1}
    await world.put(arrived(5001.0))
    assert world.counts() == {("r", State.DELIVERED): 1}


async def test_a_deadline_is_judged_once_however_often_the_daemon_restarts(world: World) -> None:
    await world.put(sending(), accepted(0.5))
    await world.wait(33.0)
    assert world.met() == [(30.0, False)]
    for _ in range(3):
        await world.restart()
        await world.wait(34.0)
        assert world.met() == []


async def test_a_mailbox_that_was_waited_for_when_we_were_stopped_again_has_its_deadlines_judged(world: World) -> None:
    other = "b" * 16
    await world.put(sending(), accepted(), sending(probe=other), accepted(probe=other))
    await world.restart()
    world.eyes.looked_at = instant(40.0)  # of the first deadline alone it is known
    await world.wait(3600.0)
    assert world.met() == [(30.0, False), (30.0, False)]
    await world.restart()
    world.eyes.looked_at = None
    await world.wait(3610.0)
    assert world.met() == [(300.0, False), (300.0, False)]


async def test_a_run_that_ends_before_it_judged_anything_leaves_no_deadline_unjudged(world: World) -> None:
    await world.put(sending(), accepted(0.5))
    await world.wait(32.5)
    assert world.met() == [(30.0, False)]
    await world.restart()  # after an hour, and killed before its first tick
    await world.put(sending(3600.0, probe="f" * 16))
    await world.restart()
    await world.wait(3610.0)
    assert world.met() == [(300.0, False)]


async def test_a_mail_of_somebody_else_is_settled_as_not_ours(world: World) -> None:
    await world.put(arrived(5.0))
    assert world.eyes.settled == [(arrived(5.0), False)]


# -- where the mail was --------------------------------------------------------------------------------------------


def tracing(world: World, trace: Callable[[Probe], Traced | None]) -> None:
    world.recorder.trace = trace


async def test_what_a_header_tells_is_on_record_right_after_the_measurement_and_told_then(world: World) -> None:
    tracing(world, lambda probe: traced(probe=probe.id))
    await world.put(sending(), accepted(), arrived(2.0))
    assert [type(outcome.event).__name__ for outcome in world.told.outcomes][-2:] == ["Arrived", "Traced"]
    assert world.ledger.commits[-1][-1] == traced()
    found = await world.ledger.find(PROBE)
    assert found is not None
    assert found.traced == traced()


@pytest.mark.parametrize("order", [(accepted(3.0), arrived(2.0)), (arrived(2.0), accepted(3.0))], ids=str)
async def test_it_is_asked_for_once_whichever_end_is_heard_of_first(world: World, order: tuple[Event, ...]) -> None:
    asked = []
    tracing(world, lambda probe: asked.append(probe.state))  # type: ignore[func-returns-value]
    await world.put(sending(), *order, arrived(4.0, uid=2))
    assert asked == [State.DELIVERED]


async def test_a_header_that_breaks_the_tracing_costs_nothing_but_a_word(world: World) -> None:
    def broken(probe: Probe) -> Traced | None:
        raise RuntimeError("what a header")

    tracing(world, broken)
    await world.put(sending(), accepted(), arrived(2.0))
    assert world.counts() == {("r", State.DELIVERED): 1}
    assert len(world.told.violations) == 1
    assert "what a header" in world.told.violations[0]


async def test_the_raw_header_leaves_the_memory_when_it_was_read(world: World) -> None:
    tracing(world, lambda probe: traced(probe=probe.id))
    await world.put(sending(), accepted(), dataclasses.replace(arrived(2.0), raw=b"Received: x"))
    kept = world.recorder.probes[PROBE].arrived  # its deadline is ahead
    assert kept is not None
    assert kept.raw == b""
    assert headers(world.ledger.path, PROBE) == [b"Received: x"]


# -- the end of a probe ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "ends"),
    [
        ((sending(), accepted(0.5), arrived(10.0)), 300.5),
        ((sending(), arrived(0.25), accepted(0.5)), 300.5),
        ((sending(), accepted(0.5)), 1000.5),
        ((sending(), rejected()), 0.5),
        ((sending(), bounced(0.25)), 0.25),
    ],
    ids=["delivered", "early", "lost", "rejected", "bounced, and no 250 yet"],
)
async def test_a_probe_is_finished_with_the_last_thing_that_was_expected_of_it(
    world: World, events: tuple[Event, ...], ends: float
) -> None:
    for event in events:
        world.clock.now = event.at
        await world.put(event)
    for now in (30.5, 300.25, 300.5, 1000.25, 1000.5):
        assert world.ledger.finished == [PROBE] * (world.clock.now >= instant(ends))
        assert (PROBE in world.recorder.probes) is not bool(world.ledger.finished)
        await world.wait(now)
    assert world.ledger.finished == [PROBE]
    await world.put(arrived(2000.0, uid=7))  # and once more when something happens to it all the same
    assert world.ledger.finished == [PROBE] * 2


async def test_events_that_come_together_finish_a_probe_as_one_by_one(world: World) -> None:
    world.routes = {"r": make_route(deadlines=())}
    await world.put(sending(), accepted(0.5), arrived(10.0))
    assert world.ledger.finished == [PROBE]
    await world.put(sending(20.0, probe="b" * 16))
    world.routes = {"r": make_route()}
    await world.put(accepted(20.5, probe="b" * 16), arrived(21.0, probe="b" * 16, uid=2))
    assert world.ledger.finished == [PROBE]
