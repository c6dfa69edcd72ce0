"""Summaries and chain, kept up with the events in the writer's transaction.

Rules:
- By how much a probe's row changes, its cells change: they always add up to the summaries.
- A record is chained when nothing is ahead of its probe, and anew when something happens to it all the same.
- What an older version wrote, or a crash kept from being chained, is caught up with a little at a time: each step is
  one transaction that remembers where it ended.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable

from probe.core import chain
from probe.core.history import DAY, HOUR, Summary, summary
from probe.core.state import OPEN
from probe.ledger.file import transaction
from probe.ledger.records import load, log
from probe.ledger.replaying import Replaying, Today
from probe.ledger.schema import COUNTS_AS, IS_OPEN, SUMMARISED, WORST

_AT_ONCE = 100  # probes; the writer thread is held for some 50 ms
_KEY = "route = ? AND started = ? AND probe = ?"
_COLUMNS = [name for name in Summary._fields if name not in {"route", "started", "probe"}]
_UPSERT = "INSERT INTO summaries ({}) VALUES ({}) ON CONFLICT DO UPDATE SET {}, pending = 1".format(
    ", ".join(Summary._fields),
    ", ".join("?" * len(Summary._fields)),
    ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS),
)
_COUNT = f"SELECT {', '.join(COUNTS_AS.values())}, {WORST} FROM summaries WHERE {_KEY}"
_NOTHING = (*[0] * len(COUNTS_AS), None)
# What was worst stays: a latency is never measured anew.
_ADD = "INSERT INTO cells VALUES (?, ?, ?, {}, ?) ON CONFLICT DO UPDATE SET {}, worst = {}".format(
    ", ".join("?" * len(COUNTS_AS)),
    ", ".join(f"{name} = {name} + excluded.{name}" for name in COUNTS_AS),
    "max(ifnull(worst, excluded.worst), ifnull(excluded.worst, worst))",
)


def summarise(db: sqlite3.Connection, summaries: Iterable[Summary], finished: Collection[str], at: float) -> None:
    """Put these summaries and what they add to their cells on record, and chain those that are `finished`, at this Unix
    time. Within the caller's transaction."""
    rows = [(route_id(db, it.route), *it[1:]) for it in summaries]
    keys = [(route, started, probe) for route, started, probe, *_ in rows]
    before = [db.execute(_COUNT, key).fetchone() or _NOTHING for key in keys]
    db.executemany(_UPSERT, rows)
    for key, old in zip(keys, before, strict=True):
        new = db.execute(_COUNT, key).fetchone()
        if new != old:
            added = [n - o for n, o in zip(new[:-1], old[:-1], strict=True)]
            cells = [(size, key[0], key[1] // size * size, *added, new[-1]) for size in (HOUR, DAY)]
            db.executemany(_ADD, cells)
        if key[2] in finished:
            extend(db, key, at)


def route_id(db: sqlite3.Connection, name: str) -> int:
    """The number by which the tables know this route; its chain begins when it gets one."""
    found = db.execute("SELECT id FROM routes WHERE name = ?", (name,)).fetchone()
    if not found:
        ledger = db.execute("SELECT value FROM about WHERE name = 'ledger'").fetchone()[0]
        new = "INSERT INTO routes (name, number, link) VALUES (?, 0, ?) RETURNING id"
        found = db.execute(new, (name, chain.genesis(ledger, name))).fetchone()
    return int(found[0])


def extend(db: sqlite3.Connection, key: tuple[int, float, str], at: float) -> None:
    """Make what is on record of the probe the next link of its route's chain."""
    route, _, probe = key
    rows = db.execute("SELECT kind, record FROM events WHERE probe = ? ORDER BY seq", (probe,)).fetchall()
    db.execute(f"UPDATE summaries SET pending = 0 WHERE {_KEY}", key)
    try:
        digest = chain.digest(chain.record(probe, [(kind, json.loads(record)) for kind, record in rows]))
    except (ValueError, TypeError):  # a rescued file, say
        log.exception("the record of probe %s in the ledger cannot be read; it is not chained", probe)
        return
    number, before = db.execute("SELECT number + 1, link FROM routes WHERE id = ?", (route,)).fetchone()
    link = chain.link(before, digest)
    db.execute("INSERT INTO chain VALUES (?, ?, ?, ?, ?, ?)", (route, number, probe, at, digest, link))
    db.execute("UPDATE routes SET number = ?, link = ? WHERE id = ?", (number, link, route))
    db.execute("INSERT OR REPLACE INTO heads VALUES (?, ?, ?, ?)", (route, at // DAY * DAY, number, link))


def catch_up(db: sqlite3.Connection, replaying: Replaying, settled: float, at: float, today: Today) -> int:
    """Summarise and chain some probes that are not yet, and find some of their incidents; how much was looked at.
    Nothing is ahead of those that are not open and were started before `settled`. `today`: see replaying.py."""
    noted = db.execute("SELECT name, value FROM about WHERE name IN ('caught_up', 'replayed')")
    marks = {name: json.loads(value) for name, value in noted}
    if not marks:
        return _sweep(db, settled, at)
    looked = _migrate(db, marks["caught_up"], settled, at) if "caught_up" in marks else 0
    return looked + (replaying.step(db, marks["replayed"], today) if "replayed" in marks else 0)


def _migrate(db: sqlite3.Connection, mark: list[object], settled: float, at: float) -> int:
    some = "SELECT id, started FROM probes WHERE (started, id) > (?, ?) ORDER BY started, id LIMIT ?"
    args = (*mark, _AT_ONCE)
    found = db.execute(some, args).fetchall()
    # What went on since the upgrade is summarised, and chained when it is finished, like any other.
    probes = load(db, f"id IN (SELECT id FROM ({some})) AND NOT {SUMMARISED}", args)
    finished = {probe.id for probe in probes if probe.started.wall < settled and probe.state not in OPEN}
    with transaction(db):
        summarise(db, map(summary, probes), finished, at)
        if found:
            here = json.dumps([found[-1][1], found[-1][0]])
            db.execute("UPDATE about SET value = ? WHERE name = 'caught_up'", (here,))
        else:
            db.execute("DELETE FROM about WHERE name = 'caught_up'")
    return len(found)


def _sweep(db: sqlite3.Connection, settled: float, at: float) -> int:
    left = f"SELECT route, started, probe FROM summaries WHERE pending = 1 AND started < ? AND NOT {IS_OPEN} LIMIT ?"
    keys = db.execute(left, (settled, _AT_ONCE)).fetchall()
    if keys:
        with transaction(db):
            for key in keys:
                extend(db, key, at)
    return len(keys)
