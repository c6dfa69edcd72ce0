"""A mail provider inside this process, for `mailprobe demo` and for tests: submission, queues, mailboxes.

Rule: everything is real but the network. Mail comes by SMTP and is read by IMAP, over TCP on 127.0.0.1; the 250 is
given before delivery; what is slow, held, lost or doubled is so because a `Behaviour` says it, never by accident.

    SMTP (aiosmtpd) ─► mx00…07: one queue and task per recipient: delay, hold ─► store000…229: INBOX or Junk ─► IMAP
                                      ▲   put off: a task per mail, back-off │   (pymap, in memory)
                                      └──────────────────────────────────────┘

Sole importer of aiosmtpd: without the extra `demo`, importing this module raises ImportError.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from types import SimpleNamespace
from typing import Any, Literal, Self

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from probe.core.behaviour import Behaviour, store
from probe.core.events import Instant, elapsed
from probe.core.schedule import backoff
from probe.provider import texts
from probe.provider.mailboxes import Mailboxes

HOST = "127.0.0.1"
_DOMAIN = "demo.invalid"  # RFC 2606: resolved by nobody
_RELAYS = 8
_RETRY = 600.0, 4000.0  # seconds between attempts, growing: Postfix's minimal and maximal back-off, about
_WARN = 4 * 3600.0  # seconds after which the sender is told that the mail waits; a usual setting


@dataclass(slots=True)
class Passage:
    """One mail in the provider's own record: the truth that a prober is to find out from outside."""

    queue_id: str
    sender: str
    recipient: str
    relay: str  # which holds it until it has ended
    accepted: Instant  # the 250 is written
    attempts: int = 0
    fate: Literal["queued", "inbox", "junk", "bounced", "lost"] = "queued"
    ended: Instant | None = None  # it lies in the mailbox, or was given up
    warned: bool = False

    @property
    def took(self) -> float | None:
        """Seconds from the 250 to the end; None while it is in the queue."""
        return elapsed(self.accepted, self.ended) if self.ended else None


@dataclass(frozen=True, slots=True)
class _Mail:
    due: float  # by the loop's clock
    passage: Passage
    content: bytes  # as it was accepted


class Provider:
    """Runs between the ends of `async with`, once. `users`: address → password (ASCII); the user name is the address.

    `behaviours` (address → Behaviour) may be changed while it runs: every RCPT, final dot and delivery looks anew.
    `record` holds every mail that got its 250, in order.
    """

    def __init__(
        self,
        users: Mapping[str, str],
        behaviours: Mapping[str, Behaviour],
        rng: random.Random,
        clock: Callable[[], Instant],
    ) -> None:
        self.users = dict(users)
        self.behaviours = defaultdict(Behaviour, behaviours)
        self.record: list[Passage] = []
        self.smtp_port = self.imap_port = 0  # known when started
        self._rng, self._clock = rng, clock
        self._queues = defaultdict[str, asyncio.Queue[_Mail]](asyncio.Queue)
        self._waiting: Counter[str] = Counter()
        self._known: dict[tuple[str, str], Instant] = {}  # relay, recipient → their first attempt
        self._mailboxes = Mailboxes(users, HOST)
        self._relays = cycle(f"mx{number:02}.{_DOMAIN}" for number in range(_RELAYS))
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
        smtp = partial(_Smtp, hooks, auth_require_tls=False, authenticator=self._check)
        loop = asyncio.get_running_loop()
        self._started = loop.time()
        self._servers.append(await loop.create_server(lambda: smtp(hostname=next(self._relays)), HOST, 0))
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
        await self._mailboxes.serve(reader, writer)

    # -- submission ----------------------------------------------------------------------------------------------

    def _check(self, _server: SMTP, _session: Session, _envelope: Envelope, _how: str, given: Any) -> AuthResult:
        user, password = (part.decode(errors="replace") for part in given)
        return AuthResult(success=self.users.get(user) == password, handled=False)

    async def _rcpt(self, _: SMTP, session: Session, envelope: Envelope, address: str, _options: Any) -> str:
        if not session.authenticated:  # auth_required would, without TLS, raise a Python warning at each connection
            return "530 5.7.0 Authentication required"
        if address not in self.users:
            return f"550 5.1.1 <{address}>: user unknown"
        if self._hits(self.behaviours[address].refused):
            return f"550 5.7.1 <{address}>: refused by policy"
        if self._hits(self.behaviours[address].deferred):
            return f"450 4.7.1 <{address}>: try again later"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def _data(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        queue_id, now, relay = f"{self._rng.getrandbits(40):010X}", self._clock(), server.hostname
        for address in dict.fromkeys(envelope.rcpt_tos):
            passage = Passage(queue_id, envelope.mail_from or "", address, relay, now)
            self.record.append(passage)
            behaviour = self.behaviours[address]
            if self._hits(behaviour.lost):
                passage.fate, passage.ended = "lost", now
                continue
            due = asyncio.get_running_loop().time() + self._rng.uniform(*behaviour.delay)
            source = f"{session.host_name} ([{HOST}])"
            trace = texts.received(source, relay, "ESMTPA", queue_id, address, now.wall)
            self._queues[address].put_nowait(_Mail(due, passage, trace + (envelope.original_content or b"")))
            self._waiting[address] += 1
        return f"250 2.0.0 Ok: queued as {queue_id}"

    def _hits(self, share: float) -> bool:
        return self._rng.random() < share

    # -- delivery ------------------------------------------------------------------------------------------------

    async def _deliver(self, address: str) -> None:
        """One recipient's queue: first in, first out; no mail before it is due, none during a hold."""
        now = asyncio.get_running_loop().time
        while True:
            mail = await self._queues[address].get()
            await asyncio.sleep(mail.due - now())
            if hold := self.behaviours[address].hold:
                await asyncio.sleep(hold.rest(now() - self._started))
            if not await self._attempt(mail):
                self._watch(asyncio.create_task(self._try_again(mail)))

    async def _try_again(self, mail: _Mail) -> None:
        """A mail that was put off has retry times of its own, so those that waited together come back one by one."""
        for pause in backoff(self._rng, *_RETRY):
            await asyncio.sleep(pause)
            if await self._attempt(mail):
                return
            if not mail.passage.warned and elapsed(mail.passage.accepted, self._clock()) > _WARN:
                mail.passage.warned = True
                await self._notify(mail, texts.DELAYED)

    async def _attempt(self, mail: _Mail) -> bool:
        """Hand it to its storage host; whether that has dealt with it."""
        passage = mail.passage
        address, behaviour = passage.recipient, self.behaviours[passage.recipient]
        passage.attempts += 1
        if self._is_grey(passage, behaviour.grey) or self._hits(behaviour.put_off):
            return False
        self._waiting[address] -= 1
        if self._hits(behaviour.bounced):
            passage.fate, passage.ended = "bounced", self._clock()
            await self._notify(mail, texts.BOUNCED)
            return True
        passage.fate = "junk" if self._hits(behaviour.junked) else "inbox"
        passage.ended = now = self._clock()
        host = f"{store(address)}.{_DOMAIN}"
        trace = texts.received(passage.relay, host, "LMTP", passage.queue_id, address, now.wall)
        content = f"Return-Path: <{passage.sender}>\r\n".encode() + trace + mail.content
        copies = 2 if self._hits(behaviour.duplicated) else 1
        await self._mailboxes.append(address, "Junk" if passage.fate == "junk" else "INBOX", content, now.wall, copies)
        return True

    def _is_grey(self, passage: Passage, seconds: float) -> bool:
        now = self._clock()
        return seconds > 0 and elapsed(self._known.setdefault((passage.relay, passage.recipient), now), now) < seconds

    async def _notify(self, mail: _Mail, verdict: texts.Verdict) -> None:
        """Tell the sender by a mail (RFC 3464), if it has a mailbox here."""
        passage, now = mail.passage, self._clock().wall
        if passage.sender not in self.users:
            return
        content = texts.notice(
            verdict,
            now,
            mail.content,
            queue_id=passage.queue_id,
            sender=passage.sender,
            recipient=passage.recipient,
            arrived=texts.date(passage.accepted.wall),
            relay=passage.relay,
            store=f"{store(passage.recipient)}.{_DOMAIN}",
        )
        await self._mailboxes.append(passage.sender, "INBOX", content, now)


class _Smtp(SMTP):
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        task: Any = self._handler_coroutine
        self.event_handler.watch(task, lambda: (task.cancel(), transport.abort()))
