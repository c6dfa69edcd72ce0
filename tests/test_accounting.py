"""Whatever happens, in any order: each probe ends in one state, is measured once, and only our own mail is removed.

Hypothesis plays provider, postman, disk and power supply against the real recorder on a real ledger; mails are bytes
that the real core has to recognise.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from probe.core.events import Accepted, Arrived, Bounced, Failed, Judged, Notified, Place, Sending, Unconfirmed
from probe.core.message import Mail, Recognised, compose, recognise
from probe.core.state import IN_FLIGHT, State
from probe.core.token import Token
from probe.ledger import Ledger, LedgerError
from probe.recorder import Recorder

from .make import OK, RECIPIENT, SENDER, FakeClock, FakeEyes, Told, every_probe, make_route, place

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
SENDERS = frozenset({SENDER})
SETTLED = {State.DELIVERED, State.FOUND, State.BOUNCED, State.LOST, State.REJECTED, State.DEFERRED, State.FAILED}


class Accounting(RuleBasedStateMachine):
    """A world of one route whose mails, clocks and power are hypothesis's to play with."""

    sent: Bundle[str] = Bundle("sent")
    lying: Bundle[Place] = Bundle("lying")  # mails that lie in some mailbox, or did

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        self.clock, self.told, self.rng = FakeClock(), Told(), random.Random(0)
        self.eyes = FakeEyes(self.clock)
        self.routes = {"r": make_route(lost_after=10_000.0)}
        self.mails: dict[Place, bytes] = {}
        self.ours: set[Place] = set()  # mails that are copies of a probe, in its mailbox
        self.samples: Counter[str] = Counter()
        self.judged: Counter[tuple[str, float]] = Counter()
        self.killed = False
        self.uid = 0
        self.begin()

    def begin(self) -> None:
        self.ledger = Ledger(Path(self.directory.name) / "ledger.sqlite")
        self.recorder = Recorder(self.ledger, self.clock, lambda: self.routes, self.eyes, self.told, LedgerError)

    def put(self, event: Any) -> None:
        self.clock.advance(0.25)
        self.recorder.put(event)

    # -- what may happen -------------------------------------------------------------------------------------------

    @rule(target=sent)
    def begin_to_send(self) -> str:
        return self.send()

    def send(self) -> str:
        """As prober.send does: on disk before the content leaves."""
        probe = f"{self.rng.getrandbits(64):016x}"
        now = self.clock()
        self.put(Sending(probe, now, "r", now, SENDER, RECIPIENT))
        self.drain()
        return probe

    @rule(target=sent)
    def send_well(self) -> str:
        probe = self.send()
        self.put(Accepted(probe, self.clock(), OK))
        self.drain()
        return probe

    @rule(probe=sent, kind=st.sampled_from(["accepted", "unconfirmed", "failed"]))
    def reply(self, probe: str, kind: str) -> None:
        known = self.recorder.probes.get(probe) or self.runner.run(self.ledger.find(probe))
        if known is None or known.submitted or any(_is_reply(item, probe) for item in self.recorder._queue):
            return
        now = self.clock()
        event = {
            "accepted": Accepted(probe, now, OK),
            "unconfirmed": Unconfirmed(probe, now, known.started, "eof"),
            "failed": Failed(probe, now, "data", "timeout"),
        }
        self.put(event[kind])

    def lay(self, probe: str, raw: bytes, folder: str, account: str = "own") -> Place:
        """A mail comes to lie somewhere, and the watcher sees it."""
        self.uid += 1
        where = place(self.uid, account, folder)
        self.mails[where] = raw
        self.see(where)
        return where

    @rule(target=lying, probe=sent, folder=st.sampled_from(["INBOX", "Junk"]))
    def deliver(self, probe: str, folder: str) -> Place:
        where = self.lay(probe, _mail(KEY, probe), folder)
        self.ours.add(where)
        return where

    @rule(target=lying, probe=sent, kind=st.sampled_from(["reply", "forged", "other key", "elsewhere", "replay"]))
    def disturb(self, probe: str, kind: str) -> Place:
        """Mails that are not ours to touch."""
        raw = _mail(KEY, probe)
        match kind:
            case "reply":
                raw = raw.replace(b"Date:", b"In-Reply-To: <x@y>\r\nDate:")
            case "forged":
                raw = raw.replace(b"mp1." + probe.encode(), b"mp1." + bytes(16 * [0x30]))
            case "other key":
                raw = _mail(OTHER_KEY, probe)
            case "replay":
                raw = raw.replace(b"From: " + SENDER.encode(), b"From: mallory@example.com")
        return self.lay(probe, raw, "INBOX", "gmx" if kind == "elsewhere" else "own")

    @rule(where=lying)
    def see(self, where: Place) -> None:
        """Also again, as after a reconnect."""
        found = recognise(KEY, self.mails[where], SENDERS) if where in self.mails else None
        if isinstance(found, Recognised):
            placement = "inbox" if where.folder == "INBOX" else "junk"
            now = self.clock()
            event = Arrived(found.token.probe, now, where, placement, "idle", None, None, found.removable)  # type: ignore[arg-type]
            self.put(event)

    @rule(probe=sent, uid=st.integers(1, 3), failed=st.booleans())
    def notice(self, probe: str, uid: int, failed: bool) -> None:
        where = place(1000 + uid, "gmx")
        now = self.clock()
        self.put(
            Bounced(probe, now, where, "5.1.1", "no such user")
            if failed
            else Notified(probe, now, where, "delayed", "4.4.1", "later")
        )

    @rule()
    def drain(self) -> None:
        self.runner.run(self.recorder.drain())
        self.learn()

    @rule(seconds=st.sampled_from([1.0, 40.0, 400.0, 20_000.0]), blind=st.booleans())
    def wait(self, seconds: float, blind: bool) -> None:
        self.eyes.open = not blind
        self.clock.advance(seconds)
        self.recorder.tick()
        self.eyes.open = True

    @rule(by=st.sampled_from([-86400.0, -60.0, 60.0, 86400.0]))
    def step(self, by: float) -> None:
        self.clock.step(by)

    @rule(power=st.booleans())
    def kill(self, power: bool) -> None:
        """What was not on disk is gone; what lies in the mailboxes is seen again."""
        self.learn()
        self.ledger.close()
        self.told, self.eyes = Told(), FakeEyes(self.clock)
        if power:
            self.clock.reboot()
        self.killed = True
        self.begin()
        probes = self.runner.run(self.ledger.unfinished(0.0))
        counts = self.runner.run(self.ledger.counts())
        self.recorder.resume(probes, counts, self.runner.run(self.ledger.last_judgement()))
        for probe in probes:
            if probe.state in {State.SENDING, State.EARLY}:
                self.put(Unconfirmed(probe.id, self.clock(), probe.started, "restart"))
        for where in list(self.mails):
            self.see(where)

    # -- what must hold --------------------------------------------------------------------------------------------

    def learn(self) -> None:
        """Read what the sinks were told, as the metrics do, and remove what may be removed, as the watcher does."""
        for outcome in self.told.outcomes:
            if outcome.measured_now:
                self.samples[outcome.event.probe] += 1
            if isinstance(outcome.event, Judged):
                self.judged[outcome.event.probe, outcome.event.deadline] += 1
        for event, ours in self.eyes.settled:
            if ours and isinstance(event, Arrived) and event.genuine and self.mails.pop(event.place, None):
                assert event.place in self.ours, "a mail that is not ours was removed"
        self.told.outcomes.clear()
        self.eyes.settled.clear()

    @invariant()
    def nothing_is_counted_twice(self) -> None:
        assert max(self.samples.values(), default=0) <= 1
        assert max(self.judged.values(), default=0) <= 1

    @invariant()
    def the_law_holds(self) -> None:
        self.recorder.check()
        assert self.told.violations == []

    def teardown(self) -> None:
        try:
            self.end()
        finally:
            self.ledger.close()
            self.runner.close()
            self.directory.cleanup()

    def end(self) -> None:
        """In the end everything has ended, and the disk says the same as the memory."""
        for _ in range(3):
            self.drain()
            self.wait(10_000_000.0, False)  # longer than all steps of the clock
        self.drain()
        counts = {key: number for key, number in self.recorder.counts.items() if number}
        assert counts == self.runner.run(self.ledger.counts())
        assert sum(counts.values()) == sum(self.recorder.sent.values())
        assert self.recorder.standing().in_flight == {}
        for probe in every_probe(self.ledger):
            assert probe.state not in IN_FLIGHT
            assert len(set(probe.places)) == len(probe.places)
            assert len(set(probe.notices)) == len(probe.notices)
            if probe.answerable and not self.killed:
                assert {deadline for name, deadline in self.judged if name == probe.id} == {30.0, 300.0}
            if probe.latency is not None and not self.killed:
                assert self.samples[probe.id] == 1
        self.the_law_holds()
        self.nothing_is_counted_twice()


def _mail(key: bytes, probe: str) -> bytes:
    return compose(key, Token(probe, "r", 1.0, 2.0), Mail(SENDER, RECIPIENT))


def _is_reply(item: Any, probe: str) -> bool:
    event = getattr(item, "event", None)
    return isinstance(event, Accepted | Unconfirmed | Failed) and event.probe == probe


TestAccounting = Accounting.TestCase
TestAccounting.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
