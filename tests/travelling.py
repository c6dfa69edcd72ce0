"""The product's own probes on their way through the chain of relays, each with everything that can be known of it.

Rule: what we measured, what lies in the mailbox, and what the relays' logs say come from three places and are only put
side by side here.

    relays.hops[1].hold(3.0, sender_address("a"))
    a, b = await probes(relays, ["a", "b"])
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from probe import clock
from probe.core.events import Accepted, Instant, Traced
from probe.core.headers import first, parse_head
from probe.core.outcome import Outcome, Sink
from probe.core.settings import Account, Route, Secret, Server, Settings
from probe.core.state import Probe
from probe.ledger import Ledger
from probe.prober import Prober

from .bed.mailbed import fresh_user
from .bed.relays import RECIPIENT_DOMAIN, SENDER_DOMAIN, Relays, Way

_WATCHING = 30.0  # seconds until the mailbox is watched, at most


def sender_address(user: str) -> str:
    """By this one Relay.hold() knows the mail of one sender."""
    return f"{user}@{SENDER_DOMAIN}"


@dataclass(frozen=True, slots=True)
class Trip:
    """One probe. `accepted` and `seen` are the ends of its delivery latency, as the product has them."""

    probe: Probe
    accepted: Instant
    seen: Instant
    raw: bytes  # the mail as it lies in the Maildir; lines end in LF there
    way: Way


class Arrivals(Sink):
    """Every probe whose way was traced; `news` whenever there is one more. `steps`: clocks that were set."""

    def __init__(self) -> None:
        self.traced, self.news = dict[str, Probe](), asyncio.Event()
        self.steps: list[tuple[str, tuple[float, float]]] = []

    def host_clock_set(self, host: str, by: tuple[float, float]) -> None:
        self.steps.append((host, by))

    def observe(self, outcome: Outcome) -> None:
        if isinstance(outcome.event, Traced) and outcome.probe:
            self.traced[outcome.probe.route] = outcome.probe
            self.news.set()

    async def wait(self, users: Sequence[str]) -> None:
        while not self.traced.keys() >= set(users):
            self.news.clear()
            await self.news.wait()


async def probes(
    relays: Relays,
    *waves: Sequence[str],
    timeout: float = 30.0,
    arrivals: Arrivals | None = None,
    before_last: Callable[[], None] = lambda: None,
) -> list[Trip]:
    """Send one probe for each of these users, all of a wave at once, each wave after the one before was seen, and all
    to one mailbox. One prober does it, so that it knows more and more of the relays' clocks.

    The trips are in the order of the users. Raises TimeoutError when not all of a wave are there `timeout` seconds
    after they were accepted. The mails stay in the mailbox, which nobody else uses.
    """
    recipient, senders = fresh_user(), [user for wave in waves for user in wave]
    settings = _settings(relays, senders, recipient)
    arrivals, ledger = arrivals or Arrivals(), Ledger(Path(":memory:"))
    try:
        async with Prober(settings, ledger, b"k" * 32, clock.now, random.Random(1), arrivals) as prober:
            async with asyncio.timeout(_WATCHING):
                await prober.watchers[recipient].attempted.wait()
            for wave in waves:
                if wave is waves[-1]:
                    await asyncio.to_thread(before_last)
                submitted = await asyncio.gather(*(prober.send(settings.routes[user], clock.now()) for user in wave))
                if refused := [it for it in submitted if not isinstance(it, Accepted)]:
                    raise AssertionError(f"not accepted: {refused}")
                async with asyncio.timeout(timeout):
                    await arrivals.wait(wave)
    finally:
        ledger.close()
    stored = {first(parse_head(raw), "Message-ID"): raw for raw in relays.mails(recipient)}
    return [await asyncio.to_thread(_trip, relays, arrivals.traced[user], stored) for user in senders]


def _settings(relays: Relays, senders: Sequence[str], recipient: str) -> Settings:
    """A route for each sender, of the same name. Senders have no mailbox: each watched one would be two connections."""
    smtp = Server(relays.host, relays.ports["submission"], "starttls", relays.pki.ca)
    imap = Server(relays.host, relays.ports["imaps"], "implicit", relays.pki.ca)
    secret = Secret(relays.password)
    accounts = {user: Account(user, sender_address(user), user, secret, smtp) for user in senders}
    accounts[recipient] = Account(
        recipient, f"{recipient}@{RECIPIENT_DOMAIN}", recipient, secret, imap=imap, keep_mails=True
    )
    return Settings(accounts, {user: Route(user, user, recipient) for user in senders}, relays.root)


def _trip(relays: Relays, probe: Probe, stored: dict[str, bytes]) -> Trip:
    assert probe.answerable
    assert probe.arrived
    message_id = f"<{probe.id}.mailprobe@{SENDER_DOMAIN}>"
    return Trip(probe, probe.answerable, probe.arrived.at, stored[message_id], relays.truth(message_id))
