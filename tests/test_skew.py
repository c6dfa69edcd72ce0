"""Received stamps of a world whose clocks are known, so that every interval can be compared with the truth."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.core.skew import DRIFT, Clocks, Interval, Passage, Stamp, backward

T0 = 1_700_000_000.0
ROUNDING = 1e-5  # a float of Unix time resolves 0.24 µs; a bound is the sum of some


@dataclass
class Host:
    """A clock: offset, a drift that turns round every `period` seconds, a resolution, and steps at their times."""

    name: str
    offset: float
    drift: float
    period: float
    resolution: float
    steps: list[tuple[float, float]] = field(default_factory=list)

    def stepped(self, at: float) -> float:
        """By how much this clock was set until then."""
        return sum(by for when, by in self.steps if when <= at)

    def error(self, at: float) -> float:
        """Its offset against our clock."""
        phase = (at - T0) / self.period % 2
        return self.offset + self.stepped(at) + self.drift * self.period * (1 - abs(1 - phase))

    def stamp(self, at: float) -> Stamp:
        reading = at + self.error(at)
        return Stamp(self.name, math.floor(reading / self.resolution) * self.resolution, self.resolution)


@dataclass
class Mail:
    """What really happened, beside what is seen of it."""

    made: list[float]
    hosts: list[Host]
    passage: Passage


@dataclass
class World:
    """Pools of hosts that mails pass one after the other; some mails are held for minutes or hours."""

    rng: random.Random
    pools: list[list[Host]]
    held: float = 0.1  # the share, at each host

    @classmethod
    def of(cls, rng: random.Random, resolutions: tuple[float, ...], members: int = 1, drift: float = DRIFT) -> World:
        def host(name: str) -> Host:
            period = rng.choice([600.0, 7200.0, 1e6])
            return Host(name, rng.gauss(0, 20), rng.choice([-drift, drift]), period, rng.choice(resolutions))

        return cls(rng, [[host(f"{stage}{n}") for n in range(rng.randint(1, members))] for stage in "abcde"])

    def mail(self, at: float) -> Mail:
        rng = self.rng
        hosts = [rng.choice(pool) for pool in self.pools]
        now = at + 0.05 + rng.expovariate(1 / 0.15)
        made = []
        for _ in hosts:
            made.append(now)
            if rng.random() >= self.held:
                now += rng.expovariate(1 / 0.25)
            else:
                now += rng.uniform(20, 300) if rng.random() < 0.85 else rng.uniform(900, 4000)
        stamps = tuple(host.stamp(when) for host, when in zip(hosts, made, strict=True))
        return Mail(made, hosts, Passage(at, now, stamps))

    def mails(self, count: int, every: float = 300.0) -> Iterator[Mail]:
        for number in range(count):
            yield self.mail(T0 + number * every + self.rng.uniform(0, every / 2))


def delays(clocks: Clocks, passage: Passage) -> tuple[Interval, ...]:
    """From each stamp to the next."""
    fit = clocks.fit(passage)
    return tuple(fit.delay(number, number + 1) for number in range(len(passage.stamps) - 1))


def errors(clocks: Clocks, mail: Mail) -> Iterator[float]:
    """By how much the truth lies outside of each interval that is told of this mail; negative or 0: it does not."""
    told = [*clocks.place(mail.passage), *delays(clocks, mail.passage)]
    truth = [*mail.made, *(b - a for a, b in pairwise(mail.made))]
    for interval, true in zip(told, truth, strict=True):
        assert interval.low <= interval.high
        yield max(interval.low - true, true - interval.high)


def offset_errors(clocks: Clocks, world: World, now: float) -> dict[str, float]:
    """The same of each host's offset."""
    hosts = {host.name: host.error(now) for pool in world.pools for host in pool}
    return {name: max(low - hosts[name], hosts[name] - high) for name, (low, high) in clocks.offsets(now).items()}


RESOLUTIONS = st.sampled_from([(1.0,), (1e-3,), (1e-6,), (1.0, 1e-3, 1e-6)])
SEEDS = st.integers(0, 2**32)


# -- what is promised ----------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(SEEDS, RESOLUTIONS, st.integers(1, 3), st.sampled_from([10.0, 300.0, 7200.0]))
def test_the_truth_lies_in_every_interval(seed: int, fine: tuple[float, ...], members: int, every: float) -> None:
    """Mails are known in the order in which they came, and each before the next ones are learnt from, and after."""
    rng = random.Random(seed)
    world = World.of(rng, fine, members)
    clocks = Clocks(hosts=rng.choice([4, 8, 64]))
    mails = sorted(world.mails(30, every), key=lambda mail: mail.passage.end)
    for number, mail in enumerate(mails):
        assert max(errors(clocks, mail)) < ROUNDING, "before it is learnt from"
        clocks.add(mail.passage)
        assert clocks.steps == ()
        assert max(errors(clocks, mail)) < ROUNDING
        assert max(errors(clocks, mails[rng.randint(0, number)])) < ROUNDING, "of an earlier mail"
        now = mail.passage.end + rng.choice([-3600.0, 0.0, 3600.0])
        assert max(offset_errors(clocks, world, now).values()) < ROUNDING


@settings(max_examples=30, deadline=None)
@given(SEEDS, RESOLUTIONS)
def test_the_order_in_which_mails_become_known_does_not_matter(seed: int, fine: tuple[float, ...]) -> None:
    rng = random.Random(seed)
    clocks, mails = Clocks(), list(World.of(rng, fine, 3).mails(30))
    rng.shuffle(mails)
    for mail in mails:
        clocks.add(mail.passage)
        assert clocks.steps == ()
        assert max(errors(clocks, rng.choice(mails))) < ROUNDING


@settings(max_examples=30, deadline=None)
@given(SEEDS, RESOLUTIONS, st.floats(0.05, 100.0), st.integers(1, 3))
def test_clocks_that_are_set_mislead_by_at_most_what_is_unnoticed(
    seed: int, fine: tuple[float, ...], size: float, members: int
) -> None:
    """For each host, how far its clock was set over the stamps that may still count: the sum is the error's bound."""
    rng = random.Random(seed)
    world = World.of(rng, fine, members)
    hosts = {host.name: host for pool in world.pools for host in pool}
    for host in rng.sample(list(hosts.values()), min(3, len(hosts))):
        host.steps += [(T0 + rng.uniform(0, 9000), rng.gauss(0, size)) for _ in range(rng.randint(1, 2))]
    mails = sorted(world.mails(30), key=lambda mail: mail.passage.end)
    clocks, counted = Clocks(), {name: set[float]() for name in hosts}
    for mail in mails:
        clocks.add(mail.passage)
        gone = {step.host for step in clocks.steps} | hosts.keys() - clocks.offsets(0.0).keys()
        counted |= {name: set[float]() for name in gone}
        for host, made in zip(mail.hosts, mail.made, strict=True):
            counted[host.name].add(host.stepped(made))
        for other in (mail, rng.choice(mails)):
            unnoticed = 0.0
            for host, made in zip(other.hosts, other.made, strict=True):
                set_to = {*counted[host.name], host.stepped(made)}
                unnoticed += max(set_to) - min(set_to)
            assert max(errors(clocks, other)) <= unnoticed + ROUNDING
        for name, error in offset_errors(clocks, world, mail.passage.end).items():
            set_to = {*counted[name], hosts[name].stepped(mail.passage.end)}
            assert error <= max(set_to) - min(set_to) + ROUNDING


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.floats(0.1, 100.0), st.booleans())
def test_a_step_is_told_of_the_right_host_and_unnoticed_only_if_small(seed: int, size: float, back: bool) -> None:
    rng = random.Random(seed)
    world = World.of(rng, (1.0, 1e-3), drift=0.0)
    host = rng.choice(world.pools)[0]
    by = -size if back else size
    host.steps = [(T0 + 3000.0, by)]
    number = world.pools.index([host])
    clocks, before = Clocks(drift=0.0), math.inf
    for mail in sorted(world.mails(20), key=lambda mail: mail.made[number]):
        clocks.add(mail.passage)
        end, transit = mail.passage.end, mail.passage.end - mail.passage.start
        if clocks.steps:
            told = next(step for step in clocks.steps if step.host == host.name)
            assert told.at == end
            assert told.by.low - ROUNDING <= by <= told.by.high + ROUNDING
            assert {step.host for step in clocks.steps if step.sure} <= {host.name}
            assert mail.made[number] >= T0 + 3000.0
            break
        if mail.made[number] < T0 + 3000.0:
            low, high = clocks.offsets(end)[host.name]
            before = high - low
        else:
            assert size <= before + transit + host.resolution + ROUNDING


@pytest.mark.parametrize(
    ("resolution", "usual", "held"), [(1.0, 2.0, 4.3), (1e-3, 1.3, 2.1), (1e-6, 1.3, 2.1)], ids=["s", "ms", "us"]
)
def test_ten_mails_are_enough_to_know_half_of_the_delays_to_two_seconds(
    resolution: float, usual: float, held: float
) -> None:
    """The next mail, as they usually are, and one that 4 of 10 hosts hold; docs/hops.md has the numbers."""
    for share, taught, untaught in ((0.1, usual, 2.0), (0.4, held, 200.0)):
        widths, before = list[float](), list[float]()
        for seed in range(200):
            world, clocks = World.of(random.Random(seed), (resolution,)), Clocks()
            for mail in world.mails(10):
                clocks.add(mail.passage)
            world.held = share
            last = world.mail(T0 + 3000.0).passage
            clocks.add(last)
            widths += [high - low for low, high in delays(clocks, last)]
            before += [high - low for low, high in delays(Clocks(), last)]
        assert statistics.median(widths) <= taught
        assert statistics.median(before) > untaught


def test_a_clock_that_is_set_by_half_a_minute_is_named_by_the_next_quick_mail() -> None:
    for seed in range(20):
        rng = random.Random(seed)
        world, clocks = World.of(rng, (1.0,)), Clocks()
        world.held = 0.0
        host = rng.choice(world.pools)[0]
        host.steps = [(T0 + 20 * 300.0 - 10.0, 30.0)]
        for mail in world.mails(21):
            assert clocks.steps == ()
            clocks.add(mail.passage)
        [step] = clocks.steps
        assert (step.host, step.sure) == (host.name, True)
        assert 20 < step.by.low < 30 < step.by.high < 40


# -- single cases --------------------------------------------------------------------------------------------------


def passage(*stamps: tuple[str, float], start: float = 0.0, end: float = 2.0) -> Passage:
    """Seconds after T0."""
    return Passage(T0 + start, T0 + end, tuple(Stamp(host, T0 + at, 1.0) for host, at in stamps))


def ago(intervals: tuple[Interval, ...]) -> list[tuple[float, float]]:
    """Instants as seconds after T0."""
    return [(round(low - T0, 2), round(high - T0, 2)) for low, high in intervals]


def test_a_first_mail_is_placed_by_its_two_ends_alone() -> None:
    """Whatever its stamps say: all clocks may be wrong by any amount."""
    one = passage(("a", -500.0), ("b", 900.0))
    assert ago(Clocks().place(one)) == [(0.0, 2.0), (0.0, 2.0)]
    assert delays(Clocks(), one) == (Interval(0.0, 2.0),)
    assert delays(Clocks(), passage()) == Clocks().place(passage()) == ()


def test_a_held_mail_is_placed_by_what_an_undisturbed_one_has_shown() -> None:
    """b is 20 s slow: its stamp comes first by the clocks, and the mail was held for 98 to 102 s before it."""
    clocks = Clocks(drift=0.0)
    clocks.add(passage(("a", 0.0), ("b", -20.0), ("c", 1.0)))
    held = passage(("a", 100.0), ("b", 180.0), ("c", 201.0), start=100.0, end=202.0)
    clocks.add(held)
    assert clocks.steps == ()
    assert ago(clocks.place(held)) == [(100.0, 103.0), (199.0, 202.0), (199.0, 202.0)]
    assert delays(clocks, held) == (Interval(98.0, 102.0), Interval(0.0, 3.0))


def test_a_host_that_was_never_seen_gets_nothing_from_its_neighbours_in_the_pool() -> None:
    clocks = Clocks()
    clocks.add(passage(("a", 0.0), ("mx1", -20.0)))
    assert ago(clocks.place(passage(("a", 100.0), ("mx2", 80.0), start=100.0, end=500.0)))[1][1] == 500.0


def test_stamps_without_a_host_are_only_in_order() -> None:
    clocks = Clocks(drift=0.0)
    for start in (0.0, 100.0):
        clocks.add(passage(("a", start), ("", start + 70.0), ("b", start + 1.0), start=start, end=start + 2.0))
    assert clocks.steps == ()
    assert clocks.offsets(T0).keys() == {"a", "b"}
    held = passage(("a", 200.0), ("", 0.0), ("b", 299.0), start=200.0, end=300.0)
    assert ago(clocks.place(held)) == [(200.0, 203.0), (200.0, 300.0), (297.0, 300.0)]


def test_a_loop_is_measured_by_the_clock_it_passes_twice() -> None:
    clocks = Clocks(drift=0.0)
    loop = passage(("a", 0.0), ("b", 5.0), ("a", 50.0), ("c", 0.0), end=500.0)
    clocks.add(loop)
    assert clocks.steps == ()
    assert max(high for _, high in delays(clocks, loop)[:2]) == 51.0


def test_a_mail_that_contradicts_itself_is_told_and_teaches_nothing() -> None:
    clocks = Clocks()
    clocks.add(passage(("a", 0.0), ("b", 1.0)))
    before = clocks.offsets(T0)["b"]
    mad = passage(("b", 301.0), ("a", 350.0), ("a", 300.0), start=300.0, end=302.0)
    clocks.add(mad)
    assert [(step.host, step.sure) for step in clocks.steps] == [("a", True)]
    assert clocks.offsets(T0) == {"b": before}
    assert ago(clocks.place(mad)) == [(300.0, 302.0)] * 3
    assert delays(clocks, mad) == (Interval(0.0, 2.0),) * 2


def test_where_several_clocks_were_set_or_ours_nothing_is_kept() -> None:
    clocks = Clocks()
    clocks.add(passage(("a", 0.0), ("b", 1.0)))
    clocks.add(passage(("x", 10.0), start=10.0, end=12.0))
    clocks.add(passage(("a", 50.0), ("b", 51.0), start=20.0, end=22.0))
    assert [(step.host, step.sure) for step in clocks.steps] == [("a", False), ("b", False)]
    assert all(step.by.low < 30 < step.by.high for step in clocks.steps)
    assert clocks.offsets(T0).keys() == {"a", "b"}


def test_after_our_own_clock_was_set_back_by_months_everything_begins_anew() -> None:
    """Else what is known would be loosened by months of drift, and spoil the present."""
    clocks = Clocks()
    clocks.add(passage(("a", 0.0), start=0.0))
    clocks.add(passage(("b", -1e7), start=-1e7, end=2.0 - 1e7))
    assert clocks.offsets(T0 - 1e7).keys() == {"b"}
    assert clocks.offsets(2.0 + T0 - 1e7)["b"].high < 1.01


def test_only_the_hosts_seen_last_are_remembered() -> None:
    clocks = Clocks(hosts=3)
    for number, host in enumerate(["a", "b", "a", "c", "d"]):
        clocks.add(passage((host, float(number)), start=number, end=number + 1))
    assert clocks.offsets(T0).keys() == {"a", "c", "d"}


def test_a_mail_with_very_many_stamps_is_not_worked_on() -> None:
    clocks, long = Clocks(), passage(*((f"h{n}", 0.0) for n in range(1000)))
    clocks.add(long)
    assert clocks.offsets(T0) == {}
    assert ago(clocks.place(long)) == [(0.0, 2.0)] * 1000
    assert len(delays(clocks, long)) == 999


@pytest.mark.parametrize(
    ("start", "end", "at", "resolution"),
    [
        *[(1.0, 0.0, 0.0, 1.0), (0.0, math.nan, 0.0, 1.0), (0.0, math.inf, 0.0, 1.0), (0.0, 1.0, math.inf, 1.0)],
        *[(0.0, 1.0, 0.0, -1.0), (0.0, 1.0, 0.0, 0.0), (0.0, 1.0, 0.0, math.nan)],
    ],
)
def test_what_no_mail_can_have_done_is_refused(start: float, end: float, at: float, resolution: float) -> None:
    with pytest.raises(ValueError, match="no mail went from"):
        Passage(start, end, (Stamp("a", at, resolution),))


# -- a mail alone --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stamps", "held"),
    [
        # within the two seconds by which any two clocks may differ
        ([("a", 0.0), ("b", 1.0), ("c", 0.0)], [(0.0, 4.0), (0.0, 2.0)]),
        ([("a", 0.0), ("b", 2820.0)], [(2817.0, 2823.0)]),
        # c reads 30 s before b, so two clocks differ by more than 29 s, and a gap of 25 s is no evidence
        ([("a", 0.0), ("b", 25.0), ("c", -5.0)], [None, None]),
        ([("a", 0.0), ("b", 100.0), ("c", 70.0)], [(70.0, math.inf), None]),
        # a's own clock has the last word on what lies between its two stamps
        ([("a", 0.0), ("b", 100.0), ("a", 70.0), ("c", 70.0)], [(70.0, 71.0), (0.0, 71.0), None]),
        ([("a", 0.0), ("a", 70.0)], [(69.0, 71.0)]),
        ([("a", 0.0), ("a", -70.0)], [None]),
        ([("a", 0.0)], []),
        ([], []),
    ],
)
def test_a_single_mail_tells_what_its_clocks_do_not_put_in_doubt(
    stamps: list[tuple[str, float]], held: list[tuple[float, float] | None]
) -> None:
    assert [gap.held for gap in backward(passage(*stamps).stamps)] == held


@settings(max_examples=30, deadline=None)
@given(SEEDS, RESOLUTIONS, st.floats(0.0, 30.0))
def test_the_truth_is_told_of_a_single_mail_where_clocks_can_be_trusted(
    seed: int, fine: tuple[float, ...], trust: float
) -> None:
    rng = random.Random(seed)
    world = World.of(rng, fine, drift=0.0)
    for pool in world.pools:
        pool[0].offset = rng.uniform(-trust / 2, trust / 2)
    for mail in world.mails(20):
        for gap, (a, b) in zip(backward(mail.passage.stamps, trust), pairwise(mail.made), strict=True):
            assert gap.held
            assert gap.held.low - ROUNDING <= b - a <= gap.held.high + ROUNDING
            assert gap.seen.low - trust - ROUNDING <= b - a <= gap.seen.high + trust + ROUNDING
