"""The commands that need a configuration and measure by it: run, once, check, status."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import sys
from datetime import datetime

import click

from probe import log
from probe.cli.common import (
    Options,
    fail,
    load,
    seconds_of,
    settings_of,
    terminal,
    to_the_end,
    with_config,
    with_listen,
)
from probe.core.settings import Settings
from probe.ledger import LedgerError

_PATIENCE = 300.0  # seconds that a route without deadlines is waited for


@click.command(short_help="Probe for good: the daemon.")
@with_config
@with_listen
@click.pass_obj
def run(options: Options) -> None:
    """Probe for good: the daemon.

    Serves metrics for Prometheus, re-reads the configuration on SIGHUP, ends on SIGTERM.
    """
    from probe import daemon

    settings = settings_of(options)
    log.configure(os.environ)
    faulthandler.enable()  # the watchdog's SIGABRT leaves every thread's stack in the log: where the deadlock was
    for warning in settings.warnings:
        log.log.warning(log.line("config", warning=warning))
    to_the_end(daemon.run(settings, lambda: load(options)))


@click.command(short_help="Send one probe and watch it arrive.")
@with_config
@click.argument("route")
@click.option("--timeout", metavar="DURATION", help="How long to wait for the mail.  [default: the last deadline]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the timeline.")
@click.pass_obj
def once(options: Options, route: str, timeout: str | None, as_json: bool) -> None:
    """Send one probe on ROUTE and watch it arrive.

    Exits as monitoring plugins do: 0 in time; 1 later than a deadline, or not in the inbox; 2 not accepted, not there,
    or later than every deadline; 3 when it cannot be said.
    """
    from probe.once import Step
    from probe.once import once as send_one
    from probe.terminal import show

    settings = settings_of(options, exit_code=3)
    if route not in settings.routes:
        fail(f"there is no route {route!r}; there are: {', '.join(settings.routes)}", 3)
    wanted = settings.routes[route]
    seconds = seconds_of("--timeout", timeout, 3) if timeout else max(wanted.deadlines, default=_PATIENCE)
    log.configure(os.environ, logging.CRITICAL)
    console = terminal()
    steps: list[Step] = []

    def tell(step: Step) -> None:
        steps.append(step)
        if not as_json:
            console.print(show.step(step))

    if not as_json:
        console.print(show.route(settings, wanted))
    result = to_the_end(send_one(settings, wanted, seconds, tell))
    if as_json:
        click.echo(json.dumps(show.as_json(result, steps)))
    else:
        if result.probe and result.probe.traced:
            console.print(show.way(result.probe.traced))
        console.print(show.verdict(result), soft_wrap=True)
    sys.exit(("ok", "warning", "critical", "unknown").index(result.verdict))


@click.command(short_help="Look at the configuration and every account.")
@with_config
@click.option("--send", is_flag=True, help="Also send one probe on every route.")
@click.pass_obj
def check(options: Options, send: bool) -> None:
    """Look at the configuration and at every account: what it can do, and what is wrong.

    Connects and logs in everywhere. Exits with 0 when all is fine, 1 when something works but should be mended, 2 when
    something does not work.
    """
    settings = settings_of(options)
    log.configure(os.environ, logging.CRITICAL)
    sys.exit(to_the_end(_check(options, settings, send)))


async def _check(options: Options, settings: Settings, send: bool) -> int:
    from probe.check import Finding
    from probe.check import check as findings_about
    from probe.once import once as send_one
    from probe.terminal import show

    console = terminal()
    worst = 0

    def tell(finding: Finding) -> None:
        nonlocal worst
        worst = max(worst, ("ok", "warning", "bad").index(finding.level))
        console.print(show.finding(finding), soft_wrap=True)

    console.print(f"{options.config}: accounts: {len(settings.accounts)}, routes: {len(settings.routes)}", markup=False)
    for warning in settings.warnings:
        tell(Finding("", "warning", warning))
    for account in settings.accounts.values():
        console.print(f"\n[bold]{account.name}[/]  {account.address}", highlight=False)
        async for finding in findings_about(account):
            tell(finding)
    for route in settings.routes.values() if send else ():
        console.print(show.route(settings, route))
        result = await send_one(
            settings, route, max(route.deadlines, default=_PATIENCE), lambda step: console.print(show.step(step))
        )
        console.print(show.verdict(result), soft_wrap=True)
        worst = max(worst, {"ok": 0, "warning": 1}.get(result.verdict, 2))
    return worst


@click.command(short_help="Say how all routes are now.")
@with_config
@with_listen
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.pass_obj
def status(options: Options, as_json: bool) -> None:
    """Say how all routes are now: the worst first, what is in flight, open incidents, and how the prober itself is.

    Asks the running daemon; where none answers, it says what the ledger tells, and how old that is. The column "in
    time" is of the last 24 hours. Exits as monitoring plugins do: 0 all is well; 1 a route is slow or recovering; 2 one
    is stuck or failing; 3 one is not seen, or nothing is known.
    """
    from probe.standing import exit_code, standing
    from probe.terminal import glance

    settings = settings_of(options, exit_code=3)
    try:
        told = standing(settings)
    except LedgerError as error:
        fail(f"no daemon answers, and {error}", 3)
    if as_json:
        click.echo(json.dumps(told))
    else:
        console = terminal()
        console.print(glance.view(told, datetime.now().astimezone(), console.width))
    sys.exit(exit_code(told))
