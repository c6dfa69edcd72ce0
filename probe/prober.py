"""Accounts at work: probes go out through submitters, arrivals come in through watchers, the recorder hears of both.

Rule: this is where the pieces are joined and nothing else; the schedule and the signals are the daemon's.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable
from contextlib import suppress

from probe.core.events import Accepted, Arrived, Cursor, Instant, Sending, Submitted, Unconfirmed, elapsed
from probe.core.message import Mail, Recognised, Refused, compose, recognise, worth_reading
from probe.core.outcome import Sink
from probe.core.settings import Account, Route, Settings
from probe.core.state import State
from probe.core.token import Token
from probe.ledger import Ledger, LedgerError
from probe.mail.smtp import OnStage, Submitter
from probe.mail.watcher import Watcher
from probe.recorder import Recorder

log = logging.getLogger("mailprobe.prober")

_LONGEST_SUBMISSION = 900.0  # seconds from a probe's start to its acceptance, at most
_CONTACT_EVERY = 5.0
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
        self.recorder = Recorder(
            ledger, clock, lambda: self.settings.routes, self.sees, sink, LedgerError, self._settle
        )
        self._ledger, self._key, self._rng, self._sink, self._timeout = ledger, key, rng, sink, timeout
        self._submitters: dict[str, Submitter] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._senders: frozenset[str] = frozenset()
        self._cursors: dict[tuple[str, str], Cursor] = {}

    # -- life ----------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Take up what the ledger holds; before this, nobody must be told what is in flight."""
        found = await self._ledger.open_probes()
        self._cursors = await self._ledger.cursors()
        judged_until = await self._ledger.judged_until()
        longest = max((d for route in self.settings.routes.values() for d in route.deadlines), default=0.0)
        young = await self._ledger.started_since(judged_until - longest - _LONGEST_SUBMISSION) if longest else []
        self.recorder.resume(found, young, await self._ledger.counts(), judged_until)
        for probe in found:
            if probe.state not in {State.SENDING, State.EARLY}:
                continue
            # We were stopped in the middle of its submission: nobody knows whether the server took it.
            self.recorder.put(Unconfirmed(probe.id, self.clock(), probe.started, "restart"))

    async def __aenter__(self) -> Prober:
        self._tasks = {
            "recorder": asyncio.create_task(self.recorder.run()),
            "tick": asyncio.create_task(self._tick()),
            "contact": asyncio.create_task(self._report_contact()),
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

    def has_tried_everything(self) -> bool:
        """Whether every mailbox has been tried at least once."""
        watchers = self.watchers.values()
        return bool(watchers) and all(watcher.attempted.is_set() for watcher in watchers)

    async def _tick(self) -> None:
        """Let time decide, but only after every mailbox was tried: what came while we were down lies there."""
        for watcher in list(self.watchers.values()):
            await watcher.attempted.wait()
        await self.recorder.tick()

    async def _report_contact(self) -> None:
        while True:
            for name, watcher in self.watchers.items():
                if watcher.last_contact:
                    self._sink.contact(name, watcher.last_contact)
            await asyncio.sleep(_CONTACT_EVERY)

    def apply(self, settings: Settings) -> None:
        """Take over a configuration: accounts that did not change keep their connections."""
        before, self.settings = self.settings, settings
        self._senders = frozenset(account.address.lower() for account in settings.accounts.values() if account.smtp)
        for name in list(self._submitters.keys() | self.watchers.keys()):
            if settings.accounts.get(name) != before.accounts.get(name):
                self._stop_sending(name)
                self._stop_watching(name)
        used = {route.recipient for route in settings.routes.values()}
        for name, account in settings.accounts.items():
            if account.smtp and name not in self._submitters:
                self._submitters[name] = Submitter(account, self.clock, self._rng, timeout=self._timeout)
            if account.imap and name not in self.watchers and name in used:
                self._watch(account)
        for name in self.watchers.keys() - used:
            self._stop_watching(name)

    def _watch(self, account: Account) -> None:
        waiting = [p.started.wall for p in self.recorder.probes.values() if p.recipient == account.address]
        watcher = Watcher(
            account,
            self,
            self._sink,
            self.clock,
            self._rng,
            recognise=self._recognise,
            worth_reading=lambda head: worth_reading(head, self._senders),
            cursors=[cursor for (name, _), cursor in self._cursors.items() if name == account.name],
            backlog_since=min(waiting, default=None),
            timeout=self._timeout,
        )
        self.watchers[account.name] = watcher
        self._tasks[account.name] = asyncio.create_task(self._keep_watching(watcher))

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
        await self.recorder.durable(sending)
        submitted = await submitter.submit(sending, content, on_stage)
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

    def sees(self, address: str) -> bool:
        """Whether the mailbox of this address is being watched now."""
        return any(watcher.up for watcher in self.watchers.values() if watcher.account.address == address)

    def arrived(self, event: Arrived) -> None:
        """A watcher saw a probe."""
        self.recorder.put(event)

    def read_up_to(self, cursor: Cursor) -> None:
        """A watcher has dealt with everything up to here."""
        self._cursors[cursor.account, cursor.folder] = cursor
        self.recorder.put(cursor)

    def _recognise(self, raw: bytes) -> Recognised | Refused | None:
        return recognise(self._key, raw, self._senders)

    def _settle(self, arrived: Arrived, ours: bool) -> None:
        if watcher := self.watchers.get(arrived.place.account):
            watcher.settle(arrived.place, ours)
