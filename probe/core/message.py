"""The test mail: how it is written, and how it is known again.

Rule: the mail is honest (RFC 5322 well-formed, Auto-Submitted as RFC 3834 §5 asks, a body that says what it is), and
carries its token three times, because providers rewrite Message-ID, drop unknown headers and wrap bodies.

Knowing it again has two levels. `Recognised` says that the mail is a copy of our probe and not somebody's reply to it,
a forward of it or a bounce. `removable` says more: it is so surely ours that it may be deleted.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime, getaddresses
from typing import Literal, NamedTuple

from probe.core.headers import Head, parse_head, values
from probe.core.mime import parts
from probe.core.token import Token, candidates, mint, verify

HEADER = "X-Mailprobe-Token"
SUBJECT = "mailprobe test mail "

_LIMIT = 256 * 1024  # octets that are looked at; servers take headers of 100 KiB or so, IMAP carries any
_LONGEST_FROM = 2000  # octets: the standard library's parser takes 3 s for a MiB

_BODY = """\
This is an automatic test mail. Nobody needs to read it or answer it.

It was sent by mailprobe to measure how long the mail providers between
{sender}
and
{recipient}
hold a mail. The program on the other side removes it as soon as it is seen.
{contact}
Route:  {route}
Due:    {due}
Sent:   {sent}

{token}
"""


class Mail(NamedTuple):
    """What compose() needs to know; times come with the token."""

    sender: str
    recipient: str
    contact: str = ""


def compose(key: bytes, token: Token, mail: Mail) -> bytes:
    """The whole mail with CRLF line ends, no line longer than 998 octets and none that begins with a dot.

    No Return-Path or Received: those are the providers' to write.
    """
    text = mint(key, token)
    sent = datetime.fromtimestamp(token.sent, UTC)
    domain = mail.sender.rpartition("@")[2]
    head = {
        "Date": format_datetime(sent),
        "Message-ID": message_id(token, domain),
        "From": mail.sender,
        "To": mail.recipient,
        "Subject": SUBJECT + text,
        HEADER: text,
        "Auto-Submitted": "auto-generated",
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=us-ascii",
        "Content-Transfer-Encoding": "7bit",
    }
    body = _BODY.format(
        sender=mail.sender,
        recipient=mail.recipient,
        contact=f"Questions: {mail.contact[:200]}\n"
        if mail.contact
        else "Questions: the address this mail came from.\n",
        route=token.route,
        due=datetime.fromtimestamp(token.due, UTC).isoformat(timespec="milliseconds"),
        sent=sent.isoformat(timespec="milliseconds"),
        token=text,
    )
    lines = [*(f"{name}: {value}" for name, value in head.items()), "", *body.splitlines()]
    return "\r\n".join([*lines, ""]).encode("ascii", "replace")


def message_id(token: Token, domain: str) -> str:
    """The Message-ID with angle brackets (RFC 5322 §3.6.4)."""
    return f"<{token.probe}.mailprobe@{domain}>"


class Recognised(NamedTuple):
    """A copy of our probe. `where` is the first place in which its token stood."""

    token: Token
    where: Literal["header", "subject", "body"]
    removable: bool


class Refused(NamedTuple):
    """A mail that carries something like our token and is no delivery of a probe."""

    reason: Literal["forged", "reply", "foreign_sender"]


def recognise(key: bytes, raw: bytes, senders: frozenset[str]) -> Recognised | Refused | None:
    """What this mail (a header block, or header and body) is to us; None: nothing of ours is in it.

    `senders` are the addresses, in lower case, that our routes send from. Never raises, whatever the bytes.

    A reply or forward quotes the token in its subject or body, but not in the header field: mail programs do not copy
    unknown fields. So the field proves a copy of our mail, and it may be removed if it also comes from one of our
    senders and answers no other mail. Without the field, both are needed to be recognised, and to be removed the
    subject must be to the letter the one that we wrote.
    """
    raw = raw[:_LIMIT]
    head = parse_head(raw)
    places: tuple[tuple[Literal["header", "subject", "body"], Iterator[str]], ...] = (
        ("header", values(head, HEADER)),
        ("subject", values(head, "Subject")),
        ("body", _body(raw)),
    )
    forged = False
    for where, texts in places:
        for candidate in (candidate for text in texts for candidate in candidates(text)):
            token = verify(key, candidate)
            if token is None:
                forged = True
                continue
            answer, own = _answers_another(head), _is_from(head, senders)
            if where == "header" and not _is_automatic(head):
                return Recognised(token, where, removable=own and not answer)
            if answer or not own:
                return Refused("reply" if answer else "foreign_sender")
            wrote = _squeezed(SUBJECT + candidate)
            ours = any(_squeezed(subject) == wrote for subject in values(head, "Subject"))
            return Recognised(token, where, removable=ours)
    return Refused("forged") if forged else None


def worth_reading(head: bytes, senders: frozenset[str]) -> bool:
    """Whether a mail whose header holds no token may still hold one in its body: only mail from our own senders is
    opened, so that nobody's letters are read."""
    return _is_from(parse_head(head[:_LIMIT]), senders)


def _answers_another(head: Head) -> bool:
    if any(value.strip() for name in ("in-reply-to", "references") for value in head.get(name, ())):
        return True
    return _is_automatic(head)


def _is_automatic(head: Head) -> bool:
    """Whether it is an automatic reply (RFC 3834) or a report (RFC 6522): nobody's delivery, whatever it quotes."""
    auto = next(iter(head.get("auto-submitted", ())), "").strip().lower()
    kind = next(iter(head.get("content-type", ())), "").strip().lower()
    return auto.startswith("auto-replied") or kind.startswith("multipart/report")


def _is_from(head: Head, senders: frozenset[str]) -> bool:
    """Whether the mail has exactly one author, one of `senders`. RFC 2047 words are left as they are: they may stand
    only in display names, and decoded they could pose as the address."""
    values = head.get("from", [])
    if len(values) == 1 and values[0].strip().lower() in senders:
        return True
    if sum(map(len, values)) > _LONGEST_FROM:
        return False
    try:
        authors = getaddresses([value.replace("\n", "") for value in values])
    except RecursionError:  # hundreds of nested comments
        return False
    return len(authors) == 1 and authors[0][1].lower() in senders


def _body(raw: bytes) -> Iterator[str]:
    """The mail's own text parts, decoded; attached mails and quoted lines are left out."""
    for part in parts(raw):
        if part.kind.startswith("text/") and not part.returned:
            yield "\n".join(line for line in part.text.splitlines() if not line.lstrip().startswith(">"))


def _squeezed(text: str) -> str:
    return "".join(text.split())
