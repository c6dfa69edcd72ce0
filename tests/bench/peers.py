"""What others would have measured: a client that only listens (IDLE), and Debian's check_email_delivery.

Both run against the same servers, after mailprobe has ended, on mailboxes of their own.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import smtplib
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import make_msgid
from pathlib import Path

from ..bed.mailbed import MailBed, address, fresh_user
from ..bed.service import HOST, wait_until
from . import truth
from .numbers import Spread, spread

PLUGINS = Path("/usr/lib/nagios/plugins")
_PACKAGES = ("monitoring-plugins-contrib", "libnet-smtp-tls-perl", "libmail-imapclient-perl", "libio-socket-ssl-perl")


@dataclass(frozen=True, slots=True)
class Peer:
    """error: its latency − the true one, in ms; note: why there is none."""

    error: Spread | None
    note: str = ""


def plain_idle(bed: MailBed, mails: int) -> Peer:
    """SELECT, IDLE, and the first byte that tells of a new mail; mails sent by smtplib, one at a time."""
    return Peer(spread(asyncio.run(_listen(bed, mails))))


async def _listen(bed: MailBed, mails: int) -> list[float]:
    user = fresh_user()
    context = bed.pki.client_context()
    reader, writer = await asyncio.open_connection(HOST, bed.ports["imaps"], ssl=context)
    commands = f"a LOGIN {user} {bed.password}\r\n", "b SELECT INBOX\r\n", "c IDLE\r\n"
    await reader.readline()
    for command in commands:
        writer.write(command.encode())
        while not (await reader.readline()).startswith((command[:2].encode(), b"+")):
            pass
    measured: dict[str, float] = {}
    with smtplib.SMTP_SSL(HOST, bed.ports["submissions"], context=context) as smtp:
        smtp.login(user, bed.password)
        for _ in range(mails):
            mail = EmailMessage()
            mail["From"] = mail["To"] = address(user)
            mail["Message-ID"] = make_msgid(domain="bed.test")
            smtp.send_message(mail)  # blocks; no news comes that soon
            accepted = time.time()
            while b" EXISTS" not in await reader.readline():
                pass
            measured[str(mail["Message-ID"])] = time.time() - accepted
            await asyncio.sleep(random.uniform(1.0, 1.5))  # after a change, the next is told sooner
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return _errors(bed, measured)


def _errors(bed: MailBed, measured: dict[str, float]) -> list[float]:
    known = wait_until(
        lambda: found if measured.keys() <= (found := truth.mails(bed)).keys() else None, 10, "all mails in the logs"
    )
    assert known
    return [(latency - known[id_].latency) * 1e3 for id_, latency in measured.items()]


def check_email_delivery(bed: MailBed, mails: int, plugins: Path) -> Peer:
    """The delay that the plugin states, when set as tight as it goes: no wait, a look each second, --hires.

    A mailbox of its own for every mail: in one that still holds the mail before, it counts that.
    """
    plugin = plugins / "check_email_delivery"
    if not plugin.exists():
        return Peer(None, f"not installed: apt-get install --no-install-recommends {' '.join(_PACKAGES)}")
    stated: dict[str, float] = {}
    for _ in range(mails):
        user = fresh_user()
        said = subprocess.run(
            [
                plugin, "--libexec", plugins, "-H", HOST, "-U", user, "-P", bed.password,
                "--mailfrom", address(user), "--mailto", address(user),
                "--smtp-port", str(bed.ports["submission"]), "--smtptls",
                "--imap-port", str(bed.ports["imaps"]), "--imapssl",
                "--wait", "0.01", "--imap-check-interval", "1", "--imap-retries", "20", "--hires",
            ],
            capture_output=True, text=True, check=False, timeout=120,
            env=os.environ | {"SSL_CERT_FILE": str(bed.pki.ca)},
        )  # fmt: skip
        delay = re.search(r"delay=(-?[\d.]+)s", said.stdout)
        saved = [event.message_id for event in bed.dovecot.events("save") if event.user == user]
        if not delay or not saved:
            return Peer(None, f"failed: {(said.stdout + said.stderr).strip()[:300]}")
        stated[saved[0]] = float(delay[1])
    return Peer(spread(_errors(bed, stated)))
