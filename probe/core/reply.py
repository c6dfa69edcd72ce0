"""What SMTP servers say, made fit for logs, labels and JSON.

Rules:
- A server's words are foreign bytes: one line, printable, bounded, without lone surrogates (one of these in a label
  makes every scrape fail).
- A label is one of a small fixed set of words of ours, and never a word of the server's.
"""

from __future__ import annotations

import re
from typing import Literal

from probe.core.events import Deferred, Failed, Rejected, Reply, Stage, Unconfirmed

Reason = Literal[
    "greylisted",
    "message_too_big",
    "no_such_user",
    "other",
    "over_quota",
    "policy",
    "rate_limited",
    "service_unavailable",
    "spam",
    "starttls_refused",
]

_QUEUE_ID = (
    re.compile(r"queued as <?([\w.@-]+)", re.I),  # Postfix, OpenSMTPD, qmail-likes
    re.compile(r"\bid=([\w.-]+)", re.I),  # Exim, GMX, 1&1
    re.compile(r"InternalId=(\d+)"),  # Exchange
    re.compile(r"\bOK\s+\d+ ([\w.-]+) - gsmtp", re.I),  # Gmail
    re.compile(r"^(?:2\.\d\.\d )?(?:Ok:? )?([\w.-]{8,}) (?:Message accepted|mail accepted)", re.I),
)

# RFC 3463 §3.2 to §3.8, by subject.detail: those which servers use for one thing alone.
_BY_STATUS: dict[str, Reason] = {
    "1.1": "no_such_user",
    "1.2": "no_such_user",
    "1.10": "no_such_user",  # Exchange Online, and the null MX of RFC 7505
    "2.2": "over_quota",
    "2.3": "message_too_big",
    "3.4": "message_too_big",
    "7.28": "rate_limited",  # Gmail: an unusual rate of mail
}

# In this order: "sending quota exceeded" is a rate, "mailbox size limit" a quota, and "spam" stands in refusals for
# every other reason. From Postfix, Exim, Dovecot, postgrey, sqlgrey, milter-greylist, rspamd, policyd; Gmail, Exchange
# Online, Outlook.com, Yahoo, GMX and IONOS, StartMail, Amazon SES.
_BY_TEXT: tuple[tuple[Reason, re.Pattern[str]], ...] = (
    (
        "greylisted",
        re.compile(r"gr[ea]y-?list|^(?:4\.7\.1 )?try again later\.?$|is not yet authorized to deliver", re.I),
    ),
    (
        "rate_limited",
        re.compile(
            r"\brate\b.{0,20}(?:limit|exceed)|ratelimit|limit.{0,20}\brate\b|unusual rate|at a rate that|throttl"
            r"|too (?:many|much) (?:mail|messages(?! on server)|connections|concurrent|log-?in)|too (?:quickly|fast)"
            r"|(?:send|sending|submission|message|daily|relay|mail|recipients?) (?:quota|limit)\S*"
            r" (?:has been |was |is )?(?:exceed|reach)"
            r"|(?:quota|limit)\S* (?:for sending|per (?:hour|day|minute))|per (?:hour|day|minute) exceeded"
            r"|policy rejection.{0,5}quota|thread limit exceeded|tenant has exceeded threshold|submissionquota"
            r"|temporarily deferred",
            re.I,
        ),
    ),
    (
        "over_quota",
        re.compile(
            r"(?:mailbox|inbox|maildir|account|user|recipient).{0,20}\bfull\b|over ?quota|over its quota|out of storage"
            r"|(?:exceed|over)\S*.{0,20}(?:storage|quota)|quota.{0,20}exceed|(?:mailbox|maildir) size limit"
            r"|too many messages on server",
            re.I,
        ),
    ),
    (
        "message_too_big",
        re.compile(r"(?:message|mail|content)\b.{0,30}too (?:big|large)|size.{0,30}(?:limit|exceed|maximum)", re.I),
    ),
    (
        "no_such_user",
        re.compile(
            r"(?:user|recipient|mailbox|address|account)\b.{0,40}(?:unknown|not found|not exist|disabled|inactive)"
            r"|(?:unknown|no such|invalid) (?:local )?(?:user|recipient|mailbox|address|account)|unrouteable"
            r"|user doesn't have|doesn't have an? \S+ account|mailbox unavailable|5\.4\.1 recipient address rejected",
            re.I,
        ),
    ),
    (
        "spam",
        re.compile(r"\bspam\b|unsolicited|\bvirus|malware|phishing|spam points|classified as junk", re.I),
    ),
    (
        "policy",
        re.compile(
            r"polic(?:y|ies)|block(?:ed)? ?list|black ?list|blocked using|spamhaus|reputation|not owned by|relay"
            r"|access denied|not permitted|not allowed|unauthenticated|\b(?:dmarc|spf|dkim|ptr)\b|reverse (?:host|dns)",
            re.I,
        ),
    ),
    (
        "service_unavailable",
        re.compile(
            r"service (?:is )?(?:currently |temporarily )?(?:not available|unavailable)|server busy|shutting down"
            r"|(?:insufficient|resources).{0,20}(?:system|storage|space|resources|restricted)|space shortage"
            r"|temporary (?:system|local|lookup|failure|server)|queue file|local error",
            re.I,
        ),
    ),
)
_FOREIGN_WORDS = re.compile(r"<[^>]*>|\S+@\S+|https?:\S+|\[\S*\]")  # addresses and links may hold any of these words


def refusal(stage: Stage, reply: Reply) -> Reason:
    """Why a server refused, as a label: by the enhanced status where it says one thing, else by well-known texts, else
    by the status' subject (RFC 3463 §3) or the code (RFC 5321 §4.2.3)."""
    subject = reply.status.partition(".")[2]
    if stage == "tls" and (reply.code in (454, 501, 502) or "TLS" in reply.text):  # RFC 3207 §4
        return "starttls_refused"
    if subject in _BY_STATUS:
        return _BY_STATUS[subject]
    text = _FOREIGN_WORDS.sub(" ", reply.text)
    for reason, pattern in _BY_TEXT:
        passing = reason == "no_such_user" and reply.code < 500  # "mailbox unavailable": busy, by RFC 5321 §4.2.3
        if not passing and pattern.search(text):
            return reason
    if subject.startswith("7."):
        return "policy"
    if subject == "2.1":
        return "no_such_user"
    if reply.code == 552:
        return "over_quota"
    return "service_unavailable" if subject.startswith(("3.", "4.")) or reply.code in (421, 451, 452) else "other"


def trouble(event: Deferred | Rejected | Failed | Unconfirmed) -> tuple[Stage, str]:
    """Where a submission ended that was not accepted, and why: two labels."""
    match event:
        case Deferred() | Rejected():
            return event.stage, refusal(event.stage, event.reply)
        case Failed():
            return event.stage, event.reason
        case Unconfirmed():
            return "data", event.reason


def parse_reply(code: int, text: str) -> Reply:
    """A reply with its enhanced status (RFC 3463), if its text begins with one."""
    text = one_line(text)
    status = re.match(r"([245]\.\d{1,3}\.\d{1,3})\b", text)
    return Reply(code, status[1] if status else "", text)


def one_line(text: str) -> str:
    """Printable text on one line, at most 500 characters."""
    text = text.encode("utf-8", "replace").decode()
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.split())[:500]


def queue_id(text: str) -> str:
    """The server's name for the mail in its final reply; "" where no known form is found (there is no standard)."""
    found = (pattern.search(text) for pattern in _QUEUE_ID)
    return next((match[1].rstrip(".") for match in found if match), "")
