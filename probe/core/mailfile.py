"""Mails out of what a person has: a message file, an mbox, or header lines that were pasted.

Rule: nothing is raised, whatever the bytes; a header that copying has damaged is mended where it can be told how.
"""

from __future__ import annotations

import codecs
import itertools
import re
from collections.abc import Iterator

LIMIT = 256 * 1024  # octets of one mail's header that are read

_SEPARATOR = re.compile(rb"^From [^\r\n]*\d\d:\d\d(?::\d\d)? [^\r\n]*\r?\n", re.M)  # RFC 4155: an address, and asctime
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_-]*[ \t]*:(?!\S*\d:)")  # not "2002:a05:…", as in "by 2002:a05:…"
_PREFIX = re.compile(r"[ \t]*(?:>[ \t]?)*")
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def headers(raw: bytes) -> Iterator[str]:
    """The header block of each mail, with line ends "\\n" and continued lines indented; no empty ones."""
    for mail in _mails(_as_utf8(raw)):
        if (block := _mended(mail[:LIMIT])).strip():
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


def _mended(mail: bytes) -> str:
    """The first lines that have a field among them, up to an empty one.

    Lines that begin no field continue the one before, indented or not: mail programs and web pages lose the
    indentation, or indent everything, or quote it.
    """
    lines = [_decoded(line) for line in re.split(rb"\r\n|\r|\n", _SEPARATOR.sub(b"", mail, count=1))]
    prefix = _PREFIX.match(next((line for line in lines if line.strip()), ""))
    block: list[str] = []
    for line in (line.removeprefix(prefix[0]) if prefix else line for line in lines):
        if line.strip(" \t>"):
            block.append(line if _FIELD.match(line) else f" {line.strip()}")
        elif any(map(_FIELD.match, block)):
            break
        else:
            block.clear()  # somebody's words above the header
    return "\n".join(block)


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")
