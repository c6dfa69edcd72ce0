"""Other people with the same mailboxes: their mails, some of which look like ours, and their mail programs.

Rule: what a neighbour did is known exactly: which mails, which flags. A step that broke off is done again or not
counted; it is never assumed to have failed.
"""

from __future__ import annotations

import contextlib
import hashlib
import imaplib
import random
import re
import smtplib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from probe.core.message import HEADER, SUBJECT
from probe.core.token import Token, mint

from ..bed.mailbed import MailBed, address

FOLDERS = ("INBOX", "Junk")
_TIMEOUT = 3.0  # seconds; a frozen server is thawed within two
_FLAGS = ("\\Deleted", "\\Deleted", "\\Seen", "\\Flagged")
_BROKEN = (OSError, smtplib.SMTPException, imaplib.IMAP4.error)


class Held(NamedTuple):
    """A mail as it lies in a mailbox. `digest`: of every octet, line ends as LF."""

    user: str
    folder: str
    uid: int
    message_id: str
    flags: frozenset[str]
    digest: str
    raw: bytes


@dataclass
class Neighbour:
    """Writes to these users, and has their passwords. `key` is the installation's: forgeries can be that good."""

    bed: MailBed
    users: Sequence[str]
    key: bytes
    rng: random.Random
    routes: Sequence[str]
    written: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # Message-ID → to, mail
    taken: list[str] = field(default_factory=list)  # Message-IDs for which Postfix said that it has them
    tried: int = 0
    flags: dict[str, set[str]] = field(default_factory=dict)  # Message-ID → set by us

    def write(self) -> None:
        """One mail to one of them."""
        self.tried += 1
        message_id = f"<neighbour-{self.tried}.{self.rng.randrange(10**9)}@elsewhere.test>"
        user = self.rng.choice(self.users)
        mail = self._mail(message_id, user)
        self.written[message_id] = user, mail  # before, because it may arrive though its 250 does not
        with contextlib.suppress(*_BROKEN), smtplib.SMTP("127.0.0.1", self.bed.ports["smtp"], timeout=_TIMEOUT) as smtp:
            smtp.sendmail("mother@elsewhere.test", [address(user)], mail)
            self.taken.append(message_id)

    def _mail(self, message_id: str, user: str) -> bytes:
        """A letter; or a reply to, a forward of, a forgery of a probe, which may be one that is under way."""
        probes = re.findall(r"<([0-9a-f]{16})\.mailprobe@", " ".join(list(self.bed.postfix.queue_ids())[-20:]))
        probe = self.rng.choice([*probes, f"{self.rng.randrange(16**16):016x}"])
        unknown = f"{self.rng.randrange(16**16):016x}"
        route = self.rng.choice(self.routes)
        token = mint(self.key, Token(probe, route, 1_700_000_000.0, 1_700_000_001.0))
        head, text = {"From": "mother@elsewhere.test", "Subject": "hello"}, "Call me."
        match self.rng.randrange(6):
            case 0:
                head |= {"Subject": f"Re: {SUBJECT}{token}", "In-Reply-To": f"<{probe}.mailprobe@bed.test>"}
                text = f"What is this?\r\n> {token}"
            case 1:
                head |= {"Subject": f"Fwd: {SUBJECT}{token}"}
                text = f"-- forwarded --\r\n{HEADER}: {token}\r\nSubject: {SUBJECT}{token}\r\n\r\n{token}"
            case 2:  # as ours to the letter, but for the key
                forged = mint(b"somebody else's key", Token(probe, route, 1_700_000_000.0, 1_700_000_001.0))
                head |= {"From": address(user), "Subject": SUBJECT + forged, HEADER: forged}
            case 3:  # ours to the letter, but on no record
                lost = mint(self.key, Token(unknown, route, 1_700_000_000.0, 1_700_000_001.0))
                head |= {"From": address(user), "Subject": SUBJECT + lost, HEADER: lost}
            case 4:
                head |= {"From": address(user), "Subject": "automatic reply: " + SUBJECT, "In-Reply-To": "<x@y.test>"}
                text = f"I am away.\r\n> {token}"
        lines = [f"{name}: {value}" for name, value in (head | {"Message-ID": message_id}).items()]
        return "\r\n".join([*lines, "", text, ""]).encode()

    def mark(self, message_id: str) -> bool:
        """Set a flag of one of these mails, with another mail program, which does not expunge; whether it did."""
        user = self.written[message_id][0]
        flag = self.rng.choice(_FLAGS)
        try:
            with mailbox(self.bed, user) as client:
                uids = client.uid("search", "HEADER", "Message-ID", message_id)[1][0].split()
                # Before, because it may happen though we do not hear of it: then it is done again by finish().
                if uids:
                    self.flags.setdefault(message_id, set()).add(flag)
                for uid in uids:
                    client.uid("store", uid.decode(), "+FLAGS.SILENT", f"({flag})")
        except _BROKEN:
            return False
        return bool(uids)

    def finish(self) -> None:
        """Once the servers are well: set again every flag that was meant to be set."""
        for user in self.users:
            with mailbox(self.bed, user) as client:
                for message_id, flags in self.flags.items():
                    if self.written[message_id][0] != user:
                        continue
                    for uid in client.uid("search", "HEADER", "Message-ID", message_id)[1][0].split():
                        client.uid("store", uid.decode(), "+FLAGS.SILENT", f"({' '.join(sorted(flags))})")

    def live(self, stop: threading.Event) -> None:
        """Write and read until told to stop."""
        while not stop.wait(self.rng.uniform(0.1, 0.7)):
            self.write()
            if self.taken and self.rng.random() < 0.3:
                self.mark(self.rng.choice(self.taken))


@contextlib.contextmanager
def mailbox(bed: MailBed, user: str, folder: str = "INBOX", *, readonly: bool = False) -> Iterator[imaplib.IMAP4]:
    """A mail program in this folder."""
    client = imaplib.IMAP4_SSL("127.0.0.1", bed.ports["imaps"], ssl_context=bed.pki.client_context(), timeout=_TIMEOUT)
    try:
        client.login(address(user), bed.password)
        client.select(folder, readonly=readonly)
        yield client
    finally:
        with contextlib.suppress(OSError, imaplib.IMAP4.error):
            client.logout()


def contents(bed: MailBed, users: Sequence[str]) -> list[Held]:
    """Every mail of theirs, without touching any."""
    found = []
    for user in users:
        for folder in FOLDERS:
            with mailbox(bed, user, folder, readonly=True) as client:
                answers = client.uid("fetch", "1:*", "(UID FLAGS BODY.PEEK[])")[1]
                for answer in answers:
                    if not isinstance(answer, tuple):
                        continue
                    about, raw = answer[0].decode(), answer[1].replace(b"\r\n", b"\n")
                    uid, flags = re.search(r"UID (\d+)", about), re.search(r"FLAGS \((.*?)\)", about)
                    name = re.search(rb"(?im)^Message-ID:\s*(\S+)", raw)
                    assert uid
                    assert flags
                    found.append(Held(
                        user, folder, int(uid[1]), name[1].decode() if name else "",
                        frozenset(flags[1].split()) - {"\\Recent"}, hashlib.sha256(raw).hexdigest(), raw,
                    ))  # fmt: skip
    return found
