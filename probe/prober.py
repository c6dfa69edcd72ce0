"""Accounts at work: probes go out through submitters, arrivals come in through watchers, the recorder hears of both.

Rule: this is where the pieces are joined and nothing else; the schedule and the signals are the daemon's.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf

from probe.core.dsn import Notice, looks_like_notice, read_notice
from probe.core.events import (
    Accepted,
    Arrived,
    Bounced,
    Cursor,
    Instant,
    Notified,
    Sending,
    Submitted,
    Traced,
    Unconfirmed,
    Vanished,
    elapsed,
)
from probe.core.message import Mail, Recognised, Refused, compose, recognise, worth_reading
from probe.core.outcome import Sink
from probe.core.progress import Work
from probe.core.settings import Account, Route, Settings
from probe.core.state import OPEN, Probe
from probe.core.token import Token, mint_envelope_id
from probe.core.way import Tracer
from probe.ledger import Ledger, LedgerError
from probe.mail.oauth import Tokens
from probe.mail.smtp import OnStage, Submitter
from probe.mail.watcher import Watcher
from probe.recorder import Recorder

log = logging.getLogger("mailprobe.prober")

_LONGEST_SUBMISSION = 900.0  # seconds from a probe's start to its acceptance, at most
_TICK = 1.0  # seconds between looks at what time alone decides
_CONTACT_EVERY = 5.0
_FIRST_LOOK = 30.0  # seconds
_COMMIT = 180.0  # seconds that one attempt to write to the disk may take
_AFTER_BUG = 60.0  # seconds before a watcher that fell over by a bug of ours is started again


class Prober:
    """Use as a context manager; inside it every mailbox is watched, and send() sends.

    `sink` is told of everything. `timeout` bounds each step of a conversation with a server, in seconds.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        key: bytes,
        clock: Callable[[], Instant],
        rng: random.Random,
        sink: Sink,
        timeout: float = 30.0,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.watchers: dict[str, Watcher] = {}
        self.tracer = Tracer(lambda: self.settings.accounts)
        self.recorder = Recorder(ledger, clock, lambda: self.settings.routes, self, sink, LedgerError, self._trace)
        self._ledger, self._key, self._rng, self._sink, self._timeout = ledger, key, rng, sink, timeout
        self._submitters: dict[str, Submitter] = {}
        self._tokens: dict[str, Tokens] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._eyes: defaultdict[str, list[Watcher]] = defaultdict(list)  # by the address of their mailbox
        self._under_way: dict[str, Sending] = {}  # submissions that run: the recorder may not know of them yet
        self._senders: frozenset[str] = frozenset()
        self._cursors: dict[tuple[str, str], Cursor] = {}
        self.away: float | None = None  # seconds between the last record of a run before and load(), by the wall clock

    # -- life ----------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Take up what the ledger holds; before this, nobody must be told what is in flight."""
        self._cursors = await self._ledger.cursors()
        last = await self._ledger.last_record()
        self.away = self.clock().wall - last if last else None
        longest = max((d for route in self.settings.routes.values() for d in route.deadlines), default=0.0)
        # Not the last record: a run may have ended before it judged what had passed while none was.
        judged_until = await self._ledger.last_judgement()
        probes = await self._ledger.unfinished(judged_until - longest - _LONGEST_SUBMISSION)
        self.recorder.resume(probes, await self._ledger.counts(), judged_until)
        # Off the loop, for some tenths of a second: a signal must not wait for it.
        await asyncio.to_thread(self.tracer.learn, await self._ledger.recent_headers())
        for probe in probes:
            if probe.submitted is None:
                # We were stopped in the middle of its submission: nobody knows whether the server took it.
                self.recorder.put(Unconfirmed(probe.id, self.clock(), probe.started, "restart"))

    async def __aenter__(self) -> Prober:
        self._tasks = {
            # No account has a name with a dot in it.
            ".recorder": asyncio.create_task(self.recorder.run()),
            ".tick": asyncio.create_task(self._tick()),
            ".contact": asyncio.create_task(self._report_contact()),
        }
        self.apply(self.settings)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End within a second or so; what is not on disk then is what the next start finds out again."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for watcher in self.watchers.values():
            self._note_cursors(watcher)
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self.recorder.drain()
        for submitter in self._submitters.values():
            submitter.close()

    def essential(self) -> list[asyncio.Task[None]]:
        """The tasks without which nothing is recorded; they end only by a bug."""
        return [self._tasks[name] for name in (".recorder", ".tick", ".contact")]

    def has_tried_everything(self) -> bool:
        """Whether every mailbox has been tried at least once."""
        watchers = self.watchers.values()
        return bool(watchers) and all(watcher.attempted.is_set() for watcher in watchers)

    def works(self) -> Iterator[Work]:
        """What must get on: the recorder, and every watcher. (Those that have ended are essential(), or start anew.)"""
        yield Work("the recorder", self.recorder.steps, self.recorder.resting, _COMMIT)
        for watcher in self.watchers.values():
            yield from watcher.works()

    async def _tick(self) -> None:
        """Let time decide; at first not before every mailbox was tried, for what came while we were down lies there.
        But not for ever: a slow one must not blind the others."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_LOOK):
                for watcher in list(self.watchers.values()):
                    await watcher.attempted.wait()
        while True:
            self.recorder.tick()
            await asyncio.sleep(_TICK)

    async def _report_contact(self) -> None:
        while True:
            for name, watcher in self.watchers.items():
                if watcher.last_contact:
                    self._sink.contact(name, watcher.last_contact)
            self._sink.clocks(self.tracer.clocks.offsets(self.clock().wall))
            await asyncio.sleep(_CONTACT_EVERY)

    def apply(self, settings: Settings) -> None:
        """Take over a configuration: accounts that did not change keep their connections."""
        before, self.settings = self.settings, settings
        self._senders = frozenset(account.address.lower() for account in settings.accounts.values() if account.smtp)
        for name in list(self._submitters.keys() | self.watchers.keys()):
            if settings.accounts.get(name) != before.accounts.get(name):
                self._stop_sending(name)
                self._stop_watching(name)
        # Bounces come to the sender. Mail in flight is waited for, though its route may be gone.
        used = {name for route in settings.routes.values() for name in (route.sender, route.recipient)}
        waiting = self._waiting()
        used |= {name for name, account in settings.accounts.items() if account.address in waiting}
        for name, account in settings.accounts.items():
            if account.smtp and name not in self._submitters:
                tokens = self._tokens_of(account)
                self._submitters[name] = Submitter(account, self.clock, self._rng, timeout=self._timeout, tokens=tokens)
            if account.imap and name not in self.watchers and name in used:
                self._watch(account, waiting.get(account.address))
        for name in self.watchers.keys() - used:
            self._stop_watching(name)
        self.recorder.replan()

    def _waiting(self) -> dict[str, float]:
        """Since when something of ours may come to which addresses, in Unix time."""
        under_way = [(it.at, it.recipient, it.sender) for it in self._under_way.values()]
        probes = [(it.started, it.recipient, it.sender) for it in self.recorder.probes.values() if it.state in OPEN]
        waiting = dict[str, float]()
        for started, *addresses in (*under_way, *probes):
            for address in addresses:
                waiting[address] = min(started.wall, waiting.get(address, inf))
        return waiting

    def _watch(self, account: Account, since: float | None) -> None:
        watcher = Watcher(
            account,
            self,
            self._sink,
            self.clock,
            self._rng,
            recognise=self._recognise,
            worth_reading=lambda head: looks_like_notice(head) or worth_reading(head, self._senders),
            cursors=[cursor for (name, _), cursor in self._cursors.items() if name == account.name],
            backlog_since=since,
            timeout=self._timeout,
            tokens=self._tokens_of(account),
        )
        self.watchers[account.name] = watcher
        self._eyes[account.address].append(watcher)
        self._tasks[account.name] = asyncio.create_task(self._keep_watching(watcher))

    def _tokens_of(self, account: Account) -> Tokens | None:
        """The same for both wires, and kept over reloads: the server may have given a newer refresh token."""
        if account.oauth is None:
            return None
        tokens = self._tokens.get(account.name)
        if tokens is None or tokens.oauth != account.oauth:
            tokens = self._tokens[account.name] = Tokens(account.oauth, self.clock, self._timeout)
        return tokens

    async def _keep_watching(self, watcher: Watcher) -> None:
        while True:
            try:
                await watcher.run()
            except Exception:
                log.exception("bug: the watcher of %s fell over", watcher.account.name)
                self._sink.mailbox_down(watcher.account.name, "bug", "see the log", _AFTER_BUG)
                await asyncio.sleep(_AFTER_BUG)

    def _stop_sending(self, name: str) -> None:
        if submitter := self._submitters.pop(name, None):
            submitter.close()

    def _stop_watching(self, name: str) -> None:
        if watcher := self.watchers.pop(name, None):
            self._tasks.pop(name).cancel()
            self._eyes[watcher.account.address].remove(watcher)
            self._note_cursors(watcher)

    def _note_cursors(self, watcher: Watcher) -> None:
        for cursor in watcher.cursors.values():
            self.read_up_to(cursor)

    # -- the way out ---------------------------------------------------------------------------------------------

    async def send(self, route: Route, due: Instant, on_stage: OnStage | None = None) -> Submitted | str:
        """Send one probe; what came of its submission, or (a label) why it was not started."""
        submitter = self._submitters[route.sender]
        if reason := "ledger_unwritable" if self.recorder.stuck else submitter.why_not():
            self._sink.skipped(route.name, reason)
            return reason
        sender, recipient = (self.settings.accounts[name].address for name in (route.sender, route.recipient))
        sending = Sending(secrets.token_hex(8), self.clock(), route.name, due, sender, recipient)
        self._sink.started(route.name, max(0.0, elapsed(due, sending.at)))
        token = Token(sending.probe, route.name, due.wall, sending.at.wall)
        content = compose(self._key, token, Mail(sender, recipient, self.settings.contact))
        watcher = self.watchers.get(route.recipient)
        if watcher:
            watcher.may_come(sending.at)
        recording: list[Sending] = []

        async def record() -> None:
            if not recording:
                recording.append(sending)
                await self.recorder.durable(sending)

        self._under_way[sending.probe] = sending
        try:
            envelope_id = mint_envelope_id(self._key, sending.probe)
            submitted = await submitter.submit(sending, content, on_stage, record, envelope_id)
        finally:
            del self._under_way[sending.probe]
        if not recording:
            self.recorder.put(sending)  # it came to nothing before any content could leave
        match submitted:
            case Accepted(at=since) | Unconfirmed(since=since):
                # Before it is on disk: asking is only a hint, and the mail may be there within milliseconds.
                if watcher:
                    watcher.expect(sending.probe, route.name, since)
        self.recorder.put(submitted)
        if submitter.certificate_not_after:
            self._sink.certificate(route.sender, "smtp", submitter.certificate_not_after)
        return submitted

    # -- the way back in -----------------------------------------------------------------------------------------

    def address(self, account: str) -> str | None:
        """See recorder.Eyes."""
        return self.settings.accounts[account].address if account in self.settings.accounts else None

    def sees(self, address: str) -> bool:
        """Whether the mailbox of this address is being watched now."""
        return any(watcher.up for watcher in self._eyes.get(address, ()))

    def looked(self, address: str) -> Instant | None:
        """See recorder.Eyes."""
        looked = [watcher.looked for watcher in self._eyes.get(address, ()) if watcher.looked]
        return max(looked, key=lambda instant: instant.boot, default=None)

    def look(self, address: str) -> None:
        """See recorder.Eyes."""
        for watcher in self._eyes.get(address, ()):
            watcher.look()

    def watches(self, address: str) -> bool:
        """See recorder.Eyes."""
        return bool(self._eyes.get(address))

    def report(self, event: Arrived | Vanished | Bounced | Notified) -> None:
        """A watcher saw something of a probe."""
        self.recorder.put(event)

    def read_up_to(self, cursor: Cursor) -> None:
        """A watcher has dealt with everything up to here."""
        self._cursors[cursor.account, cursor.folder] = cursor
        self.recorder.put(cursor)

    def _recognise(self, raw: bytes) -> Recognised | Notice | Refused | None:
        # A notice first: it may return our token in its text, like somebody's reply.
        return read_notice(self._key, raw) or recognise(self._key, raw, self._senders)

    def _trace(self, probe: Probe) -> Traced | None:
        traced = self.tracer.trace(probe)
        for step in self.tracer.clocks.steps if traced else ():
            if step.sure:
                self._sink.host_clock_set(step.host, step.by)
        return traced

    def settle(self, event: Arrived | Bounced | Notified, ours: bool) -> None:
        """See recorder.Eyes."""
        if watcher := self.watchers.get(event.place.account):
            watcher.settle(event.place, ours)
