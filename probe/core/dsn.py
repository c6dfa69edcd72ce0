"""Bounces: what a mail system says has become of a probe (RFC 3464, and the systems that never heard of it).

Rule: a notice is about one of our probes only if it carries an envelope id or a token that verifies, and only a mail
system's own mail is a notice: no letter, no reply or forward that quotes our mail, no automatic reply, no receipt.

The envelope id is the better evidence, for it stands in no mail; whoever was sent a probe could write a bounce that
returns its token. Nothing here is removed or measured by: it is evidence, and each word of it is somebody else's.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from probe.core import wording
from probe.core.headers import Head, first, parse_fields, parse_head, values
from probe.core.message import HEADER
from probe.core.mime import Part, content_type, parts, report_type
from probe.core.reply import one_line
from probe.core.token import candidates, verify, verify_envelope_id, without_tokens
from probe.core.wording import Action

Matched = Literal["envid", "returned", "text"]

LIMIT: Final = 128 * 1024  # octets that are looked at; what a bounce says of itself stands at its beginning

_STATUS_PARTS = {"message/delivery-status", "message/global-delivery-status"}  # RFC 3464, RFC 6533
_OTHER_REPORTS = {"disposition-notification", "feedback-report", "global-disposition-notification"}  # RFC 8098, 5965
_RANK: dict[Action, int] = {"failed": 0, "delayed": 1, "relayed": 2, "expanded": 2, "delivered": 2}
_BY_CLASS: dict[str, Action] = {"5": "failed", "4": "delayed", "2": "delivered"}  # RFC 3463 §2

_DAEMON = re.compile(r"(?:mail(?:er)?[-_.]?daemon|mdaemon|microsoftexchange[0-9a-f]{32})(?:[@\s]|\Z)", re.I)
_POSTMASTER = re.compile(r"postmaster(?:@|\Z)", re.I)
_DAEMON_NAME = re.compile(r"\W*mail delivery (?:subsystem|system|service)\b", re.I)
_ANSWER = re.compile(r"(?:re|aw|antw|sv|vs|r|ref|odp|fwd?|wg|tr|rv|i|enc|doorst)(?:\[\d+\])?\s?:", re.I)
_AUTOMATIC_REPLY = re.compile(
    r"auto(?:matic|matisch|mated)?[a-z]*[ -]?(?:reply|response|antwort|antwoord)|out of (?:the )?office|vacation"
    r"|abwesen|réponse automatique|respuesta automática|risposta automatica|resposta automática|autosvar",
    re.I,
)
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_TYPE = re.compile(r"\A\s*[a-z][\w.-]*\s*;", re.I)  # "smtp;", "dns;", "rfc822;": RFC 3464 §2.1.2


class Notice(NamedTuple):
    """A delivery status notification about a probe. All texts are on one line, printable, at most 500 characters."""

    probe: str
    action: Action
    status: str  # enhanced status code (RFC 3463) like "5.1.1", or ""
    diagnostic: str
    reporting_mta: str
    remote_mta: str
    recipient: str
    matched: Matched  # by the envelope id, by the token in the returned mail, by the token elsewhere in the text


def looks_like_notice(head: bytes) -> bool:
    """Whether a mail with this header block is worth opening; false for people's mail, which is nobody's to read.

    An absent Return-Path says nothing, an empty one (RFC 5321 §4.5.5) that no person sent the mail.
    """
    fields = parse_head(head[:LIMIT])
    if first(fields, HEADER):
        return False
    if content_type(fields) == "multipart/report":
        return report_type(fields) not in _OTHER_REPORTS
    if first(fields, "X-Failed-Recipients"):
        return True
    if _answers(fields):
        return False
    if _is_daemons(fields) or _null_path(fields):
        return True
    auto = first(fields, "Auto-Submitted").lower()
    return auto.startswith("auto-") and _says_so(first(fields, "Subject"))


def read_notice(key: bytes, raw: bytes) -> Notice | None:
    """The notice that this mail is, or None if it is none about a probe of ours. Never raises, whatever the bytes."""
    raw = raw[:LIMIT]
    if not looks_like_notice(raw):
        return None
    pieces = list(parts(raw))
    head, own = pieces[0].head, [part for part in pieces if not part.returned]
    if any(part.kind.partition("/")[2] in _OTHER_REPORTS for part in own):
        return None
    reports = [report for part in own if part.kind in _STATUS_PARTS for report in _groups(part.text)]
    explanation, copy = wording.split_copy(_explanation(own))
    if not (reports or _is_spoken_notice(head, explanation)):
        return None
    found = next(_matches(key, reports, pieces, copy), None)
    return _notice(*found, head, reports, without_tokens(explanation)) if found else None


# -- is it a notice? -----------------------------------------------------------------------------------------------


def _answers(head: Head) -> bool:
    """A reply, a forward or an automatic reply (RFC 3834), by what its sender's program wrote of it."""
    subject = first(head, "Subject")
    return bool(
        _ANSWER.match(subject)
        or _AUTOMATIC_REPLY.match(subject)
        or "vacation" in first(head, "Auto-Submitted").lower()
        or first(head, "Precedence").lower() == "auto_reply"
        or any(first(head, name) for name in ("X-Autoreply", "X-Autorespond", "X-Autoresponder", "X-Auto-Reply"))
    )


def _is_daemons(head: Head) -> bool:
    """A postmaster may be a person; that one's letters have a path back."""
    # The address as it stands: decoded, an encoded display name could pose as it.
    address = _address(head.get("from", [""])[0].replace("\n", ""))
    name = first(head, "From").partition("<")[0]
    postmasters = _POSTMASTER.match(address) and ("return-path" not in head or _null_path(head))
    return bool(_DAEMON.match(address) or _DAEMON_NAME.match(name) or postmasters)


def _null_path(head: Head) -> bool:
    if "return-path" not in head:
        return False
    path = _address(first(head, "Return-Path"))
    return not path or bool(_DAEMON.match(path))  # Sendmail and Domino write a name where nothing should stand


def _is_spoken_notice(head: Head, explanation: str) -> bool:
    """A notice without a machine-readable part. Of null paths, responders write too: the subject must say it."""
    return bool(
        (content_type(head) == "multipart/report" and report_type(head) == "delivery-status")
        or first(head, "X-Failed-Recipients")
        or _says_so(first(head, "Subject"))
        or (_is_daemons(head) and _says_so(explanation))
    )


def _says_so(text: str) -> bool:
    return bool(wording.UNDELIVERED.search(without_tokens(text)))


# -- which probe? --------------------------------------------------------------------------------------------------


def _matches(key: bytes, reports: list[Head], pieces: list[Part], copy: str) -> Iterator[tuple[str, Matched]]:
    for report in reports:
        for text in values(report, "Original-Envelope-Id"):
            if probe := verify_envelope_id(key, _from_xtext(text.strip())):
                yield probe, "envid"
    returned, own = ([part for part in pieces if part.returned is it] for it in (True, False))
    yield from ((probe, "returned") for probe in _probes(key, [*_texts(returned), copy]))
    yield from ((probe, "text") for probe in _probes(key, _texts(own)))


def _texts(pieces: list[Part]) -> Iterator[str]:
    for part in pieces:
        yield from values(part.head, HEADER)
        yield from values(part.head, "Subject")
        yield part.text


def _probes(key: bytes, texts: Iterator[str] | list[str]) -> Iterator[str]:
    tokens = (verify(key, candidate) for text in texts for candidate in candidates(text))
    return (token.probe for token in tokens if token)


def _from_xtext(text: str) -> str:
    """RFC 3461 §4. RFC 3464 §2.2.1 wants it decoded in the notice; not every server does so."""
    return re.sub(r"\+([0-9A-F]{2})", lambda match: chr(int(match[1], 16)), text)


# -- what does it say? ---------------------------------------------------------------------------------------------


def _notice(probe: str, matched: Matched, head: Head, reports: list[Head], explanation: str) -> Notice:
    spoken = wording.listen(explanation)
    subject = without_tokens(first(head, "Subject"))
    worded = wording.action(subject, explanation, spoken.status)
    groups = [report for report in reports if report.keys() & {"action", "status", "final-recipient"}]
    group = min(groups, key=lambda it: _RANK[_action(it, worded)], default={})
    diagnostic = _value(group, "Diagnostic-Code")
    sender = _address(first(head, "From"))
    return Notice(
        probe,
        _action(group, worded),
        _status(group) or spoken.status,
        diagnostic or _clean(spoken.diagnostic),
        next(filter(None, (_value(report, "Reporting-MTA") for report in reports)), "")
        or _clean(spoken.reporting_mta or sender.rpartition("@")[2]),
        _value(group, "Remote-MTA") or _clean(spoken.remote_mta),
        _clean(_address(_value(group, "Final-Recipient") or first(head, "X-Failed-Recipients").partition(",")[0]))
        or _clean(spoken.recipient),
        matched,
    )


def _action(group: Head, worded: Action) -> Action:
    """The field says it, else the status's class, else the words: "failed" with 4.4.7 is a mail that was given up."""
    written = first(group, "Action").partition("(")[0].strip().lower()
    said = next((action for action in _RANK if action == written), None)
    return said or _BY_CLASS.get(_status(group)[:1], worded)


def _status(group: Head) -> str:
    """The status; where it says no more than its class (x.0.0), the one in the remote server's words, if the same."""
    written = _STATUS.search(first(group, "Status"))
    status = written[0] if written else ""
    if status[1:] not in {"", ".0.0"}:
        return status
    said = wording.listen(first(group, "Diagnostic-Code")).status
    return said if said and said[0] == (status or said)[0] else status


def _groups(text: str) -> Iterator[Head]:
    """Per message and per recipient fields (RFC 3464 §2.1), which a blank line separates."""
    return filter(None, map(parse_fields, re.split(r"\n[ \t]*\n", text)))


def _explanation(own: list[Part]) -> str:
    plain = "\n".join(part.text for part in own if part.kind == "text/plain")
    if plain.strip():
        return plain
    source = "\n".join(part.text for part in own if part.kind == "text/html")
    text = re.sub(r"<[^<>]*>", "\n", re.split("</style>", source, flags=re.I)[-1])
    return html.unescape(text)


def _value(group: Head, name: str) -> str:
    return _clean(_TYPE.sub("", first(group, name), count=1)) if group else ""


def _address(text: str) -> str:
    match = re.search(r"<([^<>]*)>[^<>]*\Z", text)
    return (match[1] if match else text).strip()


def _clean(text: str) -> str:
    return one_line(text[:5000])
