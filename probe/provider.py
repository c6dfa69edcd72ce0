"""A mail provider inside this process, for `mailprobe demo` and for tests: submission, queues, mailboxes.

Rule: everything is real but the network. Mail comes by SMTP and is read by IMAP, over TCP on 127.0.0.1; the 250 is
given before delivery; what is slow, held, lost or doubled is so because a `Behaviour` says it, never by accident.

    SMTP (aiosmtpd) ─► one queue and task per recipient: delay, hold ─► INBOX or Junk (pymap, in memory) ─► IMAP

Sole importer of aiosmtpd and pymap: without the extra `demo`, importing this module raises ImportError.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import ssl
from argparse import Namespace
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import partial
from types import SimpleNamespace
from typing import Any, Self

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from proxyprotocol.sock import SocketInfo
from pymap.backend.dict import Config, Login
from pymap.backend.dict.filter import FilterSet
from pymap.backend.dict.mailbox import MailboxData, MailboxSet
from pymap.concurrent import Event, Subsystem
from pymap.imap import IMAPServer
from pymap.parsing.message import AppendMessage
from pymap.selected import SelectedMailbox
from pymap.user import UserMetadata
from pysasl import SASLAuth
from pysasl.hashing import Cleartext

HOST = "127.0.0.1"
_SMTP_NAME, _IMAP_NAME = "smtp.demo.invalid", "imap.demo.invalid"  # RFC 2606: resolved by nobody


@dataclass(frozen=True, slots=True)
class Hold:
    """A queue stands still: `after` seconds from the provider's start, for `lasts` seconds, again `every` so often."""

    after: float
    lasts: float
    every: float = math.inf  # from one beginning to the next; by default it happens once

    def rest(self, age: float) -> float:
        """How long the queue of a provider of this age (seconds since its start) will stand still; 0 if it moves."""
        since = (age - self.after) % self.every
        return self.lasts - since if age >= self.after and since < self.lasts else 0.0


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one recipient's mail is treated. The faults are shares of the mails: 0 none, 0.1 one in ten, 1 all."""

    delay: tuple[float, float] = (0.0, 0.0)  # seconds in the queue, uniform; the order is kept
    hold: Hold | None = None  # afterwards all that waited comes, in order
    refused: float = 0.0  # 550 to RCPT
    deferred: float = 0.0  # 450 to RCPT
    lost: float = 0.0  # 250, and never delivered
    junked: float = 0.0  # delivered to Junk
    duplicated: float = 0.0  # delivered twice


class Provider:
    """Runs between the ends of `async with`, once. `users`: address → password (ASCII); the user name is the address.

    `behaviours` (address → Behaviour) may be changed while it runs: every RCPT, final dot and delivery looks anew.
    """

    def __init__(self, users: Mapping[str, str], behaviours: Mapping[str, Behaviour], rng: random.Random) -> None:
        self.users = dict(users)
        self.behaviours = defaultdict(Behaviour, behaviours)
        self.smtp_port = self.imap_port = 0  # known when started
        self._rng = rng
        # Per recipient: when the mail is due (the loop's clock), its id, its sender, its content as accepted.
        self._queues = defaultdict[str, asyncio.Queue[tuple[float, str, str, bytes]]](asyncio.Queue)
        self._waiting: Counter[str] = Counter()
        self._mailboxes = {user: _Mailboxes() for user in users}
        login = Login(_Config())
        for user, password in users.items():
            login.users_dict[user] = UserMetadata(login.config, user, password=password)
            login.config.set_cache[user] = (self._mailboxes[user], FilterSet())
        self._imap = IMAPServer(login, login.config)
        self._servers: list[asyncio.Server] = []
        self._tasks: dict[asyncio.Task[Any], Callable[[], object]] = {}  # of connections and queues: what ends it

    def queued(self, address: str) -> int:
        """How many mails to this address have their 250 and are still to be delivered."""
        return self._waiting[address]

    async def __aenter__(self) -> Self:
        # aiosmtpd warns at every log-in, of its own use of its own deprecated attribute; DEBUG would show passwords.
        logging.getLogger("mail.log").setLevel(logging.ERROR)
        logging.getLogger("pymap").setLevel(logging.WARNING)
        hooks = SimpleNamespace(handle_RCPT=self._rcpt, handle_DATA=self._data, watch=self._watch)
        smtp = partial(_Smtp, hooks, hostname=_SMTP_NAME, auth_require_tls=False, authenticator=self._check)
        loop = asyncio.get_running_loop()
        self._started = loop.time()
        self._servers.append(await loop.create_server(smtp, HOST, 0))
        self._servers.append(await asyncio.start_server(self._serve_imap, HOST, 0))
        self.smtp_port, self.imap_port = (server.sockets[0].getsockname()[1] for server in self._servers)
        for address in self.users:
            self._watch(loop.create_task(self._deliver(address)))
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        while self._tasks:  # a connection may come in while the door closes
            for end in self._tasks.values():
                end()
            await asyncio.wait(self._tasks)
        for server in self._servers:
            await server.wait_closed()

    def _watch(self, task: Any, end: Callable[[], object] | None = None) -> None:
        self._tasks[task] = end or task.cancel
        task.add_done_callback(self._tasks.pop)  # an error in it is told by asyncio, as nobody else retrieves it

    async def _serve_imap(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._watch(asyncio.current_task(), writer.transport.abort)  # cancelled, pymap would leave its IDLE behind
        try:
            await self._imap(reader, writer, SocketInfo.get(writer, None))
        except RuntimeError:
            if not writer.is_closing():  # uvloop raises it when pymap says BYE to a connection that is gone
                raise

    def _check(self, _server: SMTP, _session: Session, _envelope: Envelope, _how: str, given: Any) -> AuthResult:
        user, password = (part.decode(errors="replace") for part in given)
        return AuthResult(success=self.users.get(user) == password, handled=False)

    async def _rcpt(self, _: SMTP, session: Session, envelope: Envelope, address: str, _options: Any) -> str:
        if not session.authenticated:  # auth_required would, without TLS, raise a Python warning at each connection
            return "530 5.7.0 Authentication required"
        if address not in self.users:
            return f"550 5.1.1 <{address}>: user unknown"
        if self._rng.random() < self.behaviours[address].refused:
            return f"550 5.7.1 <{address}>: refused by policy"
        if self._rng.random() < self.behaviours[address].deferred:
            return f"450 4.7.1 <{address}>: try again later"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def _data(self, _: SMTP, session: Session, envelope: Envelope) -> str:
        queue_id = f"{self._rng.getrandbits(40):010X}"
        for address in dict.fromkeys(envelope.rcpt_tos):
            behaviour = self.behaviours[address]
            if self._rng.random() >= behaviour.lost:
                due = asyncio.get_running_loop().time() + self._rng.uniform(*behaviour.delay)
                trace = _received(f"{session.host_name} ([{HOST}])", _SMTP_NAME, "ESMTPA", queue_id, address)
                content = trace + (envelope.original_content or b"")
                self._queues[address].put_nowait((due, queue_id, envelope.mail_from or "", content))
                self._waiting[address] += 1
        return f"250 2.0.0 Ok: queued as {queue_id}"

    async def _deliver(self, address: str) -> None:
        """One recipient's queue: first in, first out; no mail before it is due, none during a hold."""
        now = asyncio.get_running_loop().time
        while True:
            due, queue_id, sender, content = await self._queues[address].get()
            await asyncio.sleep(due - now())
            if hold := self.behaviours[address].hold:
                await asyncio.sleep(hold.rest(now() - self._started))
            behaviour = self.behaviours[address]
            folder = "Junk" if self._rng.random() < behaviour.junked else "INBOX"
            mailbox = await self._mailboxes[address].get_mailbox(folder)
            trace = _received(_SMTP_NAME, _IMAP_NAME, "LMTP", queue_id, address)
            message = AppendMessage(f"Return-Path: <{sender}>\r\n".encode() + trace + content, datetime.now(UTC))
            for _ in range(2 if self._rng.random() < behaviour.duplicated else 1):
                await mailbox.append(message, recent=True)
            self._waiting[address] -= 1


def _received(source: str, host: str, protocol: str, queue_id: str, address: str) -> bytes:
    """The trace of one hop, now (RFC 5321 §4.4); the protocols' names are RFC 3848's."""
    way = f"Received: from {source}\r\n\tby {host} with {protocol} id {queue_id}\r\n\tfor <{address}>; "
    return f"{way}{format_datetime(datetime.now(UTC))}\r\n".encode()


class _Smtp(SMTP):
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        task: Any = self._handler_coroutine
        self.event_handler.watch(task, lambda: (task.cancel(), transport.abort()))


class _Config(Config):
    """No password hashing (0.5 s of the loop), no look-ups of names, no certificates, no threads."""

    greeting = f"{_IMAP_NAME} ready".encode()
    tls_auth = SASLAuth.defaults()  # once: it searches all installed packages

    def __init__(self) -> None:
        demo: dict[str, Any] = {"demo_data": False, "demo_user": "", "demo_password": ""}
        tls: dict[str, Any] = {"tls_enabled": False, "ssl_context": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}
        quick: dict[str, Any] = {"hash_context": Cleartext(), "cpu_subsystem": Subsystem.for_asyncio()}
        super().__init__(Namespace(proxy_protocol=None), host=HOST, port=0, **demo, **tls, **quick)


class _Mailbox(MailboxData):
    """Looks before it waits: pymap's IDLE forgets the mail that comes while it writes about the one before."""

    async def update_selected(self, selected: SelectedMailbox, *, wait_on: Event | None = None) -> SelectedMailbox:
        if selected.mod_sequence != self._mod_sequences.highest:
            wait_on = None
        return await super().update_selected(selected, wait_on=wait_on)


class _Mailboxes(MailboxSet):
    def __init__(self) -> None:
        super().__init__()
        self._inbox, self._set["Junk"] = (_Mailbox(self._content_cache, self._thread_cache) for _ in range(2))
