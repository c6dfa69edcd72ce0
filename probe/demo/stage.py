"""`mailprobe demo`: the real daemon against the embedded provider, in one process; no account, no network, no traces.

Rule: everything is real but the network and, in a replay, the clock. The numbers shown are measured, not made up; at
the end they are held against the provider's own record.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from probe import clock, daemon
from probe.core.behaviour import store
from probe.core.outcome import Outcome, Sink
from probe.core.settings import Account, Asking, Route, Secret, Server, Settings
from probe.core.state import IN_FLIGHT, Probe, State
from probe.demo.scenarios import Scenario
from probe.demo.world import World
from probe.page import Demo
from probe.provider import HOST, Passage, Provider

_SENDER = "probe@demo.invalid"
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """One route: what the provider's record says became of its mails, and what was measured. Times in seconds."""

    route: str
    fates: Counter[str]  # by the provider's record
    states: Counter[str]  # by the prober's
    longest: tuple[float, float] | None  # the mail that waited longest: by the record, as measured
    error: float | None  # the largest difference between the two, of all delivered mails
    unmeasured: int  # delivered, and yet not measured


class Measured(Sink):
    """Remembers every probe by the name that the provider gave its mail."""

    def __init__(self) -> None:
        self.probes: dict[str, Probe] = {}

    def observe(self, outcome: Outcome) -> None:
        """Keep the latest of each."""
        probe = outcome.probe
        if probe and outcome.recorded and (queue_id := getattr(probe.submitted, "queue_id", "")):
            self.probes[queue_id] = probe


@dataclass(slots=True)
class Stage:
    """A story that is being played, for those who look at it."""

    scenario: Scenario
    speed: float
    running: daemon.Running
    provider: Provider
    measured: Measured
    says: dict[str, str] = field(default_factory=dict)  # route → what the provider does to its mail just now
    news: list[tuple[float, str]] = field(default_factory=list)  # Unix time of the world, headline
    began: float = field(init=False)  # Unix time of the world
    playing: asyncio.Task[None] = field(init=False)

    def __post_init__(self) -> None:
        self.began = clock.now().wall
        self.playing = asyncio.create_task(_play(self))

    @property
    def over(self) -> bool:
        """Whether the story has come to its end."""
        return self.playing.done()

    def compare(self) -> Iterator[Comparison]:
        """What happened, and what was seen of it, route by route."""
        for name in self.scenario.people:
            address = _address(name)
            passages = [passage for passage in self.provider.record if passage.recipient == address]
            yield _compared(name, passages, self.measured.probes)


@asynccontextmanager
async def started(
    scenario: Scenario, world: World | None, listen_host: str, listen_port: int, rng: random.Random
) -> AsyncIterator[Stage]:
    """The provider, a daemon that probes it, and the story's beginning; all gone at the end. A `world` must be that of
    the running loop; without one it happens now, by the machine's clocks."""
    users = dict.fromkeys([_SENDER, *map(_address, scenario.people)], "demo")
    measured = Measured()
    with (
        clock.replaced(world.reading) if world else nullcontext(),
        tempfile.TemporaryDirectory(prefix="mailprobe-demo-") as state_dir,
    ):
        async with Provider(users, {}, rng, clock.now) as provider:
            settings = _settings(provider, scenario, Path(state_dir), listen_host, listen_port)
            speed = world.speed if world else 1.0
            pace, said = min(speed, _HOUR), Demo(clock.now().wall, speed)
            async with daemon.started(settings, lambda: settings, rng, measured, pace=pace, demo=said) as running:
                stage = Stage(scenario, speed, running, provider, measured)
                try:
                    yield stage
                finally:
                    stage.playing.cancel()
                    with suppress(asyncio.CancelledError):
                        await stage.playing


async def _play(stage: Stage) -> None:
    began = clock.now()
    for turn in stage.scenario.turns:
        await _until(began.boot + turn.hour * _HOUR)
        for name in stage.scenario.people:
            home = store(_address(name))
            if not turn.hosts or home in turn.hosts:
                stage.provider.behaviours[_address(name)] = turn.behaviour
                stage.says[name] = f"{home} {turn.says}"
        if turn.news:
            stage.news.append((clock.now().wall, turn.news))
    await _until(began.boot + stage.scenario.hours * _HOUR)


async def _until(boot: float) -> None:
    while (left := boot - clock.now().boot) > 0:  # noqa: ASYNC110 - as in daemon.py
        await asyncio.sleep(min(left, _HOUR))


def _settings(provider: Provider, scenario: Scenario, state_dir: Path, host: str, port: int) -> Settings:
    smtp, imap = Server(HOST, provider.smtp_port, "none"), Server(HOST, provider.imap_port, "none")
    people = {name: _address(name) for name in scenario.people}
    asking = Asking(floor=0.2, budget=20) if scenario.speed > 1 else Asking()  # each ask costs us real time
    accounts = {"sender": Account("sender", _SENDER, _SENDER, Secret("demo"), smtp=smtp, imap=imap, asking=asking)}
    accounts |= {name: Account(name, at, at, Secret("demo"), imap=imap, asking=asking) for name, at in people.items()}
    every, deadlines, lost_after = scenario.every, scenario.deadlines, scenario.lost_after
    routes = {name: Route(name, "sender", name, every, deadlines, lost_after) for name in people}
    return Settings(accounts, routes, state_dir, host, port)


def _address(name: str) -> str:
    return f"{name}@demo.invalid"


def _compared(route: str, passages: list[Passage], probes: dict[str, Probe]) -> Comparison:
    pairs = [(passage, probes.get(passage.queue_id)) for passage in passages]
    delivered = [(passage, probe) for passage, probe in pairs if passage.fate in {"inbox", "junk"}]
    both = [
        (passage.took, probe.latency)
        for passage, probe in delivered
        if passage.took is not None and probe and probe.latency is not None
    ]
    return Comparison(
        route,
        Counter(passage.fate for passage in passages),
        Counter(_word(probe) for _, probe in pairs if probe),
        max(both, default=None),
        max((abs(measured - took) for took, measured in both), default=None),
        len(delivered) - len(both),
    )


def _word(probe: Probe) -> str:
    if probe.state in IN_FLIGHT:
        return "in flight"
    if probe.state is State.DELIVERED and probe.arrived:
        return probe.arrived.placement
    return probe.state.value
