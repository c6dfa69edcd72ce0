"""What the tests of the core and of the small shells share: a clock that stands still, events by name, a sink that
remembers. Times are seconds after T0 on both clocks unless a test says otherwise."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

from probe.core.events import (
    Accepted,
    Arrived,
    Bounced,
    Deferred,
    Detection,
    Event,
    Expired,
    Failed,
    Instant,
    Judged,
    NoticeAction,
    Notified,
    Part,
    Place,
    Placement,
    Rejected,
    Reply,
    Sending,
    Stay,
    Traced,
    Unconfirmed,
    Vanished,
)
from probe.core.outcome import Outcome, Sink
from probe.core.settings import Account, Route, Secret, Server
from probe.core.state import Probe, State, advance
from probe.ledger import Ledger
from probe.ledger.records import load

T0 = Instant(1_700_000_000.0, 5_000.0, "boot-1")
PROBE = "0123456789abcdef"
SENDER, RECIPIENT = "probe@example.de", "probe@example.org"


def instant(seconds: float) -> Instant:
    """T0 and so many seconds, by both clocks."""
    return T0.shifted(seconds)


def after_reboot(seconds: float) -> Instant:
    """The same moment in the next boot: the wall clock goes on, the boot clock began again."""
    return Instant(T0.wall + seconds, 10.0 + seconds / 1000, "boot-2")


class FakeClock:
    """A clock that goes only when told to."""

    def __init__(self, now: Instant = T0) -> None:
        self.now = now

    def __call__(self) -> Instant:
        return self.now

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.now = self.now.shifted(seconds)

    def step(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self.now = self.now._replace(wall=self.now.wall + seconds)

    def reboot(self, down: float = 60.0) -> None:
        """The machine was off for so long."""
        self.now = Instant(self.now.wall + down, 10.0, self.now.boot_id + "+")


OK, BUSY, NO = (
    Reply(250, "2.0.0", "queued as X1"),
    Reply(451, "4.7.1", "greylisted"),
    Reply(550, "5.1.1", "no such user"),
)


def sending(at: float = 0.0, probe: str = PROBE, route: str = "r", due: float | None = None) -> Sending:
    return Sending(probe, instant(at), route, instant(at if due is None else due), SENDER, RECIPIENT)


def accepted(at: float = 0.5, probe: str = PROBE) -> Accepted:
    return Accepted(probe, instant(at), OK, "X1", (("connect", 0.1), ("data", 0.2)))


def deferred(at: float = 0.5, probe: str = PROBE) -> Deferred:
    return Deferred(probe, instant(at), "envelope", BUSY, (("connect", 0.1),))


def rejected(at: float = 0.5, probe: str = PROBE) -> Rejected:
    return Rejected(probe, instant(at), "data", NO, (("connect", 0.1),))


def failed(at: float = 0.5, probe: str = PROBE) -> Failed:
    return Failed(probe, instant(at), "connect", "refused", "connection refused", (("resolve", 0.01),))


def unconfirmed(at: float = 0.5, probe: str = PROBE, since: float | None = None) -> Unconfirmed:
    return Unconfirmed(probe, instant(at), instant(at if since is None else since), "lost", "EOF", (("data", 0.2),))


def place(uid: int = 1, account: str = "own", folder: str = "INBOX", uidvalidity: int = 7) -> Place:
    return Place(account, folder, uidvalidity, uid)


def arrived(
    at: float = 1.0,
    probe: str = PROBE,
    uid: int = 1,
    placement: Placement = "inbox",
    detection: Detection = "idle",
    not_before: float | None = None,
    stored: float | None = None,
    account: str = "own",
    genuine: bool = True,
) -> Arrived:
    """`stored` is in seconds after T0's wall clock."""
    return Arrived(
        probe,
        instant(at),
        place(uid, account),
        placement,
        detection,
        None if not_before is None else instant(not_before),
        None if stored is None else T0.wall + stored,
        genuine,
    )


def expired(at: float = 1000.0, probe: str = PROBE, looked: bool = True) -> Expired:
    return Expired(probe, instant(at), looked)


def bounced(at: float = 2.0, probe: str = PROBE, uid: int = 90, status: str = "5.1.1") -> Bounced:
    return Bounced(probe, instant(at), place(uid, "gmx"), status, "no such user", "mx.example.org")


def notified(at: float = 2.0, probe: str = PROBE, uid: int = 80, action: NoticeAction = "delayed") -> Notified:
    return Notified(probe, instant(at), place(uid, "gmx"), action, "4.4.1", "no answer from host", "mx.example.org")


def vanished(at: float = 3.0, probe: str = PROBE, uid: int = 1) -> Vanished:
    return Vanished(probe, instant(at), place(uid))


def judged(at: float = 31.0, probe: str = PROBE, deadline: float = 30.0, met: bool | None = True) -> Judged:
    return Judged(probe, instant(at), deadline, met)


def traced(at: float = 3.0, probe: str = PROBE) -> Traced:
    segments = Part("submission", 0.5, 0.5), Part("sender", 0.0, 1.2), Part("recipient", 0.0, 1.4)
    stays = (Stay("mail.example.de", 0.0, 1.2), Stay("mx.example.org", 0.0, 1.4))
    return Traced(probe, instant(at), segments, stays, (("spf", "pass"),), ("X-Spam-Flag: NO",))


PATHS: dict[State, tuple[Event, ...]] = {
    State.SENDING: (sending(),),
    State.EARLY: (sending(), arrived(0.25)),
    State.ACCEPTED: (sending(), accepted()),
    State.UNCONFIRMED: (sending(), unconfirmed()),
    State.DELIVERED: (sending(), accepted(), arrived()),
    State.BOUNCED: (sending(), accepted(), bounced()),
    State.LOST: (sending(), accepted(), expired()),
    State.FOUND: (sending(), accepted(), expired(), arrived(2000.0)),
    State.REJECTED: (sending(), rejected()),
    State.DEFERRED: (sending(), deferred()),
    State.FAILED: (sending(), failed()),
}


def make_probe(*events: Event) -> Probe:
    """The probe to which these events happened."""
    probe = reduce(advance, events, None)  # type: ignore[arg-type]
    assert isinstance(probe, Probe)
    return probe


def probe_in(state: State) -> Probe:
    """Some probe in this state."""
    return make_probe(*PATHS[state])


def make_route(name: str = "r", sender: str = "gmx", recipient: str = "own", **more: object) -> Route:
    return Route(name, sender, recipient, **{"deadlines": (30.0, 300.0), "lost_after": 1000.0, **more})  # type: ignore[arg-type]


def make_account(name: str, address: str, *, smtp: bool = True, imap: bool = True) -> Account:
    server = Server("mail.example.org", 993, "implicit")
    return Account(name, address, address, Secret("hunter2"), server if smtp else None, server if imap else None)


def make_accounts() -> dict[str, Account]:
    return {"gmx": make_account("gmx", SENDER, imap=False), "own": make_account("own", RECIPIENT)}


@dataclass
class Told(Sink):
    """Remembers what it was told."""

    outcomes: list[Outcome] = field(default_factory=list)
    commits: list[tuple[int, str | None]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def observe(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def committed(self, events: int, seconds: float, error: str | None) -> None:
        self.commits.append((events, error))

    def violated(self, law: str) -> None:
        self.violations.append(law)

    def met(self) -> list[tuple[float, bool | None]]:
        """Every deadline that was judged, and how."""
        return [(it.event.deadline, it.event.met) for it in self.outcomes if isinstance(it.event, Judged)]


@dataclass
class FakeEyes:
    """Mailboxes that are being looked at all the time, unless `open` is False, or since `looked_at` no more."""

    clock: FakeClock
    open: bool = True
    looked_at: Instant | None = None
    gone: bool = False  # no account has the address any more
    looks: list[str] = field(default_factory=list)
    settled: list[tuple[Event, bool]] = field(default_factory=list)

    def address(self, account: str) -> str | None:
        return {"own": RECIPIENT, "gmx": SENDER}.get(account)

    def looked(self, address: str) -> Instant | None:
        assert address == RECIPIENT
        return (self.looked_at or self.clock()) if self.open else None

    def look(self, address: str) -> None:
        self.looks.append(address)

    def watches(self, address: str) -> bool:
        return not self.gone

    def settle(self, event: Arrived | Bounced | Notified, ours: bool) -> None:
        self.settled.append((event, ours))


ROOT = Path(__file__).parent.parent


def every_probe(ledger: Ledger) -> list[Probe]:
    """All that are on record."""
    with closing(sqlite3.connect(ledger.path)) as db:
        return load(db, "true", ())
