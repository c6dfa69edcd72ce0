"""What is shipped beside the program says the truth: example configurations load, documents name real metrics."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client.core import Metric

from probe import clock, config, daemon, prober, recorder
from probe.core.outcome import Standing
from probe.core.reply import Reason
from probe.core.settings import Account, Route, Server
from probe.mail.imap import LostReason
from probe.metrics import Metrics

ROOT = Path(__file__).parents[1]
PASSWORDS = {f"MAILPROBE_ACCOUNTS__{name}__PASSWORD": "x" for name in ("IONOS", "OWN")}


def exported() -> Iterator[tuple[str, Metric]]:
    """Every metric by the name under which it is scraped."""
    metrics = Metrics("0", Standing, clock.now)
    a = Account("a", "a@example.org", "a", imap=Server("mail.example.org", 993, "implicit"))
    metrics.configure({"a": a}, {"r": Route("r", "a", "a")})
    families: list[Metric] = list(metrics.registry.collect())
    for family in families:
        yield family.name + {"counter": "_total", "info": "_info"}.get(family.type, ""), family


def exported_samples() -> dict[str, list[dict[str, str]]]:
    """The label sets with which each metric begins."""
    return {name: [sample.labels for sample in family.samples] for name, family in exported()}


def documented_labels() -> dict[str, set[str]]:
    """Every metric's labels, as the document has them."""
    rows = re.findall(r"^\| `(mailprobe_\w+)` \| [^|]+ \| ([^|]*)\|", (ROOT / "docs/monitoring.md").read_text(), re.M)
    return {name: {label.strip() for label in labels.split(",")} - {""} for name, labels in rows}


def test_every_metric_is_in_the_document_and_every_metric_in_the_document_exists() -> None:
    assert documented_labels().keys() == {name for name, _ in exported()}


def test_the_document_names_the_labels_that_are_exported() -> None:
    documented = documented_labels()
    for name, samples in exported_samples().items():
        if labels := {label for sample in samples for label in sample} - {"le"}:  # what has no sample shows no labels
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
    shown = "listen|page|username|keep_mails|asking|every|deadlines|lost_after"
    said, count = re.subn(rf"^# ((?:{shown}) = .*)$", r"\1", text, flags=re.M)
    assert count == len(shown.split("|"))
    file.write_text(said)
    assert config.load(file, {"HOME": str(tmp_path), **PASSWORDS}) == plain


def test_every_test_that_the_document_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/reliability.md").read_text()))
    sources = "".join(file.read_text() for file in (ROOT / "tests").glob("test_*.py"))
    assert named
    assert named <= set(re.findall(r"^(?:async )?def (test_\w+)", sources, re.M))


def shipped(file: str, after: str, key: str) -> int:
    """Seconds: what this key is there, first after those words."""
    found = re.search(
        rf"{re.escape(after)}\n(?:.*\n)*? +{key}: (\d+)([sm])$", (ROOT / "deploy" / file).read_text(), re.M
    )
    assert found, (file, key)
    return int(found[1]) * {"s": 1, "m": 60}[found[2]]


def test_the_document_tells_how_soon_it_is_told_that_mail_is_stuck() -> None:
    route = Route("r", "a", "b")
    judged = 2 * prober._TICK
    drawn = judged + signature(daemon.started).parameters["pace"].default
    evaluation = shipped("prometheus/prometheus.yml", "global:", "evaluation_interval")
    surely = shipped("prometheus/alerts.yml", "alert: MailprobeMailStuck", "for")
    surely += shipped("alertmanager/alertmanager.yml", "receiver: page", "group_wait")
    told = surely + shipped("prometheus/prometheus.yml", "global:", "scrape_interval") + evaluation
    spans = [(0, judged), (0, drawn), (0, judged), (0, drawn), (surely, told)]
    due = [min(route.deadlines)] * 2 + [max(route.deadlines)] * 3

    text = (ROOT / "docs/monitoring.md").read_text().partition("## How soon is it told?")[2].partition("\n## ")[0]
    rows = re.findall(r"^\|.*\| (\d+) to (\d+) s \| (\d+) to (\d+) s \|$", text, re.M)
    assert [tuple(map(int, row)) for row in rows] == [
        (least, most, at + least, at + route.every + most) for at, (least, most) in zip(due, spans, strict=True)
    ]
    assert f"told {30 + surely} to {20 + 30 + told} s after the provider stopped" in text.replace("\n", " ")
    group = shipped("alertmanager/alertmanager.yml", "route:", "group_interval")
    assert f"at most {group // 60} minutes later" in text
    assert f"more than {recorder._PATIENCE[1]:.0f} s, nobody can tell" in text
    assert f"another {evaluation} s pass" in text.replace("\n ", "")
    assert told <= 60, "the README says: within a minute after the deadline"


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
