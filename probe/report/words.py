"""Instants, spans and sentences of a report in its language and its zone.

Rule: an instant is written to the millisecond, as it was measured; only sentences leave that away.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache

from probe.core.evidence import Evidence
from probe.core.report import Moment, RouteReport, Row
from probe.core.state import State
from probe.core.words import brief, duration
from probe.report.texts import TEXTS

_APART = 1.0  # seconds between which a mail came: more is said in words


class Words:
    """The words for one report; called with a key of the texts."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self._texts = TEXTS[evidence.language]
        self._begins = [offset.since for offset in evidence.offsets[1:]]

    def __call__(self, key: str, **values: object) -> str:
        return self._texts[key].format_map(values)

    @property
    def two_zones(self) -> bool:
        """Whether there is a zone beside UTC."""
        return self.evidence.zone != "UTC"

    def utc(self, at: float) -> str:
        """2026-11-21 09:02:11.250"""
        return _utc(at)

    def local(self, at: float) -> str:
        """The same in the report's zone, with the zone's name at that time."""
        offset = self.evidence.offsets[bisect_right(self._begins, at)]
        return f"{self.utc(at + offset.seconds)} {offset.name}"

    def beside(self, at: float) -> str:
        """The same beside the time in UTC: without the date where that is the same."""
        local = self.local(at)
        return local[11:] if local[:11] == self.utc(at)[:11] else local

    def after(self, seconds: float) -> str:
        """A span with its sign: +3.0 s"""
        return f"{'-' if seconds < 0 else '+'}{self.long(abs(seconds))}"

    def when(self, at: float) -> str:
        """For a sentence: 2026-11-21 10:02:11 CET"""
        time, _, zone = self.local(at).partition(".")
        return f"{time} {zone.partition(' ')[2]}"

    def long(self, seconds: float | None) -> str:
        """A span: 2 d 3 h"""
        return self._number(duration(seconds))

    def between(self, low: float, high: float) -> str:
        """A span that is known between bounds: 2 d 3 h, or 0 ms to 3.0 s"""
        least, most = self.long(low), self.long(high)
        return most if least == most else self("to", low=least, high=most)

    def brief(self, seconds: float | None) -> str:
        """A round span: 30 s, 5 min"""
        return self._number(brief(seconds))

    def mails(self, number: int) -> str:
        """1 mail, 2 mails"""
        return self("mail") if number == 1 else self("mails", number=self.count(number))

    def count(self, number: int) -> str:
        """12,345"""
        return f"{number:,}".replace(",", "." if self.evidence.language == "de" else ",")

    def moment(self, moment: Moment) -> str:
        """What happened."""
        return self(f"moment.{moment.what}", deadline=self.brief(moment.deadline))

    def held(self, row: Row) -> str:
        """How long a mail was on its way; "" where that means nothing."""
        if row.held is None:
            return ""
        if row.seen is None:
            return self("away", held=self.long(row.held))
        return self("held", held=self.length(row))

    def length(self, row: Row) -> str:
        """How long a mail that came was on its way."""
        assert row.held is not None
        sure = row.held - row.uncertainty if row.uncertainty is not None and apart(row.uncertainty) else row.held
        return self.between(max(0.0, sure), row.held)

    def remarks(self, row: Row) -> Iterator[str]:
        """What is to be known of how this was measured, and of where the mail lay."""
        if row.doubtful or (row.seen is not None and row.uncertainty is None):
            yield self("doubtful")
        elif row.uncertainty is not None:
            yield self("uncertainty", uncertainty=self.long(row.uncertainty))
        if row.detection:
            yield self(f"detection.{row.detection}")
        if any(moment.what == "noticed" for moment in row.moments):
            yield self("stamp")
        if row.clock:
            yield self(f"clock.{row.clock}")
        if row.step:
            yield self("step", step=self.after(row.step))
        if row.placement == "junk" or row.folder not in {"", "INBOX"}:
            yield self("folder", folder=row.folder)
        if row.copies > 1:
            yield self("copies", copies=row.copies)
        yield self("chained", link=row.link) if row.link is not None else self("unchained")

    def said(self, row: Row) -> Iterator[str]:
        """What servers and headers said of a mail."""
        if row.reply:
            yield f"{row.reply.code} {row.reply.text}"  # with its enhanced status
        if row.queue_id:
            yield self("queue_id", id=row.queue_id)
        if row.failure:
            yield self("stage", stage=row.failure) if row.refused else row.failure
        for notice in row.notices:
            said = " ".join(filter(None, (notice.status, notice.text)))
            yield f"{self('notice', mta=notice.reporting_mta or self('nobody'))}: {said}"
        for part in row.segments:
            held = self.between(part.low, part.high)
            yield self("held_by", segment=self(f"segment.{part.segment}").rstrip(","), held=held)
        if row.authentication:
            yield self(
                "authentication", results=", ".join(f"{method} {result}" for method, result in row.authentication)
            )

    def _number(self, text: str) -> str:
        return text.replace(".", ",") if self.evidence.language == "de" else text


@lru_cache(16)  # a moment is told in two zones
def _utc(at: float) -> str:
    return datetime.fromtimestamp(round(at, 3), UTC).isoformat(" ", "milliseconds")[:-6]


def apart(width: float | None) -> bool:
    """Whether something is better told as an interval, of so many seconds."""
    return width is not None and width > _APART


def summary(words: Words, route: RouteReport) -> Iterator[str]:
    """The route in sentences."""
    evidence, told = words.evidence, route.evidence
    span = {"since": words.when(evidence.since), "until": words.when(evidence.until)}
    ends = {"sender": told.sender, "recipient": told.recipient}
    yield words("sent", **span, **ends, sent=words.mails(route.sent), accepted=words.count(route.accepted))
    if route.late:
        fates = Counter(row.fate for row in route.rows if row.missed or row.fate in {"found", "lost", "bounced"})
        listed = ", ".join(f"{words.count(number)} {words(f'fate.{fate}')}" for fate, number in fates.most_common())
        yield words("bad", late=words.count(route.late), accepted=words.count(route.accepted), fates=listed)
        if route.deadlines:
            yield words("deadlines", deadlines=words.brief(route.deadlines[0]))
    elif route.accepted:
        yield words("all_well")
    if route.worst:
        yield _worst(words, route.worst)
    if fault := route.fault:
        each = words.between(fault.low / fault.mails, fault.high / fault.mails)
        yield words("fault", segment=words(f"segment.{fault.segment}"), mails=words.mails(fault.mails), each=each)
    if route.refused:
        yield words("refused", refused=words.mails(len(route.refused)))
    totals = told.totals
    if flying := totals.states.get(State.ACCEPTED, 0) + totals.states.get(State.UNCONFIRMED, 0):
        yield words("in_flight", number=words.mails(flying))
    if spread := totals.latencies:
        said = {name: words.long(getattr(spread, name)) for name in ("median", "p95", "p99", "most")}
        yield words("latencies", number=words.count(spread.number), **said)
    if totals.unknown:
        yield words("unknown", number=words.mails(totals.unknown))
    if junk := totals.placements.get("junk"):
        yield words("junk", number=words.mails(junk))


def _worst(words: Words, row: Row) -> str:
    assert row.accepted is not None
    accepted = words.when(row.accepted)
    if row.seen is None:
        return words("worst.away", accepted=accepted, held=words.long(row.held), made=words.when(words.evidence.made))
    if apart(row.uncertainty) and row.seen_after is not None:
        ends = {"low": words.when(row.seen_after), "high": words.when(row.seen)}
        return words("worst.between", accepted=accepted, held=words.length(row), **ends)
    return words("worst.arrived", accepted=accepted, held=words.long(row.held))


def clocks(words: Words, route: RouteReport) -> str:
    """Which clocks measured, and whether one was set."""
    numbers = {**{name: route.clocks.get(name, 0) for name in ("boottime", "wall")}, "steps": route.steps}
    return " ".join(words(f"clocks.{name}", number=words.mails(number)) for name, number in numbers.items() if number)
