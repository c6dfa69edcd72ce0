"""What the provider writes: its trace in the mails that pass, and notices to their senders."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import NamedTuple


class Verdict(NamedTuple):
    """What a notice says of a mail: the fields of RFC 3464 §2.3, and a sentence for people."""

    action: str
    status: str
    said: str  # by the storage host
    sentence: str


BOUNCED = Verdict("failed", "5.2.2", "552 5.2.2 mailbox is full", "It was refused, and will not be tried again.")
DELAYED = Verdict("delayed", "4.4.1", "421 4.4.1 storage host does not answer", "It will be tried again for days.")

_NOTICE = """\
Return-Path: <>\r
From: MAILER-DAEMON@{relay} (Mail Delivery System)\r
To: {sender}\r
Subject: {subject}\r
Date: {date}\r
Message-ID: <{queue_id}.{action}@{relay}>\r
Auto-Submitted: auto-replied\r
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=delivery-status; boundary="{queue_id}/{relay}"\r
\r
--{queue_id}/{relay}\r
Content-Type: text/plain; charset=us-ascii\r
\r
Your mail to {recipient} is not delivered. {sentence}\r
\r
    {store} said: {said}\r
\r
--{queue_id}/{relay}\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; {relay}\r
Arrival-Date: {arrived}\r
\r
Final-Recipient: rfc822; {recipient}\r
Action: {action}\r
Status: {status}\r
Remote-MTA: dns; {store}\r
Diagnostic-Code: smtp; {said}\r
\r
--{queue_id}/{relay}\r
Content-Type: text/rfc822-headers\r
\r
{head}\r
--{queue_id}/{relay}--\r
"""


def date(wall: float) -> str:
    """As it stands in mails (RFC 5322 §3.3)."""
    return format_datetime(datetime.fromtimestamp(wall, UTC))


def received(source: str, host: str, protocol: str, queue_id: str, address: str, wall: float) -> bytes:
    """The trace of one hop (RFC 5321 §4.4); the protocols' names are RFC 3848's."""
    way = f"Received: from {source}\r\n\tby {host} with {protocol} id {queue_id}\r\n\tfor <{address}>; "
    return f"{way}{date(wall)}\r\n".encode()


def notice(verdict: Verdict, wall: float, content: bytes, **mail: str) -> bytes:
    """A delivery status notification (RFC 3464) that returns the mail's header. `mail`: queue_id, sender, recipient,
    arrived (a date), relay, store."""
    subject = "Undelivered Mail Returned to Sender" if verdict is BOUNCED else "Delayed Mail (still being retried)"
    head = content.partition(b"\r\n\r\n")[0].decode("ascii", "replace")
    return _NOTICE.format(subject=subject, date=date(wall), head=head, **verdict._asdict(), **mail).encode()
