"""What the ledger tells about the past, beside its writer: what is counted in SQL is what the probes themselves say."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from itertools import chain
from pathlib import Path

import pytest

from probe.core.chain import digest, genesis
from probe.core.events import Event
from probe.core.history import DAY, HOUR, Cell, IncidentRow, Summary, summary
from probe.core.state import OPEN, Probe, State, advance
from probe.core.written import typed
from probe.ledger import SCHEMA_VERSION, Ledger, LedgerError, Reader, chaining, writing
from probe.ledger import reader as reader_module
from probe.ledger.records import row
from probe.ledger.schema import SCHEMA

from .bench import years
from .chained import links_of, verify
from .make import (
    PATHS,
    PROBE,
    ROOT,
    T0,
    accepted,
    arrived,
    bounced,
    every_probe,
    expired,
    judged,
    make_probe,
    sending,
    traced,
    unconfirmed,
)

BEGIN = T0.wall // DAY * DAY


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[tuple[Ledger, Reader]]:
    ledger = await asyncio.to_thread(Ledger, path)
    reader = await asyncio.to_thread(Reader, path)
    try:
        yield ledger, reader
    finally:
        await asyncio.to_thread(reader.close)
        await asyncio.to_thread(ledger.close)


# -- lives -----------------------------------------------------------------------------------------------------------

LIVES: list[tuple[Event, ...]] = [
    *PATHS.values(),
    (sending(), accepted(), arrived(2.0, placement="junk"), traced(), judged(30.5), judged(300.5, deadline=300.0)),
    (sending(), accepted(), judged(30.5, met=False), arrived(200.0), traced(201.0), judged(300.5, deadline=300.0)),
    (sending(), accepted(), judged(30.5, met=False), judged(300.5, deadline=300.0, met=False), expired()),
    (sending(), accepted(), judged(30.5, met=None), arrived(40.0, detection="catch-up", not_before=0.0)),
    (sending(), unconfirmed(), arrived(3.0), judged(30.5)),
    (sending(), accepted(), bounced(status=""), arrived(900.0)),
]


def live(number: int, route: str, start: float, life: Iterable[Event]) -> list[Event]:
    """Such a life, `start` seconds after BEGIN."""
    moved = [dataclasses.replace(it, probe=f"{number:016x}", at=it.at.shifted(BEGIN - T0.wall + start)) for it in life]
    return [dataclasses.replace(moved[0], route=route), *moved[1:]]  # type: ignore[call-arg]


def some(number: int, seed: int = 1, days: float = 3.0) -> list[list[Event]]:
    """So many lives on three routes."""
    rng = random.Random(seed)
    return [
        live(place, f"r{rng.randrange(3)}", rng.uniform(0, days * DAY), rng.choice(LIVES)) for place in range(number)
    ]


async def write(ledger: Ledger, lives: Iterable[list[Event]], seed: int = 1) -> list[Probe]:
    """Record these lives, mixed, some events at a time; all of those that are not open have an end."""
    rng, lives, probes = random.Random(seed), [list(life) for life in lives], dict[str, Probe]()
    while lives:
        batch: list[Event] = []
        for life in rng.sample(lives, min(len(lives), 20)):
            batch += [life.pop(0) for _ in range(rng.randint(1, len(life)))]
        for event in batch:
            probes[event.probe] = advance(probes.get(event.probe), event)
        left = {life[0].probe for life in lives if life}
        lives = [life for life in lives if life]
        changed = [probes[name] for name in dict.fromkeys(event.probe for event in batch)]
        finished = [probe.id for probe in changed if probe.state not in OPEN and probe.id not in left]
        await ledger.commit(batch, changed, (), finished)
    return list(probes.values())


def told(rows: list[Summary], width: float) -> list[Cell]:
    """What the cells must be, by the summaries."""
    cells = []
    keys = sorted({(it.route, (it.started - BEGIN) // width) for it in rows})
    for route, number in keys:
        those = [it for it in rows if (it.route, (it.started - BEGIN) // width) == (route, number)]
        states, counted = Counter(it.state for it in those), latencies(those)
        cells.append(
            Cell(
                route,
                BEGIN + number * width,
                len(those),
                sum(states[state] for state in OPEN),
                sum(it.missed is not None for it in those),
                sum(it.unknown is not None for it in those),
                states[State.LOST],
                states[State.BOUNCED],
                states[State.REJECTED] + states[State.DEFERRED] + states[State.FAILED],
                len(counted),
                max(counted, default=None),
            )
        )
    return cells


def latencies(rows: list[Summary]) -> list[float]:
    return sorted(it.latency for it in rows if it.latency is not None and not it.doubtful)


# -- a probe in one row ----------------------------------------------------------------------------------------------


def test_a_summary_says_what_became_of_the_probe_and_who_had_it() -> None:
    found = summary(make_probe(*LIVES[12]))
    assert found.state is State.DELIVERED
    assert (found.latency, found.missed, found.unknown, found.placement) == (199.5, 30.0, None, "inbox")
    assert (found.holder, found.held) == ("recipient", 0.7)  # the submission counts for nobody
    assert (found.accepted, found.seen) == (T0.wall + 0.5, T0.wall + 200.0)
    assert summary(make_probe(*LIVES[13])).missed == 300.0
    assert summary(make_probe(*LIVES[14])).unknown == 30.0


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (State.DELIVERED, None),
        (State.BOUNCED, "5.1.1"),
        (State.REJECTED, "5.1.1"),
        (State.DEFERRED, "4.7.1"),
        (State.FAILED, "refused"),
        (State.UNCONFIRMED, "lost"),
        (State.LOST, None),
    ],
)
def test_a_summary_says_why(state: State, status: str | None) -> None:
    assert summary(make_probe(*PATHS[state])).status == status


# -- counted and ranked ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [DAY, 6 * HOUR, HOUR, HOUR / 3])
async def test_cells_add_up_to_the_summaries_at_every_width(
    path: Path, width: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(path) as (ledger, reader):
        rows = [summary(probe) for probe in await write(ledger, some(300))]
        assert await reader.strip(BEGIN, BEGIN + 3 * DAY, round(3 * DAY / width)) == told(rows, width)
        one = [it for it in rows if it.route == "r1"]
        assert await reader.strip(BEGIN, BEGIN + 3 * DAY, round(3 * DAY / width), "r1") == told(one, width)
        monkeypatch.setattr(reader_module, "_ROUTES_AT_ONCE", 1)
        parts = [part async for part in reader.strips(BEGIN, BEGIN + 3 * DAY, round(3 * DAY / width))]
        assert sorted(cell for part in parts for cell in part) == told(rows, width)
        assert len(parts) == len({it.route for it in rows})


async def test_a_cell_counts_a_probe_while_it_is_late_and_not_only_when_it_has_come(path: Path) -> None:
    async with opened(path) as (ledger, reader):
        events = live(1, "r", 0.0, [sending(), accepted(), judged(30.5, met=False)])
        await ledger.commit(events, [make_probe(*events)])
        [cell] = await reader.strip(BEGIN, BEGIN + DAY, 24)
        assert (cell.sent, cell.open, cell.late, cell.measured) == (1, 1, 1, 0)
        standing = (await reader.standings())["r"]
        assert (standing.in_flight, standing.oldest) == (1, events[1].at.wall)
        assert standing.newest == summary(make_probe(*events))


@pytest.mark.parametrize("span", [(0.0, 3 * DAY), (1.3 * DAY, 1.9 * DAY), (5 * DAY, 6 * DAY)])
async def test_totals_are_exact(path: Path, span: tuple[float, float]) -> None:
    since, until = BEGIN + span[0], BEGIN + span[1]
    async with opened(path) as (ledger, reader):
        all_rows = [summary(probe) for probe in await write(ledger, some(400))]
        rows = [it for it in all_rows if it.route == "r2" and since <= it.started < until]
        got = await reader.totals("r2", since, until)
    assert got.states == Counter(it.state for it in rows)
    assert got.late == sum(it.missed is not None for it in rows)
    assert got.unknown == sum(it.unknown is not None for it in rows)
    assert got.placements == Counter(it.placement for it in rows if it.placement)
    assert {name: number for name, (number, _) in got.holders.items()} == Counter(it.holder for it in rows if it.holder)
    ranked = latencies(rows)
    if not ranked:
        assert got.latencies is None
        return
    assert got.latencies is not None
    wanted = [ranked[max(0, -(-len(ranked) * percent // 100) - 1)] for percent in (50, 95, 99, 100)]
    assert list(got.latencies) == [len(ranked), *wanted]


async def test_a_chart_has_the_least_the_median_and_the_most_of_each_stretch(path: Path) -> None:
    async with opened(path) as (ledger, reader):
        rows = [summary(probe) for probe in await write(ledger, some(400))]
        points = await reader.latencies("r0", BEGIN, BEGIN + 3 * DAY, 12)
    for point in points:
        within = [it for it in rows if it.route == "r0" and point.begin <= it.started < point.begin + DAY / 4]
        ranked = latencies(within)
        assert point[1:] == (len(ranked), ranked[0], ranked[(len(ranked) - 1) // 2], ranked[-1])
    assert sum(point.number for point in points) == len(latencies([it for it in rows if it.route == "r0"]))


async def test_pages_of_probes_come_newest_first_and_miss_none(path: Path) -> None:
    async with opened(path) as (ledger, reader):
        lives = [*some(100), *(live(number, "r0", 5.0, PATHS[State.DELIVERED]) for number in range(500, 520))]
        rows = [summary(probe) for probe in await write(ledger, lives)]
        mine = sorted((it for it in rows if it.route == "r0"), key=lambda it: (it.started, it.probe), reverse=True)
        found: list[Summary] = []
        before = float("inf"), ""
        while page := await reader.probes("r0", before, limit=7):
            found += page
            before = page[-1].started, page[-1].probe
        assert found == mine
        assert await reader.probes("r0", late=True) == [it for it in mine if it.missed is not None]
        lost = [it for it in mine if it.state in {State.LOST, State.FOUND}]
        assert await reader.probes("r0", states=[State.LOST, State.FOUND]) == lost
        assert await reader.routes() == ["r0", "r1", "r2"]


async def test_evidence_is_all_that_was_not_as_it_should_be_with_all_its_events(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.ledger.reading._EVIDENCE_AT_ONCE", 10)
    lives = some(200)
    async with opened(path) as (ledger, reader):
        rows = [summary(probe) for probe in await write(ledger, lives)]
        found = [life async for life in reader.evidence("r1", BEGIN + DAY, BEGIN + 3 * DAY)]
        wanted = [
            it
            for it in rows
            if it.route == "r1"
            and it.started >= BEGIN + DAY
            and (it.missed is not None or it.status or it.state in {State.LOST, State.FOUND})
        ]
        assert [life.summary for life in found] == sorted(wanted, key=lambda it: it.started)
        by_name = {life[0].probe: life for life in lives}
        assert all([typed(*event) for event in life.events] == by_name[life.summary.probe] for life in found)
        assert await reader.life(found[0].summary.probe) == found[0]
        assert await reader.life("no such probe") is None


# -- the chain ---------------------------------------------------------------------------------------------------------


async def test_every_finished_probe_is_a_link_and_its_record_comes_from_its_events(path: Path) -> None:
    async with opened(path) as (ledger, reader):
        probes = await write(ledger, some(200))
        for route in ("r0", "r1", "r2"):
            days = await reader.days(route, 0.0, BEGIN + 99 * DAY)
            links = links_of(reader.path, route, 0, days[-1].number)
            mine = [probe.id for probe in probes if probe.route == route and probe.state not in OPEN]
            assert sorted(it.probe for it in links) == sorted(mine)
            lives = [await reader.life(name) for name in mine]
            records = {life.summary.probe: [life.record] for life in lives if life}
            assert verify(genesis(await reader.ledger(), route), links, records, days[-1].head) is None
            for day in days:
                assert links[day.number - 1].link == day.head


async def test_what_happens_to_a_finished_probe_later_is_chained_as_another_record(path: Path) -> None:
    events = live(1, "r", 0.0, [sending(), accepted(), expired(), arrived(2 * DAY)])
    async with opened(path) as (ledger, reader):
        await ledger.commit(events[:3], [make_probe(*events[:3])], (), [events[0].probe])
        before = await reader.life(events[0].probe)
        await ledger.commit(events[3:], [make_probe(*events)], (), [events[0].probe])
        after = await reader.life(events[0].probe)
        assert before is not None
        assert after is not None
        assert [it.number for it in after.links] == [1, 2]
        assert after.links[:1] == before.links
        assert [it.digest for it in after.links] == [digest(before.record), digest(after.record)]
        days = await reader.days("r", BEGIN, BEGIN + 9 * DAY)
        assert [(day.begin - BEGIN, day.number) for day in days] == [(0.0, 1), (2 * DAY, 2)]


async def test_an_event_that_was_changed_in_the_file_does_not_fit_its_link(path: Path) -> None:
    async with opened(path) as (ledger, reader):
        await write(ledger, some(20))
    with closing(sqlite3.connect(path)) as db:
        [(probe,)] = db.execute("SELECT probe FROM summaries WHERE state = 'delivered' LIMIT 1")
        db.execute(
            "UPDATE events SET record = replace(record, '250', '251') WHERE probe = ? AND kind = 'Accepted'", (probe,)
        )
        db.commit()
    async with opened(path) as (ledger, reader):
        life = await reader.life(probe)
        assert life is not None
        links = links_of(reader.path, life.summary.route, 0, 999)
        broken = verify(genesis(await reader.ledger(), life.summary.route), links, {probe: [life.record]})
        assert broken is not None
        assert broken.number == life.links[-1].number


async def test_forgetting_leaves_days_heads_and_a_chain_that_holds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_FORGET_AT_ONCE", 7)
    async with opened(path) as (ledger, reader):
        lives = [life for life in some(300, days=6.0) if make_probe(*life).state not in OPEN]
        for life in sorted(lives, key=lambda life: life[0].at):
            await ledger.commit(life, [make_probe(*life)], (), [life[0].probe])
        days = await reader.days("r0", 0.0, BEGIN + 99 * DAY)
        strip = await reader.strip(BEGIN, BEGIN + 6 * DAY, 6)
        while await ledger.forget(BEGIN + 4.5 * DAY, 10**9, 0.0):
            pass
        assert await reader.strip(BEGIN, BEGIN + 6 * DAY, 6) == strip
        assert await reader.days("r0", 0.0, BEGIN + 99 * DAY) == days
        finished = await reader.probes("r0", limit=999)
        assert min(it.started for it in finished) > BEGIN + 4.5 * DAY
        links = links_of(reader.path, "r0", 0, days[-1].number)
        heads = {day.number: day.head for day in days}
        assert links[0].number > 1
        assert verify(heads[links[0].number - 1], links, {}, days[-1].head) is None
        assert {it.probe for it in finished} <= {it.probe for it in links}
        # and it goes on from there
        await write(ledger, [live(9999, "r0", 7.0 * DAY, PATHS[State.DELIVERED])])
        last = (await reader.days("r0", 0.0, BEGIN + 99 * DAY))[-1]
        more = links_of(reader.path, "r0", links[0].number - 1, last.number)
        assert verify(heads[links[0].number - 1], more, {}, last.head) is None


# -- incidents and memory ----------------------------------------------------------------------------------------------


async def test_incidents_are_kept_as_they_are_by_now_and_found_by_span_and_route(path: Path) -> None:
    async with opened(path) as (ledger, reader):
        first = IncidentRow("a", "r0", "late", 100.0, None, {"peak": 7, "held": ["x"]})
        second = IncidentRow("b", "r1", "refused", 200.0, 300.0, {})
        await ledger.save([first, second])
        assert await reader.incidents(0.0, 1000.0) == [first, second]
        assert await reader.incidents(301.0, 1000.0) == [first]
        assert await reader.incidents(0.0, 150.0) == [first]
        assert await reader.incidents(0.0, 1000.0, "r1") == [second]
        await ledger.save([ended := first._replace(end=150.0)])
        assert await reader.incidents(0.0, 1000.0) == [ended, second]
        assert await reader.incidents(151.0, 1000.0) == [second]


async def test_what_is_remembered_is_there_after_a_restart(path: Path) -> None:
    async with opened(path) as (ledger, _):
        await ledger.save(memory={"tracker/r_0": {"state": "ok", "since": [1.5, None]}, "tracker/rx0": 1, "other": []})
        await ledger.save(memory={"tracker/rx0": 2})
    async with opened(path) as (ledger, _):
        assert await ledger.memory("tracker/") == {
            "tracker/r_0": {"state": "ok", "since": [1.5, None]},
            "tracker/rx0": 2,
        }
        assert await ledger.memory("tracker/r_") == {"tracker/r_0": {"state": "ok", "since": [1.5, None]}}
        assert (await ledger.memory())["other"] == []


# -- older ledgers -----------------------------------------------------------------------------------------------------


def older(path: Path, version: int, events: Iterable[Event]) -> None:
    """A ledger as that version would have written it."""
    probes: dict[str, Probe] = {}
    with closing(sqlite3.connect(path)) as db:
        for script in SCHEMA[:version]:
            db.executescript(script)
        db.execute(f"PRAGMA user_version = {version}")
        for event in events:
            probes[event.probe] = advance(probes.get(event.probe), event)
            db.execute("INSERT INTO events (probe, kind, at, record) VALUES (?, ?, ?, ?)", row(event))
        rows = [(probe.id, probe.route, probe.state, probe.started.wall) for probe in probes.values()]
        db.executemany("INSERT INTO probes VALUES (?, ?, ?, ?)", rows)
        db.commit()


async def told_of(reader: Reader) -> list[object]:
    """All that must be the same whoever made it; the order in a chain is not among that."""
    routes = await reader.routes()
    spans = [(name, BEGIN, BEGIN + 3 * DAY) for name in routes]
    chains = [sorted((it.probe, it.digest) for it in links_of(reader.path, name, 0, 10**9)) for name in routes]
    strips = [await reader.strip(BEGIN, BEGIN + 3 * DAY, cells) for cells in (3, 72, 200)]
    return [routes, await reader.counts(), [await reader.totals(*span) for span in spans], strips, chains]


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
async def test_an_older_ledger_is_caught_up_with_until_nothing_tells_it_from_a_new_one(
    path: Path, tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaining, "_AT_ONCE", 16)
    lives = some(200)
    async with opened(tmp_path / "new.sqlite") as (ledger, new):
        await write(ledger, lives)
        wanted = await told_of(new)
    older(path, version, chain.from_iterable(lives))
    async with opened(path) as (ledger, reader):
        assert await reader.caught_up() == 0.0
        # What happens meanwhile is not lost, and not counted twice.
        await ledger.commit([], [make_probe(*lives[150])])
        while await ledger.catch_up(BEGIN + 9 * DAY, BEGIN + 9 * DAY):
            pass
        while await ledger.catch_up(BEGIN + 9 * DAY, BEGIN + 9 * DAY):
            pass
        assert await reader.caught_up() is None
        assert await told_of(reader) == wanted
        assert len(await ledger.unfinished()) == sum(make_probe(*life).state in OPEN for life in lives)
        for route in await reader.routes():
            [head] = await reader.days(route, 0.0, BEGIN + 99 * DAY)
            links = links_of(reader.path, route, 0, head.number)
            assert verify(genesis(await reader.ledger(), route), links, {}, head.head) is None


KILLED = """
import asyncio, os, signal
from pathlib import Path
from probe.ledger import Ledger, chaining

async def main():
    chaining._AT_ONCE = 16
    ledger = Ledger(Path({path!r}))
    for _ in range({steps}):
        await ledger.catch_up({settled}, {settled})
    extend, left = chaining.extend, [5]
    def deadly(*args):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        extend(*args)
    chaining.extend = deadly
    await ledger.catch_up({settled}, {settled})

asyncio.run(main())
"""


async def test_catching_up_goes_on_where_it_was_killed(path: Path, tmp_path: Path) -> None:
    lives, settled = some(100), BEGIN + 9 * DAY
    async with opened(tmp_path / "new.sqlite") as (ledger, new):
        await write(ledger, lives)
        wanted = await told_of(new)
    older(path, 2, chain.from_iterable(lives))
    for steps in (0, 1, 3):
        code = KILLED.format(path=str(path), steps=steps, settled=settled)
        ended = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], cwd=ROOT, check=False)
        assert ended.returncode == -signal.SIGKILL
    async with opened(path) as (ledger, reader):
        assert await reader.caught_up() not in {0.0, None}
        while await ledger.catch_up(settled, settled) or await reader.caught_up() is not None:
            pass
        assert await told_of(reader) == wanted


@pytest.mark.parametrize("settled", [0.0, 9 * DAY])  # the sweep comes days after it, or nothing is left for it
async def test_what_finishes_while_an_older_ledger_is_caught_up_with_is_chained_once(
    path: Path, settled: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaining, "_AT_ONCE", 16)
    older(path, 2, chain.from_iterable(live(n, "r", float(n), PATHS[State.DELIVERED]) for n in range(20)))
    async with opened(path) as (ledger, reader):
        await ledger.catch_up(BEGIN + settled, BEGIN + 60.0)
        events = live(20, "r", 20.0, PATHS[State.DELIVERED])
        await ledger.commit(events, [make_probe(*events)], (), [events[0].probe])
        for at in (settled, 9 * DAY):
            while await ledger.catch_up(BEGIN + at, BEGIN + 9 * DAY) or await reader.caught_up() is not None:
                pass
        life = await reader.life(events[0].probe)
        assert life is not None
        assert len(life.links) == 1


async def test_a_finished_probe_that_was_not_chained_is_chained_when_it_is_settled(path: Path) -> None:
    async with opened(path) as (ledger, reader):
        events = live(1, "r", 0.0, PATHS[State.DELIVERED])
        flying = live(2, "r", 0.0, PATHS[State.ACCEPTED])
        await ledger.commit([*events, *flying], [make_probe(*events), make_probe(*flying)])
        assert await ledger.catch_up(BEGIN, BEGIN + 50.0) == 0
        assert await ledger.catch_up(BEGIN + 1.0, BEGIN + 50.0) == 1
        assert await ledger.catch_up(BEGIN + 1.0, BEGIN + 50.0) == 0
        assert [it.probe for it in links_of(reader.path, "r", 0, 9)] == [events[0].probe]


async def test_what_cannot_be_read_of_an_older_ledger_keeps_nothing_else_from_being_caught_up_with(path: Path) -> None:
    lives = some(20)
    older(path, 1, chain.from_iterable(lives))
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE events SET record = 'scribble' WHERE probe = ?", (lives[3][0].probe,))
        db.commit()
    async with opened(path) as (ledger, reader):
        while await ledger.catch_up(BEGIN + 9 * DAY, BEGIN + 9 * DAY) or await reader.caught_up() is not None:
            pass
        found = [it.probe for route in await reader.routes() for it in await reader.probes(route)]
        assert sorted(found) == sorted(life[0].probe for life in lives if life is not lives[3])


# -- beside the writer -------------------------------------------------------------------------------------------------


READ = """
import asyncio, sys
from pathlib import Path
from probe.ledger import LedgerError, Reader

async def main():
    try:
        reader = Reader(Path(sys.argv[1]))
        for name in sys.stdin:
            print(await reader.life(name.strip()) is not None, flush=True)
        reader.close()
    except LedgerError as error:
        print(error)

asyncio.run(main())
"""


async def test_another_process_reads_what_was_committed_a_moment_ago_while_the_daemon_goes_on(path: Path) -> None:
    async with opened(path) as (ledger, _):
        await ledger.commit([sending()], [make_probe(sending())])
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", READ, str(path)), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin
        assert process.stdout
        for number, known in ((0, True), (7, False), (7, True)):
            name = f"{number:016x}" if number else PROBE
            if known and number:
                await ledger.commit([sending(probe=name)], [make_probe(sending(probe=name))])
            process.stdin.write(f"{name}\n".encode())
            assert await process.stdout.readline() == f"{known}\n".encode()
        process.stdin.close()
        assert await process.wait() == 0


async def test_the_ledger_of_a_daemon_that_was_killed_can_be_read_at_once(path: Path) -> None:
    code = (
        "import os, signal, asyncio; from pathlib import Path; from probe.ledger import Ledger;"
        "from tests.make import make_probe, sending;"
        f"ledger = Ledger(Path({str(path)!r})); asyncio.run(ledger.commit([sending()], [make_probe(sending())]));"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], cwd=ROOT, check=False)
    reader = await asyncio.to_thread(Reader, path)
    assert await reader.life(PROBE) is not None
    await asyncio.to_thread(reader.close)


async def test_a_reader_changes_nothing(path: Path) -> None:
    async with opened(path) as (ledger, _):
        await write(ledger, some(20))
    before = path.read_bytes()
    reader = await asyncio.to_thread(Reader, path)
    with pytest.raises(LedgerError, match="readonly"):
        await reader._call(lambda db: db.execute("DELETE FROM events"))
    await reader.totals("r0", 0.0, 2e9)
    await asyncio.to_thread(reader.close)
    assert path.read_bytes() == before


async def test_readers_that_never_pause_do_not_let_the_log_grow(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = path.with_name(path.name + "-wal")
    async with opened(path) as (ledger, reader):
        await write(ledger, some(300))

        async def read() -> None:
            while True:
                await reader.totals("r0", 0.0, 2e9)

        reading = asyncio.create_task(read())
        biggest = 0
        for number in range(150):
            events = [
                dataclasses.replace(it, reply=it.reply._replace(text="x" * 2000)) if hasattr(it, "reply") else it
                for index in range(100)
                for it in live(10_000 + number * 100 + index, "r0", 9.0 * DAY, PATHS[State.ACCEPTED])
            ]
            await ledger.commit(events, [])
            biggest = max(biggest, log.stat().st_size)
        reading.cancel()
        await asyncio.wait([reading])
        assert path.stat().st_size > 30e6
        assert biggest < 20e6


async def test_a_question_that_takes_too_long_is_given_up_and_the_next_one_is_answered(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(path) as (ledger, questions):
        await ledger.commit([sending()], [make_probe(sending())])
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
        monkeypatch.setattr(questions, "_patience", 0.0)
        with pytest.raises(LedgerError, match="no answer within 0 s; ask for a shorter span"):
            await questions._call(lambda db: db.execute(endless).fetchone())
        monkeypatch.undo()
        assert await questions.life(PROBE) is not None


def refusal(path: Path) -> str:
    with pytest.raises(LedgerError) as raised:
        Reader(path)
    text = str(raised.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def test_what_cannot_be_read_is_refused_in_one_line(path: Path) -> None:
    assert "there is no ledger" in refusal(path)
    assert not list(path.parent.iterdir())
    older(path, 2, [])
    assert "written by an older mailprobe (schema 2" in refusal(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    assert "written by a newer mailprobe (schema 99" in refusal(path)
    path.write_bytes(b"Dear reader, this is no database. " * 100)
    assert "damaged (file is not a database)" in refusal(path)
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE recipes (name TEXT)")
    assert "another program's database" in refusal(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_who_may_not_read_it_is_told_so(path: Path) -> None:
    Ledger(path).close()
    for mode in (0o755, 0o700):
        with tempfile.TemporaryDirectory(dir="/tmp") as open_to_all:
            Path(open_to_all).chmod(mode)
            theirs = path.rename(Path(open_to_all) / path.name)
            os.seteuid(65534)
            try:
                assert refusal(theirs) == f"{theirs}: may not be read by this user; try again as root"
            finally:
                os.seteuid(0)
            theirs.rename(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_root_may_read_it_and_the_daemons_user_goes_on() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chown(directory, 65534, 65534)
        path = Path(directory) / "ledger.sqlite"
        for _ in range(2):
            os.seteuid(65534)
            try:
                ledger = Ledger(path)
                if not await ledger.find(PROBE):
                    await ledger.commit([sending()], [make_probe(sending())])
                ledger.close()
            finally:
                os.seteuid(0)
            reader = Reader(path)
            assert await reader.life(PROBE) is not None
            reader.close()
        assert {file.stat().st_uid for file in path.parent.iterdir()} == {65534}


def test_the_ledger_and_its_lock_are_for_its_user_alone(path: Path) -> None:
    ledger = Ledger(path)
    try:
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
    finally:
        ledger.close()


async def test_the_ledger_that_the_bench_makes_is_one_that_a_daemon_could_have_written(path: Path) -> None:
    until = BEGIN + 5 * DAY
    await asyncio.to_thread(years.make, path, 3, 900, until)
    async with opened(path) as (ledger, reader):
        found: dict[str, Summary] = {}
        for probe in every_probe(ledger):
            life = await reader.life(probe.id)
            assert life is not None
            found[probe.id] = life.summary
            assert life.summary.latency == pytest.approx(probe.latency)
            assert life.summary == summary(probe)._replace(latency=life.summary.latency)
            assert life.links[-1].digest == digest(life.record)
        assert len(found) == 900
        assert sum((await ledger.counts()).values()) == 900
        assert len({it.state for it in found.values()}) > 3
        for route in await reader.routes():
            *_, head = await reader.days(route, 0.0, until + 9 * DAY)
            links = links_of(reader.path, route, 0, 10**9)
            assert verify(genesis(await reader.ledger(), route), links, {}, head.head) is None
        cells = await reader.strip(BEGIN, until, 5 * 24)
        assert cells == told(list(found.values()), HOUR)
