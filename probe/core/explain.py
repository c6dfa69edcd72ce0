"""What a mail's own header tells of its way, whoever sent it, when nothing else is known.

Rule: one mail proves nothing of clocks but where they contradict each other. What rests on a condition says so, and
what cannot be known is said, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from probe.core.authres import Verdicts, read
from probe.core.headers import fields, first, parse_fields
from probe.core.received import Hop, hops
from probe.core.skew import Interval, Stamp, backward
from probe.core.way import stamps

TRUST = 2.0  # seconds by which clocks may differ, unless a mail proves more


@dataclass(frozen=True, slots=True)
class Explained:
    """One mail. `held` of each hop: how long that host had the mail, in seconds; None: it cannot be told."""

    subject: str
    message_id: str
    hops: tuple[Hop, ...]  # oldest first
    stamps: tuple[Stamp | None, ...]  # of each hop
    held: tuple[Interval | None, ...]  # of each hop; the last one's nobody can know
    wrong: tuple[tuple[str, str, float], ...]  # these two hosts' clocks differ by more than so many seconds
    verdicts: Verdicts

    @property
    def total(self) -> Interval | None:
        """Seconds between the first stamp and the last, if the clocks were right."""
        known = [each for each in self.stamps if each]
        if len(known) < 2:
            return None
        begun, ended = known[0], known[-1]
        return Interval(ended.at - begun.at - begun.resolution, ended.at + ended.resolution - begun.at)

    @property
    def slowest(self) -> int | None:
        """The hop that had the mail for longest; None: another may have had it for longer, or nobody for long."""
        lows = [span.low if span else 0.0 for span in self.held[:-1]]
        if not lows or (longest := max(lows)) <= 0:
            return None
        number = lows.index(longest)
        others = (span for other, span in enumerate(self.held[:-1]) if other != number)
        return number if all(span is not None and span.high < longest for span in others) else None


def explain(block: str) -> Explained:
    """What this header block tells. Never raises."""
    raw = block.encode("utf-8", "replace")
    head = parse_fields(block)
    way = hops(head)
    marks = tuple(stamps(way))
    gaps = backward(tuple(mark for mark in marks if mark), TRUST)
    held: list[Interval | None] = [None] * len(way)
    for (number, following), gap in zip(pairwise(i for i, mark in enumerate(marks) if mark), gaps, strict=True):
        if following == number + 1:  # else it is not told which of two had it
            held[number] = gap.held
    return Explained(
        first(head, "subject"), first(head, "message-id"), way, marks, tuple(held), tuple(_disagreeing(marks)),
        read(fields(raw), None),
    )  # fmt: skip


def _disagreeing(marks: Sequence[Stamp | None]) -> Iterator[tuple[str, str, float]]:
    """Neighbours of which the later one's clock read less."""
    for earlier, later in pairwise(mark for mark in marks if mark):
        if (seconds := earlier.at - later.at - later.resolution) > 0:
            yield earlier.host, later.host, seconds
