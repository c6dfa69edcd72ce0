"""When a mailbox is asked (NOOP) while a probe is expected, because listening (IDLE) can be late.

Rule: asking is planned from what is known, never a loop; it has a floor between two asks and a budget per probe.

Why: Dovecot holds IDLE's news back by 500 ms at compile time (measured 500.2 / 500.4 / 505.7 ms), other servers for
seconds; a NOOP tells at once. An arrival seen by asking is late by at most the gap to the ask before, so gaps of 5 % of
the age keep the error at 5 % of the latency, and once 5 % is more than IDLE's own lag, IDLE is good enough.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from probe.core.settings import Asking

_RATIO = 0.05  # wanted: gap / age
_SPARSE_RATIO = 0.2  # before the earliest age at which this route's mails have lately come
_SPARSE_FLOOR = 0.25
_IDLE_LAG = 0.5
_UNTIL = _IDLE_LAG / _RATIO  # 10 s: from here on IDLE's lag is within 5 % of the age
_MEMORY = 50


@dataclass(slots=True)
class Usual:
    """What one route's arrivals have taught about when to ask. All ages are seconds since the 250."""

    ages: deque[float] = field(default_factory=lambda: deque(maxlen=_MEMORY))
    first: float = 0.0  # where in [0, floor] the first ask goes: "at once" until something better is known

    def learn(self, age: float, asks: int, floor: float) -> None:
        """One arrival was seen at this age, after this many asks.

        Where mails come within the floor, only the position of the first ask decides the error. It follows the 95 %
        quantile of the true latency: a little earlier after each hit, 19 times that later after each miss.
        """
        self.ages.append(age)
        step = 0.1 if len(self.ages) < _MEMORY / 2 else 0.03
        if asks <= 1:
            self.first = min(self.first, age) * (1 - step)
        else:
            self.first = min(max(self.first, 0.002) * (1 + 19 * step), floor)

    @property
    def earliest(self) -> float:
        """The age before which none of the remembered mails came, with a margin; 0 while too few are known."""
        return 0.7 * min(self.ages) if len(self.ages) >= 5 else 0.0


def next_ask(age: float, asks: int, usual: Usual, asking: Asking) -> float | None:
    """The age at which to ask next, for a probe of this age that was asked for `asks` times; None: listen only.

    `age` is that of the last ask (or 0). Where the budget does not allow gaps of 5 % up to the age at which IDLE is
    good enough, all remaining gaps are widened alike.
    """
    left = asking.budget - asks
    if left <= 0 or age >= _UNTIL:
        return None
    if asks == 0:
        return max(age, usual.first)
    if usual.earliest >= _UNTIL:
        return None
    if age < usual.earliest:
        sparse = age + max(_SPARSE_FLOOR, asking.floor, _SPARSE_RATIO * age)
        return min(sparse, max(usual.earliest, age + asking.floor))
    stretch: float = (_UNTIL / max(age, asking.floor)) ** (1 / left) - 1
    return age + max(asking.floor, age * max(_RATIO, stretch))


@dataclass(slots=True)
class Listening:
    """Whether this server's IDLE is quick, learnt from what asking and listening each saw first.

    An arrival that IDLE told says something only within a quarter of a second after the last ask (with wider gaps even
    a slow IDLE wins), and only when IDLE had been entered a while before (entering it is asking, too).
    """

    seen: deque[bool] = field(default_factory=lambda: deque(maxlen=16))  # True: listening was first
    delivered: int = 0

    def learn(self, listened: bool, since_ask: float = 0.0, in_idle: float = 1.0) -> None:
        """An arrival came by IDLE (listened) or by an ask, so many seconds after the last ask, and so many in IDLE."""
        if since_ask <= 0.25 and in_idle >= 0.02:
            self.seen.append(listened)

    @property
    def quick(self) -> bool:
        """IDLE has been first nearly always."""
        return len(self.seen) >= 5 and sum(self.seen) >= 0.8 * len(self.seen)

    @property
    def slow(self) -> bool:
        """IDLE has been first nearly never, so between close asks it need not be entered."""
        return len(self.seen) >= 3 and sum(self.seen) <= 0.2 * len(self.seen)

    def worth_asking(self) -> bool:
        """Whether the next probe's arrival should be asked for; every 20th is, to notice a server that changed."""
        self.delivered += 1
        return not self.quick or self.delivered % 20 == 0
