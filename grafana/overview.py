"""The page to open first: which routes are fine, which are not, the worst on top.

Rule: the first screen answers "is mail stuck, whose, since when, and can we see it" in five seconds; the rest is proof.
"""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana import page as p
from grafana.page import make
from grafana.panels import (
    GREY,
    LIMITS,
    NONE_IS_GOOD,
    NOTHING,
    OUTCOMES,
    PER_MINUTE,
    SHARE,
    Column,
    figure,
    grid,
    heat,
    lines,
    spans,
)
from grafana.queries import UP, WATCHED, buckets, deadlines, limits, now, of_prober, of_route, per_minute, series, share
from grafana.state import EXPLAINED, STATE, STATES, TROUBLE

BY = ("route", "deadline")


def page() -> Dashboard:
    """See above."""
    return make(
        "overview",
        "Which routes are fine and which are not, worst first.",
        [p.JOB, p.INSTANCE, p.ROUTES, p.OBJECTIVE],
        [("", NOW), ("", ROUTES), ("How long mail takes", DELAYS), ("Objective", OBJECTIVE), ("Traffic", TRAFFIC)],
        since="now-6h",
    )


NOW = [
    figure(
        "Routes in trouble",
        f"Routes that are worse than fine. {EXPLAINED}",
        now(f"sum(({STATE}) >= bool {TROUBLE})"),
        unit="none",
        empty=NOTHING,
        steps=NONE_IS_GOOD,
    ),
    figure(
        "Oldest mail in flight",
        "Age of the oldest mail that a provider took and that is not there. It grows while nothing arrives.",
        now(f"max({of_route('oldest_in_flight_seconds')})"),
        unit="s",
        empty=NOTHING,
    ),
    figure(
        "In time, last hour",
        "Of the deadlines that passed in the last hour and of which it is known, how many were met. All deadlines of "
        "all routes together: the table below tells them apart.",
        now(share("1h", "true")),
        unit="percentunit",
        empty="no deadline passed",
        when_empty=GREY,
        steps=SHARE,
    ),
    figure(
        "Mailboxes not watched",
        "Where the prober is blind: what is late there cannot be told from what is unseen.",
        now(f"sum({of_prober('mailbox_up')} == bool 0)"),
        unit="none",
        empty=NOTHING,
        steps=NONE_IS_GOOD,
        link=p.PROBER_PAGE,
    ),
    figure(
        "Alerts firing",
        "Alert rules of mailprobe that fire; the list is below.",
        now(f"count({p.FIRING})"),
        unit="none",
        empty="none",
        when_empty="green",
        steps=NONE_IS_GOOD,
    ),
    figure(
        "Prober",
        "Whether Prometheus reaches every prober. If it does not, everything else here is old.",
        now(f"min({UP})"),
        unit="none",
        empty="none is scraped",
        when_empty="red",
        steps=((None, "red"), (1, "green")),
        mapping={0: ("DOWN", "red"), 1: ("up", "green")},
        link=p.PROBER_PAGE,
    ),
]

ROUTES = [
    grid(
        "Routes, worst first",
        f"{EXPLAINED} A route's name leads to its page.",
        Column("Route", label="route", link=p.ROUTE_PAGE),
        Column("State", STATE, mapping=STATES, width=110),
        Column("Watched", f"min by (route) ({WATCHED})", mapping={0: ("no", "purple"), 1: ("yes", "green")}, width=80),
        Column("Oldest in flight", f"max by (route) ({of_route('oldest_in_flight_seconds')})", unit="s"),
        Column("In flight", f"max by (route) ({of_route('in_flight_probes')})"),
        Column("Last delay", f"max by (route) ({of_route('last_delivery_latency_seconds')})", unit="s"),
        Column(
            "Last sent",
            f"time() - max by (route) ({of_route('last_accepted_timestamp_seconds')} > 0)",
            unit="s",
        ),
        Column("In time, 1 h", share("1h", "true", "route"), unit="percentunit", steps=SHARE),
        Column(
            "Unseen, 1 h",
            deadlines("1h", "unknown", "route"),
            decimals=0,
            steps=((None, "text"), (0.5, "purple")),
        ),
        empty=NOTHING,
        sort=["State", "Oldest in flight"],
        size=(16, 10),
    ),
    p.alerts((8, 10)),
    spans(
        "Since when",
        f"Routes while they were worse than fine; where there is nothing, all was well. {EXPLAINED}",
        series(f"({STATE}) >= {TROUBLE}", "{{route}}"),
        empty="every route was fine",
        mapping=STATES,
        size=(24, 7),
    ),
]

DELAYS = [
    lines(
        "Oldest mail in flight",
        "The twenty oldest. A sawtooth is normal; a line that climbs is mail that is stuck.",
        series(f"topk(20, max by (route) ({of_route('oldest_in_flight_seconds')}))", "{{route}}"),
        *limits(),
        unit="s",
        empty=NOTHING,
        colours=LIMITS,
    ),
    heat(
        "Queue delay of what arrived",
        "Mails per minute by how long the provider held them, all routes. Mail that is stuck is not here until it "
        "arrives: see the panel beside.",
        buckets(per_minute(of_route("delivery_latency_seconds_bucket"), "le")),
        unit="s",
        empty="nothing arrived",
    ),
]

OBJECTIVE = [
    grid(
        "Deadlines: objective and error budget",
        "Over the time range above, worst first. Budget left: 100 % is untouched, 0 % is used up, below is overdrawn. "
        "Unknown: the mailbox was not watched; counts for nothing.",
        Column("Route", label="route", link=p.ROUTE_PAGE),
        Column("Deadline", label="deadline", unit="s", width=90),
        Column("In time", share("$__range", "true", *BY), unit="percentunit", steps=SHARE),
        Column(
            "Budget left",
            f"1 - {share('$__range', 'false', *BY)} / (1 - $objective)",
            unit="percentunit",
            steps=((None, "red"), (0, "yellow"), (0.5, "green")),
        ),
        Column("Missed", deadlines("$__range", "false", *BY), decimals=0),
        Column("Unknown", deadlines("$__range", "unknown", *BY), decimals=0),
        empty="no deadline passed in this time",
        sort=["-Budget left"],
    ),
    lines(
        "Burn rate of the error budget",
        "Share of missed deadlines in the last hour, as a multiple of what the objective allows. At 1 the budget lasts "
        "just as long as the objective's period; at 14.4 a month's is gone in two days.",
        series(f"{share('1h', 'false', *BY)} / (1 - $objective) > 0", "{{route}} {{deadline}} s"),
        unit="suffix: ×",
        empty="no deadline was missed",
        steps=((None, "transparent"), (1, "yellow"), (14.4, "red")),
    ),
]

TRAFFIC = [
    lines(
        "Outcomes of submissions",
        "Test mails per minute by what the sending provider said. *unconfirmed*: the connection broke after the "
        "content; it may arrive.",
        series(per_minute(of_route("submissions_total"), "outcome"), "{{outcome}}"),
        unit=PER_MINUTE,
        empty="nothing was sent",
        stacked=True,
        colours=OUTCOMES,
    ),
    lines(
        "Arrived, lost, bounced",
        "Test mails per minute by how they ended. *lost*: older than the route's lost_after.",
        series(per_minute(of_route("arrivals_total", 'placement="inbox"')), "inbox"),
        series(per_minute(of_route("arrivals_total", 'placement!="inbox"')), "junk or other"),
        series(per_minute(of_route("lost_probes_total")), "lost"),
        series(per_minute(of_route("bounces_total")), "bounced"),
        unit=PER_MINUTE,
        empty="nothing ended",
        stacked=True,
        colours={"inbox": "green", "junk or other": "yellow", "lost": "red", "bounced": "orange"},
    ),
]
