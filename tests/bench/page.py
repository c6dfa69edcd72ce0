"""What it costs to look: the page, live streams and the API of a daemon with 1,000 routes and a ledger of years.

    python -m tests.bench.page DIR [--routes 1000] [--probes 5000000]     makes a ledger there, or takes what is there

The daemon probes every route once a minute meanwhile, over real servers. A beat on its loop (felt.py) tells for how
long a mail's stamp could have had to wait; beside the longest wait stands what the loop's own thread computed in one
piece, to which other processes add less. The ledger is that of `years`, up to now.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from array import array
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from ..bed.mailbed import MailBed
from ..bed.service import HOST, wait_until
from ..make import ROOT
from . import years
from .daemon import Daemon, RouteSpec, cpu_seconds
from .numbers import Spread, spread, table

GOAL_FIRST, GOAL_STALL = 150.0, 20.0  # ms
_NOBODY = "nobody looks"
_FORGOTTEN = 32.0  # seconds after which what nobody looked at is drawn, and the record asked, anew
_SHOWN = b'class="card"', b'class="strips"', b'"name":'  # what is looked for: a route


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure; seconds. `every`: between two probes of a route in the ledger."""

    routes: int = 1000
    probes: int = 200_000
    every: float = 864.0  # a hundred of them are a day
    mailboxes: int = 20
    settle: float = 70.0  # until every route was probed
    cold: int = 3
    warm: int = 10
    live: float = 15.0
    viewers: int = 20


@dataclass(slots=True)
class Look:
    """Something that was done, some times. In ms: until the first octet, the first route, the last octet, each time; by
    the daemon's loop the longest stall and the longest computing in one piece. `cpu`: the daemon's, of one core."""

    first: list[float] = field(default_factory=list)
    shown: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    stall: float = 0.0
    computing: float = 0.0
    cpu: float | None = None
    spans: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Looks:
    """The result, by what was done."""

    routes: int
    probes: int
    looks: dict[str, Look]

    @property
    def pages(self) -> list[Look]:
        """What the goal is about: the pages, and what keeps them live."""
        return [look for name, look in self.looks.items() if name != _NOBODY and not name.startswith("/api/")]


class Felt(Daemon):
    """The daemon with its beat."""

    start_timeout = 120.0

    def configure(self) -> None:
        super().configure()
        self.env["PYTHONPATH"] = str(ROOT)
        with (self.root / "mailprobe.toml").open("a") as file:
            file.write('[ledger]\nmax_size = "100GB"\n')

    def command(self) -> list[str]:
        config = super().command()[-1]
        return [sys.executable, "-m", "tests.bench.felt", config, str(self.root / "felt")]

    def felt(self) -> list[tuple[float, float, float]]:
        """After its end: when, how late, how long it computed; seconds."""
        numbers = array("d", (self.root / "felt").read_bytes())
        return list(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))


def measure(bed: MailBed, root: Path, plan: Plan) -> Looks:
    """Look at a daemon; `root` has a ledger, or gets one."""
    ledger = root / "state" / "ledger.sqlite"
    if not ledger.exists():
        ledger.parent.mkdir(parents=True)
        years.make(ledger, plan.routes, plan.probes, time.time(), every=plan.every)
    users = [f"look{i}" for i in range(plan.mailboxes)]
    specs = [
        RouteSpec(years.route_name(i), users[i % len(users)], users[(i + 1) % len(users)], "60s")
        for i in range(plan.routes)
    ]
    with Felt(bed, root, specs) as daemon:
        wait_until(lambda: daemon.logged("ready"), 120, "the daemon's mailboxes")
        looks = asyncio.run(_Viewer(daemon, plan).look_at_all())
        daemon.stop()
        felt = daemon.felt()
    for look in looks.values():
        late = [it for it in felt if any(begin <= it[0] <= end for begin, end in look.spans)]
        look.stall = 1e3 * max((seconds for _, seconds, _ in late), default=0.0)
        look.computing = 1e3 * max((seconds for _, _, seconds in late), default=0.0)
    return Looks(plan.routes, plan.probes, looks)


class _Viewer:
    """Whoever looks; nothing that was drawn for one look serves the next kind."""

    def __init__(self, daemon: Daemon, plan: Plan) -> None:
        self._daemon, self._plan, self._base = daemon, plan, f"http://{HOST}:{daemon.ports['web']}"
        self._looks: dict[str, Look] = {}

    async def look_at_all(self) -> dict[str, Look]:
        plan, viewers = self._plan, range(self._plan.viewers)
        names = [years.route_name(i) for i in range(1, len(viewers) + 1)]
        await self._look("the page, first after the start", "/", 1)
        await asyncio.sleep(plan.settle)
        await self._live(_NOBODY, [])
        await self._look("the page, after nobody looked", "/", plan.cold, _FORGOTTEN)
        await self._look("the page, every second", "/", plan.warm, 1.1)
        await self._look("the page, ten at once", "/", plan.cold, 1.1, at_once=10)
        await self._live(f"{len(viewers)} watch all", [f"/live?lang={('de', 'en')[i % 2]}" for i in viewers])
        await self._live(f"{len(viewers)} watch some", [f"/live?q={i}&state=ok" for i in viewers])
        await self._look("a route's page, first", f"/route/{names[0]}", 1)
        await self._look("a route's page, every second", f"/route/{names[0]}", plan.warm, 1.1)
        await self._live(f"{len(viewers)} watch a route each", [f"/live?route={name}" for name in names])
        await self._look("/api/v1/routes, first", "/api/v1/routes", 1)
        await self._look("/api/v1/routes, every second", "/api/v1/routes", plan.warm, 1.1)
        return self._looks

    async def _look(self, name: str, path: str, times: int, pause: float = 0.0, at_once: int = 1) -> None:
        for _ in range(times):
            await asyncio.sleep(pause)
            async with self._felt(name) as look:
                await asyncio.gather(*(self._ask(look, path) for _ in range(at_once)))

    async def _ask(self, look: Look, path: str) -> None:
        began = time.perf_counter()
        async with aiohttp.ClientSession() as session, session.get(self._base + path) as response:
            look.first.append(1e3 * (time.perf_counter() - began))
            assert response.status == 200
            body, shown = bytearray(), 0.0
            async for piece in response.content.iter_any():
                body += piece
                if not shown and any(mark in body for mark in _SHOWN):
                    shown = 1e3 * (time.perf_counter() - began)
            look.shown.append(shown)
            look.whole.append(1e3 * (time.perf_counter() - began))

    async def _live(self, name: str, paths: list[str]) -> None:
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
            streams = [await stack.enter_async_context(session.get(self._base + path)) for path in paths]
            used = cpu_seconds(self._daemon.pid)
            async with self._felt(name) as look:
                reading = [asyncio.create_task(_drop(stream)) for stream in streams]
                await asyncio.sleep(self._plan.live)
                for task in reading:
                    task.cancel()
            look.cpu = (cpu_seconds(self._daemon.pid) - used) / self._plan.live

    @asynccontextmanager
    async def _felt(self, name: str) -> AsyncIterator[Look]:
        look = self._looks.setdefault(name, Look())
        began = time.monotonic()
        yield look
        look.spans.append((began, time.monotonic()))


async def _drop(stream: aiohttp.ClientResponse) -> None:
    async for _ in stream.content.iter_any():
        pass


def report(got: Looks) -> list[str]:
    """For people."""
    head = ("", "n", "first octet", "most", "first route", "most", "whole", "most", "stall", "computing", "CPU")
    first = max(it for look in got.pages for it in look.first)
    stall, computing = (max(getattr(look, name) for look in got.pages) for name in ("stall", "computing"))
    idle = got.looks[_NOBODY]
    return [
        f"PAGE  {got.routes} routes, {got.probes} probes on record",
        "ms, median and most; the loop's longest stall meanwhile, and what it computed in one piece at most",
        *table(head, [[name, *_cells(look)] for name, look in got.looks.items()]),
        f"goal: a page's first octet within {GOAL_FIRST:.0f} ms: {_verdict(first, GOAL_FIRST)}; no stall over "
        f"{GOAL_STALL:.0f} ms: {_verdict(stall, GOAL_STALL)},",
        f"of which computing {computing:.0f} ms; nobody looks: {idle.stall:.0f} ms, computing {idle.computing:.0f} ms",
    ]


def _verdict(value: float, goal: float) -> str:
    return f"{'reached' if value <= goal else 'missed'} ({value:.0f} ms)"


def _cells(look: Look) -> list[str]:
    spreads = [spread(it) for it in (look.first, look.shown, look.whole)]
    times = [cell for it in spreads for cell in _two(it)]
    cpu = "" if look.cpu is None else f"{look.cpu:.0%}"
    return [str(len(look.first) or ""), *times, f"{look.stall:.1f}", f"{look.computing:.1f}", cpu]


def _two(numbers: Spread | None) -> list[str]:
    return [f"{numbers.median:.0f}", f"{numbers.max:.0f}"] if numbers else ["", ""]


def main() -> None:
    """Make the ledger, where there is none; look."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.page", description=__doc__)
    parser.add_argument("dir", type=Path)
    parser.add_argument("--routes", type=int, default=1000)
    parser.add_argument("--probes", type=int, default=5_000_000)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="mailbench-", dir="/tmp"))
    root.chmod(0o755)
    bed = MailBed(root)
    try:
        bed.start()
        print("\n".join(report(measure(bed, options.dir, Plan(options.routes, options.probes, 60.0)))))
    finally:
        bed.wipe()


if __name__ == "__main__":
    main()
