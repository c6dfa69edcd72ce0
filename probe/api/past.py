"""What is on record, for the API: few questions at a time, each for a short time, and the dear ones seldom.

Rule: who asks when too many wait is told to come back; nobody waits in a queue without end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Protocol, TypeVar

from probe.core.history import DAY, IncidentRow, Life, Share, Summary, Totals
from probe.core.state import State

_WAITING = 16  # questions
_FRESH = 30.0  # seconds for which a day's sums are good, at least,
_SELDOM = 100  # and so many times as long as it took to count: 3 s where a day has a million probes
_KEPT = 200  # sums; of more routes at a time nobody counts
_T = TypeVar("_T")


class Busy(Exception):
    """The record cannot be read now; the text is for the log."""


class Reader(Protocol):
    """Who answers; ledger.Reader is one."""

    async def routes(self) -> list[str]: ...
    async def shares(self, since: float, until: float) -> dict[str, Share]: ...
    async def totals(self, route: str, since: float, until: float) -> Totals: ...
    async def life(self, probe: str) -> Life | None: ...
    async def browse(
        self, route: str | None, since: float, until: float, before: tuple[float, str] = ..., limit: int = ...,
        states: Collection[State] = (),
    ) -> tuple[list[Summary], tuple[float, str] | None]: ...  # fmt: skip
    async def incidents_before(
        self, since: float, until: float, route: str | None = None, lasting: bool | None = None,
        before: tuple[float, str] = ..., limit: int = ...,
    ) -> list[IncidentRow]: ...  # fmt: skip


class Record:
    """Questions to a reader. Times are Unix times. All but close() are coroutines, and may raise Busy."""

    def __init__(self, reader: Reader, failure: type[Exception]) -> None:
        """`failure`: what the reader raises when it cannot answer."""
        self._reader, self._failure = reader, failure
        self._waiting = 0
        self._sums: dict[str, tuple[float, asyncio.Future[Any]]] = {}  # until when, and what

    async def ask(self, question: Callable[[Reader], Awaitable[_T]]) -> _T:
        """The reader's answer."""
        if self._waiting >= _WAITING:
            raise Busy(f"{self._waiting} questions are waiting")
        self._waiting += 1
        try:
            return await question(self._reader)
        except self._failure as error:
            raise Busy(str(error)) from error
        finally:
            self._waiting -= 1

    async def shares(self, now: float) -> dict[str, Share]:
        """What the last day's probes came to, by route."""
        return await self._seldom("", lambda reader: reader.shares(now - DAY, now))

    async def totals(self, route: str, now: float) -> Totals:
        """The same of one route, with its latencies."""
        return await self._seldom(route, lambda reader: reader.totals(route, now - DAY, now))

    async def _seldom(self, key: str, question: Callable[[Reader], Awaitable[_T]]) -> _T:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._sums = {key: it for key, it in self._sums.items() if not it[1].done() or now < it[0]}
        if key not in self._sums and len(self._sums) >= _KEPT:
            raise Busy("too many routes are asked for")

        async def count() -> _T:
            found = await self.ask(question)
            self._sums[key] = loop.time() + max(_FRESH, _SELDOM * (loop.time() - now)), answer
            return found

        if key not in self._sums:
            answer = asyncio.ensure_future(count())
            self._sums[key] = 0.0, answer
        found: _T = await asyncio.shield(self._sums[key][1])  # whoever asked first may go away
        return found
