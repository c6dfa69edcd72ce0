"""Where a mail was for how long, by its own header: its hops, the hosts' clocks, and whose hosts they are.

Rules:
- Times are on our clock. What hosts' stamps tell comes as an interval that holds the truth while their clocks go evenly
  (core/skew.py); what no stamp tells is as wide as what is around it.
- A gap belongs to the earlier host: it had the mail until the next one stamped it.
- All of it is derived from the mail's header and the instants of the probe; nothing here decides what was measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

from probe.core.authres import Fields, Learner, read
from probe.core.events import Arrived, Instant, Part, Segment, Stay, Traced, elapsed
from probe.core.headers import by_name, fields
from probe.core.received import Hop, hops, stamp
from probe.core.segments import domains, organisation, owners
from probe.core.settings import Account
from probe.core.skew import Clocks, Fit, Interval, Passage, Stamp
from probe.core.state import Probe, arrival_bounds

# Seconds by which our own wall clock may disagree with the time that passed; else it was set meanwhile.
_SET = 0.05
_OUR_RESOLUTION = 0.001  # seconds; what comes with a stamp of ours waits no longer for it
_WORDS = {True: "spam", False: "not spam", None: "no verdict"}
_Held = TypeVar("_Held", Part, Stay)
_Name = TypeVar("_Name", bound=str)


@dataclass(frozen=True, slots=True)
class _Mark:
    """A host's word that it had the mail, and since when by its clock, if it said so."""

    host: str
    segment: Segment
    stamp: Stamp | None


@dataclass(slots=True)
class Tracer:
    """Learns from every probe that it traces: the hosts' clocks, and where a receiver writes its verdicts. `accounts`:
    those that are configured, by name."""

    accounts: Callable[[], Mapping[str, Account]]
    clocks: Clocks = field(default_factory=Clocks)
    learner: Learner = field(default_factory=Learner)
    _latest: Instant | None = None  # when a mail last came

    def trace(self, probe: Probe) -> Traced | None:
        """What the header of this probe's mail tells; None where there is none."""
        arrived, accepted = probe.arrived, probe.answerable
        if arrived is None or accepted is None or not arrived.raw:
            return None
        head = fields(arrived.raw)
        said = self._judged(arrived, head)
        took = max(0.0, elapsed(probe.started, accepted))
        submission = Part("submission", took, took, _OUR_RESOLUTION)
        begun, seen = _begun(probe), arrival_bounds(arrived)[1]
        before, self._latest = self._latest or begun, arrived.at
        meanwhile = _was_set(begun, arrived.at)
        if meanwhile or _was_set(before, begun):
            self.clocks = Clocks()  # ours was set: what we know of the others' differences from it is void
        if meanwhile:
            return Traced(probe.id, arrived.at, (submission,), (), *said)
        marks = self._marks(probe, arrived, hops(by_name(head)))
        known = tuple(mark.stamp for mark in marks if mark.stamp)
        passage = Passage(begun.wall, max(begun.wall, arrived.at.wall), known)
        self.clocks.add(passage)
        numbers = {index: number for number, index in enumerate(i for i, mark in enumerate(marks) if mark.stamp)}
        way = _Way(self.clocks.fit(passage), marks, numbers, accepted.wall, seen.wall)
        segments = (
            submission,
            *(Part(segment, *held, fine) for segment, held, fine in way.held(lambda mark: mark.segment)),
        )
        stays = tuple(Stay(host, *held, fine) for host, held, fine in way.held(lambda mark: mark.host) if host)
        return Traced(probe.id, arrived.at, segments, stays, *said)

    def learn(self, known: Iterable[tuple[Probe, bytes]]) -> None:
        """Take up what mails of an earlier run told, the oldest first. One that cannot be traced was told of then."""
        for probe, raw in known:
            if probe.arrived:
                with suppress(Exception):  # else its header, being on record, would end every start
                    self.trace(replace(probe, arrived=replace(probe.arrived, raw=raw)))

    def _marks(self, probe: Probe, arrived: Arrived, way: Sequence[Hop]) -> list[_Mark]:
        hosts = [hop.by for hop in way]
        mine, theirs = self._domains(probe.sender), self._domains(probe.recipient)
        marks = [_Mark(*each) for each in zip(hosts, owners(hosts, mine, theirs), stamps(way), strict=True)]
        marks = marks or [_Mark("", "unresolved", None)]
        account = self.accounts().get(arrived.place.account)
        if arrived.stored is not None and account and account.imap:
            host = f"{account.imap.host} (mailbox)"
            marks.append(_Mark(host, "mailbox", Stamp(host, arrived.stored, 1.0)))
        return marks

    def _judged(self, arrived: Arrived, head: Fields) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
        """What the receiver said of the mail: of its authenticity, once it is known where it does so, and as spam."""
        account, mailbox = self.accounts().get(arrived.place.account), arrived.place.account
        hosts = domains(account) if account else frozenset()
        verdicts = read(head, self.learner.own(mailbox), hosts)
        self.learner.learn(mailbox, head, hosts)
        authentication = tuple(verdicts.summary().items()) if verdicts.trusted else ()
        return authentication, tuple(f"{spam.header}: {_WORDS[spam.flagged]}" for spam in verdicts.spam)

    def _domains(self, address: str) -> frozenset[str]:
        found = [domains(account) for account in self.accounts().values() if account.address == address]
        return frozenset().union(*found) or frozenset({address.rpartition("@")[2].lower()})


@dataclass(frozen=True, slots=True)
class _Way:
    """One mail's way: `accepted` and `seen` by our wall clock (Unix time)."""

    fit: Fit
    marks: Sequence[_Mark]
    numbers: Mapping[int, int]  # of marks that have stamps → of their stamps
    accepted: float
    seen: float

    def held(self, whose: Callable[[_Mark], _Name]) -> list[tuple[_Name, Interval, float]]:
        """How long each had the mail, by stamps of which resolution; neighbours with the same name together: from its
        first mark to the next one's."""
        runs = [(name, next(run)[0]) for name, run in itertools.groupby(enumerate(self.marks), lambda it: whose(it[1]))]
        ends: list[int | None] = [None, *(first for _, first in runs[1:]), None]  # None: ours
        return [
            (name, self._between(begin, end), max(self._resolution(begin), self._resolution(end)))
            for (name, _), (begin, end) in zip(runs, itertools.pairwise(ends), strict=True)
        ]

    def _between(self, begin: int | None, end: int | None) -> Interval:
        """Seconds from one mark to a later one. Two hosts' clocks may be known better against one another than against
        ours."""
        since = Interval(self.accepted, self.accepted) if begin is None else self._when(begin)
        until = Interval(self.seen, self.seen) if end is None else self._when(end)
        low, high = max(0.0, until.low - since.high), max(0.0, until.high - since.low)
        numbers = [self.numbers[mark] for mark in (begin, end) if mark is not None and mark in self.numbers]
        if len(numbers) == 2:
            closer = self.fit.delay(*numbers)
            low, high = max(low, closer.low), min(high, closer.high)
        return Interval(min(low, high), high)

    def _when(self, index: int) -> Interval:
        """When this mark was made; without a stamp of its own, some time between its neighbours' ones."""
        if index in self.numbers:
            return self.fit.place(self.numbers[index])
        before = [self.fit.place(number).low for mark, number in self.numbers.items() if mark < index]
        after = [self.fit.place(number).high for mark, number in self.numbers.items() if mark > index]
        return Interval(max(before, default=self.fit.passage.start), min(after, default=self.fit.passage.end))

    def _resolution(self, index: int | None) -> float:
        stamp = self.marks[index].stamp if index is not None else None
        return _OUR_RESOLUTION if index is None else stamp.resolution if stamp else 1.0


def _was_set(one: Instant, other: Instant) -> bool:
    """Whether our wall clock was, between the two."""
    return abs(elapsed(one, other) - (other.wall - one.wall)) > _SET


def _begun(probe: Probe) -> Instant:
    """The instant before which no server can have stamped the mail: its envelope began no earlier. Counted from the
    start, not back from the 250: between envelope and content the disk is waited for, and no stage has that time."""
    stages = probe.submitted.stages if probe.submitted else ()
    return probe.started.shifted(sum(seconds for stage, seconds in stages if stage not in {"envelope", "data"}))


def stamps(way: Sequence[Hop]) -> list[Stamp | None]:
    """Of each hop. A name that many hosts have (localhost, private addresses) is told apart by the host before it."""
    found: list[Stamp | None] = []
    named = ""
    for hop in way:
        host = hop.by.lower().rstrip(".")
        if organisation(host):
            named = host
        elif host:
            host = f"{host} after {named}"
        when = stamp(hop)
        found.append(Stamp(host, *when) if when and host else None)
    return found


def slowest(traced: Traced) -> Part | None:
    """The segment, beside our own submission, that certainly had the mail for longest; None: not known."""
    return _longest(part for part in traced.segments if part.segment != "submission")


def held_most(traced: Traced) -> str | None:
    """The host that certainly had the mail for longer than any other; None: not known."""
    stay = _longest(traced.stays)
    return stay.host if stay else None


def _longest(parts: Iterable[_Held]) -> _Held | None:
    ordered = sorted(parts, key=lambda part: part.low, reverse=True)
    if not ordered or any(other.high >= ordered[0].low for other in ordered[1:]):
        return None
    return ordered[0]
