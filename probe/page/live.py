"""The parts of a page that change by themselves, each with the serial number of its last change, and who watches them.

Rules:
- A part is made anew once in a while for all who watch, a few at a time: the loop that measures must not wait.
- A viewer is sent what has changed since its own last serial: who is slow, or comes back, misses nothing and costs no
  queue.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field

from probe.core.html import Html
from probe.page.facts import Route


@dataclass(slots=True)
class Parts:
    """A page's parts by their elements' ids. `order`: those of them that are in a list, as they stand there."""

    make: Callable[[Parts], Awaitable[None]]
    clock: Callable[[], float]  # Unix time: serials go on when the daemon is started anew
    every: float  # seconds for which they are fresh
    used: float = 0.0  # when last, by the loop's clock
    html: dict[str, Html] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    routes: dict[str, Route] = field(default_factory=dict)  # of the list, by the same ids
    serial: int = 0
    _keys: dict[str, object] = field(default_factory=dict)
    _key: object = None
    _changed: dict[str, int] = field(default_factory=dict)
    _ordered: int = 0
    _said: dict[int, bytes] = field(default_factory=dict)  # to those who watch all, by the serial that they had
    _made: float = float("-inf")
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def refresh(self) -> None:
        """Make them anew if they are not fresh."""
        loop = asyncio.get_running_loop()
        self.used = loop.time()
        async with self._lock:
            if loop.time() - self._made >= 0.9 * self.every:
                self.serial = max(self.serial + 1, int(self.clock() * 1000))
                self._said.clear()
                await self.make(self)
                self._made = loop.time()

    def put(self, name: str, key: object, html: Callable[[], Html]) -> None:
        """This part is as `html` makes it; it need not be asked while the key stays the same."""
        if self._keys.get(name) == key and key is not None:
            return
        self._keys[name] = key
        self._set(name, html())

    def put_together(self, key: object, parts: Callable[[], Mapping[str, Html]]) -> None:
        """The same of parts that are made together; while it is the very same key."""
        if self._key is not key or key is None:
            self._key = key
            for name, html in parts().items():
                self._set(name, html)

    def _set(self, name: str, html: Html) -> None:
        if self.html.get(name) != html:
            self.html[name] = html
            self._changed[name] = self.serial

    def arrange(self, routes: Mapping[str, Route]) -> None:
        """The list is of these, in this order; those that were in it are gone."""
        self.routes, order = dict(routes), list(routes)
        if order != self.order:
            for name in set(self.order) - set(order):
                del self.html[name], self._changed[name], self._keys[name]
            self.order, self._ordered = order, self.serial

    def since(self, serial: int, wanted: Mapping[str, object], shown: Collection[str]) -> dict[str, object]:
        """What has changed since, for a viewer who wants these of the list, in this order, and was shown those."""
        news = {
            name: html
            for name, html in self.html.items()
            if (name in wanted or name not in self.routes)
            and (self._changed[name] > serial or (name in wanted and name not in shown))
        }
        said: dict[str, object] = {"html": news} if news else {}
        if self._ordered > serial or wanted.keys() != shown:
            said["order"] = list(wanted)
        return said

    def news(self, serial: int) -> bytes:
        """The same for a viewer of all of them, as an event; b"": nothing has. Those with the same serial share it."""
        if serial not in self._said:
            said = self.since(serial, self.routes, self.routes.keys())
            self._said[serial] = event(self.serial, said) if said else b""
        return self._said[serial]


def event(serial: int, said: Mapping[str, object]) -> bytes:
    """As a stream has it (HTML §9.2.6)."""
    return f"id: {serial}\ndata: {json.dumps(said, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()
