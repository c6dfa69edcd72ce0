"""Bugs of our own: what fails is noticed, and takes nothing else with it."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import AsyncMock

import pytest

from probe import clock, daemon
from probe.core.outcome import Outcome, Sink, Sinks
from probe.core.progress import Work
from probe.core.settings import Account, Route, Secret, Server, Settings
from probe.incidents import Incidents
from probe.ledger import Ledger, LedgerError
from probe.prober import Prober
from probe.recorder import Recorder
from probe.service.notify import Notifier
from probe.service.supervision import Supervision

from .make import Told, make_probe, sending


class Failing(Sink):
    """A listener with a bug."""

    def observe(self, outcome: Outcome) -> None:
        raise ZeroDivisionError


def test_a_listener_that_fails_keeps_no_other_from_hearing() -> None:
    told, bugs = Told(), list[str]()
    sinks = Sinks(Failing(), told, on_bug=bugs.append)
    outcome = Outcome(sending(), None, make_probe(sending()))
    sinks.observe(outcome)
    sinks.committed(1, 0.001, None)
    assert told.outcomes == [outcome]
    assert told.commits == [(1, None)]
    assert bugs == ["observe"]


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    """What a daemon tells the interpreter about garbage is for a process of its own."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Servers that are not there: port 9 is "discard"."""
    nobody = Server("127.0.0.1", 9, "none")
    account = Account("a", "a@example.org", "a", Secret("x"), smtp=nobody, imap=nobody)
    return Settings({"a": account}, {"r": Route("r", "a", "a")}, tmp_path, listen_port=0)


async def test_a_task_that_must_not_end_ends_the_daemon(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def tick(self: Recorder) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Recorder, "tick", tick)
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(10):
            await daemon.run(settings, lambda: settings)
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.CRITICAL] == [
        "bug: a task that must never end has ended; stopping, so that it is noticed"
    ]


async def test_a_routes_schedule_that_ends_ends_the_daemon(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_more(*_: object) -> Iterator[float]:
        yield clock.now().boot
        raise ZeroDivisionError

    monkeypatch.setattr(daemon, "due_times", no_more)
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(10):
            await daemon.run(settings, lambda: settings)
    assert "bug: a task that must never end has ended" in caplog.text


async def test_while_a_thousand_routes_are_looked_at_others_have_their_turns(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, seen, whole = 0, list[int](), asyncio.Event()

    def tick(self: Incidents, route: str, *_: object) -> None:
        seen.append(turns)
        if len(seen) == 1000:
            whole.set()

    async def watch() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    monkeypatch.setattr(Incidents, "tick", tick)
    routes = {f"r{i}": Route(f"r{i}", "a", "a", every=1e6) for i in range(1000)}
    watching = asyncio.create_task(watch())
    many = replace(settings, routes=routes)
    async with asyncio.timeout(30), daemon.started(many, lambda: many, random.Random(1)):
        await whole.wait()
    watching.cancel()
    assert max(Counter(seen).values()) == 50


async def test_what_lives_when_it_has_started_is_not_searched_for_garbage_again(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    living = settings.routes
    assert any(it is living for it in gc.get_objects())
    running = asyncio.create_task(daemon.run(settings, lambda: settings))
    try:
        async with asyncio.timeout(10):
            while "started" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert not any(it is living for it in gc.get_objects())
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_routes_schedule_that_waits_takes_steps_until_the_route_is_gone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "_STEP", 0.01)
    async with asyncio.timeout(10), daemon.started(settings, lambda: settings, random.Random(1)) as running:
        before, now = ({work.name: work for work in running.works()} for _ in range(2))
        while now["the schedule of r"].steps < before["the schedule of r"].steps + 3:
            await asyncio.sleep(0.01)
            now = {work.name: work for work in running.works()}
        assert not now["the schedule of r"].resting, "so that one that hangs stands still"
        assert {"a", "the recorder"} < now.keys()
        running.schedule.follow({})
        await asyncio.sleep(0)
        assert "the schedule of r" not in {work.name for work in running.works()}
        assert not running.schedule.broken.done(), "it was told to end"


# -- the service manager -------------------------------------------------------------------------------------------


@dataclass
class Stage:
    """What Supervision looks at, played by hand."""

    settings: Settings
    watchers: dict[str, SimpleNamespace]
    work: Work

    def has_tried_everything(self) -> bool:
        return all(watcher.attempted.is_set() for watcher in self.watchers.values())

    def works(self) -> list[Work]:
        return [self.work]


Supervised = tuple[Stage, Supervision, asyncio.Queue[str]]


@pytest.fixture
async def told(tmp_path: Path, settings: Settings) -> AsyncIterator[Supervised]:
    """A stage, its supervision at work with a watchdog of 1 s, and what the service manager hears."""
    heard: asyncio.Queue[str] = asyncio.Queue()

    class Manager(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            heard.put_nowait(data.decode())

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire:
        wire.bind(address := str(tmp_path / "notify"))
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Manager, sock=wire)
        stage = Stage(settings, {"a": SimpleNamespace(attempted=asyncio.Event())}, Work("x", 0, True, 60.0))
        supervision = Supervision(Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}))
        task = asyncio.create_task(supervision.run(cast(Prober, stage), stage.works, list))
        yield stage, supervision, heard
        task.cancel()
        transport.close()


async def until(heard: asyncio.Queue[str], word: str) -> list[str]:
    """What was said up to this word, which comes last."""
    said = [await heard.get()]
    while word not in said[-1]:
        said.append(await heard.get())
    return said


async def test_the_service_is_ready_when_every_mailbox_was_tried_and_not_before(told: Supervised) -> None:
    stage, _, heard = told
    before = [*await until(heard, "EXTEND_TIMEOUT_USEC"), *await until(heard, "EXTEND_TIMEOUT_USEC")]
    assert "STATUS=starting: 0 of 1 mailboxes tried" in before
    assert not [said for said in before if "READY" in said or "WATCHDOG" in said]
    stage.watchers["a"].attempted.set()
    await until(heard, "READY=1")
    assert (await until(heard, "WATCHDOG=1"))[-1] == "WATCHDOG=1\nSTATUS=0 routes fine; no mail in flight"


async def test_the_watchdog_is_not_fed_while_something_stands_still(
    told: Supervised, caplog: pytest.LogCaptureFixture
) -> None:
    stage, supervision, heard = told
    stage.watchers["a"].attempted.set()
    await until(heard, "WATCHDOG=1")
    stage.work = Work("x", 0, False, 0.0)
    async with asyncio.timeout(10):
        while not caplog.records:  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.01)
    assert [record.getMessage() for record in caplog.records] == ["bug stalled=x"]
    while not heard.empty():
        heard.get_nowait()
    supervision.stopping()
    assert await heard.get() == "STOPPING=1\nSTATUS=stopping", "and nothing before it"


async def test_what_begins_is_told_at_once_and_a_reload_is_framed(told: Supervised) -> None:
    stage, supervision, heard = told
    supervision.reloading()
    supervision.reloaded(None)
    stage.watchers["a"].attempted.set()
    assert not [said for said in await until(heard, "READY=1") if "RELOADING" in said], (
        "a start is not over by a reload"
    )
    supervision.status.mailbox_down("a", "refused", "", 2.0)
    await until(heard, "1 mailbox unwatched: a (refused)")
    supervision.reloading()
    assert (await until(heard, "RELOADING=1"))[-1].startswith("RELOADING=1\nMONOTONIC_USEC=")
    supervision.reloaded(None)
    await until(heard, "READY=1")


async def test_whatever_providers_and_disks_do_nothing_stands_still(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prober with nobody to talk to and a ledger that cannot be written: every part goes on, step by step."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    prober = Prober(settings, ledger, b"k" * 32, clock.now, random.Random(1), Told())
    await prober.load()
    monkeypatch.setattr(ledger, "commit", AsyncMock(side_effect=LedgerError("disk full")))
    async with prober:
        await prober.watchers["a"].attempted.wait()
        prober.recorder.put(sending())
        works = {work.name: work for work in prober.works()}
        assert works["a"].resting
        assert not works["the recorder"].resting
        async with asyncio.timeout(10):
            while prober.recorder.steps < works["the recorder"].steps + 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    ledger.close()
