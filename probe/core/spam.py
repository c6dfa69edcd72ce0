"""What filters write of a mail into its header, in one form.

Rule: a header that is not in the table says nothing, and neither does a value of a form that is not known here.

A filter's score is in its own units (SpamAssassin's 5 is not Microsoft's): compare it only with the same header's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import NamedTuple

_LONGEST = 2048  # characters of a value that are looked at


class Spam(NamedTuple):
    """One filter's verdict. `flagged`: it took the mail for spam; None: it does not say."""

    flagged: bool | None
    score: float | None
    header: str


_Reader = Callable[[str], tuple[bool | None, float | None]]

_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_FIRST_WORD = re.compile(r"[\s\"]*([a-z][a-z ]*[a-z])", re.I)
_LEADING = re.compile(rf"\s*({_NUMBER})")
_YES = {"yes", "true", "spam", "reject", "add header", "rewrite subject", "junk", "virus", "phishing", "malware"}
_NO = {"no", "false", "ham", "notspam", "not spam", "ok", "no action", "clean", "innocent", "whitelisted", "notjunk"}
_NOT_SPAM = {"NSPM", "SKA", "SKN", "SKI", "SKQ", "SFE"}  # Forefront's SFV: filtered and clean, or not filtered
_SPAM_VERDICTS = {"SPM", "SKS", "SKB"}


def _said(word: str) -> bool | None:
    word = word.lower()
    return True if word in _YES else False if word in _NO else None


def _number(text: str | None) -> float | None:
    number = float(text) if text else math.nan
    return number if math.isfinite(number) else None


def _word(value: str) -> tuple[bool | None, float | None]:
    """ "Yes, score=7.1 required=5.0", "default: False [-1.3 / 15.0]", "not spam, SpamAssassin (score=…" """
    value = re.sub(r"\A\s*default:\s*", "", value)
    first = _FIRST_WORD.match(value)
    score = re.search(rf"(?:score|hits|spamicity)=\s*({_NUMBER})|\[({_NUMBER}) /", value, re.I)
    return _said(first[1]) if first else None, _number(score[1] or score[2]) if score else None


def _score(value: str) -> tuple[bool | None, float | None]:
    leading = _LEADING.match(value)
    return None, _number(leading[1]) if leading else None


def _bar(value: str) -> tuple[bool | None, float | None]:
    """One character a point: "****", "+++", "--", "/" for nothing."""
    bar = value.strip()
    if len(set(bar)) > 1 or (bar and bar[0] not in "*+-/sx"):
        return None, None
    return None, 0.0 if bar[:1] == "/" else float(-len(bar) if bar[:1] == "-" else len(bar))


def _at_least(spam: float) -> _Reader:
    def read(value: str) -> tuple[bool | None, float | None]:
        score = _score(value)[1]
        return None if score is None else score >= spam, score

    return read


def _gmx(value: str) -> tuple[bool | None, float | None]:
    """0 is no spam, a number above says by which rule it is, one below that it was not looked at."""
    score = _score(value)[1]
    return None if score is None or score < 0 else score > 0, score


def _named(value: str) -> dict[str, str]:
    """ "CIP:192.0.2.1;SCL:1;SFV:NSPM;" """
    return {name.strip().upper(): text.strip() for name, _, text in (item.partition(":") for item in value.split(";"))}


def _forefront(value: str) -> tuple[bool | None, float | None]:
    named = _named(value)
    verdict = named.get("SFV", "")
    flagged = True if verdict in _SPAM_VERDICTS else False if verdict in _NOT_SPAM else None
    scored, score = _at_least(5)(named.get("SCL", ""))
    return scored if flagged is None else flagged, score


def _destination(value: str) -> tuple[bool | None, float | None]:
    return {"J": True, "I": False}.get(_named(value).get("DEST", "")), None


def _bulk(value: str) -> tuple[bool | None, float | None]:
    return _score(_named(value).get("BCL", ""))


def _proofpoint(value: str) -> tuple[bool | None, float | None]:
    rule = re.search(r"\brule=(?:\w+_)?([a-z]+)\b", value, re.I)
    score = re.search(rf"\bscore=({_NUMBER})", value)
    return _said(rule[1]) if rule else None, _number(score[1]) if score else None


_READERS: dict[str, _Reader] = {
    "x-spam-flag": _word,  # SpamAssassin, amavis, rspamd and many after them
    "x-spam-status": _word,
    "x-spam-score": _score,
    "x-spam-level": _bar,
    "x-spam-bar": _bar,  # Exim, cPanel
    "x-spam": _word,  # rspamd
    "x-spam-action": _word,
    "x-rspamd-action": _word,
    "x-rspamd-score": _score,
    "x-spamd-result": _word,
    "x-spamd-bar": _bar,
    "x-ms-exchange-organization-scl": _at_least(5),
    "x-forefront-antispam-report": _forefront,
    "x-microsoft-antispam": _bulk,
    "x-microsoft-antispam-mailbox-delivery": _destination,
    "x-gmx-antispam": _gmx,  # and web.de
    "ui-inboundreport": _word,
    "x-ui-filterresults": _word,
    "x-proofpoint-spam-details": _proofpoint,
    "x-barracuda-spam-flag": _word,
    "x-barracuda-spam-status": _word,
    "x-barracuda-spam-score": _score,
    "x-mimecast-spam-score": _score,
    "x-ironport-anti-spam-filtered": lambda value: (None, None),  # that it was looked at; what was found is encrypted
    "x-mailscanner-spamcheck": _word,
    "x-yandex-spam": _at_least(4),
    "x-mras": _word,  # mail.ru
    "x-icl-score": _score,  # iCloud
    "x-me-vsscore": _score,  # Fastmail
    "x-pm-spamscore": _score,  # Proton
    "x-cmae-score": _score,  # Cloudmark
    "x-vr-spamstate": _word,  # Vade, at OVH
    "x-vr-spamscore": _score,
    "x-dspam-result": _word,
    "x-bogosity": _word,
}


# Who writes these at the header's end, below all that the sender wrote, so that the last is theirs.
AT_THE_END = {name: {"gmx.net", "web.de"} for name in ("x-gmx-antispam", "ui-inboundreport")}


def read_spam(name: str, value: str) -> Spam | None:
    """The verdict in a field of this name (in lower case); None if it is no filter's."""
    reader = _READERS.get(name)
    return Spam(*reader(value[:_LONGEST]), name) if reader else None
