"""The record on disk: SQLite in the state directory, append-only events, one writer thread.

Rules:
- Nothing counts before commit() returned: WAL with synchronous=FULL means it survives kill -9 and power loss.
- Events are never changed. A probe's row only indexes them; what a probe is, is what advance() makes of its events.
- What mails' headers said is kept beside the events, for a day: for good only where there is something to prove.
- All access runs in one thread, so there is one writer, and the loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import sqlite3
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_type_hints

from probe.core.events import Arrived, Bounced, Cursor, Event, Instant
from probe.core.state import OPEN, ImpossibleEvent, Probe, State, advance

_SCHEMA = (  # one script for each version: a ledger of an older one gets what it lacks
    """
CREATE TABLE probes (
  id TEXT PRIMARY KEY, route TEXT NOT NULL, state TEXT NOT NULL, started REAL NOT NULL  -- Unix time
) WITHOUT ROWID;
CREATE INDEX probes_by_state ON probes (state) WHERE state IN ('sending', 'early', 'accepted', 'unconfirmed');
CREATE INDEX probes_by_start ON probes (started);
CREATE TABLE events (
  seq INTEGER PRIMARY KEY, probe TEXT NOT NULL, kind TEXT NOT NULL, at REAL NOT NULL, record TEXT NOT NULL
);
CREATE INDEX events_by_probe ON events (probe);
CREATE TABLE cursors (
  account TEXT, folder TEXT, uidvalidity INTEGER, uid INTEGER, looked TEXT, PRIMARY KEY (account, folder)
) WITHOUT ROWID;
""",
    """
CREATE TABLE headers (
  seq INTEGER PRIMARY KEY, probe TEXT NOT NULL, at REAL NOT NULL, keep INTEGER NOT NULL, raw BLOB NOT NULL  -- zlib
);
CREATE INDEX headers_by_probe ON headers (probe);
CREATE INDEX headers_by_age ON headers (at) WHERE keep = 0;
""",
)
SCHEMA_VERSION = len(_SCHEMA)
_HEADERS_KEPT = 200  # the newest, whatever their age: from them the hosts' clocks are known again after a restart
# Where a mail was late, lost or bounced, its header is evidence.
_WORTH_KEEPING = """EXISTS (SELECT 1 FROM events WHERE events.probe = headers.probe AND (
  kind IN ('Bounced', 'Expired') OR kind = 'Judged' AND json_extract(record, '$.met') IS NOT 1))"""
_FORGET_AT_ONCE = 500  # probes; the writer thread is held for some 10 ms
_T = TypeVar("_T")
log = logging.getLogger("mailprobe.ledger")


class LedgerError(Exception):
    """The ledger cannot be used; one line with the path and the mend."""


class Ledger:
    """An open ledger. Methods that wait are coroutines; all of them may raise LedgerError."""

    def __init__(self, path: Path) -> None:
        """Open or create the ledger at `path`. Blocking: call it before the loop has anything to measure."""
        self.path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        try:
            self._db = self._thread.submit(_open, path).result()
        except BaseException:
            self._thread.shutdown()
            raise

    async def commit(
        self,
        events: Sequence[Event],
        probes: Iterable[Probe],
        cursors: Iterable[Cursor] = (),
    ) -> None:
        """Make these events durable in one transaction. `probes` are the probes as they are after the events."""
        rows = [(e.probe, type(e).__name__, e.at.wall, _encode(_record(e))) for e in events]
        states = [(p.id, p.route, p.state.value, p.started.wall) for p in probes]
        raws = [(e.probe, e.at.wall, e.raw) for e in events if isinstance(e, Arrived | Bounced) and e.raw]
        marks = [(c.account, c.folder, c.uidvalidity, c.uid, json.dumps(c.looked)) for c in cursors]
        await self._call(_write, rows, states, marks, raws)

    async def open_probes(self) -> list[Probe]:
        """Every probe to which something is still expected to happen, rebuilt from its events, oldest first."""
        wanted = "state IN ({})".format(", ".join(f"'{state.value}'" for state in sorted(OPEN)))
        return await self._call(_load, wanted, ())

    async def started_since(self, wall: float) -> list[Probe]:
        """Every probe that was started at this Unix time or later, in the order of their first events."""
        return await self._call(_load, "started >= ?", (wall,))

    async def last_record(self) -> float:
        """The Unix time of the latest event; 0: there is none."""
        return await self._call(_last_record)

    async def last_judgement(self) -> float:
        """The Unix time at which a deadline was last judged; that of the latest event where none ever was."""
        return await self._call(_last_judgement)

    async def find(self, probe: str) -> Probe | None:
        """The probe with this id, open or not; None when the ledger does not know it."""
        found = await self._call(_load, "id = ?", (probe,))
        return found[0] if found else None

    async def headers(self, probe: str) -> list[bytes]:
        """The header blocks of this probe's mails and bounces that are kept, in the order in which they came."""
        return await self._call(_headers, probe)

    async def recent_headers(self) -> list[tuple[Probe, bytes]]:
        """The header blocks that came last, each with its probe; the oldest first."""
        return await self._call(_recent_headers)

    async def sift_headers(self, before: float) -> int:
        """Remove header blocks that came before this Unix time and prove nothing; how many were looked at. Call it
        again until none is."""
        return await self._call(_sift_headers, before)

    async def cursors(self) -> dict[tuple[str, str], Cursor]:
        """How far each folder was read, by (account, folder)."""
        return await self._call(_load_cursors)

    async def counts(self) -> dict[tuple[str, State], int]:
        """Number of probes by route and state: one side of the conservation law."""
        return await self._call(_count)

    async def forget(self, before: float, max_size: int, needed_since: float) -> dict[tuple[str, State], int]:
        """Remove some of the finished probes that were started before this Unix time, or, while the ledger holds more
        than `max_size` octets, of the oldest that were started before `needed_since`; how many of which are gone.
        Call it again until nothing is."""
        return await self._call(_forget, before, max_size, needed_since)

    async def size(self) -> int:
        """Octets that the ledger takes on disk; room that was freed is used again, not given back."""
        return await self._call(_size)

    def close(self) -> None:
        """Finish what is queued and close the file."""
        self._thread.submit(self._db.close).result()
        self._thread.shutdown()

    async def _call(self, work: Callable[..., _T], *args: object) -> _T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, work, self._db, *args)
        except sqlite3.Error as error:
            raise LedgerError(f"{self.path}: {error}") from error


# -- in the writer thread ------------------------------------------------------------------------------------------


def _open(path: Path) -> sqlite3.Connection:
    try:
        if str(path) != ":memory:":
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # addresses are nobody else's business
        db = sqlite3.connect(path, timeout=1.0, isolation_level=None)
        try:
            return _prepare(db, path)
        except BaseException:
            db.close()
            raise
    except (OSError, sqlite3.Error) as error:
        raise LedgerError(_mend(path, error)) from error


def _prepare(db: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise LedgerError(
            f"{path}: written by a newer mailprobe (schema {version}, this one knows {SCHEMA_VERSION}); "
            "install that version again, or move the file away"
        )
    if version == 0 and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise LedgerError(f"{path}: is another program's database; give mailprobe a state_dir of its own")
    # One daemon per ledger: two would both send, count and delete.
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("BEGIN IMMEDIATE")
    for script in _SCHEMA[db.execute("PRAGMA user_version").fetchone()[0] :]:
        for statement in script.split(";\n"):
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.execute("COMMIT")
    return db


def _mend(path: Path, error: Exception) -> str:
    text = str(error)
    if "locked" in text:
        return f"{path}: in use by another mailprobe; stop that one or give this one another state_dir"
    if "malformed" in text or "not a database" in text:
        return f"{path}: damaged ({text}); move it away (it stays readable by sqlite3's .recover) and start again"
    return f"{path}: {text}; state_dir must be a directory that mailprobe can write to"


def _write(
    db: sqlite3.Connection, rows: list[Any], states: list[Any], marks: list[Any], raws: list[tuple[str, float, bytes]]
) -> None:
    packed = [(probe, at, zlib.compress(raw)) for probe, at, raw in raws]
    with _transaction(db):
        db.executemany("INSERT INTO events (probe, kind, at, record) VALUES (?, ?, ?, ?)", rows)
        db.executemany(
            "INSERT INTO probes VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state", states
        )
        db.executemany("INSERT OR REPLACE INTO cursors VALUES (?, ?, ?, ?, ?)", marks)
        db.executemany("INSERT INTO headers (probe, at, keep, raw) VALUES (?, ?, 0, ?)", packed)


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk has rolled back by itself
            db.execute("ROLLBACK")
        raise


def _load(db: sqlite3.Connection, where: str, args: tuple[object, ...]) -> list[Probe]:
    probes: dict[str, Probe] = {}
    query = f"SELECT probe, kind, record FROM events JOIN probes ON id = probe WHERE {where} ORDER BY seq"  # noqa: S608 - ours
    for probe, kind, record in db.execute(query, args):
        try:
            event = _event(kind, json.loads(record))
            probes[probe] = advance(probes.get(probe), event)
        except (ImpossibleEvent, KeyError, ValueError, TypeError):  # a rescued file, say; the others must not suffer
            log.exception("the record of probe %s in the ledger cannot be read; it is left out", probe)
            probes.pop(probe, None)
    return list(probes.values())


def _last_record(db: sqlite3.Connection) -> float:
    found = db.execute("SELECT at FROM events ORDER BY seq DESC LIMIT 1").fetchone()
    return float(found[0]) if found else 0.0


def _last_judgement(db: sqlite3.Connection) -> float:
    latest = "SELECT kind, at FROM events ORDER BY seq DESC LIMIT 1000000"  # a second's work where there is none
    found = db.execute(f"SELECT at FROM ({latest}) WHERE kind = 'Judged' LIMIT 1").fetchone()  # noqa: S608 - ours
    return float(found[0]) if found else _last_record(db)


def _headers(db: sqlite3.Connection, probe: str) -> list[bytes]:
    return [
        zlib.decompress(raw) for (raw,) in db.execute("SELECT raw FROM headers WHERE probe = ? ORDER BY seq", (probe,))
    ]


def _recent_headers(db: sqlite3.Connection) -> list[tuple[Probe, bytes]]:
    newest = "SELECT probe FROM headers ORDER BY seq DESC LIMIT ?"
    probes = {probe.id: probe for probe in _load(db, f"id IN ({newest})", (_HEADERS_KEPT,))}
    rows = db.execute("SELECT probe, raw FROM headers ORDER BY seq DESC LIMIT ?", (_HEADERS_KEPT,)).fetchall()
    return [(probes[probe], zlib.decompress(raw)) for probe, raw in reversed(rows) if probe in probes]


def _sift_headers(db: sqlite3.Connection, before: float) -> int:
    old = "SELECT seq FROM headers WHERE keep = 0 AND at < ? AND seq <= (SELECT max(seq) FROM headers) - ? LIMIT ?"
    seqs = db.execute(old, (before, _HEADERS_KEPT, _FORGET_AT_ONCE)).fetchall()
    if seqs:
        with _transaction(db):
            db.executemany(f"UPDATE headers SET keep = 1 WHERE seq = ? AND {_WORTH_KEEPING}", seqs)  # noqa: S608 - ours
            db.executemany("DELETE FROM headers WHERE seq = ? AND keep = 0", seqs)
    return len(seqs)


def _load_cursors(db: sqlite3.Connection) -> dict[tuple[str, str], Cursor]:
    rows = db.execute("SELECT account, folder, uidvalidity, uid, looked FROM cursors")
    return {(a, f): Cursor(a, f, validity, uid, Instant(*json.loads(looked))) for a, f, validity, uid, looked in rows}


def _count(db: sqlite3.Connection) -> dict[tuple[str, State], int]:
    rows = db.execute("SELECT route, state, count(*) FROM probes GROUP BY route, state")
    return {(route, State(state)): number for route, state, number in rows}


def _forget(db: sqlite3.Connection, before: float, max_size: int, needed_since: float) -> dict[tuple[str, State], int]:
    finished = "state NOT IN ({})".format(", ".join(f"'{state.value}'" for state in sorted(OPEN)))
    if _used(db) > max_size:
        before = max(before, needed_since)
    query = f"SELECT id, route, state FROM probes WHERE {finished} AND started < ? ORDER BY started LIMIT ?"  # noqa: S608 - ours
    old = db.execute(query, (before, _FORGET_AT_ONCE)).fetchall()
    if not old:
        return {}
    with _transaction(db):
        for table, key in (("events", "probe"), ("headers", "probe"), ("probes", "id")):
            db.executemany(f"DELETE FROM {table} WHERE {key} = ?", [(probe,) for probe, _, _ in old])  # noqa: S608 - ours
    return Counter((route, State(state)) for _, route, state in old)


def _used(db: sqlite3.Connection) -> int:
    pages, free, page = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * page)


def _size(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA page_count").fetchone()[0] * db.execute("PRAGMA page_size").fetchone()[0])


# -- events as JSON ------------------------------------------------------------------------------------------------


_KINDS: dict[str, tuple[type[Event], dict[str, Any]]] = {
    kind.__name__: (kind, get_type_hints(kind)) for kind in get_args(Event)
}
_FIELDS: dict[type[Event], tuple[str, ...]] = {
    kind: tuple(field.name for field in dataclasses.fields(kind) if field.name != "raw") for kind in get_args(Event)
}
_encode = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps would make one for every event


def _record(event: Event) -> dict[str, Any]:
    """The event's fields as JSON types; named tuples become lists."""
    return {name: getattr(event, name) for name in _FIELDS[type(event)]}


def _event(kind: str, record: dict[str, Any]) -> Event:
    cls, hints = _KINDS[kind]
    return cls(**{name: _typed(hints[name], value) for name, value in record.items()})


def _typed(hint: Any, value: Any) -> Any:
    """JSON lists back into the named tuples and tuples that the field's annotation asks for."""
    if not isinstance(value, list):
        return value
    if isinstance(hint, UnionType):
        hint = next(option for option in get_args(hint) if option is not type(None))
    if hasattr(hint, "_fields"):
        return hint(*value)
    of = get_args(hint)[0]
    return tuple(_typed(of, item) for item in value)
