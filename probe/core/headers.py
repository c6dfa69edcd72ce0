"""A mail's header block as a dictionary of its fields.

Rule: takes any bytes for a header block, never raises, and reads each byte a bounded number of times.

The standard library's parser takes ten times as long, and every mail in the mailbox passes here. Its decoder of encoded
words is quadratic, and believes in whatever Python calls a codec: punycode is quadratic again, unicode_escape warns,
utf-7 makes lone surrogates, and each unknown name stays in a cache for good.
"""

from __future__ import annotations

import binascii
import itertools
import quopri
import re
from collections.abc import Iterable, Iterator
from operator import itemgetter

Head = dict[str, list[str]]  # field name in lower case → values, still folded

_FIELD = re.compile(r"^([!-9;-~]+)[ \t]*:[ \t]*(.*(?:\n[ \t].*)*)", re.M)  # RFC 5322 §2.2
_CHARSETS = (
    r"utf-?8|(?:us-)?ascii|latin-?1|iso-?8859-\d{1,2}|(?:windows-|cp)125\d|koi8-[rut]|gb2312|gbk|gb18030|big5(?:-hkscs)?"
    r"|shift[_-]jis|cp932|euc-(?:jp|kr)|iso-2022-(?:jp|kr)|ks_c_5601-1987"
)
_WORD = re.compile(rf"=\?({_CHARSETS})(?:\*[^?\s]*+)?\?([bq])\?([^?]*+)\?=", re.I | re.A)  # RFC 2047 §2, RFC 2231 §5
_NO_LETTERS = re.compile(rb"[^A-Za-z0-9+/]+")


def parse_head(raw: bytes) -> Head:
    """The fields of a header block, or of a mail's; octets above 127 stay latin-1."""
    return by_name(_ordered(_block(raw)))


def parse_fields(block: str) -> Head:
    """The fields in this text; lines that belong to none are left out."""
    return by_name(_ordered(block.replace("\r\n", "\n")))


def by_name(ordered: Iterable[tuple[str, str]]) -> Head:
    """These (name, value) as a dictionary."""
    fields: Head = {}
    for name, value in ordered:
        fields.setdefault(name, []).append(value)
    return fields


def fields(raw: bytes) -> list[tuple[str, str]]:
    """(name in lower case, unfolded value) of every field in its order: who wrote one is told by what stands above."""
    return [(name, value.replace("\n", "")) for name, value in _ordered(_block(raw))]


def values(head: Head, name: str) -> Iterator[str]:
    """What the fields of this name say, unfolded (RFC 5322 §2.2.3) and with encoded words decoded (RFC 2047), as far
    as they can be. No lone surrogates come of them, control characters may."""
    for value in head.get(name.lower(), ()):
        unfolded = value.replace("\n", "")
        yield _decoded(unfolded) if "=?" in unfolded else unfolded


def first(head: Head, name: str) -> str:
    """What the first field of this name says; "" where there is none."""
    return next(values(head, name), "").strip()


def from_base64(letters: bytes) -> bytes:
    """The octets, of however much came: a mail that was cut lacks its padding."""
    letters = _NO_LETTERS.sub(b"", letters)
    letters = letters[: len(letters) - (len(letters) % 4 == 1)]
    return binascii.a2b_base64(letters + b"=" * (-len(letters) % 4))


def _block(raw: bytes) -> str:
    """With LF as line ends."""
    return raw.replace(b"\r\n", b"\n").partition(b"\n\n")[0].decode("latin-1")


def _ordered(block: str) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in _FIELD.findall(block)]


def _decoded(text: str) -> str:
    """Neighbours of one charset are joined first: some programs cut characters apart."""
    said = []
    for charset, run in itertools.groupby(_words(text), key=itemgetter(0)):
        written, octets = zip(*((words, octets) for _, words, octets in run), strict=True)
        try:
            said.append(b"".join(octets).decode(charset, "replace") if charset else "".join(written))
        except LookupError:
            said.append("".join(written))
    return "".join(said)


def _words(text: str) -> Iterator[tuple[str, str, bytes]]:
    """(charset, as written, octets) of each encoded word and, with charset "", of what stands between."""
    end = 0
    for word in _WORD.finditer(text):
        between = text[end : word.start()]
        if between.strip() or not end:  # space between two encoded words is none: RFC 2047 §6.2
            yield "", between, b""
        letters = word[3].encode("utf-8", "replace")
        octets = from_base64(letters) if word[2] in "Bb" else quopri.decodestring(letters, header=True)
        yield word[1].lower(), word[0], octets
        end = word.end()
    yield "", text[end:], b""
