"""What a client takes, and what it has, by the header fields of its request (RFC 9110 §12.5, §13.1.2)."""

from __future__ import annotations

import re

_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))")


def takes_gzip(accept_encoding: str) -> bool:
    """Whether an answer may be packed; it is not where the client says nothing."""
    return bool(_GZIP.search(accept_encoding))


def has(if_none_match: str, tag: str) -> bool:
    """Whether the client has what this tag is of. Compared weakly, as is right where nothing is changed."""
    return if_none_match.strip() == "*" or tag in (it.strip().removeprefix("W/") for it in if_none_match.split(","))


def tagged(tag: str, packed: bool) -> str:
    """The entity tag: what is packed is another representation, and has another one."""
    return f'"{tag}-gzip"' if packed else f'"{tag}"'
