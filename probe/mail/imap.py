"""One IMAP connection that cannot hang, lose EXISTS, or delete wrongly. Sole importer of aioimaplib.

Rules:
1. Every await ends: by an answer, or within `timeout` seconds of silence (ten times that in all) in Lost. A command
   that timed out, was cancelled or was answered by nonsense aborts the connection: its stream cannot be trusted.
2. EXISTS is a doorbell: it is stamped before parsing and kept (`rung`) until taken, whichever command it came with.
3. Nothing is deleted but by UID EXPUNGE, under the UIDVALIDITY that SELECT told; CLOSE and EXPUNGE are never sent.
4. A secret goes to the wire and nowhere else: no error, log line or object here holds it.

    ImapError
    ├── Lost               the connection is gone or was given up; .reason is a word fit for a metric's label
    └── Refused            tagged NO or BAD, or a command that this server cannot be asked
        └── AuthRefused    … to LOGIN or AUTHENTICATE
(net.Unreachable, raised by `open` alone: the connection never came to be, or TLS was not to be had.)

aioimaplib 2.0 gives the protocol's skeleton, tags and commands; framing, dispatch, time limits and quoting are ours,
because its own hang, lose and corrupt. Names of it that we rely on (private ones starred), held to it by test_imap.py:
IMAP4ClientProtocol: loop, transport, state, pending_sync_command, new_tag(), connection_made().
Command: name, tag, append_to_resp(), close(), wait(), response; *_event, *_exception. CONNECTED, NONAUTH, log.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import logging
import math
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from types import TracebackType
from typing import Literal

from aioimaplib import aioimaplib

from probe.core.events import Instant
from probe.core.settings import Secret, Server
from probe.mail import imap_syntax as syntax
from probe.mail import net
from probe.mail.imap_syntax import Fetched, Folder, Malformed, Parts

__all__ = ["AuthRefused", "Connection", "Fetched", "Folder", "ImapError", "Lost", "LostReason", "Refused", "Selected"]

LostReason = Literal["eof", "reset", "bye", "timeout", "protocol_error", "closed", "keepalive", "cancelled"]

_PATIENCE = 10  # a command that makes progress may take this many times `timeout`
_MAX_ANSWER = 4 * syntax.MAX_RESPONSE  # all that one command's answer may hold in memory
_LOGOUT_TIMEOUT = 2.0


class ImapError(Exception):
    """What goes wrong on an IMAP connection; see the module's text."""


class Lost(ImapError):
    """The connection is gone or was given up."""

    def __init__(self, reason: LostReason, text: str = "") -> None:
        super().__init__(f"connection lost: {reason} ({text})" if text else f"connection lost: {reason}")
        self.reason: LostReason = reason
        self.text = text


class Refused(ImapError):
    """The server said NO or BAD. `code` is its response code, such as "NONEXISTENT" (RFC 5530), or ""."""

    def __init__(self, command: str, code: str, text: str) -> None:
        super().__init__(f"{command} refused: " + (f"[{code}] " if code else "") + text)
        self.command, self.code, self.text = command, code, text


class AuthRefused(Refused):
    """The log-in was refused."""


@dataclass(frozen=True, slots=True)
class Selected:
    """What SELECT told."""

    folder: str
    uidvalidity: int
    uidnext: int | None
    exists: int
    read_only: bool


class _NoSecrets(logging.Filter):
    """aioimaplib logs whole commands (LOGIN with its password, when a tag is wrong): drop whatever may be one."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage().upper()
        return "LOGIN" not in text and "AUTHENTICATE" not in text


aioimaplib.log.setLevel(logging.WARNING)
aioimaplib.log.addFilter(_NoSecrets())


class _Command(aioimaplib.Command):  # type: ignore[misc]
    """A command in flight. It never holds its own arguments: they may be secret."""

    def __init__(
        self, name: str, tag: str, loop: asyncio.AbstractEventLoop, wanted: bytes = b"", replies: Sequence[bytes] = ()
    ) -> None:
        super().__init__(name, tag, loop=loop)
        self.wanted = wanted  # name of the untagged responses that are kept
        self.replies = list(replies)  # what is sent at each "+"
        self.held = 0
        self.begun = self.done = False

    def close(self, line: bytes, result: str) -> None:
        self.done = True
        super().close(line, result)

    def fail(self, error: ImapError) -> None:
        self._exception = error
        self._event.set()

    def begin(self) -> None:
        """IDLE's "+": wait() returns; from now on it waits for the end."""
        if not self.begun:
            self.begun = True
            self._event.set()

    def rearm(self) -> None:
        self._event.clear()


class _Wire(aioimaplib.IMAP4ClientProtocol):  # type: ignore[misc]
    """The protocol: bytes to responses to the one command in flight; time limits, doorbell, loss."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport | None
    pending_sync_command: _Command | None
    state: str

    def __init__(
        self, clock: Callable[[], Instant], timeout: float, on_exists: Callable[[Instant], None] | None
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(loop)
        self.clock, self.timeout, self.on_exists = clock, timeout, on_exists
        self.last_contact = clock()
        self.lock = asyncio.Lock()
        self.framer: syntax.Framer[Instant] = syntax.Framer()
        self.lost: tuple[LostReason, str] | None = None
        self.known: frozenset[str] | None = None  # capabilities; None: to be asked for
        self.greeting = ""
        self.secrets: tuple[str, ...] = ()  # words to strike from the server's texts, during the log-in only
        self.leaving = False  # BYE is welcome
        self.deaf = False  # between the OK to STARTTLS and the end of the handshake: whatever comes was injected
        self.selecting = False
        self.facts: dict[str, int] = {}  # of the last SELECT: EXISTS, UIDVALIDITY, UIDNEXT
        self.exists: int | None = None  # mails in the selected folder
        self.rung: Instant | None = None
        self._naps: set[asyncio.Timeout] = set()
        # One lazy timer for the connection instead of one for each command
        self._timer: asyncio.TimerHandle | None = None
        self._heard = self._cap = 0.0
        self.pending_sync_command = _Command("greeting", "*", loop)
        self._limit()

    # ------------------------------------------------------------ one command at a time

    async def run(
        self, line: bytes, name: str, wanted: bytes = b"", replies: Sequence[bytes] = ()
    ) -> tuple[list[Parts], bytes]:
        """Send one command and wait for its end: the untagged responses called `wanted`, and the text of the OK.

        Raises Refused, Lost; ValueError for a line that would be two.
        """
        async with self.lock:
            command = self._start(line, name, wanted, replies)
            await self._finish(command)
        return self._answer(command)

    async def idle(self, timeout: float, wake: asyncio.Event) -> None:
        """One IDLE from start to answered DONE; see Connection.idle."""
        async with self.lock:
            self.check()
            if self.rung is not None or wake.is_set():
                return
            command = self._start(b"IDLE", "IDLE")
            await self._finish(command)  # by "+", or by a refusal
            if not command.done:
                command.rearm()
                self._cap = math.inf
                try:
                    await self.nap(timeout, wake)
                except asyncio.CancelledError:
                    self.lose("cancelled", "IDLE was cancelled")
                    raise
                if not command.done:
                    self._limit()
                    self._write(b"DONE\r\n")
                    await self._finish(command)
        self._answer(command)

    def _start(self, line: bytes, name: str, wanted: bytes = b"", replies: Sequence[bytes] = ()) -> _Command:
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise ValueError(f"NUL, CR or LF in the arguments of {name}")
        self.check()
        command = _Command(name, self.new_tag(), self.loop, wanted, replies)
        self.pending_sync_command = command
        if name == "SELECT":
            self.selecting, self.facts, self.exists, self.rung = True, {}, None, None
        self._limit()
        self._write(b"%s %s\r\n" % (command.tag.encode(), line))
        return command

    async def _finish(self, command: _Command) -> None:
        try:
            await command.wait()
        except asyncio.CancelledError:
            self.lose("cancelled", f"{command.name} was cancelled")
            raise

    def _answer(self, command: _Command) -> tuple[list[Parts], bytes]:
        result, lines = command.response
        text: bytes = lines.pop()
        if result != "OK":
            code, _, words = syntax.status(text)
            raise Refused(command.name, code, self.clean(words))
        return lines, text

    async def nap(self, timeout: float, wake: asyncio.Event) -> None:
        """Until a ring, `wake`, the loss of the connection (raises Lost), or `timeout` seconds have passed.

        No task is made: whatever else wakes us brings the time limit forward.
        """
        self.check()
        if self.rung is None and not wake.is_set():
            nap = asyncio.timeout(timeout)
            try:
                async with nap:
                    self._naps.add(nap)
                    await wake.wait()
            except TimeoutError:
                pass
            finally:
                self._naps.discard(nap)
            self.check()

    def _rouse(self) -> None:
        for nap in self._naps:
            if not nap.expired():
                nap.reschedule(self.loop.time())

    def _write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    # ------------------------------------------------------------ time limits and loss

    def _limit(self) -> None:
        """The command's time begins."""
        self._heard = self.loop.time()
        self._cap = self._heard + _PATIENCE * self.timeout
        if self._timer is None:
            self._timer = self.loop.call_at(self._heard + self.timeout, self._judge)

    def _judge(self) -> None:
        self._timer = None
        command = self.pending_sync_command
        if command is None or self._cap == math.inf:
            return
        limit = min(self._heard + self.timeout, self._cap)
        if self.loop.time() >= limit:
            self.lose("timeout", f"no answer to {command.name}")
        else:
            self._timer = self.loop.call_at(limit, self._judge)

    def check(self) -> None:
        if self.lost is not None:
            raise Lost(*self.lost)

    def lose(self, reason: LostReason, text: str = "") -> None:
        """Give the connection up; everybody who waits is told. The first reason stays."""
        if self.lost is not None:
            return
        self.lost = (reason, text)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.transport is not None:
            self.transport.abort()
        command, self.pending_sync_command = self.pending_sync_command, None
        if command is not None:
            command.fail(Lost(reason, text))
        self._rouse()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.lost is not None:
            assert self.transport is not None
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None or isinstance(exc, ssl.SSLEOFError):
            self.lose("eof", "the server closed the connection")
        elif isinstance(exc, ssl.SSLError):
            self.lose("protocol_error", type(exc).__name__)
        elif isinstance(exc, OSError) and exc.errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH):
            self.lose("keepalive", exc.strerror or "")
        else:
            self.lose("reset", type(exc).__name__)

    # ------------------------------------------------------------ what the server says

    def data_received(self, data: bytes) -> None:
        self.last_contact = stamp = self.clock()
        self._heard = self.loop.time()
        if self.deaf or self.lost is not None:
            return
        try:
            for parts, at in self.framer.feed(data, stamp):
                self._dispatch(parts, at)
                if self.deaf or self.lost is not None:
                    return
        except Malformed as error:
            self.lose("protocol_error", str(error))
        except Exception as error:  # noqa: BLE001 - else asyncio would log it and go on with half a stream
            self.lose("protocol_error", type(error).__name__)

    def _dispatch(self, parts: Parts, at: Instant) -> None:
        line = parts[0]
        if line.startswith(b"* "):
            word, _, rest = line[2:].partition(b" ")
            if word.isdigit():
                self._numbered(int(word[:10]), rest.partition(b" ")[0].upper(), parts, at)
                return
            word = word.upper()
            if word in (b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH"):
                self._status(word, rest)
            elif word == b"CAPABILITY":
                self._capabilities(rest)
            else:
                self._keep(word, parts)
        elif line.startswith(b"+"):
            self._continuation()
        else:
            self._tagged(line)

    def _numbered(self, count: int, word: bytes, parts: Parts, at: Instant) -> None:
        if word == b"EXISTS":
            grown = self.exists is not None and count > self.exists
            if self.selecting:
                self.facts["EXISTS"] = count
            elif self.exists is not None:
                self.exists = count
                if grown:
                    self._ring(at)
        elif word == b"EXPUNGE":
            if self.selecting:
                self.facts["EXISTS"] = max(0, self.facts.get("EXISTS", 0) - 1)
            elif self.exists:
                self.exists -= 1
        else:
            self._keep(word, parts)

    def _ring(self, at: Instant) -> None:
        if self.rung is None:
            self.rung = at
        self._rouse()
        if self.on_exists is not None:
            self.on_exists(at)

    def _keep(self, word: bytes, parts: Parts) -> None:
        command = self.pending_sync_command
        if command is not None and command.wanted == word:
            command.held += sum(map(len, parts)) + 64 * len(parts)
            if command.held > _MAX_ANSWER:
                raise Malformed("answer too long")
            command.append_to_resp(parts)

    def _status(self, word: bytes, rest: bytes) -> None:
        code, argument, text = syntax.status(rest)
        if word == b"BYE":
            if not self.leaving:
                self.lose("bye", self.clean(rest))
        elif self.state == aioimaplib.CONNECTED:
            self._greeted(word, text)
        elif code in ("UIDVALIDITY", "UIDNEXT"):
            value = syntax.number(argument)
            if value and self.selecting:
                self.facts[code] = value
            elif value and code == "UIDVALIDITY" and value != self.facts.get(code, value):
                # whoever holds UIDs of this folder would delete other mails than he means
                self.lose("protocol_error", "UIDVALIDITY changed")
        if code == "CAPABILITY":
            self._capabilities(argument)

    def _greeted(self, word: bytes, text: bytes) -> None:
        if word != b"OK":  # PREAUTH: nobody knows whose mailbox; before STARTTLS it is an attack (CVE-2020-12398)
            self.lose("protocol_error", f"greeting {self.clean(word)}")
            return
        self.greeting, self.state = self.clean(text), aioimaplib.NONAUTH
        command, self.pending_sync_command = self.pending_sync_command, None
        if command is not None:
            command.close(text, "OK")

    def _capabilities(self, words: bytes) -> None:
        self.known = frozenset(syntax.printable(word).upper() for word in words.split())

    def _continuation(self) -> None:
        command = self.pending_sync_command
        if command is None:
            return
        if command.name == "IDLE":
            command.begin()
        elif command.replies:
            self._write(command.replies.pop(0) + b"\r\n")
        elif command.name == "AUTHENTICATE":  # the reason for a refusal: an empty line asks for the NO itself
            self._write(b"\r\n")

    def _tagged(self, line: bytes) -> None:
        command = self.pending_sync_command
        tag, _, rest = line.partition(b" ")
        result, _, text = rest.partition(b" ")
        word = result.upper()
        if command is None or tag != command.tag.encode() or word not in (b"OK", b"NO", b"BAD"):
            raise Malformed("a line that answers nothing we asked")
        self.pending_sync_command = None
        if word == b"OK":
            if text.startswith(b"["):
                code, argument, _ = syntax.status(text)
                if code == "CAPABILITY":
                    self._capabilities(argument)
            if command.name == "STARTTLS":
                self.deaf, self.known = True, None
            elif command.name == "SELECT":
                self.exists = self.facts.setdefault("EXISTS", 0)
        if command.name == "SELECT":
            self.selecting = False
        command.close(text, word.decode())
        if command.name == "IDLE":
            self._rouse()

    def clean(self, text: bytes) -> str:
        """The server's words, fit for an error's text."""
        words = syntax.printable(text, len(text))
        for secret in self.secrets:
            words = words.replace(secret, "******")
        return words[:400]


class Connection:
    """One connection to one mailbox server; see the module's rules. Made by `open`; use it as a context manager.

    `capabilities` are upper-cased; `last_contact` is the instant of the last byte received; `certificate_not_after` is
    Unix time; `rung` is the instant of the first EXISTS that told of more mails than were known, until it is taken.
    """

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire
        self.certificate_not_after: float | None = None

    @classmethod
    async def open(
        cls,
        server: Server,
        *,
        clock: Callable[[], Instant],
        timeout: float = 30.0,
        on_exists: Callable[[Instant], None] | None = None,
    ) -> Connection:
        """Resolve, connect, TLS, greeting, capabilities: all within `timeout` seconds.

        `on_exists` is called at every growth, within the loop's read callback. Raises net.Unreachable, Lost, Refused.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        addresses = await net.resolve(server.host, server.port, timeout)
        sock = await net.connect(addresses, max(0.0, deadline - loop.time()))
        wire = _Wire(clock, timeout, on_exists)
        self = cls(wire)
        try:
            async with asyncio.timeout_at(deadline):
                await self._begin(server, sock)
        except BaseException as error:
            if wire.transport is None:
                sock.close()
            shaking = wire.transport is None or wire.deaf
            wire.lose("timeout" if isinstance(error, TimeoutError) else "closed")
            if shaking and isinstance(error, OSError):
                raise net.Unreachable("tls", net.tls_reason(error), f"{server.host}: {error}") from None
            if isinstance(error, TimeoutError):
                raise Lost("timeout", "no greeting, or no capabilities") from None
            raise
        return self

    async def _begin(self, server: Server, sock: socket.socket) -> None:
        wire, greeting = self._wire, self._wire.pending_sync_command
        assert greeting is not None
        context = None if server.tls == "none" else net.tls_context(server.ca_file)
        if server.tls == "implicit":
            await wire.loop.create_connection(lambda: wire, sock=sock, ssl=context, server_hostname=server.host)
        else:
            await wire.loop.create_connection(lambda: wire, sock=sock)
        await greeting.wait()
        await self._refresh()
        if server.tls == "starttls":
            if not self.has("STARTTLS"):
                raise net.Unreachable("tls", "not_offered", f"{server.host}: no STARTTLS")
            try:
                await wire.run(b"STARTTLS", "STARTTLS")
            except Refused as error:
                raise net.Unreachable("tls", "refused", f"{server.host}: {error}") from None
            assert wire.transport is not None
            assert context is not None
            transport = await wire.loop.start_tls(wire.transport, wire, context, server_hostname=server.host)
            if transport is None or wire.lost is not None:
                raise ConnectionResetError("the server closed the connection during the handshake")
            wire.transport, wire.framer, wire.deaf = transport, syntax.Framer(), False
            await self._refresh()
        certificate = wire.transport.get_extra_info("peercert") if wire.transport is not None else None
        if certificate:
            self.certificate_not_after = float(ssl.cert_time_to_seconds(certificate["notAfter"]))

    async def _refresh(self) -> None:
        if self._wire.known is None:
            await self._wire.run(b"CAPABILITY", "CAPABILITY")

    @property
    def capabilities(self) -> frozenset[str]:
        return self._wire.known or frozenset()

    def has(self, name: str) -> bool:
        """Whether the server has this capability."""
        return name.upper() in self.capabilities

    @property
    def last_contact(self) -> Instant:
        return self._wire.last_contact

    @property
    def greeting(self) -> str:
        return self._wire.greeting

    @property
    def rung(self) -> Instant | None:
        return self._wire.rung

    def take_ring(self) -> Instant | None:
        """The ring, if there is one; from now on the next growth rings anew."""
        rung, self._wire.rung = self._wire.rung, None
        return rung

    async def login(self, username: str, secret: Secret) -> None:
        """Log in by exactly one mechanism, once (a second try would count as a second wrong password).

        LOGIN; AUTHENTICATE PLAIN (RFC 4616) where LOGIN cannot carry the characters or is switched off under TLS and
        PLAIN is offered. Raises AuthRefused, Lost.
        """
        wire, user, password = self._wire, username.encode(), secret.reveal().encode()
        usual, plain = syntax.plain_ascii(user + password), self.has("AUTH=PLAIN")
        disabled = self.has("LOGINDISABLED")
        if disabled and not (plain and self.certificate_not_after is not None):
            raise AuthRefused("LOGIN", "LOGINDISABLED", "no password is taken on this connection; none was sent")
        if b"\0" in user + password:
            raise AuthRefused("LOGIN", "", "a NUL in user name or password; neither was sent")
        token = base64.b64encode(b"\0" + user + b"\0" + password)
        if plain and (disabled or not usual):
            name, replies = "AUTHENTICATE", [b"AUTHENTICATE PLAIN", token]
            if self.has("SASL-IR"):
                replies = [b"AUTHENTICATE PLAIN " + token]
        else:
            name, replies = "LOGIN", [b"LOGIN"]
            for text in (user, password):  # 8-bit and control characters fit only into literals
                if syntax.plain_ascii(text):
                    replies[-1] += b" " + syntax.quote(text)
                else:
                    replies[-1] += b" {%d}" % len(text)
                    replies.append(text)
        wire.known = None
        wire.secrets = tuple(filter(None, (token.decode(), syntax.quote(password).decode()[1:-1], secret.reveal())))
        try:
            await wire.run(replies[0], name, replies=replies[1:])
        except Refused as error:
            raise AuthRefused(error.command, error.code, error.text) from None
        finally:
            wire.secrets = ()
        await self._refresh()

    async def select(self, folder_raw: str) -> Selected:
        """SELECT. Rings of the time before are dropped: look into the folder after this. Raises Refused, Lost."""
        name = syntax.quote(folder_raw.encode("utf-8", "surrogateescape"))
        _, text = await self._wire.run(b"SELECT " + name, "SELECT")
        facts, code = self._wire.facts, syntax.status(text)[0]
        if "UIDVALIDITY" not in facts:
            raise Refused("SELECT", "", "the folder has no UIDVALIDITY, so its UIDs mean nothing (RFC 3501 §2.3.1.1)")
        return Selected(
            folder_raw, facts["UIDVALIDITY"], facts.get("UIDNEXT"), facts["EXISTS"], read_only=code == "READ-ONLY"
        )

    async def list_folders(self) -> list[Folder]:
        """All folders, with their special uses (RFC 6154) where the server tells them."""
        line = b'LIST "" "*"'
        if self.has("SPECIAL-USE") and self.has("LIST-EXTENDED"):
            line += b" RETURN (SPECIAL-USE)"
        lines, _ = await self._wire.run(line, "LIST", b"LIST")
        return [folder for parts in lines if (folder := syntax.parse_list(parts))]

    async def noop(self) -> None:
        """Ask for news: a grown mailbox rings."""
        await self._wire.run(b"NOOP", "NOOP")

    async def fetch(self, uids: str, item: str) -> list[Fetched]:
        """UID FETCH of one content item, such as BODY.PEEK[HEADER], with INTERNALDATE and size.

        "n:*" gives nothing below n, although a server answers it with its last mail whatever that one's UID is.
        """
        line = f"UID FETCH {uids} (UID INTERNALDATE RFC822.SIZE {item})"
        lines, _ = await self._wire.run(line.encode(), "UID FETCH", b"FETCH")
        lowest = syntax.number(uids[:-2].encode()) or 0 if uids.endswith(":*") else 0
        return [mail for parts in lines if (mail := syntax.parse_fetch(parts)) and mail.uid >= lowest]

    async def search_since(self, day: date) -> list[int]:
        """UIDs of the mails with an INTERNALDATE of this day or later (the server's days), sorted."""
        line = f"UID SEARCH SINCE {syntax.search_day(day)}"
        lines, _ = await self._wire.run(line.encode(), "UID SEARCH", b"SEARCH")
        return sorted({uid for parts in lines for uid in syntax.parse_search(parts)})

    async def mark(self, uids: Sequence[int], flags: Sequence[str]) -> None:
        """Add flags to these mails."""
        for chunk in syntax.uid_sets(uids):
            await self._wire.run(f"UID STORE {chunk} +FLAGS.SILENT ({' '.join(flags)})".encode(), "UID STORE")

    async def expunge(self, uids: Sequence[int]) -> None:
        """Remove those of these mails that are marked \\Deleted, and no others (UIDPLUS, RFC 4315); else Refused."""
        if not (self.has("UIDPLUS") or self.has("IMAP4REV2")):
            raise Refused("UID EXPUNGE", "", "the server has no UIDPLUS; a plain EXPUNGE would remove other mails, too")
        for chunk in syntax.uid_sets(uids):
            await self._wire.run(f"UID EXPUNGE {chunk}".encode(), "UID EXPUNGE")

    async def idle(self, timeout: float, wake: asyncio.Event) -> None:
        """IDLE (RFC 2177) until a ring, `wake`, or `timeout` seconds; DONE was answered when this returns.

        Returns at once while a ring is not taken. Raises Refused (also if IDLE is not offered), Lost.
        """
        if not self.has("IDLE"):
            raise Refused("IDLE", "", "not offered")
        await self._wire.idle(timeout, wake)

    async def wait(self, timeout: float, wake: asyncio.Event) -> None:
        """No command: until an unasked-for ring, `wake`, or `timeout` seconds. Raises Lost as soon as that happens."""
        await self._wire.nap(timeout, wake)

    async def logout(self) -> None:
        """Say good-bye, for two seconds at most, and close. Raises nothing."""
        self._wire.leaving = True
        try:
            async with asyncio.timeout(_LOGOUT_TIMEOUT):
                await self._wire.run(b"LOGOUT", "LOGOUT")
        except (ImapError, TimeoutError):
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Drop the connection now."""
        self._wire.lose("closed", "closed by us")

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()
