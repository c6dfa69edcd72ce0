"""Trouble on the wires, from the fault to what its operator sees: the metric with the reason, and the line in the log.

Rule: one row, one fault, one reason. What exactly goes over the wires in each of them, and that the prober recovers,
is shown by test_smtp.py, test_imap.py and test_watcher.py; docs/reliability.md lists it all.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from probe import clock
from probe.core import schedule
from probe.core.events import Arrived, Deferred, Rejected, Sending
from probe.core.outcome import Outcome, Sink, Sinks, Standing
from probe.core.reply import trouble
from probe.core.settings import Account, Asking, Route, Secret, Server, Settings
from probe.ledger import Ledger
from probe.log import LogSink
from probe.mail import folder, watcher
from probe.mail.smtp import Submitter
from probe.metrics import Metrics
from probe.prober import Prober

from .bed.dovecot import PASSWORD
from .bed.mailbed import MailBed, address
from .bed.pki import Authority, Certificate
from .fake_imap import FakeImap, Handler
from .fake_smtp import CLOSE, HANG, FakeSmtp, Script

SHORT = 0.35  # seconds: a time limit that a test waits for
LIMIT = 5.0  # seconds: a test that takes this long hangs
SENDER, OWN = "probe@example.de", "probe@example.org"


class Pki(NamedTuple):
    """Servers' contexts, and what a client trusts."""

    valid: ssl.SSLContext
    expired: ssl.SSLContext
    wrong_name: ssl.SSLContext
    ca: Path
    other_ca: Path


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    root = tmp_path_factory.mktemp("wires")
    ours, theirs = Authority(root / "ours"), Authority(root / "theirs")

    def context(certificate: Certificate) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.chain, certificate.key)
        return context

    return Pki(context(ours.valid()), context(ours.expired()), context(ours.wrong_name()), ours.ca, theirs.ca)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost mailbox is tried again after milliseconds."""

    def backoff(rng: random.Random, first: float, longest: float) -> Iterator[float]:
        return (delay / 1000 for delay in schedule.backoff(rng, first, longest))

    monkeypatch.setattr(watcher, "backoff", backoff)


class Arrivals(Sink):
    """Remembers which probes arrived."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def observe(self, outcome: Outcome) -> None:
        if isinstance(outcome.event, Arrived) and outcome.recorded:
            self.seen.append(outcome.event.probe)


@dataclass
class World:
    """A prober of one route "r", without its schedule, and what it exports."""

    prober: Prober
    metrics: Metrics
    arrivals: Arrivals

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        """The samples of a counter that are not zero, by their labels' values but the first's."""
        return {
            tuple(sample.labels.values())[1:]: sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == f"mailprobe_{name}_total" and sample.value
        }

    async def send(self) -> None:
        """One probe; returns when it and what came of its submission are on record."""
        await self.prober.send(self.prober.settings.routes["r"], clock.now())
        await until(lambda: self.counted("submissions"))


@contextlib.asynccontextmanager
async def probing(
    smtp: Server, imap: Server, timeout: float = LIMIT, addresses: tuple[str, str] = (SENDER, OWN)
) -> AsyncIterator[World]:
    sender, own = addresses
    accounts = {
        "gmx": Account("gmx", sender, sender, Secret(PASSWORD), smtp=smtp),
        "own": Account("own", own, own, Secret(PASSWORD), imap=imap, asking=Asking(0.02, 60)),
    }
    settings = Settings(accounts, {"r": Route("r", "gmx", "own")}, Path("/nonexistent"))
    metrics, arrivals, ledger = Metrics("0", Standing, clock.now), Arrivals(), Ledger(Path(":memory:"))
    metrics.configure(settings.accounts, settings.routes)
    prober = Prober(
        settings,
        ledger,
        b"k" * 32,
        clock.now,
        random.Random(1),
        Sinks(metrics, LogSink(), arrivals, on_bug=pytest.fail),
        timeout,
    )
    try:
        async with asyncio.timeout(4 * LIMIT), prober:
            yield World(prober, metrics, arrivals)
    finally:
        ledger.close()
        await asyncio.sleep(0.02)  # TLS says good-bye before its sockets are closed


async def until(condition: Callable[[], object], seconds: float = LIMIT) -> None:
    """Until it holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.002)


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]  # type: ignore[no-any-return]


# ---------------------------------------------------------------- submission


class Fault(NamedTuple):
    """A server's fault, and how the submission ends. `host`, `ca`, `tls`: how we go there."""

    outcome: str
    stage: str
    reason: str
    script: Script | None = None
    serve: str = ""  # a context of Pki, for implicit TLS or, with a leading "+", STARTTLS
    ca: str = "ca"
    host: str = "localhost"
    tls: Any = None


GREY = "450 4.2.0 <b@bed.test>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/bed.test"
SUBMISSIONS = {
    "DNS failure": Fault("failed", "resolve", "dns_failure", host="mail.mailprobe.invalid"),
    "refused connection": Fault("failed", "connect", "refused", host="nobody"),
    "certificate expired": Fault("failed", "tls", "certificate_expired", serve="expired"),
    "certificate of another name": Fault("failed", "tls", "wrong_name", serve="wrong_name"),
    "unknown CA": Fault("failed", "tls", "unknown_ca", serve="valid", ca="other_ca"),
    "certificate expired, STARTTLS": Fault("failed", "tls", "certificate_expired", serve="+expired"),
    "certificate of another name, STARTTLS": Fault("failed", "tls", "wrong_name", serve="+wrong_name"),
    "unknown CA, STARTTLS": Fault("failed", "tls", "unknown_ca", serve="+valid", ca="other_ca"),
    "STARTTLS not offered": Fault("failed", "tls", "starttls_not_offered", tls="starttls"),
    "STARTTLS refused": Fault("deferred", "tls", "starttls_refused", {"STARTTLS": "454 4.7.0 no TLS"}, "+valid"),
    "TLS where none is spoken": Fault("failed", "tls", "handshake_failure", tls="implicit"),
    "AUTH refused": Fault("failed", "auth", "auth_refused", {"AUTH": "535 5.7.8 wrong"}),
    "AUTH unavailable": Fault("failed", "auth", "auth_unavailable", {"AUTH": "454 4.7.0 later"}),
    "rate limit 450": Fault("deferred", "envelope", "rate_limited", {"MAIL": "450 4.7.1 Error: too much mail"}),
    "rate limit 451": Fault("deferred", "envelope", "rate_limited", {"RCPT": "451 4.7.1 Ratelimit exceeded"}),
    "rate limit 452": Fault("deferred", "data", "rate_limited", {"DATA": "452 4.3.1 sending limit exceeded"}),
    "greylisting": Fault("deferred", "envelope", "greylisted", {"RCPT": GREY}),
    "message size": Fault("rejected", "data", "message_too_big", {"DOT": "552 5.3.4 Message size exceeds fixed limit"}),
    "mailbox over quota": Fault("deferred", "envelope", "over_quota", {"RCPT": "452 4.2.2 Mailbox full"}),
    "no such user": Fault("rejected", "envelope", "no_such_user", {"RCPT": "550 5.1.1 User unknown"}),
    "spam": Fault("rejected", "data", "spam", {"DOT": "554 5.7.1 Spam message rejected"}),
    "policy": Fault("rejected", "connect", "policy", {"GREETING": "554 5.7.1 client is block listed"}),
    "shutting down": Fault("deferred", "connect", "service_unavailable", {"GREETING": "421 4.3.2 shutting down"}),
    "silent after the connection": Fault("failed", "connect", "timeout", {"GREETING": HANG}),
    "silent in the handshake": Fault("failed", "tls", "timeout", {"GREETING": HANG}, tls="implicit"),
    "silent after EHLO": Fault("failed", "ehlo", "timeout", {"EHLO": HANG}),
    "silent after STARTTLS": Fault("failed", "tls", "timeout", {"STARTTLS": HANG}, "+valid"),
    "silent after AUTH": Fault("failed", "auth", "timeout", {"AUTH": HANG}),
    "silent after MAIL": Fault("failed", "envelope", "timeout", {"MAIL": HANG}),
    "silent after RCPT": Fault("failed", "envelope", "timeout", {"RCPT": HANG}),
    "silent after DATA": Fault("failed", "data", "timeout", {"DATA": HANG}),
    "silent after the content": Fault("unconfirmed", "data", "timeout", {"DOT": HANG}),
    "gone after the content": Fault("unconfirmed", "data", "connection_lost", {"DOT": CLOSE}),
    "8-bit garbage": Fault("failed", "envelope", "garbled_reply", {"RCPT": bytes(range(128, 256)) + b"\r\n"}),
    "8-bit garbage in a reply": Fault("rejected", "envelope", "no_such_user", {"RCPT": b"550 5.1.1 \xff\xfe\x80\r\n"}),
    "an endless reply": Fault("failed", "envelope", "garbled_reply", {"RCPT": b"250-" + b"x" * 2_000_000}),
}  # fmt: skip


@pytest.mark.parametrize("fault", SUBMISSIONS)
async def test_a_submission_that_fails_is_counted_once_with_its_stage_and_reason(
    fault: str, pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    it = SUBMISSIONS[fault]
    context = getattr(pki, it.serve.strip("+")) if it.serve else None
    way = {"starttls" if it.serve.startswith("+") else "tls": context} if context else {}
    timeout = SHORT if it.reason == "timeout" else LIMIT
    async with FakeSmtp(it.script, **way) as smtp, FakeImap() as imap:
        server = smtp.server(getattr(pki, it.ca), it.host, it.tls)
        if it.host == "nobody":
            server = dataclasses.replace(server, host="127.0.0.1", port=free_port())
        async with probing(server, imap.server(), timeout) as world:
            world.prober._submitters["gmx"]._final_timeout = timeout
            await world.send()
            assert world.counted("submissions") == {(it.outcome,): 1}
            assert world.counted("submission_errors") == {(it.stage, it.reason): 1}
    (line,) = [text for text in caplog.messages if text.startswith(f"{it.outcome} route=r")]
    assert f" stage={it.stage} reason={it.reason} " in line + " "
    assert line.isprintable()


async def test_an_accepted_submission_is_no_error() -> None:
    async with FakeSmtp() as smtp, FakeImap() as imap, probing(smtp.server(), imap.server()) as world:
        await world.send()
        assert world.counted("submissions") == {("accepted",): 1}
        assert world.counted("submission_errors") == {}


@pytest.mark.parametrize(
    ("script", "reason"),
    [({"RCPT": "450 4.7.1 Ratelimit exceeded"}, "rate_limited"), ({"AUTH": "535 5.7.8 wrong"}, "auth_backoff")],
    ids=["rate limit", "log-in"],
)
async def test_a_probe_that_is_not_sent_for_the_provider_s_sake_is_skipped_with_the_reason(
    script: Script, reason: str
) -> None:
    async with FakeSmtp(script) as smtp, FakeImap() as imap, probing(smtp.server(), imap.server()) as world:
        await world.send()
        for _ in range(3):
            assert await world.prober.send(world.prober.settings.routes["r"], clock.now()) == reason
        assert world.counted("probes_skipped") == {(reason,): 3}
        assert smtp.connections == 1


# ---------------------------------------------------------------- the mailbox


def answers(wanted: bytes, answer: bytes | None) -> Handler:
    """Answers every such command by this; None: by nothing. TAG stands for its tag."""

    async def handler(tag: bytes, command: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
        if not (command + b" " + args).startswith(wanted):
            return False
        if answer:
            writer.write(answer.replace(b"TAG", tag) + b"\r\n")
        return True

    return handler


class Blind(NamedTuple):
    """A fault of a mailbox's server, and why the mailbox is not watched."""

    reason: str
    command: bytes = b""
    answer: bytes | None = None
    serve: str = ""  # as in Fault
    ca: str = "ca"
    host: str = "localhost"
    tls: Any = None
    greeting: bytes = b"* OK ready\r\n"
    folders: tuple[str, ...] = ("INBOX", "Junk")


MAILBOXES = {
    "DNS failure": Blind("dns_failure", host="mail.mailprobe.invalid"),
    "refused connection": Blind("refused", host="nobody"),
    "certificate expired": Blind("certificate_expired", serve="expired"),
    "certificate of another name": Blind("wrong_name", serve="wrong_name"),
    "unknown CA": Blind("unknown_ca", serve="valid", ca="other_ca"),
    "certificate expired, STARTTLS": Blind("certificate_expired", serve="+expired"),
    "certificate of another name, STARTTLS": Blind("wrong_name", serve="+wrong_name"),
    "unknown CA, STARTTLS": Blind("unknown_ca", serve="+valid", ca="other_ca"),
    "STARTTLS not offered": Blind("starttls_not_offered", tls="starttls"),
    "STARTTLS refused": Blind("starttls_refused", b"STARTTLS", b"TAG NO not now", "+valid"),
    "TLS where none is spoken": Blind("handshake_failure", tls="implicit"),
    "AUTH refused": Blind("auth_refused", b"LOGIN", b"TAG NO [AUTHENTICATIONFAILED] wrong"),
    "AUTH unavailable": Blind("auth_unavailable", b"LOGIN", b"TAG NO [UNAVAILABLE] later"),
    "BYE as a greeting": Blind("bye", greeting=b"* BYE overloaded\r\n"),
    "BYE after the log-in": Blind("bye", b"LIST", b"* BYE shutting down"),
    "BYE in IDLE": Blind("bye", b"IDLE", b"+ idling\r\n* BYE shutting down"),
    "silent after the connection": Blind("timeout", greeting=b""),
    "silent in the handshake": Blind("timeout", greeting=b"", tls="implicit"),
    "silent after STARTTLS": Blind("timeout", b"STARTTLS", None, "+valid"),
    "silent after CAPABILITY": Blind("timeout", b"CAPABILITY"),
    "silent after LOGIN": Blind("timeout", b"LOGIN"),
    "silent after LIST": Blind("timeout", b"LIST"),
    "silent after SELECT": Blind("timeout", b"SELECT"),
    "silent after FETCH": Blind("timeout", b"UID FETCH"),
    "silent after IDLE": Blind("timeout", b"IDLE"),
    "silent after DONE": Blind("timeout", b"DONE"),
    "a literal of gigabytes": Blind("protocol_error", b"UID FETCH", b"* 1 FETCH (UID 1 BODY[] {4000000000}"),
    "8-bit garbage": Blind("protocol_error", b"LIST", bytes(range(128, 256))),
    "INBOX missing": Blind("no_inbox", folders=("Junk",)),
    "INBOX over quota": Blind("over_quota", b'SELECT "INBOX"', b"TAG NO [OVERQUOTA] full"),
    "junk folder not to be opened": Blind("no_folder", b'SELECT "Junk"', b"TAG NO no"),
    "a command refused": Blind("command_refused", b"UID FETCH", b"TAG BAD no"),
}


@pytest.mark.parametrize("fault", MAILBOXES)
async def test_a_mailbox_that_cannot_be_watched_is_down_and_counted_with_the_reason(
    fault: str, pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    it = MAILBOXES[fault]
    context = getattr(pki, it.serve.strip("+")) if it.serve else None
    way = {"starttls" if it.serve.startswith("+") else "tls": context} if context else {}
    # A server without a greeting says nothing to anything, such as a handshake with a line feed in it.
    handler = answers(it.command, it.answer) if it.command or not it.greeting else None
    async with FakeSmtp() as smtp, FakeImap(handler, greeting=it.greeting, **way) as imap:
        imap.folders = {name: imap.folders[name] for name in it.folders}
        server = imap.server(getattr(pki, it.ca), it.host)
        if it.host == "nobody":
            server = dataclasses.replace(server, host="127.0.0.1", port=free_port())
        server = dataclasses.replace(server, tls=it.tls or server.tls)
        async with probing(smtp.server(), server, SHORT if it.reason == "timeout" else LIMIT) as world:
            if it.command in (b"UID FETCH", b"DONE"):  # which come only when there is something to see, or to ask
                await until(lambda: world.prober.watchers["own"].up)
                imap.append(b"Subject: cake\r\n\r\n")
            await until(lambda: world.counted("mailbox_disconnects"))
            assert {reason for (reason,) in world.counted("mailbox_disconnects")} == {it.reason}
            await until(lambda: f"mailbox_unwatched account=own reason={it.reason} " in caplog.text)
            if it.command not in (b"IDLE", b"DONE", b"UID FETCH"):  # in these it is up for a moment
                assert world.metrics.registry.get_sample_value("mailprobe_mailbox_up", {"account": "own"}) == 0


async def test_a_mailbox_that_refuses_removal_is_up_and_the_refusal_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handler = answers(b"UID STORE", b"TAG NO [OVERQUOTA] Not enough disk quota")
    async with FakeSmtp() as smtp, FakeImap(handler) as imap, probing(smtp.server(), imap.server()) as world:
        await until(lambda: world.prober.watchers["own"].up)
        await world.send()
        imap.append(smtp.messages[0])
        await until(lambda: world.counted("removals_refused"))
        assert world.counted("removals_refused") == {("over_quota",): 1}
        assert world.counted("mailbox_disconnects") == {}
        assert len(world.arrivals.seen) == 1
    assert "cannot remove test mails from INBOX" in caplog.text


# ---------------------------------------------------------------- real servers


def servers(bed: MailBed) -> tuple[Server, Server]:
    """The ways to its submission and to its mailboxes."""
    smtp, imap = (Server("127.0.0.1", bed.ports[name], "implicit", bed.pki.ca) for name in ("submissions", "imaps"))
    return smtp, imap


@pytest.fixture
def strict(bed: MailBed, fresh_user: Callable[[], str]) -> Iterator[tuple[str, str]]:
    """Two users, of whom Postfix greylists the first and thinks the second one's mailbox full; it also takes no more
    than three mails a minute, and none that is longer than half a kilobyte."""
    grey, full = fresh_user(), fresh_user()
    said = f"{{{address(grey)} = 450 4.2.0 Greylisted}}, {{{address(full)} = 452 4.2.2 Mailbox full}}"
    bed.postfix.set(
        smtpd_recipient_restrictions=f"check_recipient_access inline:{{ {said} }}",
        message_size_limit="512",
        smtpd_client_message_rate_limit="3",
        smtpd_client_event_limit_exceptions="",
    )
    yield grey, full
    bed.postfix.set(
        smtpd_recipient_restrictions="",
        message_size_limit="10240000",
        smtpd_client_message_rate_limit="0",
        smtpd_client_event_limit_exceptions="$mynetworks",
    )


async def test_what_a_real_postfix_refuses_has_the_right_reason(
    bed: MailBed, fresh_user: Callable[[], str], strict: tuple[str, str]
) -> None:
    sender = address(fresh_user())
    account = Account("a", sender, sender, Secret(PASSWORD), smtp=servers(bed)[0])
    submitter = Submitter(account, clock.now, random.Random(1), timeout=LIMIT)
    reasons = []
    for recipient in (*strict, fresh_user(), fresh_user()):
        sending = Sending("0" * 16, clock.now(), "r", clock.now(), sender, address(recipient))
        event = await submitter.submit(sending, b"Subject: probe\r\n\r\n" + b"0123456789\r\n" * 50)
        assert isinstance(event, Deferred | Rejected)
        reasons.append((type(event), *trouble(event)))
    assert reasons == [
        (Deferred, "envelope", "greylisted"),
        (Deferred, "envelope", "over_quota"),
        (Rejected, "data", "message_too_big"),
        (Deferred, "envelope", "rate_limited"),
    ]
    assert submitter.why_not() == "rate_limited"


async def test_a_probe_is_found_in_a_real_dovecot_whose_inbox_was_moved_away(
    bed: MailBed, fresh_user: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dovecot makes another one, with another UIDVALIDITY. (It refuses an IMAP client's RENAME.)"""
    monkeypatch.setattr(folder, "RELISTEN", 0.5)  # its IDLE may go on watching the old one: entered anew, it notices
    users = fresh_user(), fresh_user()
    async with probing(*servers(bed), addresses=(address(users[0]), address(users[1]))) as world:
        await until(lambda: world.prober.watchers["own"].up)
        await world.send()
        await until(lambda: len(world.arrivals.seen) == 1)
        home = bed.dovecot.root / "mail" / users[1]
        (home / "Maildir").rename(home / "Old")
        while len(world.arrivals.seen) < 2:
            await world.send()
            await asyncio.sleep(0.2)
        reasons = {reason for (reason,) in world.counted("mailbox_disconnects")}
        assert reasons <= {"bye", "eof", "protocol_error", "no_inbox"}
