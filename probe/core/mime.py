"""A mail taken apart into its MIME parts (RFC 2046), each of them decoded.

Rule: never raises, and reads each byte at most DEPTH times. The standard library's parser is recursive without bound
and takes a second and more for what can be put into 64 KiB; a mail nested deeper than DEPTH is nobody's bounce.
"""

from __future__ import annotations

import quopri
import re
from collections.abc import Iterator
from typing import NamedTuple

from probe.core.headers import Head, first, from_base64, parse_fields

DEPTH = 8

_BLANK_LINE = re.compile(rb"\A\r?\n|\r?\n\r?\n")
_PARAMETER = r';\s*{}\s*=\s*(?:"([^"]*)"|([^\s;"]+))'  # RFC 2045 §5.1
_BOUNDARY = re.compile(_PARAMETER.format("boundary"), re.I)
_REPORT_TYPE = re.compile(_PARAMETER.format("report-type"), re.I)
_MAILS = {"message/rfc822", "message/global"}
_HEADERS = {"text/rfc822-headers", "message/global-headers"}


class Part(NamedTuple):
    """One part: its type in lower case, its own header, its decoded text ("" for what is no text or has parts).

    `returned`: it belongs to a mail, or to the header of one, that the outer mail carries as an attachment.
    """

    kind: str
    head: Head
    text: str
    returned: bool


def parts(raw: bytes, depth: int = DEPTH, returned: bool = False) -> Iterator[Part]:
    """The mail itself and all that is in it, in order."""
    split = _BLANK_LINE.search(raw)
    block, body = (raw[: split.start()], raw[split.end() :]) if split else (raw, b"")
    head = parse_fields(as_text(block))
    kind = content_type(head)
    boundary = _BOUNDARY.search(first(head, "Content-Type"))
    if kind.startswith("multipart/") and boundary:
        yield Part(kind, head, "", returned)
        if depth:
            for section in _sections(body, (boundary[1] or boundary[2] or "").encode("utf-8", "replace")):
                yield from parts(section, depth - 1, returned)
        return
    content = _decoded(body, first(head, "Content-Transfer-Encoding").lower())
    if kind in _MAILS:
        yield Part(kind, head, "", returned)
        if depth:
            yield from parts(content, depth - 1, returned=True)
    elif kind in _HEADERS:
        text = as_text(content)
        yield Part(kind, parse_fields(text), text, returned=True)
    else:
        readable = kind.startswith(("text/", "message/"))
        yield Part(kind, head, as_text(content) if readable else "", returned)


def content_type(head: Head) -> str:
    """The type in lower case, without parameters; text/plain where none is given (RFC 2045 §5.2)."""
    return first(head, "Content-Type").partition(";")[0].strip().lower() or "text/plain"


def report_type(head: Head) -> str:
    """What a multipart/report reports, in lower case (RFC 6522 §3); "" if it does not say."""
    match = _REPORT_TYPE.search(first(head, "Content-Type"))
    return (match[1] or match[2] or "").lower() if match else ""


def as_text(raw: bytes) -> str:
    """The octets as UTF-8, or as latin-1 where they are none, with bare line feeds: all that servers say is in ASCII,
    whatever charset they declare, and a wrong guess spoils only names."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text.replace("\r\n", "\n")


def _sections(body: bytes, boundary: bytes) -> Iterator[bytes]:
    delimiter = re.compile(rb"^--" + re.escape(boundary) + rb"(--)?[ \t]*\r?$\n?", re.M)
    found = list(delimiter.finditer(body))
    ends = [*(match.start() for match in found[1:]), len(body)]
    for match, end in zip(found, ends, strict=False):
        if match[1]:
            return
        yield body[match.end() : end]


def _decoded(body: bytes, encoding: str) -> bytes:
    if encoding == "quoted-printable":
        return quopri.decodestring(body)
    if encoding == "base64":
        return from_base64(body)
    return body
