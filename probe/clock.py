"""The real clock: the one place that reads it. Everything else is handed an Instant or a function that makes one."""

from __future__ import annotations

import time
from pathlib import Path

from probe.core.clocks import Reading
from probe.core.events import Instant

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def now() -> Instant:
    """This instant: CLOCK_REALTIME and CLOCK_BOOTTIME (which goes on during suspend), both in seconds."""
    return Instant(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), _BOOT_ID)


def reading() -> Reading:
    """All three clocks at this moment; see core/clocks.py."""
    return Reading(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic())
