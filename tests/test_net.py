"""Sockets notice a peer that is gone: real packets are really lost, and the kernel is waited for.

Rule: all cases run at the same time, under both loops, with the settings that the daemon uses.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import uvloop

from probe.clock import now
from probe.core.events import Failed, Instant, Sending, Unconfirmed, elapsed
from probe.core.settings import Account
from probe.mail import net
from probe.mail.imap import Connection, Lost
from probe.mail.smtp import Submitter

from .bed.netfault import dropped, why_not_dropped
from .fake_imap import FakeImap, certificate
from .fake_smtp import Answer, FakeSmtp, Script, Step

SLOWEST = 14.0  # seconds; measured: 8.2 to 9.4
FAR = 600.0  # a time limit of ours that must not be the one to notice
Tls = tuple[ssl.SSLContext, Path]
Measured = tuple[str, str, float]  # what became of it, why, and how long that took


async def test_sockets_have_the_settings_that_the_measurements_below_are_about() -> None:
    async with await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        sock = await net.connect(await net.resolve("127.0.0.1", port, 5.0), 5.0)
        with sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            assert [sock.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [5, 2, 3, 8000]


# ---------------------------------------------------------------- the mailbox


@contextlib.asynccontextmanager
async def watching(tls: Tls | None, clock: Callable[[], Instant] = now) -> AsyncIterator[tuple[FakeImap, Connection]]:
    """INBOX is selected and all that was said is acknowledged: an answer came after it."""
    context, ca = tls or (None, None)
    async with FakeImap(tls=context) as fake, await Connection.open(fake.server(ca), clock=clock, timeout=FAR) as line:
        await line.select("INBOX")
        yield fake, line


async def lost(waiting: Awaitable[object]) -> Measured:
    began = now()
    with pytest.raises(Lost) as caught:
        await waiting
    return "lost", caught.value.reason, elapsed(began, now())


async def imap_without_a_command(tls: Tls) -> Measured:
    async with watching(None) as (fake, line):
        with dropped(fake.port):
            return await lost(line.wait(FAR, asyncio.Event()))


async def imap_in_idle_under_tls(tls: Tls) -> Measured:
    heard = asyncio.Event()

    def clock() -> Instant:
        """Is asked at every byte."""
        heard.set()
        return now()

    async with watching(tls, clock) as (fake, line):
        heard.clear()
        idle = asyncio.create_task(line.idle(FAR, asyncio.Event()))
        await heard.wait()  # its "+"
        with dropped(fake.port):
            return await lost(idle)


async def imap_whose_command_goes_nowhere(tls: Tls) -> Measured:
    async with watching(tls) as (fake, line):
        with dropped(fake.port):
            return await lost(line.noop())


async def imap_whose_answer_goes_nowhere(tls: Tls) -> Measured:
    """The server hears us all the time; what it says, acknowledgements too, is lost."""
    async with watching(None) as (fake, line):
        with dropped(fake.port, "from"):
            measured = await lost(line.noop())
        assert fake.lines[-1].endswith(b"NOOP")
        return measured


async def imap_that_is_told_of_mail_and_cannot_say_done(tls: Tls) -> Measured:
    """The server is heard all the time; what we say is lost."""
    async with watching(tls) as (fake, line):
        idle = asyncio.create_task(line.idle(FAR, asyncio.Event()))
        await fake.received(b"IDLE")
        with dropped(fake.port, "to"):
            fake.append(b"Subject: x\r\n\r\n")
            measured = await lost(idle)
        assert line.rung
        assert not any(b"DONE" in said for said in fake.lines)
        return measured


# ---------------------------------------------------------------- the submission


async def submission(step: Step, direction: str, content: bytes = b"Subject: x\r\n\r\n") -> tuple[FakeSmtp, Measured]:
    """One mail, from the moment on at which the server has come to this step: what is lost is its answer, or what
    the client says next."""
    with contextlib.ExitStack() as faults:
        began: list[Instant] = []

        def lose() -> Answer:
            began.append(now())
            faults.enter_context(dropped(fake.port, direction))  # type: ignore[arg-type]
            return None

        script: Script = {step: lose}
        async with FakeSmtp(script, auth=None) as fake:
            account = Account("a", "a@bed.test", "a@bed.test", smtp=fake.server())
            submitter = Submitter(account, now, random.Random(1), timeout=FAR, final_timeout=FAR)
            result = await submitter.submit(Sending("p", now(), "r", now(), "a@bed.test", "b@bed.test"), content)
            assert isinstance(result, Failed | Unconfirmed)
            word = f"failed {result.stage}" if isinstance(result, Failed) else "unconfirmed"
            return fake, (word, result.reason, elapsed(began[0], now()))


async def smtp_whose_recipient_is_not_answered(tls: Tls) -> Measured:
    return (await submission("RCPT", "both"))[1]


async def smtp_whose_content_goes_nowhere(tls: Tls) -> Measured:
    fake, measured = await submission("DATA", "to", b"Subject: x\r\n\r\n" + b"0123456789abcde\n" * 500_000)
    assert not fake.messages
    return measured


async def smtp_whose_250_goes_nowhere(tls: Tls) -> Measured:
    """The mail is taken: nobody may count it as failed."""
    fake, measured = await submission("DOT", "from")
    assert fake.messages
    return measured


CASES: dict[Callable[[Tls], Awaitable[Measured]], tuple[str, str]] = {
    imap_without_a_command: ("lost", "keepalive"),
    imap_in_idle_under_tls: ("lost", "keepalive"),
    imap_whose_command_goes_nowhere: ("lost", "keepalive"),
    imap_whose_answer_goes_nowhere: ("lost", "keepalive"),
    imap_that_is_told_of_mail_and_cannot_say_done: ("lost", "keepalive"),
    smtp_whose_recipient_is_not_answered: ("failed envelope", "keepalive"),
    smtp_whose_content_goes_nowhere: ("unconfirmed", "keepalive"),
    smtp_whose_250_goes_nowhere: ("unconfirmed", "keepalive"),
}


async def measure(tls: Tls) -> list[Measured]:
    async with asyncio.timeout(SLOWEST + 10):
        return list(await asyncio.gather(*(case(tls) for case in CASES)))


@pytest.mark.skipif(bool(why_not_dropped()), reason=why_not_dropped())
def test_a_connection_whose_packets_are_lost_is_given_up_within_seconds_whoever_is_not_heard(tmp_path: Path) -> None:
    tls = certificate(tmp_path)

    def under(loop: Callable[[], asyncio.AbstractEventLoop]) -> list[Measured]:
        with asyncio.Runner(loop_factory=loop) as runner:
            return runner.run(measure(tls))

    with ThreadPoolExecutor() as threads:
        for found in threads.map(under, (asyncio.new_event_loop, uvloop.new_event_loop)):
            named = {case.__name__: measured for case, measured in zip(CASES, found, strict=True)}
            print(named)  # shown when it fails
            expected = {case.__name__: end for case, end in CASES.items()}
            assert {name: (what, why) for name, (what, why, _) in named.items()} == expected
            assert all(seconds < SLOWEST for *_, seconds in found), named
