"""Bugs of our own: what fails is noticed, and takes nothing else with it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from probe import daemon
from probe.core.outcome import Outcome, Sink, Sinks
from probe.core.settings import Account, Route, Secret, Server, Settings
from probe.recorder import Recorder

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
