"""The whole chain: a provider's fault, mailprobe, Prometheus, Alertmanager, and the notification that somebody gets.

Rule: the shipped rules and the shipped configuration run; `quick` makes them faster and changes nothing else.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from .bed.alertmanager import Alertmanager, Notice, Receiver
from .bed.mailbed import MailBed, fresh_user
from .bed.netfault import FaultProxy
from .bed.prometheus import Prometheus
from .bed.service import PortBlock, run_tool, wait_until
from .make import ROOT
from .process import Daemon, account, route
from .test_daemon import answering, held

pytestmark = pytest.mark.timeout(90)

DEADLINE = 2.0
SHIPPED = ROOT / "deploy/alertmanager/alertmanager.yml"


def quick(text: str) -> str:
    """Rules and routing as they are shipped, an hour in seconds: every `for:` is 1 s, every range 5 s (a subquery
    stays: it only tells of the past), every wait for a group 1 s. Scraping and evaluation go at 1 s, too."""
    text = re.sub(r"^( *for:) \w+$", r"\1 1s", text, flags=re.M)
    text = re.sub(r"\[\d+[mhd]\]", "[5s]", text)
    return re.sub(r"^( *group_(?:wait|interval):) \w+$", r"\1 1s", text, flags=re.M)


def told_to(receiver: Receiver) -> str:
    """Alertmanager's configuration, with this receiver instead of the two of the example."""
    return quick(SHIPPED.read_text()).replace("127.0.0.1:9095", receiver.address)


# -- Alertmanager's part -------------------------------------------------------------------------------------------


def test_amtool_accepts_the_configuration() -> None:
    run_tool("amtool", "check-config", SHIPPED)


@pytest.mark.parametrize(("severity", "receiver"), [("page", "page"), ("ticket", "ticket"), ("else", "ticket")])
def test_severity_decides_who_is_told(severity: str, receiver: str) -> None:
    said = run_tool("amtool", "config", "routes", "test", f"--config.file={SHIPPED}", f"severity={severity}")
    assert said.strip() == receiver


def test_every_alert_that_the_configuration_names_exists() -> None:
    alerts = set(re.findall(r"- alert: (\w+)", (ROOT / "deploy/prometheus/alerts.yml").read_text()))
    named = [name.strip('"') for name in re.findall(r"alertname (?:=~|!=|=) (\"[^\"]+\"|\w+)", SHIPPED.read_text())]
    assert named
    for name in named:
        assert [alert for alert in alerts if re.fullmatch(name, alert)], name
        for part in re.findall(r"Mailprobe\((.*)\)", name):
            for one in part.split("|"):
                assert [alert for alert in alerts if re.fullmatch(f"Mailprobe{one}", alert)], one


PROBER = {"job": "mailprobe", "instance": "p"}
ANOTHER = {"job": "mailprobe", "instance": "q"}
ROUTE = {"route": "r", "sender_account": "gmx", "recipient_account": "own"}
OTHER = {"route": "o", "sender_account": "web", "recipient_account": "gmail"}


BURNS = ["DeadlinesMissed", "DelayHigh", "ErrorBudgetBurnFast", "ErrorBudgetBurnSlow"]


@pytest.mark.parametrize(
    ("because", "source", "silent", "still"),
    [
        ("Down", {}, ["MailStuck", "Blind", "NothingSent", "LoopStalled"], []),
        (
            "Blind",
            {"account": "own", "recipient_account": "own"},
            ["MailStuck", "UnknownHigh", *BURNS],
            ["NothingSent"],
        ),
        ("ProviderIncomingStuck", {"recipient_account": "own"}, ["MailStuck", *BURNS], ["MailInJunk", "UnknownHigh"]),
        ("ProviderOutgoingStuck", {"sender_account": "gmx"}, ["MailStuck", *BURNS], ["MailBounced"]),
        ("MailStuck", ROUTE, BURNS, ["MailLost", "NothingSent"]),
        ("ErrorBudgetBurnFast", ROUTE, ["DeadlinesMissed", "DelayHigh", "ErrorBudgetBurnSlow"], ["MailBounced"]),
        ("SubmissionFailing", ROUTE, ["NothingSent"], ["MailStuck"]),
        ("LedgerNotWritable", {}, ["NothingSent"], ["MailStuck"]),
    ],
)
def test_what_follows_from_another_alert_is_silent(
    because: str, source: dict[str, str], silent: list[str], still: list[str], tmp_path: Path
) -> None:
    with Receiver() as receiver, Alertmanager(tmp_path, told_to(receiver)) as alertmanager:
        about = [(name, where) for name in silent + still for where in (PROBER | ROUTE, ANOTHER | ROUTE)]
        if source:  # what another route tells has its own cause
            about += [(name, PROBER | OTHER) for name in silent]
        alertmanager.post(
            labels | {"alertname": f"Mailprobe{name}", "severity": "page"}
            for name, labels in [(because, PROBER | source), *about]
        )
        wanted = sorted((f"Mailprobe{name}", "p", "r") for name in silent)

        def silenced() -> list[tuple[str, str, str]]:
            told = [(it["labels"], it) for it in alertmanager.alerts()]
            cause = next(
                it for labels, it in told if (labels["alertname"], labels["instance"]) == (f"Mailprobe{because}", "p")
            )
            by_it = [labels for labels, it in told if cause["fingerprint"] in it["status"]["inhibitedBy"]]
            return sorted((labels["alertname"], labels["instance"], labels["route"]) for labels in by_it)

        # Alertmanager takes an alert for a cause a moment after it has accepted it.
        wait_until(lambda: len(alertmanager.alerts()) > len(about) and silenced() == wanted, 10, f"silent: {wanted}")


def test_the_same_fault_of_many_routes_is_one_notification(tmp_path: Path) -> None:
    with Receiver() as receiver, Alertmanager(tmp_path, told_to(receiver)) as alertmanager:
        stuck = {"alertname": "MailprobeMailStuck", "severity": "page", **PROBER}
        alertmanager.post(stuck | {"route": f"r{number}", "sender_account": f"a{number}"} for number in range(50))
        wait_until(lambda: len(receiver.told("MailprobeMailStuck", "firing")) == 50, 10, "all are told")
        assert len({notice.notification for notice in receiver.notices}) == 1
        assert {notice.receiver for notice in receiver.notices} == {"/page"}


# -- the chain -----------------------------------------------------------------------------------------------------


@dataclass
class Chain:
    """Everything that runs, with a route of its own for each fault: "held", "blind", "bounced" and "junk".

    The last three have a sender in common.
    """

    bed: MailBed
    daemon: Daemon
    prometheus: Prometheus
    alertmanager: Alertmanager
    receiver: Receiver
    imap: FaultProxy  # before the mailbox of "blind"
    users: dict[str, str]  # the recipient, by route
    common: str  # the sender of three

    def told(self, alert: str, status: str, since: float, timeout: float = 30.0, **labels: str) -> Notice:
        """Wait for the notification."""
        found = self.daemon.until(
            lambda: self.receiver.told(alert, status, since, **labels), f"{alert}{labels} {status}", timeout
        )
        assert isinstance(found, list)
        notice = found[0]
        assert isinstance(notice, Notice)
        return notice

    @contextmanager
    def reports(self, fault: AbstractContextManager[object], alert: str, to: str, **labels: str) -> Iterator[Notice]:
        """While the fault lasts, the alert is told; when it is over, its end. The times are printed (pytest -s)."""
        began = time.monotonic()
        with fault:
            notice = self.told(alert, "firing", began, **labels)
            assert notice.receiver == to
            yield notice
        over = time.monotonic()
        end = self.told(alert, "resolved", over, **labels)
        print(f"{alert}: told after {notice.at - began:.1f} s, its end after {end.at - over:.1f} s")


@pytest.fixture(scope="module")
def chain(bed: MailBed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    root = tmp_path_factory.mktemp("chain")
    rules = []
    for name in ("recording.yml", "alerts.yml"):
        rules.append(root / name)
        rules[-1].write_text(quick((ROOT / "deploy/prometheus" / name).read_text()))
    with ExitStack() as stack:
        imap = stack.enter_context(FaultProxy(bed.ports["imaps"]))
        receiver = stack.enter_context(Receiver())
        alertmanager = stack.enter_context(Alertmanager(root / "alertmanager", told_to(receiver)))
        block = PortBlock()
        stack.callback(block.close)
        users, alone, common = {}, fresh_user(), fresh_user()
        text = account(bed, alone) + account(bed, common)
        for name in ("held", "blind", "bounced", "junk"):
            sender, users[name] = alone if name == "held" else common, fresh_user()
            text += account(bed, users[name], imap_port=imap.port if name == "blind" else None)
            text += route(name, sender, users[name], "1s", f'deadlines = ["1s", "{DEADLINE:g}s"]')
        (root / "mailprobe").mkdir()
        daemon = stack.enter_context(Daemon(root / "mailprobe", text, block.base))
        target = daemon.url.removeprefix("http://")
        prometheus = stack.enter_context(
            Prometheus(root / "prometheus", {"mailprobe": [target]}, rules, alertmanager=alertmanager.address)
        )
        running = Chain(bed, daemon, prometheus, alertmanager, receiver, imap, users, common)
        arrived = "count(increase(mailprobe_delivery_latency_seconds_count[5s]) > 1)"
        wait_until(
            lambda: dict(enumerate(prometheus.query(arrived))).get(0, ({}, 0))[1] == len(users), 30, "all goes well"
        )
        yield running
        daemon.stop()


def test_mail_that_is_held_is_told_and_its_release_too(chain: Chain) -> None:
    began = time.monotonic()
    with chain.reports(held(chain.bed), "MailprobeMailStuck", "/page", route="held") as notice:
        assert notice.annotations["runbook_url"].endswith("docs/runbook.md#mailprobemailstuck")
        assert "the longest deadline is 2s" in notice.annotations["description"]
        # The other routes have their sender in common, and are one fault.
        wide = chain.told("MailprobeProviderOutgoingStuck", "firing", began, sender_account=chain.common)
        assert wide.receiver == "/page"

        def silenced() -> set[str]:
            told = chain.alertmanager.alerts()
            stuck = [it for it in told if it["labels"]["alertname"] == "MailprobeMailStuck"]
            return {it["labels"]["route"] for it in stuck if it["status"]["state"] == "suppressed"}

        chain.daemon.until(lambda: silenced() == {"blind", "bounced", "junk"}, "what follows is silent")


def test_every_rule_is_evaluated_on_live_data(chain: Chain) -> None:
    """Without an error, and on series that are there: an alert that is quiet is so because all is well."""

    def rules() -> list[dict[str, str]]:
        return [rule for group in chain.prometheus.api("rules")["groups"] for rule in group["rules"]]

    chain.daemon.until(lambda: all(rule["health"] == "ok" for rule in rules()), "every rule has been evaluated")
    metrics: set[str] = set()
    for rule in rules():
        assert "lastError" not in rule, rule
        metrics |= set(re.findall(r"(?:\w+:)?mailprobe[_:][\w:]+", rule["query"]))
        if rule["type"] == "recording":
            chain.daemon.until(lambda name=rule["name"]: chain.prometheus.query(f"{name} >= 0"), rule["name"])
    assert len(metrics) > 30
    for metric in metrics:
        chain.daemon.until(lambda metric=metric: chain.prometheus.query(metric), metric)


def test_a_blind_prober_is_told_and_says_nothing_about_mail(chain: Chain) -> None:
    @contextmanager
    def blinded() -> Iterator[None]:
        chain.imap.refuse = True
        chain.imap.cut()
        try:
            yield
        finally:
            chain.imap.refuse = False

    began, who = time.monotonic(), chain.users["blind"]
    with chain.reports(blinded(), "MailprobeBlind", "/page", account=who, recipient_account=who):
        old = f'mailprobe_oldest_in_flight_seconds{{route="blind"}} > {DEADLINE + 3}'
        chain.daemon.until(lambda: chain.prometheus.query(old), "mail is in flight beyond its deadline")
    assert chain.receiver.told("MailprobeMailStuck", "firing", began, route="blind") == []


def test_mail_that_comes_back_is_told(chain: Chain) -> None:
    fault = answering(chain.bed, chain.users["bounced"], "error:5.7.1 not wanted here")
    with chain.reports(fault, "MailprobeMailBounced", "/ticket", route="bounced"):
        pass


def test_mail_that_goes_to_junk_is_told(chain: Chain) -> None:
    @contextmanager
    def junk() -> Iterator[None]:
        chain.bed.postfix.set(header_checks="regexp:{{/^Subject: (.*)/ REPLACE Subject: [spam] $1}}")
        try:
            yield
        finally:
            chain.bed.postfix.set(header_checks="")

    with chain.reports(junk(), "MailprobeMailInJunk", "/ticket", route="junk"):
        pass


def test_a_prober_that_was_killed_is_told_and_nothing_else(chain: Chain) -> None:
    @contextmanager
    def killed() -> Iterator[None]:
        chain.daemon.kill()
        try:
            yield
        finally:
            chain.daemon.start()

    with chain.reports(killed(), "MailprobeDown", "/page") as notice:
        assert "does not answer" in notice.annotations["summary"]
        others = [it for it in chain.receiver.notices if it.at > notice.at and it.status == "firing"]
        assert {it.labels["alertname"] for it in others} <= {"MailprobeDown"}
