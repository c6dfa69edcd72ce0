"""Intervals in words: "12–14 s", "≤ 2 s", "unresolved".

Rule: rounded outwards, so that the words are true of all that the interval allows; and nothing finer than the stamps.
"""

from __future__ import annotations

from math import ceil, floor, inf, log10

from probe.core.skew import Interval
from probe.core.words import duration

_COARSER = ((86400.0, 3600.0), (3600.0, 60.0), (60.0, 1.0))  # from so many seconds on, the step of duration()


def told(span: Interval | None, resolution: float) -> str:
    """How long a mail was held, by the bounds in seconds; `resolution`: the coarser one of the two stamps.

    Never 0: what is not proven to have taken time has an upper bound only. None: nothing is known.
    """
    if span is None or (span.low <= 0 and span.high == inf):
        return "unresolved"
    step = _step(span, resolution)
    low = floor(round(span.low / step, 6)) * step  # rounded: what arithmetic adds is no reason for another step
    high = max(step, ceil(round(span.high / step, 6)) * step) if span.high < inf else inf
    if high == inf:
        return f"≥ {_number(low, step, low)}" if low > 0 else "unresolved"
    if low <= 0:
        return f"≤ {_number(high, step, high)}"
    first = _number(low, step, high)
    return f"{first.rpartition(' ')[0] if high < 60 else first}–{_number(high, step, high)}"


def clock(host: str, offset: Interval, resolution: float) -> str:
    """How wrong a host's clock is, by the bounds of its offset against ours in seconds."""
    if offset.low > 0:
        return f"clock of {host} is {told(offset, resolution)} fast"
    if offset.high < 0:
        return f"clock of {host} is {told(Interval(-offset.high, -offset.low), resolution)} slow"
    within = told(Interval(0.0, max(-offset.low, offset.high)), resolution)
    return f"clock of {host} is right within {within.removeprefix('≤ ')}"


def _step(span: Interval, resolution: float) -> float:
    """The last digit worth telling: no finer than the stamps, nor than a tenth of the uncertainty."""
    size = span.high if span.high < inf else span.low
    coarser = next((step for least, step in _COARSER if size > least), 0.0)
    uncertain = (span.high - span.low) / 10 if span.high < inf else resolution
    finest: float = 10.0 ** floor(log10(max(uncertain, 1e-6)))
    wanted = resolution if resolution >= 1 else 10.0 ** ceil(round(log10(resolution), 6))
    return max(wanted, min(finest, 1.0), coarser)


def _number(seconds: float, step: float, largest: float) -> str:
    """In the unit that suits the largest number beside it."""
    if largest >= 60:
        return duration(seconds) if seconds >= 60 else f"{seconds:.0f} s"
    unit, scale = ("ms", 1000) if largest < 1 else ("s", 1)
    return f"{seconds * scale:.{max(0, -round(log10(step * scale)))}f} {unit}"
