"""The hash chain of a route: what makes a later change of its records show.

Rules:
- A record is all that is known of a finished probe, as canonical JSON (RFC 8785): any tool can write the same octets.
- digest = SHA-256(record); link = SHA-256(link before || digest); link 0 = SHA-256(genesis).
- Nothing is ever chained anew: what happens to a finished probe later makes another record, further on in the chain.

docs/ledger.md says what this proves and what it does not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

VERSION = 1  # of what a record and a genesis consist of
_LONE = re.compile(
    "[\ud800-\udfff]"
)  # half a character, which has no octets: the one thing that RFC 8785 has no word for


class Link(NamedTuple):
    """One record's place in its route's chain."""

    number: int  # 1, 2, 3 …
    probe: str
    at: float  # Unix time at which it was chained
    digest: bytes  # SHA-256 of the record
    link: bytes


def canonical(value: Any) -> bytes:
    """JSON data in the one form that RFC 8785 gives it; what JSON has no number for as its name, a string."""
    return _LONE.sub(lambda half: f"\\u{ord(half[0]):04x}", _text(value)).encode()


def record(probe: str, events: Iterable[tuple[str, Mapping[str, Any]]]) -> bytes:
    """The record of a probe to which these events happened, (kind, fields), in the order in which it was told."""
    lived = [{"kind": kind, **fields} for kind, fields in events]
    return canonical({"events": lived, "probe": probe, "version": VERSION})


def genesis(ledger: str, route: str) -> bytes:
    """Link 0 of a route's chain. `ledger`: what tells this ledger from all others, a random number as text."""
    return hashlib.sha256(canonical({"ledger": ledger, "route": route, "version": VERSION})).digest()


def digest(of: bytes) -> bytes:
    """The digest of a record."""
    return hashlib.sha256(of).digest()


def link(before: bytes, of: bytes) -> bytes:
    """The link that follows `before` and holds the record with the digest `of`."""
    return hashlib.sha256(before + of).digest()


# -- RFC 8785 ------------------------------------------------------------------------------------------------------


_quoted = json.JSONEncoder(ensure_ascii=False).encode  # escapes just what ECMAScript's does


_UNNUMBERED = {"nan": '"NaN"', "inf": '"Infinity"', "-inf": '"-Infinity"'}


def _text(value: Any) -> str:
    kind = type(value)
    if kind is float:
        return _number(value)
    if kind is str:
        return _quoted(value)
    if kind is list or isinstance(value, tuple):
        return "[" + ",".join(map(_text, value)) + "]"
    if kind is dict:
        return "{" + ",".join([quoted + _text(value[name]) for name, quoted in _names(*value)]) + "}"
    if value is None or isinstance(value, bool | int):
        return "null" if value is None else str(value).lower()
    raise TypeError(f"JSON has no word for {value!r}")


@lru_cache(256)  # events have few sets of names, and a busy daemon has many events
def _names(*names: str) -> list[tuple[str, str]]:
    """In order: by UTF-16 code units, which is not that of code points."""
    key = None if "".join(names).isascii() else lambda name: name.encode("utf-16-be", "surrogatepass")
    return [(it, f"{_quoted(it)}:") for it in sorted(names, key=key)]


def _number(value: float) -> str:
    """As ECMAScript writes it: Python's digits, the fewest that tell it from others, and its own rule for the point."""
    text = repr(value)
    if text[-2:] == ".0":
        return text[:-2] if value else "0"
    if "e" not in text:
        return _UNNUMBERED.get(text, text)
    mantissa, exponent = text.removeprefix("-").split("e")
    digits, power = mantissa.replace(".", ""), int(exponent)
    sign = "-" if value < 0 else ""
    if 0 < power < 21:
        return sign + digits.ljust(power + 1, "0")
    if -7 < power < 0:
        return f"{sign}0.{'0' * (-power - 1)}{digits}"
    return sign + digits[0] + ("." + digits[1:] if digits[1:] else "") + f"e{power:+d}"
