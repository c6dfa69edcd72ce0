"""The grammar of Authentication-Results (RFC 8601 §2.2) and of Received-SPF (RFC 7208 §9.1).

Rule: takes any text, never raises, reads it once, and gives nothing but words of the RFC, domains, and printable texts.

It reads what is written, not what should be: Microsoft names no server and repeats one between the results, Gmail glues
comments to words, Fastmail folds behind the equals sign. A comment is never taken for a result: senders' addresses
stand in comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from probe.core.reply import one_line

LONGEST: Final = 4096  # characters of one field that are looked at
_MOST = 64  # results of one field
_REASON = 200

# RFC 8601 §2.7, and what is written in the place of these words.
_WORDS = {
    **{word: word for word in ("pass", "fail", "softfail", "neutral", "none", "policy", "temperror", "permerror")},
    "hardfail": "fail",  # RFC 5451
    "bestguesspass": "none",  # Microsoft: there is no DMARC record; SPF or DKIM would have satisfied one
    "unknown": "none",  # Yahoo
    "error": "temperror",  # RFC 4408's drafts
    "timeout": "temperror",
}
# Which property names the domain that was judged, the best first: RFC 8601 §2.7, and smtp.mail as Gmail once wrote.
_DOMAIN = {
    "dkim": ("header.d", "header.i"),
    "spf": ("smtp.mailfrom", "smtp.mail", "envelope-from", "smtp.helo", "helo"),
    "dmarc": ("header.from",),
}

_TOKEN = re.compile(r'\s+|"((?:[^"\\]|\\.)*+)"|\\(.)|([;=])|[^\s"\\;=(]+|.', re.S)
_ESCAPE = re.compile(r"\\(.)", re.S)
_IN_COMMENT = re.compile(r"\\.|[()]", re.S)
_METHOD = re.compile(r"[a-z][a-z0-9-]{0,31}")
_NEXT_PAIR = re.compile(r"[\w.-]+=.")
_NO_HOST = {"none", "unknown"}
_HOST = re.compile(r"[\w-]+(?:\.[\w-]+)*", re.A)
_SPEAKER = re.compile(r"([\w.-]+):\s", re.A)  # "(mx.example.org: domain of … designates …)"


@dataclass(frozen=True, slots=True)
class Result:
    """What was found by one method. `domain`: the one that was judged, in lower case, or ""; `reason`: printable."""

    method: str
    result: str
    domain: str = ""
    reason: str = ""


class Said(NamedTuple):
    """One field: who says it (in lower case; "" where nobody is named), and what."""

    by: str
    results: tuple[Result, ...]


class _Word(NamedTuple):
    text: str
    equals: int  # where its first unquoted equals sign stands, or -1


@dataclass(slots=True)
class _Statement:
    """What stands between two semicolons."""

    words: list[_Word]
    comment: str = ""

    def pairs(self) -> dict[str, str]:
        """key=value, the first of each key; a word without an equals sign says nothing."""
        found: dict[str, str] = {}
        for text, equals in self.words:
            if equals > 0:
                found.setdefault(text[:equals].lower(), text[equals + 1 :])
        return found


def authentication_results(value: str) -> Said:
    """Authentication-Results, or ARC-Authentication-Results (RFC 8617 §4.1.1), whose instance comes first."""
    statements = list(_statements(value[:LONGEST]))
    if statements and statements[0].words and statements[0].words[0].text[:2].lower() == "i=":
        del statements[0]
    first = statements[0].words if statements else []
    server = _host(first[0].text) or one_line(first[0].text)[:255].lower() if first and first[0].equals < 0 else ""
    return Said(server, tuple(result for result in map(_result, statements) if result)[:_MOST])


def received_spf(value: str) -> Said:
    """Received-SPF: its result comes without the method's name, and "receiver" may be an <UNKNOWN>."""
    said = list(_statements(value[:LONGEST]))
    if not said or not said[0].words:
        return Said("", ())
    pairs = {key: text for statement in reversed(said) for key, text in statement.pairs().items()}
    speaker = _SPEAKER.match(said[0].comment)
    by = _host(pairs.get("receiver", "")) or (_host(speaker[1]) if speaker else "")
    word = _WORDS.get(said[0].words[0].text.lower(), "other")
    return Said(by, (Result("spf", word, _domain("spf", pairs), one_line(said[0].comment)[:_REASON]),))


def _result(statement: _Statement) -> Result | None:
    """None where the statement is no result: the server's name, "none", noise."""
    if not statement.words or statement.words[0].equals < 0:
        return None
    pairs = statement.pairs()
    name, word = next(iter(pairs.items()), ("", ""))
    method = name.partition("/")[0]  # a version may follow: RFC 8601 §2.2
    if not _METHOD.fullmatch(method):
        return None
    reason = one_line(pairs.get("reason", "") or statement.comment)[:_REASON]
    return Result(method, _WORDS.get(word.lower(), "other"), _domain(method, pairs), reason)


def _domain(method: str, pairs: dict[str, str]) -> str:
    written = (pairs.get(name, "") for name in _DOMAIN.get(method, ()))
    return next(filter(None, (_host(text.rpartition("@")[2]) for text in written)), "")


def _host(text: str) -> str:
    text = text.strip("<>.").lower()
    return text if len(text) < 254 and text not in _NO_HOST and _HOST.fullmatch(text) else ""


def _statements(value: str) -> Iterator[_Statement]:
    statement, at, glue = _Statement([]), 0, False
    while at < len(value):
        if value[at] == "(":
            end = _comment_end(value, at)
            statement.comment = statement.comment or value[at + 1 : end - 1].strip()
            at, glue = end, False
            continue
        token = _TOKEN.match(value, at)
        assert token
        at, mark = token.end(), token[3]
        if mark == ";":
            yield _joined(statement)
            statement, glue = _Statement([]), False
        elif token[0].isspace():
            glue = False
        else:
            text = next((_ESCAPE.sub(r"\1", text) for text in token.group(1, 2) if text is not None), token[0])
            before = statement.words.pop() if glue else _Word("", -1)
            equals = len(before.text) if mark and before.equals < 0 else before.equals
            statement.words.append(_Word(before.text + text, equals))
            glue = True
    yield _joined(statement)


def _joined(statement: _Statement) -> _Statement:
    """With "spf = pass" as one word: space may stand around the sign."""
    words: list[_Word] = []
    for word in statement.words:
        open_ended = words and words[-1].equals == len(words[-1].text) - 1 and words[-1].text
        if open_ended and not _NEXT_PAIR.match(word.text):
            words[-1] = _Word(words[-1].text + word.text, words[-1].equals)
        elif words and word.equals == 0 and words[-1].equals < 0:
            words[-1] = _Word(words[-1].text + word.text, len(words[-1].text))
        else:
            words.append(word)
    return _Statement(words, statement.comment)


def _comment_end(value: str, at: int) -> int:
    """Behind the comment that opens here; comments nest (RFC 5322 §3.2.2), and one that is never closed is the rest."""
    depth = 0
    for mark in _IN_COMMENT.finditer(value, at):
        depth += {"(": 1, ")": -1}.get(mark[0], 0)
        if not depth:
            return mark.end()
    return len(value) + 1
