"""The ledger as those see it who only read: beside the daemon that writes, or in another process, or alone.

Rules:
- A thread and a connection of its own, read-only: neither the loop nor the writer waits for a reader.
- Each question sees one state of the ledger; two questions may see two.
- No question takes longer than its reader's patience: as long as one is being answered, the log of the writer cannot be
  emptied.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from probe.core.history import Cell, Day, IncidentRow, Life, Point, Share, Standing, Summary, Totals
from probe.core.state import State
from probe.ledger import reading, writing
from probe.ledger.file import LedgerError, open_to_read, trouble

PATIENCE = 30.0  # seconds
_ROUTES_AT_ONCE = 100
_STEPS = 100_000  # of SQLite's machine between looks at the clock; some ms
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Reader:
    """An open ledger. Times are Unix times, spans [since, until) hold what was started in them, days are UTC's. All
    methods but close() are coroutines, and may raise LedgerError."""

    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        """Open the ledger at `path`, which must be there. Blocking, for some ms. `patience`: seconds for an answer."""
        self.path, self._patience = path, patience
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._until = 0.0
        try:
            self._db = self._thread.submit(self._open).result()
        except BaseException:
            self._thread.shutdown()
            raise

    def _open(self) -> sqlite3.Connection:
        db = open_to_read(self.path)
        db.set_progress_handler(lambda: time.monotonic() > self._until, _STEPS)
        return db

    async def routes(self) -> list[str]:
        """All routes that were ever probed, by name."""
        return await self._call(reading.routes)

    async def standings(self) -> dict[str, Standing]:
        """How each route stands, by the ledger alone."""
        return await self._call(reading.standings)

    async def caught_up(self) -> float | None:
        """Up to when the probes of an older version are in what is told here; None: all are."""
        return await self._call(reading.caught_up)

    async def strip(self, since: float, until: float, cells: int, route: str | None = None) -> list[Cell]:
        """So many equal stretches of time, by route and time; those in which nothing was started are left out. Quick
        where they begin and end on hours, and for long spans on days."""
        return await self._call(reading.strip, since, until, cells, route)

    async def strips(self, since: float, until: float, cells: int) -> AsyncIterator[list[Cell]]:
        """The strips of all routes, those of some at a time: so many cells as all have make the loop wait when the
        interpreter looks for garbage among them."""
        last = await self._call(reading.last_route)
        for number in range(0, last, _ROUTES_AT_ONCE):
            numbers = number, number + _ROUTES_AT_ONCE
            yield await self._call(reading.strip, since, until, cells, None, numbers)

    async def latencies(self, route: str, since: float, until: float, points: int) -> list[Point]:
        """So many equal stretches of time, for a chart; those without a latency that counts are left out."""
        return await self._call(reading.latencies, route, since, until, points)

    async def probes(
        self,
        route: str,
        before: tuple[float, str] = (float("inf"), ""),
        limit: int = 100,
        states: Collection[State] = (),
        late: bool = False,
        of_note: bool = False,
    ) -> list[Summary]:
        """A page of the route's probes, the newest first. The next page is before the last one's (started, probe).
        `of_note`: only those that evidence() tells of."""
        return await self._call(reading.probes, route, before, limit, states, late, of_note)

    async def browse(
        self,
        route: str | None,
        since: float,
        until: float,
        before: tuple[float, str] = (float("inf"), ""),
        limit: int = 100,
        states: Collection[State] = (),
    ) -> tuple[list[Summary], tuple[float, str] | None]:
        """A page of the probes of one route or of all, the newest first, and before which (started, probe) the next
        one is; None: it was the last. It takes the same short time whatever is asked, so a page may hold fewer."""
        return await self._call(reading.browse, route, since, until, before, limit, states)

    async def shares(self, since: float, until: float) -> dict[str, Share]:
        """What the probes of every route came to."""
        return await self._call(reading.shares, since, until)

    async def last_delivery(self, route: str) -> Summary | None:
        """The route's newest probe that came, if it is among the last 20,000."""
        return await self._call(reading.last_delivery, route)

    async def last_record(self) -> float:
        """The Unix time of the latest event; 0: there is none."""
        return await self._call(writing.last_record)

    async def counts(self) -> dict[tuple[str, State], int]:
        """Number of probes by route and state."""
        return await self._call(writing.counts)

    async def life(self, probe: str) -> Life | None:
        """All that is on record of the probe with this id; None: nothing is."""
        return await self._call(reading.life, probe)

    async def evidence(self, route: str, since: float, until: float) -> AsyncIterator[Life]:
        """The probes that were late, lost, bounced, refused or not confirmed, the oldest first."""
        after = since, ""
        while some := await self._call(reading.evidence, route, after, until):
            for life in some:
                yield life
            after = some[-1].summary.started, some[-1].summary.probe

    async def totals(self, route: str, since: float, until: float) -> Totals:
        """What all the probes that were started in this span came to."""
        return await self._call(reading.totals, route, since, until)

    async def ledger(self) -> str:
        """What tells this ledger from all others; link 0 of each chain comes from it."""
        return await self._call(reading.ledger)

    async def days(self, route: str, since: float, until: float) -> list[Day]:
        """The heads of the route's chain of all days (UTC) that began in this span; never forgotten."""
        return await self._call(reading.days, route, since, until)

    async def digests(self, route: str, after: int, upto: int) -> list[bytes]:
        """The digests in the links with these numbers, (after, upto], as far as they are kept."""
        return await self._call(reading.digests, route, after, upto)

    async def incidents(self, since: float, until: float, route: str | None = None) -> list[IncidentRow]:
        """The incidents of which a part lies in this span, by their begin."""
        return await self._call(reading.incidents, since, until, route)

    async def incidents_before(
        self,
        since: float,
        until: float,
        route: str | None = None,
        lasting: bool | None = None,
        before: tuple[float, str] = (float("inf"), ""),
        limit: int = 100,
    ) -> list[IncidentRow]:
        """A page of these, the latest first. The next page is before the last one's (begin, id)."""
        return await self._call(reading.incidents_before, since, until, route, lasting, before, limit)

    def close(self) -> None:
        """Give up what is being answered, and close the file."""
        self._db.interrupt()
        self._thread.submit(self._db.close).result()
        self._thread.shutdown()

    async def _call(
        self, work: Callable[Concatenate[sqlite3.Connection, _P], _T], *args: _P.args, **options: _P.kwargs
    ) -> _T:
        def answer() -> _T:
            self._until = time.monotonic() + self._patience
            return work(self._db, *args, **options)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, answer)
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                raise LedgerError(
                    f"{self.path}: no answer within {self._patience:.0f} s; ask for a shorter span"
                ) from error
            raise LedgerError(trouble(self.path, error)) from error
        except sqlite3.Error as error:
            raise LedgerError(trouble(self.path, error)) from error
