"""The ledger as its one writer has it: a connection and the one thread that uses it.

Rules:
- Nothing counts before commit() returned: WAL with synchronous=FULL means it survives kill -9 and power loss.
- Everything runs in one thread, so there is one writer, and the loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from probe.core.events import Cursor, Event
from probe.core.history import IncidentRow, summary
from probe.core.state import Probe, State
from probe.ledger import chaining, records, writing
from probe.ledger.file import LedgerError, open_to_write, trouble
from probe.ledger.replaying import Replaying
from probe.ledger.schema import CHAINED, IS_OPEN

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Ledger:
    """An open ledger. Methods that wait are coroutines; all of them may raise LedgerError."""

    def __init__(self, path: Path) -> None:
        """Open or create the ledger at `path`. Blocking: call it before the loop has anything to measure."""
        self.path = path
        self._replaying = Replaying()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        try:
            self._db, self._lock = self._thread.submit(open_to_write, path).result()
        except BaseException:
            self._thread.shutdown()
            raise

    async def commit(
        self,
        events: Sequence[Event],
        probes: Iterable[Probe],
        cursors: Collection[Cursor] = (),
        finished: Collection[str] = (),
    ) -> None:
        """Make these events durable in one transaction. `probes` are the probes as they are after the events;
        `finished`, by id, those to which nothing more is expected to happen: what is on record of them is chained."""
        batch = writing.Batch(events, [summary(probe) for probe in probes], cursors, finished)
        await self._call(writing.write, batch)

    async def unfinished(self, since: float = inf) -> list[Probe]:
        """Every probe to which something is still expected to happen, rebuilt from its events, oldest first: those that
        are open, and of those that were started at this Unix time or later the ones that are not chained."""
        return await self._call(records.load, f"{IS_OPEN} OR started >= ? AND NOT {CHAINED}", (since,))

    async def last_record(self) -> float:
        """The Unix time of the latest event; 0: there is none."""
        return await self._call(writing.last_record)

    async def last_judgement(self) -> float:
        """The Unix time at which a deadline was last judged; that of the latest event where none ever was."""
        return await self._call(writing.last_judgement)

    async def find(self, probe: str) -> Probe | None:
        """The probe with this id, open or not; None when the ledger does not know it."""
        found = await self._call(records.load, "id = ?", (probe,))
        return found[0] if found else None

    async def recent_headers(self) -> list[tuple[Probe, bytes]]:
        """The header blocks that came last, each with its probe; the oldest first."""
        return await self._call(writing.recent_headers)

    async def sift_headers(self, before: float) -> int:
        """Remove header blocks that came before this Unix time and prove nothing; how many were looked at. Call it
        again until none is."""
        return await self._call(writing.sift_headers, before)

    async def cursors(self) -> dict[tuple[str, str], Cursor]:
        """How far each folder was read, by (account, folder)."""
        return await self._call(writing.cursors)

    async def counts(self) -> dict[tuple[str, State], int]:
        """Number of probes by route and state: one side of the conservation law."""
        return await self._call(writing.counts)

    async def save(self, incidents: Iterable[IncidentRow] = (), memory: Mapping[str, Any] | None = None) -> None:
        """Put these incidents on record, new or as they are by now, and remember this by name, as JSON (None:
        nothing): in one transaction, and for good."""
        await self._call(writing.save, list(incidents), memory or {})

    async def memory(self, prefix: str = "") -> dict[str, Any]:
        """What was remembered under the names that begin with this."""
        return await self._call(writing.memory, prefix)

    async def catch_up(self, settled: float, at: float, today: Mapping[str, Collection[float]] | None = None) -> int:
        """Summarise and chain, at the Unix time `at`, some probes that an older version or a crash left without, and
        find incidents that an older version did not; how much was looked at. Nothing must be ahead of those that are
        not open and were started before `settled`. `today`: deadlines by route, as they are configured now. Call it
        again until nothing is; it goes on where it was, also after a restart."""
        return await self._call(chaining.catch_up, self._replaying, settled, at, today or {})

    async def forget(self, before: float, max_size: int, needed_since: float) -> dict[tuple[str, State], int]:
        """Remove some of the finished probes that were started before this Unix time, or, while the ledger holds more
        than `max_size` octets, of the oldest that were started before `needed_since`; how many of which are gone.
        Call it again until nothing is."""
        return await self._call(writing.forget, before, max_size, needed_since)

    async def size(self) -> int:
        """Octets that the ledger takes on disk; room that was freed is used again, not given back."""
        return await self._call(writing.size)

    def close(self) -> None:
        """Finish what is queued and close the file."""
        self._thread.submit(self._db.close).result()
        self._thread.shutdown()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _call(
        self, work: Callable[Concatenate[sqlite3.Connection, _P], _T], *args: _P.args, **options: _P.kwargs
    ) -> _T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, lambda: work(self._db, *args, **options))
        except sqlite3.Error as error:
            raise LedgerError(trouble(self.path, error)) from error
