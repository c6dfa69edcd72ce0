"""When things are done: due instants of a route, delays and pauses after failures. The caller waits.

Rule: the schedule is open-loop. A due instant never depends on what became of an earlier probe (coordinated omission).
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from probe.core.events import Instant, elapsed

_FIRST_WITHIN = 60.0  # a route with a long period shows signs of life within a minute


def due_times(start: float, every: float, rng: random.Random) -> Iterator[float]:
    """Due times in seconds on the clock of `start`: one period apart, with a random phase of the route's own.

    The phase (splay) keeps routes of one configuration from sending in step.
    """
    phase = rng.uniform(0.0, min(every, _FIRST_WITHIN))
    number = 0
    while True:
        yield start + phase + number * every  # multiplied, not summed: no drift
        number += 1


def backoff(rng: random.Random, first: float, longest: float) -> Iterator[float]:
    """Delays in seconds before the next attempt: doubling up to `longest`, each with full jitter over its upper half,
    so that mailboxes which lost their server together do not come back together."""
    delay = first
    while True:
        yield rng.uniform(delay / 2, delay)
        delay = min(delay * 2, longest)


class Pause:
    """After each failure a longer one, from `first` to `longest` seconds as in backoff(), until a success."""

    def __init__(self, rng: random.Random, first: float, longest: float) -> None:
        self._rng, self._range = rng, (first, longest)
        self._delays = backoff(rng, first, longest)
        self._until: Instant | None = None

    def begin(self, now: Instant) -> None:
        """It failed, now. What fails during a pause belongs to the same failure."""
        if not self.is_on(now):
            self._until = now.shifted(next(self._delays))

    def is_on(self, now: Instant) -> bool:
        """Whether to wait."""
        return self._until is not None and elapsed(now, self._until) > 0

    def end(self) -> None:
        """It succeeded: the next failure is a first one."""
        if self._until:
            self._delays, self._until = backoff(self._rng, *self._range), None
