"""The latest word on every route, for pages and live tables: a sink that remembers one arrival per route."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from probe.core.events import Accepted, Arrived, Instant, elapsed
from probe.core.outcome import InFlight, Outcome, RouteView, Sink
from probe.core.settings import Settings
from probe.core.state import arrival_bounds


class Board(Sink):
    """`views()` is what people see; computed when asked for."""

    def __init__(self) -> None:
        self._latency: dict[str, float] = {}
        self._arrival: dict[str, Instant] = {}
        self.accepted: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()

    def observe(self, outcome: Outcome) -> None:
        """Remember the latest arrival."""
        probe = outcome.probe
        if probe is None or not outcome.recorded:
            return
        if isinstance(outcome.event, Accepted):
            self.accepted[probe.route] += 1
        if isinstance(outcome.event, Arrived):
            self._arrival[probe.route] = arrival_bounds(outcome.event)[1]
        if outcome.measured_now and probe.latency is not None:
            self._latency[probe.route] = probe.latency
            self.delivered[probe.route] += 1

    def views(
        self, settings: Settings, flying: dict[str, InFlight], sees: Callable[[str], bool], now: Instant
    ) -> list[RouteView]:
        """One view per configured route, in the configuration's order."""
        views = []
        for route in settings.routes.values():
            sender, recipient = (settings.accounts[name].address for name in (route.sender, route.recipient))
            aloft = flying.get(route.name, InFlight(0, None))
            arrival = self._arrival.get(route.name)
            views.append(
                RouteView(
                    route=route.name,
                    sender=sender,
                    recipient=recipient,
                    watched=sees(recipient),
                    in_flight=aloft.number,
                    oldest=max(0.0, elapsed(aloft.oldest, now)) if aloft.oldest else None,
                    last_latency=self._latency.get(route.name),
                    last_arrival_ago=max(0.0, elapsed(arrival, now)) if arrival else None,
                )
            )
        return views
