"""Every shipped alert fires when it should and is quiet when it should be, by promtool; the runbook knows all of them.

Rule: an alert that has no row in the table below, with series for both, is a failure. What a row expects are the very
words that somebody reads at night.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .bed.prometheus import Prometheus
from .bed.service import BedError, run_tool
from .exported import complaints, exported, samples
from .make import ROOT, make_account, make_accounts, make_route

DOCS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Documentation"]
DEPLOY = ROOT / "deploy" / "prometheus"
FILES = [DEPLOY / "recording.yml", DEPLOY / "alerts.yml"]

Series = dict[str, str]  # series → its values, in promtool's notation: "0+1x3" is 0 1 2 3, "7x2" is 7 7 7

ROUTE = {"route": "r", "sender_account": "gmx", "recipient_account": "own"}


def series(name: str, values: str, **labels: str) -> Series:
    """One series of one prober."""
    said = {"job": "mailprobe", "instance": "p", **labels}
    matchers = ",".join(f'{key}="{value}"' for key, value in said.items())
    return {f"{name}{{{matchers}}}": values}


def configured(name: str = "r", sender: str = "gmx", recipient: str = "own", every: int = 60) -> Series:
    """A route as its configuration is exported, with its mailbox being watched."""
    return {
        **series(
            "mailprobe_route_info", "1x1000", route=name, sender=f"{sender}@example.de",
            recipient=f"{recipient}@example.org", sender_account=sender, recipient_account=recipient,
        ),
        **series("mailprobe_route_deadline_seconds", "30x1000", route=name, deadline="30"),
        **series("mailprobe_route_deadline_seconds", "300x1000", route=name, deadline="300"),
        **series("mailprobe_route_interval_seconds", f"{every}x1000", route=name),
        **series("mailprobe_route_lost_after_seconds", "432000x1000", route=name),
        **series("mailprobe_mailbox_up", "1x1000", account=recipient),
    }  # fmt: skip


def in_flight(age: str, route: str = "r") -> Series:
    return series("mailprobe_oldest_in_flight_seconds", age, route=route)


def deadlines(true: str = "0x1000", false: str = "0x1000", unknown: str = "0x1000") -> Series:
    """Mails whose deadline of 30 s has passed."""
    name, labels = "mailprobe_deadline_probes_total", {"route": "r", "deadline": "30"}
    return {
        **series(name, true, met="true", **labels),
        **series(name, false, met="false", **labels),
        **series(name, unknown, met="unknown", **labels),
    }


def latencies(**up_to: str) -> Series:
    """The histogram, by `le`."""
    name = "mailprobe_delivery_latency_seconds_bucket"
    return {key: value for le, v in up_to.items() for key, value in series(name, v, route="r", le=le).items()}


def recorded(state: str, number: str) -> Series:
    return series("mailprobe_ledger_probes", number, route="r", state=state)


def arrivals(inbox: str, junk: str, moved: str = "0x1000") -> Series:
    return {
        **series("mailprobe_arrivals_total", inbox, route="r", placement="inbox"),
        **series("mailprobe_arrivals_total", junk, route="r", placement="junk"),
        **series("mailprobe_moved_arrivals_total", moved, route="r", placement="junk"),
    }


def submissions(accepted: str, failed: str) -> Series:
    return {
        **series("mailprobe_submissions_total", accepted, route="r", outcome="accepted"),
        **series("mailprobe_submissions_total", failed, route="r", outcome="failed"),
        **series("mailprobe_submissions_total", failed, route="r", outcome="deferred"),
        **series("mailprobe_submission_errors_total", failed, route="r", stage="connect", reason="refused"),
        **series("mailprobe_submission_errors_total", "0x200", route="r", stage="auth", reason="auth_refused"),
    }


def sent(last_accepted: str, configured_at: str = "0x1000") -> Series:
    """promtool's time begins at 0."""
    return {
        **series("mailprobe_last_accepted_timestamp_seconds", last_accepted, route="r"),
        **series("mailprobe_config_last_reload_success_timestamp_seconds", configured_at),
    }


def stalls(quick: str, all_of_them: str) -> Series:
    return {
        **series("mailprobe_loop_stall_seconds_bucket", quick, le="0.1"),
        **series("mailprobe_loop_stall_seconds_count", all_of_them),
    }


def offsets(*hosts: tuple[str, str]) -> Series:
    """The lower and the upper bound of each host."""
    bounds = (("low", "high") * len(hosts), [values for bounds in hosts for values in bounds])
    return {
        name: values
        for number, (bound, values) in enumerate(zip(*bounds, strict=True))
        for name, values in series(
            "mailprobe_clock_offset_seconds", values, host=f"h{number // 2}", bound=bound
        ).items()
    }


@dataclass(frozen=True)
class Case:
    """At `at`, with a sample each `step`, the alert says `description` for `fires`, and nothing for each of `quiet`.

    What it asks first holds at `since`, must hold for `lasts`, and has ceased to hold `until`; all in seconds.
    """

    alert: str
    severity: str
    since: int
    lasts: int
    fires: Series
    quiet: tuple[Series, ...]
    summary: str
    description: str
    at: str = "15m"
    step: str = "30s"
    labels: tuple[tuple[str, str], ...] = tuple(ROUTE.items())
    base: bool = True  # the configured route "r" is there
    until: int = 0  # 0: it does not end
    recorded: bool = False  # what recording.yml would record is given

    def test(self, given: Series, expected: list[dict[str, Any]]) -> dict[str, Any]:
        """One entry of promtool's `tests`."""
        there = (configured() if self.base else {}) | given
        return {
            "interval": self.step,
            "input_series": [{"series": name, "values": values} for name, values in there.items()],
            "alert_rule_test": [{"eval_time": self.at, "alertname": self.alert, "exp_alerts": expected}],
            "promql_expr_test": list(self._states()) if expected else [],
        }

    def _states(self) -> Iterator[dict[str, Any]]:
        """Nothing before `since`, pending until it fires, firing when it shall."""
        step = int(self.step[:-1]) * {"s": 1, "m": 60}[self.step[-1]]
        fires = self.since + self.lasts
        moments = [
            (self.since - step, ""), (self.since, "pending" if self.lasts else "firing"),
            (fires - step, "pending" if self.lasts else ""), (fires, "firing"),
        ]  # fmt: skip
        if self.until:
            moments += [(self.until - step, "firing"), (self.until, "")]
        for at, state in moments:
            if at >= 0:
                yield {
                    "expr": f'count by (alertstate) (ALERTS{{alertname="{self.alert}"}})',
                    "eval_time": f"{at}s",
                    "exp_samples": [{"labels": f'{{alertstate="{state}"}}', "value": 1}] if state else [],
                }

    def expected(self) -> dict[str, Any]:
        """What promtool is to find."""
        prober = {"job": "mailprobe", "instance": "p"} if self.alert != "MailprobeAbsent" else {"job": "mailprobe"}
        return {
            "exp_labels": {**prober, "severity": self.severity, **dict(self.labels)},
            "exp_annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{DOCS}/runbook.md#{self.alert.lower()}",
            },
        }


def missed(**ratios: str) -> Series:
    """What is recorded of missed deadlines, by window; 0 where nothing is said. With an objective of a half, which is
    exact in binary: beyond a threshold is not at it."""
    found = series("mailprobe:deadline_objective:ratio", "0.5x100")
    for window in WINDOWS:
        name = f"route_deadline:mailprobe_deadline_missed:ratio_rate{window}"
        found |= series(name, ratios.get(f"of_{window}", "0x100"), route="r", deadline="30")
    return found


def labels(**more: str) -> tuple[tuple[str, str], ...]:
    return tuple(more.items())


WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
TWO_SENDERS = configured() | configured("r2", "ionos") | configured("r3", "ionos", "gmx")
TWO_RECIPIENTS = configured() | configured("r2", "gmx", "ionos") | configured("r3", "own", "ionos")
STUCK, FINE = "0+15x100", "2x100"

CASES = [
    Case(
        "MailprobeMailStuck", "page", 315, 15,
        in_flight(STUCK) | series("mailprobe_in_flight_probes", "0+0.5x100", route="r"),
        (
            in_flight("300x100"),
            in_flight(STUCK) | series("mailprobe_mailbox_up", "0x100", account="own"),
            in_flight("0+15x58 0x100"),
        ),
        "Mail is stuck on r",
        "On r (gmx → own) a mail that was accepted has been missing for 15m 0s; the longest deadline is 5m 0s. "
        "30 mails are in flight. The mailbox is being watched.",
        step="15s",
    ),
    Case(
        "MailprobeProviderIncomingStuck", "page", 315, 15,
        TWO_SENDERS | configured("r4") | in_flight(STUCK) | in_flight(STUCK, "r2") | in_flight(FINE, "r4"),
        (
            TWO_SENDERS | in_flight(STUCK) | in_flight(FINE, "r2") | in_flight(FINE, "r3"),
            # one sender, twice: that may be the sender
            TWO_SENDERS | configured("r4") | in_flight(STUCK) | in_flight(STUCK, "r4") | in_flight(FINE, "r2"),
            # half of them
            TWO_SENDERS | configured("r4") | configured("r5", "web")
            | in_flight(STUCK) | in_flight(STUCK, "r2") | in_flight(FINE, "r4") | in_flight(FINE, "r5"),
        ),
        "Mail to own is stuck on most routes",
        "Mail to own is beyond the longest deadline for 2 different senders, more than half of the routes that are "
        "watched. What they share is own.",
        labels=labels(recipient_account="own"), step="15s",
    ),
    Case(
        "MailprobeProviderOutgoingStuck", "page", 315, 15,
        TWO_RECIPIENTS | configured("r4") | in_flight(STUCK) | in_flight(STUCK, "r2") | in_flight(FINE, "r4"),
        (
            TWO_RECIPIENTS | in_flight(FINE) | in_flight(STUCK, "r2") | in_flight(STUCK, "r3"),
            # one recipient, twice: that may be the recipient
            TWO_RECIPIENTS | configured("r4") | in_flight(STUCK) | in_flight(STUCK, "r4") | in_flight(FINE, "r2"),
            # half of them
            TWO_RECIPIENTS | configured("r4") | configured("r5", "gmx", "web")
            | in_flight(STUCK) | in_flight(STUCK, "r2") | in_flight(FINE, "r4") | in_flight(FINE, "r5"),
        ),
        "Mail from gmx is stuck on most routes",
        "Mail from gmx is beyond the longest deadline for 2 different recipients, more than half of the routes that "
        "are watched. What they share is gmx.",
        labels=labels(sender_account="gmx"), step="15s",
    ),
    Case(
        "MailprobeDelayHigh", "ticket", 60, 600,
        latencies(**{"10.0": "0x60 0+1x100", "30.0": "0+1x35 0+1x125", "+Inf": "0+1x35 0+1x125"}),  # restarted
        (latencies(**{"10.0": "0+1x100", "30.0": "0+1x100", "+Inf": "0+1x100"}),),
        "Mail is slow on r",
        "On r (gmx → own) one mail in ten took longer than 28s in the last 30 minutes; the shortest deadline is 30s.",
        at="45m", step="1m",
        until=5220,
    ),
    Case(
        "MailprobeDeadlinesMissed", "ticket", 180, 300,
        deadlines(true="0+4x35 0+4x200", false="0+1x35 0+1x9 9x200", unknown="0+20x200"),  # restarted
        (
            deadlines(true="0+12x100", false="0+1x100"),
            deadlines(true="0+1x100", unknown="0+9x100"),
            deadlines(false="0x5 2x30 4x100"),  # four, but two in half an hour
        ),
        "Mail on r misses its deadline of 30 s",
        "On r (gmx → own) 20% of the mails of the last 30 minutes were not there 30 s after they had been accepted.",
        at="45m", step="1m", labels=labels(**ROUTE, deadline="30"),
        until=3720,
    ),
    Case(
        "MailprobeErrorBudgetBurnFast", "page", 60, 120,
        deadlines(true="0+4x200", false="0+1x200"),
        (deadlines(true="0+1x200", unknown="0+9x200"),),
        "The error budget of r (30 s) burns fast",
        "On r (gmx → own) 20% of the mails were not there within 30 s; the objective allows 1%. At this rate the "
        "budget of 30 days is gone in two to five days.",
        at="120m", step="1m", labels=labels(**ROUTE, deadline="30"),
    ),
    Case(
        "MailprobeErrorBudgetBurnSlow", "ticket", 300, 900,
        deadlines(true="0+49x1000", false="0+1x1000"),
        (deadlines(true="0+1x100", unknown="0+9x100"),),
        "The error budget of r (30 s) burns steadily",
        "On r (gmx → own) 2% of the mails were not there within 30 s; the objective allows 1%. At this rate the "
        "objective of 30 days will not be met.",
        at="2h", step="5m", labels=labels(**ROUTE, deadline="30"),
    ),
    *(
        Case(
            "MailprobeErrorBudgetBurnFast", "page", 60, 120, missed(**fires),
            (
                missed(of_1h="8x100", of_5m="7.2x100"), missed(of_1h="7.2x100", of_5m="8x100"),
                missed(of_6h="4x100", of_30m="3x100"), missed(of_6h="3x100", of_30m="4x100"),
                missed(of_1h="8x100", of_30m="8x100", of_2h="8x100", of_1d="8x100"),
                missed(of_5m="8x100", of_6h="8x100"),
                missed(of_1h="8x100", of_6h="8x100"), missed(of_5m="8x100", of_30m="8x100"),
            ),
            "The error budget of r (30 s) burns fast",
            f"On r (gmx → own) {said} of the mails were not there within 30 s; the objective allows 50%. At "
            "this rate the budget of 30 days is gone in two to five days.",
            labels=labels(**ROUTE, deadline="30"), recorded=True,
        )
        for fires, said in (
            ({"of_1h": "0 0 8x100", "of_5m": "8x100"}, "800%"), ({"of_6h": "4x100", "of_30m": "0 0 4x100"}, "400%"),
        )
    ),
    *(
        Case(
            "MailprobeErrorBudgetBurnSlow", "ticket", 60, 900, missed(**fires),
            (
                missed(of_1d="2x100", of_2h="1.5x100"), missed(of_1d="1.5x100", of_2h="2x100"),
                missed(of_3d="1x100", of_6h="0.5x100"), missed(of_3d="0.5x100", of_6h="1x100"),
                missed(of_1d="2x100", of_6h="2x100", of_1h="2x100"), missed(of_2h="2x100", of_3d="2x100"),
                missed(of_1d="2x100", of_3d="2x100", of_30m="2x100"), missed(of_2h="2x100", of_6h="2x100"),
            ),
            "The error budget of r (30 s) burns steadily",
            f"On r (gmx → own) {said} of the mails were not there within 30 s; the objective allows 50%. At "
            "this rate the objective of 30 days will not be met.",
            at="30m", labels=labels(**ROUTE, deadline="30"), recorded=True,
        )
        for fires, said in (
            ({"of_1d": "0 0 2x100", "of_2h": "2x100"}, "200%"), ({"of_3d": "1x100", "of_6h": "0 0 1x100"}, "100%"),
        )
    ),
    Case(
        "MailprobeMailLost", "ticket", 330, 0,
        recorded("lost", "3x10 4x200"),
        (recorded("lost", "5x100"), recorded("lost", "0x10 1x5 0x100")),
        "Mail was lost on r",
        "On r (gmx → own) the number of accepted mails that did not come within lost_after (5d 0h 0m 0s) grew by 1 in "
        "the last hour.",
        labels=labels(**ROUTE, state="lost"),
        until=3930,
    ),
    Case(
        "MailprobeMailBounced", "ticket", 330, 0,
        recorded("bounced", "0x10 1x200") | series("mailprobe_bounces_total", "_x10 1x200", route="r", status="5.7"),
        (recorded("bounced", "5x100"),),
        "Mail was bounced on r",
        "On r (gmx → own) the number of accepted mails that came back grew by 1 in the last hour. All since the "
        "daemon's start, by status: 1 × 5.7.",
        labels=labels(**ROUTE, state="bounced"),
        until=3930,
    ),
    Case(
        "MailprobeMailInJunk", "ticket", 300, 300,
        arrivals(inbox="0+4x300", junk="0+0.5x20 10+0x260", moved="0+0.5x20 10+0x260"),
        (arrivals(inbox="0+4x100", junk="0x100"), arrivals(inbox="0+12x100", junk="0+1x100")),
        "Mail on r goes to junk",
        "On r (gmx → own) 15.38% of the mails that arrived in the last hour were put into the junk folder.",
        at="2h", step="5m", until=8100,
    ),
    Case(
        "MailprobeSubmissionFailing", "page", 120, 120,
        submissions(accepted="0+4x40 0+4x200", failed="0+1x40 0+1x9 9x200"),  # restarted
        (
            submissions(accepted="0+12x100", failed="0+1x100"),
            submissions(accepted="0x5 5x30 10x100", failed="0x5 1x30 2x100"),  # two in half an hour
        ),
        "Submissions on r fail: connect, refused",
        "On r (gmx → own) 29 submissions of the last 30 minutes ended in stage connect with refused.",
        at="45m", step="1m", labels=labels(**ROUTE, stage="connect", reason="refused"),
        until=3900,
    ),
    Case(
        "MailprobeNothingSent", "page", 270, 300,
        sent("60x100"),
        (
            sent("0+30x100"),
            sent("-120+30x100"),  # two intervals
            sent("60x100", configured_at="0x26 780x100"),  # just started: one had no time to be accepted
            configured(every=3600) | sent("60x100"),
        ),
        "Nothing is sent on r",
        "On r (gmx → own) no mail has been accepted for 14m 0s; one is due every 1m 0s.",
    ),
    Case(
        "MailprobeNothingSent", "page", 270, 300,
        sent("30x100", configured_at="60x100"),
        (sent("30x100", configured_at="720x100"),),
        "Nothing is sent on r",
        "On r (gmx → own) no mail has been accepted for 14m 0s; one is due every 1m 0s.",
    ),
    Case(
        "MailprobeDown", "page", 330, 120,
        series("up", "1x10 0x100"),
        (series("up", "1x100"), series("up", "1x26 0x100")),
        "mailprobe at p does not answer",
        "Prometheus cannot scrape p (job mailprobe); it last could 10m 0s ago. Nothing is measured; mail that comes "
        "meanwhile is found at the next start.",
        labels=(),
    ),
    Case(
        "MailprobeAbsent", "page", 0, 300,
        series("up", "1x100", job="other"),
        (series("up", "1x100"), series("up", "0x100")),
        "Prometheus has no mailprobe to scrape",
        'For 5 minutes there has been no target with job="mailprobe". No other of these alerts can fire.',
        labels=(), base=False,
    ),
    Case(
        "MailprobeBlind", "page", 330, 120,
        series("mailprobe_mailbox_up", "1x10 0x100", account="own")
        | series("mailprobe_mailbox_last_contact_timestamp_seconds", "270x100", account="own"),
        (series("mailprobe_mailbox_up", "1x26 0x100", account="own"),),
        "The mailbox of own cannot be watched",
        "The mailbox of own is not watched. Its server last said something 10m 30s ago. Whether mail is stuck there is "
        "unknown.",
        labels=labels(account="own", recipient_account="own"),
    ),
    Case(
        "MailprobeUnknownHigh", "ticket", 30, 600,
        deadlines(true="0+5x100", unknown="0+1x100"),
        (deadlines(true="0+12x100", unknown="0+1x100"), deadlines(true="0+1x100", false="0+1x100")),
        "Too much is unknown on r",
        "On r (gmx → own) nobody can say of 16.67% of the mails of the last hour whether they were there within 30 s.",
        labels=labels(**ROUTE, deadline="30"),
    ),
    Case(
        "MailprobeCertificateEnding", "ticket", 120, 3600,
        series("mailprobe_certificate_not_after_timestamp_seconds", "864060x200", account="own", protocol="imap"),
        (series("mailprobe_certificate_not_after_timestamp_seconds", "1728000x200", account="own", protocol="imap"),),
        "The imap certificate of own ends",
        "The certificate of the imap server of own ends in 9d 22h 1m 0s.",
        at="2h", step="1m", labels=labels(account="own", protocol="imap"),
    ),
    Case(
        "MailprobeLedgerNotWritable", "page", 330, 120,
        series("mailprobe_ledger_writable", "1x10 0x100") | series("mailprobe_ledger_size_bytes", "1048576x100"),
        (series("mailprobe_ledger_writable", "1x100"),),
        "mailprobe at p cannot write its ledger",
        "Events wait in memory and no mail is sent. The ledger has 1MiB.",
        labels=(),
    ),
    Case(
        "MailprobeLoopStalled", "ticket", 30, 300,
        stalls("0+985x100", "0+1000x100"),
        (stalls("0+100x100", "0+100x100"), stalls("0+995x100", "0+1000x100")),
        "mailprobe at p is held up",
        "1.5% of the event loop's timers came more than 100 ms late in the last 15 minutes. Latencies of that time "
        "are too long by as much.",
        at="25m", labels=(),
    ),
    Case(
        "MailprobeClockJumped", "ticket", 330, 0,
        series("mailprobe_clock_jumps_total", "3x8 0 0 1x200", kind="step"),  # after a restart
        (series("mailprobe_clock_jumps_total", "1x100", kind="step"),),
        "The clocks of p jumped: step",
        "1 jumps (step) in the last hour. Mail of those moments may be measured wrongly.",
        labels=labels(kind="step"),
        until=3930,
    ),
    Case(
        "MailprobeClockOff", "ticket", 330, 900,
        offsets(*[("-0.4x10 4x200", "0.5x10 5x200")] * 2, ("-1x300", "1x300")),
        (
            offsets(("4x300", "5x300"), ("4x300", "5x300")),  # two hosts prove little
            offsets(("4x300", "5x300"), ("-1x300", "1x300"), ("-1x300", "1x300")),  # one is its owner's business
            offsets(*[("-3x300", "3x300")] * 3),  # nothing is proven
            offsets(*[("2x300", "3x300")] * 3),
            offsets(*[("-3x300", "-2x300")] * 3),
            offsets(("-4x300", "-3x300"), ("-4x300", "-3x300")),
            offsets(*[("-4x300", "-3x300")] * 2, *[("-1x300", "1x300")] * 2),
        ),
        "The clock of p is wrong",
        "The clocks of most mail hosts differ from it by more than 4 s (above 0: ours is slow). Latencies do not care, "
        "times of day in the log and in reports do.",
        at="25m", labels=(),
    ),
    Case(
        "MailprobeClockOff", "ticket", 330, 900,
        offsets(*[("-5x10 -5x200", "0.4x10 -4x200")] * 2, ("-1x300", "1x300")),
        (),
        "The clock of p is wrong",
        "The clocks of most mail hosts differ from it by more than -4 s (above 0: ours is slow). Latencies do not "
        "care, times of day in the log and in reports do.",
        at="25m", labels=(),
    ),
    Case(
        "MailprobeLawViolated", "ticket", 0, 0,
        series("mailprobe_violations_total", "1x100"),
        (series("mailprobe_violations_total", "0x100"),),
        "mailprobe at p has a bug",
        "1 laws did not hold since the start. Its log says which: bug violated=….",
        labels=(),
    ),
    Case(
        "MailprobeConfigurationRefused", "ticket", 330, 300,
        series("mailprobe_config_last_reload_successful", "1x10 0x100")
        | series("mailprobe_config_last_reload_success_timestamp_seconds", "60x100"),
        (series("mailprobe_config_last_reload_successful", "1x100"),),
        "mailprobe at p refused its configuration",
        "The file is not what runs: that was taken over 14m 0s ago.",
        labels=(),
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def alerts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Every alert as Prometheus itself reads it."""
    with Prometheus(tmp_path_factory.mktemp("rules"), rules=FILES) as prometheus:
        rules = [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]
    return {rule["name"]: rule for rule in rules if rule["type"] == "alerting"}


def promtool_test(directory: Path, case: Case, tests: list[dict[str, Any]]) -> None:
    """Run promtool's unit tests; raises BedError with its report."""
    file = directory / "test.yml"
    files = FILES[1:] if case.recorded else FILES
    said = {
        "rule_files": [str(path) for path in files],
        "evaluation_interval": case.step,
        "group_eval_order": [group for path in files for group in re.findall(r"- name: (\S+)", path.read_text())],
        "tests": tests,
    }
    file.write_text(json.dumps(said))  # JSON is YAML
    run_tool("promtool", "test", "rules", file)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_the_alert_fires_and_says_so(case: Case, tmp_path: Path) -> None:
    promtool_test(tmp_path, case, [case.test(case.fires, [case.expected()])])


@pytest.mark.parametrize(
    ("case", "quiet"),
    [pytest.param(case, quiet, id=f"{case.alert}-{n}") for case in CASES for n, quiet in enumerate(case.quiet)],
)
def test_the_alert_is_quiet(case: Case, quiet: Series, tmp_path: Path) -> None:
    promtool_test(tmp_path, case, [case.test(quiet, [])])


# From so many hours before the end: how many of a minute's mails were there in time, and how many not.
ERAS = ((80, 1, 9), (72, 9, 1), (24, 5, 2), (6, 8, 3), (2, 2, 4), (1, 9, 5), (0.5, 4, 6), (5 / 60, 1, 7))


def shares() -> dict[str, Any]:
    """One entry of promtool's `tests`: what is recorded of missed deadlines, after 80 hours."""
    name = "route_deadline:mailprobe_deadline_missed:ratio_rate"
    counted, totals = {"true": "0", "false": "0", "unknown": "0+5x4800"}, {"true": 0, "false": 0}
    spans = [(*era, end) for era, end in zip(ERAS, [*(era[0] for era in ERAS[1:]), 0], strict=True)]
    for begin, in_time, late, end in spans:
        minutes = round((begin - end) * 60)
        for met, each in (("true", in_time), ("false", late)):
            counted[met] += f" {totals[met] + each}+{each}x{minutes - 1}"
            totals[met] += each * minutes
    expected = [("mailprobe:deadline_objective:ratio", "mailprobe:deadline_objective:ratio", 0.99)]
    for window in WINDOWS:
        hours = int(window[:-1]) * {"m": 1 / 60, "h": 1, "d": 24}[window[-1]]
        within = [(min(begin, hours) - min(end, hours), a, b) for begin, a, b, end in spans]
        missing, known = sum(time * b for time, _, b in within), sum(time * (a + b) for time, a, b in within)
        labels = '{job="mailprobe",instance="p",route="r",deadline="30"}'
        expected.append((f"round(1e4 * {name}{window})", labels, round(1e4 * missing / known)))
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in deadlines(**counted).items()],
        "promql_expr_test": [
            {"expr": expr, "eval_time": "80h", "exp_samples": [{"labels": labels, "value": value}]}
            for expr, labels, value in expected
        ],
    }


def test_each_window_has_the_share_of_its_time(tmp_path: Path) -> None:
    file = tmp_path / "test.yml"
    file.write_text(json.dumps({"rule_files": [str(FILES[0])], "evaluation_interval": "80h", "tests": [shares()]}))
    run_tool("promtool", "test", "rules", file)


def test_a_wrong_expectation_is_noticed(tmp_path: Path) -> None:
    case = CASES[0]
    with pytest.raises(BedError):
        promtool_test(tmp_path, case, [case.test(case.fires, [])])
    with pytest.raises(BedError):
        promtool_test(tmp_path, case, [case.test(case.quiet[0], [case.expected()])])


def test_every_alert_is_tested_firing_and_quiet(alerts: dict[str, dict[str, Any]]) -> None:
    assert {case.alert for case in CASES if case.fires and case.quiet} == alerts.keys()


def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    run_tool("promtool", "check", "rules", *FILES)
    run_tool("promtool", "check", "config", DEPLOY / "prometheus.yml")


def test_every_alert_has_a_severity_a_summary_numbers_and_a_section_in_the_runbook(
    alerts: dict[str, dict[str, Any]],
) -> None:
    runbook = (ROOT / "docs/runbook.md").read_text()
    sections = dict(re.findall(r"^### (\w+)\n\n\*(\w+)\.\*", runbook, re.M))
    assert sections == {name: alert["labels"]["severity"] for name, alert in alerts.items()}
    assert set(sections.values()) == {"page", "ticket"}
    for name, alert in alerts.items():
        assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert alert["annotations"]["runbook_url"] == f"{DOCS}/runbook.md#{name.lower()}"
        section = runbook.partition(f"### {name}\n")[2].partition("\n### ")[0]
        assert "**Provider or prober?**" in section
        assert "**Do:**" in section
    for case in CASES:
        assert re.search(r"\d", case.description), case.alert


def test_every_link_within_the_runbook_leads_to_a_section() -> None:
    runbook = (ROOT / "docs/runbook.md").read_text()
    headings = {
        re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in re.findall(r"^#+ (.*)", runbook, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", runbook)) <= headings


# -- names ---------------------------------------------------------------------------------------------------------


def rules_recorded() -> set[str]:
    return set(re.findall(r"- record: (\S+)", FILES[0].read_text()))


@pytest.mark.parametrize(
    "name",
    [
        *("README.md", "docs/flow.md", "docs/measuring.md", "docs/monitoring.md", "docs/reliability.md"),
        *("docs/hops.md", "docs/runbook.md", "deploy/prometheus/recording.yml", "deploy/prometheus/alerts.yml"),
        "deploy/alertmanager/alertmanager.yml",
    ],
)
async def test_only_what_is_exported_is_named(name: str) -> None:
    assert complaints((ROOT / name).read_text(), await exported(), rules_recorded()) == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("`mailprobe_oldest_in_flight`", "no metric mailprobe_oldest_in_flight"),
        ('rate(mailprobe_arrivals_total{folder="junk"}[1h])', "mailprobe_arrivals_total has no label folder"),
        ('mailprobe_arrivals_total{placement="spam"}', "mailprobe_arrivals_total has no placement=spam"),
        ('mailprobe_deadline_probes_total{met=~"true|no"}', "mailprobe_deadline_probes_total has no met=no"),
        ("mailprobe_ledger_probes{state='losst'}", "mailprobe_ledger_probes has no state=losst"),
        ("sum by (rout) (mailprobe_lost_probes_total)", "no label rout"),
        ("mail on {{ $labels.rute }}", "no label rute"),
        ("route:mailprobe_watch:bool == 1", "no rule route:mailprobe_watch:bool"),
    ],
)
async def test_a_name_that_nobody_exports_is_found(text: str, complaint: str) -> None:
    assert complaints(text, await exported(), rules_recorded()) == [complaint]


def test_every_recording_rule_is_in_the_document() -> None:
    assert set(re.findall(r"^\| `([\w:]+)` \|", (ROOT / "docs/monitoring.md").read_text(), re.M)) >= rules_recorded()


def test_the_shipped_objective_is_said_in_one_place(alerts: dict[str, dict[str, Any]]) -> None:
    assert FILES[0].read_text().count("vector(0.99)") == 1
    assert not [name for name, alert in alerts.items() if "0.99" in alert["query"] or "0.01 *" in alert["query"]]


# -- how many ------------------------------------------------------------------------------------------------------


async def scraped(routes: int, mailboxes: int) -> int:
    """Series of so many routes between so many accounts that have both servers, each writing to all others in turn."""
    accounts = {name: make_account(name, f"{name}@example.org") for name in (f"a{i}" for i in range(mailboxes))}
    pairs = [(a, b) for a in accounts for b in accounts if a != b]
    # by the difference of their numbers, so that few routes already reach every account
    pairs.sort(key=lambda pair: (int(pair[1][1:]) - int(pair[0][1:])) % mailboxes)
    configured = {f"r{i}": make_route(f"r{i}", *pairs[i]) for i in range(routes)}
    return sum(map(len, (await samples(accounts, configured)).values()))


async def test_the_document_tells_the_number_of_series() -> None:
    document = (ROOT / "docs/monitoring.md").read_text()
    said = re.search(
        r"From the start: (\d+) of the prober, (\d+) for each route .*?, (\d+) for each\s+watched", document, re.S
    )
    assert said
    own, of_a_route, of_a_mailbox = map(int, said.groups())
    assert await scraped(2, 2) - await scraped(1, 2) == of_a_route
    assert await scraped(3, 3) - await scraped(2, 2) == of_a_route + of_a_mailbox
    assert await scraped(1, 2) == own + of_a_route + 2 * of_a_mailbox
    of_routes = len([name for name in rules_recorded() if name.startswith("route:")])
    of_deadlines = len([name for name in rules_recorded() if name.startswith("route_deadline:")])
    rows = re.findall(r"^\| ([\d,]+) \| (\d+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", document, re.M)
    assert [row[0] for row in rows] == ["10", "100", "1,000"]
    for row in rows:
        routes, mailboxes, page, recorded_series, together = (int(cell.replace(",", "")) for cell in row)
        assert page == own + routes * of_a_route + mailboxes * of_a_mailbox
        assert recorded_series == 1 + routes * (of_routes + 2 * of_deadlines)
        assert together == page + recorded_series
    assert await scraped(100, 11) == int(rows[1][2].replace(",", ""))


async def test_each_deadline_makes_four_series() -> None:
    accounts = make_accounts()
    few, many = [
        sum(map(len, (await samples(accounts, {"r": make_route(deadlines=deadlines)})).values()))
        for deadlines in ((30.0,), (30.0, 60.0, 300.0))
    ]
    assert many - few == 2 * 4
