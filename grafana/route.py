"""One route: how long its mail takes, where it is held up, and what became of it.

Rule: in the order of a mail's life: submitted, held, arrived.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana import page as p
from grafana.page import make
from grafana.panels import (
    GREY,
    LIMITS,
    MET,
    OUTCOMES,
    PER_MINUTE,
    PLACEMENTS,
    SHARE,
    Column,
    figure,
    grid,
    heat,
    lines,
)
from grafana.queries import (
    DEADLINE,
    WATCHED,
    buckets,
    limits,
    now,
    of_route,
    per_minute,
    quantile,
    series,
    share,
    traced,
    within,
)
from grafana.state import EXPLAINED, STATE, STATES

NOTHING = "no such route: not configured, or not scraped"


def page() -> Dashboard:
    """See above."""
    return make(
        "route",
        "One route: how long its mail takes, where it is held up, and what became of it.",
        [p.JOB, p.INSTANCE, p.ROUTE],
        [
            ("", NOW),
            ("How long mail takes", DELAYS),
            ("Who held it", HOLDERS),
            ("Submission", SUBMISSION),
            ("What became of it", ENDS),
        ],
        since="now-6h",
    )


def _each(metric: str, legend: str) -> Dataquery:
    return series(per_minute(of_route(metric)), legend)


NOW = [
    figure("State", EXPLAINED, now(f"max({STATE})"), unit="none", empty=NOTHING, mapping=STATES),
    figure(
        "Oldest in flight",
        "Age of the oldest mail that the provider took and that is not there. 0: none is.",
        now(f"max({of_route('oldest_in_flight_seconds')})"),
        unit="s",
        empty=NOTHING,
    ),
    figure(
        "In flight",
        "Mails that the provider took and that are not there. One or two are normal.",
        now(f"sum({of_route('in_flight_probes')})"),
        unit="none",
        empty=NOTHING,
    ),
    figure(
        "Last delay",
        "Queue delay of the mail that arrived last. It freezes in a stall: look at the oldest in flight.",
        now(f"max({of_route('last_delivery_latency_seconds')})"),
        unit="s",
        empty=NOTHING,
    ),
    figure(
        "In time",
        "Of the deadlines that passed in the time range above and of which it is known, how many were met.",
        now(share("$__range", "true")),
        unit="percentunit",
        empty="no deadline passed",
        when_empty=GREY,
        steps=SHARE,
    ),
    figure(
        "Lost or bounced",
        "Mails that became older than lost_after or came back, in the time range above.",
        now(f"{within('$__range', of_route('lost_probes_total'))} + {within('$__range', of_route('bounces_total'))}"),
        unit="none",
        empty=NOTHING,
        steps=((None, "green"), (0.5, "red")),
    ),
    grid(
        "What is configured",
        "Between which accounts, how often, what counts as late and as lost; and whether the recipient's mailbox is "
        "watched now.",
        Column("From", label="sender_account"),
        Column("To", label="recipient_account"),
        Column("Watched", WATCHED, mapping={0: ("no", "purple"), 1: ("yes", "green")}),
        *(
            Column(name, f"{of_route('route_info')} * on (job, instance, route) group_left () {query}", unit="s")
            for name, query in (
                ("Sends every", of_route("route_interval_seconds")),
                ("Shortest deadline", f"min by (job, instance, route) ({DEADLINE})"),
                ("Longest deadline", f"max by (job, instance, route) ({DEADLINE})"),
                ("Lost after", of_route("route_lost_after_seconds")),
            )
        ),
        empty=NOTHING,
        sort=["-From"],
        size=(24, 4),
    ),
]

LATENCY = of_route("delivery_latency_seconds_bucket")
DELAYS = [
    heat(
        "Queue delay",
        "Mails per minute by how long the provider held them: from its 250 to the first sight of the mail. Dots are "
        "single mails, with the probe's id.",
        buckets(per_minute(LATENCY, "le")),
        unit="s",
        empty="nothing arrived",
    ),
    lines(
        "Queue delay, quantiles",
        "Interpolated between buckets from 0.1 s to 5 days. Dots are single mails, with the probe's id. Mail that "
        "is stuck is not in it.",
        *(traced(quantile(q, LATENCY), name) for q, name in ((0.5, "half"), (0.95, "95 %"), (0.99, "99 %"))),
        *limits(),
        unit="s",
        empty="nothing arrived",
        log=True,
        colours=LIMITS,
    ),
    lines(
        "Oldest mail in flight",
        "A sawtooth is normal; a line that climbs is mail that is stuck.",
        series(f"max({of_route('oldest_in_flight_seconds')})", "age"),
        *limits(),
        unit="s",
        empty=NOTHING,
        colours=LIMITS,
        size=(8, 8),
    ),
    lines(
        "Mails in flight",
        "How many mails the provider took that are not there.",
        series(f"sum by (route) ({of_route('in_flight_probes')})", "{{route}}"),
        unit="none",
        empty=NOTHING,
        size=(8, 8),
    ),
    lines(
        "Deadlines",
        "Per minute, counted when the deadline passes. *unknown*: the mailbox was not watched then.",
        *(
            series(
                per_minute(of_route("deadline_probes_total", f'met="{met}"'), "deadline"), f"{name} {{{{deadline}}}} s"
            )
            for met, name in (("true", "met"), ("false", "missed"), ("unknown", "unknown"))
        ),
        unit=PER_MINUTE,
        empty="no deadline passed",
        stacked=True,
        colours=MET,
        size=(8, 8),
    ),
]

HOP = "hop_delay_seconds"
HOLDERS = [
    lines(
        "Who had the mail",
        "Mean time in each segment, of the mails that arrived: the middle of what their headers leave open. *sender*, "
        "*recipient*: their providers; *mailbox*: stored, and not seen yet; *unresolved*: no stamp tells.",
        series(
            f"sum by (segment) (rate({of_route(f'{HOP}_sum')}[$__rate_interval]))"
            f" / (sum by (segment) (rate({of_route(f'{HOP}_count')}[$__rate_interval])) > 0)",
            "{{segment}}",
        ),
        unit="s",
        empty="nothing arrived",
        stacked=True,
    ),
    lines(
        "What the receiver said",
        "Mails per minute by what the recipient's provider found of SPF, DKIM and DMARC, by its own word; once three "
        "mails have shown where it writes that.",
        series(
            f"{per_minute(of_route('authentication_results_total'), 'method', 'result')} > 0", "{{method}} {{result}}"
        ),
        unit=PER_MINUTE,
        empty="nothing said",
    ),
]

STAGE = "submission_stage_seconds"
SUBMISSION = [
    lines(
        "Stages of a submission",
        "Mean time of each stage. A kept connection has only envelope and data; data ends with the 250.",
        series(
            f"sum by (stage) (rate({of_route(f'{STAGE}_sum')}[$__rate_interval]))"
            f" / (sum by (stage) (rate({of_route(f'{STAGE}_count')}[$__rate_interval])) > 0)",
            "{{stage}}",
        ),
        unit="s",
        empty="nothing was sent",
        stacked=True,
    ),
    lines(
        "Outcomes of submissions",
        "Test mails per minute by what the sending provider said.",
        series(per_minute(of_route("submissions_total"), "outcome"), "{{outcome}}"),
        unit=PER_MINUTE,
        empty="nothing was sent",
        stacked=True,
        colours=OUTCOMES,
    ),
    lines(
        "Submission errors",
        "Per minute: the stage in which a submission ended, and why. The log has the server's own words.",
        series(f"{per_minute(of_route('submission_errors_total'), 'stage', 'reason')} > 0", "{{stage}}: {{reason}}"),
        unit=PER_MINUTE,
        empty="no errors",
        stacked=True,
    ),
    lines(
        "Skipped",
        "Test mails per minute that were due and not started: holes in the evidence.",
        series(f"{per_minute(of_route('probes_skipped_total'), 'reason')} > 0", "{{reason}}"),
        unit=PER_MINUTE,
        empty="none was skipped",
        stacked=True,
    ),
]

ENDS = [
    lines(
        "Placement",
        "Mails per minute by the folder in which they arrived.",
        series(per_minute(of_route("arrivals_total"), "placement"), "{{placement}}"),
        unit=PER_MINUTE,
        empty="nothing arrived",
        stacked=True,
        colours=PLACEMENTS,
    ),
    lines(
        "Bounces, delay notices, losses",
        "Per minute. Bounces by class and subject of the status code (RFC 3463). A mail with a delay notice stays in "
        "flight; *found* came after it was lost or had bounced.",
        series(f"{per_minute(of_route('bounces_total'), 'status')} > 0", "bounced {{status}}"),
        _each("delay_notices_total", "delay notice"),
        _each("lost_probes_total", "lost"),
        _each("found_probes_total", "found"),
        unit=PER_MINUTE,
        empty="none",
    ),
    lines(
        "Out of the ordinary",
        "Mails per minute. *uncertain*: nobody was looking, so the delay is not in the histogram. *moved*: to another "
        "folder after it was seen, by a filter or a person.",
        _each("duplicate_arrivals_total", "duplicate"),
        _each("reordered_arrivals_total", "out of order"),
        series(f"{per_minute(of_route('moved_arrivals_total'), 'placement')} > 0", "moved to {{placement}}"),
        _each("uncertain_arrivals_total", "uncertain"),
        unit=PER_MINUTE,
        empty="none",
    ),
    lines(
        "Uncertainty of detection",
        "Width of the interval in which the last arrival must have happened: how exact the delays are.",
        series(f"max by (route) ({of_route('detection_uncertainty_seconds')})", "{{route}}"),
        unit="s",
        empty="nothing arrived",
        log=True,
    ),
]
