"""What is asked for in a query string: everything is checked, and what is not understood is an error.

Rule: the limits are here, and document.py tells them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from math import isfinite
from typing import NamedTuple

from probe.core.state import State

MOST, USUAL = 500, 100  # of a page
TIME = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$"
CURSOR = r"^[0-9]{1,12}(\.[0-9]{1,20})?~[A-Za-z0-9/._-]{1,200}$"
PROBE = r"^[0-9a-f]{16}$"
ROUTE = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
_FOREVER = float("inf")


class BadQuery(ValueError):
    """What is wrong with the query, in one line."""


class Asked(NamedTuple):
    """A list that is asked for. Times are Unix times."""

    route: str | None = None
    since: float = -_FOREVER
    until: float = _FOREVER
    limit: int = USUAL
    before: tuple[float, str] = (_FOREVER, "")
    states: tuple[State, ...] = ()
    open: bool | None = None


def read(query: Mapping[str, Sequence[str]], known: Collection[str]) -> Asked:
    """What this query, each name with all its values, asks of a list that knows these names. Raises BadQuery."""
    for name, values in query.items():
        if name not in known:
            raise BadQuery(f"there is no {name[:40]!r}; there are: {', '.join(known) or 'no parameters'}")
        if len(values) > 1 and name != "state":
            raise BadQuery(f"{name} is there twice")
    one = {name: values[0] for name, values in query.items()}
    return Asked(
        route=_like(ROUTE, "route", one["route"]) if "route" in one else None,
        since=_time("since", one["since"]) if "since" in one else -_FOREVER,
        until=_time("until", one["until"]) if "until" in one else _FOREVER,
        limit=_limit(one["limit"]) if "limit" in one else USUAL,
        before=_before(one["cursor"]) if "cursor" in one else (_FOREVER, ""),
        states=tuple(State(_which("state", it, list(State))) for it in query.get("state", ())),
        open=_which("open", one["open"], ("true", "false")) == "true" if "open" in one else None,
    )


def cursor(before: tuple[float, str] | None) -> str | None:
    """What a client hands back to go on before this one."""
    return f"{before[0]!r}~{before[1]}" if before else None


def _before(text: str) -> tuple[float, str]:
    at, _, name = _like(CURSOR, "cursor", text).partition("~")
    return float(at), name


def _like(pattern: str, name: str, text: str) -> str:
    if not re.fullmatch(pattern, text, re.ASCII):
        raise BadQuery(f"{name}: {text[:80]!r} is none")
    return text


def _time(name: str, text: str) -> float:
    """RFC 3339; a + that was not encoded has become a space."""
    text = text.replace(" ", "+")
    if not re.fullmatch(TIME, text, re.ASCII):
        raise BadQuery(f"{name}: {text[:80]!r} is no time; write it as 2007-01-26T09:00:00Z")
    try:
        at = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text.upper())).timestamp()
    except (ValueError, OverflowError):
        raise BadQuery(f"{name}: {text[:80]!r} is in no calendar") from None
    assert isfinite(at)
    return at


def _limit(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text, re.ASCII) or not 1 <= int(text) <= MOST:
        raise BadQuery(f"limit: {text[:80]!r} is no number from 1 to {MOST}")
    return int(text)


def _which(name: str, text: str, words: Sequence[str]) -> str:
    if text not in words:
        raise BadQuery(f"{name}: {text[:80]!r} is none of {', '.join(words)}")
    return text
