"""When things are done: due instants of a route, and delays between attempts that failed. Generators; the caller waits.

Rule: the schedule is open-loop. A due instant never depends on what became of an earlier probe (coordinated omission).
"""

from __future__ import annotations

import random
from collections.abc import Iterator

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
