"""What all pages share: variables, links, annotations, and how panels are put into rows.

Rule: a page is looked at from another one with the same time range, prober and data source.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

from grafana.panels import DATASOURCE, Column, Panel, grid
from grafana.queries import of_prober

# Where people can read docs/, also those of the alerts; docs/monitoring.md says how to put the address of your copy in.
# Not the daemon's own page: people who need the runbook cannot reach its 127.0.0.1, least of all when it is down.
PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
DOCS: str = PROJECT["urls"]["Documentation"]
RUNBOOK = f"{DOCS}/runbook.md"
# The name of every alert rule begins like this; ALERTS is Prometheus' own series of them.
ALERTS = 'ALERTS{alertname=~"Mailprobe.*"}'
FIRING = 'ALERTS{alertname=~"Mailprobe.*",alertstate="firing"}'

_KEPT = "${datasource:queryparam}&${job:queryparam}&${instance:queryparam}&${__url_time_range}"
ROUTE_PAGE = "/d/mailprobe-route?" + _KEPT + "&var-route=${__value.raw}"
PROBER_PAGE = "/d/mailprobe-prober?" + _KEPT

Variable = dashboard.QueryVariable | dashboard.DatasourceVariable | dashboard.CustomVariable


def datasource() -> Variable:
    """Which Prometheus."""
    return dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")


def choice(name: str, label: str, query: str, *, several: bool = True) -> Variable:
    """A label's values. All of them is `.*`: what is configured while the page is open appears, too."""
    variable = (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query({"query": f"label_values({query}, {name})", "refId": name})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.NATURAL_ASC)
    )
    if several:
        variable.multi(multi=True).include_all(include_all=True).all_value(".*")
        variable.current(model.VariableOption(text="All", value="$__all"))
    return variable


JOB = choice("job", "Job", "mailprobe_build_info")
INSTANCE = choice("instance", "Instance", 'mailprobe_build_info{job=~"$job"}')
ROUTES = choice("route", "Routes", of_prober("route_info"))
ROUTE = choice("route", "Route", of_prober("route_info"), several=False)
ACCOUNT = choice("account", "Account", of_prober("mailbox_up"))


def number(name: str, label: str, choices: dict[str, str], default: str) -> Variable:
    """A figure that queries use: text → value."""
    option = model.VariableOption(text=default, value=choices[default])
    values = ", ".join(f"{text} : {value}" for text, value in choices.items())
    return dashboard.CustomVariable(name).label(label).values(values).current(option)


OBJECTIVE = number("objective", "Objective", {"95 %": "0.95", "99 %": "0.99", "99.9 %": "0.999"}, "99 %")


def alerts(size: tuple[int, int]) -> Panel:
    """What is firing, and what is about to."""
    by = "alertname, alertstate, severity, route, account"
    return grid(
        "Alerts",
        "Alert rules of mailprobe that fire or are about to (*pending*). Not filtered by the variables above.",
        Column("Alert", label="alertname", link=RUNBOOK),
        Column("State", label="alertstate", width=80),
        Column("Severity", label="severity", width=90),
        Column("Route", label="route"),
        Column("Account", label="account"),
        Column("", f"sum by ({by}) ({ALERTS})"),
        empty="no alert is pending or firing",
        sort=["-State", "-Severity"],
        size=size,
    )


def _annotation(name: str, colour: str, query: str, title: str) -> dashboard.AnnotationQuery:
    target = Dataquery().expr(query).ref_id("A")
    found = dashboard.AnnotationQuery().name(name).datasource(DATASOURCE).enable(enable=True).icon_color(colour)
    return found.expr(query).title_format(title).target(target)


def _annotations() -> list[Builder[model.AnnotationQuery]]:
    taken = of_prober("config_last_reload_success_timestamp_seconds")
    version = of_prober("build_info")
    return [
        _annotation("Alerts", "red", FIRING, "{{alertname}} {{route}}{{account}}").step("60s"),
        _annotation(
            "Starts and reloads", "blue", f"1000 * {taken}", "configuration taken over by {{instance}}"
        ).use_value_for_time(use_value_for_time=True),
        # A version that was not there five minutes ago
        _annotation("Deployments", "purple", f"{version} unless {version} offset 5m", "{{version}} on {{instance}}"),
    ]


def make(
    title: str, text: str, variables: Sequence[Variable], rows: Sequence[tuple[str, Sequence[Panel]]], since: str
) -> model.Dashboard:
    """A page of titled rows; a row without title has no bar of its own."""
    board = (
        dashboard.Dashboard(f"mailprobe: {title}")
        .uid(f"mailprobe-{title}")
        .description(text)
        .tags(["mailprobe"])
        .timezone("browser")
        .refresh("30s")
        .time(since, "now")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .variables([datasource(), *variables])
        .annotations(_annotations())
        .links(
            [
                dashboard.DashboardLink("mailprobe")
                .type(model.DashboardLinkType.DASHBOARDS)
                .tags(["mailprobe"])
                .keep_time(keep_time=True)
                .include_vars(include_vars=True),
                _document("Runbook", RUNBOOK),
                _document("Metrics", f"{DOCS}/monitoring.md"),
            ]
        )
    )
    for name, panels in rows:
        if name:
            board.with_row(dashboard.Row(name))
        for panel in panels:
            board.with_panel(panel)
    made = board.build()
    for number_, panel_ in enumerate(made.panels or [], 1):
        panel_.id_val = number_
    return made


def _document(title: str, url: str) -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink(title)
        .type(model.DashboardLinkType.LINK)
        .icon("doc")
        .url(url)
        .target_blank(target_blank=True)
    )
