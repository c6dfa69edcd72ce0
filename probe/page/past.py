"""What is on record, as pages show it.

Rule: however many look, the record is asked once in a while. That it cannot be read is no error: the answer is None.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from itertools import groupby
from typing import Protocol, TypeVar

from probe.core.history import Cell, IncidentRow, Point, Summary, Totals, incident_of
from probe.core.state import OPEN, State
from probe.core.trouble import Incident
from probe.page import detail
from probe.page.strip import SPANS, Levels, Span, levels

log = logging.getLogger("mailprobe.page")

_RECENT = 15  # mails
_INCIDENTS = 50
_ENDED = tuple(state for state in State if state not in OPEN)  # those in flight have a table of their own
_T = TypeVar("_T")


class Reader(Protocol):
    """Who answers; ledger.Reader is one."""

    async def strip(self, since: float, until: float, cells: int, route: str) -> list[Cell]: ...
    def strips(self, since: float, until: float, cells: int) -> AsyncIterator[list[Cell]]: ...
    async def latencies(self, route: str, since: float, until: float, points: int) -> list[Point]: ...
    async def totals(self, route: str, since: float, until: float) -> Totals: ...
    async def incidents(self, since: float, until: float, route: str | None = None) -> list[IncidentRow]: ...
    async def probes(
        self, route: str, *, limit: int = 100, states: Collection[State] = (), of_note: bool = False
    ) -> list[Summary]: ...


class Memory(Protocol):
    """Who remembers answers; seldom.Seldom is one."""

    async def ask(self, key: Hashable, question: Callable[[], Awaitable[_T]]) -> _T: ...


class Past:
    """Answers about the past. Times are Unix times."""

    def __init__(self, reader: Reader, memory: Memory, failure: type[Exception]) -> None:
        """`failure`: what the reader raises when it cannot answer."""
        self._reader, self._memory, self._failure = reader, memory, failure

    async def strips(self, now: float) -> Mapping[str, Levels]:
        """Of every route how the last day was."""
        span = SPANS["24h"]
        until = span.until(now)

        async def ask() -> dict[str, Levels]:
            found = {}
            async for some in self._reader.strips(until - span.seconds, until, span.cells):
                for route, cells in groupby(some, lambda cell: cell.route):
                    found[route] = levels(cells, span, until)
            return found

        return await self._ask(("strips", until), ask) or {}

    async def incidents(self, now: float, route: str | None = None) -> Sequence[Incident]:
        """The incidents of the last 90 days that are over, the latest first."""

        async def ask() -> list[Incident]:
            rows = await self._reader.incidents(now - SPANS["90d"].seconds, now + 1.0, route)
            ended = [row for row in rows if row.end is not None][-_INCIDENTS:]
            return [incident_of(row) for row in reversed(ended)]

        return await self._ask(("incidents", route), ask) or ()

    async def detail(self, route: str, span: Span, now: float) -> detail.Past | None:
        """All that a route's page shows; None: the record cannot be read."""
        reader = self._reader
        until = {name: it.until(now) for name, it in SPANS.items()}
        begin, end = until[span.name] - span.seconds, until[span.name]

        async def ask() -> detail.Past:
            strips = {
                name: await reader.strip(until[name] - it.seconds, until[name], it.cells, route)
                for name, it in SPANS.items()
            }
            points = await reader.latencies(route, begin, end, span.points)
            totals = await reader.totals(route, begin, end)
            recent = await reader.probes(route, limit=_RECENT, states=_ENDED, of_note=True)
            return detail.Past(until, strips, points, totals, recent)

        return await self._ask(("detail", route, span.name), ask)

    async def _ask(self, key: Hashable, question: Callable[[], Awaitable[_T]]) -> _T | None:
        async def told() -> _T:
            try:
                return await question()
            except self._failure as error:
                log.warning("the page cannot read the record: %s", error)
                raise

        try:
            return await self._memory.ask(key, told)
        except self._failure:
            return None
