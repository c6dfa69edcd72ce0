"""What is read of real Received fields, and how long it takes, beside the standard library's parsers.

A field's time is the best of several, for what else the machine does only adds to it. The standard library reads less:
its parser takes the field out of the mail, and its date reader takes what stands behind the last semicolon.
"""

from __future__ import annotations

import email
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.utils import parsedate_tz

from probe.core.received import parse

from ..received_corpus import Verdict, records, verdicts
from .numbers import Spread, spread

GOAL = 100.0  # µs, median


@dataclass(frozen=True, slots=True)
class Share:
    """How many of the asserted values were read right."""

    name: str
    right: int
    asserted: int

    @property
    def percent(self) -> float:
        return 100 * self.right / self.asserted


@dataclass(frozen=True, slots=True)
class Received:
    """Times in µs per field."""

    fields: list[Share]
    software: list[Share]
    ours: Spread | None
    stdlib: Spread | None


def measure(repeats: int) -> Received:
    told = list(verdicts())
    return Received(
        _shares(told, lambda verdict: verdict.field),
        _shares(told, lambda verdict: verdict.record.software),
        _times(parse, [record.raw for record in records()], repeats),
        _times(_stdlib, [f"Received: {record.raw}\n\n" for record in records()], repeats),
    )


def _shares(told: Iterable[Verdict], name: Callable[[Verdict], str]) -> list[Share]:
    """The most asserted first."""
    asserted, right = Counter[str](), Counter[str]()
    for verdict in told:
        asserted[name(verdict)] += 1
        right[name(verdict)] += verdict.right
    return [Share(key, right[key], count) for key, count in asserted.most_common()]


def _times(read: Callable[[str], object], texts: list[str], repeats: int) -> Spread | None:
    return spread(min(_microseconds(read, text) for _ in range(repeats)) for text in texts)


def _microseconds(read: Callable[[str], object], text: str) -> float:
    begun = time.perf_counter_ns()
    read(text)
    return (time.perf_counter_ns() - begun) / 1e3


def _stdlib(mail: str) -> object:
    return parsedate_tz(str(email.message_from_string(mail)["Received"]).rpartition(";")[2])
