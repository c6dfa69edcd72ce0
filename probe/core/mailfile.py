"""Mails out of what a person has: a message file, an mbox, or header lines that were pasted.

Rule: nothing is raised, whatever the bytes; a header that copying has damaged is mended where it can be told how.
"""

from __future__ import annotations

import codecs
import html
import itertools
import quopri
import re
from collections.abc import Iterator

LIMIT = 256 * 1024  # octets of one mail that are read

_SEPARATOR = re.compile(rb"^From [^\r\n]*\d\d:\d\d(?::\d\d)? [^\r\n]*\r?\n", re.M)  # RFC 4155: an address, and asctime
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_-]*[ \t]*:(?!\S*\d:)")  # not "2002:a05:…", as in "by 2002:a05:…"
_PREFIX = re.compile(r"[ \t]*(?:[>|][ \t]?)*")
_RECEIVED = re.compile(r"^received[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*?\d:\d", re.M | re.I)
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))

# what shows that the text is not the header itself but a picture of it
_ADDRESS = re.compile(r"<[^<>\s]*@[^<>\s]*>")
_TAG = re.compile(r"</?(?:html|body|div|pre|code|p|br|span|font|table|tbody|tr|td|a|b|i)\b[^<>]*>", re.I)
_SOFT_END = re.compile(r"^received:.*(?:\n[ \t].*)*?=$", re.M | re.I)  # no field ends so, but signatures
_EQUALS = re.compile(r"\b(?:helo|cipher|version)=3D", re.I)
_FIELDS_IN_A_LINE = re.compile(
    r"(?<=\S)[ \t]+(?=(?:Received|Return-Path|Delivered-To|From|To|Subject|Date|Message-ID|MIME-Version|DKIM-Signature"
    r"|Authentication-Results|(?:X|ARC)-[\w-]+):[ \t])",
    re.I,
)


def headers(raw: bytes) -> Iterator[str]:
    """The header block of each mail, with line ends "\\n" and continued lines indented; no empty ones."""
    for mail in _mails(_as_utf8(raw)):
        if block := _block(_text(mail[:LIMIT])):
            yield block


def _as_utf8(raw: bytes) -> bytes:
    """Windows programs save in UTF-16, with a mark at the front."""
    for mark, encoding in _BOMS:
        if raw.startswith(mark):
            return raw[len(mark) :].decode(encoding, "replace").encode("utf-8", "replace")
    return raw


def _mails(raw: bytes) -> Iterator[bytes]:
    """An mbox begins with a separator; elsewhere such a line is part of somebody's text."""
    raw = raw.lstrip(b"\r\n")
    starts = [match.start() for match in _SEPARATOR.finditer(raw)] if _SEPARATOR.match(raw) else [0]
    starts = [start for start in starts if start == 0 or raw.endswith((b"\n\n", b"\n\r\n"), 0, start)]
    for start, end in itertools.pairwise([*starts, len(raw)]):
        yield raw[start:end]


def _text(mail: bytes) -> str:
    """The mail with line ends "\\n"; out of HTML, a string of a program, or quoted-printable, if it was in that."""
    lines = (_decoded(line) for line in re.split(rb"\r\n|\r|\n", _SEPARATOR.sub(b"", mail, count=1)))
    text = "\n".join(lines)
    if text.count("\\n") > text.count("\n") + 1:
        text = re.sub(r"(?:\\r)?\\n", "\n", text).replace("\\t", "\t").replace('\\"', '"')
    if "&lt;" in text and not _ADDRESS.search(text):
        text = html.unescape(_TAG.sub("", text))
    return "\n\n".join(map(_unquoted, text.split("\n\n")))


def _unquoted(part: str) -> str:
    """Without quoted-printable, if that is in a Received field."""
    if _SOFT_END.search(part) or ("received:" in part.lower() and _EQUALS.search(part)):
        return quopri.decodestring(part.encode("utf-8", "replace")).decode("utf-8", "replace")
    return part


def _block(text: str) -> str:
    """The first header block that tells of a way, else the first that has a field; "" if none has."""
    first = ""
    for block in _blocks(_singly_spaced(text.split("\n"))):
        if _RECEIVED.search(block):
            return block
        first = first or block
    return first


def _singly_spaced(lines: list[str]) -> list[str]:
    """Web pages, and programs that take "\\r\\r\\n" for two line ends, put an empty line behind every one."""
    start = [bool(line.strip()) for line in lines[:20]]
    if sum(start) < 4 or any(map(all, itertools.pairwise(start))):
        return lines
    return [line for before, line in itertools.pairwise(["", *lines]) if line.strip() or not before.strip()]


def _blocks(lines: list[str]) -> Iterator[str]:
    """The runs of lines that have a field among them.

    Lines that begin no field continue the one before, indented or not: mail programs and web pages lose the
    indentation, or indent everything, or quote it.
    """
    prefixes = ((match[0], line[match.end() :]) for line in lines if (match := _PREFIX.match(line)))
    prefix = next((prefix for prefix, rest in prefixes if _FIELD.match(rest)), None)
    if prefix is None:
        return
    for empty, run in itertools.groupby(lines, lambda line: not line.strip(" \t>|")):
        if not empty:
            whole = [piece for line in run for piece in _apart(line.removeprefix(prefix))]
            block = [line if _FIELD.match(line) else f" {line.strip()}" for line in whole]
            if any(map(_FIELD.match, block)):
                yield "\n".join(block)


def _apart(line: str) -> list[str]:
    """The fields of a line, where several were pasted into one."""
    return _FIELDS_IN_A_LINE.split(line) if len(re.findall(r"\bReceived:[ \t]", line, re.I)) > 1 else [line]


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")
