"""A watcher at work on a scripted mailbox: the scene, its mails, and what it must never say to a server.

Rule: every watched mailbox is checked at its end for a command that could have harmed somebody's mail.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pytest

from probe.clock import now
from probe.core import schedule
from probe.core.dsn import Notice, looks_like_notice, read_notice
from probe.core.events import Arrived, Bounced, Cursor, Instant, Notified, Place, Vanished, elapsed
from probe.core.message import HEADER, Mail, Recognised, Refused, compose, recognise, worth_reading
from probe.core.outcome import Sink
from probe.core.settings import Account, Asking, Secret
from probe.core.token import Token
from probe.mail import watcher as module
from probe.mail.watcher import Watcher

from .fake_imap import CAPABILITIES, FakeImap, Handler

LIMIT = 5.0  # seconds: whoever waits longer waits for ever
FASTER = 20_000.0  # how much shorter the pauses between sessions are
KEY = b"k" * 32
SENDER, OWN = "probe@example.de", "probe@example.org"
SENDERS = frozenset({SENDER})
FOREIGN = b"From: aunt@example.net\r\nSubject: cake\r\n\r\nSunday?\r\n"
NEVER = Asking(budget=0)
BARE = CAPABILITIES.replace(b" UIDPLUS", b"")
DEAF = CAPABILITIES.replace(b" IDLE", b"")


def probe_id(number: int) -> str:
    return f"{number:016x}"


def ours(number: int, route: str = "r") -> bytes:
    """Our mail for probe number so and so, as delivered."""
    at = 1_700_000_000.0 + number
    return compose(KEY, Token(probe_id(number), route, at, at), Mail(SENDER, OWN))


def token_of(raw: bytes) -> bytes:
    return re.search(rb"mp1\.\S+", raw)[0]  # type: ignore[index]


@dataclass
class Told(Sink):
    """Remembers what it was told."""

    ups: int = 0
    downs: list[tuple[str, float]] = field(default_factory=list)  # (reason, retry)
    asks: int = 0
    reasons: list[str] = field(default_factory=list)
    removals: list[int] = field(default_factory=list)
    removals_refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def mailbox_up(self, account: str) -> None:
        self.ups += 1

    def mailbox_down(self, account: str, reason: str, detail: str, retry: float) -> None:
        self.downs.append((reason, retry))

    def asked(self, account: str) -> None:
        self.asks += 1

    def unrecognised(self, account: str, reason: str) -> None:
        self.reasons.append(reason)

    def removed(self, account: str, mails: int) -> None:
        self.removals.append(mails)

    def removal_refused(self, account: str, reason: str) -> None:
        self.removals_refused.append(reason)

    def note(self, account: str, text: str) -> None:
        self.notes.append(text)


@dataclass
class Book:
    """The recorder: takes what is seen, and settles it as soon as it is asked to, or by itself."""

    automatic: bool = True
    arrivals: list[Arrived] = field(default_factory=list)
    others: list[Vanished | Bounced | Notified] = field(default_factory=list)
    cursors: list[Cursor] = field(default_factory=list)
    watcher: Watcher | None = None

    def report(self, event: Arrived | Vanished | Bounced | Notified) -> None:
        if isinstance(event, Arrived):
            self.arrivals.append(event)
            if self.automatic:
                asyncio.get_running_loop().call_soon(self.settle, event.place)
        else:
            self.others.append(event)

    def read_up_to(self, cursor: Cursor) -> None:
        self.cursors.append(cursor)

    def settle(self, place: Place) -> None:
        assert self.watcher
        self.watcher.settle(place, True)

    @property
    def probes(self) -> list[int]:
        return [int(arrived.probe, 16) for arrived in self.arrivals]

    def places(self, number: int) -> set[Place]:
        return {arrived.place for arrived in self.arrivals if arrived.probe == probe_id(number)}

    def last(self) -> Arrived:
        return self.arrivals[-1]


@dataclass
class Clock:
    """The real one, and what was skipped."""

    skipped: float = 0.0

    def __call__(self) -> Instant:
        return now().shifted(self.skipped)


@dataclass
class Scene:
    fake: FakeImap
    watcher: Watcher
    book: Book
    told: Told
    clock: Clock
    task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.task = asyncio.create_task(self.watcher.run())

    async def up(self, times: int = 1) -> None:
        await until(lambda: self.told.ups >= times and self.watcher.up)

    async def listening(self, folder: str = "INBOX") -> None:
        """Until the watcher idles there."""

        def idles() -> bool:
            return bool(self.fake.inbox(folder).idle_tag)

        await until(idles)

    async def stop(self) -> None:
        assert self.task
        async with asyncio.timeout(LIMIT):
            while not self.task.done():  # that once is enough has a test of its own
                self.task.cancel()
                await asyncio.wait([self.task], timeout=0.2)

    def count(self, part: bytes) -> int:
        return sum(part in line for line in self.fake.lines)

    def commands(self) -> list[bytes]:
        return [line.partition(b" ")[2] for line in self.fake.lines]

    def left(self, folder: str = "INBOX") -> list[int]:
        return sorted(self.fake.folders[folder].mails)


async def until(condition: Callable[[], object], seconds: float = LIMIT) -> None:
    """Until it holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)


async def turns(number: int = 50) -> None:
    """Let whatever is ready happen: for what must *not* happen."""
    for _ in range(number):
        await asyncio.sleep(0.0002)


def _short_pauses(rng: random.Random, first: float, longest: float) -> Iterator[float]:
    """Sessions follow one another at once; the pauses that would have been are 20,000 times those in Told.downs."""
    return (delay / FASTER for delay in schedule.backoff(rng, first, longest))


def recognise_all(raw: bytes) -> Recognised | Notice | Refused | None:
    """As the prober does it."""
    return read_notice(KEY, raw) or recognise(KEY, raw, SENDERS)


def account(fake: FakeImap, **more: object) -> Account:
    return Account("own", OWN, "me", Secret("hunter2"), imap=fake.server(), **{"asking": NEVER, **more})  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def watching(
    fake: FakeImap,
    *,
    settled: bool = True,
    cursors: Iterable[Cursor] = (),
    backlog_since: float | None = None,
    timeout: float = LIMIT,
    wait: bool = True,
    recognise_with: Callable[[bytes], Recognised | Notice | Refused | None] = recognise_all,
    book: Book | None = None,
    **more: object,
) -> AsyncIterator[Scene]:
    """A watcher at work on this mailbox, up, and a look at its commands when it has ended."""
    told, book, clock = Told(), book or Book(settled), Clock()
    watcher = Watcher(
        account(fake, **more),
        book,
        told,
        clock,
        random.Random(1),
        recognise=recognise_with,
        worth_reading=lambda head: looks_like_notice(head) or worth_reading(head, SENDERS),
        cursors=cursors,
        backlog_since=backlog_since,
        timeout=timeout,
    )
    book.watcher = watcher
    scene = Scene(fake, watcher, book, told, clock)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "backoff", _short_pauses)
        scene.start()
        try:
            async with asyncio.timeout(4 * LIMIT):
                if wait:
                    await scene.up()
                    await scene.listening() if b"IDLE" in fake.capabilities else None
                yield scene
        finally:
            assert scene.task
            crashed = scene.task.done()
            await scene.stop()
    assert not crashed, "run() has ended by itself"
    nothing_harmful(fake)


@contextlib.asynccontextmanager
async def unreachable(fake: FakeImap) -> AsyncIterator[Scene]:
    """A watcher that knocks at a port where nobody listens."""
    port, fake.port = fake.port, 1
    try:
        async with watching(fake, wait=False) as scene:
            yield scene
    finally:
        fake.port = port


def nothing_harmful(fake: FakeImap) -> None:
    for line in fake.lines:
        command = line.partition(b" ")[2].upper()
        assert not command.startswith((b"CLOSE", b"EXPUNGE", b"STORE", b"UID MOVE", b"MOVE", b"UID COPY", b"DELETE"))
        if command.startswith(b"UID STORE"):
            assert re.fullmatch(rb"UID STORE [\d,:]+ \+FLAGS \(\\(DELETED|SEEN)\)", command)
        if command.startswith(b"UID EXPUNGE"):
            assert re.fullmatch(rb"UID EXPUNGE [\d,:]+", command)
        if b"BODY" in command:
            assert b"BODY.PEEK" in command


def touched(fake: FakeImap) -> list[bytes]:
    return [line for line in fake.lines if b"STORE" in line or b"EXPUNGE" in line]


def cursor(uid: int, ago: float = 60.0, folder: str = "INBOX", uidvalidity: int = 1) -> Cursor:
    return Cursor("own", folder, uidvalidity, uid, now().shifted(-ago))


def once(wanted: bytes, do: Callable[[FakeImap], object], after: int = 0) -> tuple[Handler, list[FakeImap]]:
    """A handler that at the first command of this kind (after so many) does something and answers nothing.

    The list is for the fake, which is not there yet.
    """
    fakes: list[FakeImap] = []
    seen = [0]

    async def handler(tag: bytes, command: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
        if not (command + b" " + args).upper().startswith(wanted):
            return False
        seen[0] += 1
        if seen[0] != after + 1:
            return False
        fake = fakes[0]
        fake.sessions.sort(key=lambda session: session.writer is writer)  # "the last session" is the one that speaks
        do(fake)
        return True

    return handler, fakes


def refusing(wanted: bytes, answer: bytes = b"NO [NOPERM] not you") -> Handler:
    async def handler(tag: bytes, command: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
        if (command + b" " + args).upper().startswith(wanted):
            writer.write(tag + b" " + answer + b"\r\n")
            return True
        return False

    return handler


def silent_idle(fake: FakeImap) -> None:
    """Only a NOOP tells."""
    fake.idle_lag, fake.tellers = None, frozenset({b"NOOP"})


def noops(fake: FakeImap, since: Instant) -> list[float]:
    """When NOOPs came to INBOX's session."""
    pairs = zip(fake.lines, fake.stamps, strict=True)
    return [elapsed(since, at) for line, at in pairs if line.endswith(b" NOOP") and elapsed(since, at) >= 0]


def stripped(raw: bytes, subject: bytes = b"Subject: (no subject)") -> bytes:
    """As by a gateway that drops unknown fields and rewrites the subject: the token stands in the body alone."""
    head, gap, body = raw.partition(b"\r\n\r\n")
    head = re.sub(rb"(?m)^%s: .*\r\n" % HEADER.encode(), b"", head)
    return re.sub(rb"(?m)^Subject: .*$", subject, head.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n") + gap + body


REPLY = (
    b"From: aunt@example.net\r\nIn-Reply-To: <x@example.de>\r\n"
    b"Subject: Re: mailprobe test mail %b\r\n\r\n> %b\r\nWhat?\r\n"
)


def attached(raw: bytes, sender: bytes = b"aunt@example.net", subject: bytes = b"Fwd: look") -> bytes:
    """Somebody sends our mail on as an attachment."""
    return (
        b"From: " + sender + b"\r\nSubject: " + subject + b"\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nWhat is that?\r\n'
        b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + raw + b"\r\n--b--\r\n"
    )
