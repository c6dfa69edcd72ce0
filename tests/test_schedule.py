"""Due instants and delays, to the exact number."""

from __future__ import annotations

import random
from itertools import accumulate, islice, pairwise, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.core.schedule import Pause, backoff, due_times

from .make import FakeClock


class Fixed(random.Random):
    """Always draws this far between the ends."""

    def __init__(self, share: float) -> None:
        super().__init__(0)
        self.share = share

    def random(self) -> float:
        return self.share


@pytest.mark.parametrize(
    ("start", "every", "share", "wanted"),
    [
        (1000.0, 10.0, 0.0, [1000.0, 1010.0, 1020.0]),
        (1000.0, 10.0, 0.5, [1005.0, 1015.0, 1025.0]),
        (1000.0, 60.0, 0.25, [1015.0, 1075.0, 1135.0]),
        (1000.0, 3600.0, 0.5, [1030.0, 4630.0, 8230.0]),  # the phase is drawn within a minute
        (0.0, 0.5, 0.75, [0.375, 0.875, 1.375]),
    ],
)
def test_due_instants_are_exact(start: float, every: float, share: float, wanted: list[float]) -> None:
    assert list(islice(due_times(start, every, Fixed(share)), 3)) == wanted


@given(st.floats(0, 1e7), st.floats(0.01, 1e6), st.integers(0, 2**32))
def test_the_phase_lies_within_the_period_and_within_a_minute(start: float, every: float, seed: int) -> None:
    first = next(due_times(start, every, random.Random(seed)))
    assert start <= first <= start + min(every, 60.0) + 1e-6


def test_a_hundred_thousand_periods_do_not_drift() -> None:
    every = 0.1  # no binary fraction: a sum would drift
    dues = list(islice(due_times(1000.0, every, random.Random(1)), 100_001))
    assert dues[-1] - dues[0] == pytest.approx(10_000.0, abs=1e-8)
    assert all(0.1 - 1e-9 < later - due < 0.1 + 1e-9 for due, later in pairwise(dues))


def test_routes_do_not_send_in_step() -> None:
    rng = random.Random(1)
    assert len({next(due_times(0.0, 60.0, rng)) for _ in range(100)}) == 100


def test_the_schedule_is_the_same_whenever_the_caller_asks() -> None:
    prompt, late = due_times(0.0, 5.0, random.Random(7)), due_times(0.0, 5.0, random.Random(7))
    first = list(islice(prompt, 4))
    assert first == [next(late) for _ in range(4)]


@pytest.mark.parametrize(("share", "wanted"), [(0.0, [1, 2, 4, 8, 10, 10, 10]), (0.5, [1.5, 3, 6, 12, 15, 15, 15])])
def test_delays_double_up_to_the_longest(share: float, wanted: list[float]) -> None:
    assert list(islice(backoff(Fixed(share), 2.0, 20.0), 7)) == wanted


@given(st.floats(0.01, 100), st.floats(1, 1000), st.integers(0, 2**32))
def test_every_delay_lies_in_the_upper_half_of_its_bound(first: float, factor: float, seed: int) -> None:
    longest = first * factor
    for number, delay in enumerate(islice(backoff(random.Random(seed), first, longest), 20)):
        bound = min(first * 2**number, longest)
        assert bound / 2 <= delay <= bound


@given(st.integers(0, 2**32))
def test_log_ins_that_are_refused_are_at_most_sixty_a_day(seed: int) -> None:
    """Two minutes growing to an hour, as both wires have it; providers lock accounts after ten or so in a row."""
    attempts = accumulate(backoff(random.Random(seed), 120.0, 3600.0), initial=0.0)
    times = list(takewhile(lambda at: at < 86400, attempts))
    assert len(times) <= 60
    assert sum(at < 3600 for at in times) <= 8


def test_mailboxes_that_lost_their_server_together_do_not_come_back_together() -> None:
    rng = random.Random(1)
    assert len({next(backoff(rng, 2.0, 300.0)) for _ in range(100)}) == 100


def test_a_pause_grows_with_each_failure_after_it_and_begins_anew_with_a_success() -> None:
    pause, clock = Pause(Fixed(0.0), 60.0, 200.0), FakeClock()  # half of 60, 120, 200, 200
    for seconds in (30.0, 60.0, 100.0, 100.0):
        assert not pause.is_on(clock())
        pause.begin(clock())
        clock.advance(seconds - 1)
        pause.begin(clock())  # the same failure, told again
        assert pause.is_on(clock())
        clock.advance(1)
    pause.end()
    pause.begin(clock())
    clock.advance(29.0)
    assert pause.is_on(clock())
    pause.end()
    assert not pause.is_on(clock())
