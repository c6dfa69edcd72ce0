"""A world's time: the laws of its loop and clock; and that what is measured in it is what the provider really did."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import pytest

from probe import clock
from probe.core.behaviour import store
from probe.core.clocks import jumps
from probe.core.events import Judged
from probe.core.evidence import Evidence
from probe.core.outcome import Outcome
from probe.core.report import report
from probe.core.state import State
from probe.demo import stage as demo
from probe.demo.scenarios import BEGINS, FAILED, SCENARIOS, Scenario
from probe.demo.world import Loop, World
from probe.provider import Passage
from probe.report import render
from probe.report.gather import Wanted, collect
from probe.report.verify import verify

_T = TypeVar("_T")
HOUR, DAY = 3600.0, 86400.0
pytestmark = pytest.mark.timeout(400)  # a story takes some seconds of a core that is ours alone

TOLERANCE = 5.0  # seconds of the world: its time passes as ours while we are at work, and here others are at work, too

PATIENCE = 120.0  # by then the mailbox was looked at, and it is decided that a mail is not there


def in_world(job: Callable[[World], Coroutine[Any, Any, _T]], speed: float = math.inf) -> _T:
    world = World(BEGINS, speed)
    with clock.replaced(world.reading), asyncio.Runner(loop_factory=lambda: Loop(world)) as runner:
        return runner.run(job(world))


# -- the laws ------------------------------------------------------------------------------------------------------


def test_days_pass_at_once_and_timers_fire_in_their_order_and_never_early() -> None:
    async def job(_: World) -> list[tuple[float, float]]:
        loop, fired = asyncio.get_running_loop(), list[tuple[float, float]]()
        began = loop.time()
        delays = [5 * DAY, 0.001, 3 * HOUR, 1.0, 0.0, DAY, 3 * HOUR + 0.5]
        for delay in delays:
            loop.call_later(delay, lambda it=delay: fired.append((it, loop.time() - began)))
        await asyncio.sleep(6 * DAY)
        assert [delay for delay, _ in fired] == sorted(delays)
        return fired

    assert all(delay <= when for delay, when in in_world(job))


def test_time_never_goes_back_and_wall_boot_and_monotonic_clock_go_together() -> None:
    async def job(world: World) -> None:
        loop, seen = asyncio.get_running_loop(), [world.reading()]
        for delay in (0.0, 0.3, HOUR, 0.0, 5.0, DAY):
            await asyncio.to_thread(seen.append, world.reading())
            await asyncio.sleep(delay)
            seen.append(clock.reading())
            assert seen[-1].awake <= loop.time()
            assert seen[-1].boot <= clock.now().boot
        for before, after in pairwise(seen):
            assert all(b <= a for b, a in zip(before, after, strict=True))
            assert jumps(before, after, after.awake - before.awake) == []

    in_world(job)


def test_the_clock_is_the_worlds_only_while_it_lasts() -> None:
    in_world(lambda _: asyncio.sleep(400 * DAY))
    assert clock.now().wall > BEGINS + 3650 * DAY


def test_while_a_thread_is_at_work_no_time_is_skipped() -> None:
    async def job(_: World) -> None:
        loop, fired = asyncio.get_running_loop(), asyncio.Event()
        loop.call_later(HOUR, fired.set)

        def work() -> bool:  # the loop turns a hundred times meanwhile, with nothing to do but to wait for us
            for _ in range(100):
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
            return fired.is_set()

        assert not await asyncio.to_thread(work)
        await fired.wait()

    in_world(job)


def test_a_job_that_fails_or_that_nobody_waits_for_any_more_does_not_stop_time() -> None:
    async def job(_: World) -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 / 0)
        loop.run_in_executor(None, int).cancel()
        await asyncio.sleep(DAY)

    in_world(job)


def test_a_timeout_expires_when_it_should_and_not_before() -> None:
    async def job(_: World) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(2 * HOUR):
            await asyncio.sleep(HOUR)
        began = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(HOUR):
                await asyncio.sleep(DAY)
        assert HOUR <= loop.time() - began < 2 * HOUR

    in_world(job)


def test_no_time_is_skipped_while_a_byte_is_on_its_way_through_the_loopback() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async def job(_: World) -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            async with asyncio.timeout(HOUR):  # the only timer: one skip, and it expires
                for _ in range(20):
                    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                    for _ in range(100):
                        writer.write(b"x" * 500 + b"\n")
                        await reader.readline()
                    writer.close()
                    await writer.wait_closed()

    in_world(job)


@dataclass
class Machine:
    """The machine's clock and its select(), by hand."""

    now: float = 1000.0
    waits: list[float] = field(default_factory=list)
    comes: list[str] = field(default_factory=list)  # half-way through the next wait

    def wait(self, seconds: float) -> list[str]:
        self.waits.append(seconds)
        self.now += seconds / 2 if self.comes else seconds
        news, self.comes = self.comes, []
        return news


def test_the_speed_is_kept_by_holding_the_clock() -> None:
    machine = Machine()
    world = World(BEGINS, 100.0, lambda: machine.now)
    began = world.time()
    for number in range(1000):
        before = world.time()
        assert world.skip(10.0, machine.wait) == []
        assert world.time() - before == pytest.approx(10.0), number
    assert world.time() - began == pytest.approx(10_000.0)
    assert machine.now - 1000.0 == pytest.approx(100.0, abs=0.15)
    assert min(machine.waits) > 0.01, "epoll knows milliseconds only"


def test_news_ends_the_hold_and_meets_a_clock_that_stood_still() -> None:
    machine = Machine()
    world = World(BEGINS, 100.0, lambda: machine.now)
    world.skip(HOUR, machine.wait)
    held = world.time()
    machine.comes = ["a scrape"]
    assert world.skip(HOUR, machine.wait) == ["a scrape"]
    assert world.time() == pytest.approx(held)
    machine.now += 0.25  # to answer it
    assert world.time() == pytest.approx(held + 0.25)
    assert world.reading().wall == pytest.approx(BEGINS + HOUR + 0.25)


# -- the stories ---------------------------------------------------------------------------------------------------


class Watched(demo.Measured):
    """Remembers every judgement, too."""

    def __init__(self) -> None:
        super().__init__()
        self.judged: dict[str, dict[float, bool | None]] = {}

    def observe(self, outcome: Outcome) -> None:
        super().observe(outcome)
        if isinstance(outcome.event, Judged):
            self.judged.setdefault(outcome.event.probe, {})[outcome.event.deadline] = outcome.event.met


@pytest.mark.parametrize("world", [World(BEGINS, 1200.0), None])
def test_a_story_s_page_says_what_it_is(world: World | None) -> None:
    async def job() -> None:
        async with demo.started(SCENARIOS["normal"], world, "127.0.0.1", 0, random.Random(7)) as stage:
            reader, writer = await asyncio.open_connection("127.0.0.1", stage.running.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            page = (await reader.read()).decode()
            writer.close()
            said = "A replay, no real mail" if world else "A demo, no real mail"
            assert f'<aside class="demo"><p>{said}' in page
            assert ("It begins on 2007-01-15 " in page) is bool(world)

    with asyncio.Runner(loop_factory=(lambda: Loop(world)) if world else None) as runner:
        runner.run(job())


@dataclass
class Played:
    """A story's end."""

    record: list[Passage]
    seen: Watched
    ended: float  # by the world's boot clock
    fates: dict[str, dict[str, int]]
    states: dict[str, dict[str, int]]
    evidence: Evidence

    def took(self, name: str) -> list[float]:
        return [it.took for it in self.record if it.recipient.startswith(name) and it.took is not None]


def shrunk(scenario: Scenario, by: float, every: float) -> Scenario:
    turns = tuple(replace(turn, hour=turn.hour / by) for turn in scenario.turns)
    return replace(scenario, hours=scenario.hours / by, turns=turns, every=every, lost_after=scenario.lost_after / by)


def play(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> Played:
    """To its end, as fast as this machine can."""
    monkeypatch.setattr(demo, "Measured", Watched)

    async def job(world: World) -> Played:
        async with demo.started(scenario, world, "127.0.0.1", 0, random.Random(7)) as stage:
            await stage.playing
            rows = list(stage.compare())
            ledger, now = stage.running.prober.settings.state_dir / "ledger.sqlite", clock.now().wall
            evidence = await collect(ledger, (), Wanted(stage.began, now, now, "en", ZoneInfo("UTC"), 5))
            assert isinstance(stage.measured, Watched)
            return Played(
                stage.provider.record,
                stage.measured,
                clock.now().boot,
                {row.route: row.fates for row in rows},
                {row.route: row.states for row in rows},
                evidence,
            )

    return in_world(job)


def check(played: Played, scenario: Scenario) -> None:
    """Whatever happened was seen: every mail, with its real latency, and every deadline as it was kept."""
    assert len(played.record) >= 10 * len(scenario.people)
    for passage in played.record:
        age = played.ended - passage.accepted.boot
        if min(age, played.ended - passage.ended.boot if passage.ended else age) < 2 * TOLERANCE:
            continue  # perhaps not told yet
        probe = played.seen.probes[passage.queue_id]
        due = math.inf  # when the mail was there
        if passage.fate in {"inbox", "junk"}:
            assert probe.arrived
            assert probe.arrived.placement == passage.fate
            assert probe.latency is not None
            assert passage.took is not None
            assert abs(probe.latency - passage.took) < TOLERANCE
            due = passage.took
        elif passage.fate == "bounced":
            assert probe.bounced
            assert probe.bounced.matched == "returned"
        elif abs(age - scenario.lost_after) > PATIENCE:
            assert (probe.state is State.LOST) == (age > scenario.lost_after)
        judged = played.seen.judged.get(probe.id, {})
        for deadline in scenario.deadlines:
            if age > deadline + PATIENCE and abs(due - deadline) > TOLERANCE:
                assert judged[deadline] == (due < deadline)


SHORT = {name: shrunk(story, 4, 150) for name, story in SCENARIOS.items() if name not in {"outage", "live"}}


@pytest.mark.parametrize("name", SHORT)
def test_what_happens_in_a_story_is_what_is_measured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    story = SHORT[name]
    played = play(story, monkeypatch)
    check(played, story)
    fates, states = played.fates, played.states
    match name:
        case "normal":
            assert all(max(played.took(person)) < 2 + TOLERANCE for person in story.people)
        case "greylisting":
            late = [took for person in story.people for took in played.took(person) if took > 10]
            assert len(late) >= 8
            assert all(300 <= took < 610 for took in late), "until the relay's next attempt"
        case "junked":
            assert states["anna"]["junk"] == fates["anna"]["junk"] > 20
            assert 0 < states["bruno"]["junk"] == fates["bruno"]["junk"] < fates["anna"]["junk"]
            assert not states["david"]["junk"]
        case "bounces":
            assert states["anna"]["bounced"] == fates["anna"]["bounced"] > 20
            assert 0 < states["bruno"]["bounced"] == fates["bruno"]["bounced"] < fates["anna"]["bounced"]
            assert not states["david"]["bounced"]
        case "flapping":
            assert 800 < max(played.took("anna")) < 1200 + TOLERANCE
            assert max(played.took("david")) < 2 + TOLERANCE
        case "silent-loss":
            assert sum(counted["lost"] for counted in states.values()) > 5
        case _:
            raise AssertionError(name)


def test_the_outage_is_measured_mail_by_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    story = shrunk(SCENARIOS["outage"], 8, 450)
    story = replace(story, lost_after=5 * DAY, people=("anna", "clara", "david"))
    played = play(story, monkeypatch)
    check(played, story)
    lives_on = {name: store(f"{name}@demo.invalid") for name in story.people}
    hit = [name for name, home in lives_on.items() if home in FAILED]
    assert hit == ["anna", "clara"]
    for name in story.people:
        assert played.states[name].keys() <= {"inbox", "in flight"}, "nothing is lost"
        longest = max(played.took(name))
        assert longest > HOUR if name in hit else longest < 1200 + TOLERANCE
    warned = [passage for passage in played.record if passage.warned]
    assert warned
    assert all(played.seen.probes[passage.queue_id].notices for passage in warned), "the delay notices were read"
    check_report(played, story, hit)


def check_report(played: Played, scenario: Scenario, hit: list[str]) -> None:
    """The report tells each late mail as the provider's record has it, who held it, and when it all began."""
    late_after = min(scenario.deadlines)
    for told in report(played.evidence):
        name = told.evidence.name
        record = {it.queue_id: it for it in played.record if it.recipient.startswith(name)}
        assert abs(told.sent - len(record)) <= 1
        rows = {row.queue_id: row for row in told.rows}
        late = {key: it for key, it in record.items() if it.took is not None and it.took > late_after + TOLERANCE}
        assert late.keys() <= rows.keys()
        for key, passage in late.items():
            row = rows[key]
            assert row.fate == "late"
            assert row.held == pytest.approx(passage.took, abs=TOLERANCE)
            assert row.accepted == pytest.approx(passage.accepted.wall, abs=TOLERANCE)
            assert late_after in row.missed
            longest = max(row.stays, key=lambda stay: stay.low)
            assert longest.host == passage.relay
            assert passage.took is not None
            assert longest.low - TOLERANCE <= passage.took <= longest.high + TOLERANCE
        waiting = [key for key, it in record.items() if it.fate == "queued" and key in rows]
        assert all(rows[key].fate == "in_flight" for key in waiting)
        if name in hit:
            assert len(late) > 10
            assert told.late >= len(late)
            assert told.fault is not None
            assert told.fault.segment == "provider"
            first = min(it.accepted.wall for it in late.values())
            incidents = [it for it in told.evidence.incidents if it.kind == "late"]
            assert min(abs(it.begin.wall - first) for it in incidents) < TOLERANCE
            assert max(it.peak for it in incidents) >= max(it.took or 0.0 for it in late.values()) - TOLERANCE
    made = render(played.evidence, "html").encode()
    assert not verify(made, {}).changed
    for at in random.Random(1).sample(range(len(made)), 10):
        changed = made[:at] + bytes([made[at] ^ 1]) + made[at + 1 :]
        with contextlib.suppress(ValueError):  # it is no report any more
            assert verify(changed, {}).changed, at


def test_every_host_of_which_a_story_tells_is_home_to_one_of_its_people_or_to_nobody_here() -> None:
    for name, story in SCENARIOS.items():
        homes = {store(f"{person}@demo.invalid") for person in story.people}
        assert story.homes() - set(FAILED) <= homes, name
        assert [turn.hour for turn in story.turns] == sorted(turn.hour for turn in story.turns)
