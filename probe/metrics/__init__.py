"""What each outcome does to the metrics.

Rule: everything here is called on the loop, and is quick. definitions.py says what there is, exposition.py shows it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from probe.core.clocks import Jump
from probe.core.events import (
    Accepted,
    Arrived,
    Bounced,
    Deferred,
    Expired,
    Failed,
    Instant,
    Judged,
    Notified,
    Rejected,
    Traced,
    Unconfirmed,
)
from probe.core.match import UNRECOGNISED, Verdict
from probe.core.outcome import Outcome, Sink, Standing
from probe.core.reply import trouble
from probe.core.settings import Account, Route
from probe.core.state import Probe, arrival_bounds
from probe.metrics.definitions import OUTCOMES, Definitions, seconds
from probe.metrics.exposition import Exposition


class Metrics(Definitions, Sink):
    """The metrics of one process. `render` is what a scrape gets; see Exposition."""

    def __init__(self, version: str, standing: Callable[[], Standing], now: Callable[[], Instant]) -> None:
        super().__init__()
        self._now = now
        self._last_sent: dict[str, float] = {}  # by route: start of the latest-sent probe that arrived
        self._clocks: set[str] = set()  # the hosts whose clocks are shown
        self.build.info({"version": version})
        self.render = Exposition(self.registry, lambda: self.routes, standing, now).render

    def configure(self, accounts: Mapping[str, Account], routes: Mapping[str, Route]) -> None:
        """Take over a configuration; see Definitions."""
        super().configure(accounts, routes)
        self.reload_ok.set(1)
        self.reload_at.set(self._now().wall)

    def observe(self, outcome: Outcome) -> None:
        """Count one outcome. A route that is no longer configured has no series any more."""
        event, probe = outcome.event, outcome.probe
        if isinstance(event, Arrived | Bounced | Notified) and outcome.verdict in UNRECOGNISED:
            self.unrecognised(event.place.account, str(outcome.verdict))
        if probe is None or probe.route not in self.routes or not outcome.recorded:
            return
        route = probe.route
        match event:
            case Accepted() | Deferred() | Rejected() | Failed() | Unconfirmed():
                self.submissions.labels(route, OUTCOMES[type(event)]).inc()
                for stage, seconds in event.stages:
                    self.stages.labels(route, stage).observe(seconds)
                if isinstance(event, Accepted):
                    self.last_accepted.labels(route).set(event.at.wall)
                else:
                    self.submission_errors.labels(route, *trouble(event)).inc()
            case Expired():
                self.lost.labels(route).inc()
            case Bounced() | Notified():
                self._notified(route, event, outcome.verdict)
            case Judged():
                self._judged(route, event)
            case Traced():
                self._traced(route, event)
            case Arrived():
                self._arrived(outcome, event, route)
        if outcome.measured_now:
            self._measured(route, probe)

    def _measured(self, route: str, probe: Probe) -> None:
        self.uncertainty.labels(route).set(math.nan if probe.uncertainty is None else probe.uncertainty)
        if probe.doubtful:
            self.uncertain.labels(route).inc()
        elif probe.latency is not None:
            self.latency.labels(route).observe(probe.latency, exemplar={"probe": probe.id})
            self.last_latency.labels(route).set(probe.latency)

    def _arrived(self, outcome: Outcome, event: Arrived, route: str) -> None:
        match outcome.verdict:
            case Verdict.DUPLICATE:
                self.duplicates.labels(route).inc()
                return
            case Verdict.MOVED:
                self.moved.labels(route, event.placement).inc()
                return
            case Verdict.FOUND:
                self.found.labels(route).inc()
        self.arrivals.labels(route, event.placement).inc()
        self.last_arrival.labels(route).set(arrival_bounds(event)[1].wall)
        if outcome.probe:
            self._order(route, outcome.probe.started.wall)

    def _notified(self, route: str, event: Bounced | Notified, verdict: Verdict | None) -> None:
        if verdict is Verdict.BOUNCED and isinstance(event, Bounced):
            self.bounces.labels(route, _kind(event.status)).inc()
        elif isinstance(event, Notified) and event.action == "delayed":
            self.delay_notices.labels(route).inc()

    def _traced(self, route: str, traced: Traced) -> None:
        for part in traced.segments:
            self.hop_delays.labels(route, part.segment).observe((part.low + part.high) / 2)
        for method, result in traced.authentication:
            self.authentications.labels(route, method, result).inc()

    def _judged(self, route: str, judged: Judged) -> None:
        if judged.deadline in self.routes[route].deadlines:
            met = "unknown" if judged.met is None else str(judged.met).lower()
            self.deadlines.labels(route, seconds(judged.deadline), met).inc()

    def _order(self, route: str, sent: float) -> None:
        if sent < self._last_sent.get(route, 0.0):
            self.reordered.labels(route).inc()  # RFC 4737 §3.3: a singleton below the next expected one
        self._last_sent[route] = max(sent, self._last_sent.get(route, 0.0))

    def committed(self, events: int, seconds: float, error: str | None) -> None:
        """Count an attempt to write the ledger."""
        self.ledger_writable.set(error is None)
        if error is None:
            self.commit.observe(seconds)
        else:
            self.ledger_errors.inc()

    def stored(self, octets: int) -> None:
        """How big the record has become."""
        self.ledger_size.set(octets)

    def violated(self, law: str) -> None:
        """Count a bug of ours."""
        self.violations.inc()

    def clock_jumped(self, kind: Jump, seconds: float) -> None:
        """Count it: samples of that moment may be odd."""
        self.jumps.labels(kind).inc()

    def started(self, route: str, late: float) -> None:
        """How punctual we are."""
        self.lateness.observe(late)

    def skipped(self, route: str, reason: str, number: int = 1) -> None:
        """Count holes in the evidence."""
        if route in self.routes:
            self.skips.labels(route, reason).inc(number)

    def mailbox_up(self, account: str) -> None:
        """We can see."""
        if account in self.watched:
            self.mailboxes.labels(account).set(1)

    def mailbox_down(self, account: str, reason: str, detail: str, retry: float) -> None:
        """We cannot."""
        if account in self.watched:
            self.mailboxes.labels(account).set(0)
            self.disconnects.labels(account, reason).inc()

    def contact(self, account: str, at: Instant) -> None:
        """Proof of life."""
        if account in self.watched:
            self.contacts.labels(account).set(at.wall)

    def certificate(self, account: str, protocol: str, not_after: float) -> None:
        """When the provider has to act."""
        if account in self.accounts:
            self.certificates.labels(account, protocol).set(not_after)

    def asked(self, account: str) -> None:
        """What we cost the provider."""
        if account in self.watched:
            self.asks.labels(account).inc()

    def clocks(self, offsets: Mapping[str, tuple[float, float]]) -> None:
        """Whose stamps are wrong, and by how much."""
        for host in self._clocks - offsets.keys():
            self.clock_offsets.remove_by_labels({"host": host})
        for host, bounds in offsets.items():
            for bound, offset in zip(("low", "high"), bounds, strict=True):
                self.clock_offsets.labels(host, bound).set(offset)
        self._clocks = set(offsets)

    def removal_refused(self, account: str, reason: str) -> None:
        """Why test mails pile up."""
        if account in self.watched:
            self.removals_refused.labels(account, reason).inc()

    def unrecognised(self, account: str, reason: str) -> None:
        """Mails that we left alone."""
        if account in self.watched:
            self.unrecognised_mails.labels(account, reason).inc()


def _kind(status: str) -> str:
    """Class and subject of a status code; RFC 3463 §3 knows the subjects 0 to 7, and no others make series here."""
    found = re.match(r"[245]\.[0-7](?=\.)", status)
    return found[0] if found else "unknown"
