"""The servers' own instants of every mail, from their logs.

Start: the moment Postfix answers for the mail. The queue id has the instant at which the queue file was opened, to the
microsecond; `delays=a/b/c/d` has in `a` how long until the queue manager took the mail, which is about when smtpd says
250. Of a mail that was held, `a` contains the holding: the usual `a` stands in.
End: Dovecot's save event, to the microsecond.

Start is some 1 ms late: `a` counts from MAIL FROM, which was before the queue file, it ends when the queue manager has
read the mail, and it has two significant digits. Both clocks are this machine's wall clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..bed.mailbed import MailBed
from ..bed.postfix import arrival_time

_SENT = re.compile(r": (\w+): to=<(.*?)>, .*delays=([\d.]+)/\S+ .*status=(\w+)")


@dataclass(frozen=True, slots=True)
class Mail:
    """Unix times in seconds; `taking`: seconds from `queued` to the answer, or with the holding."""

    message_id: str
    to: str
    queued: float
    taking: float
    saved: float

    @property
    def latency(self) -> float:
        """From Postfix's answer to Dovecot's save, of a mail that was not held."""
        return self.saved - self.queued - self.taking


def prepare(bed: MailBed, held: Path | None = None) -> None:
    """Delays to the microsecond instead of to 10 ms; mail to a user whose name begins with "held" is put on hold."""
    restrictions = ""
    if held:
        held.write_text("/^held/ HOLD\n")
        restrictions = f"check_recipient_access regexp:{held}"
    bed.postfix.set(delay_logging_resolution_limit="6", smtpd_recipient_restrictions=restrictions)


def mails(bed: MailBed) -> dict[str, Mail]:
    """{message id with its angle brackets: its instants} of all mails that were saved."""
    attempts: dict[str, list[re.Match[str]]] = {}
    for line in (bed.postfix.root / "log").read_text(errors="replace").splitlines():
        if found := _SENT.search(line):
            attempts.setdefault(found[1], []).append(found)
    saved = {event.message_id: event.at for event in bed.dovecot.events("save")}
    known = {}
    for message_id, queue_id in bed.postfix.queue_ids().items():
        if message_id in saved and (tries := attempts.get(queue_id)):
            known[message_id] = Mail(
                message_id, tries[-1][2], arrival_time(queue_id), float(tries[0][3]), saved[message_id]
            )
    return known


def saves(bed: MailBed, users: Iterable[str], begin: float, end: float) -> int:
    """How many mails of these users were saved between these Unix times."""
    wanted = set(users)
    return sum(begin <= event.at < end and event.user in wanted for event in bed.dovecot.events("save"))
