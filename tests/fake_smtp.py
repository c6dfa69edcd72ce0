"""A small honest submission server on 127.0.0.1 and ::1, and the ways in which a test can make it dishonest.

Rule: left alone it keeps the protocol, so whatever a test sees go wrong was scripted, or is our own fault. No sleeps:
await `until` or the helpers that rest on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import re
import socket
import ssl
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from probe.core.settings import Server, Tls

# AUTH2 is the reply to the line after a challenge; DOT the one to the end of the content.
Step = Literal["GREETING", "EHLO", "STARTTLS", "AUTH", "AUTH2", "MAIL", "RCPT", "DATA", "DOT"]


class Do(enum.Enum):
    """What a server can do instead of answering."""

    HANG = "say nothing more, read on until the client goes away"
    CLOSE = "end the connection in an orderly way"
    RESET = "end it by RST"


HANG, CLOSE, RESET = Do.HANG, Do.CLOSE, Do.RESET

# str: reply lines, CRLF is added; bytes: as they are; an Event: wait for it; a callable: is called, its result is used;
# a tuple: one after the other; None: the honest answer. A list in a script: one item per occurrence, then honesty.
Answer = str | bytes | Do | asyncio.Event | Callable[[], "Answer"] | tuple["Answer", ...] | None
Script = Mapping[Step, Answer | Sequence[Answer]]

_DEFAULTS: dict[Step, str] = {
    "GREETING": "220 fake.test ESMTP",
    "STARTTLS": "220 2.0.0 go ahead",
    "AUTH2": "235 2.7.0 welcome",
    "MAIL": "250 2.1.0 Ok",
    "RCPT": "250 2.1.5 Ok",
    "DATA": "354 go on",
    "DOT": "250 2.0.0 Ok: queued as FAKE1",
}


class _Over(Exception):
    """This connection is done with."""


@dataclass
class Session:
    """One connection: what came in over it."""

    writer: asyncio.StreamWriter
    lines: list[bytes] = field(default_factory=list)  # without CRLF, content included
    messages: list[bytes] = field(default_factory=list)  # unstuffed, as the recipient would have them
    encrypted: bool = False
    ended: bool = False  # the client closed it, or we did


class FakeSmtp:
    """`async with FakeSmtp({"RCPT": "550 5.1.1 who?"}) as fake`, then a Submitter at `fake.server()`.

    `tls` serves implicit TLS, `starttls` offers STARTTLS. `auth` is what EHLO advertises, None for no AUTH at all;
    `auth_before_tls` the same for the first EHLO of a STARTTLS server.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        starttls: ssl.SSLContext | None = None,
        auth: str | None = "PLAIN LOGIN CRAM-MD5",
        auth_before_tls: str | None = None,
        extensions: Sequence[bytes] = (b"SIZE 10000000", b"8BITMIME"),
    ) -> None:
        self.script: dict[Step, list[Answer] | Answer] = {
            step: list(answer) if isinstance(answer, list) else answer  # type: ignore[misc]
            for step, answer in (script or {}).items()
        }
        self.tls, self.starttls, self.extensions = tls, starttls, extensions
        self.auth, self.auth_before_tls = auth, auth_before_tls
        self.sessions: list[Session] = []
        self.steps: list[Step] = []  # every step reached, of all connections
        self.port = 0
        self._news = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def server(self, ca_file: Path | None = None, host: str = "127.0.0.1", tls: Tls | None = None) -> Server:
        """How to reach it; `tls` other than what it offers if told."""
        offered: Tls = "implicit" if self.tls else "starttls" if self.starttls else "none"
        return Server(host, self.port, tls or offered, ca_file)

    async def __aenter__(self) -> FakeSmtp:
        first = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls, limit=1 << 20)
        self.port = first.sockets[0].getsockname()[1]
        self._listeners = [first]
        if socket.has_ipv6:
            try:
                second = await asyncio.start_server(self._serve, "::1", self.port, ssl=self.tls, limit=1 << 20)
            except OSError:  # no IPv6 here, or somebody else has the port: the tests of IPv6 will say so
                return self
            self._listeners.append(second)
        return self

    async def __aexit__(self, *_: object) -> None:
        for listener in self._listeners:
            listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for session in self.sessions:
            with contextlib.suppress(AttributeError):  # Python before 3.11.4, when it is closing already
                session.writer.transport.abort()
        await asyncio.sleep(0)

    # ------------------------------------------------------------ for tests

    @property
    def connections(self) -> int:
        """How many there were, those whose TLS handshake failed not counted."""
        return len(self.sessions)

    @property
    def lines(self) -> list[bytes]:
        """Every line of every connection."""
        return [line for session in self.sessions for line in session.lines]

    @property
    def messages(self) -> list[bytes]:
        """Every content that was received up to its final dot."""
        return [message for session in self.sessions for message in session.messages]

    @property
    def verbs(self) -> list[bytes]:
        """The commands, in order; content and SASL lines excluded."""
        known = rb"(EHLO|STARTTLS|AUTH|MAIL|RCPT|DATA|RSET|NOOP|QUIT)\b"
        return [found[1] for line in self.lines if (found := re.match(known, line))]

    def own_tasks(self) -> set[asyncio.Task[None]]:
        """Tasks that serve connections."""
        return set(self._tasks)

    async def until(self, true: Callable[[], object]) -> None:
        """Until this holds; asked again whenever anything happened here."""
        async with asyncio.timeout(5), self._news:
            await self._news.wait_for(true)

    async def reached(self, step: Step, times: int = 1) -> None:
        """Until clients have come to this step so many times."""
        await self.until(lambda: self.steps.count(step) >= times)

    async def ended(self, times: int = 1) -> None:
        """Until so many connections are over."""
        await self.until(lambda: sum(session.ended for session in self.sessions) >= times)

    # ------------------------------------------------------------ the server

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        session = Session(writer, encrypted=self.tls is not None)
        self.sessions.append(session)
        try:
            await self._converse(reader, session)
        except (OSError, _Over, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # cancelled by __aexit__ alone; asyncio's streams would report it as a failure
        finally:
            session.ended = True
            self._tasks.discard(task)
            writer.close()
            await self._tell()

    async def _converse(self, reader: asyncio.StreamReader, session: Session) -> None:
        await self._answer("GREETING", reader, session)
        while True:
            line = await self._line(reader, session)
            verb = line.split(b" ")[0].upper()
            if verb == b"EHLO":
                await self._answer("EHLO", reader, session, self._offer(session))
            elif verb == b"STARTTLS" and self.starttls and not session.encrypted:
                if (await self._answer("STARTTLS", reader, session)).startswith(b"220"):
                    await session.writer.start_tls(self.starttls)
                    session.encrypted = True
            elif verb == b"AUTH":
                challenged = line.split()[1:2] not in ([b"PLAIN"], [b"XOAUTH2"])
                said = await self._answer("AUTH", reader, session, "334 UGFzc3dvcmQ6" if challenged else None)
                if said.startswith(b"334"):
                    await self._line(reader, session)
                    await self._answer("AUTH2", reader, session)
            elif verb in (b"MAIL", b"RCPT"):
                await self._answer("MAIL" if verb == b"MAIL" else "RCPT", reader, session)
            elif verb == b"DATA":
                if _means_go_on(await self._answer("DATA", reader, session)):
                    await self._content(reader, session)
            elif verb == b"QUIT":
                await self._write(b"221 2.0.0 bye\r\n", session)
                raise _Over
            else:
                await self._write(b"500 5.5.2 what?\r\n", session)

    def _offer(self, session: Session) -> str:
        auth = self.auth_before_tls if self.starttls and not session.encrypted else self.auth
        extensions = [extension.decode("utf-8", "surrogateescape") for extension in self.extensions]
        extensions += ["STARTTLS"] if self.starttls and not session.encrypted else []
        extensions += [f"AUTH {auth}"] if auth else []
        lines = ["fake.test", *extensions]
        return "\r\n".join(f"250{' ' if number == len(lines) else '-'}{text}" for number, text in enumerate(lines, 1))

    async def _line(self, reader: asyncio.StreamReader, session: Session) -> bytes:
        line = await reader.readline()
        if not line:
            raise _Over
        session.lines.append(line.removesuffix(b"\r\n"))
        await self._tell()
        return session.lines[-1]

    async def _content(self, reader: asyncio.StreamReader, session: Session) -> None:
        lines: list[bytes] = []
        while (line := await self._line(reader, session)) != b".":
            lines.append(line.removeprefix(b".") + b"\r\n")
        session.messages.append(b"".join(lines))
        await self._answer("DOT", reader, session)

    async def _answer(
        self, step: Step, reader: asyncio.StreamReader, session: Session, honest: str | None = None
    ) -> bytes:
        """Everything that was sent as the answer."""
        self.steps.append(step)
        await self._tell()
        answer = self.script.get(step)
        if isinstance(answer, list):
            answer = answer.pop(0) if answer else None
        sent: list[bytes] = []
        await self._give(answer, honest or _DEFAULTS.get(step, "235 2.7.0 welcome"), reader, session, sent)
        return b"".join(sent)

    async def _give(
        self, answer: Answer, honest: str, reader: asyncio.StreamReader, session: Session, sent: list[bytes]
    ) -> None:
        match answer:
            case tuple():
                for part in answer:
                    await self._give(part, honest, reader, session, sent)
            case asyncio.Event():
                await answer.wait()
            case Do.HANG:
                while data := await reader.read(1 << 16):  # a TLS handshake has no lines
                    session.lines += data.removesuffix(b"\r\n").split(b"\r\n")
                    await self._tell()
                raise _Over
            case Do.CLOSE:
                raise _Over
            case Do.RESET:
                sock = session.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                session.writer.transport.abort()
                raise _Over
            case bytes():
                sent.append(answer)
                await self._write(answer, session)
            case str() | None:
                await self._give(_line_of(honest if answer is None else answer), honest, reader, session, sent)
            case _:
                await self._give(answer(), honest, reader, session, sent)

    async def _write(self, data: bytes, session: Session) -> None:
        session.writer.write(data)
        await session.writer.drain()


def _line_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape") + b"\r\n"


def _means_go_on(sent: bytes) -> bool:
    """Whether a client will take this for a 354."""
    return any(line[:3] == b"354" and line[3:4] != b"-" for line in sent.splitlines())
