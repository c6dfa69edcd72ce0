"""The prober's own health: does it see, is it punctual, does it remember.

Rule: read this before blaming a provider. Each row is one way in which mailprobe could be wrong.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana import page as p
from grafana.page import make
from grafana.panels import GREY, NONE_IS_GOOD, NOTHING, PER_MINUTE, Column, Panel, Steps, figure, grid, lines, spans
from grafana.queries import UP, now, of_account, of_prober, of_route, per_minute, quantile, series, within

YES_IS_GOOD: Steps = ((None, "red"), (1, "green"))
DAY = 86400
ENDS: Steps = ((None, "red"), (7 * DAY, "yellow"), (21 * DAY, "green"))
OWN: Steps = ((None, "green"), (0.5, "yellow"), (5, "red"))  # seconds by which we may be wrong ourselves


def page() -> Dashboard:
    """See above."""
    return make(
        "prober",
        "The prober's own health. Read this before blaming a provider.",
        [p.JOB, p.INSTANCE, p.ACCOUNT, p.ROUTES],
        [("", NOW), ("Does it see?", EYES), ("Is it punctual?", CLOCKS), ("Does it remember?", LEDGER)],
        since="now-6h",
    )


def _quantiles(metric: str) -> list[Dataquery]:
    buckets = of_prober(f"{metric}_bucket")
    return [series(quantile(q, buckets), name) for q, name in ((0.5, "half"), (0.99, "99 %"), (1, "slowest"))]


def _yes(title: str, text: str, query: str, no: str, yes: str) -> Panel:
    mapping = {0: (no, "red"), 1: (yes, "green")}
    return figure(title, text, now(query), unit="none", empty=NOTHING, steps=YES_IS_GOOD, mapping=mapping)


NOW = [
    _yes("Prober", "Whether Prometheus reaches every prober.", f"min({UP})", "DOWN", "up"),
    _yes(
        "Mailboxes",
        "1 while INBOX and junk of every account are watched.",
        f"min({of_account('mailbox_up')})",
        "BLIND",
        "all watched",
    ),
    _yes(
        "Ledger",
        "Whether events reach the disk. Nothing is dropped while they do not, but no new test mails are sent.",
        f"min({of_prober('ledger_writable')})",
        "NOT WRITABLE",
        "writable",
    ),
    _yes(
        "Configuration",
        "Refused: the last reload had an error, the old configuration goes on. The log names the line.",
        f"min({of_prober('config_last_reload_successful')})",
        "REFUSED",
        "in effect",
    ),
    figure(
        "Next certificate to end",
        "Time until the first of the mail servers' certificates ends.",
        now(f"min({of_account('certificate_not_after_timestamp_seconds')}) - time()"),
        unit="s",
        empty="none seen yet",
        when_empty=GREY,
        steps=ENDS,
    ),
    figure(
        "Violations",
        "Laws that did not hold in the time range above, such as: sent = the sum of what became of it. Bugs of "
        "mailprobe: please report them, with the log.",
        now(within("$__range", of_prober("violations_total"))),
        unit="none",
        empty=NOTHING,
        steps=NONE_IS_GOOD,
    ),
]

EYES = [
    spans(
        "Mailboxes",
        "Watched, or blind: what is late there cannot be told from what is unseen.",
        series(f"min by (account) ({of_account('mailbox_up')})", "{{account}}"),
        empty=NOTHING,
        mapping={0: ("blind", "red"), 1: ("watched", "green")},
    ),
    lines(
        "Disconnects",
        "Per minute, by why the watching ended or could not begin. A few `eof` and `bye` a day are how servers are.",
        series(
            f"{per_minute(of_account('mailbox_disconnects_total'), 'account', 'reason')} > 0", "{{account}}: {{reason}}"
        ),
        unit=PER_MINUTE,
        empty="no disconnects",
        stacked=True,
    ),
    lines(
        "Silence",
        "Time since the mail server last sent a byte.",
        series(
            f"time() - max by (account) ({of_account('mailbox_last_contact_timestamp_seconds')} > 0)", "{{account}}"
        ),
        unit="s",
        empty="no server has answered yet",
    ),
    lines(
        "Questions asked",
        "NOOPs per minute: what the measuring costs the provider.",
        series(per_minute(of_account("mailbox_asks_total"), "account"), "{{account}}"),
        unit=PER_MINUTE,
        empty=NOTHING,
    ),
    lines(
        "Mails left alone, removals refused",
        "Per minute. Mails that look like ours and are not (`forged`, `foreign`, …), and test mails that the "
        "server did not let us remove.",
        series(
            f"{per_minute(of_account('unrecognised_messages_total'), 'account', 'reason')} > 0",
            "{{account}}: {{reason}}",
        ),
        series(
            f"{per_minute(of_account('removals_refused_total'), 'account', 'reason')} > 0",
            "{{account}}: not removed, {{reason}}",
        ),
        unit=PER_MINUTE,
        empty="none",
    ),
    grid(
        "Certificates",
        "When the mail servers' certificates end, the next one first.",
        Column("Account", label="account"),
        Column("Protocol", label="protocol"),
        Column(
            "Ends in",
            f"min by (account, protocol) ({of_account('certificate_not_after_timestamp_seconds')}) - time()",
            unit="s",
            steps=ENDS,
        ),
        empty="none seen yet",
        sort=["-Ends in"],
    ),
]

CLOCKS = [
    lines(
        "Lateness of the schedule",
        "How long after its due instant a test mail was begun.",
        *_quantiles("schedule_lateness_seconds"),
        unit="s",
        empty="nothing was sent",
        log=True,
        steps=OWN,
        size=(8, 8),
    ),
    lines(
        "Stalls of the event loop",
        "How late our own timers come. Delays are wrong by this at worst.",
        *_quantiles("loop_stall_seconds"),
        unit="s",
        empty=NOTHING,
        log=True,
        steps=OWN,
        size=(8, 8),
    ),
    lines(
        "Jumps of the clock",
        "Per minute. *step*: the wall clock was set; *suspend*; *stall*: our own loop stood still.",
        series(per_minute(of_prober("clock_jumps_total"), "kind"), "{{kind}}"),
        unit=PER_MINUTE,
        empty=NOTHING,
        size=(8, 8),
    ),
    grid(
        "Clocks of mail hosts",
        "How far each host's clock is ahead of ours, as its stamps on our mails prove. If most are off to one side, it "
        "is our clock that is wrong.",
        Column("Host", label="host"),
        *(
            Column(name, f"max by (host) ({of_prober('clock_offset_seconds', bound)})", unit="s")
            for name, bound in (("At least", 'bound="low"'), ("At most", 'bound="high"'))
        ),
        empty="no mail has arrived",
        sort=["At least"],
        size=(24, 8),
    ),
]

LEDGER = [
    lines(
        "Time to commit",
        "How long it takes until events are on the disk.",
        *_quantiles("ledger_commit_seconds"),
        unit="s",
        empty="nothing was written",
        log=True,
        steps=OWN,
        size=(8, 8),
    ),
    lines(
        "Size",
        "Room that the ledger takes. It is bounded by ledger.max_size.",
        series(f"sum by (instance) ({of_prober('ledger_size_bytes')})", "{{instance}}"),
        unit="bytes",
        empty=NOTHING,
        size=(8, 8),
    ),
    lines(
        "Errors",
        "Failed attempts to write the ledger, per minute. Events wait; new test mails are skipped meanwhile.",
        series(per_minute(of_prober("ledger_errors_total"), "instance"), "{{instance}}"),
        unit=PER_MINUTE,
        empty=NOTHING,
        size=(8, 8),
    ),
    lines(
        "Probes on record",
        "By what became of them; together as many as were sent.",
        series(f"sum by (state) ({of_route('ledger_probes')}) > 0", "{{state}}"),
        series(f"sum({of_route('ledger_sent_probes')})", "sent"),
        unit="short",
        empty="none yet",
    ),
    lines(
        "Skipped",
        "Test mails per minute that were due and not started: holes in the evidence.",
        series(f"{per_minute(of_route('probes_skipped_total'), 'route', 'reason')} > 0", "{{route}}: {{reason}}"),
        unit=PER_MINUTE,
        empty="none was skipped",
        stacked=True,
    ),
    grid(
        "Versions",
        "What runs where, and since when its configuration is in effect.",
        Column("Instance", label="instance"),
        Column("Version", label="version"),
        Column(
            "Configuration since",
            f"{of_prober('build_info')} * on (job, instance) group_left () (1000 * "
            f"{of_prober('config_last_reload_success_timestamp_seconds')})",
            unit="dateTimeFromNow",
        ),
        empty=NOTHING,
        sort=["-Instance"],
        size=(24, 5),
    ),
]
