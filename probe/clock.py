"""The real clock: the one place that reads it. Everything else is handed an Instant or a function that makes one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from probe.core.clocks import Reading
from probe.core.events import Instant

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _machine() -> tuple[float, float, float]:
    return time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic()


_read: Callable[[], tuple[float, float, float]] = _machine  # as a Reading has them


def now() -> Instant:
    """This instant: CLOCK_REALTIME and CLOCK_BOOTTIME (which goes on during suspend), both in seconds."""
    wall, boot, _ = _read()
    return Instant(wall, boot, _BOOT_ID)


def reading() -> Reading:
    """All three clocks at this moment; see core/clocks.py."""
    return Reading(*_read())


@contextmanager
def replaced(by: Callable[[], Reading]) -> Iterator[None]:
    """In here it is the time that `by` says, for the whole process: replays have a clock of their own."""
    global _read  # noqa: PLW0603 - there is one clock, as on any machine
    before, _read = _read, by
    try:
        yield
    finally:
        _read = before
