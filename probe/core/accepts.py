"""What a client takes, by the header fields of its request (RFC 9110 §12.5)."""

from __future__ import annotations

import re

_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))")


def takes_gzip(accept_encoding: str) -> bool:
    """Whether an answer may be packed; it is not where the client says nothing."""
    return bool(_GZIP.search(accept_encoding))
