"""`make soak`: the daemon for a while on real servers, 20 routes at a time; then every probe must be accounted for.

Rule: the verdict comes from the servers' own logs and mailboxes, not from the daemon's word.
"""

from __future__ import annotations

import argparse
import asyncio
import imaplib
import signal
import smtplib
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from probe.config import parse_duration
from probe.core.state import State
from probe.ledger import Ledger

from .bed.mailbed import MailBed, address, fresh_user
from .bed.service import wait_until
from .process import Daemon, account, route

_ROUTES = 20


def _mail(bed: MailBed, user: str, text: str) -> None:
    with smtplib.SMTP("127.0.0.1", bed.ports["smtp"]) as smtp:
        smtp.sendmail("mother@bed.test", [address(user)], f"From: mother@bed.test\r\nSubject: {text}\r\n\r\n{text}\r\n")


def _open(bed: MailBed, user: str) -> imaplib.IMAP4:
    client = imaplib.IMAP4_SSL("127.0.0.1", bed.ports["imaps"], ssl_context=bed.pki.client_context())
    client.login(address(user), bed.password)
    client.select("INBOX")
    return client


def _subjects(bed: MailBed, user: str) -> list[str]:
    client = _open(bed, user)
    try:
        uids = client.uid("search", "ALL")[1][0].split()
        found = [client.uid("fetch", uid.decode(), "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1] for uid in uids]
        return [f"{each[0][0].decode()} {each[0][1].decode().strip()}" for each in found]  # type: ignore[index]
    finally:
        client.logout()


async def _states(ledger_file: Path) -> Counter[State]:
    ledger = Ledger(ledger_file)
    try:
        counts: Counter[State] = Counter()
        for (_, state), number in (await ledger.counts()).items():
            counts[state] += number
        return counts
    finally:
        ledger.close()


def soak(bed: MailBed, directory: Path, seconds: float, every: str) -> bool:
    """Run, and print what was found; False when something is not accounted for."""
    users = [fresh_user() for _ in range(8)]
    pairs = [(users[i % 8], users[(i * 3 + 1 + i // 8) % 8]) for i in range(_ROUTES)]
    for user in users:
        _mail(bed, user, "from a friend")
    for user in users:
        wait_until(lambda user=user: len(_subjects(bed, user)) == 1, 20, "the foreign mail")
        client = _open(bed, user)
        client.uid("store", "1", "+FLAGS", "(\\Deleted)")  # by another client, which has not expunged yet
        client.logout()
    accounts = "".join(account(bed, user) for user in users)
    config = accounts + "".join(route(f"r{i:02}", a, b, every) for i, (a, b) in enumerate(pairs))
    with Daemon(directory, config) as daemon:
        time.sleep(seconds)  # the length of the run is the point of it
        # Then hardly any new probe: see what is left arrive, in mailboxes that are all still watched.
        daemon.write(accounts + "".join(route(f"r{i:02}", a, b, "1d") for i, (a, b) in enumerate(pairs)))
        daemon.signal(signal.SIGHUP)
        daemon.until(lambda: daemon.metric("mailprobe_in_flight_probes") == 0, "nothing in flight", 60)
        asks = daemon.metric("mailprobe_mailbox_asks_total")
        page = daemon.get("/metrics")
        ended = daemon.stop()
        states = asyncio.run(_states(directory / "state" / "ledger.sqlite"))
        for _ in range(10):  # a probe that was just due when we stopped is found by the next start
            if not states[State.ACCEPTED]:
                break
            daemon.start()
            daemon.until(lambda: daemon.metric("mailprobe_in_flight_probes") == 0, "nothing in flight", 60)
            daemon.stop()
            states = asyncio.run(_states(directory / "state" / "ledger.sqlite"))
    log = daemon.log()
    troubles = [line for line in daemon.troubles() if " config warning=" not in line]  # of accounts unused at the end
    accepted = log.count(" accepted route=")
    saved = Counter(
        event.message_id for event in bed.dovecot.events("save") if ".mailprobe@" in (event.message_id or "")
    )
    left = {user: _subjects(bed, user) for user in users}
    foreign = sum(1 for mails in left.values() for mail in mails if "from a friend" in mail and "\\Deleted" in mail)
    ours = sum(1 for mails in left.values() for mail in mails if "mailprobe test mail" in mail)
    checks = {
        f"{states.total()} probes on record: {', '.join(f'{n} {s}' for s, n in states.items() if n)}": states.total()
        > 0,
        f"{accepted} accepted, {states[State.DELIVERED]} delivered": accepted == states[State.DELIVERED],
        f"{len(saved)} mails saved by Dovecot, {saved.total() - len(saved)} of them twice": len(saved) == accepted,
        f"{len(troubles)} warnings and errors in the log": not troubles,
        f"{ours} of our mails left in the mailboxes": ours == 0,
        f"{foreign} of {len(users)} foreign mails that another client marked \\Deleted still there": foreign
        == len(users),
        f"ended in {ended:.2f} s": ended < 2,
    }
    for text, good in checks.items():
        print(f"{'ok ' if good else 'BAD'} {text}")
    print(f"    {asks / max(1, accepted):.1f} asks per probe")
    for trouble in troubles[:20]:
        print(f"    {trouble}")
    for line in page.splitlines():
        if line.startswith(("mailprobe_loop_stall_seconds_bucket", "mailprobe_schedule_lateness_seconds_bucket")):
            print(f"    {line}")
    return all(checks.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--for", dest="seconds", type=parse_duration, default=600.0, help="default: 10m")
    parser.add_argument("--every", default="5s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="soak-") as root:
        Path(root).chmod(0o755)
        bed = MailBed(Path(root) / "bed")
        (Path(root) / "daemon").mkdir()
        try:
            good = soak(bed.start(), Path(root) / "daemon", options.seconds, options.every)
        finally:
            bed.wipe()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
