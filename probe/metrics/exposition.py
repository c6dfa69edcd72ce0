"""The page that Prometheus reads.

Rules:
- What is in flight is computed when asked for: in a stall nothing arrives, and whatever arrivals set would freeze.
- Rendering runs in a thread, on a snapshot: 100,000 samples take 3 s, and the loop stamps mails meanwhile.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from probe.core.events import Instant, elapsed
from probe.core.outcome import InFlight, Standing
from probe.core.state import State

_FRESH = 0.2  # seconds for which one rendering serves everybody
_OPEN = "application/openmetrics-text"  # the other format is Prometheus's old text, for whoever asks for nothing


class Exposition:
    """Renders a registry, and how things stand. To be used on the loop."""

    def __init__(
        self,
        registry: CollectorRegistry,
        routes: Callable[[], Iterable[str]],
        standing: Callable[[], Standing],
        now: Callable[[], Instant],
    ) -> None:
        self._registry, self._routes, self._standing, self._now = registry, routes, standing, now
        self._rendered: dict[tuple[bool, bool], tuple[float, asyncio.Task[tuple[bytes, str]]]] = {}
        self._computed = _Computed()
        registry.register(self._computed)

    async def render(self, accept: str, compress: bool) -> tuple[bytes, str]:
        """The page in the format that `accept` asks for (text or OpenMetrics), and its content type.

        Concurrent scrapes share one rendering, which is done in a thread. Versions are ours to choose: what a client
        writes there would come back in the content type, and each one need a rendering of its own.
        """
        form = _OPEN in accept, compress
        encoder, content_type = choose_encoder(_OPEN if form[0] else "")
        made, task = self._rendered.get(form, (0.0, None))
        if task is None or (task.done() and time.monotonic() - made > _FRESH):
            self._computed.take(tuple(self._routes()), self._standing(), self._now())

            def work() -> tuple[bytes, str]:
                page = encoder(self._registry)
                return (gzip.compress(page, 1, mtime=0) if compress else page), content_type

            task = asyncio.ensure_future(asyncio.to_thread(work))
            self._rendered[form] = time.monotonic(), task
        return await asyncio.shield(task)


class _Computed(Collector):
    """Gauges that are computed when asked for, on a snapshot that the loop takes."""

    routes: tuple[str, ...] = ()
    standing = Standing()
    now: Instant | None = None

    def take(self, routes: tuple[str, ...], standing: Standing, now: Instant) -> None:
        self.routes, self.standing, self.now = routes, standing, now

    def collect(self) -> Iterator[GaugeMetricFamily]:
        number = GaugeMetricFamily(
            "mailprobe_in_flight_probes",
            "Probes for which the provider answers and that have not arrived.",
            labels=["route"],
        )
        oldest = GaugeMetricFamily(
            "mailprobe_oldest_in_flight_seconds",
            "Age of the oldest probe in flight, now; 0: none is. The number to alert on.",
            labels=["route"],
        )
        sent = GaugeMetricFamily(
            "mailprobe_ledger_sent_probes", "Probes on record, as they were sent.", labels=["route"]
        )
        states = GaugeMetricFamily(
            "mailprobe_ledger_probes",
            "Probes on record by what became of them; the sum over the states is mailprobe_ledger_sent_probes.",
            labels=["route", "state"],
        )
        for route in self.routes:
            flying = self.standing.in_flight.get(route, InFlight(0, None))
            age = max(0.0, elapsed(flying.oldest, self.now)) if flying.oldest and self.now else 0.0
            number.add_metric([route], flying.number)
            oldest.add_metric([route], age)
            sent.add_metric([route], self.standing.sent.get(route, 0))
            for state in State:
                states.add_metric([route, state.value], self.standing.counts.get((route, state), 0))
        yield from (number, oldest, sent, states)
