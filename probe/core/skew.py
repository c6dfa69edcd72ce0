"""Which hop held a mail, when every clock is wrong: bounds on clock offsets, and on the instants behind the stamps.

Rule: what is told is proven by stamps, never estimated; where clocks contradict what was known of them, that is
forgotten.

A mail whose stamps were made between `start` and `end` of our clock, one after the other, bounds the offset o (host's
clock minus ours) of every host that stamped it, and the difference of every two:

    o_h < at_h + resolution - start        -o_h <= end - at_h        o_j - o_i < at_j + resolution - at_i   (i before j)

The first and the third are loosened by the drift that clocks may have from `start` on, the second from `end` on. Only
such first-hand bounds are kept, the best for each pair (a difference-bound matrix), so that forgetting a host forgets
all that ever came from its clock. What follows from several (shortest paths) is worked out anew for each mail, among
its own hosts: with all others, too, intervals are narrower by less than 1 %.

A clock that was set makes what was known of it false. Where that contradicts a mail it is noticed (a negative cycle).
Until then, each end of an interval is wrong by at most the sum of the unnoticed steps; docs/hops.md has the proof.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import inf, isfinite
from typing import NamedTuple

DRIFT = 300e-6  # seconds per second against our clock; hosts that drift by 260 ppm were seen
_HOSTS = 64
_LONGEST = 20  # stamps of one mail; the work grows with the cube. Six are usual, mail systems stop a loop at 50 or 100
_OVERTAKEN = 86400.0  # seconds by which a mail that becomes known later may have been seen earlier
_ROUNDING = 5e-6  # what sums of Unix times in floats may be off by
_OURS = ""  # our own clock, among the hosts

Matrix = list[list[float]]  # [a][b]: the upper bound of b - a


class Interval(NamedTuple):
    """The true value lies inside. Seconds, or an instant of our wall clock (Unix time)."""

    low: float
    high: float


class Stamp(NamedTuple):
    """A host's clock read something in [at, at + resolution), in Unix time. host "": nobody knows whose clock."""

    host: str
    at: float
    resolution: float


@dataclass(frozen=True)
class Passage:
    """One mail: every stamp was made in [start, end] of our wall clock (Unix time), in this order, the oldest first.

    `start` is when the envelope stage began, not the 250: a server stamps while it receives.
    """

    start: float
    end: float
    stamps: tuple[Stamp, ...]

    def __post_init__(self) -> None:
        """Raises ValueError for what no mail can have done; it would spoil what is known of every clock."""
        usable = all(isfinite(at) and 0 < resolution < inf for _, at, resolution in self.stamps)
        if not (-inf < self.start <= self.end < inf and usable):
            raise ValueError(f"no mail went from {self.start} to {self.end} with stamps {self.stamps}")

    @property
    def hosts(self) -> tuple[str, ...]:
        """Whose clocks have stamped it, each once."""
        return tuple(dict.fromkeys(stamp.host for stamp in self.stamps if stamp.host))


class Step(NamedTuple):
    """A host's clock was set by so much, noticed at this Unix time. Not sure: the step may be another's."""

    host: str
    at: float
    by: Interval
    sure: bool


class _Known(NamedTuple):
    limit: float  # seconds
    at: float  # our Unix time from which on it held, but for drift


@dataclass(frozen=True, slots=True)
class Fit:
    """When the stamps of one mail were made. `bounds`: of their differences in seconds, number 0 being the instant
    `when` (Unix time); None: the stamps contradict what is known, and each other."""

    passage: Passage
    when: float
    bounds: Matrix | None

    def place(self, stamp: int) -> Interval:
        """When this stamp was really made, by our clock (Unix time)."""
        if self.bounds is None:
            return Interval(self.passage.start, self.passage.end)
        return _interval(self.when - self.bounds[stamp + 1][0], self.when + self.bounds[0][stamp + 1])

    def delay(self, earlier: int, later: int) -> Interval:
        """Seconds from one stamp to a later one."""
        if self.bounds is None:
            return Interval(0.0, self.passage.end - self.passage.start)
        return _interval(abs(self.bounds[later + 1][earlier + 1]), self.bounds[earlier + 1][later + 1])


class Clocks:
    """What the mails so far have proven about the clocks of at most `hosts` hosts, those seen last."""

    def __init__(self, drift: float = DRIFT, hosts: int = _HOSTS) -> None:
        self.steps: tuple[Step, ...] = ()  # what the last add() has noticed
        self._drift, self._most = drift, hosts
        self._known: dict[str, dict[str, _Known]] = {}  # [a][b]: o_b - o_a; the host seen last comes last
        self._latest = -inf  # no limit is of a later time

    def add(self, passage: Passage) -> None:
        """Learns from a mail. A host whose clock it shows to have been set begins anew with this mail."""
        self.steps = ()
        if passage.end < self._latest - _OVERTAKEN:  # our own clock was set back
            self._known, self._latest = {}, -inf
        if len(passage.stamps) <= _LONGEST and (self._fit(passage) or self._cut(passage)):
            self._learn(passage)

    def fit(self, passage: Passage) -> Fit:
        """This mail beside what is known of its hosts' clocks; tells most of a mail that was added."""
        return Fit(passage, *(self._fit(passage) or (0.0, None)))

    def place(self, passage: Passage) -> tuple[Interval, ...]:
        """When each stamp was really made, by our clock (Unix time)."""
        fit = self.fit(passage)
        return tuple(fit.place(i) for i in range(len(passage.stamps)))

    def offsets(self, now: float) -> dict[str, Interval]:
        """Each host's clock minus ours, in seconds, at our Unix time `now`; by its own stamps, which is nearly all."""
        when = max(now, self._latest)
        back = self._drift * (when - now)
        seen = {host: self._seen(host, when) for host in self._known if host != _OURS}
        return {host: Interval(low - back, high + back) for host, (low, high) in seen.items()}

    # -- what is known ---------------------------------------------------------------------------------------------

    def _learn(self, passage: Passage) -> None:
        start, end = passage.start, passage.end
        for host in (*passage.hosts, _OURS):
            self._known[host] = self._known.pop(host, {})
        named = [stamp for stamp in passage.stamps if stamp.host]
        for host, at, resolution in named:
            self._bound(_OURS, host, _Known(at + resolution - start, start))
            self._bound(host, _OURS, _Known(end - at, end))
        loosened = 2 * self._drift * (end - start)  # held at start; what is known must hold from its time on
        for earlier, later in combinations(named, 2):
            limit = later.at + later.resolution - earlier.at + loosened
            self._bound(earlier.host, later.host, _Known(limit, end))
        while len(self._known) > self._most + 1:
            self._forget(next(iter(self._known)))
        self._latest = max(self._latest, end)

    def _bound(self, a: str, b: str, new: _Known) -> None:
        old, rate = self._known[a].get(b), self._rate(a, b)
        if old is None or new.limit - rate * new.at < old.limit - rate * old.at:
            self._known[a][b] = new

    def _limit(self, a: str, b: str, when: float) -> float:
        """The upper bound of o_b - o_a at `when`, which is no earlier than _latest."""
        if a == b:
            return 0.0
        known = self._known.get(a, {}).get(b)
        return known.limit + self._rate(a, b) * (when - known.at) if known else inf

    def _rate(self, a: str, b: str) -> float:
        return self._drift if _OURS in {a, b} else 2 * self._drift

    def _seen(self, host: str, when: float) -> Interval:
        """The offset by this host's own stamps."""
        return Interval(-self._limit(host, _OURS, when), self._limit(_OURS, host, when))

    def _forget(self, host: str) -> None:
        self._known.pop(host, None)
        for row in self._known.values():
            row.pop(host, None)

    # -- one mail and what is known --------------------------------------------------------------------------------

    def _fit(self, passage: Passage, without: Collection[str] = ()) -> tuple[float, Matrix] | None:
        """The closed bounds of our clock's instants of one mail's stamps, in seconds after the instant that comes with
        them (number 0 of the matrix); None: they contradict each other, or are too many. `without`: as if nothing were
        known of these hosts.
        """
        if len(passage.stamps) > _LONGEST:
            return None
        when, drift, stamps = max(passage.end, self._latest), self._drift, passage.stamps
        names = (_OURS, *passage.hosts)
        known = [
            [inf if a != b and (a in without or b in without) else self._limit(a, b, when) for b in names]
            for a in names
        ]
        if not _close(known):
            return None
        row = [names.index(stamp.host) for stamp in stamps]

        def after(i: int) -> float:  # stamp i was made no earlier
            at, high = stamps[i].at, known[0][row[i]]
            return max(passage.start - when, _earliest(at - when - high, drift) if row[i] else -inf)

        def before(i: int) -> float:
            at, low = stamps[i].at + stamps[i].resolution, -known[row[i]][0]
            return min(passage.end - when, -_earliest(when - at + low, drift) if row[i] else inf)

        count = range(len(stamps))
        lows, highs = [after(i) for i in count], [before(i) for i in count]
        far = [max(abs(low), abs(high)) for low, high in zip(lows, highs, strict=True)]

        def apart(i: int, j: int) -> float:  # from stamp i to stamp j at most so long
            clocks = inf
            if row[i] and row[j]:
                clocks = known[row[j]][row[i]] + drift * (far[i] + far[j])
            return min(0.0 if j <= i else inf, stamps[j].at + stamps[j].resolution - stamps[i].at + clocks)

        m = [[0.0, *highs], *([-lows[i], *(apart(i, j) for j in count)] for i in count)]
        return (when, m) if _close(m) else None

    def _cut(self, passage: Passage) -> bool:
        """Forgets the hosts that a mail contradicts; False: it contradicts itself, too."""
        hosts = passage.hosts
        sane = self._fit(passage, hosts) is not None
        if sane:
            suspects = [host for host in hosts if self._fit(passage, {host})]
        else:
            suspects = [host for host, visits in Counter(s.host for s in passage.stamps).items() if host and visits > 1]
        when = max(passage.end, self._latest)
        old = {host: self._seen(host, when) for host in hosts}
        for host in suspects or tuple(self._known):  # none alone explains it: several were set, or ours
            self._forget(host)
        made = zip(passage.stamps, self.place(passage), strict=True)
        new = {stamp.host: Interval(stamp.at - high, stamp.at + stamp.resolution - low) for stamp, (low, high) in made}
        self.steps = tuple(
            Step(host, passage.end, _difference(old[host], new[host]), sure=len(suspects) == 1)
            for host in suspects or hosts
        )
        return sane


class Gap(NamedTuple):
    """What a mail's own stamps tell of the time between two of them. Seconds."""

    seen: Interval  # between the readings of the two clocks; negative: the clocks differ by more than that
    held: Interval | None  # None: this gap is no evidence of anything


def backward(stamps: tuple[Stamp, ...], trust: float = 2.0) -> tuple[Gap, ...]:
    """The gaps of a mail of which nothing is known but its stamps, the oldest first.

    Nothing bounds two clocks that differ, so this is said under a condition: clocks differ by at most `trust` seconds,
    unless the mail proves more (a later stamp that reads earlier). Then nothing is said but of gaps that are larger
    than what it proves, and how long these were remains open. A clock that has stamped twice needs no trust.
    """
    proven = max((a.at - b.at - b.resolution for a, b in combinations(stamps, 2)), default=0.0)
    doubt = max(trust, proven)
    gaps = []
    for number, (a, b) in enumerate(pairwise(stamps)):
        seen = Interval(b.at - a.at - a.resolution, b.at + b.resolution - a.at)
        around = [
            later.at + later.resolution - earlier.at
            for earlier in stamps[: number + 1]
            for later in stamps[number + 1 :]
            if earlier.host and earlier.host == later.host
        ]
        own = a.host and a.host == b.host
        low = max(0.0, seen.low - (0.0 if own else doubt))
        high = min([seen.high + doubt if proven <= trust else inf, *(longest for longest in around if longest > 0)])
        gaps.append(Gap(seen, Interval(low, high) if low > 0 or isfinite(high) else None))
    return tuple(gaps)


def _earliest(x: float, drift: float) -> float:
    """The least solution t of t >= x - drift * |t|: a bound that holds at time 0, for a clock that drifts until t."""
    return x / (1 + drift) if x > 0 else x / (1 - drift)


def _close(m: Matrix) -> bool:
    """Shortest paths between all (Floyd–Warshall), in place. False: there is a negative cycle."""
    for k, via in enumerate(m):
        for row in m:
            if (first := row[k]) < inf:
                for j, rest in enumerate(via):
                    if (through := first + rest) < row[j]:
                        row[j] = through
    return all(row[i] >= -_ROUNDING for i, row in enumerate(m))


def _interval(low: float, high: float) -> Interval:
    return Interval(min(low, high), high)  # they may cross by what is lost in rounding


def _difference(old: Interval, new: Interval) -> Interval:
    return Interval(new.low - old.high, new.high - old.low)
