"""What the servers say became of every mail of ours, from their logs.

Rule: a line may be missing (a server was killed while it wrote), never wrong. So a mail that Dovecot saved counts as
delivered, whether or not Postfix could still log that it was.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..bed.dovecot import MailEvent
from ..bed.mailbed import MailBed
from ..bed.postfix import arrival_time

OURS = re.compile(r"<([0-9a-f]{16})\.mailprobe@bed\.test>")
_MESSAGE_ID = re.compile(r"/cleanup\[\d+\]: (\w+): message-id=(\S+)")
_QUEUED = re.compile(r"/qmgr\[\d+\]: (\w+): from=<.*>, size=\d+, nrcpt=\d+ \(queue active\)")
_ATTEMPT = re.compile(r"/lmtp\[\d+\]: (\w+): to=<.*>, .*status=(\w+)")


@dataclass(slots=True)
class Fate:
    """One probe's mail. queue_ids: every queue file that was opened for it, also for a mail that broke off."""

    queue_ids: list[str] = field(default_factory=list)
    accepted: bool = False  # a queue file was completed
    statuses: Counter[str] = field(default_factory=Counter)  # of the deliveries tried: sent, deferred, bounced
    saves: list[MailEvent] = field(default_factory=list)

    @property
    def delivered(self) -> bool:
        """Whether it lay in a mailbox."""
        return bool(self.saves or self.statuses["sent"])

    @property
    def queued(self) -> float | None:
        """When its queue file was opened, Unix time in seconds: some ms before the 250."""
        return arrival_time(self.queue_ids[0]) if self.queue_ids else None


def fates(bed: MailBed) -> dict[str, Fate]:
    """{probe id: what became of its mail} of every one that reached Postfix."""
    found: dict[str, Fate] = {}
    by_queue_id: dict[str, Fate] = {}
    log = _log(bed.postfix.root)
    for line in log:
        if (opened := _MESSAGE_ID.search(line)) and (ours := OURS.fullmatch(opened[2])):
            fate = found.setdefault(ours[1], Fate())
            fate.queue_ids.append(opened[1])
            by_queue_id[opened[1]] = fate
    for line in log:
        if (queued := _QUEUED.search(line)) and queued[1] in by_queue_id:
            by_queue_id[queued[1]].accepted = True
        elif (attempt := _ATTEMPT.search(line)) and attempt[1] in by_queue_id:
            by_queue_id[attempt[1]].accepted = True
            by_queue_id[attempt[1]].statuses[attempt[2]] += 1
    for event in bed.dovecot.events("save"):
        if ours := OURS.fullmatch(event.message_id):
            found.setdefault(ours[1], Fate()).saves.append(event)
    return found


def known_queue_ids(bed: MailBed) -> set[str]:
    """Every queue id that Postfix's log has, in whatever line."""
    return {found[1] for line in _log(bed.postfix.root) if (found := re.search(r"\]: (\w{12,}): ", line))}


def _log(root: Path) -> list[str]:
    return (root / "log").read_text(errors="replace").splitlines()
