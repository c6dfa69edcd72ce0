"""A trace field (RFC 5321 §4.4) taken apart: its comments, its stamp, and its clauses, in any order.

Rules:
- Comments are told from clauses first, by their parentheses; one that is not closed is none.
- The stamp is taken out next, for it can stand anywhere, and without a semicolon. What is left is keywords and values.
- Never raises, whatever the text, and reads each character a bounded number of times.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Final, NamedTuple

from probe.core import dates

LIMIT: Final = 16 * 1024  # characters that are read; the longest real field of 665 has under 1,000

_KEYWORDS = {
    *("from", "by", "via", "with", "id", "for"),
    *("envelope-from", "envelope-sender"),  # of Haraka; elsewhere it is a comment
    *("tls", "over"),  # of Exim, of Microsoft
}
_COMMENT = "\0"  # in its place; no printable line has any
_WORD = re.compile(r"<[^<>\0]*+>|\[[^\[\]\0]*+\]|\"[^\"\0]*+\"(?![^\x20;])|[;\0]|[^\x20;<\[\0]+|[<\[]")
_BEFORE_STAMP = re.compile(r";\x20?\(?(?:[^\W\d]{2,9}[,.]?\x20{0,2})?\Z")  # a day of the week may stand between
_WEEKDAY = re.compile(
    r"(?:(?<!\w)(?i:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]{0,6})[,.]?|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),)\x20?\Z"
)


class Token(NamedTuple):
    """A word, a literal in <> or [], or the inside of a comment."""

    text: str
    comment: bool = False


Clause = list[Token]


class Trace(NamedTuple):
    """A field on one line, printable. Of each clause the keyword, in lower case; "" for what belongs to none."""

    line: str
    comments: list[str]
    clauses: list[tuple[str, Clause]]
    at: float | None
    resolution: float
    naive: str

    def words(self, keyword: str) -> list[str]:
        """The words of the first clause of this name that has any, up to a comment behind them; [] if there is none."""
        for name, clause in self.clauses:
            if name == keyword:
                words = itertools.dropwhile(lambda token: token.comment, clause)
                if found := [
                    token.text.rstrip(",") for token in itertools.takewhile(lambda token: not token.comment, words)
                ]:
                    return found
        return []

    def behind(self, keyword: str) -> Iterator[tuple[str, Clause]]:
        """The first clause of this name and all that follow it."""
        return itertools.dropwhile(lambda clause: clause[0] != keyword, self.clauses)


def take_apart(value: str | bytes) -> Trace:
    """A field's value, folded or not."""
    line = _line(value)
    spans = _comments(line)
    comments = [line[start + 1 : end - 1].strip() for start, end in spans]
    bare = _blanked(line, spans)
    if not (written := _stamp(line, bare)):
        return Trace(line, comments, list(_clauses(bare, comments)), None, 1.0, "")
    at, resolution, naive, start, end = written
    if naive and (zone := _zone_behind(line, spans, end)) is not None:
        at, naive = dates.shifted(naive, zone), ""
    before = max(0, start - 16)
    clauses = _clauses(f"{bare[:before]}{_WEEKDAY.sub('', bare[before:start])};{bare[end:]}", comments)
    return Trace(line, comments, list(clauses), at, resolution, naive)


def without_brackets(word: str) -> str:
    """The inside of <> or []."""
    word = word.rstrip(",")
    return word[1:-1] if len(word) > 1 and word[0] + word[-1] in {"<>", "[]"} else word


def _line(value: str | bytes) -> str:
    text = value[:LIMIT].decode("latin-1") if isinstance(value, bytes) else value[:LIMIT]
    text = " ".join(text.split())
    return text if text.isprintable() else "".join(filter(str.isprintable, text))


def _comments(line: str) -> list[tuple[int, int]]:
    """Where the outermost ones are; RFC 5322 §3.2.2 has escapes, but Smail has backslashes in its name."""
    found: list[tuple[int, int]] = []
    opened: list[int] = []
    for match in re.finditer(r"[()]", line):
        if match[0] == "(":
            opened.append(match.start())
        elif opened:
            start = opened.pop()
            while found and found[-1][0] > start:
                found.pop()
            found.append((start, match.end()))
    return found


def _blanked(line: str, spans: list[tuple[int, int]]) -> str:
    """The line with a mark and spaces for each comment, and all other characters in their places."""
    pieces: list[str] = []
    done = 0
    for start, end in spans:
        pieces += line[done:start], _COMMENT.ljust(end - start)
        done = end
    return "".join([*pieces, line[done:]])


def _stamp(line: str, bare: str) -> dates.Written | None:
    """The last behind a semicolon, else the last of all; one within a comment only behind a semicolon."""
    last = bare.rfind(";")
    if last >= 0 and (behind := next(dates.find(bare, last), None)) and _behind_semicolon(bare, behind):
        return behind  # nearly always, and a tenth of the work
    if found := list(dates.find(bare)):
        return max(found, key=lambda it: (_behind_semicolon(bare, it), it.end))
    found = [it for it in dates.find(line) if _behind_semicolon(line, it)]
    return found[-1] if found else None


def _behind_semicolon(text: str, written: dates.Written) -> bool:
    return bool(_BEFORE_STAMP.search(text[max(0, written.start - 16) : written.start]))


def _zone_behind(line: str, spans: list[tuple[int, int]], end: int) -> timedelta | None:
    """The zone that a comment next to the stamp gives."""
    start, stop = next((span for span in spans if span[0] >= end), (end, end))
    return None if line[end:start].strip() else dates.zone(line[start + 1 : stop - 1])


def _clauses(bare: str, comments: list[str]) -> Iterator[tuple[str, Clause]]:
    insides = iter(comments)
    keyword, clause = "", list[Token]()
    for word in _WORD.findall(bare):
        if word == _COMMENT:
            clause.append(Token(next(insides), comment=True))
        elif word == ";" or word.lower() in _KEYWORDS:
            yield keyword, clause
            keyword, clause = word.lower().strip(";"), []
        elif word[:3].lower() == "id=":
            yield keyword, clause
            keyword, clause = "id", [Token(word[3:])]
        else:
            clause.append(Token(word))
    yield keyword, clause
