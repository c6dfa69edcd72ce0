"""The plan of asking: within its floor and budget, dense where mails come, and honest about fast routes."""

from __future__ import annotations

import random
from collections import deque
from itertools import pairwise
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.core.asking import Asker, Listening, Usual, next_ask
from probe.core.settings import Asking

from .make import instant

DEFAULT = Asking()
EPSILON = 1e-9


def plan(usual: Usual, asking: Asking = DEFAULT, lag: float = 0.0) -> list[float]:
    """The ages of all asks for a mail that does not come, each done this long after its time."""
    ages: list[float] = []
    while (age := next_ask(ages[-1] if ages else 0.0, len(ages), usual, asking)) is not None:
        ages.append(age + lag)
        assert len(ages) < 10_000
    return ages


def used_to(*ages: float) -> Usual:
    return Usual(deque(ages, maxlen=50))


USUALS = st.builds(
    lambda ages, first: Usual(deque(ages, maxlen=50), first),
    st.lists(st.floats(0, 1e5), max_size=50),
    st.floats(0, 0.05),
)
ASKINGS = st.builds(Asking, st.floats(0.01, 3), st.integers(1, 300))


@given(USUALS, ASKINGS, st.floats(0, 0.5))
def test_asks_are_never_closer_than_the_floor_nor_more_than_the_budget(
    usual: Usual, asking: Asking, lag: float
) -> None:
    ages = plan(usual, asking, lag)
    assert len(ages) <= asking.budget
    assert all(later - age >= asking.floor - EPSILON for age, later in pairwise(ages))
    assert all(age >= 0 for age in ages)


@given(USUALS, ASKINGS)
def test_nobody_is_asked_where_listening_is_good_enough(usual: Usual, asking: Asking) -> None:
    for age in (10.0, 10.1, 600.0):
        for asks in (0, 1, asking.budget):
            assert next_ask(age, asks, usual, asking) is None
    assert next_ask(0.0, asking.budget, usual, asking) is None


def test_a_new_route_is_asked_at_once_and_then_with_gaps_of_about_six_percent() -> None:
    ages = plan(Usual())
    assert ages[0] == 0.0
    assert ages[-1] >= 10.0
    assert all(later - age == pytest.approx(0.05) for age, later in pairwise(ages) if age < 0.8)
    assert all(later - age <= 0.062 * age for age, later in pairwise(ages) if age >= 1.0)


@given(st.lists(st.floats(0.3, 20.0), min_size=5, max_size=50))
def test_gaps_after_the_earliest_usual_age_are_within_six_percent(latencies: list[float]) -> None:
    usual = used_to(*latencies)
    ages = plan(usual)
    dense = [(age, later) for age, later in pairwise(ages) if age >= max(1.0, usual.earliest)]
    assert all(later - age <= 0.062 * age for age, later in dense)
    assert ages[-1] >= 10.0 - 1e-9 or usual.earliest >= 10.0  # from there on listening is good enough


@pytest.mark.parametrize("usually", [2.0, 4.0, 9.0])
def test_asking_is_sparse_before_the_usual_latency_and_dense_around_it(usually: float) -> None:
    usual = used_to(*(usually + 0.01 * number for number in range(10)))
    ages = plan(usual)
    assert any(age == pytest.approx(usual.earliest) for age in ages)
    before = [later - age for age, later in pairwise(ages) if later < usual.earliest]
    around = [later - age for age, later in pairwise(ages) if 0.8 * usually <= age <= 1.2 * usually and age < 10]
    assert all(gap >= 0.25 for gap in before)
    assert all(gap <= 0.062 * 1.2 * usually for gap in around)
    assert len(before) < 15
    assert len(around) > 3


def test_few_mails_teach_nothing_about_the_earliest_age() -> None:
    assert used_to(4, 4, 4, 4).earliest == 0.0
    assert used_to(4, 4, 4, 4, 5).earliest == pytest.approx(2.8)


def test_a_small_budget_is_spread_over_the_whole_window() -> None:
    ages = plan(Usual(), Asking(0.05, 10))
    assert len(ages) == 10
    assert ages[-1] == pytest.approx(10.0)
    ratios = [later / age for age, later in pairwise(ages[2:])]  # the first gap is the floor's
    assert max(ratios) == pytest.approx(min(ratios))


def simulate(rng: random.Random, centre: float, spread: float, mails: int) -> list[float]:
    """By how much each arrival was seen late, on a route with such latencies, where only asking sees anything."""
    usual, errors = Usual(), []
    for _ in range(mails):
        latency = centre * rng.lognormvariate(0.0, spread)
        age: float | None = 0.0
        asks = 0
        while (age := next_ask(age or 0.0, asks, usual, DEFAULT)) is not None:
            asks += 1
            if age >= latency:
                break
        seen = age if age is not None else latency + 0.5
        errors.append(seen - latency)
        usual.learn(seen, asks, DEFAULT.floor)
    return errors


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("spread", [0.1, 0.2, 0.4])
def test_a_route_of_nine_milliseconds_is_learnt_to_within_fifteen(seed: int, spread: float) -> None:
    errors = simulate(random.Random(seed), 0.009, spread, 400)
    assert min(errors) >= 0
    assert median(errors[50:]) <= 0.015  # half of what is wanted; nearer would mean missing more often


@pytest.mark.parametrize("centre", [0.2, 1.0, 3.0, 8.0])
def test_a_slower_route_is_seen_within_six_percent_or_the_floor(centre: float) -> None:
    errors = simulate(random.Random(1), centre, 0.2, 200)
    assert median(errors[20:]) <= max(0.05, 0.062 * centre)


def test_a_route_that_became_slow_and_quick_again_is_learnt_anew() -> None:
    rng, usual = random.Random(3), Usual()
    for _ in range(100):
        usual.learn(3.0 * rng.lognormvariate(0, 0.1), 20, DEFAULT.floor)
    assert usual.first == DEFAULT.floor
    assert usual.earliest > 1.5
    for _ in range(50):
        usual.learn(0.02, 1, DEFAULT.floor)
    assert usual.earliest < 0.02
    assert usual.first < 0.02


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 60)), max_size=100), st.floats(0.01, 1))
def test_the_first_ask_always_lies_between_zero_and_the_floor_once_learnt(
    arrivals: list[tuple[float, int]], floor: float
) -> None:
    usual = Usual()
    for age, asks in arrivals:
        usual.learn(age, asks, floor)
        assert 0.0 <= usual.first <= floor
    assert len(usual.ages) <= 50


# -- whether listening will do -------------------------------------------------------------------------------------


def listening(*seen: bool) -> Listening:
    found = Listening()
    for it in seen:
        found.learn(it, 0.1)
    return found


def test_a_new_mailbox_is_neither_quick_nor_slow_and_is_asked() -> None:
    assert not Listening().quick
    assert not Listening().slow
    assert Listening().worth_asking()


def test_listening_is_quick_when_it_was_first_nearly_always() -> None:
    assert not listening(*[True] * 4).quick
    assert listening(*[True] * 5).quick
    assert listening(*[True] * 4, False).quick
    assert not listening(*[True] * 3, False, False).quick
    assert not listening(*[True] * 5).slow


def test_listening_is_slow_when_it_was_first_nearly_never() -> None:
    assert not listening(False, False).slow
    assert listening(False, False, False).slow
    assert listening(*[False] * 4, True).slow
    assert not listening(*[False] * 3, True).slow
    assert not listening(*[False] * 5).quick


def test_an_arrival_long_after_the_last_ask_teaches_nothing() -> None:
    found = Listening()
    for _ in range(20):
        found.learn(True, 0.26)
    assert not found.quick
    assert not found.seen


def test_a_quick_server_is_asked_for_every_twentieth_probe_only() -> None:
    found = listening(*[True] * 16)
    assert [number for number in range(1, 61) if found.worth_asking()] == [20, 40, 60]


def test_a_server_that_changed_is_noticed() -> None:
    found = listening(*[True] * 16)
    for _ in range(4):
        found.learn(False, 0.0)
    assert not found.quick
    for _ in range(12):
        found.learn(False, 0.0)
    assert found.slow


# -- a stall -------------------------------------------------------------------------------------------------------


def asks_while_nothing_comes(every: float, lasts: float) -> list[float]:
    """When one folder is asked while a mail is accepted so often and none comes, in seconds."""
    asker, usual, asks, now = Asker(DEFAULT), Usual(), [], 0.0
    expected = 0
    while now < lasts:
        if now >= expected * every - EPSILON:
            asker.expect(f"{expected}", "r", instant(expected * every), usual)
            expected += 1
        delay = asker.until_next(instant(now))
        if delay == 0.0:
            asker.asked(instant(now))
            asks.append(now)
        else:
            now = min(expected * every, now + max(delay, 1e-6) if delay is not None else lasts)
    return asks


def test_in_a_stall_a_mailbox_is_not_asked_for_every_mail_that_is_held_as_well() -> None:
    asks = asks_while_nothing_comes(2.0, 600.0)
    first, last = (sum(begin <= ask < begin + 60 for ask in asks) for begin in (0.0, 540.0))
    assert first > 400, "nobody knows yet that it is one"
    assert 60 < last < 200


def test_when_a_stall_is_over_every_mail_is_asked_for_again() -> None:
    asker, usual = Asker(DEFAULT), Usual()
    for number in range(10):
        asker.expect(f"{number}", "r", instant(0.0), usual)
        while (delay := asker.until_next(instant(number))) is not None and delay == 0.0:
            asker.asked(instant(number))
    while asker.until_next(instant(700.0)) is not None:
        asker.asked(instant(700.0))
    asker.expect("held", "r", instant(700.0), usual)
    asker.expect("elsewhere", "other", instant(700.0), Usual())
    for number in range(10):
        asker.arrived(f"{number}", instant(701.0), "idle", None)
    asker.expect("fresh", "r", instant(702.0), usual)
    assert asker.until_next(instant(702.0)) is not None
