"""Single values of the configuration. Rule: each check raises ValueError with "what is wrong; the mend"."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

# In the order in which they may be written.
_UNITS = {unit: Fraction(s) for unit, s in {"d": "86400", "h": "3600", "m": "60", "s": "1", "ms": "1/1000"}.items()}
_DURATION = re.compile("".join(rf"(?:(?P<{unit}>[0-9]{{1,9}}(?:\.[0-9]{{1,9}})?){unit}(?![a-z]))?" for unit in _UNITS))
_TEN_YEARS = 3650 * 86400


def parse_duration(text: str) -> float:
    """Seconds meant by "5d", "1h30m", "30s" or "500ms": more than 0, at most ten years. Raises ValueError."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        raise ValueError(f"{text} has no unit; write {text}s")
    found = _DURATION.fullmatch(text)
    if not found or not text:
        raise ValueError(f"{json.dumps(text)} is no duration; write it like 30s, 5m or 1h30m")
    seconds = float(sum(Fraction(count) * _UNITS[unit] for unit, count in found.groupdict().items() if count))
    if not 0 < seconds <= _TEN_YEARS:
        raise ValueError(f"{text} is not between 0 and ten years; write it like 30s, 5m or 1h30m")
    return seconds


def _duration(value: object) -> float:
    return parse_duration(str(value) if isinstance(value, str | int | float) else "")


def ask_floor(seconds: float) -> float:
    if seconds < 0.01:
        raise ValueError("would ask the provider too often; write 10ms or more")
    return seconds


def parse_size(value: object) -> int:
    """Octets meant by "500MB" or "4GB" (powers of 1000): at least 10 MB, at most 100 TB. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,6})(MB|GB|TB)", str(value))
    octets = int(found[1]) * {"MB": 10**6, "GB": 10**9, "TB": 10**12}[found[2]] if found else 0
    if not 10**7 <= octets <= 10**14:
        raise ValueError(f"{json.dumps(value)} is no size between 10MB and 100TB; write it like 500MB or 4GB")
    return octets


def listen_address(value: object) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})", str(value))
    if not found or int(found[3]) > 65535:
        raise ValueError('is no address to listen on; write "127.0.0.1:10925" or "[::1]:10925"')
    return found[1] or found[2], int(found[3])


def like(*checks: tuple[str, str]) -> AfterValidator:
    """Text that matches every (pattern, problem); the first that does not match is the mistake."""

    def check(text: str) -> str:
        for pattern, problem in checks:
            if not re.fullmatch(pattern, text, re.DOTALL):
                raise ValueError(problem)
        return text

    return AfterValidator(check)


_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PROBE = "; write it like probe@example.org"

Duration = Annotated[float, BeforeValidator(_duration)]
Size = Annotated[int, BeforeValidator(parse_size)]
Name = Annotated[
    str, like((r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", "is no name; use up to 63 of A-Z a-z 0-9 - _, the first no - or _"))
]
Line = Annotated[
    str, like((r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]*", "contains a control character; remove it"))
]
Text = Annotated[Line, like((r".+", "is empty; write it or remove the key"))]
Host = Annotated[
    str,
    like(
        (r"[\x00-\x7f]*", "is not ASCII; write it as xn--…"),
        (r"[A-Za-z0-9._:-]+", "is no host; write a host name or an IP address, the port apart"),
    ),
]
# RFC 6749 §3.2: no fragment; the refresh token goes there, so never without TLS.
Url = Annotated[
    str,
    like(
        (r"https://.*", "is no https:// URL; write it as the provider documents it"),
        (
            rf"https://{_LABEL}(?:\.{_LABEL})*(?::[0-9]{{1,5}})?(?:/[!-\"$-~]*)?",
            "is no plain URL; write https://, a host and a path",
        ),
    ),
]
# A mailbox as every SMTP server takes it unquoted (RFC 5321 §4.1.2). aiosmtplib silently cuts an address at CR or LF:
# without these checks a slip would mail to somebody else.
Address = Annotated[
    str,
    like(
        (r"[^\s\x00-\x1f\x7f-\x9f]*", "contains a space or control character" + _PROBE),
        (r".*@.*", "has no @" + _PROBE),
        (r"[^@]*@[^@]*", "has two @" + _PROBE),
        (r"[^@].*", "has nothing before the @" + _PROBE),
        (r".*[^@]", "has nothing after the @" + _PROBE),
        (r"[\x00-\x7f]*@.*", "needs SMTPUTF8, which mailprobe does not use; write an address of ASCII letters"),
        (r"[\x00-\x7f]*", "has a domain that is not ASCII; write it as xn--…"),
        (rf"(?=.{{1,64}}@){_ATOM}(?:\.{_ATOM})*@.*", "has a local part that not every server takes" + _PROBE),
        (rf".*@(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*", "has a domain that is no host name" + _PROBE),
    ),
]
