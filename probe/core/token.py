"""The token: what makes a mail ours. Minted into every test mail, verified on every mail that comes.

Rule: nothing about a mail is believed, counted or removed before verify() returned a Token.

    mp1.<id>.<route>.<due>.<sent>.<mac>
        id     16 hex digits, 64 random bits
        route  the route's name
        due, sent   Unix time in microseconds, hexadecimal
        mac    HMAC-SHA256 of all that precedes it, the leftmost 128 bits (RFC 2104 §5) in URL-safe base64

The alphabet survives quoted-printable, RFC 2047, HTML and lower-quality gateways; 128 bits keep it short enough for a
subject. A mail's own clock fields can be wrong, the token's cannot: they are what we wrote.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterator
from typing import NamedTuple

ROUTE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_SHAPE = re.compile(
    rf"\bmp1\.([0-9a-f]{{16}})\.({ROUTE_NAME.pattern})"
    r"\.([0-9a-f]{1,16})\.([0-9a-f]{1,16})\.([A-Za-z0-9_-]{22})(?![A-Za-z0-9_-])"
)


class Token(NamedTuple):
    """What a verified token says. `due` and `sent` are Unix time in seconds, exact to the microsecond."""

    probe: str
    route: str
    due: float
    sent: float


def mint(key: bytes, token: Token) -> str:
    """The text that stands in the mail."""
    signed = f"mp1.{token.probe}.{token.route}.{round(token.due * 1e6):x}.{round(token.sent * 1e6):x}"
    return f"{signed}.{_mac(key, signed)}"


def candidates(text: str) -> Iterator[str]:
    """Every substring that is shaped like a token, in order; none of them is verified."""
    return (match[0] for match in _SHAPE.finditer(text))


def verify(key: bytes, text: str) -> Token | None:
    """The token, if this text is one and this key signed it; else None. Constant-time comparison."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        return None
    signed, _, mac = text.rpartition(".")
    if not hmac.compare_digest(mac.encode(), _mac(key, signed).encode()):
        return None
    return Token(match[1], match[2], int(match[3], 16) / 1e6, int(match[4], 16) / 1e6)


def _mac(key: bytes, signed: str) -> str:
    digest = hmac.digest(key, signed.encode(), hashlib.sha256)[:16]
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
