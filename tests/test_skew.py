"""Received stamps of a world whose clocks are known, so that every interval can be compared with the truth."""

from __future__ import annotations

import json
import math
import random
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from probe.core.skew import DRIFT, Clocks, Interval, Passage, Stamp

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
            luck = rng.random()
            if luck < 0.9:
                now += rng.expovariate(1 / 0.25)
            else:
                now += rng.uniform(20, 300) if luck < 0.985 else rng.uniform(900, 4000)
        stamps = tuple(host.stamp(when) for host, when in zip(hosts, made, strict=True))
        return Mail(made, hosts, Passage(at, now, stamps))

    def mails(self, count: int, every: float = 300.0) -> Iterator[Mail]:
        for number in range(count):
            yield self.mail(T0 + number * every + self.rng.uniform(0, every / 2))


def errors(clocks: Clocks, mail: Mail) -> Iterator[float]:
    """By how much the truth lies outside of each interval that is told of this mail; negative or 0: it does not."""
    told = [*clocks.place(mail.passage), *clocks.delays(mail.passage)]
    truth = [*mail.made, *(b - a for a, b in pairwise(mail.made))]
    for interval, true in zip(told, truth, strict=True):
        assert interval.low <= interval.high
        yield max(interval.low - true, true - interval.high)


def offset_errors(clocks: Clocks, world: World, now: float) -> Iterator[float]:
    offsets = clocks.offsets(now)
    for host in (host for pool in world.pools for host in pool if host.name in offsets):
        low, high = offsets[host.name]
        yield max(low - host.error(now), host.error(now) - high)


def widths(resolutions: tuple[float, ...], history: int) -> list[float]:
    """Of all delays that are told of the mail after `history` others, in 100 worlds."""
    found = []
    for seed in range(100):
        clocks = Clocks()
        for mail in World.of(random.Random(seed), resolutions).mails(history + 1):
            clocks.add(mail.passage)
        found += [high - low for low, high in clocks.delays(mail.passage)]
    return found


def medians(resolutions: tuple[float, ...], history: int) -> float:
    return statistics.median(widths(resolutions, history))


RESOLUTIONS = st.sampled_from([(1.0,), (1e-3,), (1e-6,), (1.0, 1e-3, 1e-6)])
SEEDS = st.integers(0, 2**32)


# -- what is promised ----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
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
        assert max(offset_errors(clocks, world, now)) < ROUNDING
        if rng.random() < 0.1:
            data = json.loads(json.dumps(clocks.dump()))
            clocks = Clocks(hosts=rng.choice([4, 8, 64]))
            clocks.load(data)


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


@settings(max_examples=60, deadline=None)
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
        now = {name: {*seen, hosts[name].stepped(mail.passage.end)} for name, seen in counted.items()}
        unnoticed = sum(max(set_to) - min(set_to) for set_to in now.values())
        assert max(offset_errors(clocks, world, mail.passage.end)) <= unnoticed + ROUNDING


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.floats(0.1, 100.0), st.booleans())
def test_a_step_is_told_of_the_right_host_and_unnoticed_only_if_small(seed: int, size: float, back: bool) -> None:
    rng = random.Random(seed)
    world = World.of(rng, (1.0, 1e-3))
    host = rng.choice(world.pools)[0]
    by = -size if back else size
    host.steps = [(T0 + 3000.0, by)]
    clocks, before = Clocks(), Interval(-math.inf, math.inf)
    for mail in sorted(world.mails(20), key=lambda mail: mail.passage.end):
        start, end, _ = mail.passage.start, mail.passage.end, mail.passage.stamps
        before = clocks.offsets(end).get(host.name, before)
        clocks.add(mail.passage)
        if start <= T0 + 3000.0:
            assert clocks.steps == ()
        elif clocks.steps:
            told = next(step for step in clocks.steps if step.host == host.name)
            assert told.at == end
            assert told.by.low - ROUNDING <= by <= told.by.high + ROUNDING
            assert [step.host for step in clocks.steps if step.sure] in ([], [host.name])
            break
        else:
            assert size <= before.high - before.low + end - start + host.resolution + ROUNDING
