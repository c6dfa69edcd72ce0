"""What a set of clocks, read again and again, tells about the machine: suspended, wall clock set, our own loop stalled.

Rule: only differences between clocks are judged, so that no clock need be right.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Jump = Literal["step", "suspend", "stall"]

_SLEW = 0.5  # seconds between two readings that are no step: NTP slews by 0.5 ms per s at most (ntp_adjtime(2))
_STALL = 0.5


class Reading(NamedTuple):
    """Three clocks at one moment, in seconds: wall (CLOCK_REALTIME); boot (CLOCK_BOOTTIME, goes on in suspend);
    awake (CLOCK_MONOTONIC, does not)."""

    wall: float
    boot: float
    awake: float


def jumps(before: Reading, after: Reading, planned: float) -> list[tuple[Jump, float]]:
    """What happened between two readings that were to be `planned` seconds apart, with its size in seconds.

    A step is signed, positive when the wall clock was set forward. A stall is the time by which our loop was late.
    """
    wall, boot, awake = (b - a for a, b in zip(before, after, strict=True))
    found: list[tuple[Jump, float]] = []
    if abs(wall - boot) > _SLEW:
        found.append(("step", wall - boot))
    if boot - awake > _SLEW:
        found.append(("suspend", boot - awake))
    if awake - planned > _STALL:
        found.append(("stall", awake - planned))
    return found
