"""A ledger of years: made quickly, and asked what pages and reports ask, while it is being written.

    python -m tests.bench.years FILE [--routes 1000] [--probes 5000000]     makes it, or takes what is there

The first route has a probe a minute, for a year where there are enough; the others share the rest, a minute apart, too.
Rows are templates, made by the ledger's own functions from events with numbers that are then replaced; tables, indexes,
cells and chain are the ledger's. Asked are the questions of a page with all routes, and of a report on the first one.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from probe.core import chain
from probe.core.events import (
    Accepted,
    Arrived,
    Bounced,
    Event,
    Expired,
    Instant,
    Judged,
    Part,
    Place,
    Rejected,
    Reply,
    Sending,
    Stay,
    Traced,
)
from probe.core.history import DAY, summary
from probe.core.written import fields
from probe.ledger import Ledger, Reader
from probe.ledger.chaining import route_id
from probe.ledger.file import open_to_write, transaction
from probe.ledger.records import row
from probe.ledger.schema import COUNTED

from ..make import make_probe
from .numbers import Spread, spread, table

YEAR = 525_600  # minutes
_AT_ONCE = 20_000  # probes

# -- lives as templates ----------------------------------------------------------------------------------------------

# What stands for what differs from probe to probe; it occurs nowhere else.
_PROBE, _ROUTE, _UID = "PROBE", "ROUTE", 4444444
_START, _TAKEN, _SEEN = 1000000001.5, 1000000002.5, 1000000003.5
_BOOTED = 999000000.25


class Kind(NamedTuple):
    """One course that a probe takes: how many of all do, with what latencies (s), and what is on record of it, with
    places for the operator % to fill."""

    share: float
    latencies: tuple[float, float]
    events: list[tuple[str, str, str]]  # kind, which time, record
    record: str
    state: str
    summary: tuple[object, ...]  # what follows the latency


def kinds() -> list[Kind]:
    """All courses."""
    found = []
    for share, latencies, events in _lives():
        rows = [(kind, _place(repr(at))[2:-2], _place(record)) for _, kind, at, record in map(row, events)]
        record = chain.record(_PROBE, [(type(event).__name__, fields(event)) for event in events]).decode()
        _, _, _, state, _, _, _, *rest = summary(make_probe(*events))
        found.append(Kind(share, latencies, rows, _place(record), state.value, tuple(rest)))
    return found


def _lives() -> Iterator[tuple[float, tuple[float, float], list[Event]]]:
    start, taken, seen = (Instant(wall, wall - _BOOTED, "8c1fd1f6-5d21-4d0c") for wall in (_START, _TAKEN, _SEEN))
    place = Place("own", "INBOX", 1_700_000_000, _UID)
    stages = ("resolve", 0.0012), ("connect", 0.0213), ("tls", 0.0401), ("auth", 0.0312), ("data", 0.1234)
    parts = (
        Part("submission", 0.2, 0.2),
        Part("sender", 0.0, 1.2),
        Part("recipient", 0.1, 0.9),
        Part("mailbox", 0.0, 0.4),
    )
    stays = Stay("mout.provider.example", 0.0, 1.2), Stay("mx.other.example", 0.1, 0.9)
    sent = Sending(_PROBE, start, _ROUTE, start, "probe@provider.example", "probe@other.example")
    ok = Accepted(_PROBE, taken, Reply(250, "2.0.0", "Ok: queued as 4F1XbZ3Q2kz9sR"), "4F1XbZ3Q2kz9sR", stages)
    came = Arrived(_PROBE, seen, place, "inbox", "idle", taken, 1000000003.25)
    way = Traced(
        _PROBE, seen, parts, stays, (("spf", "pass"), ("dkim", "pass"), ("dmarc", "pass")), ("X-Spam-Flag: NO",)
    )
    judged = [[Judged(_PROBE, seen, deadline, met) for deadline in (30.5, 300.5)] for met in (False, True)]
    no = Rejected(_PROBE, taken, "data", Reply(554, "5.7.1", "refused by policy"), stages)
    yield 0.98, (0.3, 8.0), [sent, ok, came, way, *judged[True]]
    yield 0.008, (31.0, 299.0), [sent, ok, judged[False][0], came, way, judged[True][1]]
    yield 0.003, (5 * DAY, 5 * DAY), [sent, ok, *judged[False], Expired(_PROBE, seen)]
    yield (
        0.003,
        (1.0, 9.0),
        [sent, ok, Bounced(_PROBE, seen, place, "5.1.1", "no such user", "mx.example"), *judged[False]],
    )
    yield 0.006, (0.0, 0.0), [sent, no]


def _place(text: str) -> str:
    text = (
        text.replace("%", "%%").replace(_PROBE, "%(probe)s").replace(_ROUTE, "%(route)s").replace(str(_UID), "%(uid)d")
    )
    for wall, name in ((_START, "start"), (_TAKEN, "taken"), (_SEEN, "seen")):
        text = text.replace(repr(wall), f"%({name})s").replace(repr(wall - _BOOTED), f"%({name}_boot)s")
    return text


_CELL = "size, route, CAST(started / size AS INTEGER) * size"
_SIZES = "(SELECT 3600 AS size UNION ALL SELECT 86400)"
_CELLS = f"INSERT INTO cells SELECT {_CELL}, {COUNTED} FROM summaries, {_SIZES} GROUP BY 1, 2, 3"  # noqa: S608 - ours

# -- making it -------------------------------------------------------------------------------------------------------


def make(path: Path, routes: int, probes: int, until: float, seed: int = 1, every: float = 60.0) -> None:
    """A ledger of so many finished probes, `every` so many seconds of a route one, the last just before `until`."""
    db, lock = open_to_write(path)
    assert lock is not None
    rng, all_kinds = random.Random(seed), kinds()
    first = min(YEAR, probes // 2) if routes > 1 else probes
    with closing(db):
        db.executescript("PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000; PRAGMA wal_autocheckpoint = 100000")
        indexes = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL").fetchall()
        for name, _ in indexes:
            db.execute(f"DROP INDEX {name}")
        for number in range(routes):
            share = first if number == 0 else (probes - first) // (routes - 1)
            with transaction(db):
                _fill(db, route_name(number), share, until - rng.random() * every, every, rng, all_kinds)
        for _, sql in indexes:
            db.execute(sql)
        with transaction(db):
            db.execute(_CELLS)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    os.close(lock)


def route_name(number: int) -> str:
    """Of the first, which has most probes, it is 0."""
    return f"route-{number:04d}"


def _fill(
    db: sqlite3.Connection,
    route: str,
    number: int,
    until: float,
    every: float,
    rng: random.Random,
    all_kinds: list[Kind],
) -> None:
    """So many probes, so many seconds apart, of one route."""
    id_ = route_id(db, route)
    link = db.execute("SELECT link FROM routes WHERE id = ?", (id_,)).fetchone()[0]
    taken = rng.choices(all_kinds, [kind.share for kind in all_kinds], k=number)
    day = 0.0
    for begin in range(0, number, _AT_ONCE):
        events, summaries, links, heads = [], [], [], {}
        for place in range(begin, min(begin + _AT_ONCE, number)):
            kind = taken[place]
            latency = round(rng.uniform(*kind.latencies), 3)
            values = _values(f"{rng.getrandbits(64):016x}", route, place, until - every * (number - place), latency)
            probe, start, seen = values["probe"], values["start"], values["seen"]
            events += [(probe, name, values[at], text % values) for name, at, text in kind.events]
            arrived = seen if kind.state == "delivered" else None
            answerable = None if kind.state == "rejected" else values["taken"]
            measured = None if arrived is None else latency
            summaries.append((id_, start, probe, kind.state, answerable, arrived, measured, *kind.summary, 0))
            digest = chain.digest((kind.record % values).encode())
            link = chain.link(link, digest)
            day = max(day, seen // DAY * DAY)  # by the order of starting: good enough for a chain
            links.append((id_, place + 1, probe, seen, digest, link))
            heads[day] = (id_, day, place + 1, link)
        db.executemany("INSERT INTO events (probe, kind, at, record) VALUES (?, ?, ?, ?)", events)
        db.executemany("INSERT INTO summaries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", summaries)
        db.executemany("INSERT INTO probes VALUES (?, ?, ?, ?)", [(it[2], route, it[3], it[1]) for it in summaries])
        db.executemany("INSERT INTO chain VALUES (?, ?, ?, ?, ?, ?)", links)
        db.executemany("INSERT OR REPLACE INTO heads VALUES (?, ?, ?, ?)", heads.values())
    db.execute("UPDATE routes SET number = ?, link = ? WHERE id = ?", (number, link, id_))


def _values(probe: str, route: str, uid: int, start: float, latency: float) -> dict[str, Any]:
    """For a template. No time is a whole number: there JSON as Python writes it and RFC 8785 would differ."""
    times = {"start": start, "taken": start + 0.257, "seen": start + 0.257 + latency}
    walls = {name: round(at, 3) + 0.0004 for name, at in times.items()}
    boots = {f"{name}_boot": at - _BOOTED for name, at in walls.items()}
    rounded = {name: round(at, 4) for name, at in (walls | boots).items()}
    return {"probe": probe, "route": route, "uid": uid, **rounded}


# -- asking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Years:
    """Seconds for each question; of the loop's stalls and the writer's commits in ms, at rest and while asked."""

    routes: int
    probes: int
    octets: int  # per probe
    asked: dict[str, float]
    stalls: dict[str, Spread | None]
    commits: dict[str, Spread | None]


async def measure(path: Path, until: float) -> Years:
    """Ask everything, while events are committed 20 times a second."""
    ledger, reader = await asyncio.to_thread(Ledger, path), await asyncio.to_thread(Reader, path)
    try:
        stalls, commits, asked = {}, {}, {}
        for name, question in _questions(reader, until):
            async with _disturbed(ledger, until) as felt:
                began = time.perf_counter()
                await question()
                asked[name] = time.perf_counter() - began
            stalls[name], commits[name] = felt.stalls(), felt.commits()
        number = sum((await ledger.counts()).values())
        return Years(len(await reader.routes()), number, await ledger.size() // number, asked, stalls, commits)
    finally:
        await asyncio.to_thread(reader.close)
        await asyncio.to_thread(ledger.close)


def _questions(reader: Reader, until: float) -> Iterator[tuple[str, Callable[[], Awaitable[object]]]]:
    hour, day = until // 3600 * 3600 + 3600, until // DAY * DAY + DAY
    one, year = route_name(0), until - 366 * DAY

    async def evidence() -> int:
        return sum([len(life.record) async for life in reader.evidence(one, year, until)])

    async def chained() -> int:
        days = await reader.days(one, year, until)
        return sum([len(await reader.links(one, before.number, head.number)) for before, head in pairwise(days)])

    # What the machine does to a loop that has nothing to do, and to one beside a thread that only computes.
    yield "nothing", lambda: asyncio.sleep(3.0)
    yield "SHA-256 for a while", lambda: asyncio.to_thread(hashlib.pbkdf2_hmac, "sha256", b"", b"", 6_000_000)
    yield "standings", reader.standings
    yield "24 h of all routes", lambda: reader.strip(hour - DAY, hour, 24)
    yield "24 h of all routes, again", lambda: reader.strip(hour - DAY, hour, 24)
    yield "7 d of all routes", lambda: reader.strip(hour - 7 * DAY, hour, 84)
    yield "90 d of all routes", lambda: reader.strip(day - 90 * DAY, day, 90)
    yield "a day's chart", lambda: reader.latencies(one, until - DAY, until, 720)
    yield "a year's chart", lambda: reader.latencies(one, year, until, 720)
    yield "a page of probes", lambda: reader.probes(one)
    yield "a page of late ones", lambda: reader.probes(one, late=True)
    yield "a route-year's totals", lambda: reader.totals(one, year, until)
    yield "a route-year's evidence", evidence
    yield "a route-year's chain", chained


class _Felt(NamedTuple):
    gaps: list[float]
    waits: list[float]

    def stalls(self) -> Spread | None:
        return spread(1e3 * (gap - _TICK) for gap in self.gaps)

    def commits(self) -> Spread | None:
        return spread(1e3 * wait for wait in self.waits)


_TICK = 0.002


@asynccontextmanager
async def _disturbed(ledger: Ledger, until: float) -> AsyncIterator[_Felt]:
    """What loop and writer feel meanwhile."""
    felt = _Felt([], [])

    async def tick() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(_TICK)
            felt.gaps.append(time.perf_counter() - began)

    async def write() -> None:
        while True:
            event = Sending(
                f"{random.getrandbits(64):016x}", Instant(until, 1.0, "b"), "live", Instant(until, 1.0, "b"), "a", "b"
            )
            began = time.perf_counter()
            await ledger.commit([event], [make_probe(event)])
            felt.waits.append(time.perf_counter() - began)
            await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(tick()), asyncio.create_task(write())]
    try:
        yield felt
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def made_and_measured(path: Path, routes: int, probes: int) -> Years:
    """A ledger of so much, if it is not there yet, asked."""
    until = 1_790_000_000.0  # the same ledger each time
    if not path.exists():
        make(path, routes, probes, until)
    return asyncio.run(measure(path, until))


def report(got: Years) -> list[str]:
    """For people."""
    rows = [
        [name, f"{got.asked[name]:.3f}" if name in got.asked else "", _most(got.stalls[name]), _most(got.commits[name])]
        for name in got.stalls
    ]
    return [
        f"LEDGER  {got.probes} probes of {got.routes} routes, {got.octets} octets each",
        *table(("", "s", "longest stall, ms", "longest commit, ms"), rows),
    ]


def _most(numbers: Spread | None) -> str:
    return f"{numbers.max:.1f}" if numbers else "–"


def main() -> None:
    """Make it, where there is none; ask."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.years", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--routes", type=int, default=1000)
    parser.add_argument("--probes", type=int, default=5_000_000)
    options = parser.parse_args()
    print("\n".join(report(made_and_measured(options.file, options.routes, options.probes))))


if __name__ == "__main__":
    main()
