"""The real clock: the one place that reads it. Everything else is handed an Instant or a function that makes one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from probe.core.clocks import Reading
from probe.core.events import Instant

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _machine() -> Reading:
    return Reading(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic())


_read: Callable[[], Reading] = _machine


def now() -> Instant:
    """This instant: CLOCK_REALTIME and CLOCK_BOOTTIME (which goes on during suspend), both in seconds."""
    at = _read()
    return Instant(at.wall, at.boot, _BOOT_ID)


def reading() -> Reading:
    """All three clocks at this moment; see core/clocks.py."""
    return _read()


@contextmanager
def replaced(by: Callable[[], Reading]) -> Iterator[None]:
    """In here it is the time that `by` says, for the whole process: replays have a clock of their own."""
    global _read  # noqa: PLW0603 - there is one clock, as on any machine
    before, _read = _read, by
    try:
        yield
    finally:
        _read = before
