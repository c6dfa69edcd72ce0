"""Accounts at work: which mailboxes are watched, and since when mail may lie there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, ValuesView
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

from probe import clock
from probe.core.outcome import Sink
from probe.core.settings import Account, Route, Secret, Server, Settings
from probe.core.state import Probe, State
from probe.ledger import Ledger
from probe.prober import Prober

from .fake_smtp import FakeSmtp
from .make import accepted, make_probe, sending

NOWHERE = Server("127.0.0.1", 1, "none")


def mailbox(name: str) -> Account:
    """One that nobody serves."""
    return Account(name, f"{name}@example.org", name, Secret("secret"), imap=NOWHERE)


@asynccontextmanager
async def probing(settings: Settings, path: Path) -> AsyncIterator[Prober]:
    """A prober without its schedule."""
    with closing(Ledger(path / "ledger.sqlite")) as ledger:
        prober = Prober(settings, ledger, b"k" * 32, clock.now, random.Random(1), Sink())
        await prober.load()
        async with prober:
            yield prober


async def test_a_mail_whose_route_is_removed_while_it_is_submitted_is_waited_for(tmp_path: Path) -> None:
    taken = asyncio.Event()
    async with FakeSmtp({"RCPT": (taken, "250 2.1.5 Ok")}) as smtp:
        accounts = {"b": mailbox("b"), "c": mailbox("c"), "d": mailbox("d")}
        accounts["a"] = replace(mailbox("a"), smtp=smtp.server())
        settings = Settings(accounts, {"old": Route("old", "a", "b")}, tmp_path)
        async with probing(settings, tmp_path) as prober:
            sent = asyncio.create_task(prober.send(settings.routes["old"], clock.now()))
            await smtp.reached("RCPT")
            prober.apply(replace(settings, routes={"new": Route("new", "c", "d")}))
            taken.set()
            await sent
            assert set(prober.watchers) == {"a", "b", "c", "d"}
            await prober.recorder.drain()
            assert prober.recorder.counts["old", State.ACCEPTED] == 1
            prober.apply(replace(settings, routes={}))
            assert set(prober.watchers) == {"a", "b"}  # where it comes, and where its bounce would


class Counted(dict[str, Probe]):
    """How often all of them were looked at."""

    looks = 0

    def values(self) -> ValuesView[Probe]:
        self.looks += 1
        return super().values()


async def test_however_many_mailboxes_begin_the_probes_are_looked_at_once_for_all(tmp_path: Path) -> None:
    looks = []
    for number in (2, 20):
        accounts = {name: mailbox(name) for name in (f"m{place}" for place in range(number))}
        settings = Settings(accounts, {}, tmp_path)
        async with probing(settings, tmp_path) as prober:
            for at in (50.0, 7.0, 90.0):
                probe = make_probe(sending(at, f"{at}"), accepted(at + 1.0, f"{at}"))
                probe = replace(probe, recipient="m0@example.org", sender="m1@example.org")
                prober.recorder.probes[probe.id] = probe
            prober.recorder.probes = counted = Counted(prober.recorder.probes)
            prober.apply(replace(settings, routes={name: Route(name, name, name) for name in accounts}))
            looks.append(counted.looks)
            begun = {name: watcher.backlog_since for name, watcher in prober.watchers.items()}
            assert begun == {name: sending(7.0).at.wall if name in {"m0", "m1"} else None for name in accounts}
    assert looks[0] == looks[1]
