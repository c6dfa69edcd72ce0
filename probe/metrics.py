"""Every metric's definition, and what each outcome does to them. docs/monitoring.md explains them to people.

Rules:
- Names and labels are a public contract: alerts depend on them. Base units, `_total` on counters.
- Every label set of a route or account exists from the moment it is configured: increase() sees the first one.
- What is in flight is computed when asked for: in a stall nothing arrives, and whatever arrivals set would freeze.
- Rendering runs in a thread, on a snapshot: 100,000 samples take 3 s, and the loop stamps mails meanwhile.
"""

from __future__ import annotations

import asyncio
import gzip
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    Summary,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

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
    Unconfirmed,
    elapsed,
)
from probe.core.match import UNRECOGNISED, Verdict
from probe.core.outcome import InFlight, Outcome, Sink, Standing
from probe.core.reply import trouble
from probe.core.settings import Account, Route
from probe.core.state import Probe, State, arrival_bounds

disable_created_metrics()  # type: ignore[no-untyped-call]

DAY = 86400.0
LATENCY_BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, DAY, 5 * DAY)
_OWN_BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 2, 10)
_OUTCOMES = {
    Accepted: "accepted",
    Deferred: "deferred",
    Rejected: "rejected",
    Failed: "failed",
    Unconfirmed: "unconfirmed",
}
_STAGES = ("resolve", "connect", "tls", "ehlo", "auth", "envelope", "data")
_PLACEMENTS = ("inbox", "junk", "other")
_UNRECOGNISED = (*sorted(UNRECOGNISED), "forged", "reply", "foreign_sender", "uid_reused")
_JUMPS: tuple[Jump, ...] = ("step", "suspend", "stall")
_SKIPS = ("auth_backoff", "rate_limited", "too_many_running", "overslept", "ledger_unwritable")
# The likely ones
_SUBMISSION_ERRORS = (
    ("resolve", "dns_failure"),
    ("connect", "refused"),
    ("connect", "timeout"),
    ("tls", "certificate_expired"),
    ("auth", "auth_refused"),
    ("envelope", "greylisted"),
    ("envelope", "rate_limited"),
    ("data", "timeout"),
)
_DISCONNECTS = ("eof", "reset", "bye", "timeout", "keepalive", "auth_refused", "dns_failure", "no_inbox")
_REMOVALS_REFUSED = ("over_quota", "command_refused")
_FRESH = 0.2  # seconds for which one rendering serves everybody


class Metrics(Sink):
    """The metrics of one process. Everything but render() is called on the loop."""

    def __init__(self, version: str, standing: Callable[[], Standing], now: Callable[[], Instant]) -> None:
        self.registry = CollectorRegistry()
        self._standing, self._now = standing, now
        self._routes: dict[str, Route] = {}
        self._accounts: set[str] = set()
        self._mailboxes: set[str] = set()
        self._last_sent: dict[str, float] = {}  # by route: start of the latest-sent probe that arrived
        self._rendered: dict[tuple[str, bool], tuple[float, asyncio.Task[tuple[bytes, str]]]] = {}
        self._define_routes()
        self._define_mailboxes()
        self._define_own()
        self._computed = _Computed()
        self.registry.register(self._computed)
        self.build.info({"version": version})

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"mailprobe_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"mailprobe_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"mailprobe_{name}", text, labels, buckets=buckets, registry=self.registry)

    def _define_routes(self) -> None:
        counter, gauge = self._counter, self._gauge
        self.route_info = Info("mailprobe_route", "The addresses of a route.", ["route"], registry=self.registry)
        self.submissions = counter(
            "submissions", "Probes submitted, by what came of the submission.", "route", "outcome"
        )
        self.submission_errors = counter(
            "submission_errors",
            "Submissions that were not accepted, each once, by the stage in which they ended and why.",
            "route",
            "stage",
            "reason",
        )
        self.stages = Summary(
            "mailprobe_submission_stage_seconds",
            "Time each stage of a submission took.",
            ["route", "stage"],
            registry=self.registry,
        )
        self.latency = self._histogram(
            "delivery_latency_seconds",
            "Queue delay: from the 250 after the final dot to the first byte that showed the mail in the mailbox.",
            LATENCY_BUCKETS,
            "route",
        )
        self.last_latency = gauge(
            "last_delivery_latency_seconds",
            "Queue delay of the mail that arrived last; NaN before the first. It freezes in a stall: alert on "
            "mailprobe_oldest_in_flight_seconds instead.",
            "route",
        )
        self.last_accepted = gauge(
            "last_accepted_timestamp_seconds", "When the last probe was accepted; 0: never.", "route"
        )
        self.last_arrival = gauge("last_arrival_timestamp_seconds", "When the last probe arrived; 0: never.", "route")
        self.deadlines = counter(
            "deadline_probes",
            "Accepted probes whose deadline has passed, by whether the mail was there; unknown: the mailbox was not "
            "watched.",
            "route",
            "deadline",
            "met",
        )
        self.arrivals = counter("arrivals", "Probes that arrived, by the folder in which.", "route", "placement")
        self.uncertain = counter(
            "uncertain_arrivals",
            "Arrivals whose latency is so uncertain, because nobody was looking, that the histogram is without them.",
            "route",
        )
        self.moved = counter(
            "moved_arrivals", "Probes that were moved to another folder after they had come.", "route", "placement"
        )
        self.bounces = counter(
            "bounces", "Probes that came back, by class and subject of the status code.", "route", "status"
        )
        self.delay_notices = counter("delay_notices", "Notices that a probe is delayed.", "route")
        self.lost = counter("lost_probes", "Probes older than the route's lost_after.", "route")
        self.found = counter("found_probes", "Probes that arrived after they had been counted as lost.", "route")
        self.duplicates = counter("duplicate_arrivals", "Further copies of probes that had arrived already.", "route")
        self.reordered = counter("reordered_arrivals", "Probes that arrived after one that was sent later.", "route")
        self.uncertainty = gauge(
            "detection_uncertainty_seconds",
            "Width of the interval in which the last arrival must have happened; NaN: unknown.",
            "route",
        )
        self.skips = counter("probes_skipped", "Probes that were due and not started, by why.", "route", "reason")

    def _define_mailboxes(self) -> None:
        counter, gauge = self._counter, self._gauge
        self.mailboxes = gauge("mailbox_up", "1 while the whole mailbox is being watched.", "account")
        self.contacts = gauge(
            "mailbox_last_contact_timestamp_seconds", "When the mail server last sent a byte; 0: never.", "account"
        )
        self.disconnects = counter(
            "mailbox_disconnects", "Times the watching ended or could not begin, by why.", "account", "reason"
        )
        self.asks = counter("mailbox_asks", "Times the server was asked instead of waiting for its word.", "account")
        self.removals_refused = counter(
            "removals_refused",
            "Times the server refused to remove test mails, by why; they are left until it does.",
            "account",
            "reason",
        )
        self.unrecognised_mails = counter(
            "unrecognised_messages",
            "Mails that carried something like our token and were left alone, by why.",
            "account",
            "reason",
        )
        self.certificates = gauge(
            "certificate_not_after_timestamp_seconds", "When the server's certificate ends.", "account", "protocol"
        )

    def _define_own(self) -> None:
        self.build = Info("mailprobe_build", "The version that runs.", registry=self.registry)
        self.lateness = self._histogram(
            "schedule_lateness_seconds", "How long after its due instant a probe started.", _OWN_BUCKETS
        )
        self.stall = self._histogram(
            "loop_stall_seconds", "How late the event loop's timers come: stamps are this wrong at worst.", _OWN_BUCKETS
        )
        self.commit = self._histogram("ledger_commit_seconds", "Time to make events durable.", _OWN_BUCKETS)
        self.ledger_writable = self._gauge("ledger_writable", "0 while events wait in memory for the disk.")
        self.ledger_writable.set(1)
        self.ledger_size = self._gauge("ledger_size_bytes", "Room that the ledger takes on disk.")
        self.violations = self._counter("violations", "Laws that did not hold: bugs of mailprobe, see its log.")
        self.jumps = self._counter(
            "clock_jumps",
            "Times a clock did not go on evenly: wall clock set, machine suspended, loop stalled.",
            "kind",
        )
        for kind in _JUMPS:
            self.jumps.labels(kind)
        self.ledger_errors = self._counter("ledger_errors", "Failed attempts to write the ledger.")
        self.reload_ok = self._gauge("config_last_reload_successful", "0 after a bad configuration.")
        self.reload_at = self._gauge(
            "config_last_reload_success_timestamp_seconds", "When the configuration was taken over."
        )

    # -- what is configured --------------------------------------------------------------------------------------

    def configure(self, accounts: Mapping[str, Account], routes: Mapping[str, Route]) -> None:
        """Start every label set of what is new at zero, and drop those of what is gone."""
        for name in self._routes.keys() - routes.keys():
            self._forget_route(name)
        used = {name for route in routes.values() for name in (route.sender, route.recipient)}
        mailboxes = {name for name in used if accounts[name].imap}
        for name in self._mailboxes - mailboxes:
            for metric in (self.mailboxes, self.contacts, self.asks, self.disconnects, self.unrecognised_mails):
                metric.remove_by_labels({"account": name})
            self.removals_refused.remove_by_labels({"account": name})
            self.certificates.remove_by_labels({"account": name, "protocol": "imap"})
        for name in self._accounts - accounts.keys():
            self.certificates.remove_by_labels({"account": name})
        for name in routes.keys() - self._routes.keys():
            self._begin_route(name)
        for name in mailboxes - self._mailboxes:
            self._begin_mailbox(name)
        for name, route in routes.items():
            for deadline in set(self._routes[name].deadlines if name in self._routes else ()) - set(route.deadlines):
                self.deadlines.remove_by_labels({"route": name, "deadline": _seconds(deadline)})
            addresses = accounts[route.sender].address, accounts[route.recipient].address
            self.route_info.labels(name).info({"sender": addresses[0], "recipient": addresses[1]})
            for deadline in route.deadlines:
                for met in ("true", "false", "unknown"):
                    self.deadlines.labels(name, _seconds(deadline), met)
        self._routes, self._accounts, self._mailboxes = dict(routes), set(accounts), mailboxes
        self.reload_ok.set(1)
        self.reload_at.set(self._now().wall)

    def _begin_route(self, name: str) -> None:
        for metric in (self.latency, self.last_accepted, self.last_arrival, self.lost, self.found):
            metric.labels(name)
        for metric in (self.duplicates, self.reordered, self.uncertain, self.delay_notices):
            metric.labels(name)
        for status in ("4.0", "5.0", "unknown"):
            self.bounces.labels(name, status)
        self.last_latency.labels(name).set(math.nan)
        self.uncertainty.labels(name).set(math.nan)
        for outcome in _OUTCOMES.values():
            self.submissions.labels(name, outcome)
        for stage, reason in _SUBMISSION_ERRORS:
            self.submission_errors.labels(name, stage, reason)
        for stage in _STAGES:
            self.stages.labels(name, stage)
        for placement in _PLACEMENTS:
            self.arrivals.labels(name, placement)
            self.moved.labels(name, placement)
        for reason in _SKIPS:
            self.skips.labels(name, reason)

    def _begin_mailbox(self, name: str) -> None:
        for metric in (self.mailboxes, self.contacts, self.asks):
            metric.labels(name)
        for reason in _UNRECOGNISED:
            self.unrecognised_mails.labels(name, reason)
        for reason in _DISCONNECTS:
            self.disconnects.labels(name, reason)
        for reason in _REMOVALS_REFUSED:
            self.removals_refused.labels(name, reason)

    def _forget_route(self, name: str) -> None:
        for metric in vars(self).values():
            if isinstance(metric, MetricWrapperBase) and "route" in metric._labelnames:
                metric.remove_by_labels({"route": name})

    # -- what happens --------------------------------------------------------------------------------------------

    def observe(self, outcome: Outcome) -> None:
        """Count one outcome. A route that is no longer configured has no series any more."""
        event, probe = outcome.event, outcome.probe
        if isinstance(event, Arrived | Bounced | Notified) and outcome.verdict in UNRECOGNISED:
            self.unrecognised(event.place.account, str(outcome.verdict))
        if probe is None or probe.route not in self._routes or not outcome.recorded:
            return
        route = probe.route
        match event:
            case Accepted() | Deferred() | Rejected() | Failed() | Unconfirmed():
                self.submissions.labels(route, _OUTCOMES[type(event)]).inc()
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
            self.bounces.labels(route, ".".join(event.status.split(".")[:2]) or "unknown").inc()
        elif isinstance(event, Notified) and event.action == "delayed":
            self.delay_notices.labels(route).inc()

    def _judged(self, route: str, judged: Judged) -> None:
        if judged.deadline in self._routes[route].deadlines:
            met = "unknown" if judged.met is None else str(judged.met).lower()
            self.deadlines.labels(route, _seconds(judged.deadline), met).inc()

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

    def skipped(self, route: str, reason: str) -> None:
        """Count a hole in the evidence."""
        if route in self._routes:
            self.skips.labels(route, reason).inc()

    def mailbox_up(self, account: str) -> None:
        """We can see."""
        if account in self._mailboxes:
            self.mailboxes.labels(account).set(1)

    def mailbox_down(self, account: str, reason: str, detail: str, retry: float) -> None:
        """We cannot."""
        if account in self._mailboxes:
            self.mailboxes.labels(account).set(0)
            self.disconnects.labels(account, reason).inc()

    def contact(self, account: str, at: Instant) -> None:
        """Proof of life."""
        if account in self._mailboxes:
            self.contacts.labels(account).set(at.wall)

    def certificate(self, account: str, protocol: str, not_after: float) -> None:
        """When the provider has to act."""
        if account in self._accounts:
            self.certificates.labels(account, protocol).set(not_after)

    def asked(self, account: str) -> None:
        """What we cost the provider."""
        if account in self._mailboxes:
            self.asks.labels(account).inc()

    def removal_refused(self, account: str, reason: str) -> None:
        """Why test mails pile up."""
        if account in self._mailboxes:
            self.removals_refused.labels(account, reason).inc()

    def unrecognised(self, account: str, reason: str) -> None:
        """Mails that we left alone."""
        if account in self._mailboxes:
            self.unrecognised_mails.labels(account, reason).inc()

    # -- /metrics ------------------------------------------------------------------------------------------------

    async def render(self, accept: str, compress: bool) -> tuple[bytes, str]:
        """The page in the format that `accept` asks for (text or OpenMetrics), and its content type.

        Concurrent scrapes share one rendering, which is done in a thread.
        """
        encoder, content_type = choose_encoder(accept)
        made, task = self._rendered.get((content_type, compress), (0.0, None))
        if task is None or (task.done() and time.monotonic() - made > _FRESH):
            self._computed.take(tuple(self._routes), self._standing(), self._now())

            def work() -> tuple[bytes, str]:
                page = encoder(self.registry)
                return (gzip.compress(page, 1, mtime=0) if compress else page), content_type

            task = asyncio.ensure_future(asyncio.to_thread(work))
            self._rendered[content_type, compress] = time.monotonic(), task
        return await asyncio.shield(task)


def _seconds(deadline: float) -> str:
    """A deadline as a label: the seconds of the configuration, without exponent."""
    return str(int(deadline)) if deadline == int(deadline) else repr(deadline)


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
