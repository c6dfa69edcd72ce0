"""What the status page's tests look at: a source with a route in every state, and a past; it changes when told to."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo

from probe.core.drain import Drain
from probe.core.events import Instant
from probe.core.history import Cell, IncidentRow, Latencies, Point, Summary, Totals
from probe.core.outcome import Standing
from probe.core.plain import plain
from probe.core.state import State
from probe.core.trouble import Held, Incident, RouteState, Toll, View
from probe.metrics import Metrics
from probe.page import Demo, Face, Figures, Health, Mailbox, Past, Route
from probe.seldom import Seldom
from probe.web import Pages, serve

from .make import FakeClock, instant

NOW = instant(86_400.0 * 30 + 50_400.0)
_S = RouteState
# Whatever of this stands on a public page is a leak.
SECRETS = (
    "probe@ionos.example",
    "probe@own.example",
    "QUEUEID",
    "auth_refused",
    "5.7.26",
    "ionos-account",
    "disk is full",
)


def view(
    route: str, state: RouteState, reason: str, in_flight: int = 0, oldest: float | None = None, **more: object
) -> View:
    """A route's view; delivered a minute ago unless told otherwise."""
    told: dict[str, object] = {
        "since": NOW.shifted(-7200.0), "last_arrival": NOW.shifted(-40.0), "last_latency": 1.4,
        "incidents": (), "drain": Drain(), **more,
    }  # fmt: skip
    return View(route, NOW, state, reason, in_flight=in_flight, oldest=oldest, **told)  # type: ignore[arg-type]


def stall(route: str = "ionos-to-own", end: float | None = None, ago: float = 11_520.0) -> Incident:
    """Mail that was held."""
    begin = NOW.shifted(-ago)
    fault = Held("sender", 9_000.0, 11_400.0)
    stuck = Incident(route, "late", begin, begin.shifted(300.0), _S.STUCK, ago, Toll(held=14), fault)
    return stuck if end is None else replace(stuck, end=NOW.shifted(-end), toll=Toll(late=14), peak=ago - end)


def refusal(route: str) -> Incident:
    """Mail that is refused."""
    begin = NOW.shifted(-3_000.0)
    return Incident(route, "refused", begin, begin.shifted(60.0), _S.FAILING, 3_000.0, Toll(refused=50))


def blindness(route: str) -> Incident:
    """A mailbox that nobody watches."""
    begin = NOW.shifted(-1_000.0)
    return Incident(route, "blind", begin, begin.shifted(30.0), _S.BLIND, 1_000.0, Toll(unknown=3))


def views() -> list[View]:
    """One of each state."""
    long_ago = {"last_arrival": NOW.shifted(-11_580.0)}
    slow = replace(stall("strato-to-own", ago=900.0), worst=_S.SLOW, toll=Toll(late=9))
    draining = stall("own-to-gmail", ago=6_000.0)
    drained = Drain(12, 0.97, "fifo", 31.0, (300.0, 420.0), "")
    return [
        view("gmx-to-own", _S.OK, "in_time", 1, 0.8),
        view("posteo-to-own", _S.OK, "in_time"),
        view("ionos-to-own", _S.STUCK, "overdue", 14, 11_520.0, incidents=(stall(),), **long_ago),
        view("strato-to-own", _S.SLOW, "late", 2, 45.0, last_latency=41.0, incidents=(slow,)),
        view("own-to-gmail", _S.RECOVERING, "draining", 40, 5_000.0, incidents=(draining,), drain=drained),
        view("own-to-t-online", _S.FAILING, "refused", incidents=(refusal("own-to-t-online"),), **long_ago),
        view("own-to-yahoo", _S.BLIND, "unwatched", 3, 900.0, incidents=(blindness("own-to-yahoo"),), **long_ago),
        view("own-to-icloud", _S.UNKNOWN, "unmeasured", last_arrival=None, last_latency=None),
    ]  # fmt: skip


@dataclass
class World:
    """A page.Source and a page.Past's reader: what it shows can be changed between two looks."""

    views: list[View] = field(default_factory=views)
    public: bool = False
    demo: Demo | None = None
    sender: str = SECRETS[0]
    recipient: str = SECRETS[1]
    reason: str = SECRETS[3]
    clock: FakeClock = field(default_factory=lambda: FakeClock(NOW))
    asked: int = 0  # questions to the record
    slow: asyncio.Event | None = None  # until it is set, the record does not answer what all routes' strips are
    base: str = ""

    # -- the source ----------------------------------------------------------------------------------------------

    def now(self) -> Instant:
        return self.clock()

    def is_public(self) -> bool:
        return self.public

    def routes(self) -> list[str]:
        return [it.route for it in self.views]

    def route(self, name: str, now: Instant) -> Route | None:
        found = next((it for it in self.views if it.route == name), None)
        return Route(name, self.sender, self.recipient, found) if found else None

    def figures(self, name: str) -> Figures:
        it = next(it for it in self.views if it.route == name)
        aloft = tuple(
            (NOW.shifted(-(it.oldest or 0.0) * (1 - i / it.in_flight)), f"{SECRETS[2]}{i}") for i in range(it.in_flight)
        )
        stages = (
            ("resolve", 0.004),
            ("connect", 0.021),
            ("tls", 0.044),
            ("auth", 0.061),
            ("envelope", 0.03),
            ("data", 0.12),
        )
        return Figures(aloft, stages, NOW.shifted(-12.0))  # type: ignore[arg-type]

    def health(self) -> Health:
        boxes = Mailbox("own", up=True), Mailbox(SECRETS[5], up=False, reason=self.reason)
        return Health("1.2.3", NOW.shifted(-86_400.0 * 3), boxes, ledger=SECRETS[6], demo=self.demo)

    def change(self, name: str, **more: object) -> None:
        """The route is otherwise now."""
        self.views = [replace(it, **more) if it.route == name else it for it in self.views]  # type: ignore[arg-type]

    # -- the record ----------------------------------------------------------------------------------------------

    async def strips(self, since: float, until: float, cells: int) -> AsyncIterator[list[Cell]]:
        self.asked += 1
        if self.slow:
            await self.slow.wait()
        for begin in range(0, len(self.views), 3):
            some = self.views[begin : begin + 3]
            yield [cell for it in some for cell in self._cells(it.route, since, until, cells)]

    async def strip(self, since: float, until: float, cells: int, route: str) -> list[Cell]:
        self.asked += 1
        return list(self._cells(route, since, until, cells))

    def _cells(self, name: str, since: float, until: float, cells: int) -> Iterator[Cell]:
        rng = random.Random(f"{name} {cells}")
        for i in range(cells):
            if name == "own-to-icloud" and i < cells * 0.9:
                continue
            stuck = name == "ionos-to-own" and i >= cells - max(1, cells // 7) and cells < 90
            late = 60 if stuck else 3 if rng.random() < 0.05 else 0
            dark = 60 if name == "own-to-yahoo" and i >= cells - 3 else 0
            yield Cell(name, since + i * (until - since) / cells, 60, 0, late, dark, 0, 0, 0, 60 - late - dark, 9.0)

    async def latencies(self, route: str, since: float, until: float, points: int) -> list[Point]:
        self.asked += 1
        width, rng, found = (until - since) / points, random.Random(route), []
        for i in range(points):
            begin = since + i * width
            if begin < NOW.wall - 11_520.0 or route != "ionos-to-own":
                middle = 1.2 * math.exp(0.35 * math.sin(i / 7) + rng.gauss(0, 0.2) + (3.2 if i in {31, 32} else 0.0))
                if begin < NOW.wall:
                    found.append(Point(begin, 15, middle * 0.45, middle, middle * rng.uniform(1.5, 6)))
        return found

    async def totals(self, route: str, since: float, until: float) -> Totals:
        self.asked += 1
        states = {State.DELIVERED: 1_371, State.ACCEPTED: 14, State.BOUNCED: 1, State.DEFERRED: 4}
        return Totals(
            states, 29, 6, {"inbox": 1_340, "junk": 31},
            {"sender": (1_100, 4_100.0), "recipient": (240, 380.0), "mailbox": (31, 6.0)},
            Latencies(1_371, 1.21, 3.4, 38.0, 52.1),
        )  # fmt: skip

    async def incidents(self, since: float, until: float, route: str | None = None) -> list[IncidentRow]:
        self.asked += 1
        found = [stall(end=800_000.0 + i, ago=820_000.0 + i * 400_000.0) for i in range(3)]
        found = [it for it in found if route in {None, it.route}]
        return [
            IncidentRow(str(i), it.route, it.kind, it.begin.wall, it.end.wall if it.end else None, plain(it))
            for i, it in enumerate(found)
        ]

    async def probes(
        self, route: str, *, limit: int = 100, states: Collection[State] = (), of_note: bool = False
    ) -> list[Summary]:
        self.asked += 1
        at, late = NOW.wall - 11_000.0, {"state": State.DELIVERED, "missed": 30.0}
        bounced = Summary(route, at - 700.0, "b" * 16, State.BOUNCED, status=SECRETS[4])
        return [bounced, *(Summary(route, at - i, f"{i:016x}", latency=40.0 + i, **late) for i in range(4))]  # type: ignore[arg-type]


@asynccontextmanager
async def shown(world: World, zone: tzinfo = UTC) -> AsyncIterator[Face]:
    """The world's page, served at `world.base`."""
    metrics = Metrics("1.2.3", Standing, world.clock)
    memory = Seldom(asyncio.get_running_loop().time)
    face = Face(world, Past(world, memory, LookupError), zone, pace=0.1)
    async with serve(Pages(metrics.render, lambda: True, face.routes(), face.stop), "127.0.0.1", 0) as port:
        world.base = f"http://127.0.0.1:{port}"
        yield face
