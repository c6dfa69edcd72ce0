"""Intervals in words."""

from __future__ import annotations

import re
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.core.skew import Interval
from probe.core.spans import clock, told


@pytest.mark.parametrize(
    ("low", "high", "resolution", "words"),
    [
        (12.3, 13.6, 1.0, "12–14 s"),
        (0.0, 1.2, 1.0, "≤ 2 s"),
        (0.9, 1.2, 1.0, "≤ 2 s"),  # 0 would be more than is known
        (0.0, 0.0, 1.0, "≤ 1 s"),
        (13.0000001, 14.0000001, 1.0, "13–14 s"),
        (5.0, 10.0, 60.0, "≤ 1 min 0 s"),  # a clock that tells minutes
        (12.312, 13.614, 0.001, "12.3–13.7 s"),  # more digits would pretend
        (12.312, 12.318, 0.001, "12.312–12.318 s"),
        (0.0123, 0.0141, 0.001, "12–15 ms"),
        (0.0123, 0.0124, 1e-6, "12.300–12.400 ms"),
        (0.0, 0.0004, 1e-6, "≤ 0.40 ms"),
        (0.9, 0.9999, 0.01, "0.90–1.00 s"),
        (58.2, 60.5, 1.0, "58 s–1 min 1 s"),
        (2818.0, 2821.0, 1.0, "46 min 58 s–47 min 1 s"),
        (7500.0, 7530.0, 1.0, "2 h 5 min–2 h 6 min"),
        (90_000.0, 90_100.0, 1.0, "1 d 1 h–1 d 2 h"),
        (3.2, inf, 1.0, "≥ 3 s"),
        (300.0, inf, 1.0, "≥ 5 min 0 s"),
        (0.4, inf, 1.0, "unresolved"),
        (0.0, inf, 1.0, "unresolved"),
    ],
)
def test_a_delay_is_told_as_finely_as_it_is_known(low: float, high: float, resolution: float, words: str) -> None:
    assert told(Interval(low, high), resolution) == words


def test_what_is_not_known_is_unresolved() -> None:
    assert told(None, 1.0) == "unresolved"


@pytest.mark.parametrize(
    ("low", "high", "resolution", "words"),
    [
        (-37.4, -32.3, 1.0, "clock of mx is 32–38 s slow"),
        (32.3, 37.4, 1.0, "clock of mx is 32–38 s fast"),
        (0.4, 1.2, 1.0, "clock of mx is ≤ 2 s fast"),
        (-0.4, 1.2, 1.0, "clock of mx is right within 2 s"),
        (-0.0004, 0.00012, 1e-6, "clock of mx is right within 0.40 ms"),
        (-7205.0, -7200.0, 1.0, "clock of mx is 2 h 0 min–2 h 1 min slow"),
    ],
)
def test_a_clock_is_told_slow_or_fast(low: float, high: float, resolution: float, words: str) -> None:
    assert clock("mx", Interval(low, high), resolution) == words


def seconds(words: str, unit: str) -> float:
    """ "12.3" of "ms", or "2 h 5 min", in seconds."""
    sizes = {"d": 86400.0, "h": 3600.0, "min": 60.0, "s": 1.0, "ms": 0.001}
    parts = re.findall(r"([\d.]+) ?(d|h|min|ms|s)?(?![\d.])", words)
    return sum(float(number) * sizes[name or unit] for number, name in parts)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.sampled_from([60.0, 1.0, 0.01, 1e-3, 1e-6]))
def test_the_words_say_no_more_than_the_interval(low: float, width: float, resolution: float) -> None:
    words = told(Interval(low, low + width), resolution)
    unit = words.rpartition(" ")[2]
    first, _, last = words.removeprefix("≤ ").rpartition("–")
    slack = 1e-5 + 1e-9 * low
    assert seconds(last, unit) >= low + width - slack
    assert (first == "") == words.startswith("≤ ")
    if first:
        assert 0 < seconds(first, unit) <= low + slack
    for number in filter(None, (first, last)):
        steps = seconds(number, unit) / min(resolution, 1.0)
        assert abs(steps - round(steps)) < 0.01
    decimals = max(len(number.partition(".")[2]) for number in re.findall(r"[\d.]+", words))
    assert 10.0**-decimals >= min(resolution, 1.0) * (1000 if unit == "ms" and decimals else 1) * 0.999
