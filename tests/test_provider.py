"""The embedded provider speaks real SMTP and IMAP, and does to each mail what its Behaviour says."""

from __future__ import annotations

import asyncio
import gc
import imaplib
import logging
import random
import re
import smtplib
import time
import warnings
from email import message_from_bytes
from itertools import count
from typing import Any, Self

import pytest

from probe import clock
from probe.core.behaviour import Behaviour, Hold, store
from probe.core.dsn import read_notice
from probe.core.message import Mail, compose
from probe.core.token import Token
from probe.demo.world import Loop, World
from probe.provider import HOST, Passage, Provider

from .loops import both_loops

ANN, BOB = "ann@a.test", "bob@b.test"
USERS = {ANN: "apple", BOB: "pear tree"}


def provider(behaviour: Behaviour | None = None) -> Provider:
    """Bob's mail is treated so; Ann's without any fault."""
    return Provider(USERS, {BOB: behaviour} if behaviour else {}, random.Random(7), clock.now)


def mail(subject: str, to: str = BOB) -> bytes:
    return f"From: {ANN}\r\nTo: {to}\r\nSubject: {subject}\r\n\r\nbody of {subject}\r\n.dotted\r\n".encode()


def _submit(port: int, subjects: tuple[str, ...], to: tuple[str, ...], password: str) -> list[tuple[int, str]]:
    replies = []
    with smtplib.SMTP(HOST, port, local_hostname="tester.test", timeout=5) as smtp:
        smtp.login(ANN, password)
        for subject in subjects:
            for command in (f"MAIL FROM:<{ANN}>", *(f"RCPT TO:<{address}>" for address in to)):
                code, text = smtp.docmd(command)
                if code != 250:
                    return [*replies, (code, text.decode())]
            code, text = smtp.data(mail(subject))
            replies.append((code, text.decode()))
    return replies


async def submit(
    p: Provider, *subjects: str, to: tuple[str, ...] = (BOB,), password: str = USERS[ANN]
) -> list[tuple[int, str]]:
    """Ann sends these mails by smtplib; the last reply to each."""
    return await asyncio.to_thread(_submit, p.smtp_port, subjects, to, password)


def _send(port: int, content: bytes) -> None:
    with smtplib.SMTP(HOST, port, timeout=5) as smtp:
        smtp.login(ANN, USERS[ANN])
        smtp.sendmail(ANN, BOB, content)


class Reader:
    """A user's raw IMAP connection; Bob's."""

    def __init__(self, port: int, user: str = BOB) -> None:
        self._port, self._user, self._tags = port, user, count(1)

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(HOST, self._port)
        self.greeting = await self.line()
        await self.ask(f'LOGIN "{self._user}" {{{len(USERS[self._user].encode())}+}}\r\n{USERS[self._user]}')
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        await self.writer.wait_closed()

    async def line(self) -> str:
        line = await asyncio.wait_for(self.reader.readline(), 5)
        assert line, "the server closed the connection"
        return line.decode().rstrip("\r\n")

    async def until(self, pattern: str) -> list[str]:
        """All lines up to the one that matches."""
        lines = [await self.line()]
        while not re.match(pattern, lines[-1]):
            lines.append(await self.line())
        return lines

    async def ask(self, command: str, ends: str = "") -> list[str]:
        tag = f"t{next(self._tags)}"
        self.writer.write(f"{tag} {command}\r\n".encode())
        lines = await self.until(ends or tag)
        assert ends or lines[-1].startswith(f"{tag} OK"), lines[-1]
        return lines

    async def select(self, folder: str = "INBOX") -> list[str]:
        return await self.ask(f"SELECT {folder}")

    async def idle(self) -> None:
        await self.ask("IDLE", ends=r"\+ ")

    async def done(self) -> list[str]:
        self.writer.write(b"DONE\r\n")
        return await self.until(r"t\d+ OK")

    async def arrivals(self, number: int) -> list[str]:
        """The subjects in the selected folder, as soon as so many mails are in it, told by IDLE."""
        await self.idle()
        await self.until(rf"\* {number} EXISTS")
        await self.done()
        return await self.subjects()

    async def subjects(self) -> list[str]:
        lines = await self.ask("UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        return [line.removeprefix("Subject: ") for line in lines if line.startswith("Subject: ")]


@both_loops
async def test_a_submitted_mail_is_delivered_to_the_inbox_with_its_trace_on_top() -> None:
    async with provider() as p, Reader(p.imap_port) as bob:
        await bob.select()
        await bob.idle()
        [(code, text)] = await submit(p, "one")
        await bob.until(r"\* 1 EXISTS")
        await bob.done()
        lines = await bob.ask("UID FETCH 1:* (BODY.PEEK[])")
        assert (code, text[:22]) == (250, "2.0.0 Ok: queued as " + text[20:22])
        queue_id = text.removeprefix("2.0.0 Ok: queued as ")
        seen = message_from_bytes("\r\n".join(lines[1:-2]).encode())
        assert seen.keys() == ["Return-Path", "Received", "Received", "From", "To", "Subject"]
        assert seen["Return-Path"] == f"<{ANN}>"
        delivered, submitted = seen.get_all("Received", [])
        assert submitted.startswith(
            "from tester.test ([127.0.0.1])\r\n\tby mx00.demo.invalid with ESMTPA id " + queue_id
        )
        assert delivered.startswith(f"from mx00.demo.invalid\r\n\tby {store(BOB)}.demo.invalid with LMTP id {queue_id}")
        assert f"for <{BOB}>; " in delivered
        assert seen.get_payload().startswith("body of one\r\n.dotted")


@both_loops
async def test_a_junked_mail_lies_in_junk_and_nowhere_else() -> None:
    async with provider(Behaviour(junked=1)) as p, Reader(p.imap_port) as bob:
        await bob.select("Junk")
        await submit(p, "advert")
        assert await bob.arrivals(1) == ["advert"]
        assert "* 0 EXISTS" in await bob.select("INBOX")


@both_loops
async def test_junk_exists_before_any_mail_has_come() -> None:
    async with provider() as p, Reader(p.imap_port) as bob:
        assert '* LIST (\\HasNoChildren) "/" Junk' in await bob.ask('LIST "" "*"')


@both_loops
async def test_a_wrong_password_is_refused_with_535_by_plain_and_by_login() -> None:
    def attempt(port: int, how: str) -> int:
        with smtplib.SMTP(HOST, port, timeout=5) as smtp:
            smtp.ehlo()
            smtp.user, smtp.password = ANN, "wrong"
            with pytest.raises(smtplib.SMTPAuthenticationError) as refusal:
                smtp.auth(how, getattr(smtp, f"auth_{how.lower()}"))
            return refusal.value.smtp_code

    async with provider() as p:
        assert [await asyncio.to_thread(attempt, p.smtp_port, how) for how in ("PLAIN", "LOGIN")] == [535, 535]


@both_loops
async def test_login_is_as_good_as_plain() -> None:
    def attempt(port: int) -> int:
        with smtplib.SMTP(HOST, port, timeout=5) as smtp:
            smtp.ehlo()
            smtp.user, smtp.password = ANN, USERS[ANN]
            return smtp.auth("LOGIN", smtp.auth_login)[0]

    async with provider() as p:
        assert await asyncio.to_thread(attempt, p.smtp_port) == 235


@both_loops
async def test_a_wrong_password_is_refused_by_imap() -> None:
    def attempt(port: int) -> None:
        with (
            imaplib.IMAP4(HOST, port, timeout=5) as imap,
            pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"),
        ):
            imap.login(BOB, "wrong")

    async with provider() as p:
        await asyncio.to_thread(attempt, p.imap_port)


@both_loops
async def test_nobody_submits_without_having_logged_in() -> None:
    def attempt(port: int) -> int:
        with smtplib.SMTP(HOST, port, timeout=5) as smtp:
            smtp.ehlo()
            smtp.docmd(f"MAIL FROM:<{ANN}>")
            return smtp.docmd(f"RCPT TO:<{BOB}>")[0]

    async with provider() as p:
        assert await asyncio.to_thread(attempt, p.smtp_port) == 530


@pytest.mark.parametrize(
    ("behaviour", "to", "code"),
    [(Behaviour(refused=1), BOB, 550), (Behaviour(deferred=1), BOB, 450), (Behaviour(), "nobody@b.test", 550)],
    ids=["refused", "deferred", "unknown"],
)
@both_loops
async def test_who_gets_no_mail_is_told_at_rcpt(behaviour: Behaviour, to: str, code: int) -> None:
    async with provider(behaviour) as p:
        assert [reply for reply, _ in await submit(p, "unwanted", to=(to,))] == [code]
        assert p.queued(BOB) == 0


@both_loops
async def test_a_lost_mail_is_accepted_and_never_queued() -> None:
    async with provider(Behaviour(lost=1)) as p, Reader(p.imap_port) as bob:
        await bob.select()
        assert [code for code, _ in await submit(p, "gone")] == [250]
        assert p.queued(BOB) == 0
        p.behaviours[BOB] = Behaviour()
        await submit(p, "kept")
        assert await bob.arrivals(1) == ["kept"]


@both_loops
async def test_a_share_of_one_half_loses_about_half() -> None:
    async with provider(Behaviour(lost=0.5, hold=Hold(0, 60))) as p:
        await submit(p, *map(str, range(40)))
        assert 10 < p.queued(BOB) < 30


@both_loops
async def test_what_is_refused_after_all_comes_back_as_a_notice_that_our_reader_understands() -> None:
    key = b"k" * 32
    token = Token("0123456789abcdef", "r", 1.0, 2.0)
    async with provider(Behaviour(bounced=1)) as p:
        content = compose(key, token, Mail(ANN, BOB, ""))
        await asyncio.to_thread(_send, p.smtp_port, content)
        async with Reader(p.imap_port, ANN) as ann:
            assert "* 1 EXISTS" in await ann.select(), "it came to Ann at once"
            lines = await ann.ask("UID FETCH 1:* (BODY.PEEK[])")
        found = read_notice(key, "\r\n".join(lines[1:-2]).encode())
        assert found
        assert found[:3] == (token.probe, "failed", "5.2.2")
        assert (found.reporting_mta, found.remote_mta) == ("mx00.demo.invalid", f"{store(BOB)}.demo.invalid")
        assert (found.recipient, found.matched) == (BOB, "returned")
        [passage] = p.record
        assert (passage.fate, passage.attempts, p.queued(BOB)) == ("bounced", 1, 0)


async def _later(behaviour: Behaviour, hours: float) -> Passage:
    """One mail's way in a world where so many hours pass; after three of them all is well."""
    async with provider(behaviour) as p:
        loop = asyncio.get_running_loop()
        await submit(p, "late")
        loop.call_later(3 * 3600, p.behaviours.clear)
        await asyncio.sleep(hours * 3600)
        [passage] = p.record
        return passage


@pytest.mark.parametrize(
    ("behaviour", "hours", "attempts", "took"),
    [
        (Behaviour(), 1, 1, (0, 60)),
        (Behaviour(grey=300), 1, 2, (300, 600)),
        (Behaviour(put_off=1), 5, 7, (3 * 3600, 3 * 3600 + 4000)),
        (Behaviour(delay=(3600, 3600)), 2, 1, (3600, 3660)),
    ],
    ids=["at once", "greylisted", "put off until all is well", "delayed"],
)
def test_what_is_put_off_is_tried_again_at_growing_intervals(
    behaviour: Behaviour, hours: float, attempts: int, took: tuple[float, float]
) -> None:
    world = World(1e9)
    with clock.replaced(world.reading), asyncio.Runner(loop_factory=lambda: Loop(world)) as runner:
        passage = runner.run(_later(behaviour, hours))
    assert passage.fate == "inbox"
    assert passage.took is not None
    assert took[0] <= passage.took <= took[1]
    assert abs(passage.attempts - attempts) <= 1


@both_loops
async def test_a_duplicated_mail_comes_twice() -> None:
    async with provider(Behaviour(duplicated=1)) as p, Reader(p.imap_port) as bob:
        await bob.select()
        await submit(p, "echo")
        assert await bob.arrivals(2) == ["echo", "echo"]


@both_loops
async def test_one_mail_to_two_recipients_goes_to_both_queues_once() -> None:
    async with Provider(USERS, dict.fromkeys(USERS, Behaviour(hold=Hold(0, 60))), random.Random(7), clock.now) as p:
        assert len(await submit(p, "both", to=(ANN, BOB, BOB))) == 1
        assert (p.queued(ANN), p.queued(BOB)) == (1, 1)


@both_loops
async def test_a_held_queue_is_delivered_in_order_after_the_hold() -> None:
    sent = [f"mail {i}" for i in range(5)]
    started = time.monotonic()
    async with provider(Behaviour(delay=(0, 0.05), hold=Hold(0, 0.3))) as p, Reader(p.imap_port) as bob:
        await bob.select()
        await submit(p, *sent)
        assert await bob.arrivals(5) == sent
        assert time.monotonic() - started >= 0.3
        assert p.queued(BOB) == 0


@both_loops
async def test_one_recipients_hold_is_nobody_elses() -> None:
    async with (
        Provider(USERS, {ANN: Behaviour(hold=Hold(0, 60))}, random.Random(7), clock.now) as p,
        Reader(p.imap_port) as bob,
    ):
        await bob.select()
        await submit(p, "to both", to=(ANN, BOB))
        assert await bob.arrivals(1) == ["to both"]
        assert (p.queued(ANN), p.queued(BOB)) == (1, 0)


@both_loops
async def test_a_mail_is_in_the_queue_for_its_delay() -> None:
    async with provider(Behaviour(delay=(0.2, 0.25))) as p, Reader(p.imap_port) as bob:
        await bob.select()
        started = time.monotonic()
        await submit(p, "slow")
        assert await bob.arrivals(1) == ["slow"]
        assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize(
    ("hold", "age", "rest"),
    [
        (Hold(10, 5), 9.5, 0),
        (Hold(10, 5), 10, 5),
        (Hold(10, 5), 14, 1),
        (Hold(10, 5), 15, 0),
        (Hold(10, 5), 72, 0),
        (Hold(10, 5, every=60), 9.5, 0),
        (Hold(10, 5, every=60), 72, 3),
        (Hold(10, 5, every=60), 75, 0),
        (Hold(10, 5, every=60), 130, 5),
    ],
)
def test_a_hold_rests_until_its_end_and_comes_again_every_period(hold: Hold, age: float, rest: float) -> None:
    assert hold.rest(age) == rest


@both_loops
async def test_idle_hears_of_every_mail_of_a_burst() -> None:
    async with provider() as p, Reader(p.imap_port) as bob:
        await bob.select()
        await bob.idle()
        burst = asyncio.gather(*(submit(p, *(f"{i}.{j}" for j in range(10))) for i in range(5)))
        await bob.until(r"\* 50 EXISTS")
        await burst
        await bob.done()
        assert len(await bob.subjects()) == 50


@both_loops
async def test_idle_hears_of_the_mail_that_came_between_its_last_answer_and_the_idle() -> None:
    async with provider(Behaviour(hold=Hold(0, 60))) as p, Reader(p.imap_port) as bob, Reader(p.imap_port) as other:
        await bob.select()
        await other.ask("APPEND INBOX {13+}\r\nSubject: x\r\n\r\n")
        assert await bob.arrivals(1) == ["x"]


@both_loops
async def test_uid_expunge_removes_that_mail_and_the_idler_hears_of_it() -> None:
    def expunge(port: int, subject: str) -> None:
        with imaplib.IMAP4(HOST, port, timeout=5) as imap:
            imap.authenticate("PLAIN", lambda _: f"\0{BOB}\0{USERS[BOB]}".encode())
            assert {"UIDPLUS", "IDLE", "MOVE"} <= set(imap.capability()[1][0].decode().split())
            imap.select()
            [uid] = imap.uid("SEARCH", "SUBJECT", subject)[1]
            imap.uid("STORE", "1:*", "+FLAGS.SILENT", "(\\Deleted)")
            assert imap.uid("EXPUNGE", uid.decode())[0] == "OK"

    async with provider() as p, Reader(p.imap_port) as bob:
        await bob.select()
        await submit(p, "first", "second", "third")
        assert await bob.arrivals(3) == ["first", "second", "third"]
        await bob.idle()
        ending = asyncio.create_task(asyncio.to_thread(expunge, p.imap_port, "second"))
        await bob.until(r"\* 2 EXPUNGE")
        await ending
        await bob.done()
        assert await bob.subjects() == ["first", "third"]


@both_loops
async def test_select_tells_uidvalidity_and_the_next_uid_and_the_mail_gets_it() -> None:
    async with provider() as p, Reader(p.imap_port) as bob:
        told = "\n".join(await bob.select())
        assert "[UIDVALIDITY " in told
        await submit(p, "numbered")
        await bob.arrivals(1)
        [uid] = re.findall(r"UID (\d+)", "\n".join(await bob.ask("FETCH 1 UID")))
        assert f"[UIDNEXT {uid}]" in told


@both_loops
async def test_closing_ends_every_task_and_connection_without_a_word(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    before = asyncio.all_tasks()
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        async with provider(Behaviour(hold=Hold(0, 60))) as p:
            idling, waiting = await Reader(p.imap_port).__aenter__(), await Reader(p.imap_port).__aenter__()
            await idling.select()
            await idling.idle()
            half, half_writer = await asyncio.open_connection(HOST, p.smtp_port)
            await half.readline()
            half_writer.write(b"EHLO x\r\nAUTH LOGIN\r\n")
            await half.readuntil(b"334 "), await half.readline()
            _unread, silent = await asyncio.open_connection(HOST, p.smtp_port)
            await submit(p, "never to come")
        assert asyncio.all_tasks() == before
        assert [await r.read() for r in (idling.reader, waiting.reader, half)] == [b"", b"", b""]
        for writer in (idling.writer, waiting.writer, half_writer, silent):
            writer.close()
        gc.collect()
    own = [record.getMessage() for record in caplog.records if not record.name.startswith("asyncio")]
    assert (unheard, [str(w.message) for w in warned], own) == ([], [], [])
    assert capfd.readouterr() == ("", "")


@both_loops
async def test_a_failure_inside_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with provider() as p, Reader(p.imap_port) as bob:
        await bob.ask("DELETE Junk")
        p.behaviours[BOB] = Behaviour(junked=1)
        told = asyncio.Event()
        caplog.handler.addFilter(lambda _: told.set() or True)  # type: ignore[func-returns-value]
        await submit(p, "homeless")
        await asyncio.wait_for(told.wait(), 5)
    assert "KeyError: 'Junk'" in caplog.text
