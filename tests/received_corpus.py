"""Real Received fields with what they say (tests/data/received/README.md), and how what was read is compared.

Rule: the suite and the bench count by the same comparison.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from probe.core.received import as_json, parse

DATA = Path(__file__).parent / "data" / "received"


class Record(NamedTuple):
    """One field; of `expected`, absent keys are not asserted."""

    id: str
    raw: str
    software: str
    expected: dict[str, str | None]


class Verdict(NamedTuple):
    """Whether one expected value was read."""

    record: Record
    field: str
    read: str | None
    right: bool


@functools.cache
def records() -> list[Record]:
    lines = (json.loads(line) for line in (DATA / "headers.jsonl").read_text("utf-8").splitlines())
    return [Record(it["id"], it["raw"], it["software"], it["expected"]) for it in lines]


def verdicts() -> Iterator[Verdict]:
    """Of every value that is asserted."""
    for record in records():
        said = as_json(parse(record.raw))
        for field, expected in record.expected.items():
            yield Verdict(record, field, said.get(field), same(field, said.get(field), expected))


def same(field: str, read: str | None, expected: str | None) -> bool:
    if read is None or expected is None:
        return read == expected
    if field.startswith("date"):
        return abs((datetime.fromisoformat(read) - datetime.fromisoformat(expected)).total_seconds()) < 0.001
    if field == "tls_version":
        return _version(read) == _version(expected)
    return read.lower().removesuffix(".") == expected.lower().removesuffix(".")


def _version(written: str) -> str:
    """ "13" of "TLSv1_3"; "10" of "TLSv1", and of "TLSv1/SSLv3", which is how OpenSSL calls it."""
    digits = re.sub(r"/.*|\D", "", written)
    return digits if len(digits) > 1 else f"{digits}0"
