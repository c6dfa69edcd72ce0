"""The way out against a scripted server: every way in which a submission can end, and what each must not do.

Rule: nothing here waits for time to pass but the tests of time limits themselves, and those for fractions of a second.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import itertools
import logging
import random
import re
import socket
import ssl
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import get_args

import aiosmtplib.protocol
import pytest
import uvloop
from aiohappyeyeballs import AddrInfoType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probe.clock import now
from probe.core.events import (
    Accepted,
    Deferred,
    Failed,
    Instant,
    Rejected,
    Reply,
    Sending,
    Stage,
    Submitted,
    Unconfirmed,
    elapsed,
)
from probe.core.reply import queue_id, trouble
from probe.core.settings import Account, Secret, Server, Tls
from probe.mail import net, smtp
from probe.mail.smtp import Submitter

from .bed.pki import Authority, Certificate
from .fake_smtp import CLOSE, HANG, RESET, Answer, FakeSmtp, Script, Step
from .loops import both_loops

SHORT = 0.15  # seconds: a time limit that a test waits for
LIMIT = 5.0  # seconds: a test that takes this long hangs
PASSWORD = "hunter2+Geheimnis"
USER = "alice@bed.test"
MAIL = b"Subject: probe\r\n\r\n.a line that begins with a dot\r\n..two\r\n.\r\nend.\r\n"
IMPLICIT, STARTTLS, NONE = get_args(Tls)
# What each step's failure is filed under, without TLS.
STAGES: dict[Step, Stage] = {
    "GREETING": "connect",
    "EHLO": "ehlo",
    "AUTH": "auth",
    "MAIL": "envelope",
    "RCPT": "envelope",
    "DATA": "data",
}
PASSED: dict[Step, tuple[Stage, ...]] = {  # the stages that are complete when this step fails
    "GREETING": ("resolve",),
    "EHLO": ("resolve", "connect"),
    "AUTH": ("resolve", "connect", "ehlo"),
    "MAIL": ("resolve", "connect", "ehlo", "auth"),
    "RCPT": ("resolve", "connect", "ehlo", "auth"),
    "DATA": ("resolve", "connect", "ehlo", "auth", "envelope"),
    "DOT": ("resolve", "connect", "ehlo", "auth", "envelope"),
}


class FakeClock:
    """A clock that goes on only when told."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> Instant:
        return Instant(1_700_000_000 + self.seconds, 1000 + self.seconds, "boot")

    def advance(self, seconds: float, answer: Answer = None) -> Callable[[], Answer]:
        """For a script: the time that this step takes."""

        def act() -> Answer:
            self.seconds += seconds
            return answer

        return act


class Pki:
    """Server contexts and what a client trusts."""

    def __init__(self, root: Path) -> None:
        ours, theirs = Authority(root / "ours"), Authority(root / "theirs")
        self.ca, self.other_ca = ours.ca, theirs.ca
        self.valid = self._context(ours.valid())
        self.expired = self._context(ours.expired())
        self.wrong_name = self._context(ours.wrong_name())

    @staticmethod
    def _context(certificate: Certificate) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.chain, certificate.key)
        return context


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[socket.socket]]:
    """The sockets that were connected. One that still has a number is detached in the end: the loop has closed that
    descriptor, and a collected socket would close the next owner's."""
    sockets: list[socket.socket] = []
    original = net.connect

    async def connect(addresses: list[AddrInfoType], timeout: float) -> socket.socket:
        sockets.append(await original(addresses, timeout))
        return sockets[-1]

    monkeypatch.setattr(net, "connect", connect)
    yield sockets
    for sock in sockets:
        sock.detach()


def submitter_to(
    server: Server,
    *,
    clock: Callable[[], Instant] = now,
    timeout: float = LIMIT,
    final_timeout: float = LIMIT,
    password: str | None = PASSWORD,
) -> Submitter:
    secret = None if password is None else Secret(password)
    account = Account("alice", "alice@bed.test", USER, secret, server)
    return Submitter(account, clock, random.Random(1), timeout=timeout, final_timeout=final_timeout)


_numbers = itertools.count(1)


def sending(clock: Callable[[], Instant] = now, **changes: str) -> Sending:
    addresses = {"sender": "alice@bed.test", "recipient": "bob@bed.test"} | changes
    return Sending(f"probe{next(_numbers)}", clock(), "a-b", clock(), **addresses)


@contextlib.asynccontextmanager
async def submitting(
    script: Script | None = None,
    *,
    clock: Callable[[], Instant] = now,
    timeout: float = LIMIT,
    final_timeout: float = LIMIT,
    password: str | None = PASSWORD,
    host: str = "127.0.0.1",
    ca_file: Path | None = None,
    to: Tls | None = None,
    **options: object,
) -> AsyncIterator[tuple[FakeSmtp, Submitter]]:
    """A fake server and a submitter to it."""
    async with asyncio.timeout(2 * LIMIT), FakeSmtp(script, **options) as fake:  # type: ignore[arg-type]
        limits = {"timeout": timeout, "final_timeout": final_timeout}
        submitter = submitter_to(fake.server(ca_file, host, to), clock=clock, password=password, **limits)
        try:
            yield fake, submitter
        finally:
            submitter.close()


async def submit(submitter: Submitter, content: bytes = MAIL) -> Submitted:
    async with asyncio.timeout(LIMIT):
        return await submitter.submit(sending(), content)


def names(event: Submitted) -> tuple[Stage, ...]:
    assert all(seconds >= 0 for _, seconds in event.stages)
    return tuple(name for name, _ in event.stages)


def about(event: Submitted) -> tuple[object, ...]:
    """What is exact about an event: its kind, and everything that does not depend on time."""
    match event:
        case Accepted():
            return Accepted, event.reply, event.queue_id
        case Deferred() | Rejected():
            return type(event), event.stage, event.reply
        case Failed():
            return Failed, event.stage, event.reason
        case Unconfirmed():
            return Unconfirmed, event.reason
    raise AssertionError(event)


def secrets_in(text: str) -> list[str]:
    """The forms of the password that a text gives away."""
    forms = [
        PASSWORD,
        *(base64.b64encode(raw).decode() for raw in (PASSWORD.encode(), f"\0{USER}\0{PASSWORD}".encode())),
    ]
    return [form for form in forms if form in text]


# ---------------------------------------------------------------- accepted


@pytest.mark.parametrize("how", [NONE, IMPLICIT, STARTTLS])
@both_loops
async def test_a_probe_goes_through_every_stage_and_is_accepted(how: Tls, pki: Pki) -> None:
    serve = {NONE: {}, IMPLICIT: {"tls": pki.valid}, STARTTLS: {"starttls": pki.valid}}[how]
    heard: list[tuple[Stage, float]] = []
    async with submitting(ca_file=pki.ca, **serve) as (fake, submitter):
        began = sending()
        event = await submitter.submit(began, MAIL, lambda stage, seconds: heard.append((stage, seconds)))
        assert about(event) == (Accepted, Reply(250, "2.0.0", "2.0.0 Ok: queued as FAKE1"), "FAKE1")
        assert event.probe == began.probe
        assert (
            names(event)
            == {
                NONE: ("resolve", "connect", "ehlo", "auth", "envelope", "data"),
                IMPLICIT: ("resolve", "connect", "tls", "ehlo", "auth", "envelope", "data"),
                STARTTLS: ("resolve", "connect", "ehlo", "tls", "auth", "envelope", "data"),
            }[how]
        )
        assert tuple(heard) == event.stages
        spent = sum(seconds for _, seconds in event.stages)
        assert 0 < spent <= elapsed(began.at, now()) < LIMIT
        assert elapsed(began.at, event.at) >= spent * 0.9
        assert began.at.boot < event.at.boot <= now().boot
        assert fake.messages == [MAIL]
        assert (
            fake.verbs
            == {
                NONE: [b"EHLO", b"AUTH", b"MAIL", b"RCPT", b"DATA"],
                IMPLICIT: [b"EHLO", b"AUTH", b"MAIL", b"RCPT", b"DATA"],
                STARTTLS: [b"EHLO", b"STARTTLS", b"EHLO", b"AUTH", b"MAIL", b"RCPT", b"DATA"],
            }[how]
        )
        assert b"MAIL FROM:<alice@bed.test>" in fake.lines
        assert b"RCPT TO:<bob@bed.test>" in fake.lines
        assert fake.lines[0] == b"EHLO [127.0.0.1]"
        if how == NONE:
            assert submitter.certificate_not_after is None
        else:
            assert submitter.certificate_not_after is not None
            assert 29 < (submitter.certificate_not_after - now().wall) / 86400 < 31


async def test_each_stage_takes_as_long_as_the_server_took_in_it() -> None:
    clock = FakeClock()
    script: Script = {
        "GREETING": clock.advance(1),
        "EHLO": clock.advance(2),
        "AUTH": clock.advance(4),
        "MAIL": clock.advance(8),
        "RCPT": clock.advance(16),
        "DATA": clock.advance(32),
        "DOT": clock.advance(64),
    }
    async with submitting(script, clock=clock) as (_, submitter):
        began = sending(clock)
        event = await submitter.submit(began, MAIL)
    assert event.stages == (
        ("resolve", 0.0),
        ("connect", 1.0),
        ("ehlo", 2.0),
        ("auth", 4.0),
        ("envelope", 24.0),
        ("data", 96.0),
    )
    assert event.at == began.at.shifted(127.0)


async def test_an_unconfirmed_probe_may_be_there_since_the_content_left() -> None:
    clock = FakeClock()
    script: Script = {"DATA": clock.advance(5), "DOT": clock.advance(7, CLOSE)}
    async with submitting(script, clock=clock) as (_, submitter):
        began = sending(clock)
        event = await submitter.submit(began, MAIL)
    assert isinstance(event, Unconfirmed)
    assert (event.since, event.at) == (began.at.shifted(5.0), began.at.shifted(12.0))
    assert names(event) == PASSED["DOT"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("250 2.0.0 Ok: queued as 4RzT0Y3Xw9z1k", "4RzT0Y3Xw9z1k"),
        ("250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as 3AB12C04D5", "3AB12C04D5"),
        ("250 OK id=1rAbCd-0001Ab-2x", "1rAbCd-0001Ab-2x"),
        ("250 OK id=1rAbCd-00000001Ab2-3c4D", "1rAbCd-00000001Ab2-3c4D"),
        (
            "250 2.6.0 <a.mailprobe@bed.test> [InternalId=84971249, Hostname=AM9P1.EURP1.PROD.OUTLOOK.COM] "
            "8211 bytes in 0.118, 67.9 KB/sec Queued mail for delivery",
            "84971249",
        ),
        ("250 2.0.0 OK  1700000000 a1-20020a5d4bc1000000b00336 - gsmtp", "a1-20020a5d4bc1000000b00336"),
        ("250 2.0.0 OK 1700000000 ffacd0b85a97d-4316.7 - gsmtp", "ffacd0b85a97d-4316.7"),
        ("250 Requested mail action okay, completed: id=0LzABC-1abc2d3e4f-00zzzz", "0LzABC-1abc2d3e4f-00zzzz"),
        ("250-2.0.0 Ok\r\n250 2.0.0 queued as <ABC.1@mx>.", "ABC.1@mx"),
        ("250 2.0.0 3AB9Xabc012345 Message accepted for delivery", "3AB9Xabc012345"),
        ("250 2.0.0 a1b2c3d4 Message accepted for delivery", "a1b2c3d4"),
        ("250 OK , completed", ""),
        ("250", ""),
    ],
    ids=lambda value: value[:32],
)
async def test_the_queue_id_is_read_from_the_final_reply(reply: str, expected: str) -> None:
    async with submitting({"DOT": reply}) as (_, submitter):
        event = await submit(submitter)
    assert isinstance(event, Accepted)
    assert (event.queue_id, event.reply.code) == (expected, 250)


def test_a_text_that_names_no_queue_id_has_none() -> None:
    assert queue_id("2.0.0 Ok: queued") == ""
    assert queue_id("2.0.0 I'd say valid=yes, kid=7") == ""


async def test_dots_are_stuffed_and_nothing_else_is_changed() -> None:
    async with submitting() as (fake, submitter):
        await submit(submitter, MAIL)
    assert fake.messages == [MAIL]
    first = fake.lines.index(b"DATA") + 1
    assert fake.lines[first:] == [
        b"Subject: probe",
        b"",
        b"..a line that begins with a dot",
        b"...two",
        b"..",
        b"end.",
        b".",
    ]


async def test_a_server_is_reached_by_ipv6() -> None:
    async with submitting(host="::1") as (fake, submitter):
        assert isinstance(await submit(submitter), Accepted)
        assert fake.lines[0] == b"EHLO [IPv6:::1]"


async def test_a_dead_ipv6_address_does_not_keep_a_probe_from_the_ipv4_one() -> None:
    async with FakeSmtp() as fake:
        dead = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", free_port(), 0, 0))
        alive = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", fake.port))
        with await net.connect([dead, alive], LIMIT) as sock:
            assert sock.getpeername() == ("127.0.0.1", fake.port)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert not sock.getblocking()


async def test_without_a_password_there_is_no_log_in() -> None:
    async with submitting(password=None) as (fake, submitter):
        event = await submit(submitter)
    assert names(event) == ("resolve", "connect", "ehlo", "envelope", "data")
    assert b"AUTH" not in fake.verbs


@pytest.mark.parametrize(
    ("offered", "used", "lines"),
    [
        ("CRAM-MD5 LOGIN PLAIN", b"AUTH PLAIN ", 0),
        ("CRAM-MD5 LOGIN", b"AUTH LOGIN ", 1),
        ("XOAUTH2 CRAM-MD5", b"AUTH CRAM-MD5", 1),
    ],
)
async def test_one_of_the_mechanisms_that_are_offered_is_used(offered: str, used: bytes, lines: int) -> None:
    async with submitting(auth=offered) as (fake, submitter):
        assert isinstance(await submit(submitter), Accepted)
    at = next(number for number, line in enumerate(fake.lines) if line.startswith(b"AUTH"))
    assert fake.lines[at].startswith(used)
    assert fake.lines[at + lines + 1].startswith(b"MAIL")
    if used == b"AUTH PLAIN ":
        assert base64.b64decode(fake.lines[at].split()[2]) == f"\0{USER}\0{PASSWORD}".encode()


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize("code", [450, 451, 452, 421, 500, 550, 552, 554])
@pytest.mark.parametrize("step", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "DOT"])
async def test_a_refusal_at_any_stage_is_told_with_its_reply(step: Step, code: int) -> None:
    status = f"{code // 100}.7.1"
    async with submitting({step: f"{code}-{status} no,\r\n{code} {status} not you"}) as (fake, submitter):
        event = await submit(submitter)
        kind = Deferred if code < 500 else Rejected
        said = Reply(code, status, f"{status} no, {status} not you")
        assert about(event) == (kind, STAGES.get(step, "data"), said)
        assert names(event) == PASSED[step]
        await fake.ended()
        assert submitter.why_not() is None
    assert fake.connections == 1
    assert len(fake.messages) == (step == "DOT")
    assert fake.steps[-1] == step


async def test_a_refusal_without_an_enhanced_status_has_none() -> None:
    async with submitting({"RCPT": "550 who is that?"}) as (_, submitter):
        assert about(await submit(submitter)) == (Rejected, "envelope", Reply(550, "", "who is that?"))


async def test_a_server_that_cannot_start_tls_now_defers_and_hears_no_password(pki: Pki) -> None:
    async with submitting({"STARTTLS": "454 4.7.0 not now"}, starttls=pki.valid, ca_file=pki.ca) as (fake, submitter):
        event = await submit(submitter)
    assert about(event) == (Deferred, "tls", Reply(454, "4.7.0", "4.7.0 not now"))
    assert fake.verbs == [b"EHLO", b"STARTTLS"]


# ---------------------------------------------------------------- failed: the network


async def test_a_name_that_does_not_exist_is_a_dns_failure() -> None:
    event = await submit(submitter_to(Server("mail.mailprobe.invalid", 25, "none")))
    assert about(event) == (Failed, "resolve", "dns_failure")
    assert isinstance(event, Failed)
    assert "mail.mailprobe.invalid" in event.detail
    assert event.stages == ()


@both_loops
async def test_a_name_that_cannot_exist_is_a_dns_failure() -> None:
    event = await submit(submitter_to(Server("a" * 70 + ".invalid", 25, "none")))
    assert about(event) == (Failed, "resolve", "dns_failure")


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]  # type: ignore[no-any-return]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
@both_loops
async def test_a_port_where_nobody_listens_refuses(host: str) -> None:
    event = await submit(submitter_to(Server(host, free_port(), "none")))
    assert about(event) == (Failed, "connect", "refused")
    assert names(event) == ("resolve",)


async def test_a_host_both_of_whose_addresses_refuse_has_refused() -> None:
    port = free_port()
    addresses = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
    ]
    with pytest.raises(net.Unreachable) as caught:
        await net.connect(addresses, LIMIT)
    assert (caught.value.stage, caught.value.reason) == ("connect", "refused")


async def test_a_resolver_that_does_not_answer_costs_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never)
    event = await submit(submitter_to(Server("mail.bed.test", 25, "none"), timeout=SHORT))
    assert about(event) == (Failed, "resolve", "dns_timeout")


async def test_a_host_that_does_not_answer_costs_the_time_limit() -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):  # a full backlog: Linux ignores whoever comes then
            knocker = stack.enter_context(socket.socket())
            knocker.setblocking(False)
            knocker.connect_ex(listener.getsockname())
        server = Server("127.0.0.1", listener.getsockname()[1], "none")
        event = await submit(submitter_to(server, timeout=SHORT))
    assert about(event) == (Failed, "connect", "timeout")


async def test_a_host_to_which_there_is_no_way_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_way(*_: object, **__: object) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr("aiohappyeyeballs.start_connection", no_way)
    event = await submit(submitter_to(Server("127.0.0.1", 25, "none")))
    assert about(event) == (Failed, "connect", "unreachable")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (HANG, "timeout"),
        (CLOSE, "connection_lost"),
        (RESET, "connection_lost"),
        ("what is this?", "garbled_reply"),
        ("250-", "timeout"),
        ("999 indeed", "garbled_reply"),
        ((b"25", HANG), "timeout"),
        ((b"250-half of\r\n250-it", CLOSE), "connection_lost"),
        (b"250-" + b"x" * 40_000, "garbled_reply"),
        (b"250-more\r\n" * 4000, "garbled_reply"),
    ],
    ids=[
        "hang",
        "close",
        "reset",
        "garbage",
        "no-last-line",
        "999",
        "partial-hang",
        "partial-close",
        "long",
        "endless",
    ],
)
@pytest.mark.parametrize("step", STAGES)
async def test_a_server_that_fails_before_the_content_has_not_got_the_mail(
    step: Step, answer: Answer, reason: str
) -> None:
    timeout = SHORT if reason == "timeout" else LIMIT
    async with submitting({step: answer}, timeout=timeout) as (fake, submitter):
        event = await submit(submitter)
        assert about(event) == (Failed, STAGES[step], reason)
        assert names(event) == PASSED[step]
        await fake.ended()
        assert submitter.why_not() is None
    assert fake.messages == []
    assert fake.connections == 1


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("EHLO", "220 hi"),
        ("AUTH", "250 ok"),
        ("MAIL", "354 go"),
        ("RCPT", "235 ok"),
        ("DATA", "250 ok"),
        ("DATA", "221 x"),
    ],
)
async def test_a_positive_reply_that_does_not_belong_there_is_garbled(step: Step, answer: str) -> None:
    async with submitting({step: answer}) as (fake, submitter):
        assert about(await submit(submitter)) == (Failed, STAGES[step], "garbled_reply")
    assert fake.messages == []


@pytest.mark.parametrize(
    ("step", "answer", "reason"),
    [
        ("STARTTLS", HANG, "timeout"),
        ("STARTTLS", CLOSE, "connection_lost"),
        ("STARTTLS", RESET, "connection_lost"),
        ("STARTTLS", "hello?", "garbled_reply"),
        ("STARTTLS", ("220 go", HANG), "timeout"),  # never begins its handshake
        ("STARTTLS", ("220 go", CLOSE), "connection_lost"),
        ("STARTTLS", ("220 go", RESET), "connection_lost"),
        ("EHLO", [None, HANG], "timeout"),
        ("EHLO", [None, CLOSE], "connection_lost"),
        ("EHLO", [None, "hello?"], "garbled_reply"),
    ],
    ids=str,
)
@both_loops
async def test_a_server_that_fails_around_starttls_hears_no_password(
    step: Step, answer: Answer, reason: str, pki: Pki
) -> None:
    timeout = SHORT if reason == "timeout" else LIMIT
    options = {"starttls": pki.valid, "ca_file": pki.ca, "timeout": timeout}
    async with submitting({step: answer}, **options) as (fake, submitter):
        event = await submit(submitter)
        assert about(event) == (Failed, "tls", reason)
        assert names(event) == ("resolve", "connect", "ehlo")
        await fake.ended()
    assert b"AUTH" not in fake.verbs


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(HANG, "timeout"), (CLOSE, "connection_lost"), (RESET, "connection_lost"), (None, "handshake_failure")],
    ids=str,
)
@both_loops
async def test_a_server_that_speaks_no_tls_where_it_must_hears_no_password(answer: Answer, reason: str) -> None:
    timeout = SHORT if reason == "timeout" else LIMIT
    async with submitting({"GREETING": answer}, to=IMPLICIT, timeout=timeout) as (fake, submitter):
        event = await submit(submitter)
        assert about(event) == (Failed, "tls", reason)
        assert names(event) == ("resolve", "connect")
        await fake.ended()
    assert not any(b"AUTH" in line for line in fake.lines)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(HANG, "timeout"), (CLOSE, "connection_lost"), (RESET, "connection_lost"), ("hello?", "garbled_reply")],
    ids=str,
)
@both_loops
async def test_a_server_that_fails_after_its_handshake_has_not_got_the_mail(
    answer: Answer, reason: str, pki: Pki
) -> None:
    timeout = SHORT if reason == "timeout" else LIMIT
    options = {"tls": pki.valid, "ca_file": pki.ca, "timeout": timeout}
    async with submitting({"GREETING": answer}, **options) as (fake, submitter):
        event = await submit(submitter)
        assert about(event) == (Failed, "tls", reason)
        await fake.ended()
    assert fake.lines == []


async def test_a_time_limit_within_the_tls_handshake_is_always_called_a_time_limit() -> None:
    async with submitting({"GREETING": HANG}, to=IMPLICIT, timeout=SHORT) as (_, submitter):
        events = await asyncio.gather(*(submit(submitter) for _ in range(20)))
    assert {about(event) for event in events} == {(Failed, "tls", "timeout")}


@pytest.mark.parametrize("answer", [HANG, CLOSE, RESET, None], ids=str)
@both_loops
async def test_a_socket_whose_handshake_failed_holds_no_number_of_somebody_else_s(
    answer: Answer, made: list[socket.socket]
) -> None:
    """uvloop closes the descriptor itself; a socket object that still names it would close, when it is collected,
    whatever has that number by then: the ledger, or a mailbox."""
    async with submitting({"GREETING": answer}, to=IMPLICIT, timeout=SHORT) as (fake, submitter):
        assert isinstance(await submit(submitter), Failed)
        await fake.ended()
        assert [sock.fileno() for sock in made] == [-1]


# ---------------------------------------------------------------- failed: TLS


@both_loops
async def test_stripped_starttls_stops_the_probe_before_anything_is_said_in_clear() -> None:
    async with submitting(to=STARTTLS) as (fake, submitter):
        event = await submit(submitter)
        assert about(event) == (Failed, "tls", "starttls_not_offered")
        await fake.ended()
    assert fake.lines == [b"EHLO [127.0.0.1]"]


@pytest.mark.parametrize("how", [IMPLICIT, STARTTLS])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("expired", "certificate_expired"),
        ("wrong_name", "wrong_name"),
        ("wrong_address", "wrong_name"),
        ("unknown_ca", "unknown_ca"),
        ("system_cas", "unknown_ca"),
    ],
)
@both_loops
async def test_a_bad_certificate_is_refused_with_its_own_reason(how: Tls, fault: str, reason: str, pki: Pki) -> None:
    context = {"expired": pki.expired, "wrong_name": pki.wrong_name, "wrong_address": pki.wrong_name}
    trusted = {"unknown_ca": pki.other_ca, "system_cas": None}.get(fault, pki.ca)
    host = "127.0.0.1" if fault == "wrong_address" else "localhost"
    serve = {{IMPLICIT: "tls", STARTTLS: "starttls"}[how]: context.get(fault, pki.valid)}
    async with submitting(ca_file=trusted, host=host, **serve) as (fake, submitter):
        event = await submit(submitter)
        assert about(event) == (Failed, "tls", reason)
        assert isinstance(event, Failed)
        assert event.detail
        assert submitter.certificate_not_after is None
    assert fake.lines in ([], [b"EHLO [127.0.0.1]", b"STARTTLS"], [b"EHLO [IPv6:::1]", b"STARTTLS"])


@both_loops
async def test_what_was_injected_after_the_starttls_reply_is_not_believed(pki: Pki) -> None:
    """CVE-2011-0411 and its kin: the bytes came in clear, so anybody may have written them."""
    injected = b"220 go\r\n250-evil.test\r\n250 AUTH LOGIN\r\n"
    options = {"starttls": pki.valid, "ca_file": pki.ca, "auth_before_tls": "LOGIN", "auth": "PLAIN"}
    async with submitting({"STARTTLS": injected}, **options) as (fake, submitter):
        event = await submit(submitter)
    assert isinstance(event, Accepted | Failed)
    if isinstance(event, Accepted):
        assert fake.verbs == [b"EHLO", b"STARTTLS", b"EHLO", b"AUTH", b"MAIL", b"RCPT", b"DATA"]
        assert any(line.startswith(b"AUTH PLAIN") for line in fake.lines)
    assert not any(line.startswith(b"AUTH LOGIN") for line in fake.lines)


async def test_what_was_offered_before_tls_is_forgotten(pki: Pki) -> None:
    options = {"starttls": pki.valid, "ca_file": pki.ca, "auth_before_tls": "PLAIN LOGIN", "auth": None}
    async with submitting(**options) as (fake, submitter):
        assert about(await submit(submitter)) == (Failed, "auth", "no_auth_mechanism")
    assert b"AUTH" not in fake.verbs


async def test_a_ca_file_that_is_gone_fails_the_probe_and_leaves_no_socket_open(
    tmp_path: Path, made: list[socket.socket]
) -> None:
    async with FakeSmtp() as fake:
        event = await submit(submitter_to(fake.server(tmp_path / "gone.pem", tls=STARTTLS)))
        assert isinstance(event, Failed)
        assert [sock.fileno() for sock in made] in ([], [-1])


# ---------------------------------------------------------------- failed: the log-in


@pytest.mark.parametrize(
    ("script", "offered"),
    [
        ({"AUTH": "535 5.7.8 wrong"}, "PLAIN LOGIN CRAM-MD5"),
        ({"AUTH": "535 5.7.8 wrong"}, "LOGIN CRAM-MD5"),
        ({"AUTH2": "535 5.7.8 wrong"}, "LOGIN CRAM-MD5"),
        ({"AUTH2": "535 5.7.8 wrong"}, "CRAM-MD5"),
    ],
    ids=str,
)
@both_loops
async def test_a_refused_log_in_is_tried_once_and_then_left_alone_for_a_while(script: Script, offered: str) -> None:
    clock = FakeClock()
    async with submitting(script, clock=clock, auth=offered) as (fake, submitter):
        event = await submit(submitter)
        assert about(event) == (Failed, "auth", "auth_refused")
        assert isinstance(event, Failed)
        assert event.detail == "535 5.7.8 wrong"
        assert submitter.why_not() == "auth_backoff"
        await fake.ended()
    assert fake.verbs.count(b"AUTH") == 1
    assert fake.connections == 1


async def test_a_log_in_that_is_unavailable_is_left_alone_for_a_while() -> None:
    async with submitting({"AUTH": "454 4.7.0 later"}) as (_, submitter):
        assert about(await submit(submitter)) == (Failed, "auth", "auth_unavailable")
        assert submitter.why_not() == "auth_backoff"


def pause(submitter: Submitter, clock: FakeClock, reason: str = "auth_backoff") -> float:
    """How long it stays away for this reason, to the second; the clock stands at its end."""
    began = clock.seconds
    while submitter.why_not() == reason:
        clock.seconds += 1
    return clock.seconds - began


async def test_the_pause_after_a_refused_log_in_doubles_up_to_an_hour_and_ends_with_a_success() -> None:
    clock = FakeClock()
    refusals: list[Answer] = ["535 5.7.8 wrong"] * 8
    async with submitting({"AUTH": [*refusals, None, *refusals]}, clock=clock) as (fake, submitter):
        for longest in (120, 240, 480, 960, 1920, 3600, 3600, 3600):
            await submit(submitter)
            assert longest / 2 <= pause(submitter, clock) <= longest + 1
        assert isinstance(await submit(submitter), Accepted)
        assert submitter.why_not() is None
        submitter.close()  # so that it must log in again
        await submit(submitter)
        assert 60 <= pause(submitter, clock) <= 121
    assert fake.verbs.count(b"AUTH") == 10


@pytest.mark.parametrize(
    ("answer", "most"),
    [
        ("535 5.7.8 wrong", 60),
        ("454 4.7.0 Too many login attempts, please try again later.", 60),  # Gmail
        ("454 4.7.0 Temporary authentication failure", 640),
    ],
)
async def test_a_refused_log_in_is_tried_a_bounded_number_of_times_in_a_day(answer: str, most: int) -> None:
    """A probe a minute, and every log-in refused: an hour apart in the end, or five minutes where it is for now."""
    clock = FakeClock()
    async with submitting({"AUTH": answer}, clock=clock) as (fake, submitter):
        for _ in range(24 * 60):
            if submitter.why_not() is None:
                await submit(submitter)
            clock.seconds += 60
        assert most / 2.5 <= fake.verbs.count(b"AUTH") <= most


LIMITED = "450 4.7.1 Error: too much mail from 192.0.2.1"


@pytest.mark.parametrize("step", ["GREETING", "MAIL", "RCPT", "DATA", "DOT"])
async def test_a_rate_limit_is_given_time_to_pass_whenever_it_is_told(step: Step) -> None:
    clock = FakeClock()
    async with submitting({step: [LIMITED]}, clock=clock) as (_, submitter):
        assert isinstance(await submit(submitter), Deferred)
        assert 30 <= pause(submitter, clock, "rate_limited") <= 61
        assert isinstance(await submit(submitter), Accepted)


async def test_the_pause_after_a_rate_limit_doubles_up_to_a_quarter_of_an_hour_and_ends_with_an_acceptance() -> None:
    clock = FakeClock()
    daily = "550 5.4.5 Daily user sending limit exceeded."
    async with submitting({"RCPT": [LIMITED, *[daily] * 6, None, LIMITED]}, clock=clock) as (fake, submitter):
        for longest in (60, 120, 240, 480, 900, 900, 900):
            assert isinstance(await submit(submitter), Deferred | Rejected)
            assert longest / 2 <= pause(submitter, clock, "rate_limited") <= longest + 1
        assert isinstance(await submit(submitter), Accepted)
        assert submitter.why_not() is None
        await submit(submitter)
        assert 30 <= pause(submitter, clock, "rate_limited") <= 61
    assert len(fake.messages) == 1


async def test_probes_limited_at_the_same_time_count_as_one_limit() -> None:
    clock, gate = FakeClock(), asyncio.Event()
    async with submitting({"RCPT": (gate, LIMITED)}, clock=clock) as (fake, submitter):
        running = [asyncio.create_task(submit(submitter)) for _ in range(6)]
        await fake.reached("RCPT", 6)
        gate.set()
        await asyncio.gather(*running)
        assert pause(submitter, clock, "rate_limited") <= 61


async def test_greylisting_costs_no_pause_and_ends_by_itself() -> None:
    async with submitting({"RCPT": ["450 4.2.0 <bob@bed.test>: Recipient address rejected: Greylisted"]}) as (
        _,
        submitter,
    ):
        event = await submit(submitter)
        assert isinstance(event, Deferred)
        assert trouble(event) == ("envelope", "greylisted")
        assert submitter.why_not() is None
        assert isinstance(await submit(submitter), Accepted)


async def test_log_ins_refused_at_the_same_time_count_as_one_refusal() -> None:
    """Probes of several routes through one account start together; one wrong password is one piece of news."""
    clock, gate = FakeClock(), asyncio.Event()
    async with submitting({"AUTH": (gate, "535 5.7.8 wrong")}, clock=clock) as (fake, submitter):
        running = [asyncio.create_task(submit(submitter)) for _ in range(6)]
        await fake.reached("AUTH")
        gate.set()
        await asyncio.gather(*running)
        assert pause(submitter, clock) <= 121


@pytest.mark.parametrize("offered", [None, "XOAUTH2 GSSAPI"])
async def test_a_server_without_a_mechanism_of_ours_is_told_apart_from_a_refusal(offered: str | None) -> None:
    async with submitting(auth=offered) as (fake, submitter):
        event = await submit(submitter)
        assert about(event) == (Failed, "auth", "no_auth_mechanism")
        assert isinstance(event, Failed)
        assert ("gssapi" if offered else "not offered") in event.detail
        assert submitter.why_not() is None
        await fake.ended()
    assert b"AUTH" not in fake.verbs
    assert b"MAIL" not in fake.verbs


# ---------------------------------------------------------------- unconfirmed


@pytest.mark.parametrize("how", [NONE, IMPLICIT])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (CLOSE, "connection_lost"),
        (RESET, "connection_lost"),
        (HANG, "timeout"),
        ("okay then", "garbled_reply"),
        ("354 more!", "garbled_reply"),
        ((b"250 2.0.0 Ok: que", CLOSE), "connection_lost"),
        ((b"250-2.0.0 Ok\r\n", CLOSE), "connection_lost"),
        ((b"250 2.0.0 Ok: que", HANG), "timeout"),
    ],
    ids=["close", "reset", "hang", "garbage", "354", "partial-close", "no-last-line", "partial-hang"],
)
@both_loops
async def test_no_reply_to_the_final_dot_is_unconfirmed_and_never_sent_again(
    how: Tls, answer: Answer, reason: str, pki: Pki
) -> None:
    serve = {"tls": pki.valid} if how == IMPLICIT else {}
    final_timeout = SHORT if reason == "timeout" else LIMIT
    options = {"ca_file": pki.ca, "final_timeout": final_timeout, **serve}
    async with submitting({"DOT": answer}, **options) as (fake, submitter):
        began = sending()
        event = await submitter.submit(began, MAIL)
        assert about(event) == (Unconfirmed, reason)
        assert isinstance(event, Unconfirmed)
        assert began.at.boot < event.since.boot <= event.at.boot
        await fake.ended()
        assert (fake.connections, fake.messages) == (1, [MAIL])


@both_loops
async def test_a_kept_connection_that_breaks_after_the_final_dot_is_unconfirmed_too() -> None:
    for answer in (CLOSE, RESET):
        async with submitting({"DOT": [None, answer]}) as (fake, submitter):
            assert isinstance(await submit(submitter), Accepted)
            assert about(await submit(submitter)) == (Unconfirmed, "connection_lost")
            assert (fake.connections, len(fake.messages)) == (1, 2)


@pytest.mark.parametrize("code", [421, 451, 554])
async def test_a_kept_connection_whose_server_refuses_the_content_is_not_replaced(code: int) -> None:
    async with submitting({"DOT": [None, f"{code} no"]}) as (fake, submitter):
        await submit(submitter)
        kind = Deferred if code < 500 else Rejected
        assert about(await submit(submitter)) == (kind, "data", Reply(code, "", "no"))
        assert (fake.connections, len(fake.messages)) == (1, 2)


async def test_a_reply_that_came_before_the_content_is_not_the_reply_to_the_content() -> None:
    """One line too many behind the 354, and every later reply would be paired with the wrong command."""
    early = b"354 go on\r\n250 2.0.0 Ok: queued as FORGED\r\n"
    async with submitting({"DATA": early, "DOT": "554 5.7.1 spam"}) as (_, submitter):
        event = await submit(submitter)
    assert not isinstance(event, Accepted)


async def test_an_early_reply_to_a_later_command_does_not_hide_a_refusal() -> None:
    async with submitting({"MAIL": b"250 Ok\r\n250 Ok\r\n", "RCPT": "550 5.1.1 who?"}) as (fake, submitter):
        event = await submit(submitter)
    assert isinstance(event, Rejected | Failed)
    assert event.stage == "envelope"
    assert b"DATA" not in fake.verbs


# ---------------------------------------------------------------- connections between probes


@pytest.mark.parametrize("how", [NONE, IMPLICIT, STARTTLS])
@both_loops
async def test_a_connection_is_used_again(how: Tls, pki: Pki) -> None:
    serve = {NONE: {}, IMPLICIT: {"tls": pki.valid}, STARTTLS: {"starttls": pki.valid}}[how]
    async with submitting(ca_file=pki.ca, **serve) as (fake, submitter):
        for _ in range(3):
            event = await submit(submitter)
            assert isinstance(event, Accepted)
        assert names(event) == ("envelope", "data")
        assert fake.connections == 1
        assert fake.verbs.count(b"AUTH") == 1
        assert len(fake.messages) == 3


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("MAIL", CLOSE),
        ("MAIL", RESET),
        ("MAIL", ("421 4.4.2 idle for too long", CLOSE)),
        ("MAIL", "421 4.4.2 idle for too long"),
        ("RCPT", CLOSE),
        ("DATA", CLOSE),
        ("DATA", RESET),
    ],
    ids=str,
)
@both_loops
async def test_a_kept_connection_that_died_is_replaced_once_and_one_mail_goes_out(step: Step, answer: Answer) -> None:
    async with submitting({step: [None, answer]}) as (fake, submitter):
        assert isinstance(await submit(submitter), Accepted)
        event = await submit(submitter)
        assert isinstance(event, Accepted)
        assert names(event) == ("resolve", "connect", "ehlo", "auth", "envelope", "data")
        assert fake.connections == 2
        assert [len(session.messages) for session in fake.sessions] == [1, 1]
        await fake.ended(1)


@both_loops
async def test_a_kept_connection_that_is_known_to_be_closed_is_not_tried() -> None:
    async with submitting() as (fake, submitter):
        await submit(submitter)
        fake.sessions[0].writer.write(b"421 4.4.2 idle for too long\r\n")
        fake.sessions[0].writer.write_eof()
        await fake.ended()  # we have closed our side
        assert isinstance(await submit(submitter), Accepted)
        assert [session.lines.count(b"MAIL FROM:<alice@bed.test>") for session in fake.sessions] == [1, 1]


async def test_the_replacement_of_a_kept_connection_is_not_replaced_again() -> None:
    async with submitting({"MAIL": [None, CLOSE, CLOSE]}) as (fake, submitter):
        await submit(submitter)
        assert about(await submit(submitter)) == (Failed, "envelope", "connection_lost")
        assert (fake.connections, len(fake.messages)) == (2, 1)


async def test_a_kept_connection_that_refuses_a_mail_is_believed() -> None:
    async with submitting({"MAIL": [None, "452 4.3.1 disk full"]}) as (fake, submitter):
        await submit(submitter)
        assert about(await submit(submitter)) == (Deferred, "envelope", Reply(452, "4.3.1", "4.3.1 disk full"))
        assert fake.connections == 1


async def test_after_a_refusal_the_next_probe_gets_a_connection_of_its_own() -> None:
    async with submitting({"RCPT": ["550 no"]}) as (fake, submitter):
        assert isinstance(await submit(submitter), Rejected)
        assert isinstance(await submit(submitter), Accepted)
        assert fake.connections == 2


async def test_an_old_connection_is_not_kept() -> None:
    clock = FakeClock()
    async with submitting(clock=clock) as (fake, submitter):
        await submit(submitter)
        clock.seconds += 301
        await submit(submitter)  # the last over the old one
        await fake.ended()
        await submit(submitter)
        assert [len(session.messages) for session in fake.sessions] == [2, 1]


async def test_a_connection_that_carried_many_mails_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "_REUSE_MAILS", 2)
    async with submitting() as (fake, submitter):
        for _ in range(3):
            await submit(submitter)
        assert [len(session.messages) for session in fake.sessions] == [2, 1]


@both_loops
async def test_an_idle_connection_is_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "_KEEP", 0.01)
    async with submitting() as (fake, submitter):
        await submit(submitter)
        await fake.ended()
        assert isinstance(await submit(submitter), Accepted)
        assert fake.connections == 2


@pytest.mark.parametrize("how", [NONE, IMPLICIT])
@both_loops
async def test_close_closes_every_idle_connection(how: Tls, pki: Pki) -> None:
    gate = asyncio.Event()
    serve = {"tls": pki.valid} if how == IMPLICIT else {}
    async with submitting({"MAIL": (gate, "250 ok")}, ca_file=pki.ca, **serve) as (fake, submitter):
        running = [asyncio.create_task(submit(submitter)) for _ in range(3)]
        await fake.reached("MAIL", 3)
        gate.set()
        await asyncio.gather(*running)
        assert not any(session.ended for session in fake.sessions)
        submitter.close()
        await fake.ended(3)
        submitter.close()  # again, with nothing left to do
        assert asyncio.all_tasks() - fake.own_tasks() == {asyncio.current_task()}


# ---------------------------------------------------------------- several at once


@both_loops
async def test_submissions_at_once_have_a_connection_each_and_leave_them_to_the_next() -> None:
    gate = asyncio.Event()
    async with submitting({"DOT": (gate, "250 ok")}) as (fake, submitter):
        contents = [b"Subject: %d\r\n\r\n" % number for number in range(5)]
        running = [asyncio.create_task(submit(submitter, content)) for content in contents]
        await fake.reached("DOT", 5)
        gate.set()
        assert all(isinstance(event, Accepted) for event in await asyncio.gather(*running))
        assert sorted(fake.messages) == contents
        assert [len(session.messages) for session in fake.sessions] == [1] * 5
        await asyncio.gather(*(submit(submitter) for _ in range(5)))
        assert [len(session.messages) for session in fake.sessions] == [2] * 5


async def test_more_submissions_than_the_limit_are_not_started() -> None:
    gate = asyncio.Event()
    async with submitting({"GREETING": (gate, None)}) as (fake, submitter):
        running = [asyncio.create_task(submit(submitter)) for _ in range(19)]
        await fake.reached("GREETING", 19)
        assert submitter.why_not() is None
        running.append(asyncio.create_task(submit(submitter)))
        await fake.reached("GREETING", 20)
        assert submitter.why_not() == "too_many_running"
        gate.set()
        assert all(isinstance(event, Accepted) for event in await asyncio.gather(*running))
        assert submitter.why_not() is None


# ---------------------------------------------------------------- cancelled


_EVERYWHERE: list[Step] = ["GREETING", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "DOT"]


@pytest.mark.parametrize(
    ("how", "step"),
    [
        *itertools.product([NONE, IMPLICIT, STARTTLS], _EVERYWHERE),
        (STARTTLS, "STARTTLS"),
        (STARTTLS, "handshake"),
        (IMPLICIT, "handshake"),
    ],
)
@both_loops
async def test_a_cancelled_submission_closes_its_connection_and_leaves_nothing_running(
    how: Tls, step: str, pki: Pki
) -> None:
    serve = {NONE: {}, IMPLICIT: {"tls": pki.valid}, STARTTLS: {"starttls": pki.valid}}[how]
    script: Script = {step: HANG}  # type: ignore[dict-item]
    if step == "handshake":
        script = {"STARTTLS": ("220 go", HANG)} if how == STARTTLS else {"GREETING": HANG}
        serve.pop("tls", None)
    async with submitting(script, ca_file=pki.ca, to=how, **serve) as (fake, submitter):
        running = asyncio.create_task(submitter.submit(sending(), MAIL))
        await fake.reached(next(iter(script)))
        if step == "handshake":
            await fake.until(lambda: fake.lines and fake.lines[-1].startswith(b"\x16\x03"))  # ClientHello
        running.cancel()
        await asyncio.wait({running}, timeout=1)
        assert running.cancelled()
        await fake.ended()
        assert asyncio.all_tasks() - fake.own_tasks() == {asyncio.current_task()}
        assert (fake.connections, len(fake.messages)) == (1, int(step == "DOT"))


@pytest.mark.parametrize("how", [NONE, IMPLICIT, STARTTLS])
@both_loops
async def test_a_cancel_is_heard_at_every_turn_of_the_loop(how: Tls, pki: Pki, made: list[socket.socket]) -> None:
    """Python 3.11's wait_for loses a cancel that comes together with its result (gh-86296)."""
    serve = {NONE: {}, IMPLICIT: {"tls": pki.valid}, STARTTLS: {"starttls": pki.valid}}[how]
    deaf: list[int] = []
    for turns in range(10):
        before = len(made)
        async with submitting({"GREETING": HANG}, ca_file=pki.ca, timeout=SHORT, **serve) as (_, submitter):
            running = asyncio.create_task(submitter.submit(sending(), MAIL))
            while len(made) == before:  # noqa: ASYNC110 - the turns of the loop are what is counted here
                await asyncio.sleep(0)
            for _turn in range(turns):
                await asyncio.sleep(0)
            running.cancel()
            await asyncio.wait({running}, timeout=1)
            if not running.cancelled():
                deaf.append(turns)
    assert deaf == []


@pytest.mark.parametrize("step", ["MAIL", "DATA", "DOT"])
async def test_a_cancel_that_comes_together_with_a_reply_is_not_lost(
    step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same further on: a daemon that stops would wait for the reply to the final dot, ten minutes perhaps."""
    original = aiosmtplib.protocol.SMTPProtocol.data_received
    async with submitting({step: "354 9.9.9 go" if step == "DATA" else "250 9.9.9 ok"}) as (_, submitter):
        running = asyncio.create_task(submitter.submit(sending(), MAIL))

        def data_received(self: aiosmtplib.protocol.SMTPProtocol, data: bytes) -> None:
            original(self, data)
            if b"9.9.9" in data:
                running.cancel()

        monkeypatch.setattr(aiosmtplib.protocol.SMTPProtocol, "data_received", data_received)
        await asyncio.wait({running}, timeout=1)
        assert running.cancelled()


# ---------------------------------------------------------------- texts


@pytest.mark.parametrize("step", ["GREETING", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "DOT"])
async def test_a_reply_with_garbage_in_it_comes_out_printable(step: Step) -> None:
    raw = b"554 5.7.1 \xff\xfe\x00\x1b[31mgr\xc3\xbcn\x07\t\xe2\x80\xae\xed\xa0\x80 \x7f\xc2\x85end\r\n"
    async with submitting({step: raw}) as (_, submitter):
        event = await submit(submitter)
    text = event.reply.text if isinstance(event, Rejected) else event.detail  # type: ignore[union-attr]
    assert text.isprintable()
    text.encode()
    assert "grün" in text
    assert text.endswith("end")
    if isinstance(event, Rejected):
        assert event.reply.status == "5.7.1"


async def test_an_accepting_reply_with_garbage_in_it_comes_out_printable() -> None:
    async with submitting({"DOT": b"250 2.0.0 \xff\x1b[0m queued as AB\xff\r\n"}) as (_, submitter):
        event = await submit(submitter)
    assert isinstance(event, Accepted)
    assert event.reply.text.isprintable()
    event.reply.text.encode()
    assert event.queue_id == "AB"


@pytest.mark.parametrize("step", [*STAGES, "DOT"])
async def test_a_reply_that_is_no_reply_comes_out_printable_and_short(step: Step) -> None:
    async with submitting({step: b"\xff\xfe\x1b[31m \xe2\x80\xa8" + b"x" * 5000 + b"\r\n"}) as (_, submitter):
        event = await submit(submitter)
    assert isinstance(event, Failed | Unconfirmed)
    assert event.detail.isprintable()
    event.detail.encode()
    assert len(event.detail) <= 520


async def test_a_long_reply_is_cut() -> None:
    async with submitting({"MAIL": "550 " + "no " * 2000}) as (_, submitter):
        event = await submit(submitter)
    assert isinstance(event, Rejected)
    assert len(event.reply.text) <= 500


@pytest.mark.parametrize("bad", ["ülrich@bed.test", "a\x00b@bed.test", "a\r\nRSET@bed.test"])
@pytest.mark.parametrize("field", ["sender", "recipient"])
async def test_an_address_that_cannot_be_said_fails_the_probe_and_injects_nothing(field: str, bad: str) -> None:
    async with submitting() as (fake, submitter):
        event = await submitter.submit(sending(**{field: bad}), MAIL)
        if isinstance(event, Failed):
            assert event.stage == "envelope"
            await fake.ended()
    assert b"RSET" not in fake.verbs


# ---------------------------------------------------------------- the password stays with us


@both_loops
async def test_the_password_is_in_no_event_no_exception_and_no_log(caplog: pytest.LogCaptureFixture, pki: Pki) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    said: list[str] = []
    answers: list[Answer] = [None, "535 5.7.8 wrong", "334 go on", "nonsense", HANG, CLOSE, RESET, b"\xff\xff\r\n"]
    for step, answer, offered in itertools.product(("AUTH", "AUTH2"), answers, ("PLAIN", "LOGIN", "CRAM-MD5")):
        if step == "AUTH2" and (offered == "PLAIN" or answer is None):
            continue
        async with submitting({step: answer}, auth=offered, timeout=0.03) as (_, submitter):
            said.append(repr(await submit(submitter)))
            said.append(repr(await submitter.survey()))
            said.append(repr(submitter._account))
    async with submitting({"AUTH": HANG}, tls=pki.valid, ca_file=pki.ca) as (fake, submitter):
        running = asyncio.create_task(submitter.submit(sending(), MAIL))
        await fake.reached("AUTH")
        running.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await running
        said.append("".join(traceback.format_exception(caught.value)))
    said += [record.getMessage() + str(record.exc_text) + repr(record.args) for record in caplog.records]
    assert secrets_in("\n".join(said)) == []


@pytest.mark.parametrize(
    ("step", "offered"), [("AUTH", "PLAIN"), ("AUTH2", "LOGIN"), ("AUTH", "CRAM-MD5")], ids=lambda value: value
)
async def test_a_server_that_repeats_what_it_heard_does_not_make_us_tell_the_password(step: Step, offered: str) -> None:
    fakes: list[FakeSmtp] = []

    def echo() -> Answer:
        return f'500 5.5.2 Error: command not recognised: "{fakes[0].lines[-1].decode()}"'

    async with submitting({step: echo}, auth=offered) as (fake, submitter):
        fakes.append(fake)
        event = await submit(submitter)
    assert about(event) == (Failed, "auth", "auth_refused")
    assert secrets_in(repr(event)) == []


# ---------------------------------------------------------------- survey


@pytest.mark.parametrize("how", [NONE, IMPLICIT, STARTTLS])
@both_loops
async def test_a_survey_tells_what_is_offered_and_sends_nothing(how: Tls, pki: Pki) -> None:
    serve = {NONE: {}, IMPLICIT: {"tls": pki.valid}, STARTTLS: {"starttls": pki.valid}}[how]
    async with submitting(auth="LOGIN PLAIN", ca_file=pki.ca, **serve) as (fake, submitter):
        assert await submitter.survey() == (frozenset({"SIZE", "8BITMIME", "AUTH"}), ("login", "plain"))
        await fake.ended()
        assert fake.verbs[-1] == b"AUTH"
        assert not {b"MAIL", b"DATA"} & {*fake.verbs}
        assert fake.verbs.count(b"AUTH") == 1
        assert (submitter.certificate_not_after is None) == (how == NONE)
        assert submitter.why_not() is None


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ({"GREETING": "421 4.3.2 closed"}, (Deferred, "connect", Reply(421, "4.3.2", "4.3.2 closed"))),
        ({"EHLO": "554 5.7.1 go away"}, (Rejected, "ehlo", Reply(554, "5.7.1", "5.7.1 go away"))),
        ({"AUTH": "535 5.7.8 wrong"}, (Failed, "auth", "auth_refused")),
        ({"AUTH": CLOSE}, (Failed, "auth", "connection_lost")),
        ({"EHLO": HANG}, (Failed, "ehlo", "timeout")),
    ],
    ids=str,
)
async def test_a_survey_that_fails_says_how(script: Script, expected: tuple[object, ...]) -> None:
    async with submitting(script, timeout=SHORT) as (fake, submitter):
        found = await submitter.survey()
        assert not isinstance(found, tuple)
        assert about(found) == expected
        await fake.ended()
        assert submitter.why_not() == ("auth_backoff" if "auth_refused" in expected else None)


async def test_what_a_survey_found_can_be_printed() -> None:
    extensions = [b"X\xffY\x1b[31m 1", b"SIZE"]
    async with submitting(extensions=extensions, auth="PLAIN X\x1b[0m\udcff") as (_, submitter):
        found = await submitter.survey()
    assert isinstance(found, tuple)
    words = [*found[0], *found[1]]
    assert "SIZE" in words
    for word in words:
        assert word.isprintable()
        word.encode()


# ---------------------------------------------------------------- our own faults


async def test_an_account_without_a_submission_server_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="no submission server"):
        Submitter(Account("a", "a@b", "a"), now, random.Random(1))


@pytest.mark.parametrize("stage", ["resolve", "envelope", "data"])
async def test_a_listener_that_fails_does_not_change_what_became_of_the_mail(stage: Stage) -> None:
    def fall_over(name: Stage, _: float) -> None:
        if name == stage:
            raise BrokenPipeError("nobody reads our output")

    async with submitting() as (fake, submitter):
        event = await submitter.submit(sending(), MAIL, fall_over)
        assert len(fake.messages) == isinstance(event, Accepted)


# ---------------------------------------------------------------- whatever comes

_PIECES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"220 x", b"250 ok", b"250-a", b"354 go", b"334 ", b"235 ok", b"421 no", b"550 no", b"999", b"-1 "]
    ),
    st.sampled_from([b"\r\n", b"\n", b"\r", b"250", b" ", b"\0", b"\xff", b"2_5 x\r\n", b"+25 x\r\n", b"\r\n.\r\n"]),
)
_ANSWERS = st.tuples(st.lists(_PIECES, max_size=6), st.booleans(), st.sampled_from([CLOSE, RESET, HANG, None]))
_STEPS = ["GREETING", "EHLO", "STARTTLS", "AUTH", "AUTH2", "MAIL", "RCPT", "DATA", "DOT"]


def well_formed(event: Submitted, probe: str) -> None:
    """Everything that holds for every event."""
    assert isinstance(event, Accepted | Deferred | Rejected | Failed | Unconfirmed)
    assert event.probe == probe
    assert [name for name, _ in event.stages] == list(dict.fromkeys(name for name, _ in event.stages))
    match event:
        case Accepted(reply=reply, queue_id=queue_name):
            texts = [*reply[1:], queue_name]
            assert 200 <= reply.code < 300
        case Deferred(reply=reply) | Rejected(reply=reply):
            texts = [*reply[1:]]
            assert reply.code // 100 == (4 if isinstance(event, Deferred) else 5)
        case Failed(reason=reason, detail=detail) | Unconfirmed(reason=reason, detail=detail):
            texts = [reason, detail]
            assert re.fullmatch("[a-z_]+", reason)
            assert reason != "unexpected_error", detail
    assert all(text.isprintable() and len(text) <= 520 for text in texts)
    "".join(texts).encode()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=_ANSWERS, step=st.sampled_from(_STEPS), how=st.sampled_from([NONE, STARTTLS]), loop=st.booleans())
def test_whatever_a_server_answers_a_submission_ends_in_one_event_in_time(  # type: ignore[no-untyped-def]
    answer, step: Step, how: Tls, loop: bool, pki: Pki
) -> None:
    pieces, at_once, end = answer
    said: tuple[Answer, ...] = (b"".join(pieces),) if at_once else tuple(pieces)
    script: Script = {step: said if end is None else (*said, end)}
    serve = {"starttls": pki.valid, "ca_file": pki.ca} if how == STARTTLS else {}
    auth = "LOGIN" if step == "AUTH2" else "PLAIN"

    async def run() -> None:
        async with submitting(script, timeout=0.03, final_timeout=0.03, auth=auth, **serve) as (fake, submitter):
            began, since = sending(), time.monotonic()
            event = await submitter.submit(began, MAIL)
            assert time.monotonic() - since < 2
            well_formed(event, began.probe)
            assert len(fake.messages) <= 1
            if isinstance(event, Failed):
                assert fake.messages == []
            if isinstance(event, Accepted):
                assert fake.messages == [MAIL]
                assert fake.steps[-1] == "DOT"

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop else None) as runner:
        runner.run(run())


def test_the_steps_of_the_fake_are_all_tried() -> None:
    assert set(_STEPS) == {*get_args(Step)}


# ------------------------------------------------------------ what the ledger and bounces need


@both_loops
async def test_the_ledger_is_asked_when_the_envelope_is_taken_and_before_any_content() -> None:
    heard: list[list[bytes]] = []
    async with submitting() as (fake, submitter):

        async def record() -> None:
            heard.append(list(fake.verbs))

        event = await submitter.submit(sending(), MAIL, record=record)
        assert isinstance(event, Accepted)
        assert heard == [[b"EHLO", b"AUTH", b"MAIL", b"RCPT"]]
        assert fake.verbs[-1] == b"DATA"


@both_loops
async def test_a_refused_envelope_is_no_reason_to_write() -> None:
    async with submitting({"RCPT": b"550 5.1.1 no such user\r\n"}) as (_, submitter):
        event = await submitter.submit(sending(), MAIL, record=lambda: pytest.fail("nothing may leave"))
        assert isinstance(event, Rejected)


@both_loops
async def test_a_disk_that_takes_too_long_ends_the_submission_before_the_content() -> None:
    async with submitting(timeout=SHORT) as (fake, submitter):
        event = await submitter.submit(sending(), MAIL, record=asyncio.Event().wait)
        assert about(event) == (Failed, "envelope", "ledger_unwritable")
        await fake.ended()
        assert b"DATA" not in fake.verbs


@both_loops
async def test_while_the_disk_takes_its_time_the_submission_counts_as_running() -> None:
    async with submitting() as (_, submitter):
        gate = asyncio.Event()
        waiting = [asyncio.create_task(submitter.submit(sending(), MAIL, record=gate.wait)) for _ in range(20)]
        async with asyncio.timeout(LIMIT):
            while submitter.why_not() is None:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
        assert submitter.why_not() == "too_many_running"
        gate.set()
        assert {type(event) for event in await asyncio.gather(*waiting)} == {Accepted}


@both_loops
async def test_the_envelope_id_is_said_where_dsn_is_offered_and_nowhere_else() -> None:
    for extensions, wanted in ((b"DSN",), True), ((b"SIZE 1000",), False):
        async with submitting(extensions=extensions) as (fake, submitter):
            event = await submitter.submit(sending(), MAIL, envelope_id="mp1.0123456789abcdef.x")
            assert isinstance(event, Accepted)
            said = b"\n".join(fake.lines)
            assert (b"<alice@bed.test> RET=HDRS ENVID=mp1.0123456789abcdef.x" in said) is wanted
            assert (b"<bob@bed.test> NOTIFY=FAILURE,DELAY" in said) is wanted
