"""The dashboards: as the generator writes them, complete, of metrics that exist, and each query run on real data.

Rule: an empty panel on a machine that is well is either in the table below with its reason, or a mistake.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from grafana import state
from grafana.__main__ import DIRECTORY, texts
from grafana.page import DOCS
from probe.core.events import Instant
from probe.metrics import exposition

from . import hour
from .bed.mailbed import MailBed
from .bed.prometheus import Prometheus
from .bed.service import run_tool, wait_until
from .make import ROOT
from .process import Daemon, account, route
from .test_docs import documented_labels, exported_samples

Json = dict[str, Any]

PAGES: dict[str, Json] = {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(DIRECTORY.glob("*.json"))}
PANELS = [
    pytest.param(name, panel, id=f"{name}: {panel['title']}")
    for name, page in PAGES.items()
    for panel in page["panels"]
    if panel["type"] != "row"
]
# Not mailprobe's: what Prometheus says of a target, and of its alert rules.
PROMETHEUS = {
    "up": {"job", "instance"},
    "ALERTS": {"alertname", "alertstate", "severity", "route", "account"},
}
VARIABLES = {
    "$__rate_interval": "1m",
    "$__range": "1h",
    "$objective": "0.99",
    **dict.fromkeys(("$job", "$instance", "$route", "$account"), ".*"),
}
# A route's state ← what differs from a route that is well, as promtool writes series: "0x50 1x9" is 0, and since ten
# minutes 1. Evaluated after an hour.
WELL = {
    'route_info{recipient_account="a"}': "1x60",
    'mailbox_up{account="a"}': "1x60",
    'route_deadline_seconds{deadline="30"}': "30x60",
    'route_deadline_seconds{deadline="300"}': "300x60",
    "oldest_in_flight_seconds": "1x60",
    "in_flight_probes": "1x60",
    "last_arrival_timestamp_seconds": "1+60x60",
    'deadline_probes_total{deadline="30",met="true"}': "0+1x60",
    'deadline_probes_total{deadline="30",met="false"}': "0x60",
    'deadline_probes_total{deadline="30",met="unknown"}': "0x60",
    'submissions_total{outcome="accepted"}': "0+1x60",
    'submissions_total{outcome="failed"}': "0x60",
    'probes_skipped_total{reason="overslept"}': "0x60",
    "lost_probes_total": "0x60",
    'bounces_total{status="5.1"}': "0x60",
}
ACCEPTED, FAILED, SKIPPED = (key for key in WELL if "submissions" in key or "skipped" in key)
MET, MISSED, UNKNOWN = (key for key in WELL if "met=" in key)
OLDEST, WATCHED = "oldest_in_flight_seconds", 'mailbox_up{account="a"}'
STATES_OF = [
    (state.FINE, {}),
    (state.FINE, {FAILED: "0x50 1x9"}),  # others were accepted
    (state.FINE, {MISSED: "0x10 1x49"}),  # long ago
    (state.NEW, {"last_arrival_timestamp_seconds": "0x60"}),
    (state.LATE, {MISSED: "0x50 1x9"}),
    (state.UNSEEN, {UNKNOWN: "0x50 1x9"}),
    (state.UNSEEN, {WATCHED: "0x60"}),
    (state.UNSEEN, {WATCHED: "0x60", OLDEST: "0+60x60", MISSED: "0+1x60"}),  # old, but nobody looks
    (state.REFUSED, {ACCEPTED: "3x60", FAILED: "0+1x60"}),
    (state.REFUSED, {ACCEPTED: "3x60", SKIPPED: "0+1x60"}),
    (state.LOST, {"lost_probes_total": "0x20 1x39"}),
    (state.LOST, {'bounces_total{status="5.1"}': "0x20 1x39", MISSED: "0x50 1x9"}),
    (state.STUCK, {OLDEST: "0+60x60"}),  # a route that sends once a day: no deadline passed lately
    (state.STUCK, {OLDEST: "0+60x60", UNKNOWN: "0x50 1x9"}),  # somebody looks again
    (state.FINE, {OLDEST: "300x60"}),
    (state.STUCK, {OLDEST: "301x60"}),
    (state.STUCK, {OLDEST: "0+60x60", "lost_probes_total": "0x50 1x9"}),
]
# Page, title, metric → why it is empty after the hour
EMPTY: dict[tuple[str, str, str], str] = {}
# Alert → why it is not even pending in the hour
NEVER = {
    "MailprobeAbsent": "there is a target all the time",
    "MailprobeLawViolated": "there is no bug",
}


def queries(page: Json) -> Iterator[tuple[str, str, str]]:
    """Everything that a page asks Prometheus: where, the expression, the legend."""
    for panel in page["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"], target.get("legendFormat", "")
    for annotation in page["annotations"]["list"]:
        yield annotation["name"], annotation["expr"], annotation["titleFormat"]
    for variable in page["templating"]["list"]:
        if variable["type"] == "query":
            called = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert called
            yield variable["name"], called[1], f"{{{{{called[2]}}}}}"


QUERIES = [(name, *query) for name, page in PAGES.items() for query in queries(page)]


def selectors(expr: str) -> Iterator[tuple[str, dict[str, tuple[str, str]]]]:
    """Every metric in a query, with its matchers: label → (operator, value)."""
    for name, inside in re.findall(r"\b(mailprobe_\w+|up|ALERTS)\b(?:\{([^}]*)\})?", expr):
        yield (
            re.sub(r"(?<=_seconds)_(bucket|sum|count)$", "", name),
            {label: (sign, value) for label, sign, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', inside)},
        )


def test_what_is_checked_in_is_what_the_generator_writes() -> None:
    assert {file.name: file.read_text("utf-8") for file in DIRECTORY.iterdir()} == texts()


@pytest.mark.parametrize(("page", "panel"), PANELS)
def test_a_panel_says_what_it_is(page: str, panel: Json) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["title"]
    assert len(panel["description"]) > 20
    assert defaults["unit"]
    assert defaults["noValue"]
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    if panel["type"] in {"timeseries", "state-timeline"}:
        assert all(target["legendFormat"] for target in panel["targets"])
    if panel["type"] == "table":
        units = {o["matcher"]["options"]: {p["id"] for p in o["properties"]} for o in panel["fieldConfig"]["overrides"]}
        shown = panel["transformations"][-1]["options"]["renameByName"].values()
        assert all("unit" in units[column] for column in shown)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_no_two_panels_overlap(page: Json) -> None:
    taken: dict[tuple[int, int], int] = {}
    for panel in page["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for cell in itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])):
            assert taken.setdefault(cell, panel["id"]) == panel["id"], panel["title"]
    assert len({panel["id"] for panel in page["panels"]}) == len(page["panels"])


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_variable_that_a_page_uses_is_defined_there(page: Json) -> None:
    defined = {variable["name"] for variable in page["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(page)))
    assert used == defined


def complaints(expr: str, legend: str) -> Iterator[str]:
    """Metrics, labels and values in a query that nobody exports."""
    exported, labels = exported_samples(), documented_labels() | PROMETHEUS
    asked = list(selectors(expr))
    known = {"job", "instance", "le"}.union(*(labels.get(name, ()) for name, _ in asked))
    if not asked:
        yield "asks for no metric"
    for name, matchers in asked:
        if name not in labels:
            yield f"no metric {name}"
            continue
        for label, (sign, value) in matchers.items():
            if label not in labels[name] | {"job", "instance"}:
                yield f"{name} has no label {label}"
            elif "$" not in value and sign != "!~" and (samples := exported.get(name)):
                values = {sample[label] for sample in samples}
                yield from (f"{name} has no {label}={wanted}" for wanted in value.split("|") if wanted not in values)
    clauses = re.findall(r"\b(?:by|on|without|ignoring|group_left) ?\(([^)]*)\)", expr)
    named = {label.strip() for clause in clauses for label in clause.split(",")} | set(re.findall(r"{{(\w+)}}", legend))
    yield from (f"no label {label}" for label in named - known - {""})


@pytest.mark.parametrize(("page", "where", "expr", "legend"), QUERIES)
def test_a_query_names_what_is_exported(page: str, where: str, expr: str, legend: str) -> None:
    assert list(complaints(expr, legend)) == []


@pytest.mark.parametrize(
    ("expr", "legend"),
    [
        ("mailprobe_flying_probes{}", ""),
        ("mailprobe_in_flight_probes", "{{rout}}"),
        ('mailprobe_in_flight_probes{account="a"}', ""),
        ('mailprobe_deadline_probes_total{met="yes"}', ""),
        ('mailprobe_deadline_probes_total{met=~"true|yes"}', ""),
        ("sum by (reason) (mailprobe_in_flight_probes)", ""),
        ("vector(1)", ""),
    ],
)
def test_a_planted_mistake_in_a_query_is_found(expr: str, legend: str) -> None:
    assert list(complaints(expr, legend))


def test_every_metric_is_on_a_dashboard() -> None:
    assert documented_labels().keys() <= {name for *_, expr, _ in QUERIES for name, _ in selectors(expr)}


def test_links_lead_to_pages_that_exist_and_have_their_variables() -> None:
    variables = {page["uid"]: {variable["name"] for variable in page["templating"]["list"]} for page in PAGES.values()}
    links = re.findall(r'"/d/([\w-]+)\?([^"]*)"', "".join(texts().values()))
    assert {uid for uid, _ in links} == {"mailprobe-route", "mailprobe-prober"}
    for uid, arguments in links:
        assert set(re.findall(r"var-(\w+)|(\w+):queryparam", arguments)) <= {
            pair for name in variables[uid] for pair in ((name, ""), ("", name))
        }


def test_documents_are_where_the_project_says_that_they_are() -> None:
    alerts = (ROOT / "deploy/prometheus/alerts.yml").read_text()
    linked = set(re.findall(r'https?://[^"\s]*', "".join(texts().values())))
    linked |= {url.partition("#")[0] for url in re.findall(r"runbook_url: (\S+)", alerts)}
    assert {url.removeprefix(DOCS) for url in linked} == {"/runbook.md", "/monitoring.md"}
    for text in (alerts, (ROOT / "docs/monitoring.md").read_text()):
        assert f"sed -i 's|{DOCS}|" in text, "how to set one's own"


def test_delays_show_the_mails_they_are_made_of() -> None:
    for page in PAGES.values():
        for panel in page["panels"]:
            for target in panel.get("targets", ()):
                if "mailprobe_delivery_latency_seconds_bucket" in target["expr"]:
                    assert target["exemplar"], panel["title"]


def substituted(expr: str) -> str:
    """As Grafana sends it."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    assert "$" not in expr
    return expr


@pytest.mark.parametrize(("expected", "changed"), STATES_OF)
def test_a_route_is_as_bad_as_the_worst_that_is_true_of_it(
    expected: int, changed: dict[str, str], tmp_path: Path
) -> None:
    def series(key: str) -> str:
        metric, _, labels = key.removesuffix("}").partition("{")
        all_labels = ",".join(filter(None, ['job="m",instance="i",route="r"', labels]))
        return f"mailprobe_{metric}{{{all_labels}}}"

    case = {
        "interval": "1m",
        "input_series": [{"series": series(key), "values": values} for key, values in (WELL | changed).items()],
        "promql_expr_test": [
            {
                "expr": substituted(state.STATE),
                "eval_time": "1h",
                "exp_samples": [{"labels": '{route="r"}', "value": expected}],
            },
            {  # the rule on which the alerts rest
                "expr": "sum by (route) (route:mailprobe_stuck:bool == 1)",
                "eval_time": "1h",
                "exp_samples": [{"labels": '{route="r"}', "value": 1}] if expected == state.STUCK else [],
            },
        ],
    }
    file = tmp_path / "test.json"
    rules = ROOT / "deploy/prometheus/recording.yml"
    # One evaluation for each rule that another one rests on.
    file.write_text(json.dumps({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": [case]}))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# -- an hour ---------------------------------------------------------------------------------------------------------

RULES = [ROOT / "deploy/prometheus" / name for name in ("recording.yml", "alerts.yml")]


@dataclass(frozen=True)
class Past:
    """A Prometheus that knows an hour, and its end, a while ago."""

    prometheus: Prometheus
    end: int

    def during(self, expr: str) -> list[dict[str, str]]:
        """What has a value at some time of the hour."""
        found = self.prometheus.api(
            "query_range", query=expr, start=str(self.end - hour.HOUR), end=str(self.end), step=str(hour.SCRAPE)
        )
        return [
            it["metric"] for it in found["result"] if any(not math.isnan(float(value)) for _, value in it["values"])
        ]

    def at_its_end(self, expr: str) -> list[dict[str, str]]:
        """What has a value then; alerts are of now, for Prometheus does not fire for the past."""
        at = time.time() if "ALERTS" in expr else self.end
        found = self.prometheus.api("query", query=expr, time=str(at))["result"]
        return [it["metric"] for it in found if it["value"][1] != "NaN"]


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    directory = tmp_path_factory.mktemp("past")
    end = int(time.time()) // hour.SCRAPE * hour.SCRAPE
    began = Instant(float(end - hour.HOUR), 5_000.0, "boot-1")

    async def write() -> None:
        with (directory / "scrapes").open("w") as file:
            async for line in hour.stored(hour.Hour(directory / "ledger.sqlite", began).scrapes()):
                file.write(line + "\n")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exposition, "_FRESH", -1.0)  # its seconds are those of the wall
        asyncio.run(write())
    data = directory / "prometheus/data"
    run_tool("promtool", "tsdb", "create-blocks-from", "openmetrics", directory / "scrapes", data)
    prometheus = Prometheus(directory / "prometheus", rules=RULES)
    with prometheus:
        for _ in range(2):  # rules that rest on others see them the second time
            run_tool(
                "promtool", "tsdb", "create-blocks-from", "rules", f"--start={int(began.wall)}", f"--end={end}",
                f"--url=http://{prometheus.address}", f"--output-dir={data}", "--eval-interval=15s", RULES[0],
            )  # fmt: skip
            prometheus.stop()
            prometheus.start()
        firing = 'ALERTS{alertstate="firing"}'
        wait_until(lambda: prometheus.api("query", query=firing)["result"], 60, "alerts are firing")
        yield Past(prometheus, end)


def test_every_query_returns_data_after_an_hour_or_is_empty_for_a_reason(past: Past) -> None:
    panels = {(name, panel["title"]): panel for name, page in PAGES.items() for panel in page["panels"]}
    empty = set()
    for page, where, expr, legend in QUERIES:
        instant = any(target.get("instant") for target in panels.get((page, where), {}).get("targets", ()))
        ask = past.at_its_end if instant or "ALERTS" in expr else past.during
        found = ask(substituted(expr))
        for labels in found:  # a rule's labels depend on the rule
            assert set(re.findall(r"{{(\w+)}}", legend)) <= labels.keys() or "ALERTS" in expr, f"{page}: {where}"
        if not found:
            empty.add((page, where, expr))
    for page, title, metric in EMPTY:
        known = {it for it in empty if it[:2] == (page, title) and metric in it[2]}
        assert known, f"{page}: {title}: {metric} is not empty"
        empty -= known
    assert empty == set()


def test_every_alert_comes_in_an_hour_of_every_trouble(past: Past) -> None:
    groups = past.prometheus.api("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert not [rule["name"] for rule in rules if rule["type"] == "recording" and not past.during(rule["query"])]
    assert not [rule["name"] for rule in rules if rule["type"] == "recording" and not past.during(rule["name"])]
    alerts = {rule["name"] for rule in rules if rule["type"] == "alerting" and not past.during(rule["query"])}
    assert alerts == NEVER.keys()


def test_the_hour_has_every_metric_that_there_is(past: Past) -> None:
    known = {it["__name__"] for it in past.during('{__name__=~"mailprobe_.+"}')}
    assert {name if name in known else f"{name}_count" for name in documented_labels()} <= known
    assert not past.at_its_end("mailprobe_violations_total > 0")


def test_a_prometheus_scrapes_a_prober_with_its_exemplars(
    bed: MailBed, fresh_user: Callable[[], str], tmp_path: Path
) -> None:
    a, b = fresh_user(), fresh_user()
    config = account(bed, a) + account(bed, b) + route("there", a, b, "500ms", 'deadlines = ["1s"]')
    with (
        Daemon(tmp_path, config) as daemon,
        Prometheus(tmp_path / "prometheus", {"mailprobe": [daemon.url.removeprefix("http://")]}, RULES) as prometheus,
    ):

        def traces() -> Any:
            now, asked = time.time(), "mailprobe_delivery_latency_seconds_bucket"
            return prometheus.api("query_exemplars", query=asked, start=str(now - 60), end=str(now))

        daemon.until(lambda: prometheus.query("up == 1") and traces(), "a scrape with exemplars", 60)
        assert traces()[0]["exemplars"][0]["labels"]["probe"] in daemon.log()
        assert {it["__name__"] for it, _ in prometheus.query('{__name__=~"mailprobe_.+"}')} >= {
            name for name in documented_labels() if name.startswith("mailprobe_route_")
        }
        daemon.stop()
