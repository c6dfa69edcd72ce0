"""An hour of a prober's life in some seconds: the real recorder, ledger and metrics, by a clock that somebody turns.

Rule: what is scraped every 15 s is what the program rendered; here is decided only what providers do, and when.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path

from probe.core.events import Arrived, Bounced, Event, Instant, Notified, Place, Placement, Sending, Unconfirmed
from probe.core.settings import Route
from probe.core.way import Tracer
from probe.ledger import Ledger, LedgerError
from probe.metrics import Metrics
from probe.recorder import Recorder

from .make import (
    FakeClock,
    accepted,
    bounced,
    deferred,
    failed,
    make_account,
    make_route,
    notified,
    rejected,
    unconfirmed,
    vanished,
)

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
SCRAPE = 15  # seconds
HOUR = 3600
DOWN = range(45 * 60, 47 * 60)  # the daemon does not run
BLIND = [*range(1200, 2100), *range(3400, HOUR + 1)]  # the mailbox "dark" is not watched
HELD = range(900, 3000)  # from an hour's beginning: what is accepted then arrives at its end
EVERY = 60  # seconds between the mails of a route
_LABELS = 'job="mailprobe",instance="p"'

# Second → what the prober itself goes through, once.
ITS_OWN: dict[int, Callable[[Metrics], None]] = {
    BLIND[0]: lambda it: it.mailbox_down("dark", "timeout", "no answer", 5.0),
    2100: lambda it: it.mailbox_up("dark"),
    1000: lambda it: it.clock_jumped("step", 3.0),
    1500: lambda it: it.skipped("well", "too_many_running"),
    1600: lambda it: it.unrecognised("d", "forged"),
    1700: lambda it: it.removal_refused("d", "over_quota"),
    2400: lambda it: it.committed(0, 0.0, "database or disk is full"),
    3400: lambda it: it.mailbox_down("dark", "timeout", "no answer", 5.0),
    3500: lambda it: it.reload_ok.set(0),
}

Plan = list[tuple[float, Event]]  # seconds after the hour's beginning, what happens then


@dataclass(frozen=True)
class Mail:
    """A test mail on its way: its number, and when it was sent, in seconds after the hour's beginning."""

    probe: str
    number: int
    at: float
    sender: str
    recipient: str

    def comes(self, after: float = 2.0, placement: Placement = "inbox", uid: int = 0) -> tuple[float, Event]:
        """It is there, so many seconds after it was sent."""
        place = Place(self.recipient, "INBOX" if placement == "inbox" else "Junk", 7, uid or self.number)
        return self.at + after, Arrived(self.probe, _LATER, place, placement, "idle")

    def gets(self, event: Callable[..., Event], after: float = 0.3) -> tuple[float, Event]:
        """This happens to it."""
        made = event(probe=self.probe)
        if isinstance(made, Bounced | Notified):
            made = replace(made, place=Place(self.sender, "INBOX", 7, round(10 * self.at + after)))
        return self.at + after, made


def _header(arrived: Arrived, at: float) -> bytes:
    """Of a mail that the recipient's provider took a second ago, by a clock that is 5 s fast, and found genuine."""
    stamps = [(f"mx.{arrived.place.account}.example", at + 4.0), ("mail.example.org", at - 1.5)]
    verdict = f"Authentication-Results: {stamps[0][0]}; spf=pass smtp.mailfrom=example.org\r\n"
    received = [
        f"Received: from x.example ([192.0.2.1]) by {host} with ESMTPS id 1; {formatdate(stamp)}\r\n"
        for host, stamp in stamps
    ]
    return (verdict + "".join(received)).encode()


_LATER = FakeClock().now  # stamped when it happens


def well(mail: Mail) -> Plan:
    return [mail.gets(accepted), mail.comes()]


def held(mail: Mail) -> Plan:
    return [mail.gets(accepted), mail.comes(max(2.0, HELD.stop - mail.at) if mail.at in HELD else 2.0)]


def slow(mail: Mail) -> Plan:
    return [mail.gets(accepted), mail.comes(28.0 + mail.number % 5)]


def odd(mail: Mail) -> Plan:
    """Everything that a mail can do but be late."""
    begin, seen = mail.gets(accepted), mail.comes()
    match mail.number % 6:
        case 0:
            return [begin, mail.comes(placement="junk")]
        case 1:
            return [begin, seen, mail.comes(4.0, uid=mail.number + 10_000)]
        case 2:
            gone = replace(vanished(probe=mail.probe), place=Place(mail.recipient, "INBOX", 7, mail.number))
            return [begin, seen, (mail.at + 5, gone), mail.comes(6.0, "junk", mail.number + 20_000)]
        case 3:
            return [begin, mail.comes(EVERY + 10.0)]  # after the next one
        case 4:
            return [begin, mail.gets(notified, 1.0), mail.gets(bounced, 2.0)]
        case _:
            return [mail.gets(unconfirmed), seen]


def lost(mail: Mail) -> Plan:
    return [mail.gets(accepted), *([mail.comes(1200.0)] if mail.number % 2 else [])]


def refused(mail: Mail) -> Plan:
    return [mail.gets((failed, deferred, rejected)[mail.number % 3] if mail.at > 600 else accepted)]


def unseen(mail: Mail) -> Plan:
    seen = next(second for second in itertools.count(int(mail.at) + 2) if second not in BLIND)
    return [mail.gets(accepted), mail.comes(seen - mail.at)]


# Route → sender, recipient, what becomes of its mails, its settings
ROUTES: dict[str, tuple[str, str, Callable[[Mail], Plan], dict[str, float]]] = {
    "well": ("b", "d", well, {}),
    "held": ("a", "c", held, {}),
    "held-too": ("a", "d", held, {}),
    "held-as-well": ("b", "c", held, {}),
    "slow": ("b", "e", slow, {}),
    "odd": ("e", "d", odd, {}),
    "lost": ("e", "b", lost, {"lost_after": 900.0}),
    "refused": ("e", "a", refused, {}),
    "unseen": ("b", "dark", unseen, {}),
}


@dataclass
class Hour:
    """The prober that lives through it. `began`: the hour's beginning, as an instant."""

    ledger_file: Path
    began: Instant
    routes: dict[str, Route] = field(init=False)

    def __post_init__(self) -> None:
        names = {name for sender, recipient, *_ in ROUTES.values() for name in (sender, recipient)}
        self.accounts = {name: make_account(name, f"{name}@example.org") for name in sorted(names)}
        self.routes = {
            name: make_route(name, sender, recipient, every=float(EVERY), **more)
            for name, (sender, recipient, _, more) in ROUTES.items()
        }
        self.clock = FakeClock(self.began)

    # -- the recorder's eyes -----------------------------------------------------------------------------------------

    def address(self, account: str) -> str | None:
        return self.accounts[account].address

    def looked(self, address: str) -> Instant | None:
        return None if address.startswith("dark@") and self._seconds() in BLIND else self.clock()

    def look(self, address: str) -> None:
        """It is looked at all the time."""

    def watches(self, address: str) -> bool:
        return True

    def settle(self, event: Event, ours: bool) -> None:
        """Nothing is removed."""

    # -- its life ----------------------------------------------------------------------------------------------------

    def _seconds(self) -> int:
        return round(self.clock().wall - self.began.wall)

    async def _start(self) -> None:
        self.ledger = Ledger(self.ledger_file)
        metrics = self.metrics = Metrics("1", lambda: self.recorder.standing(), self.clock)  # noqa: PLW0108 - comes later
        metrics.configure(self.accounts, self.routes)
        tracer = self.tracer = Tracer(lambda: self.accounts)
        self.recorder = Recorder(self.ledger, self.clock, lambda: self.routes, self, metrics, LedgerError, tracer.trace)
        self.recorder.resume(
            await self.ledger.unfinished(), await self.ledger.counts(), await self.ledger.last_judgement()
        )
        for name in self.accounts:
            metrics.mailbox_up(name)
            for protocol, days in (("smtp", 5), ("imap", 50)):
                metrics.certificate(name, protocol, self.began.wall + days * 86400)

    def _mails(self) -> Iterator[tuple[float, Event]]:
        for (place, name), number in itertools.product(enumerate(ROUTES), range(HOUR // EVERY)):
            sender, recipient, fate, _ = ROUTES[name]
            at = number * EVERY + place
            if at not in DOWN:
                due, mail = self.began.shifted(at), Mail(f"{place:08x}{number:08x}", number, at, sender, recipient)
                addresses = (self.accounts[account].address for account in (sender, recipient))
                yield at, Sending(mail.probe, due, name, due, *addresses)
                yield from fate(mail)

    def _live(self, second: int) -> None:
        """What goes on all the time, and what happens now."""
        self.metrics.stall.observe(0.2 if second % 40 == 0 else 0.001)
        for name in self.accounts if second % 5 == 0 else ():
            if self.looked(self.accounts[name].address):
                self.metrics.contact(name, self.clock())
                self.metrics.asked(name)
        self.metrics.stored(1_000_000 + 100 * second)
        self.metrics.clocks(self.tracer.clocks.offsets(self.clock().wall))
        ITS_OWN.get(second, lambda _: None)(self.metrics)

    def _happens(self, at: float, event: Event) -> None:
        """Now, or `at` if that is a part of a second ago. What came while nobody looked is caught up."""
        missed = self._seconds() - at > 1
        now = self.clock() if missed else self.began.shifted(at)
        match event:
            case Sending():
                self.metrics.started(event.route, 0.002)
            case Arrived():
                seen = None if missed else now.shifted(-0.05)
                event = replace(event, at=now, not_before=seen, stored=now.wall, raw=_header(event, now.wall))
            case Unconfirmed():
                event = replace(event, at=now, since=now)
            case _:
                event = replace(event, at=now)
        self.recorder.put(event)

    async def scrapes(self) -> AsyncIterator[tuple[float, str | None]]:
        """(Unix time, the page in OpenMetrics) every 15 s; None while it does not run."""
        await self._start()
        plan = sorted(self._mails(), key=lambda it: it[0], reverse=True)
        for second in range(HOUR + 1):
            self.clock.now = self.began.shifted(second)
            if second == DOWN.start:
                self.ledger.close()
            if second == DOWN.stop:
                await self._start()
            if second not in DOWN:
                while plan and plan[-1][0] <= second:
                    self._happens(*plan.pop())
                self.recorder.tick()
                await self.recorder.drain()
                self._live(second)
            if second % SCRAPE == 0:
                page = None if second in DOWN else (await self.metrics.render(OPENMETRICS, False))[0].decode()
                yield self.clock().wall, page
        self.ledger.close()


async def stored(scrapes: AsyncIterator[tuple[float, str | None]]) -> AsyncIterator[str]:
    """As Prometheus stores it: each sample with the scrape's labels and its time, in OpenMetrics."""
    async for at, page in scrapes:
        yield f"up{{{_LABELS}}} {page is not None:d} {at}"
        for line in (page or "").splitlines():
            if found := re.fullmatch(r"(\w+)(?:{(.*?)})? (\S+)(?: # .*)?", line):
                labels = ",".join(filter(None, (_LABELS, found[2])))
                yield f"{found[1]}{{{labels}}} {found[3]} {at}"
    yield "# EOF"
