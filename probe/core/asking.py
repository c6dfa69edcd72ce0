"""When a mailbox is asked (NOOP) while a probe is expected, because listening (IDLE) can be late.

Rule: asking is planned from what is known, never a loop; it has a floor between two asks and a budget per probe.

Why: Dovecot holds IDLE's news back by 500 ms at compile time (measured 500.2 / 500.4 / 505.7 ms), other servers for
seconds; a NOOP tells at once. An arrival seen by asking is late by at most the gap to the ask before, so gaps of 5 % of
the age keep the error at 5 % of the latency, and once 5 % is more than IDLE's own lag, IDLE is good enough.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from probe.core.events import Detection, Instant, elapsed
from probe.core.settings import Asking

_RATIO = 0.05  # wanted: gap / age
_SPARSE_RATIO = 0.2  # before the earliest age at which this route's mails have lately come
_SPARSE_FLOOR = 0.25
_IDLE_LAG = 0.5
_UNTIL = _IDLE_LAG / _RATIO  # 10 s: from here on IDLE's lag is within 5 % of the age
_MEMORY = 50
_STALL = 5  # probes of one route that are out for longer than they were asked for: the next one will be held as well
_IN_STALL = 10  # of so many, one is asked for then; else a mail every 2 s makes 1,150 asks a minute
_LISTENED_FOR = 1000  # probes whose latency still teaches when to ask; in a stall there may be many more


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


@dataclass(slots=True)
class _Expected:
    """A probe on its way to a folder. Ages are seconds since `since`."""

    route: str
    since: Instant
    usual: Usual
    asks: int = 0
    asked_at: float = 0.0
    next_at: float | None = None


class Asker:
    """What is expected in one folder during one session, and so when to ask. Told of what happens; does nothing."""

    def __init__(self, asking: Asking) -> None:
        self.listening = Listening()
        self.last_ask: Instant | None = None
        self._asking = asking
        self._expected: dict[str, _Expected] = {}  # probes to ask for
        self._listened_for: dict[str, _Expected] = {}  # probes for which the asking is over, or never began
        self._in_stall = 0

    def expect(self, probe: str, route: str, since: Instant, usual: Usual) -> None:
        """A probe was accepted at `since`."""
        if sum(held.route == route for held in self._listened_for.values()) >= _STALL:
            self._in_stall += 1
            if self._in_stall % _IN_STALL:
                self._listen_for(probe, _Expected(route, since, usual))
                return
        if self.listening.worth_asking():
            self._expected[probe] = _Expected(route, since, usual)

    def _listen_for(self, probe: str, expected: _Expected) -> None:
        self._listened_for[probe] = expected
        if len(self._listened_for) > _LISTENED_FOR:
            del self._listened_for[next(iter(self._listened_for))]

    def until_next(self, now: Instant) -> float | None:
        """Seconds until the next ask of any expected probe; None: none is planned. Never closer than the floor."""
        delays = []
        for probe, expected in list(self._expected.items()):
            expected.next_at = next_ask(expected.asked_at, expected.asks, expected.usual, self._asking)
            if expected.next_at is not None:
                delays.append(expected.next_at - elapsed(expected.since, now))
                continue
            self._listen_for(probe, self._expected.pop(probe))
        if not delays:
            return None
        floor = self._asking.floor - elapsed(self.last_ask, now) if self.last_ask else 0.0
        return max(0.0, floor, min(delays))

    def asked(self, at: Instant) -> None:
        """One ask serves every expected probe for which it is time, or nearly."""
        self.last_ask = at
        for expected in self._expected.values():
            age = elapsed(expected.since, at)
            if expected.next_at is not None and age >= expected.next_at - self._asking.floor / 2:
                expected.asks += 1
                expected.asked_at = age

    def arrived(self, probe: str, at: Instant, detection: Detection, idle_since: Instant | None) -> None:
        """An arrival ends the asking for its probe, and teaches when to ask for the next; `idle_since`: when IDLE was
        last entered."""
        expected = self._expected.pop(probe, None) or self._listened_for.pop(probe, None)
        if expected is None:
            return
        age = elapsed(expected.since, at)
        expected.usual.learn(age, expected.asks, self._asking.floor)
        if detection == "poll":
            self.listening.learn(False)
        elif detection == "idle" and self.last_ask and idle_since:
            self.listening.learn(True, min(elapsed(self.last_ask, at), age), elapsed(idle_since, at))
