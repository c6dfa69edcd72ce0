"""A world with a clock of its own: an event loop on which days pass in minutes, and nothing that runs on it can tell.

Rules:
- While anything is at work (a callback, a byte that can be read, a job in a thread), time passes as on the machine, so
  that computing takes as long in the world as it does here.
- Only when everybody waits for a timer, the clock is set forward to that timer. It never skips one, nor goes back.
- Speed is kept by holding the clock, never by letting it run faster: what comes meanwhile from outside (a scrape, a
  signal) meets a clock that stands still.

What is sent over the loopback can be read when send() returns (Linux delivers it on the way), so no byte is under way
when select() finds nothing. Were one, it would be late by no more than the time to the next timer.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple, Unpack

from probe.core.clocks import Reading

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_GRAIN = 0.02  # seconds; the clock is not held for less, as epoll rounds to whole milliseconds


class World:
    """`begins`: what its calendar says at first (Unix time). `speed`: at most so many of its seconds pass per second of
    ours; infinite: as many as the machine can."""

    def __init__(self, begins: float, speed: float = math.inf, machine: Callable[[], float] = time.monotonic) -> None:
        self.speed = speed
        self._begins, self._machine = begins, machine
        self._ahead = 0.0  # seconds, of our clock before the machine's
        self._paid = self._born = machine()  # by the machine's: until then, what was skipped has had its real time

    def time(self) -> float:
        """Seconds by the world's monotonic clock; at first it shows what the machine's does."""
        return self._machine() + self._ahead

    def reading(self) -> Reading:
        """What clock.reading() is to say: no clock of the world is ever set, and nobody suspends it."""
        now = self.time()
        return Reading(self._begins + now - self._born, now, now)

    def skip(self, seconds: float, wait: Callable[[float], list[Any]]) -> list[Any]:
        """Set the clock forward by so much, unless `wait`, for as long as the speed asks for, comes back with news."""
        began = self._machine()
        if self._paid - began > _GRAIN:
            news = wait(self._paid - began)
            waited = self._machine() - began
            self._ahead -= waited
            if news:
                return news
            began += waited
        self._paid = max(self._paid, began - _GRAIN) + seconds / self.speed
        self._ahead += seconds
        return []


class _Selector(selectors.DefaultSelector):
    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.jobs = 0  # in threads

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready; `timeout` is how far away the next timer is."""
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None or self.jobs:
            return super().select(timeout)
        return self.world.skip(timeout, super().select)


class Loop(asyncio.SelectorEventLoop):
    """The event loop of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._idle = _Selector(world)
        super().__init__(self._idle)

    def time(self) -> float:
        """The world's; what all timers follow."""
        return self.world.time()

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[_Ts]], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        """As ever; until it is done, no time is skipped."""
        job = super().run_in_executor(executor, func, *args)
        self._idle.jobs += 1
        job.add_done_callback(self._done)
        return job

    def _done(self, _: object) -> None:
        self._idle.jobs -= 1
