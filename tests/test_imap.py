"""Every trap of aioimaplib that libraries.md lists, and then some, sprung against a scripted server, under both loops.

Rule: nothing here waits for time to pass but the tests of time limits themselves, and those for fractions of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import itertools
import logging
import os
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from aioimaplib import aioimaplib
from hypothesis import given
from hypothesis import strategies as st

from probe.clock import now
from probe.core.events import Instant
from probe.core.settings import Secret, Server
from probe.mail import imap, imap_syntax, imap_wire, net
from probe.mail.imap import AuthRefused, Connection, Lost, Refused
from probe.mail.imap_syntax import Framer, Malformed

from .fake_imap import CAPABILITIES, FakeImap, Handler, certificate, date_time, encode_utf7
from .loops import both_loops

SHORT = 0.25  # seconds: a time limit that a test waits for
LIMIT = 5.0  # seconds: a test that takes this long hangs
PASSWORD = "hunter2 secret"
MAIL = b"Subject: star * and (paren\r\n\r\nA9 OK not a tag\r\n"


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    return certificate(tmp_path_factory.mktemp("tls"))


@contextlib.asynccontextmanager
async def talking(
    handler: Handler | None = None, *, mails: int = 1, timeout: float = LIMIT, **fake_options: object
) -> AsyncIterator[tuple[FakeImap, Connection]]:
    """A fake server and a connection with INBOX selected."""
    async with FakeImap(handler, **fake_options) as fake:  # type: ignore[arg-type]
        for _ in range(mails):
            fake.append(MAIL, stored=1_700_000_000.0)
        async with asyncio.timeout(LIMIT), await Connection.open(fake.server(), clock=now, timeout=timeout) as line:
            await line.login("me", Secret(PASSWORD))
            await line.select("INBOX")
            yield fake, line


def answering(wanted: bytes, *answer: bytes) -> Handler:
    """Answers the command (or, tagless, DONE) of this name by these bytes; TAG stands for its tag."""

    async def handler(tag: bytes, command: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
        name = args.split(b" ")[0].upper() if command == b"UID" else command
        if name == wanted:
            writer.write(b"".join(answer).replace(b"TAG", tag))
        return name == wanted

    return handler


@contextlib.contextmanager
def losing(reason: str) -> Iterator[None]:
    with pytest.raises(Lost) as caught:
        yield
    assert caught.value.reason == reason


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


# ---------------------------------------------------------------- opening


@pytest.mark.parametrize("how", ["none", "implicit", "starttls"])
@both_loops
async def test_a_whole_conversation_works_with_and_without_tls(how: str, tls: tuple[ssl.SSLContext, Path]) -> None:
    context, ca = tls
    async with FakeImap(**{"none": {}, "implicit": {"tls": context}, "starttls": {"starttls": context}}[how]) as fake:
        first = fake.append(MAIL, stored=1_700_000_000.0)
        line = await Connection.open(fake.server(ca), clock=now, timeout=LIMIT)
        assert line.has("idle")
        await line.login("me", Secret(PASSWORD))
        selected = await line.select("INBOX")
        assert (selected.uidvalidity, selected.uidnext, selected.exists, selected.read_only) == (1, 2, 1, False)
        (mail,) = await line.fetch("1:*", "BODY.PEEK[]")
        assert (mail.uid, mail.content, mail.internal_date) == (first, MAIL, 1_700_000_000.0)
        (mail,) = await line.fetch("1", "BODY.PEEK[HEADER]")
        assert mail.content == b"Subject: star * and (paren\r\n\r\n"
        assert await line.search_since(date(2023, 11, 14)) == [1]
        assert await line.search_since(date(2023, 11, 15)) == []
        await line.mark([1], ["\\Deleted"])
        await line.expunge([1, 2])
        assert not fake.folders["INBOX"].mails
        assert line.last_contact.boot_id == now().boot_id
        assert (line.certificate_not_after is None) == (how == "none")
        await line.logout()
        with losing("closed"):
            await line.noop()


@both_loops
async def test_the_certificate_s_end_is_told(tls: tuple[ssl.SSLContext, Path]) -> None:
    async with FakeImap(tls=tls[0]) as fake, await Connection.open(fake.server(tls[1]), clock=now) as line:
        assert line.certificate_not_after is not None
        assert 29 < (line.certificate_not_after - now().wall) / 86400 < 31


@pytest.mark.parametrize("how", ["implicit", "starttls"])
@both_loops
async def test_a_certificate_that_does_not_verify_is_named_and_nothing_leaks(how: str, tmp_path: Path) -> None:
    wrong, ca = certificate(tmp_path / "wrong", "mail.example.org")
    with pytest.raises(net.Unreachable) as caught:
        async with FakeImap(**{"tls" if how == "implicit" else "starttls": wrong}) as fake:
            await Connection.open(fake.server(ca), clock=now, timeout=LIMIT)
    assert (caught.value.stage, caught.value.reason) == ("tls", "wrong_name")
    with pytest.raises(net.Unreachable) as caught:
        async with FakeImap(**{"tls" if how == "implicit" else "starttls": wrong}) as fake:
            await Connection.open(fake.server(), clock=now, timeout=LIMIT)
    assert caught.value.reason == "unknown_ca"


@both_loops
async def test_starttls_that_is_not_offered_is_not_done_without() -> None:
    async with FakeImap() as fake:
        with pytest.raises(net.Unreachable, match="not_offered"):
            await Connection.open(Server("127.0.0.1", fake.port, "starttls"), clock=now, timeout=LIMIT)
        assert not any(b"LOGIN" in line for line in fake.lines)


@both_loops
async def test_what_was_injected_before_tls_is_dropped(tls: tuple[ssl.SSLContext, Path]) -> None:
    async def handler(tag: bytes, command: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
        if command != b"STARTTLS":
            return False
        writer.write(tag + b" OK begin\r\n* CAPABILITY IMAP4rev1 EVIL\r\n* BYE injected\r\n")
        await writer.start_tls(tls[0])
        return True

    async with FakeImap(handler, starttls=tls[0]) as fake:
        line = await Connection.open(fake.server(tls[1]), clock=now, timeout=LIMIT)
        assert not line.has("EVIL")
        await line.noop()
        line.abort()


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (b"* BYE overloaded\r\n", "bye"),
        (b"* PREAUTH hello\r\n", "protocol_error"),
        (b"220 smtp.example.org ESMTP\r\n", "protocol_error"),
        (b"\x16\x03\x01" + b"x" * (imap_syntax.MAX_LINE + 1), "protocol_error"),
        (b"* OK half a gree", "timeout"),
        (b"", "timeout"),
    ],
)
@both_loops
async def test_a_greeting_that_is_none_ends_in_time(greeting: bytes, reason: str) -> None:
    async with asyncio.timeout(LIMIT), FakeImap(greeting=greeting) as fake:
        with losing(reason):
            await Connection.open(fake.server(), clock=now, timeout=SHORT)


@both_loops
async def test_a_greeting_without_answered_capability_ends_in_time() -> None:
    async with asyncio.timeout(LIMIT), FakeImap(answering(b"CAPABILITY")) as fake:
        with losing("timeout"):
            await Connection.open(fake.server(), clock=now, timeout=SHORT)


@pytest.mark.parametrize("how", ["silent", "closes"])
@pytest.mark.parametrize("tls_kind", ["implicit", "starttls"])
@both_loops
async def test_a_handshake_that_stops_half_way_ends_in_time(
    how: str, tls_kind: str, tls: tuple[ssl.SSLContext, Path]
) -> None:
    writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        if tls_kind == "starttls":
            writer.write(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n")
            tag = (await reader.readline()).split()[0]
            writer.write(tag + b" OK begin\r\n")
        await reader.read(1)
        if how == "closes":
            writer.close()

    async with asyncio.timeout(LIMIT), await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        server = Server("127.0.0.1", port, "implicit" if tls_kind == "implicit" else "starttls", tls[1])
        with pytest.raises(net.Unreachable) as caught:
            await Connection.open(server, clock=now, timeout=SHORT)
        writers[0].transport.abort()
        await asyncio.sleep(0)
    assert caught.value.stage == "tls"
    assert (caught.value.reason == "timeout") == (how == "silent")


@both_loops
async def test_nothing_leaks_from_failed_openings(tls: tuple[ssl.SSLContext, Path]) -> None:
    async def silent(*_: object) -> bool:
        return True

    async def attempt(fake: FakeImap, server: Server) -> None:
        with pytest.raises((imap.ImapError, net.Unreachable)):
            await Connection.open(server, clock=now, timeout=0.03)

    for options in ({"handler": silent}, {"greeting": b"* BYE\r\n"}, {"tls": tls[0]}, {"starttls": tls[0]}):
        async with FakeImap(**options) as fake:
            await attempt(fake, fake.server())
        await asyncio.sleep(0.01)
        gc.collect()
        files, tasks = open_files(), len(asyncio.all_tasks())
        async with FakeImap(**options) as fake:
            for _ in range(10):
                await attempt(fake, fake.server())
        await asyncio.sleep(0.01)
        assert (open_files(), len(asyncio.all_tasks())) == (files, tasks)


@both_loops
async def test_a_vanished_ca_file_is_an_unreachable_that_leaks_nothing() -> None:
    async with FakeImap() as fake:
        files = open_files()
        with pytest.raises(net.Unreachable, match="No such file"):
            await Connection.open(Server("127.0.0.1", fake.port, "implicit", Path("/nonexistent/ca")), clock=now)
        while open_files() > files:  # noqa: ASYNC110 - until the fake has noticed, too
            await asyncio.sleep(0)


@both_loops
async def test_opening_can_be_cancelled_at_any_await(tls: tuple[ssl.SSLContext, Path]) -> None:
    async with FakeImap(tls=tls[0]) as fake:
        for steps in range(25):
            task = asyncio.create_task(Connection.open(fake.server(tls[1]), clock=now, timeout=LIMIT))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                (await task).abort()
    await asyncio.sleep(0.01)
    assert len(asyncio.all_tasks()) == 1


# ---------------------------------------------------------------- hangs


@both_loops
async def test_idle_ends_when_the_server_closes_before_the_plus() -> None:
    async def handler(tag: bytes, command: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
        if command == b"IDLE":
            writer.close()
        return command == b"IDLE"

    async with talking(handler) as (_, line):
        with losing("eof"):
            await line.idle(60, asyncio.Event())


@pytest.mark.parametrize(("end", "reason"), [("close", "eof"), ("reset", "reset"), ("bye", "bye")])
@pytest.mark.parametrize("method", ["idle", "wait"])
@both_loops
async def test_whoever_waits_is_told_at_once_of_a_lost_connection(end: str, reason: str, method: str) -> None:
    async with talking() as (fake, line):
        waiting = asyncio.create_task(getattr(line, method)(60, asyncio.Event()))
        await (fake.received(b"IDLE") if method == "idle" else asyncio.sleep(0))
        fake.push(b"* BYE going\r\n") if end == "bye" else getattr(fake, end)()
        with losing(reason):
            await waiting
        for again in (
            line.noop(),
            line.mark([1], ["\\Seen"]),
            line.idle(1, asyncio.Event()),
            line.fetch("1", "BODY[]"),
        ):
            with losing(reason):
                await again


@pytest.mark.parametrize(
    "command", ["STORE", "EXPUNGE", "FETCH", "SEARCH", "NOOP", "SELECT", "LIST", "IDLE", "DONE", "LOGIN"]
)
@both_loops
async def test_every_command_ends_in_time_when_the_server_falls_silent(command: str) -> None:
    mute = False

    async def handler(tag: bytes, name: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
        return mute and command.encode() in name + args

    async with asyncio.timeout(LIMIT), talking(handler, timeout=SHORT) as (_, line):
        mute = True
        calls = {
            "STORE": lambda: line.mark([1], ["\\Deleted"]),
            "EXPUNGE": lambda: line.expunge([1]),
            "FETCH": lambda: line.fetch("1:*", "BODY.PEEK[]"),
            "SEARCH": lambda: line.search_since(date(2026, 1, 1)),
            "NOOP": line.noop,
            "SELECT": lambda: line.select("INBOX"),
            "LIST": line.list_folders,
            "IDLE": lambda: line.idle(60, asyncio.Event()),
            "DONE": lambda: line.idle(0.01, asyncio.Event()),
            "LOGIN": lambda: line.login("me", Secret(PASSWORD)),
        }
        with losing("timeout"):
            await calls[command]()
        with losing("timeout"):
            await line.noop()


@both_loops
async def test_progress_stretches_the_time_limit_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def drip(tag: bytes, command: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
        if command != b"NOOP":
            return False
        with contextlib.suppress(OSError):
            for count in range(100):
                writer.write(b"* OK still here\r\n")
                await asyncio.sleep(0.06)
                if args and count == 10:
                    writer.write(tag + b" OK done\r\n")
                    break
        return True

    monkeypatch.setattr(imap_wire, "_PATIENCE", 5)
    async with talking(drip, timeout=0.3) as (_, line):
        await line._wire.run(b"NOOP x", "NOOP")  # twice the limit, but never silent
        began = asyncio.get_running_loop().time()
        with losing("timeout"):
            await line.noop()
        assert 0.49 < asyncio.get_running_loop().time() - began < LIMIT


@both_loops
async def test_logout_takes_no_longer_than_two_seconds_and_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imap, "_LOGOUT_TIMEOUT", 0.05)
    async with talking(answering(b"LOGOUT")) as (_, line):
        await line.logout()
        with losing("cancelled"):
            await line.noop()
    async with talking(answering(b"LOGOUT", b"* BYE\r\nTAG OK bye\r\n")) as (_, line):  # and never closes
        await line.logout()
        assert line._wire.transport.is_closing()


@both_loops
async def test_a_cancelled_command_takes_its_connection_along() -> None:
    async with talking(answering(b"NOOP")) as (fake, line):
        noop = asyncio.create_task(line.noop())
        await fake.received(b"NOOP")
        noop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await noop
        with losing("cancelled"):
            await line.noop()


@pytest.mark.parametrize("method", ["idle", "wait"])
@both_loops
async def test_cancelling_idle_drops_the_connection_and_cancelling_wait_does_not(method: str) -> None:
    async with talking() as (fake, line):
        waiting = asyncio.create_task(getattr(line, method)(60, asyncio.Event()))
        await (fake.received(b"IDLE") if method == "idle" else asyncio.sleep(0))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        if method == "wait":
            await line.noop()
        else:
            with losing("cancelled"):
                await line.noop()


# ---------------------------------------------------------------- EXISTS is never lost


@pytest.mark.parametrize(
    ("wanted", "answer"),
    [
        (b"DONE", b"* 2 EXISTS\r\nIDLETAG OK done\r\n"),
        (b"IDLE", b"+ idling\r\n* 2 EXISTS\r\n"),
        (b"IDLE", b"* 2 EXISTS\r\n+ idling\r\n"),
        (b"IDLE", b"+ idling\r\n* 2 EXISTS\r\n* 1 REC"),
    ],
)
@both_loops
async def test_exists_is_heard_wherever_in_idle_it_comes(wanted: bytes, answer: bytes) -> None:
    async def handler(tag: bytes, command: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
        if command == wanted:
            writer.write(answer.replace(b"IDLETAG", fake.session.idle_tag))
        elif command == b"DONE" and answer.endswith(b"REC"):
            writer.write(b"ENT\r\n" + fake.session.idle_tag + b" OK done\r\n")
            return True
        return command == wanted

    async with talking(handler) as (fake, line):
        await line.idle(0.05 if wanted == b"DONE" else 60, asyncio.Event())
        assert line.take_rings()
        assert not line.take_rings()
        await line.noop()


@both_loops
async def test_exists_with_and_after_a_fetch_is_heard() -> None:
    answer = b"* 1 FETCH (UID 1 FLAGS ())\r\n* 2 EXISTS\r\nTAG OK x\r\n* 3 EXISTS\r\n"
    async with talking(answering(b"FETCH", answer)) as (_, line):
        assert await line.fetch("1", "BODY[]") == []
        assert line.take_rings()
        await line.noop()
        assert line._wire.exists == 3


@both_loops
async def test_exists_in_the_segment_of_a_final_bye_or_garbage_is_heard() -> None:
    for end, reason in ((b"* BYE out\r\n", "bye"), (b"?? nonsense\r\n", "protocol_error")):
        async with talking() as (fake, line):
            fake.push(b"* 2 EXISTS\r\n" + end)
            with losing(reason):
                await line.wait(60, asyncio.Event())
                await line.wait(60, asyncio.Event())
            assert line.rung is not None


@both_loops
async def test_only_growth_rings() -> None:
    async with talking(mails=3) as (fake, line):
        fake.push(b"* 3 EXISTS\r\n* 0 RECENT\r\n* 2 EXPUNGE\r\n* 2 EXISTS\r\n* 1 EXISTS\r\n")
        await line.noop()
        assert line.rung is None
        fake.push(b"* 1 EXPUNGE\r\n* 1 EXISTS\r\n")
        await line.wait(60, asyncio.Event())
        assert line.rung is not None


async def test_mails_that_went_are_counted_whether_the_server_says_so_or_only_that_there_are_fewer() -> None:
    async with talking(mails=5) as (fake, line):
        assert line.expunged == 0
        fake.push(b"* 5 EXPUNGE\r\n* 4 EXISTS\r\n")
        await line.noop()
        assert line.expunged == 1
        fake.push(b"* 2 EXISTS\r\n")
        await line.noop()
        assert line.expunged == 3
        fake.push(b"* 4 EXISTS\r\n")
        await line.noop()
        assert line.expunged == 3


async def test_a_folder_that_is_entered_anew_may_have_lost_mails_and_one_that_is_entered_first_has_lost_none() -> None:
    async with talking(mails=5) as (_, line):
        assert line.expunged == 0
        await line.select("INBOX")
        assert line.expunged == 1


@both_loops
async def test_a_select_rings_for_nothing_but_what_comes_after_it() -> None:
    answer = b"* 7 EXISTS\r\n* OK [UIDVALIDITY 9] x\r\n* 8 EXISTS\r\nTAG OK x\r\n* 9 EXISTS\r\n"
    async with talking(mails=3) as (fake, line):
        fake.push(b"* 4 EXISTS\r\n")
        await line.wait(60, asyncio.Event())
        before = line.rung
        fake.handler = answering(b"SELECT", answer)
        assert (await line.select("INBOX")).exists == 8
        await line.wait(60, asyncio.Event())
        assert line.rung not in (None, before)


@both_loops
async def test_a_pending_ring_keeps_idle_from_being_entered() -> None:
    async with talking() as (fake, line):
        fake.append(MAIL)
        await line.noop()
        rung = line.rung
        await line.idle(60, asyncio.Event())
        await line.wait(60, asyncio.Event())
        assert rung is not None
        assert line.take_rings()[0][1] == rung
        assert b"IDLE" not in b" ".join(fake.lines)


@both_loops
async def test_the_ring_bears_the_stamp_of_the_read_with_the_line_s_first_byte() -> None:
    ticks = iter(range(1_000_000))

    def clock() -> Instant:
        return Instant(float(next(ticks)), 0.0, "boot")

    async with FakeImap() as fake:
        line = await Connection.open(fake.server(), clock=clock, timeout=LIMIT)
        await line.select("INBOX")
        before = line.last_contact
        for piece in (b"* 1 EXI", b"ST", b"S\r", b"\n"):
            fake.push(piece)
            seen = line.last_contact
            while line.last_contact == seen:  # noqa: ASYNC110 - one turn of the loop at a time
                await asyncio.sleep(0)
        assert line.last_contact.wall == before.wall + 4
        assert line.rung == Instant(before.wall + 1, 0.0, "boot")
        seen = line.last_contact
        fake.push(b"* 2 EXISTS\r\n")
        while line.last_contact == seen:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert line.rung == Instant(before.wall + 1, 0.0, "boot")  # the first one stays until it is taken
        first, second = line.take_rings()
        assert first[1].wall < second[1].wall
        line.abort()


@pytest.mark.parametrize("method", ["idle", "wait"])
@both_loops
async def test_waiting_ends_by_the_wake_event_and_by_time(method: str) -> None:
    async with talking() as (fake, line):
        wake = asyncio.Event()
        waiting = asyncio.create_task(getattr(line, method)(60, wake))
        await (fake.received(b"IDLE") if method == "idle" else asyncio.sleep(0))
        wake.set()
        await waiting
        await getattr(line, method)(60, wake)  # set already
        wake.clear()
        await getattr(line, method)(0.01, wake)
        assert line.rung is None
        assert fake.lines.count(b"DONE") == (2 if method == "idle" else 0)
        await line.noop()


@both_loops
async def test_one_idle_leaves_nothing_behind_for_the_next() -> None:
    async with talking() as (fake, line):
        for count in range(3):
            waiting = asyncio.create_task(line.idle(60, asyncio.Event()))
            await fake.received(b"IDLE", count + 1)
            assert not waiting.done()
            fake.append(MAIL)
            await waiting
            assert line.take_rings()


@both_loops
async def test_an_idle_that_is_refused_or_ended_by_the_server_is_told_apart() -> None:
    async with talking(answering(b"IDLE", b"TAG NO [LIMIT] nope\r\n")) as (_, line):
        with pytest.raises(Refused) as caught:
            await line.idle(60, asyncio.Event())
        assert (caught.value.command, caught.value.code, caught.value.text) == ("IDLE", "LIMIT", "nope")
        await line.noop()
    async with talking(answering(b"IDLE", b"+ ok\r\n+ ok\r\nTAG OK enough\r\n")) as (fake, line):
        await line.idle(60, asyncio.Event())
        assert b"DONE" not in fake.lines
        await line.noop()
    async with talking() as (fake, line):
        waiting = asyncio.create_task(line.idle(60, asyncio.Event()))
        await fake.received(b"IDLE")
        await asyncio.sleep(0.01)
        fake.push(fake.session.idle_tag + b" BAD enough\r\n")
        with pytest.raises(Refused, match="enough"):
            await waiting
    async with talking(capabilities=b"IMAP4rev1") as (_, line):
        with pytest.raises(Refused, match="not offered"):
            await line.idle(60, asyncio.Event())


@both_loops
async def test_a_silent_idle_is_no_time_out() -> None:
    async with talking(timeout=0.05) as (_, line):
        await line.idle(0.15, asyncio.Event())
        await line.noop()


@both_loops
async def test_a_second_plus_is_not_taken_for_the_end_of_idle() -> None:
    async def handler(tag: bytes, command: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
        if command == b"DONE":
            writer.write(b"+ what?\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)
        return False

    async with talking(handler) as (_, line):
        await line.idle(0.01, asyncio.Event())
        await line.noop()


@both_loops
async def test_1500_mails_deleted_by_another_client_while_idling_do_no_harm() -> None:
    async with talking(mails=1600) as (fake, line):
        waiting = asyncio.create_task(line.idle(60, asyncio.Event()))
        await fake.received(b"IDLE")
        for uid in range(1, 1501):
            del fake.folders["INBOX"].mails[uid]
        fake.tell_idlers()
        fake.append(MAIL)
        await waiting
        assert line._wire.exists == 101


# ---------------------------------------------------------------- corruption


@both_loops
async def test_concurrent_commands_go_one_after_the_other() -> None:
    async with talking(mails=3) as (_, line):
        found = await asyncio.gather(*(line.fetch(str(uid), "BODY.PEEK[]") for uid in (1, 2, 3)), line.noop())
        assert [mails[0].uid for mails in found[:3]] == [1, 2, 3]


@both_loops
async def test_20000_lines_in_one_answer_are_complete_and_cost_ten_times_what_2000_do() -> None:
    async def cpu(number: int) -> float:
        lines = b"".join(b"* %d FETCH (UID %d BODY[] {1}\r\nx)\r\n" % (uid, uid) for uid in range(1, number + 1))
        async with talking(answering(b"FETCH", lines + b"TAG OK x\r\n")) as (_, line):
            began = time.process_time()
            assert [mail.uid for mail in await line.fetch("1:*", "BODY[]")] == list(range(1, number + 1))
            return time.process_time() - began

    few = min([await cpu(2000) for _ in range(3)])
    assert await cpu(20_000) < 40 * few  # quadratic work would be 100 times as much


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (b"* 1 FETCH (BODY[HEADER.FIELDS (X Y)] {3}\r\na\r\n UID 7 FLAGS (\\Seen ($x)))\r\n", b"a\r\n"),
        (b'* 1 FETCH (ENVELOPE ("d" "sub (" NIL) UID 7 BODY[] "quo\\"ted")\r\n', b'quo"ted'),
        (b"* 1 FETCH (UID 7 BODY[] {0}\r\n)\r\n", b""),
        (b"* 1 FETCH (UID 7 BODY[] NIL)\r\n", b""),
        (b"* 1 FETCH (UID 7 BINARY[1] ~{2}\r\n\0\xff)\r\n", b"\0\xff"),
        (b"* 1 FETCH (UID 7 BODY[]<0> {18}\r\n* 3 EXISTS {12}\r\n))\r\n", b"* 3 EXISTS {12}\r\n)"),
        (b"* 1 fetch (uid 7 body[text] {2}\r\n\xe9\xff)\r\n", b"\xe9\xff"),
    ],
)
@both_loops
async def test_content_comes_through_whatever_it_looks_like(answer: bytes, content: bytes) -> None:
    noise = b"* \xe9\xff foo\r\n* 1 FETCH (FLAGS (\\Seen))\r\n* 1 FETCH (UID 7 FLAGS ())\r\n* OK see {12}\r\n"
    async with talking(answering(b"FETCH", noise, answer, noise, b"TAG OK \xff fetched {3}\r\n")) as (_, line):
        found = await line.fetch("7", "BODY[]")
        assert [(mail.uid, mail.content) for mail in found] == [(7, content)]
        await line.noop()


@both_loops
async def test_the_last_mail_is_not_taken_for_a_new_one() -> None:
    async with talking(mails=3) as (fake, line):
        assert await line.fetch("4:*", "BODY.PEEK[]") == []
        assert [mail.uid for mail in await line.fetch("3:*", "BODY.PEEK[]")] == [3]
        assert b"UID FETCH 4:* (UID INTERNALDATE BODY.PEEK[])" in fake.lines[-2]


@both_loops
async def test_search_results_may_come_in_several_lines() -> None:
    answer = b"* SEARCH 9 4\r\n* SEARCH\r\n* 5 EXISTS\r\n* SEARCH 7 (MODSEQ 917162500)\r\nTAG OK x\r\n"
    async with talking(answering(b"SEARCH", answer)) as (fake, line):
        assert await line.search_since(date(2026, 1, 5)) == [4, 7, 9]
        assert fake.lines[-1].endswith(b"UID SEARCH SINCE 05-Jan-2026")
        assert line.rung is not None


@both_loops
async def test_folders_come_with_special_uses_literal_names_and_modified_utf7() -> None:
    answer = (
        b'* LIST (\\HasNoChildren \\Junk) "/" "Entw&APw-rfe/a\\"b"\r\n* LIST (\\Noselect) NIL {6}\r\nli (t)\r\n'
        b'* LIST () "." INBOX ("CHILDINFO" ("SUBSCRIBED"))\r\n* LIST () "." {2}\r\n\r\n\r\n'
        b'* LIST (\r\n* LIST () "/"\r\n'
        b"TAG OK x\r\n"
    )
    async with talking(answering(b"LIST", answer)) as (fake, line):
        junk, literal, inbox = await line.list_folders()
        assert (junk.name, junk.raw, junk.delimiter) == ('Entwürfe/a"b', 'Entw&APw-rfe/a"b', "/")
        assert junk.attributes == {"\\hasnochildren", "\\junk"}
        assert (literal.raw, literal.delimiter) == ("li (t)", "")
        assert inbox.raw == "INBOX"
        assert b'LIST "" "*" RETURN (SPECIAL-USE)' in fake.lines[-1]
        with pytest.raises(Refused) as caught:
            await line.select(junk.raw)
        assert caught.value.code == "NONEXISTENT"
        assert fake.lines[-1].endswith(b'SELECT "Entw&APw-rfe/a\\"b"')
    async with talking(capabilities=b"IMAP4rev1 SPECIAL-USE") as (fake, line):
        await line.list_folders()
        assert fake.lines[-1].endswith(b'LIST "" "*"')


@pytest.mark.parametrize(
    "nonsense",
    [
        b"ZZZZ9 OK not our tag\r\n",
        b"TAG MAYBE\r\n",
        b"* 1 FETCH (UID 1 BODY[] {67108865}\r\n",
        b"* 1 FETCH (UID 1 BODY[] {99999999999999999999}\r\n",
        b"* 1 FETCH (UID 1 X {67108864}\r\n",
        b"x" * (imap_syntax.MAX_LINE + 2),
        b"* OK [UIDVALIDITY 2] changed\r\n",
    ],
    ids=lambda nonsense: nonsense[:24].decode().strip(),
)
@both_loops
async def test_nonsense_ends_the_connection_rather_than_the_truth(nonsense: bytes) -> None:
    handler = answering(b"NOOP", nonsense)
    async with talking(handler, timeout=SHORT) as (_, line):
        with losing("timeout" if b"67108864" in nonsense else "protocol_error"):  # this one is allowed, but never comes
            await line.noop()


@both_loops
async def test_the_same_uidvalidity_said_again_is_no_change() -> None:
    async with talking(answering(b"NOOP", b"* OK [UIDVALIDITY 1] same\r\nTAG OK x\r\n")) as (_, line):
        await line.noop()


@both_loops
async def test_a_folder_without_uidvalidity_is_refused() -> None:
    async with talking() as (fake, line):
        fake.handler = answering(b"SELECT", b"* 1 EXISTS\r\nTAG OK [READ-ONLY] x\r\n")
        with pytest.raises(Refused, match="UIDVALIDITY"):
            await line.select("INBOX")


@both_loops
async def test_no_argument_can_smuggle_in_a_second_command() -> None:
    async with talking() as (fake, line):
        with pytest.raises(ValueError, match="CR or LF"):
            await line.select("INBOX\r\nA1 EXPUNGE")
        await line.noop()
        assert not any(b"EXPUNGE" in one for one in fake.lines)


# ---------------------------------------------------------------- deletion


@both_loops
async def test_only_named_mails_are_deleted_even_if_others_are_marked() -> None:
    async with talking(mails=4) as (fake, line):
        fake.folders["INBOX"].mails[1].flags.add(b"\\Deleted")  # another client's
        await line.mark([2, 4, 3], ["\\Deleted", "\\Seen"])
        await line.expunge([2, 3])
        assert set(fake.folders["INBOX"].mails) == {1, 4}
        assert any(one.endswith(b"UID STORE 2:4 +FLAGS (\\Deleted \\Seen)") for one in fake.lines)
        assert line._wire.exists == 2
        await line.mark([], ["\\Deleted"])
        await line.expunge([])
        for bad in (0, -1, 1 << 32):
            with pytest.raises(ValueError, match="not a UID"):
                await line.expunge([bad])


@both_loops
async def test_without_uidplus_nothing_is_expunged() -> None:
    async with talking(capabilities=b"IMAP4rev1 IDLE") as (fake, line):
        with pytest.raises(Refused, match="UIDPLUS"):
            await line.expunge([1])
        await line.logout()
        words = b" ".join(fake.lines).split()
        assert b"EXPUNGE" not in words
        assert b"CLOSE" not in words


# ---------------------------------------------------------------- log-in and secrets


@pytest.mark.parametrize(
    ("capabilities", "password", "expected"),
    [
        (CAPABILITIES, 'pa"ss\\word', [b'LOGIN "me" "pa\\"ss\\\\word"']),
        (CAPABILITIES, "pässwörd", [b"AUTHENTICATE PLAIN AG1lAHDDpHNzd8O2cmQ="]),
        (b"IMAP4rev1 AUTH=PLAIN", "pässwörd", [b"AUTHENTICATE PLAIN", b"AG1lAHDDpHNzd8O2cmQ="]),
        (b"IMAP4rev1", "pässwörd", [b'LOGIN "me" ' + "pässwörd".encode()]),
        (b"IMAP4rev1", "two\r\nlines", [b'LOGIN "me" two\r\nlines']),
        (b"IMAP4rev1", "", [b'LOGIN "me" ""']),
    ],
)
@both_loops
async def test_any_password_reaches_the_server_whole(capabilities: bytes, password: str, expected: list[bytes]) -> None:
    async with FakeImap(capabilities=capabilities) as fake:
        async with await Connection.open(fake.server(), clock=now, timeout=LIMIT) as line:
            await line.login("me", Secret(password))
        # without tags, which literal replies have not
        sent = [one.partition(b" ")[2] or one for one in fake.lines]
        assert [one for one in sent if one != b"CAPABILITY"] == expected


@both_loops
async def test_a_refused_login_is_tried_once_and_says_why() -> None:
    async with FakeImap(users={"me": "other"}) as fake:
        async with await Connection.open(fake.server(), clock=now, timeout=LIMIT) as line:
            with pytest.raises(AuthRefused) as caught:
                await line.login("me", Secret(PASSWORD))
        assert (caught.value.command, caught.value.code) == ("LOGIN", "AUTHENTICATIONFAILED")
        assert sum(PASSWORD.encode() in line for line in fake.lines) == 1


@both_loops
async def test_a_challenge_after_the_password_is_answered_by_an_empty_line() -> None:
    async def handler(tag: bytes, command: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
        nonlocal kept
        if command == b"AUTHENTICATE":
            kept = tag
            writer.write(b"+ eyJzdGF0dXMiOiI0MDAifQ==\r\n")
        elif not command:
            writer.write(kept + b" NO [AUTHENTICATIONFAILED] bad token\r\n")
        return command in (b"AUTHENTICATE", b"")

    kept = b""
    async with FakeImap(handler) as fake, await Connection.open(fake.server(), clock=now, timeout=LIMIT) as line:
        with pytest.raises(AuthRefused, match="bad token"):
            await line.login("me", Secret("pässwörd"))


@both_loops
async def test_a_log_in_that_is_asked_for_more_and_more_ends() -> None:
    async def greedy(tag: bytes, command: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
        if command == b"AUTHENTICATE":
            writer.write(b"+ more\r\n" * 3)
        return command in (b"AUTHENTICATE", b"")

    async with FakeImap(greedy) as fake, await Connection.open(fake.server(), clock=now, timeout=LIMIT) as line:
        with losing("protocol_error"):
            await line.login("me", Secret("pässwörd"))


@both_loops
async def test_logindisabled_keeps_the_password_here() -> None:
    async with FakeImap(capabilities=b"IMAP4rev1 LOGINDISABLED AUTH=PLAIN") as fake:
        async with await Connection.open(fake.server(), clock=now, timeout=LIMIT) as line:
            with pytest.raises(AuthRefused, match="LOGINDISABLED"):
                await line.login("me", Secret(PASSWORD))
        assert not any(b"LOGIN" in line or b"AUTHENTICATE" in line for line in fake.lines)


@both_loops
async def test_logindisabled_under_tls_leaves_authenticate_plain(tls: tuple[ssl.SSLContext, Path]) -> None:
    async with FakeImap(capabilities=b"IMAP4rev1 LOGINDISABLED AUTH=PLAIN", tls=tls[0]) as fake:
        async with await Connection.open(fake.server(tls[1]), clock=now, timeout=LIMIT) as line:
            await line.login("me", Secret(PASSWORD))
        assert any(line.endswith(b"AUTHENTICATE PLAIN") for line in fake.lines)


@pytest.mark.parametrize(
    "answer",
    [
        b"XXXX9 NO go away\r\n",
        b"TAG NO user me, password hunter2 secret: wrong\r\n",
        b"TAG BAD cannot parse: LOGIN me hunter2 secret" + b"x" * 400 + b"hunter2 secret\r\n",
        b"* BYE hunter2 secret is wrong\r\n",
        b"",
    ],
)
@both_loops
async def test_no_error_and_no_log_line_ever_holds_the_password(
    answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with FakeImap(answering(b"LOGIN", answer)) as fake:
            line = await Connection.open(fake.server(), clock=now, timeout=0.1)
            with pytest.raises(imap.ImapError) as caught:
                await line.login("me", Secret(PASSWORD))
            with contextlib.suppress(imap.ImapError):
                await line.noop()
            line.abort()
        assert any(PASSWORD.encode() in line for line in fake.lines)
    assert "hunter2" not in str(caught.value) + repr(caught.value) + repr(caught.value.args) + caplog.text
    assert "hunter2" not in repr(vars(line._wire))


def test_aioimaplib_s_logger_lets_no_login_through(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("aioimaplib.aioimaplib")
    assert log.level == logging.WARNING
    log.error("unexpected tagged response with pending sync command (%s)", "A1 LOGIN me hunter2")
    log.error("Sending : b'A1 AUTHENTICATE XOAUTH2 dG9rZW4='")
    assert not caplog.text


@both_loops
async def test_capabilities_are_those_of_after_the_login() -> None:
    answer = b"TAG OK [CAPABILITY IMAP4rev1 Idle MOVE UIDPLUS] ok\r\n"
    async with FakeImap(answering(b"LOGIN", answer), capabilities=b"IMAP4rev1 STARTTLS") as fake:
        line = await Connection.open(fake.server(), clock=now, timeout=LIMIT)
        assert line.capabilities == {"IMAP4REV1", "STARTTLS"}
        await line.login("me", Secret(PASSWORD))
        assert line.capabilities == {"IMAP4REV1", "IDLE", "MOVE", "UIDPLUS"}
        assert sum(b"CAPABILITY" in one for one in fake.lines) == 1
        line.abort()
    async with talking(greeting=b"* OK [CAPABILITY IMAP4rev1 LITERAL+] hi\r\n") as (fake, line):
        assert line.has("UIDPLUS")
        assert not line.has("LITERAL+")


# ---------------------------------------------------------------- the contract with aioimaplib


@both_loops
async def test_aioimaplib_is_what_we_build_upon() -> None:
    wire = aioimaplib.IMAP4ClientProtocol(asyncio.get_running_loop())
    assert wire.loop is asyncio.get_running_loop()
    assert wire.transport is None
    assert wire.pending_sync_command is None
    tags = [wire.new_tag(), wire.new_tag()]
    assert tags[0] != tags[1]
    assert all(tag.isascii() and tag.isalnum() for tag in tags)
    transport = asyncio.Transport()
    wire.connection_made(transport)
    assert wire.transport is transport
    assert wire.state == aioimaplib.CONNECTED != aioimaplib.NONAUTH
    assert not inspect.iscoroutinefunction(aioimaplib.IMAP4ClientProtocol.data_received)

    command = aioimaplib.Command("NOOP", "A1", loop=wire.loop)
    command.append_to_resp([b"anything"])
    command.close(b"[X] text", "OK")
    await command.wait()
    assert tuple(command.response) == ("OK", [[b"anything"], b"[X] text"])

    command = aioimaplib.Command("NOOP", "A2", loop=wire.loop)
    command._exception = Lost("eof")
    command._event.set()
    with losing("eof"):
        await command.wait()
    command = aioimaplib.Command("IDLE", "A3", loop=wire.loop)
    command._event.set()
    await command.wait()
    command._event.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await command.wait()


def test_only_one_module_imports_aioimaplib() -> None:
    root = Path(imap.__file__).parents[1]
    importers = [path.name for path in root.rglob("*.py") if "import aioimaplib" in path.read_text()]
    assert importers == ["imap_wire.py"]


# ---------------------------------------------------------------- syntax

LINES = st.binary(max_size=30).map(lambda text: text.replace(b"\r", b"").replace(b"\n", b"").replace(b"}", b""))
DATA = st.lists(st.tuples(LINES, st.binary(max_size=40)), max_size=3)
RESPONSES = st.one_of(
    st.tuples(DATA, LINES).map(lambda it: [b"* 1 FETCH "] + [part for pair in it[0] for part in pair] + [it[1]]),
    st.sampled_from([[b"* OK text {5}"], [b"A1 OK {7}"], [b"+ {3}"], [b""], [b"* bye {1}"], [b"* x {a}"], [b"\r"]]),
)


def to_wire(response: list[bytes]) -> tuple[bytes, list[bytes]]:
    """The bytes of a response, and the parts that a framer makes of them."""
    if len(response) == 1:
        return response[0] + b"\r\n", response
    head, *rest = response
    parts, line = [], head
    for text, literal in zip(rest[:-1:2], rest[1::2], strict=False):
        parts += [line + text + b"{%d}" % len(literal), literal]
        line = b""
    parts.append(line + rest[-1])
    return b"".join(part + (b"" if index % 2 else b"\r\n") for index, part in enumerate(parts)), parts


@given(st.lists(RESPONSES, max_size=6), st.lists(st.integers(1, 40), max_size=30))
def test_responses_are_the_same_however_the_bytes_are_cut(responses: list[list[bytes]], cuts: list[int]) -> None:
    wires = [to_wire(response) for response in responses]
    stream = b"".join(wire for wire, _ in wires)
    expected = [parts for _, parts in wires]
    starts = [sum(len(wire) for wire, _ in wires[:index]) for index in range(len(wires))]

    def framed(pieces: list[bytes]) -> list[tuple[list[bytes], int]]:
        framer: Framer[int] = Framer()
        return [one for index, piece in enumerate(pieces) for one in framer.feed(piece, index)]

    bounds = [0]
    for cut in cuts:
        bounds.append(min(bounds[-1] + cut, len(stream)))
    bounds.append(len(stream))
    pieces = [stream[a:b] for a, b in itertools.pairwise(bounds) if a < b]
    ends = [sum(map(len, pieces[: index + 1])) for index in range(len(pieces))]
    stamps = [next(index for index, end in enumerate(ends) if start < end) for start in starts]
    assert [parts for parts, _ in framed([stream])] == expected
    assert framed([stream[index : index + 1] for index in range(len(stream))]) == list(
        zip(expected, starts, strict=True)
    )
    assert framed(pieces) == list(zip(expected, stamps, strict=True))


@given(st.binary(max_size=300))
def test_framing_and_parsing_survive_any_bytes(noise: bytes) -> None:
    with contextlib.suppress(Malformed):
        for parts, _ in Framer[int]().feed(b"* 1 FETCH (" + noise + b"\r\n", 0):
            imap_syntax.parse_fetch(parts)
            imap_syntax.parse_list(parts)
            imap_syntax.parse_search(parts)
            imap_syntax.status(parts[0])


@pytest.mark.parametrize("unit", [b'"', b'"\\', b"BODY[ ", b"(", b"(x ", b'" "', b"{1}"])
def test_parsing_takes_linear_time(unit: bytes) -> None:
    parts = [b"* 1 FETCH (" + unit * (imap_syntax.MAX_LINE // 8 // len(unit))]
    began = now().boot
    imap_syntax.parse_fetch(parts)
    imap_syntax.parse_list(parts)
    assert now().boot - began < 3.0


def test_endless_literals_in_one_response_are_malformed() -> None:
    stream = (b"* 1 FETCH (X {30000000}\r\n" + bytes(30_000_000)) * 3
    with pytest.raises(Malformed):
        list(Framer[int]().feed(stream, 0))


@pytest.mark.parametrize("size", [imap_syntax.MAX_LINE, imap_syntax.MAX_LINE + 1])
def test_the_longest_line_is_as_long_however_it_is_cut(size: int) -> None:
    line = b"* " + b"x" * (size - 2) + b"\r\n"
    for pieces in ([line], [line[:-1], line[-1:]], [line[:-2], line[-2:]]):
        framer: Framer[int] = Framer()
        with pytest.raises(Malformed) if size > imap_syntax.MAX_LINE else contextlib.nullcontext():
            assert [parts for piece in pieces for parts, _ in framer.feed(piece, 0)] == [[line[:-2]]]


def test_endless_empty_literals_are_malformed_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    # 5 octets each on the wire, some 100 in memory
    monkeypatch.setattr(imap_syntax, "MAX_RESPONSE", 1 << 16)
    framer: Framer[int] = Framer()
    stream = b"* 1 FETCH (" + b"{0}\r\n" * (imap_syntax.MAX_RESPONSE // 100)
    with pytest.raises(Malformed, match="response too long"):
        list(framer.feed(stream, 0))


@given(st.text())
def test_folder_names_survive_modified_utf7(name: str) -> None:
    assert encode_utf7(name).isascii()
    assert imap_syntax.decode_utf7(encode_utf7(name)) == name


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),  # RFC 3501 §5.1.3
        ("Entw&APw-rfe", "Entwürfe"),
        ("&-", "&"),
        ("a&b", "a&b"),
        ("&AAA", "&AAA"),
        ("&A-", "&A-"),
        ("&2D0-", "&2D0-"),  # half a surrogate pair
    ],
)
def test_known_folder_names_are_read(raw: str, name: str) -> None:
    assert imap_syntax.decode_utf7(raw) == name


@pytest.mark.parametrize("raw", [b"a&AAoAGw-[31mb", b"a\x07\x1b[31mb", b"a&AIUgLg-[31mb"])
def test_a_folder_s_name_cannot_speak_to_the_terminal(raw: bytes) -> None:
    folder = imap_syntax.parse_list([b"* LIST () NIL {9}", raw, b""])
    assert folder is not None
    assert folder.name == "a\ufffd\ufffd[31mb"
    assert folder.raw.encode() == raw


@given(st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)))
def test_internal_dates_are_read_as_they_were_written(at: datetime) -> None:
    seconds = at.replace(tzinfo=UTC, microsecond=0).timestamp()
    assert imap_syntax.internal_date(date_time(seconds).encode()) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"14-Nov-2023 23:13:20 +0100", 1_700_000_000.0),
        (b" 1-Jan-1970 00:00:00 +0000", 0.0),
        (b"1-jan-1970 00:00:00 -0030", 1800.0),
        (b"01-Jan-1970 00:00:00 +0000", 0.0),
        (b"32-Jan-1970 00:00:00 +0000", None),
        (b"01-Foo-1970 00:00:00 +0000", None),
        (b"01-Jan-0000 00:00:00 +0000", None),
        (b"01-Jan-1970 00:00:00 GMT", None),
        (b"01-Jan-1970 00:00:00 +2460", None),
        (b"01-Jan-1970 00:00:00 +9959", None),
        (b"", None),
    ],
)
def test_internal_dates_are_read_strictly(text: bytes, seconds: float | None) -> None:
    assert imap_syntax.internal_date(text) == seconds


@given(st.sets(st.integers(1, 3000)))
def test_uid_sets_name_these_uids_and_no_others(uids: set[int]) -> None:
    sets = imap_syntax.uid_sets(uids, 40)
    assert all(len(one) <= 40 for one in sets)
    ranges = [[int(end) for end in word.split(":")] for one in sets for word in one.split(",")]
    named = [uid for ends in ranges for uid in range(ends[0], ends[-1] + 1)]
    assert named == sorted(uids)
