"""What goes wrong when, drawn from a seed.

Rule: the seed decides everything that is decided here; the instants at which things really happen are the machine's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

# Seconds. Long enough to be met by a daemon that lives about one second, short enough for many.
_FROZEN = 0.2, 1.8
_DOWN = 0.1, 1.2
_WIRE = 0.1, 1.5
_EARLY = 0.3  # share of the kills that come while it starts
_START = 0.7  # seconds that a start takes, about
_LONGEST = 20.0
INSTALLATIONS = 2
_WIRES = ("cut", "stalled", "swallowed", "refused", "limited", "limited", "dropped")


@dataclass(frozen=True, slots=True)
class Fault:
    """`target` suffers `kind` from `at` (seconds since the beginning) for so many seconds. `limit`: see FaultProxy."""

    at: float
    target: str  # postfix, dovecot; smtp, imap (the daemon's wires), lmtp (between the two)
    kind: str
    seconds: float
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Life:
    """One start of the daemon and its end by SIGKILL, so many seconds after exec, or after it came up."""

    seconds: float
    at_work: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """tracks: one after the other in each, all at the same time."""

    seed: int
    seconds: float
    lives: tuple[Life, ...]
    tracks: tuple[tuple[Fault, ...], ...]

    def lines(self) -> Iterator[str]:
        """For people, and to compare with another run's."""
        yield f"seed {self.seed}: {len(self.lives)} kills in {self.seconds:g} s"
        for fault in sorted((fault for track in self.tracks for fault in track), key=lambda fault: fault.at):
            bytes_ = f" after {fault.limit} bytes" if fault.limit else ""
            yield f"  {fault.at:6.2f} s  {fault.target:8}{fault.kind} for {fault.seconds:.2f} s{bytes_}"


def draw(seed: int, seconds: float, kills: int) -> Plan:
    """A plan for so many seconds."""
    rng = random.Random(seed)
    mean = (seconds * INSTALLATIONS / kills - _EARLY * 0.33) / (1 - _EARLY) - _START
    lives = tuple(
        Life(rng.uniform(0.05, 0.6), at_work=False)
        if rng.random() < _EARLY
        else Life(min(0.02 + rng.expovariate(1 / max(mean, 0.3)), _LONGEST), at_work=True)
        for _ in range(kills)
    )
    draws = [partial(_server, rng, "postfix"), partial(_server, rng, "dovecot"), partial(_wire, rng)]
    gaps = [(3.0, 7.0), (3.0, 7.0), (0.7, 3.0)]
    tracks = tuple(tuple(_track(rng, seconds, gap, one)) for gap, one in zip(gaps, draws, strict=True))
    return Plan(seed, seconds, lives, tracks)


def _track(
    rng: random.Random, seconds: float, gap: tuple[float, float], one: Callable[[float], Fault]
) -> Iterator[Fault]:
    at = rng.uniform(*gap)
    while at < seconds:
        fault = one(at)
        yield fault
        at += fault.seconds + rng.uniform(*gap)


def _server(rng: random.Random, target: str, at: float) -> Fault:
    if rng.random() < 0.5:
        return Fault(at, target, "frozen", rng.uniform(*_FROZEN))
    return Fault(at, target, "restarted", rng.uniform(*_DOWN))


def _wire(rng: random.Random, at: float) -> Fault:
    target = rng.choice(["smtp", "smtp", "imap", "imap", "lmtp"])
    kind = "dropped" if target == "lmtp" else rng.choice(_WIRES)
    # The server's side of a submission is 1400 bytes up to log-in, then 195 for each probe, of which the last 250 is
    # 80: where that one is lost, the server answers for a mail of which we do not know.
    limit = rng.randrange(*rng.choice([(100, 1400), (1400, 2400), (1400, 2400)])) if kind == "limited" else 0
    return Fault(at, target, kind, rng.uniform(*_WIRE), limit)
