"""Incidents of what an older version put on record, found a little at a time.

Rules:
- What was found goes on record together with what must be known to go on from there. So a crash repeats some steps, and
  neither doubles nor loses an incident.
- An incident is written once, and nothing that was told while it happened is touched.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Mapping
from contextlib import suppress

from probe.core.events import Event
from probe.core.history import incident_row
from probe.core.replay import Course, Replay
from probe.core.state import ImpossibleEvent
from probe.core.trouble import Incident
from probe.core.written import typed
from probe.ledger.file import transaction

_AT_ONCE = 300  # events; the writer thread is held for some 30 ms
_KEEP_EVERY = 30  # steps; to keep a route takes as long as to tell it four events
_MEMORY = "replay/"

Today = Mapping[str, Collection[float]]


class Replaying:
    """The replays of all routes, since they were last kept."""

    def __init__(self) -> None:
        self._go_back()

    def _go_back(self) -> None:
        """To what was kept."""
        self._replays: dict[str, Replay] = {}
        self._found: list[Incident] = []
        self._mark: list[float] | None = None
        self._steps = 0

    def step(self, db: sqlite3.Connection, kept: list[float], today: Today) -> int:
        """Replay some events; how many there were. `kept`: the mark on record. `today`: the routes' deadlines as they
        are configured now."""
        _, seq, last, until = self._mark or kept
        some = "SELECT seq, at FROM events WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
        events = db.execute(some, (seq, last, _AT_ONCE)).fetchall()
        try:
            if events:
                upto, at = events[-1]
                self._tell(db, (seq, upto), until, today)
                self._mark, self._steps = [at, upto, last, until], self._steps + 1
                if self._steps % _KEEP_EVERY == 0:
                    self._keep(db, self._mark, today)
            else:
                self._end(db, until, today)
        except BaseException:
            self._go_back()
            raise
        return len(events)

    def _tell(self, db: sqlite3.Connection, span: tuple[float, float], until: float, today: Today) -> None:
        steps = [(*step, it) for it in _courses(db, span) for step in it.steps if span[0] < step[0] <= span[1]]
        for _, outcome, course in sorted(steps, key=lambda step: step[0]):
            assert outcome.probe is not None
            route = outcome.probe.route
            if route not in self._replays:
                self._replays[route] = _take_up(db, route, until, today)
            self._found += self._replays[route].tell(outcome, course)

    def _keep(self, db: sqlite3.Connection, mark: list[float], today: Today) -> None:
        for route, it in self._replays.items():
            if _forgotten(db, it):
                self._replays[route] = Replay(route, mark[-1], today.get(route, ()))
        notes = [(_MEMORY + route, json.dumps(it.dump())) for route, it in self._replays.items()]
        with transaction(db):
            db.executemany("INSERT OR REPLACE INTO memory VALUES (?, ?)", notes)
            db.execute("UPDATE about SET value = ? WHERE name = 'replayed'", (json.dumps(mark),))
            _record(db, self._found)
        self._found = []

    def _end(self, db: sqlite3.Connection, until: float, today: Today) -> None:
        names = db.execute("SELECT name FROM memory WHERE substr(name, 1, length(?1)) = ?1", (_MEMORY,)).fetchall()
        for route in {name.removeprefix(_MEMORY) for (name,) in names} - self._replays.keys():
            self._replays[route] = _take_up(db, route, until, today)
        for it in self._replays.values():
            self._found += [] if _forgotten(db, it) else it.cut()
        with transaction(db):
            db.executemany("DELETE FROM memory WHERE name = ?", names)
            db.execute("DELETE FROM about WHERE name = 'replayed'")
            _record(db, self._found)
        self._go_back()


def _courses(db: sqlite3.Connection, span: tuple[float, float]) -> list[Course]:
    """The whole records of the probes to which something happened in this span; without those that cannot be read."""
    theirs = "SELECT probe FROM events WHERE seq > ? AND seq <= ?"
    lives = defaultdict[str, list[tuple[int, Event]]](list)
    broken = set[str]()
    query = f"SELECT seq, probe, kind, record FROM events WHERE probe IN ({theirs}) ORDER BY seq"
    for seq, probe, kind, record in db.execute(query, span):
        try:
            lives[probe].append((seq, typed(kind, json.loads(record))))
        except (KeyError, ValueError, TypeError):  # summarising tells
            broken.add(probe)
    found = []
    for probe, life in lives.items():
        with suppress(ImpossibleEvent):
            found += [Course.of(life)] if probe not in broken else []
    return found


def _take_up(db: sqlite3.Connection, route: str, until: float, today: Today) -> Replay:
    """Where it was kept, or at the beginning."""
    fresh, going = (Replay(route, until, today.get(route, ())) for _ in range(2))
    noted = db.execute("SELECT record FROM memory WHERE name = ?", (_MEMORY + route,)).fetchone()
    if noted is None:
        return fresh
    try:
        going.load(json.loads(noted[0]))
    except (KeyError, TypeError, ValueError):  # another version began it
        return fresh
    return going


def _forgotten(db: sqlite3.Connection, replay: Replay) -> bool:
    """Whether mails that it waits for are not on record any more, so that nobody can tell how it went on."""
    gone = "SELECT 1 FROM json_each(?) WHERE value NOT IN (SELECT id FROM probes) LIMIT 1"
    held = sorted(replay.held())
    return bool(held) and db.execute(gone, (json.dumps(held),)).fetchone() is not None


def _record(db: sqlite3.Connection, incidents: Collection[Incident]) -> None:
    rows = [(*row[:-1], json.dumps(row.record)) for row in map(incident_row, incidents)]
    db.executemany("INSERT OR IGNORE INTO incidents VALUES (?, ?, ?, ?, ?, ?)", rows)
