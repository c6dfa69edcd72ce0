"""What SMTP servers say, made fit for logs, labels and JSON.

Rule: a server's words are foreign bytes: one line, printable, bounded, without lone surrogates (one of these in a label
makes every scrape fail).
"""

from __future__ import annotations

import re

from probe.core.events import Reply

_QUEUE_ID = (
    re.compile(r"queued as <?([\w.@-]+)", re.I),  # Postfix, OpenSMTPD, qmail-likes
    re.compile(r"\bid=([\w.-]+)", re.I),  # Exim, GMX, 1&1
    re.compile(r"InternalId=(\d+)"),  # Exchange
    re.compile(r"\bOK\s+\d+ ([\w.-]+) - gsmtp", re.I),  # Gmail
    re.compile(r"^(?:2\.\d\.\d )?(?:Ok:? )?([\w.-]{8,}) (?:Message accepted|mail accepted)", re.I),
)


def parse_reply(code: int, text: str) -> Reply:
    """A reply with its enhanced status (RFC 3463), if its text begins with one."""
    text = one_line(text)
    status = re.match(r"([245]\.\d{1,3}\.\d{1,3})\b", text)
    return Reply(code, status[1] if status else "", text)


def one_line(text: str) -> str:
    """Printable text on one line, at most 500 characters."""
    text = text.encode("utf-8", "replace").decode()
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:500]


def queue_id(text: str) -> str:
    """The server's name for the mail in its final reply; "" where no known form is found (there is no standard)."""
    found = (pattern.search(text) for pattern in _QUEUE_ID)
    return next((match[1].rstrip(".") for match in found if match), "")
