"""The token: what makes a mail ours. Minted into every test mail, verified on every mail that comes.

Rule: nothing about a mail is believed, counted or removed before verify() returned a Token.

    mp1.<id>.<route>.<due>.<sent>.<mac>
        id     16 hex digits, 64 random bits
        route  the route's name
        due, sent   Unix time in microseconds, hexadecimal
        mac    HMAC-SHA256 of all that precedes it, the leftmost 128 bits (RFC 2104 §5) in URL-safe base64

    mp1.<id>.<mac>   the envelope id (RFC 3461 §4.4), which a bounce may name where it does not return the mail

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
_ENVELOPE = "envid:"  # no token begins so: a MAC of the one kind never passes for one of the other
_ENVELOPE_ID = re.compile(r"mp1\.([0-9a-f]{16})\.[A-Za-z0-9_-]{22}")


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


def without_tokens(text: str) -> str:
    """The text with a space for each word that is shaped like a token: a route's name or a MAC may look like any."""
    return _SHAPE.sub(" ", text)  # a space: what stood around one must not become the next


def verify(key: bytes, text: str) -> Token | None:
    """The token, if this text is one and this key signed it; else None. Constant-time comparison."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        return None
    signed, _, mac = text.rpartition(".")
    if not hmac.compare_digest(mac.encode(), _mac(key, signed).encode()):
        return None
    return Token(match[1], match[2], int(match[3], 16) / 1e6, int(match[4], 16) / 1e6)


def mint_envelope_id(key: bytes, probe: str) -> str:
    """The probe's id for SMTP's ENVID (RFC 3461 §4.4): 43 characters of the 100 allowed, and xtext leaves all of them
    as they are. It stands in no mail, so whoever can say it was told by a server that carried the mail."""
    text = f"mp1.{probe}"
    return f"{text}.{_mac(key, _ENVELOPE + text)}"


def verify_envelope_id(key: bytes, text: str) -> str | None:
    """The probe's id, if this text is an envelope id that this key signed; else None. Constant-time comparison."""
    match = _ENVELOPE_ID.fullmatch(text)
    if match is None:
        return None
    signed, _, mac = text.rpartition(".")
    return match[1] if hmac.compare_digest(mac.encode(), _mac(key, _ENVELOPE + signed).encode()) else None


def _mac(key: bytes, signed: str) -> str:
    digest = hmac.digest(key, signed.encode(), hashlib.sha256)[:16]
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
