"""What the writer thread does with the file, and what the daemon reads of it when it starts.

Rules:
- All that follows from one batch of events goes with them, in one transaction.
- What is only a matter of room is done a little at a time.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from probe.core.events import Arrived, Bounced, Cursor, Event, Instant
from probe.core.history import DAY, HOUR, IncidentRow, Summary
from probe.core.state import Probe, State
from probe.ledger.chaining import summarise
from probe.ledger.file import transaction
from probe.ledger.records import load, row
from probe.ledger.schema import IS_OPEN

_HEADERS_KEPT = 200  # the newest, whatever their age: from them the hosts' clocks are known again after a restart
# Where a mail was late, lost or bounced, its header is evidence.
_WORTH_KEEPING = """EXISTS (SELECT 1 FROM events WHERE events.probe = headers.probe AND (
  kind IN ('Bounced', 'Expired') OR kind = 'Judged' AND json_extract(record, '$.met') IS NOT 1))"""
_FORGET_AT_ONCE = 500  # probes; the writer thread is held for some 20 ms


class Batch(NamedTuple):
    """What goes on record in one transaction."""

    events: Sequence[Event]
    summaries: Sequence[Summary]  # of the probes as they are after the events
    cursors: Collection[Cursor]
    finished: Collection[str]  # those of the probes of which nothing is expected any more


def write(db: sqlite3.Connection, batch: Batch) -> None:
    """Make it durable."""
    rows = [row(event) for event in batch.events]
    states = [(it.probe, it.route, it.state, it.started) for it in batch.summaries]
    marks = [(c.account, c.folder, c.uidvalidity, c.uid, json.dumps(c.looked)) for c in batch.cursors]
    raws = [(e.probe, e.at.wall, e.raw) for e in batch.events if isinstance(e, Arrived | Bounced) and e.raw]
    packed = [(probe, at, zlib.compress(raw)) for probe, at, raw in raws]
    with transaction(db):
        db.executemany("INSERT INTO events (probe, kind, at, record) VALUES (?, ?, ?, ?)", rows)
        db.executemany(
            "INSERT INTO probes VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state", states
        )
        db.executemany("INSERT OR REPLACE INTO cursors VALUES (?, ?, ?, ?, ?)", marks)
        db.executemany("INSERT INTO headers (probe, at, keep, raw) VALUES (?, ?, 0, ?)", packed)
        summarise(db, batch.summaries, batch.finished, max((event.at.wall for event in batch.events), default=0.0))


def save(db: sqlite3.Connection, incidents: Iterable[IncidentRow], memory: Mapping[str, Any]) -> None:
    """Put these incidents on record, new or as they are by now, and remember this under these names; None: nothing."""
    rows = [(*it[:-1], json.dumps(it.record)) for it in incidents]
    notes = [(name, json.dumps(record)) for name, record in memory.items() if record is not None]
    with transaction(db):
        db.executemany("INSERT OR REPLACE INTO incidents VALUES (?, ?, ?, ?, ?, ?)", rows)
        db.executemany("DELETE FROM memory WHERE name = ?", [(name,) for name in memory])
        db.executemany("INSERT INTO memory VALUES (?, ?)", notes)


def memory(db: sqlite3.Connection, prefix: str) -> dict[str, Any]:
    """What is remembered under names that begin with this."""
    rows = db.execute("SELECT name, record FROM memory WHERE substr(name, 1, length(?1)) = ?1", (prefix,))
    return {name: json.loads(record) for name, record in rows}


def last_record(db: sqlite3.Connection) -> float:
    """The Unix time of the latest event; 0: there is none."""
    found = db.execute("SELECT at FROM events ORDER BY seq DESC LIMIT 1").fetchone()
    return float(found[0]) if found else 0.0


def last_judgement(db: sqlite3.Connection) -> float:
    """The Unix time at which a deadline was last judged; that of the latest event where none ever was."""
    latest = "SELECT kind, at FROM events ORDER BY seq DESC LIMIT 1000000"  # a second's work where there is none
    found = db.execute(f"SELECT at FROM ({latest}) WHERE kind = 'Judged' LIMIT 1").fetchone()
    return float(found[0]) if found else last_record(db)


def cursors(db: sqlite3.Connection) -> dict[tuple[str, str], Cursor]:
    """How far each folder was read, by (account, folder)."""
    rows = db.execute("SELECT account, folder, uidvalidity, uid, looked FROM cursors")
    return {(a, f): Cursor(a, f, validity, uid, Instant(*json.loads(looked))) for a, f, validity, uid, looked in rows}


def counts(db: sqlite3.Connection) -> dict[tuple[str, State], int]:
    """Number of probes by route and state."""
    rows = db.execute("SELECT route, state, number FROM tallies WHERE number > 0")
    return {(route, State(state)): number for route, state, number in rows}


# -- headers -------------------------------------------------------------------------------------------------------


def recent_headers(db: sqlite3.Connection) -> list[tuple[Probe, bytes]]:
    """The header blocks that came last, each with its probe; the oldest first."""
    newest = "SELECT probe FROM headers ORDER BY seq DESC LIMIT ?"
    probes = {probe.id: probe for probe in load(db, f"id IN ({newest})", (_HEADERS_KEPT,))}
    rows = db.execute("SELECT probe, raw FROM headers ORDER BY seq DESC LIMIT ?", (_HEADERS_KEPT,)).fetchall()
    return [(probes[probe], zlib.decompress(raw)) for probe, raw in reversed(rows) if probe in probes]


def sift_headers(db: sqlite3.Connection, before: float) -> int:
    """Remove some header blocks that came before this Unix time and prove nothing; how many were looked at."""
    old = "SELECT seq FROM headers WHERE keep = 0 AND at < ? AND seq <= (SELECT max(seq) FROM headers) - ? LIMIT ?"
    seqs = db.execute(old, (before, _HEADERS_KEPT, _FORGET_AT_ONCE)).fetchall()
    if seqs:
        with transaction(db):
            db.executemany(f"UPDATE headers SET keep = 1 WHERE seq = ? AND {_WORTH_KEEPING}", seqs)
            db.executemany("DELETE FROM headers WHERE seq = ? AND keep = 0", seqs)
    return len(seqs)


# -- room ----------------------------------------------------------------------------------------------------------


def forget(db: sqlite3.Connection, before: float, max_size: int, needed_since: float) -> dict[tuple[str, State], int]:
    """Remove some of the finished probes that were started before this Unix time, or, while more than `max_size` octets
    are in use, of the oldest that were started before `needed_since`; how many of which are gone."""
    if _used(db) > max_size:
        before = max(before, needed_since)
    query = f"SELECT id, route, state, started FROM probes WHERE NOT {IS_OPEN} AND started < ? ORDER BY started LIMIT ?"
    old = db.execute(query, (before, _FORGET_AT_ONCE)).fetchall()
    if not old:
        return {}
    with transaction(db):
        for table, key in (("events", "probe"), ("headers", "probe"), ("probes", "id")):
            db.executemany(f"DELETE FROM {table} WHERE {key} = ?", [(probe,) for probe, *_ in old])
        key = "route = (SELECT id FROM routes WHERE name = ?) AND started = ? AND probe = ?"
        db.executemany(f"DELETE FROM summaries WHERE {key}", [(route, at, probe) for probe, route, _, at in old])
        for route, number in Counter(route for _, route, *_ in old).items():
            _forget_sums(db, route, 2 * number)
    return Counter((route, State(state)) for _, route, state, _ in old)


def _forget_sums(db: sqlite3.Connection, route: str, links: int) -> None:
    """Let go of hours of which no probe is left, and of so many links before the last head before them: what is left of
    the chain begins at a head. Days and heads stay."""
    oldest = "SELECT id, ifnull((SELECT started FROM summaries WHERE route = id ORDER BY started LIMIT 1), 1e18)"
    found = db.execute(f"{oldest} FROM routes WHERE name = ?", (route,)).fetchone()
    if not found:
        return
    id_, since = found
    db.execute("DELETE FROM cells WHERE size = ? AND route = ? AND begin < ?", (HOUR, id_, since // HOUR * HOUR))
    head = "SELECT number FROM heads WHERE route = ?1 AND day < ?2 ORDER BY day DESC LIMIT 1"
    gone = f"SELECT number FROM chain WHERE route = ?1 AND number <= ({head}) ORDER BY number LIMIT ?3"
    db.execute(f"DELETE FROM chain WHERE route = ?1 AND number IN ({gone})", (id_, since // DAY * DAY, links))


def _used(db: sqlite3.Connection) -> int:
    pages, free, page = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * page)


def size(db: sqlite3.Connection) -> int:
    """Octets that the ledger takes on disk."""
    return int(db.execute("PRAGMA page_count").fetchone()[0] * db.execute("PRAGMA page_size").fetchone()[0])
