"""What is shipped beside the program says the truth: example configurations load, documents and dashboards name real
metrics."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client.core import Metric

from probe import clock, config
from probe.core.outcome import Standing
from probe.core.reply import Reason
from probe.core.settings import Account, Route, Server
from probe.mail.imap import LostReason
from probe.metrics import Metrics

from .bed.mailbed import MailBed
from .bed.prometheus import Prometheus
from .process import Daemon, account, route

ROOT = Path(__file__).parents[1]
PASSWORDS = {f"MAILPROBE_ACCOUNTS__{name}__PASSWORD": "x" for name in ("IONOS", "OWN")}


def exported() -> Iterator[tuple[str, set[str]]]:
    """Every metric as it is scraped, with its labels."""
    metrics = Metrics("0", Standing, clock.now)
    a = Account("a", "a@example.org", "a", imap=Server("mail.example.org", 993, "implicit"))
    metrics.configure({"a": a}, {"r": Route("r", "a", "a")})
    families: list[Metric] = list(metrics.registry.collect())
    for family in families:
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        yield family.name + suffix, {label for sample in family.samples for label in sample.labels} - {"le"}


def test_every_metric_is_in_the_document_and_every_metric_in_the_document_exists() -> None:
    table = (ROOT / "docs/monitoring.md").read_text()
    documented = set(re.findall(r"^\| `(mailprobe_\w+)` \|", table, re.M))
    assert documented == {name for name, _ in exported()}


def test_the_document_names_the_labels_that_are_exported() -> None:
    rows = re.findall(r"^\| `(mailprobe_\w+)` \| [^|]+ \| ([^|]*)\|", (ROOT / "docs/monitoring.md").read_text(), re.M)
    documented = {name: {label.strip() for label in labels.split(",")} - {""} for name, labels in rows}
    for name, labels in exported():
        if labels:  # what has no sample yet shows no labels
            assert documented[name] == labels, name


@pytest.mark.parametrize("name", ["README.md", "deploy/mailprobe.toml"])
def test_the_example_configuration_is_valid_as_it_stands(name: str, tmp_path: Path) -> None:
    text = (ROOT / name).read_text()
    if name.endswith(".md"):
        text = re.findall(r"```toml\n(.*?)```", text, re.S)[0]
        text = re.sub(r"^password_file.*$", "", text, flags=re.M)
    file = tmp_path / "mailprobe.toml"
    file.write_text(text)
    settings = config.load(file, {"HOME": str(tmp_path), **PASSWORDS})
    assert settings.warnings == ()
    assert settings.routes["ionos-to-own"].deadlines == (30, 300)


def test_the_defaults_that_the_example_shows_in_comments_are_the_defaults(tmp_path: Path) -> None:
    text = (ROOT / "deploy/mailprobe.toml").read_text()
    file = tmp_path / "mailprobe.toml"
    file.write_text(text)
    plain = config.load(file, {"HOME": str(tmp_path), **PASSWORDS})
    shown = "listen|username|keep_mails|asking|every|deadlines|lost_after"
    said, count = re.subn(rf"^# ((?:{shown}) = .*)$", r"\1", text, flags=re.M)
    assert count == len(shown.split("|"))
    file.write_text(said)
    assert config.load(file, {"HOME": str(tmp_path), **PASSWORDS}) == plain


def test_every_query_of_the_dashboard_runs_and_returns_data(
    bed: MailBed, fresh_user: Callable[[], str], tmp_path: Path
) -> None:
    dashboard = json.loads((ROOT / "grafana/overview.json").read_text())
    queries = {panel["title"]: panel["targets"][0]["expr"] for panel in dashboard["panels"]}
    a, b = fresh_user(), fresh_user()
    config_text = account(bed, a) + account(bed, b) + route("there", a, b, "500ms", 'deadlines = ["1s"]')
    with (
        Daemon(tmp_path, config_text) as daemon,
        Prometheus(tmp_path / "prometheus", {"mailprobe": [daemon.url.removeprefix("http://")]}) as prometheus,
    ):
        for title, expression in queries.items():
            query = expression.replace("$__rate_interval", "30s").replace("$route", ".*")
            daemon.until(lambda query=query: prometheus.query(query), f"data for {title!r}: {query}")
        daemon.stop()


def test_every_test_that_the_document_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/reliability.md").read_text()))
    sources = "".join(file.read_text() for file in (ROOT / "tests").glob("test_*.py"))
    assert named
    assert named <= set(re.findall(r"^(?:async )?def (test_\w+)", sources, re.M))


def test_every_reason_of_ours_is_explained() -> None:
    explained = set(re.findall(r"`([a-z_]+)`", (ROOT / "docs/monitoring.md").read_text().partition("## Reasons")[2]))
    assert {*get_args(Reason), *get_args(LostReason)} <= explained
    for name in ("net", "smtp", "imap", "imap_wire", "folder"):
        source = (ROOT / f"probe/mail/{name}.py").read_text()
        said = re.findall(r'(?:Unreachable\("\w+", |Unusable\(|return |\d: )"([a-z]+_[a-z_]+)"', source)
        assert set(said) <= explained | {"auth_backoff", "too_many_running"}, name


def test_every_link_between_the_documents_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^):#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_pinned_packages_name_no_address_and_no_path() -> None:
    for name in ("constraints.txt", "constraints-dev.txt", "constraints-fuzz.txt"):
        lines = (ROOT / name).read_text().splitlines()
        said = [line for line in lines if not line.startswith("    --hash=sha256:")]
        assert not [line for line in said if re.search(r"://|--index|--find-links|--trusted|(^|\s)/|@", line)], name


def test_constraints_pin_every_dependency_of_the_project_with_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(x for extra in ("demo", "speed") for x in project["optional-dependencies"][extra]),
    ]
    pins = (ROOT / "constraints.txt").read_text()
    for requirement in wanted:
        name = re.match(r"[\w.-]+", requirement)
        assert name
        assert re.search(rf"^{name[0]}==\S+ \\\n    --hash=sha256:", pins, re.M | re.I), requirement
