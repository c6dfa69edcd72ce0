"""The daemon: a prober, its schedule, its signals and its HTTP face, composed.

Rules:
- The schedule is open-loop: at its due instant a probe starts, whatever became of the one before.
- SIGTERM and SIGINT end within two seconds and lose nothing; SIGHUP re-reads the configuration, and a bad one changes
  nothing but mailprobe_config_last_reload_successful.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from probe import __version__, clock, keyfile, web
from probe.api import Api, Record
from probe.board import Board
from probe.core.clocks import jumps
from probe.core.events import Instant
from probe.core.outcome import RouteView, Sink, Sinks
from probe.core.progress import Work
from probe.core.schedule import due_times
from probe.core.settings import Route, Settings
from probe.core.state import State
from probe.incidents import Incidents
from probe.ledger import Ledger, LedgerError, Reader
from probe.log import LogSink, line
from probe.metrics import Metrics
from probe.outlook import Outlook, time_zone
from probe.page import Demo, Face, Latest, Past
from probe.prober import Prober
from probe.seldom import Seldom
from probe.service.notify import Notifier
from probe.service.supervision import Supervision

log = logging.getLogger("mailprobe")

_GRACE = 1.0  # seconds a submission may still take when we are told to stop
_STEP = 30.0  # longest single sleep: a suspended machine wakes up to its schedule by the boot clock
_LEAST = 0.001  # shortest: uvloop rounds to ms, comes up to 0.5 ms early, and would be asked again and again
_TICK = 0.5  # seconds between looks at the clocks
_FOLLOW = 1.0  # seconds between looks at how routes are
_AT_ONCE = 50  # routes that are looked at before others have their turn
_OLD_GARBAGE = 100  # searches of what is young for each of what is old; Python's own measure is 10
_DAY = 86400.0
_API_PATIENCE = 5.0  # seconds for an answer from the record: programs ask again, people wait
_HOUSEKEEPING = 60.0  # seconds between looks at the ledger's size and age


@dataclass(slots=True)
class Running:
    """A daemon at work, for those who look at it."""

    prober: Prober
    board: Board
    schedule: _Schedule
    port: int = 0
    essential: list[asyncio.Future[None]] = field(default_factory=list)  # if one of these ends, it is a bug

    def works(self) -> Iterator[Work]:
        """Everything that must get on."""
        yield from self.prober.works()
        yield from self.schedule.works()

    def views(self) -> list[RouteView]:
        """Every route as it stands now."""
        prober = self.prober
        return self.board.views(prober.settings, prober.recorder.standing().in_flight, prober.sees, prober.clock())


@asynccontextmanager
async def started(
    settings: Settings,
    reload: Callable[[], Settings],
    rng: random.Random,
    *more: Sink,
    pace: float = 1.0,
    demo: Demo | None = None,
) -> AsyncIterator[Running]:
    """A whole daemon: probing while the context is entered; its page is drawn anew every `pace` seconds of the loop.
    `demo`: what is told is none of real mail, and says so. Raises LedgerError, KeyFileError, OSError (the port)."""
    hangup = asyncio.Event()
    # First of all: without a handler the signal would end us, also if it comes while the ledger is being read.
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup.set)
    board = Board()
    key = keyfile.load(settings.state_dir)
    ledger = Ledger(settings.state_dir / "ledger.sqlite")
    reader, api_reader = Reader(ledger.path), Reader(ledger.path, _API_PATIENCE)
    metrics = Metrics(__version__, lambda: prober.recorder.standing(), clock.now)  # noqa: PLW0108 - prober comes later
    metrics.configure(settings.accounts, settings.routes)
    incidents, latest = Incidents(settings.routes), Latest(__version__, clock.now(), demo)
    sinks = Sinks(metrics, LogSink(), board, incidents, latest, *more, on_bug=_listener_failed)
    prober = Prober(settings, ledger, key, clock.now, rng, sinks)
    schedule = _Schedule(prober, metrics, rng)
    running = Running(prober, board, schedule)
    outlook = Outlook(prober, incidents, latest)
    time = asyncio.get_running_loop().time
    face = Face(outlook, Past(reader, Seldom(time), LedgerError), time_zone(), pace)
    api = Api(outlook, Record(api_reader, Seldom(time), LedgerError), __version__)
    pages = web.Pages(metrics.render, prober.has_tried_everything, [*face.routes(), *api.routes()], face.stop)
    try:
        await prober.load()
        await incidents.restore(ledger)
        async with web.serve(pages, settings.listen_host, settings.listen_port) as running.port, prober:
            background = [
                asyncio.create_task(_watch_clocks(metrics, sinks)),
                asyncio.create_task(_keep_house(ledger, prober, sinks)),
                asyncio.create_task(_catch_up(ledger, prober)),
                asyncio.create_task(_follow_incidents(incidents, ledger, prober)),
                asyncio.create_task(_reload_on_hangup(hangup, prober, metrics, schedule, reload, sinks)),
            ]
            running.essential = [*background, *prober.essential(), schedule.broken]
            schedule.follow(settings.routes)
            try:
                yield running
            finally:
                for task in background:
                    task.cancel()
                await schedule.stop()
        await _keep(incidents, ledger)
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        reader.close()
        api_reader.close()
        ledger.close()


async def run(settings: Settings, reload: Callable[[], Settings]) -> None:
    """The daemon until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    supervision = Supervision(Notifier(os.environ))
    rng = random.Random()  # noqa: S311 - for phases, not for secrets
    async with started(settings, reload, rng, supervision.status, supervision) as running:
        _settle()
        about = {"version": __version__, "routes": len(settings.routes), "away": running.prober.away}
        log.info(line("started", **about, listen=f"{settings.listen_host}:{running.port}"))
        supervised = asyncio.create_task(supervision.run(running.prober, running.works, running.views))
        running.essential.append(supervised)
        stopping = asyncio.create_task(stop.wait())
        essential: set[asyncio.Future[Any]] = {stopping, *running.essential}
        await asyncio.wait(essential, return_when=asyncio.FIRST_COMPLETED)
        supervision.stopping()
        if not stopping.done():
            log.critical("bug: a task that must never end has ended; stopping, so that it is noticed")
        for task in running.essential:
            if task.done():
                task.result()
        supervised.cancel()
        log.info(line("stopping"))
    log.info(line("stopped"))


class _Schedule:
    """Starts probes when they are due; one task per route, one per running submission."""

    def __init__(self, prober: Prober, sink: Sink, rng: random.Random) -> None:
        self._prober, self._sink, self._rng = prober, sink, rng
        self._routes: dict[str, tuple[Route, asyncio.Task[None]]] = {}
        self._running: set[asyncio.Task[object]] = set()
        self._steps: Counter[str] = Counter()
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # done when a route's task ended

    def works(self) -> Iterator[Work]:
        """Every route's task: one that hangs sends nothing, and nothing that is not sent is late."""
        for name in self._routes:
            yield Work(f"the schedule of {name}", self._steps[name], False, 3 * _STEP)

    def follow(self, routes: dict[str, Route]) -> None:
        """Schedule these routes; those that did not change keep their phase."""
        for name, (route, task) in list(self._routes.items()):
            if routes.get(name) != route:
                task.cancel()
                del self._routes[name]
        for name, route in routes.items():
            if name not in self._routes:
                task = asyncio.create_task(self._follow(route), name=name)
                task.add_done_callback(self._ended)
                self._routes[name] = route, task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._routes.get(task.get_name(), (None, None))[1] is not task or self.broken.done():
            return  # it was told to
        if not task.cancelled() and (error := task.exception()):
            self.broken.set_exception(error)
        else:
            self.broken.set_result(None)

    async def stop(self) -> None:
        """Start nothing more; let what runs end if it ends soon."""
        tasks = [task for _, task in self._routes.values()]
        self._routes.clear()
        for task in tasks:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=_GRACE)
        for running in list(self._running):
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _follow(self, route: Route) -> None:
        now, overslept = self._prober.clock, 0
        for due in due_times(now().boot, route.every, self._rng):
            while (delay := due - now().boot) > 0:
                if overslept:
                    self._sink.skipped(route.name, "overslept", overslept)
                    overslept = 0
                self._steps[route.name] += 1
                await asyncio.sleep(min(max(delay, _LEAST), _STEP))
            if -delay >= route.every:
                overslept += 1  # suspended, or the loop stood still for a period: of a weekend there are thousands
                continue
            task: asyncio.Task[object] = asyncio.create_task(self._send(route, now().shifted(delay)))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _send(self, route: Route, due: Instant) -> None:
        try:
            await self._prober.send(route, due)
        except Exception:
            log.exception("bug: sending a probe on route %s failed", route.name)
            self._sink.skipped(route.name, "bug")


def _settle() -> None:
    """Search what lives now never again for garbage, and of what comes the old seldom. A thousand routes are a million
    objects: the loop stood still for 0.3 s each time, and does for 20 ms where only probes in flight are searched."""
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], _OLD_GARBAGE)


def _listener_failed(what: str) -> None:
    log.exception("bug: a listener failed at %s", what)


async def _watch_clocks(metrics: Metrics, sink: Sink) -> None:
    before = clock.reading()
    while True:
        await asyncio.sleep(_TICK)
        after = clock.reading()
        metrics.stall.observe(max(0.0, after.awake - before.awake - _TICK))
        for kind, seconds in jumps(before, after, _TICK):
            sink.clock_jumped(kind, seconds)
        before = after


async def _keep_house(ledger: Ledger, prober: Prober, sink: Sink) -> None:
    """Forget what is older than the configuration asks for, and headers that prove nothing, a little at a time; tell
    how big the ledger is."""
    while True:
        gone: dict[tuple[str, State], int] = {}
        sifted = 0
        try:
            now, retention = clock.now().wall, prober.settings.retention
            # A mail found late must still be known, and every deadline judged.
            needed = now - _DAY - max(route.lost_after for route in prober.settings.routes.values())
            gone = await ledger.forget(now - retention.keep, retention.max_size, needed)
            prober.recorder.forget(gone)
            sifted = await ledger.sift_headers(now - _DAY)
            sink.stored(await ledger.size())
        except LedgerError as error:
            log.warning(line("retention_failed", reason=error))
        await asyncio.sleep(_TICK if gone or sifted else _HOUSEKEEPING)


async def _catch_up(ledger: Ledger, prober: Prober) -> None:
    """Bring what an older version or a crash left behind into the history, for at most half of the writer's time."""
    loop = asyncio.get_running_loop()
    while True:
        began, looked = loop.time(), 0
        try:
            now = clock.now().wall
            settled = now - _DAY - max(route.lost_after for route in prober.settings.routes.values())
            today = {name: route.deadlines for name, route in prober.settings.routes.items()}
            looked = await ledger.catch_up(settled, now, today)
        except LedgerError as error:
            log.warning(line("catching_up_failed", reason=error))
        await asyncio.sleep(loop.time() - began if looked else _HOUSEKEEPING)


async def _follow_incidents(incidents: Incidents, ledger: Ledger, prober: Prober) -> None:
    """Tell them the time and the routes, a few at a time, and put on record what they find."""
    settings = prober.settings
    while True:
        if settings is not prober.settings:
            settings = prober.settings
            incidents.follow(settings.routes)
        watched = {name: watcher.up for name, watcher in prober.watchers.items()}
        for number, name in enumerate(settings.routes):
            if not number % _AT_ONCE:
                await asyncio.sleep(0)
            incidents.tick(name, clock.now(), prober.recorder.in_flight(name), watched)
        await _keep(incidents, ledger)
        await asyncio.sleep(_FOLLOW)


async def _keep(incidents: Incidents, ledger: Ledger) -> None:
    with suppress(LedgerError):  # the recorder meets the same and says so
        await incidents.keep(ledger, clock.now())


async def _reload_on_hangup(
    hangup: asyncio.Event,
    prober: Prober,
    metrics: Metrics,
    schedule: _Schedule,
    reload: Callable[[], Settings],
    sink: Sink,
) -> None:
    while True:
        await hangup.wait()
        hangup.clear()
        sink.reloading()
        try:
            settings = await asyncio.to_thread(reload)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the file, the old one goes on
            metrics.reload_ok.set(0)
            for text in str(error).splitlines():
                log.error(line("reload_failed", reason=text))  # noqa: TRY400 - the text says it all
            sink.reloaded(str(error))
            continue
        before = prober.settings
        here = ("state_dir", "listen_host", "listen_port")
        if any(getattr(settings, name) != getattr(before, name) for name in here):
            log.warning(line("reload", warning="another state_dir or listen address takes a restart"))
        for warning in settings.warnings:
            log.warning(line("config", warning=warning))
        metrics.configure(settings.accounts, settings.routes)
        prober.apply(settings)
        schedule.follow(settings.routes)
        _settle()
        log.info(line("reloaded", routes=len(settings.routes), accounts=len(settings.accounts)))
        sink.reloaded(None)
