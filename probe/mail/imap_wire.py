"""The IMAP wire: bytes to responses to the one command in flight; time limits, doorbell, loss. Sole user of aioimaplib.

Rules:
1. Every await ends: by an answer, or within `timeout` seconds of silence (ten times that in all) in Lost. A command
   that timed out, was cancelled or was answered by nonsense aborts the connection: its stream cannot be trusted.
2. EXISTS is a doorbell: it is stamped before parsing and kept (`rung`) until taken, whichever command it came with.
3. A secret goes to the wire and nowhere else: no error, log line or object here holds it.

aioimaplib 2.0 gives the protocol's skeleton, tags and commands; framing, dispatch, time limits and quoting are ours,
because its own hang, lose and corrupt. Names of it that we rely on (private ones starred), held to it by test_imap.py:
IMAP4ClientProtocol: loop, transport, state, pending_sync_command, new_tag(), connection_made().
Command: name, tag, append_to_resp(), close(), wait(), response; *_event, *_exception. CONNECTED, NONAUTH, log.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from collections.abc import Callable, Sequence
from typing import Literal

from aioimaplib import aioimaplib

from probe.core.events import Instant
from probe.mail import imap_syntax as syntax
from probe.mail import net
from probe.mail.imap_syntax import Malformed, Parts

LostReason = Literal["eof", "reset", "bye", "timeout", "protocol_error", "closed", "keepalive", "cancelled"]

_PATIENCE = 10  # a command that makes progress may take this many times `timeout`
# RFC 5530 §3, by response code; the others are told by the log
FOR_NOW = frozenset({"UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG"})  # the server's own trouble, which passes
_REASONS = dict.fromkeys(FOR_NOW, "unavailable") | {"OVERQUOTA": "over_quota", "NOPERM": "no_permission"}
_MAX_RINGS = 10_000  # growths that are remembered one by one
_MAX_ANSWER = 4 * syntax.MAX_RESPONSE  # all that one command's answer may hold in memory


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

    @property
    def reason(self) -> str:
        """A word fit for a metric's label."""
        return _REASONS.get(self.code, "command_refused")


class AuthRefused(Refused):
    """The log-in was refused."""

    @property
    def reason(self) -> str:
        """Of the password, or by a server in trouble of its own."""
        return "auth_unavailable" if self.code in FOR_NOW else "auth_refused"


class _NoSecrets(logging.Filter):
    """aioimaplib logs whole commands (LOGIN with its password, when a tag is wrong): drop whatever may be one."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage().upper()
        return "LOGIN" not in text and "AUTHENTICATE" not in text


aioimaplib.log.setLevel(logging.WARNING)
aioimaplib.log.addFilter(_NoSecrets())


class Command(aioimaplib.Command):  # type: ignore[misc]
    """A command in flight. It never holds its own arguments: they may be secret."""

    def __init__(
        self, name: str, tag: str, loop: asyncio.AbstractEventLoop, wanted: bytes = b"", replies: Sequence[bytes] = ()
    ) -> None:
        super().__init__(name, tag, loop=loop)
        self.wanted = wanted  # name of the untagged responses that are kept
        self.replies = list(replies)  # what is sent at each "+"
        self.held = 0
        self.silent = False  # an empty line was sent, for want of replies
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


class Wire(aioimaplib.IMAP4ClientProtocol):  # type: ignore[misc]
    """The protocol: bytes to responses to the one command in flight; time limits, doorbell, loss."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport | None
    pending_sync_command: Command | None
    state: str

    def __init__(self, clock: Callable[[], Instant], timeout: float) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(loop)
        self.clock, self.timeout = clock, timeout
        self.last_contact = clock()
        self.lock = asyncio.Lock()
        self.framer: syntax.Framer[Instant] = syntax.Framer()
        self.lost: tuple[LostReason, str] | None = None
        self.known: frozenset[str] | None = None  # capabilities; None: to be asked for
        self.challenge = b""  # the server's last, in a log-in that had nothing more to say: why it is refused
        self.secrets: tuple[str, ...] = ()  # words to strike from the server's texts, during the log-in only
        self.leaving = False  # BYE is welcome
        self.deaf = False  # between the OK to STARTTLS and the end of the handshake: whatever comes was injected
        self.selecting = False
        self.facts: dict[str, int] = {}  # of the last SELECT: EXISTS, UIDVALIDITY, UIDNEXT
        self.exists: int | None = None  # mails in the selected folder
        self.expunged = 0  # mails that went from the selected folder, by us or by others
        self.rung: Instant | None = None
        self.grown = 0  # mails that were told of since the ring was last taken, or more
        self.rings: list[tuple[int, Instant]] = []  # each growth since then: what `grown` became, and when
        self._naps: set[asyncio.Timeout] = set()
        # One lazy timer for the connection instead of one for each command
        self._timer: asyncio.TimerHandle | None = None
        self._heard = self._cap = 0.0
        self.pending_sync_command = Command("greeting", "*", loop)
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

    async def idle(self, timeout: float, wake: asyncio.Event) -> bool:
        """One IDLE from start to answered DONE; see Connection.idle."""
        async with self.lock:
            self.check()
            if self.rung is not None or wake.is_set():
                return self.rung is not None
            command = self._start(b"IDLE", "IDLE")
            await self._finish(command)  # by "+", or by a refusal
            pushed = self.rung is not None
            if not command.done:
                command.rearm()
                self._cap = math.inf
                try:
                    await self.nap(timeout, wake)
                except asyncio.CancelledError:
                    self.lose("cancelled", "IDLE was cancelled")
                    raise
                pushed = self.rung is not None
                if not command.done:
                    self._limit()
                    self._write(b"DONE\r\n")
                    await self._finish(command)
        self._answer(command)
        return pushed

    def _start(self, line: bytes, name: str, wanted: bytes = b"", replies: Sequence[bytes] = ()) -> Command:
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise ValueError(f"NUL, CR or LF in the arguments of {name}")
        self.check()
        command = Command(name, self.new_tag(), self.loop, wanted, replies)
        self.pending_sync_command = command
        if name == "SELECT":
            self.expunged += self.exists is not None  # what goes from a folder while it is entered anew is not told
            self.selecting, self.facts, self.exists, self.rung, self.grown, self.rings = True, {}, None, None, 0, []
        self._limit()
        self._write(b"%s %s\r\n" % (command.tag.encode(), line))
        return command

    async def _finish(self, command: Command) -> None:
        try:
            await command.wait()
        except asyncio.CancelledError:
            self.lose("cancelled", f"{command.name} was cancelled")
            raise

    def _answer(self, command: Command) -> tuple[list[Parts], bytes]:
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
        elif net.peer_is_gone(exc):
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
            self._continuation(line)
        else:
            self._tagged(line)

    def _numbered(self, count: int, word: bytes, parts: Parts, at: Instant) -> None:
        if word == b"EXISTS":
            grown = self.exists is not None and count > self.exists
            if self.selecting:
                self.facts["EXISTS"] = count
            elif self.exists is not None:
                self.grown += max(0, count - self.exists)
                self.expunged += max(0, self.exists - count)  # the server forgot to say EXPUNGE
                self.exists = count
                if grown:
                    self._ring(at)
        elif word == b"EXPUNGE":
            if self.selecting:
                self.facts["EXISTS"] = max(0, self.facts.get("EXISTS", 0) - 1)
            else:
                self.expunged += 1
                self.exists = self.exists and self.exists - 1
        else:
            self._keep(word, parts)

    def _ring(self, at: Instant) -> None:
        if self.rung is None:
            self.rung = at
        if len(self.rings) == _MAX_RINGS:
            self.rings.pop()
        self.rings.append((self.grown, at))
        self._rouse()

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
        self.state = aioimaplib.NONAUTH
        command, self.pending_sync_command = self.pending_sync_command, None
        if command is not None:
            command.close(text, "OK")

    def _capabilities(self, words: bytes) -> None:
        self.known = frozenset(syntax.printable(word).upper() for word in words.split())

    def _continuation(self, line: bytes) -> None:
        command = self.pending_sync_command
        if command is None:
            return
        if command.name == "IDLE":
            command.begin()
        elif command.replies:
            self._write(command.replies.pop(0) + b"\r\n")
        elif command.name == "AUTHENTICATE":  # the reason for a refusal: an empty line asks for the NO itself
            if command.silent:  # a server that goes on so and reads nothing would fill our memory
                raise Malformed("asked for more than there is")
            self.challenge, command.silent = line[2:], True
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
