"""Every metric's definition, and which label sets there are. docs/monitoring.md explains them to people.

Rules:
- Names and labels are a public contract: alerts depend on them. Base units, `_total` on counters.
- Every label set of a route or account exists from the moment it is configured: increase() sees the first one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Summary, disable_created_metrics
from prometheus_client.metrics import MetricWrapperBase

from probe.core.clocks import Jump
from probe.core.events import Accepted, Deferred, Failed, Rejected, Segment, Unconfirmed
from probe.core.match import UNRECOGNISED
from probe.core.settings import Account, Route

disable_created_metrics()  # type: ignore[no-untyped-call]

DAY = 86400.0
LATENCY_BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, DAY, 5 * DAY)
_OWN_BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 2, 10)
OUTCOMES = {
    Accepted: "accepted",
    Deferred: "deferred",
    Rejected: "rejected",
    Failed: "failed",
    Unconfirmed: "unconfirmed",
}
_STAGES = ("resolve", "connect", "tls", "ehlo", "auth", "envelope", "data")
_SEGMENTS: tuple[Segment, ...] = ("submission", "sender", "between", "recipient", "mailbox")  # the usual ones
_VERDICTS = (("spf", "pass"), ("spf", "fail"), ("dkim", "pass"), ("dkim", "fail"), ("dmarc", "pass"), ("dmarc", "fail"))
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


class Definitions:
    """The metrics of one process, and what is configured."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.routes: dict[str, Route] = {}
        self.accounts: set[str] = set()
        self.watched: set[str] = set()  # accounts with a mailbox that is used
        self._define_routes()
        self._define_ways()
        self._define_mailboxes()
        self._define_own()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"mailprobe_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"mailprobe_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"mailprobe_{name}", text, labels, buckets=buckets, registry=self.registry)

    def _define_routes(self) -> None:
        counter, gauge = self._counter, self._gauge
        self.route_info = Info(
            "mailprobe_route", "The addresses of a route, and their accounts.", ["route"], registry=self.registry
        )
        self.interval = gauge("route_interval_seconds", "How often a route is to send a probe.", "route")
        self.lost_after = gauge("route_lost_after_seconds", "Age at which a route's probe counts as lost.", "route")
        self.route_deadlines = gauge(
            "route_deadline_seconds",
            "Each deadline of a route, in seconds; its label is the same.",
            "route",
            "deadline",
        )
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
            "Accepted probes whose deadline has passed, by whether the mail was there; unknown: nobody could see.",
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

    def _define_ways(self) -> None:
        self.hop_delays = Summary(
            "mailprobe_hop_delay_seconds",
            "How long delivered mails were in each segment of their way; the middle of what their headers leave open.",
            ["route", "segment"],
            registry=self.registry,
        )
        self.authentications = self._counter(
            "authentication_results",
            "What the recipient's provider said of a delivered mail's authenticity.",
            "route",
            "method",
            "result",
        )
        self.clock_offsets = self._gauge(
            "clock_offset_seconds",
            "How far a mail host's clock is ahead of ours, at least and at most.",
            "host",
            "bound",
        )

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
        for name in self.routes.keys() - routes.keys():
            self._forget_route(name)
        used = {name for route in routes.values() for name in (route.sender, route.recipient)}
        mailboxes = {name for name in used if accounts[name].imap}
        for name in self.watched - mailboxes:
            for metric in (self.mailboxes, self.contacts, self.asks, self.disconnects, self.unrecognised_mails):
                metric.remove_by_labels({"account": name})
            self.removals_refused.remove_by_labels({"account": name})
            self.certificates.remove_by_labels({"account": name, "protocol": "imap"})
        for name in self.accounts - accounts.keys():
            self.certificates.remove_by_labels({"account": name})
        for name in routes.keys() - self.routes.keys():
            self._begin_route(name)
        for name in mailboxes - self.watched:
            self._begin_mailbox(name)
        for name, route in routes.items():
            for deadline in set(self.routes[name].deadlines if name in self.routes else ()) - set(route.deadlines):
                for metric in (self.deadlines, self.route_deadlines):
                    metric.remove_by_labels({"route": name, "deadline": seconds(deadline)})
            self.route_info.labels(name).info(
                {
                    "sender": accounts[route.sender].address,
                    "recipient": accounts[route.recipient].address,
                    "sender_account": route.sender,
                    "recipient_account": route.recipient,
                }
            )
            self.interval.labels(name).set(route.every)
            self.lost_after.labels(name).set(route.lost_after)
            for deadline in route.deadlines:
                self.route_deadlines.labels(name, seconds(deadline)).set(deadline)
                for met in ("true", "false", "unknown"):
                    self.deadlines.labels(name, seconds(deadline), met)
        self.routes, self.accounts, self.watched = dict(routes), set(accounts), mailboxes

    def _begin_route(self, name: str) -> None:
        for metric in (self.latency, self.last_accepted, self.last_arrival, self.lost, self.found):
            metric.labels(name)
        for metric in (self.duplicates, self.reordered, self.uncertain, self.delay_notices):
            metric.labels(name)
        for status in ("4.0", "5.0", "unknown"):
            self.bounces.labels(name, status)
        self.last_latency.labels(name).set(math.nan)
        self.uncertainty.labels(name).set(math.nan)
        for outcome in OUTCOMES.values():
            self.submissions.labels(name, outcome)
        for stage, reason in _SUBMISSION_ERRORS:
            self.submission_errors.labels(name, stage, reason)
        for stage in _STAGES:
            self.stages.labels(name, stage)
        for segment in _SEGMENTS:
            self.hop_delays.labels(name, segment)
        for method, result in _VERDICTS:
            self.authentications.labels(name, method, result)
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


def seconds(deadline: float) -> str:
    """A deadline as a label: the seconds of the configuration, without exponent."""
    return str(int(deadline)) if deadline == int(deadline) else repr(deadline)
