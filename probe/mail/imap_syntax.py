"""IMAP on paper: framing, quoting, modified UTF-7, dates, and the three answers we read (RFC 3501, RFC 9051 §9).

Rule: pure (bytes in, values out; no asyncio, no clock), linear in the input whatever comes, free of recursion.
Whatever breaks a limit is Malformed; whatever is merely odd is skipped.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Generic, TypeVar

MAX_LINE = 1 << 20
MAX_LITERAL = 64 << 20
MAX_RESPONSE = MAX_LITERAL + MAX_LINE  # lines and literals of one response together
_PART_COST = 64  # what a part takes in memory besides its octets

Stamp = TypeVar("Stamp")
Parts = list[bytes]  # of one response: line, literal, line, literal, …, line; without CRLF, always an odd number


class Malformed(Exception):
    """The server broke a limit or the grammar; its text never quotes what the server or we have sent."""


@dataclass(frozen=True, slots=True)
class Folder:
    """One line of LIST. `raw` is the name as it is on the wire (for SELECT), `name` is for people: printable."""

    name: str
    raw: str
    delimiter: str
    attributes: frozenset[str]  # lower-cased, such as "\\junk"


@dataclass(frozen=True, slots=True)
class Fetched:
    """One mail of UID FETCH. `internal_date` is Unix time by the server's clock, None if absent or unreadable."""

    uid: int
    content: bytes  # b"" for NIL
    internal_date: float | None


class Framer(Generic[Stamp]):
    """Bytes in, complete responses out, each with the stamp of the read that held its first byte.

    Literals are announced only by data responses: a status line ("* OK …", "+ …", a tagged one) may end in "{12}" and
    mean nothing by it. `feed` must be iterated to its end; a response is yielded before anything behind it is judged.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0  # no CRLF begins before this offset
        self._need = -1  # length of the literal we are in, or -1
        self._parts: Parts = []
        self._held = 0
        self._stamp: Stamp | None = None

    def feed(self, data: bytes, stamp: Stamp) -> Iterator[tuple[Parts, Stamp]]:
        """The responses that these bytes complete. Raises Malformed; the framer is of no use afterwards."""
        buffer = self._buffer
        if self._stamp is None or not (buffer or self._parts):
            self._stamp = stamp
        buffer += data
        while True:
            if self._need >= 0:
                if len(buffer) < self._need:
                    return
                with memoryview(buffer) as view:
                    self._parts.append(bytes(view[: self._need]))
                del buffer[: self._need]
                self._need = -1
            end = buffer.find(b"\r\n", self._scanned)
            if end > MAX_LINE or (end < 0 and len(buffer) > MAX_LINE + 1):  # the one more may be its CR
                raise Malformed("line too long")
            if end < 0:
                self._scanned = max(0, len(buffer) - 1)
                return
            line = bytes(buffer[:end])
            del buffer[: end + 2]
            self._scanned = 0
            self._parts.append(line)
            if line.endswith(b"}") and self._announces_literal(line):
                continue
            parts, first = self._parts, self._stamp
            self._parts, self._held, self._stamp = [], 0, stamp
            yield parts, first

    def _announces_literal(self, line: bytes) -> bool:
        head = self._parts[0]
        if not head.startswith(b"* ") or head[2:10].upper().startswith((b"OK ", b"NO ", b"BAD ", b"BYE ", b"PREAUTH ")):
            return False
        digits = line[line.rfind(b"{") + 1 : -1]
        if not digits.isdigit():
            return False
        if len(digits) > 10 or int(digits) > MAX_LITERAL:
            raise Malformed("literal too long")
        self._need = int(digits)
        self._held += self._need + len(line) + 2 * _PART_COST
        if self._held > MAX_RESPONSE:
            raise Malformed("response too long")
        return True


# ---------------------------------------------------------------- small words


def quote(text: bytes) -> bytes:
    """A quoted string (RFC 3501 §9). CR, LF and NUL cannot be quoted: whoever writes the line refuses them."""
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def plain_ascii(text: bytes) -> bool:
    """Whether every server takes this as a quoted string: printable ASCII only."""
    return all(32 <= byte < 127 for byte in text)


def printable(raw: bytes, limit: int = 400) -> str:
    """A server's words for a person or a log: one line, without control characters and lone surrogates."""
    text = raw[: 4 * limit].decode("utf-8", "replace")[:limit]
    return "".join(char if char.isprintable() else " " for char in text).strip()


_CODE = re.compile(rb"\[([^\]\s]++)(?: ([^\]]*+))?\] ?")


def status(text: bytes) -> tuple[str, bytes, bytes]:
    """What follows OK/NO/BAD as (response code upper-cased or "", its argument, the human text): RFC 3501 §7.1."""
    found = _CODE.match(text)
    if found is None:
        return "", b"", text
    return printable(found[1]).upper(), found[2] or b"", text[found.end() :]


def number(text: bytes | None) -> int | None:
    """An unsigned 32-bit number, else None."""
    if text is None or not text.isdigit() or len(text) > 10:
        return None
    value = int(text)
    return value if value < 1 << 32 else None


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # never strftime: locale
# date-day-fixed is SP DIGIT or 2DIGIT; servers send one lone digit, too
_DATE = re.compile(
    rb" ?(\d{1,2})-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)([0-5]\d)",
)


def internal_date(text: bytes) -> float | None:
    """INTERNALDATE (date-time, RFC 3501 §9, without its quotes) as Unix time; None if it is anything else."""
    found = _DATE.fullmatch(text)
    name = found[2].decode().capitalize() if found else ""
    if found is None or name not in _MONTHS:
        return None
    day, year, hour, minute, second = (int(found[group]) for group in (1, 3, 4, 5, 6))
    zone = timedelta(hours=int(found[8]), minutes=int(found[9])) * (-1 if found[7] == b"-" else 1)
    try:
        return datetime(year, _MONTHS.index(name) + 1, day, hour, minute, second, tzinfo=timezone(zone)).timestamp()
    except (ValueError, OverflowError):
        return None


def search_day(day: date) -> str:
    """date of RFC 3501 §9, such as 05-Jan-2026."""
    return f"{day.day:02}-{_MONTHS[day.month - 1]}-{day.year:04}"


_SHIFTED = re.compile(r"&([A-Za-z0-9+,]*+)-")


def decode_utf7(raw: str) -> str:
    """A folder's name from modified UTF-7 (RFC 3501 §5.1.3); what is not valid comes back as it was."""

    def shifted(found: re.Match[str]) -> str:
        body = found[1].replace(",", "/")
        return base64.b64decode(body + "=" * (-len(body) % 4), validate=True).decode("utf-16-be") if body else "&"

    try:
        return _SHIFTED.sub(shifted, raw)
    except (binascii.Error, UnicodeDecodeError):
        return raw


def uid_sets(uids: Iterable[int], limit: int = 900) -> list[str]:
    """These UIDs and no others as sequence sets of at most `limit` octets (RFC 2683 §3.2.1.5: 1000 per line)."""
    ranges: list[list[int]] = []
    for uid in sorted(set(uids)):
        if not 0 < uid < 1 << 32:
            raise ValueError(f"not a UID: {uid}")
        if ranges and ranges[-1][1] == uid - 1:
            ranges[-1][1] = uid
        else:
            ranges.append([uid, uid])
    sets: list[str] = []
    for first, last in ranges:
        word = str(first) if first == last else f"{first}:{last}"
        if sets and len(sets[-1]) + len(word) < limit:
            sets[-1] += "," + word
        else:
            sets.append(word)
    return sets


# ---------------------------------------------------------------- answers

# Closing quote and bracket are optional so that an unclosed one costs one scan, not one for each of its characters.
_TOKEN = re.compile(
    rb'"((?:[^"\\]|\\.)*+)"?|([()]|(?:BODY|BINARY)\[[^\]]*+\]?[^\s()]*+|[^\s()"]++)', re.IGNORECASE | re.DOTALL
)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_OPEN, _CLOSE = (False, b"("), (False, b")")


def _tokens(parts: Parts) -> Iterator[tuple[bool, bytes]]:
    """(is it a string?, value): strings unquoted, literals as they are; parentheses, atoms, BODY[…] are no strings."""
    for index, part in enumerate(parts):
        if index % 2:
            yield True, part
            continue
        end = part.rfind(b"{") if index + 1 < len(parts) else len(part)
        for found in _TOKEN.finditer(part, 0, end):
            if found[2] is None:
                yield True, _ESCAPED.sub(rb"\1", found[1])
            elif found[2] != b"~":  # "~{12}" is a literal8 (RFC 3516)
                yield False, found[2]


def _fetch_fields(parts: Parts) -> dict[bytes, bytes | None]:
    tokens = _tokens(parts)
    fields: dict[bytes, bytes | None] = {}
    for token in tokens:
        if token == _OPEN:
            break
    for string, key in tokens:
        if string or key == b")":
            break
        token = next(tokens, _CLOSE)
        if token == _OPEN:
            depth = 1
            for inner in tokens:
                depth += (inner == _OPEN) - (inner == _CLOSE)
                if not depth:
                    break
        else:
            fields[key.upper()] = None if not token[0] and token[1].upper() == b"NIL" else token[1]
    return fields


def parse_fetch(parts: Parts) -> Fetched | None:
    """A FETCH response with UID and content; None for the others (flags of somebody else's doing, for example)."""
    fields = _fetch_fields(parts)
    uid = number(fields.get(b"UID"))
    fields.pop(b"RFC822.SIZE", None)  # no content
    content = [value for key, value in fields.items() if key.startswith((b"BODY[", b"BINARY[", b"RFC822"))]
    if not uid or not content:
        return None
    return Fetched(uid, content[0] or b"", internal_date(fields.get(b"INTERNALDATE") or b""))


def parse_uid(parts: Parts) -> int | None:
    """The UID that a FETCH response is about, if it says so."""
    return number(_fetch_fields(parts).get(b"UID"))


def parse_list(parts: Parts) -> Folder | None:
    """A LIST response; None if it is broken, or a name that no quoted string can carry."""
    tokens = _tokens(parts)
    for token in tokens:
        if token == _OPEN:
            break
    attributes = set()
    for token in tokens:
        if token == _CLOSE:
            break
        attributes.add(printable(token[1]).lower())
    delimiter, name = next(tokens, None), next(tokens, None)
    if delimiter is None or name is None or name in (_OPEN, _CLOSE) or any(char in name[1] for char in b"\r\n\0"):
        return None
    words = decode_utf7(name[1].decode("utf-8", "replace"))
    return Folder(
        name="".join(char if char.isprintable() else "\ufffd" for char in words),
        raw=name[1].decode("utf-8", "surrogateescape"),
        delimiter=printable(delimiter[1]) if delimiter[0] else "",
        attributes=frozenset(attributes),
    )


def parse_search(parts: Parts) -> list[int]:
    """The numbers of one SEARCH response ("* SEARCH 4 7 (MODSEQ 9)": RFC 7162 §3.1.5)."""
    words = parts[0].partition(b"(")[0].split()[2:]
    return [value for value in map(number, words) if value]
