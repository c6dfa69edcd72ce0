"""Other people, their programs and other installations in the mailboxes of a whole daemon, on the real Dovecot.

Rule: what must be unharmed is compared with what it was: folder, UID, flags and every byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import imaplib
import random
import re
import smtplib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from probe import keyfile
from probe.clock import now
from probe.core.events import Vanished
from probe.core.message import Mail, compose
from probe.core.settings import Account, Secret, Server
from probe.core.token import Token
from probe.mail import folder as folder_module
from probe.mail import watcher as watcher_module
from probe.mail.watcher import Watcher

from .bed.mailbed import MailBed, address, mailbox
from .process import Daemon, account, route
from .watching import NEVER, REPLY, Book, Told, attached, ours, recognise_all, token_of, until

pytestmark = pytest.mark.timeout(90)

Lying = dict[tuple[str, str, int], tuple[frozenset[bytes], bytes]]  # (user, folder, UID) → flags, bytes
Scene = tuple[Watcher, Book, Told]
PLANTED = b"X-Planted: by the test\r\n"
LETTER = b"From: mother@bed.test\r\nSubject: hello\r\n\r\nCall me.\r\n"


def lying(bed: MailBed, *users: str) -> Lying:
    """All that lies in these mailboxes."""
    found: Lying = {}
    for user in users:
        for folder in ("INBOX", "Junk"):
            with mailbox(bed, user, folder) as client:
                answer = client.uid("fetch", "1:*", "(FLAGS BODY.PEEK[])")[1]
            for said, raw in (part for part in answer if isinstance(part, tuple)):
                uid, flags = re.search(rb"UID (\d+)", said), imaplib.ParseFlags(said)
                assert uid
                found[user, folder, int(uid[1])] = frozenset(flags) - {b"\\Recent"}, raw
    return found


def append(bed: MailBed, user: str, raw: bytes, folder: str = "INBOX", flags: str = "") -> None:
    with mailbox(bed, user, folder) as client:
        assert client.append(folder, f"({flags})", "", PLANTED + raw)[0] == "OK"  # type: ignore[arg-type]


def submit(bed: MailBed, user: str, raw: bytes) -> None:
    """By SMTP, from somebody out there."""
    with smtplib.SMTP("127.0.0.1", bed.ports["smtp"]) as smtp:
        smtp.sendmail("aunt@bed.test", [address(user)], PLANTED + raw)


def test_whatever_others_put_beside_our_probes_stays_as_it_was(
    bed: MailBed, fresh_user: Callable[[], str], tmp_path: Path
) -> None:
    a, b = fresh_user(), fresh_user()
    keeping = account(bed, a) + account(bed, b) + "keep_mails = true\n" + route("r", a, b, "300ms")
    daemon = Daemon(tmp_path, keeping)
    with daemon:
        daemon.until_metric("mailprobe_delivery_latency_seconds_count", 1)
        daemon.stop()
    (_, _, uid), (_, genuine) = next(iter(lying(bed, b).items()))
    with mailbox(bed, b) as client:
        client.uid(
            "store", str(uid), "+FLAGS", "(\\Deleted)"
        )  # no other: it may be one that the daemon has not seen yet
        client.expunge()
    token = token_of(genuine)
    unknown = Token("f" * 16, "r", 1.0, 1.0), Mail(address(a), address(b))
    forged = genuine.replace(token[-22:], b"A" * 22)
    daemon.write(account(bed, a) + account(bed, b) + route("r", a, b, "300ms"))
    with daemon:
        daemon.until_metric("mailprobe_delivery_latency_seconds_count", 1)
        append(bed, b, forged)
        append(bed, b, forged, "Junk", "\\Flagged")
        append(bed, b, compose(b"o" * 32, *unknown), flags="\\Seen")  # another installation
        append(bed, b, compose(keyfile.load(tmp_path / "state"), *unknown))  # another ledger under our key
        append(bed, b, re.sub(rb"(?m)^From: .*?\r$", b"From: mallory@bed.test\r", genuine))  # replayed
        append(bed, a, genuine)  # elsewhere
        append(bed, b, attached(genuine, subject=b"what is that?"))
        append(bed, b, LETTER, flags="\\Deleted \\Flagged")
        submit(bed, b, REPLY.replace(b"%b", token))
        submit(bed, b, attached(genuine, subject=b"Fwd: mailprobe test mail " + token))
        submit(bed, b, LETTER)
        wanted = {"forged": 3, "foreign": 1, "replayed": 1, "reply": 1, "foreign_sender": 1}

        def counted() -> dict[str, float]:
            name = "mailprobe_unrecognised_messages_total"
            return {reason: daemon.metric(name, account=b, reason=reason) for reason in wanted}

        daemon.until(lambda: counted() == wanted, "all are counted")
        daemon.until(lambda: daemon.metric("mailprobe_unrecognised_messages_total", account=a) == 1, "elsewhere")
        before = lying(bed, a, b)
        sent = daemon.metric("mailprobe_delivery_latency_seconds_count")
        daemon.until_metric("mailprobe_delivery_latency_seconds_count", sent + 5)
        daemon.until(lambda: daemon.metric("mailprobe_in_flight_probes") == 0, "nothing in flight")
        assert counted() == wanted
        assert daemon.metric("mailprobe_unrecognised_messages_total", account=a, reason="elsewhere") == 1
        assert daemon.metric("mailprobe_unrecognised_messages_total") == sum(wanted.values()) + 1
        assert daemon.metric("mailprobe_duplicate_arrivals_total") == 0
        assert daemon.metric("mailprobe_violations_total") == 0
        daemon.stop()
    theirs = {place: mail for place, mail in before.items() if PLANTED in mail[1]}
    assert len(theirs) == 11
    after = lying(bed, a, b)
    assert {place: after.get(place) for place in theirs} == theirs
    harmed = {(event.user, event.box, event.uid) for event in bed.dovecot.events("delete", "expunge")}
    assert not harmed & theirs.keys()


@contextlib.asynccontextmanager
async def watched(bed: MailBed, user: str) -> AsyncIterator[Scene]:
    """A watcher at work on this mailbox; what it reports is on record when the test says so."""
    server = Server("127.0.0.1", bed.ports["imaps"], "implicit", bed.pki.ca)
    mine = Account("own", address(user), address(user), Secret(bed.password), imap=server, asking=NEVER)
    told, book = Told(), Book(automatic=False)
    book.watcher = Watcher(mine, book, told, now, random.Random(1), recognise_all, lambda head: False)
    task = asyncio.create_task(book.watcher.run())
    try:
        await until(lambda: told.ups, 10)
        yield book.watcher, book, told
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_probe_that_another_client_moves_to_junk_is_seen_there_and_missed_here(
    bed: MailBed, fresh_user: Callable[[], str]
) -> None:
    user = fresh_user()
    await asyncio.to_thread(append, bed, user, LETTER)
    async with watched(bed, user) as (_, book, told):
        await asyncio.to_thread(append, bed, user, ours(1))
        await until(lambda: book.arrivals, 10)
        first = book.last().place

        def move() -> None:
            with mailbox(bed, user) as client:
                assert client.uid("MOVE", str(first.uid), "Junk")[0] == "OK"

        await asyncio.to_thread(move)
        await until(lambda: len(book.arrivals) == 2, 10)
        assert [(it.place.folder, it.placement) for it in book.arrivals] == [("INBOX", "inbox"), ("Junk", "junk")]
        book.settle(first)
        await until(lambda: book.others, 10)
        [vanished] = book.others
        assert isinstance(vanished, Vanished)
        assert vanished.place == first
        book.settle(book.last().place)
        await until(lambda: sum(told.removals) == 1, 10)
    assert await asyncio.to_thread(lying, bed, user) == {(user, "INBOX", 1): (frozenset(), PLANTED + LETTER)}
    assert told.reasons == []


async def test_what_lies_in_a_folder_that_was_made_anew_is_not_taken_for_what_lay_in_the_old_one(
    bed: MailBed, fresh_user: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another UIDVALIDITY between FETCH and STORE; under our probe's UID lies a letter that waits to be expunged."""
    monkeypatch.setattr(watcher_module, "_RETRY", (0.2, 0.2))
    monkeypatch.setattr(folder_module, "RELISTEN", 0.5)  # Dovecot may go on with the old folder, as if nothing were
    user = fresh_user()
    async with watched(bed, user) as (watcher, book, told):
        await asyncio.to_thread(append, bed, user, ours(1), "Junk")
        await until(lambda: book.arrivals, 10)
        place = book.last().place

        def make_anew() -> None:
            with mailbox(bed, user) as client:
                assert client.delete("Junk")[0] == client.create("Junk")[0] == "OK"
            append(bed, user, LETTER, "Junk", "\\Deleted")

        await asyncio.to_thread(make_anew)
        book.settle(place)
        await until(lambda: told.ups >= 2, 20)
        book.settle(place)
        await asyncio.to_thread(append, bed, user, ours(2), "Junk")
        await until(lambda: len(book.arrivals) == 2, 10)
        again = book.last().place
        assert (again.uid, again.uidvalidity != place.uidvalidity) == (2, True)
        book.settle(again)
        await until(lambda: told.removals == [1], 10)
        assert watcher.up
    there = await asyncio.to_thread(lying, bed, user)
    assert there == {(user, "Junk", 1): (frozenset({b"\\Deleted"}), PLANTED + LETTER)}
