"""What is on record, for the API: few questions at a time, each for a short time; the dear ones are remembered.

Rule: who asks when too many wait is told to come back; nobody waits in a queue without end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Hashable
from typing import Protocol, TypeVar

from probe.core.history import DAY, IncidentRow, Life, Share, Summary, Totals
from probe.core.state import State

_WAITING = 16  # questions
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


class Memory(Protocol):
    """Who remembers answers; seldom.Seldom is one."""

    async def ask(self, key: Hashable, question: Callable[[], Awaitable[_T]]) -> _T: ...


class Record:
    """Questions to a reader. Times are Unix times. All are coroutines, and may raise Busy."""

    def __init__(self, reader: Reader, memory: Memory, failure: type[Exception]) -> None:
        """`failure`: what the reader raises when it cannot answer."""
        self._reader, self._memory, self._failure = reader, memory, failure
        self._waiting = 0

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
        return await self._memory.ask("", lambda: self.ask(lambda reader: reader.shares(now - DAY, now)))

    async def totals(self, route: str, now: float) -> Totals:
        """The same of one route, with its latencies."""
        return await self._memory.ask(route, lambda: self.ask(lambda reader: reader.totals(route, now - DAY, now)))
