"""The way out: submissions (RFC 6409) through one account; the only importer of aiosmtplib.

Rules:
- Every submission ends, within bounded time, in exactly one of core.events.Submitted; nothing that a server or a
  network can do raises.
- Once the content began to leave, no reply means Unconfirmed, and the mail is never sent again.
- One AUTH mechanism, tried once; a refused access token is dropped, and the next log-in shows another. TLS is what the
  configuration says, never "if offered".
- After anything unexpected the connection is closed: its stream cannot be trusted any more.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import aiosmtplib

from probe.core.events import (
    Accepted,
    Deferred,
    Failed,
    Instant,
    Rejected,
    Sending,
    Stage,
    Submitted,
    Unconfirmed,
    elapsed,
)
from probe.core.reply import one_line, parse_reply, queue_id, refusal
from probe.core.schedule import Pause
from probe.core.settings import Account, Secret, Server
from probe.mail import net, oauth
from probe.mail.oauth import NoToken, Tokens

_KEEP = 15.0  # seconds an idle connection is kept; RFC 5321 §4.5.3.2.7 allows 300, Postfix under stress only 10
_REUSE_AGE = 300.0  # then a new one, so that connect, tls and auth go on being measured
_REUSE_MAILS = 100
_RUNNING = 20  # submissions of one account at once
_MECHANISMS = ("plain", "login", "cram-md5")
_T = TypeVar("_T")
OnStage = Callable[[Stage, float], None]
Record = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class _Timeline:
    """Which stages one submission went through and how long each took, in seconds."""

    clock: Callable[[], Instant]
    on_stage: OnStage | None
    current: Stage = "resolve"
    spent: list[tuple[Stage, float]] = field(default_factory=list)
    content_left: Instant | None = None

    @contextlib.contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        self.current = name
        began = self.clock()
        yield
        seconds = elapsed(began, self.clock())
        self.spent.append((name, seconds))
        if self.on_stage:
            with contextlib.suppress(Exception):  # a listener's trouble must not change what became of the mail
                self.on_stage(name, seconds)


@dataclass(slots=True)
class _Session:
    """One connection that has logged in."""

    client: aiosmtplib.SMTP
    opened: Instant
    mails: int = 0
    closing: asyncio.TimerHandle | None = None


@dataclass(frozen=True, slots=True)
class _Letter:
    """What is to be submitted; see Submitter.submit."""

    sending: Sending
    content: bytes
    record: Record | None
    envelope_id: str


class Submitter:
    """Submits probes through one account; several at once, each over a connection of its own, kept while worth it.

    `timeout` bounds each step in seconds, `final_timeout` the wait for the reply to the final dot (RFC 5321
    §4.5.3.2.6 asks for 10 minutes: who gives up earlier gets duplicates and doubt). `tokens` are for an account with
    oauth.
    """

    def __init__(
        self,
        account: Account,
        clock: Callable[[], Instant],
        rng: random.Random,
        *,
        timeout: float = 30.0,
        final_timeout: float = 600.0,
        tokens: Tokens | None = None,
    ) -> None:
        if account.smtp is None:
            raise ValueError(f"account {account.name} has no submission server")
        self._account = account
        self._server: Server = account.smtp
        self._clock = clock
        self._rng = rng
        self._timeout = timeout
        self._final_timeout = final_timeout
        self._tokens = tokens
        self._secret = account.password  # what log-ins are done with; the last access token
        self._logging_in = asyncio.Lock()
        self._idle: list[_Session] = []
        self._running = 0
        # A log-in that was refused for good (5xx): repeated quickly it would lock the account.
        self._refused = Pause(rng, 120.0, 3600.0)
        self._unavailable = Pause(rng, 5.0, 300.0)  # one that failed for now (4xx: the server's own trouble)
        self._limited = Pause(rng, 60.0, 900.0)  # first within the usual period: one limit costs a probe or none
        self.certificate_not_after: float | None = None  # Unix time, of the last TLS session

    def why_not(self) -> str | None:
        """Why a probe must not be started now (a label), or None. A refused log-in is repeated after growing delays of
        up to an hour, so that the account is not locked; a rate limit is given time to pass, up to 15 minutes."""
        if self._in_backoff():
            return "auth_backoff"
        if self._limited.is_on(self._clock()):
            return "rate_limited"
        return "too_many_running" if self._running >= _RUNNING else None

    def _in_backoff(self) -> bool:
        now = self._clock()
        return self._refused.is_on(now) or self._unavailable.is_on(now)

    def _log_in_failed(self, at: Instant, for_good: bool) -> None:
        if not self._in_backoff():
            (self._refused if for_good else self._unavailable).begin(at)

    async def submit(
        self,
        sending: Sending,
        content: bytes,
        on_stage: OnStage | None = None,
        record: Record | None = None,
        envelope_id: str = "",
    ) -> Submitted:
        """Send one mail; see the module's rules. Cancelling closes the connection and leaves the outcome open.

        `record` is awaited when all is ready for the content: when it returns, the ledger knows that it may leave. It
        may be called again for a second attempt over a fresh connection. `envelope_id` is what a bounce shall name
        (RFC 3461), where the server offers DSN.
        """
        self._running += 1
        line = _Timeline(self._clock, on_stage)
        try:
            return await self._submit(_Letter(sending, content, record, envelope_id), line)
        except Exception as error:  # noqa: BLE001 - whatever it is, the probe needs exactly one outcome
            return self._outcome(sending.probe, line, error)
        finally:
            self._running -= 1

    async def survey(self) -> tuple[frozenset[str], tuple[str, ...]] | Failed | Deferred | Rejected | Unconfirmed:
        """Connect and log in, send nothing: the extensions (RFC 5321 §2.2, upper-cased) and AUTH mechanisms offered."""
        line = _Timeline(self._clock, None)
        try:
            session = await self._open(line)
        except Exception as error:  # noqa: BLE001 - as in submit
            outcome = self._outcome("", line, error)
            assert not isinstance(outcome, Accepted)
            return outcome
        client = session.client
        offered = (
            frozenset(one_line(word).upper() for word in client.esmtp_extensions),
            tuple(map(one_line, client.server_auth_methods)),
        )
        client.close()
        return offered

    async def _submit(self, letter: _Letter, line: _Timeline) -> Submitted:
        session = self._take_idle()
        if session:
            try:
                return await self._transact(session, letter, line)
            except Exception as error:
                if line.content_left or not _was_stale(error):
                    raise
                line.spent.clear()  # the kept connection had died, and nothing of the mail has left
        return await self._transact(await self._open(line), letter, line)

    async def _open(self, line: _Timeline) -> _Session:
        server, timeout = self._server, self._timeout
        if self._tokens:
            line.current = "auth"  # but outside of its time, and before there is a connection that would wait
            self._secret = await self._tokens.get()
        secret = self._secret
        with line.stage("resolve"):
            addresses = await net.resolve(server.host, server.port, timeout)
        with line.stage("connect"):
            context = None if server.tls == "none" else net.tls_context(server.ca_file)
            sock = await net.connect(addresses, timeout)
            client = aiosmtplib.SMTP(
                hostname=server.host,
                sock=sock,
                timeout=None,  # see _step
                use_tls=server.tls == "implicit",
                start_tls=False,
                tls_context=context,
                local_hostname=_address_literal(sock),
            )
            if server.tls != "implicit":
                await self._greet(client, sock)
        try:
            if server.tls == "implicit":
                with line.stage("tls"):
                    await self._greet(client, sock)  # the handshake, too
            with line.stage("ehlo"):
                await self._step(client, client.ehlo())
            if server.tls == "starttls":
                with line.stage("tls"):
                    await self._step(client, client.starttls())
                    await self._step(client, client.ehlo())
            if secret:
                await self._log_in(client, secret, line)
        except BaseException:
            client.close()
            raise
        if certificate := client.get_transport_info("peercert"):
            self.certificate_not_after = ssl.cert_time_to_seconds(certificate["notAfter"])
        return _Session(client, self._clock())

    async def _greet(self, client: aiosmtplib.SMTP, sock: socket.socket) -> None:
        try:
            await self._step(client, client.connect())
        except BaseException:
            net.let_go(sock)
            raise

    async def _step(self, client: aiosmtplib.SMTP, command: Awaitable[_T]) -> _T:
        """One command and its reply, within the time limit.

        The limit is ours and not aiosmtplib's: its wait_for (of Python 3.11) swallows a cancel that comes together
        with the reply. It also keeps what a server says beyond one reply and takes it for the reply to the next
        command: a 250 sent early would then make the provider answerable for a mail that it refused.
        """
        async with asyncio.timeout(self._timeout):
            reply = await command
        if client.protocol is not None and client.protocol._buffer:
            raise net.Unusable("garbled_reply", "more than one reply to one command")
        return reply

    async def _envelope(self, client: aiosmtplib.SMTP, command: bytes) -> None:
        reply = await self._step(client, client.execute_command(command))
        if reply.code not in (250, 251):
            raise aiosmtplib.SMTPResponseException(reply.code, reply.message)

    async def _log_in(self, client: aiosmtplib.SMTP, secret: Secret, line: _Timeline) -> None:
        # One at a time: a wrong password must be tried once, and not once for every probe that is due.
        async with self._logging_in:
            line.current = "auth"
            if self._in_backoff():
                raise net.Unusable("auth_refused", "the log-in was refused a moment ago")
            try:
                await self._authenticate(client, secret.reveal(), line)
            except aiosmtplib.SMTPResponseException as error:
                if self._tokens and error.code >= 500:
                    self._tokens.refused(secret)
                raise
        self._refused.end()
        self._unavailable.end()

    async def _authenticate(self, client: aiosmtplib.SMTP, secret: str, line: _Timeline) -> None:
        with line.stage("auth"):
            known = ("xoauth2",) if self._tokens else _MECHANISMS
            offered = [name for name in known if name in client.server_auth_methods]
            if not offered:
                raise net.Unusable("no_auth_mechanism", ", ".join(client.server_auth_methods) or "AUTH is not offered")
            log_in = {
                "plain": client.auth_plain,
                "login": client.auth_login,
                "cram-md5": client.auth_crammd5,
                "xoauth2": client.auth_xoauth2,
            }
            await self._step(client, log_in[offered[0]](self._account.username, secret))

    async def _transact(self, session: _Session, letter: _Letter, line: _Timeline) -> Submitted:
        sending = letter.sending
        client = session.client
        try:
            with line.stage("envelope"):
                # Not client.mail(): it parses addresses that config/ has checked, at the cost of both commands.
                dsn = bool(letter.envelope_id) and client.supports_extension("dsn")
                envid = b" RET=HDRS ENVID=" + letter.envelope_id.encode() if dsn else b""
                notify = b" NOTIFY=FAILURE,DELAY" if dsn else b""
                await self._envelope(client, b"MAIL FROM:<%s>%s" % (sending.sender.encode(), envid))
                await self._envelope(client, b"RCPT TO:<%s>%s" % (sending.recipient.encode(), notify))
            if letter.record:
                await self._recorded(letter.record)
            with line.stage("data"):
                reply = await self._step(client, client.execute_command(b"DATA"))
                if reply.code != 354:
                    raise aiosmtplib.SMTPDataError(reply.code, reply.message)
                protocol = client.protocol
                if protocol is None:
                    raise aiosmtplib.SMTPServerDisconnected("Connection lost")
                line.content_left = self._clock()
                protocol.write(re.sub(rb"(?m)^\.", b"..", letter.content) + b".\r\n")
                async with asyncio.timeout(self._final_timeout):
                    reply = await protocol.read_response()
                accepted_at = self._clock()
                if reply.code // 100 != 2:
                    raise aiosmtplib.SMTPDataError(reply.code, reply.message)
        except BaseException:
            client.close()
            raise
        session.mails += 1
        self._keep(session)
        self._limited.end()
        said = parse_reply(reply.code, reply.message)
        return Accepted(sending.probe, accepted_at, said, queue_id(said.text), tuple(line.spent))

    async def _recorded(self, record: Record) -> None:
        """Wait for the disk no longer than for a server: it would close the connection."""
        try:
            async with asyncio.timeout(self._timeout):
                await record()
        except TimeoutError:
            raise net.Unusable("ledger_unwritable", "the disk takes too long") from None

    # -- connections between probes ------------------------------------------------------------------------------

    def _take_idle(self) -> _Session | None:
        while self._idle:
            session = self._idle.pop()
            if session.closing:
                session.closing.cancel()
            if session.client.is_connected:
                return session
        return None

    def _keep(self, session: _Session) -> None:
        if session.mails >= _REUSE_MAILS or elapsed(session.opened, self._clock()) > _REUSE_AGE:
            session.client.close()
            return
        session.closing = asyncio.get_running_loop().call_later(_KEEP, self._drop, session)
        self._idle.append(session)

    def _drop(self, session: _Session) -> None:
        if session in self._idle:
            self._idle.remove(session)
        session.client.close()

    def close(self) -> None:
        """Close the connections that are idle. Without QUIT: RFC 5321 §4.1.1.10 asks for it to be polite, but here
        nothing is left to be said, and an exit must not wait for a server."""
        while session := self._take_idle():
            session.client.close()

    # -- what it came to -----------------------------------------------------------------------------------------

    def _outcome(self, probe: str, line: _Timeline, error: Exception) -> Submitted:
        """The one judge of failures."""
        at, spent, stage = self._clock(), tuple(line.spent), line.current
        if isinstance(error, aiosmtplib.SMTPResponseException) and 400 <= error.code < 600:
            reply = parse_reply(error.code, self._redacted(error.message))
            if stage == "auth":
                self._log_in_failed(
                    at, reply.code >= 500 or refusal(stage, reply) == "rate_limited"
                )  # too many already
                reason = "auth_refused" if error.code >= 500 else "auth_unavailable"
                return Failed(probe, at, stage, reason, f"{reply.code} {reply.text}", spent)
            if refusal(stage, reply) == "rate_limited":
                self._limited.begin(at)
            kind = Deferred if error.code < 500 else Rejected
            return kind(probe, at, stage, reply, spent)
        if isinstance(error, NoToken):
            self._log_in_failed(at, error.for_good)
        reason, detail = _reason(error)
        detail = one_line(self._redacted(detail))
        if line.content_left:
            return Unconfirmed(probe, at, line.content_left, reason, detail, spent)
        return Failed(probe, at, error.stage if isinstance(error, net.Unreachable) else stage, reason, detail, spent)

    def _redacted(self, text: str) -> str:
        """A server may repeat what it heard. Before a text is shortened: half a secret is not found any more."""
        if self._secret is None:
            return text
        secret, user = self._secret.reveal(), self._account.username
        sasl = _base64(f"\0{user}\0{secret}"), _base64(oauth.xoauth2(user, secret).decode())
        for form in (secret, _base64(secret), *sasl):
            text = text.replace(form, "******")
        return text


def _was_stale(error: Exception) -> bool:
    closing = isinstance(error, aiosmtplib.SMTPResponseException) and error.code == 421
    return closing or isinstance(error, ConnectionError)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _reason(error: Exception) -> tuple[str, str]:
    """A label and a text, as it came, for an error that is no SMTP reply."""
    detail = str(error)
    cause = error.__cause__
    match error:
        case net.Unreachable(reason=reason) | net.Unusable(reason=reason):
            return reason, detail
        case NoToken(reason=reason, detail=said):
            return reason, said
        case aiosmtplib.SMTPResponseException():
            return "garbled_reply", detail
        case aiosmtplib.SMTPConnectError() if isinstance(cause, OSError):
            return net.tls_reason(cause), str(cause)
        case ssl.SSLError():
            return net.tls_reason(error), detail
        case TimeoutError():  # aiosmtplib's time-outs are subclasses
            return "timeout", detail
        case ConnectionError() if net.peer_is_gone(cause):
            return "keepalive", str(cause)
        case ConnectionError():
            return "connection_lost", detail
        case aiosmtplib.SMTPException() if "STARTTLS" in str(error):
            return "starttls_not_offered", detail
    return "unexpected_error", f"{type(error).__name__}: {detail}"


def _address_literal(sock: socket.socket) -> str:
    """Our name in EHLO: the address of our end (RFC 5321 §4.1.3), valid without any DNS."""
    address = sock.getsockname()[0]
    return f"[IPv6:{address.partition('%')[0]}]" if sock.family == socket.AF_INET6 else f"[{address}]"
