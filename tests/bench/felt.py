"""`mailprobe run`, and on the same loop a beat that notes for how long it was kept waiting.

    python -m tests.bench.felt CONFIG FILE

At the end FILE holds three doubles for every beat that came late: CLOCK_MONOTONIC when it came, by how many seconds it
was late, and for how many of these the loop's own thread was computing. The rest is what other threads and other
processes took.
"""

from __future__ import annotations

import asyncio
import sys
import time
from array import array
from pathlib import Path

from probe import config, daemon, log
from probe.cli.common import to_the_end
from probe.core.settings import Settings

_BEAT = 0.002  # seconds
_LATE = 0.001


async def _run(settings_file: Path, felt: array[float]) -> None:
    def load() -> Settings:
        return config.load(settings_file, {})

    beating = asyncio.create_task(_beat(felt))
    await daemon.run(load(), load)
    beating.cancel()


async def _beat(felt: array[float]) -> None:
    while True:
        began, used = time.monotonic(), time.thread_time()
        await asyncio.sleep(_BEAT)
        now = time.monotonic()
        if now - began - _BEAT > _LATE:
            felt.extend((now, now - began - _BEAT, time.thread_time() - used))


def main() -> None:
    settings_file, file = map(Path, sys.argv[1:])
    log.configure({})
    felt = array("d")
    try:
        to_the_end(_run(settings_file, felt))
    finally:
        file.write_bytes(felt.tobytes())


if __name__ == "__main__":
    main()
