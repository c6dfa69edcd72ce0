"""Incidents of what an older version recorded: found again, the same ones that would have been told, each once."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings

from probe.api.resources import recorded
from probe.core.events import Event, elapsed
from probe.core.history import incident_row
from probe.core.plain import plain, typed
from probe.core.replay import Course, Replay
from probe.core.state import advance
from probe.core.trouble import Held, Incident, RouteState, Toll
from probe.ledger import SCHEMA_VERSION, Reader, replaying
from probe.page.overview import incidents as drawn
from probe.page.words import Speech
from probe.report import render
from probe.report.gather import Wanted, collect

from .make import ROOT, T0, accepted, arrived, expired, instant, judged, make_route, sending, traced
from .test_history import older, opened
from .test_incidents import _NEVER, BURSTS, ROUTE, TIMES, Mail, Times, World, held_until, life, mails, stall

DEADLINES = {"r": ROUTE.deadlines}
LATER = T0.wall + 9 * 86_400.0  # when nothing is ahead of anything


def courses(events: Iterable[Event]) -> list[Course]:
    lives: defaultdict[str, list[tuple[int, Event]]] = defaultdict(list)
    for number, event in enumerate(events):
        lives[event.probe].append((number, event))
    return [Course.of(life) for life in lives.values()]


def replayed(events: Sequence[Event], today: Collection[float] = (), then: Sequence[Event] = ()) -> list[Incident]:
    """The incidents that end with these events, then those that are open; `then`: what is on record since."""
    replay, found = Replay("r", events[-1].at.wall, today), list[Incident]()
    steps = [(*step, course) for course in courses([*events, *then]) for step in course.steps]
    for _, outcome, course in sorted(steps, key=lambda step: step[0])[: len(events)]:
        found += replay.tell(outcome, course)
    return [*found, *replay.cut()]


def known(world: World) -> list[Incident]:
    """What was told of mail, of those that are over."""
    return [replace(it, origin="replayed") for it in world.closed() if it.kind != "blind"]


async def caught_up(path: Path, today: dict[str, tuple[float, ...]] = DEADLINES) -> list[Incident]:
    """The incidents in the ledger, when all is caught up with."""
    async with opened(path) as (ledger, reader):
        while await ledger.catch_up(LATER, LATER, today) or await reader.caught_up() is not None:
            pass
        return await on_record(reader)


async def on_record(reader: Reader) -> list[Incident]:
    return [typed(Incident, dict(row.record)) for row in await reader.incidents(0.0, 1e12)]


# -- what is found ---------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(BURSTS, TIMES, TIMES)
def test_the_ledgers_events_give_the_incidents_that_were_told_live(
    bursts: list[tuple[int, float, str]], blind: list[Times], down: list[Times]
) -> None:
    world = life(bursts, blind, down).run(6000, 7.0)
    found = replayed(world.events, world.route.deadlines)
    assert [it for it in found if it.origin == "replayed"] == known(world)
    still = {it.name: it for it in world.view().incidents if it.kind != "blind"}
    for cut in found[len(known(world)) :]:
        live = still.pop(cut.name)
        assert cut.end is not None
        assert cut == replace(live, end=cut.end, toll=live.toll._replace(held=0), origin="cut")
        assert elapsed(cut.end, world.events[-1].at) >= 0
    assert all(it.toll.affected == it.toll.held for it in still.values())  # these are told when they come


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
async def test_an_outage_in_an_older_ledger_is_an_incident_with_its_begin_end_peak_and_mails(
    tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "_AT_ONCE", 7)
    monkeypatch.setattr(replaying, "_KEEP_EVERY", 5)
    world = World([*stall(), *mails(4800, 5400, fate="refused"), *mails(5400, 6000)], blind=[Times(1000, 1300)])
    older(tmp_path / "ledger.sqlite", version, world.run(6000).events)
    outage, refusal = await caught_up(tmp_path / "ledger.sqlite")
    assert [outage, refusal] == known(world)
    assert (outage.begin, outage.end, outage.peak) == (instant(600), instant(2460), 1800)
    assert (outage.worst, outage.toll) == (RouteState.STUCK, Toll(late=30))
    assert (refusal.begin, refusal.end, refusal.toll) == (instant(4800), instant(5400), Toll(refused=10))


def test_the_way_of_a_late_mail_says_who_held_it_here_too() -> None:
    held = [
        sending(),
        accepted(),
        judged(31.0, met=False),
        arrived(200.0),
        traced(200.0),
        judged(301.0, deadline=300.0),
    ]
    [cut] = replayed(held, ROUTE.deadlines)
    assert cut.fault == Held("recipient", 0.0, 1.4)


@pytest.mark.parametrize(
    ("first", "then", "late"),
    [
        ((60.0, 600.0), (30.0, 300.0), (3600, None)),
        ((30.0, 300.0), (60.0, 600.0), (0, 3600)),
        ((), (30.0,), (3600, None)),
    ],
)
def test_mail_is_late_by_the_deadlines_of_its_time(
    first: tuple[float, ...], then: tuple[float, ...], late: tuple[float, float | None]
) -> None:
    before = World(mails(0, 1800, 40), make_route(deadlines=first)).run(3000)
    after = World(mails(3600, 5400, 40), make_route(deadlines=then)).run(7200)
    [found] = replayed([*before.events, *(replace(event, probe=f"a{event.probe[1:]}") for event in after.events)])
    assert (found.begin, found.toll) == (instant(late[0]), Toll(late=30))
    assert found.origin == "cut" if late[1] is None else found.end == instant(late[1])


def test_a_deadline_that_is_not_judged_yet_when_the_record_ends_is_one_all_the_same() -> None:
    """Else the route would have but one, and a mail that misses it would be stuck."""
    first = [*mails(0, 1200), Mail(1200, 60)]
    for known_before, length in ((first, 1300), (first[-1:], 1300)):
        [cut] = replayed(World(known_before).run(length).events, ROUTE.deadlines)
        assert (cut.worst, cut.toll) == (RouteState.SLOW, Toll(late=1))
    [cut] = replayed(World(first).run(1300).events)
    assert cut.worst is RouteState.SLOW


def test_where_no_deadline_was_ever_judged_only_lost_mail_is_late() -> None:
    slow = [sending(0.0, "b"), accepted(0.5, "b"), arrived(9_000.0, "b")]
    lost = [sending(10_000, "a"), accepted(10_000, "a"), expired(20_000, "a")]
    assert replayed(slow) == []
    [cut] = replayed([*slow, *lost])
    assert (cut.kind, cut.toll) == ("late", Toll(lost=1))


# -- where the record ends -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latency", [40, 400, 1200])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_a_mail_of_an_incident_that_is_cut_counts_before_or_after_and_never_twice(latency: float, share: float) -> None:
    world = World([*mails(0, 3600, latency), *mails(3600, 6000)]).run(8000)
    at = round(len(world.events) * share)
    past = replayed(world.events[:at], then=world.events[at:])
    live = World([])
    for event in world.events[:at]:
        live.probes[event.probe] = advance(live.probes.get(event.probe), event)
    for event in world.events[at:]:
        live.tell(event)
    assert sum(it.toll.affected for it in [*past, *live.incidents()]) == 60
    assert all(it.origin == "cut" and it.end and elapsed(it.end, world.events[at - 1].at) >= 0 for it in past)


def test_what_was_all_held_when_the_record_ends_is_told_when_it_comes() -> None:
    assert replayed(World([*mails(0, 600), *held_until(600, 2400, _NEVER, 1.0)]).run(2400).events) == []


async def test_trouble_that_the_upgrade_cuts_lasted_at_least_so_long(tmp_path: Path) -> None:
    world = World([*mails(0, 600), *mails(600, 1800, 40), *mails(1800, 1981)]).run(2000)
    older(tmp_path / "ledger.sqlite", 2, world.events)
    [cut] = await caught_up(tmp_path / "ledger.sqlite")
    assert (cut.origin, cut.begin, cut.end, cut.toll) == ("cut", instant(600), instant(1800), Toll(late=20))


# -- killed, and beside what is told live ----------------------------------------------------------------------------

KILLED = """
import asyncio, os, signal, sys
from contextlib import contextmanager
from pathlib import Path
from probe.ledger import Ledger, replaying

left, transaction = int(sys.argv[2]), replaying.transaction

@contextmanager
def deadly(db):
    global left
    with transaction(db):
        yield
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

async def main():
    replaying._AT_ONCE, replaying._KEEP_EVERY, replaying.transaction = 30, 2, deadly
    ledger = Ledger(Path(sys.argv[1]))
    while await ledger.catch_up(2e9, 2e9):
        pass

asyncio.run(main())
"""


async def test_a_kill_at_any_step_neither_doubles_nor_loses_an_incident(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    world = World([*stall(), *mails(4800, 5400, fate="refused"), *mails(5400, 6000), Mail(6000, 40)]).run(6400)
    older(path, 2, world.events)
    kills = 0
    while True:
        command = [sys.executable, "-c", KILLED, str(path), str(1 + kills % 3)]
        if (await asyncio.to_thread(subprocess.run, command, cwd=ROOT, check=False)).returncode != -signal.SIGKILL:
            break
        kills += 1
    assert kills > 5
    async with opened(path) as (_, reader):
        *whole, cut = await on_record(reader)
    assert whole == known(world)
    assert (cut.origin, cut.toll) == ("cut", Toll(late=1))


async def test_what_was_told_live_is_not_touched(tmp_path: Path) -> None:
    path, world = tmp_path / "ledger.sqlite", World(stall()).run(4800)
    older(path, 2, world.events)
    [outage] = world.closed()
    live = [
        replace(outage, toll=Toll(late=1)),  # under the same name
        Incident("r", "late", instant(9000), instant(9100), RouteState.SLOW),
        Incident("r", "blind", instant(700), instant(730), RouteState.BLIND, end=instant(900)),
    ]
    async with opened(path) as (ledger, _):
        await ledger.save(map(incident_row, live), {"incidents/r": world.tracker.dump()})
    found = await caught_up(path)
    assert sorted(found, key=lambda it: it.name) == sorted(live, key=lambda it: it.name)
    async with opened(path) as (ledger, _):
        assert await ledger.memory() == {"incidents/r": world.tracker.dump()}


async def test_a_ledger_of_this_version_is_not_replayed(tmp_path: Path) -> None:
    world = World(stall()).run(4800)
    async with opened(tmp_path / "ledger.sqlite") as (ledger, _):
        await ledger.commit(world.events, world.probes.values())
    assert await caught_up(tmp_path / "ledger.sqlite") == []


async def test_what_happens_after_the_upgrade_is_left_to_those_who_tell_it_live(tmp_path: Path) -> None:
    path, world = tmp_path / "ledger.sqlite", World([*mails(0, 600), *mails(600, 7200, 40)]).run(7300)
    at = next(number for number, event in enumerate(world.events) if elapsed(instant(3600), event.at) > 0)
    older(path, 2, world.events[:at])
    async with opened(path) as (ledger, _):
        await ledger.commit(world.events[at:], world.probes.values())
    [cut] = await caught_up(path)
    assert (cut.origin, cut.toll, cut.end) == ("cut", Toll(late=50), instant(3580))


async def test_an_incident_whose_mails_were_forgotten_does_not_last_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "_AT_ONCE", 10)
    monkeypatch.setattr(replaying, "_KEEP_EVERY", 1)
    path = tmp_path / "ledger.sqlite"
    older(path, 2, World([Mail(0, 2000), *mails(60, 6000), Mail(6000, 40), *mails(6060, 9000)]).run(9000).events)
    async with opened(path) as (ledger, _):
        while "late" not in str(await ledger.memory("replay/")):
            await ledger.catch_up(LATER, LATER, DEADLINES)
        for _ in range(4):
            await ledger.catch_up(LATER, LATER, DEADLINES)
        assert await ledger.forget(T0.wall + 1.0, 10**9, 0.0)
    [later] = await caught_up(path)
    assert (later.begin, later.end, later.toll) == (instant(6000), instant(6060), Toll(late=1))


async def test_a_record_that_cannot_be_read_and_a_memory_of_another_version_keep_nothing_else_from_being_found(
    tmp_path: Path,
) -> None:
    path, world = tmp_path / "ledger.sqlite", World(stall()).run(4800)
    older(path, 2, world.events)
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE events SET record = 'scribble' WHERE probe = ? AND kind = 'Arrived'", (f"{20:016x}",))
        db.commit()
    async with opened(path) as (ledger, _):
        await ledger.save(memory={"replay/r": {"tracker": {"state": "splendid"}}, "replay/x": {}})
    [outage] = await caught_up(path)
    assert (outage.end, outage.toll) == (instant(2460), Toll(late=29))


# -- shown ------------------------------------------------------------------------------------------------------------


async def test_page_api_and_report_say_that_it_is_reconstructed_and_that_it_may_have_lasted_longer(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.sqlite"
    older(path, 2, World([*stall(), *mails(4800, 6000, 40)]).run(6000).events)
    found = await caught_up(path)
    assert [it.origin for it in found] == ["replayed", "cut"]
    page = drawn(found, LATER, Speech())
    assert page.count("late mail (reconstructed)") == 2
    assert page.count("≥ ") == 1
    assert [recorded(incident_row(it), instant(0))["origin"] for it in found] == ["replayed", "cut"]
    wanted = Wanted(T0.wall, T0.wall + 9000.0, LATER, "de", ZoneInfo("UTC"), 0)
    evidence = await collect(path, ["r"], wanted)
    for form in ("md", "html"):
        report = render(evidence, form)
        assert report.count("Mail verspätet") == report.count("rekonstruiert") == 2
        assert report.count("≥") == report.count("&ge;") + 1 == 1


def test_an_incident_that_was_recorded_before_there_were_others_was_told_live() -> None:
    [told] = World(stall()).run(4800).closed()
    record = plain(told)
    del record["origin"]
    assert typed(Incident, record) == told
    del record["toll"]
    with pytest.raises(ValueError, match="not plain data of Incident"):
        typed(Incident, record)
