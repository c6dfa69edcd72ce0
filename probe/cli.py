"""The command line: parses, calls, prints. The only module that prints; how things look is in show.py.

Exit codes: 0 fine; 2 for a configuration that cannot be used (3 from `once`, as monitoring plugins ask); 75 for what
may pass by itself, such as a full disk, so that trying again is worth it; else as each command says.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import faulthandler
import gc
import json
import logging
import math
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from zoneinfo import ZoneInfo

import click

from probe import __version__, clock, config, keyfile, log
from probe.core.phrases import Language
from probe.core.settings import Settings
from probe.ledger import LedgerError
from probe.scenarios import BEGINS, SCENARIOS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from probe.demo import Stage

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])
_DEFAULT_CONFIG = "/etc/mailprobe/mailprobe.toml"
_LISTEN = "127.0.0.1:10925"
_PATIENCE = 300.0  # seconds that a route without deadlines is waited for


@dataclasses.dataclass(frozen=True, slots=True)
class _Options:
    config: Path = Path(os.environ.get("MAILPROBE_CONFIG") or _DEFAULT_CONFIG)
    listen: str | None = None


def _option(*names: str, into: str, **more: Any) -> Callable[[_F], _F]:
    """An option that may stand before or after the command; the later one wins."""

    def remember(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value is not None:
            context.obj = dataclasses.replace(context.find_object(_Options) or _Options(), **{into: value})

    return click.option(*names, expose_value=False, callback=remember, **more)


_config = _option(
    "-c", "--config", into="config", type=click.Path(path_type=Path), metavar="FILE",
    help=f"The configuration.  [default: $MAILPROBE_CONFIG, else {_DEFAULT_CONFIG}]",
)  # fmt: skip
_listen = _option(
    "--listen", into="listen", metavar="HOST:PORT", help=f"Where to serve the page and /metrics.  [default: {_LISTEN}]"
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@_config
@_listen
@click.version_option(__version__, "-V", "--version", prog_name="mailprobe", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Send test mails through mail providers, see them arrive, and measure how long each one held them.

    Try `mailprobe demo` first: it needs no account. Then write a configuration, let `mailprobe check` look at it, send
    a single mail with `mailprobe once ROUTE`, and leave `mailprobe run` running.
    """
    context.ensure_object(_Options)


# -- run -----------------------------------------------------------------------------------------------------------


@main.command(short_help="Probe for good: the daemon.")
@_config
@_listen
@click.pass_obj
def run(options: _Options) -> None:
    """Probe for good: the daemon.

    Serves metrics for Prometheus, re-reads the configuration on SIGHUP, ends on SIGTERM.
    """
    from probe import daemon

    settings = _settings(options)
    log.configure(os.environ)
    faulthandler.enable()  # the watchdog's SIGABRT leaves every thread's stack in the log: where the deadlock was
    for warning in settings.warnings:
        log.log.warning(log.line("config", warning=warning))
    _run(daemon.run(settings, lambda: _load(options)))


# -- once ----------------------------------------------------------------------------------------------------------


@main.command(short_help="Send one probe and watch it arrive.")
@_config
@click.argument("route")
@click.option("--timeout", metavar="DURATION", help="How long to wait for the mail.  [default: the last deadline]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the timeline.")
@click.pass_obj
def once(options: _Options, route: str, timeout: str | None, as_json: bool) -> None:
    """Send one probe on ROUTE and watch it arrive.

    Exits as monitoring plugins do: 0 in time; 1 later than a deadline, or not in the inbox; 2 not accepted, not there,
    or later than every deadline; 3 when it cannot be said.
    """
    from probe import show
    from probe.once import Step
    from probe.once import once as send_one

    settings = _settings(options, exit_code=3)
    if route not in settings.routes:
        _fail(f"there is no route {route!r}; there are: {', '.join(settings.routes)}", 3)
    wanted = settings.routes[route]
    seconds = _duration(timeout) if timeout else max(wanted.deadlines, default=_PATIENCE)
    log.configure(os.environ, logging.CRITICAL)
    console = _console()
    steps: list[Step] = []

    def tell(step: Step) -> None:
        steps.append(step)
        if not as_json:
            console.print(show.step(step))

    if not as_json:
        console.print(show.route(settings, wanted))
    result = _run(send_one(settings, wanted, seconds, tell))
    if as_json:
        click.echo(json.dumps(show.as_json(result, steps)))
    else:
        if result.probe and result.probe.traced:
            console.print(show.way(result.probe.traced))
        console.print(show.verdict(result), soft_wrap=True)
    sys.exit(("ok", "warning", "critical", "unknown").index(result.verdict))


# -- check ---------------------------------------------------------------------------------------------------------


@main.command(short_help="Look at the configuration and every account.")
@_config
@click.option("--send", is_flag=True, help="Also send one probe on every route.")
@click.pass_obj
def check(options: _Options, send: bool) -> None:
    """Look at the configuration and at every account: what it can do, and what is wrong.

    Connects and logs in everywhere. Exits with 0 when all is fine, 1 when something works but should be mended, 2 when
    something does not work.
    """
    settings = _settings(options)
    log.configure(os.environ, logging.CRITICAL)
    sys.exit(_run(_check(options, settings, send)))


async def _check(options: _Options, settings: Settings, send: bool) -> int:
    from probe import show
    from probe.check import Finding
    from probe.check import check as findings_about
    from probe.once import once as send_one

    console = _console()
    worst = 0

    def tell(finding: Finding) -> None:
        nonlocal worst
        worst = max(worst, ("ok", "warning", "bad").index(finding.level))
        console.print(show.finding(finding), soft_wrap=True)

    console.print(
        f"{options.config}: {len(settings.accounts)} accounts, {len(settings.routes)} routes", highlight=False
    )
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


# -- status --------------------------------------------------------------------------------------------------------


@main.command(short_help="Say how all routes are now.")
@_config
@_listen
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.pass_obj
def status(options: _Options, as_json: bool) -> None:
    """Say how all routes are now: the worst first, what is in flight, open incidents, and how the prober itself is.

    Asks the running daemon; where none answers, it says what the ledger tells, and how old that is. The column "in
    time" is of the last 24 hours. Exits as monitoring plugins do: 0 all is well; 1 a route is slow or recovering; 2 one
    is stuck or failing; 3 one is not seen, or nothing is known.
    """
    from probe import glance
    from probe.standing import exit_code, standing

    settings = _settings(options, exit_code=3)
    try:
        told = standing(settings)
    except LedgerError as error:
        _fail(f"no daemon answers, and {error}", 3)
    if as_json:
        click.echo(json.dumps(told))
    else:
        console = _console()
        console.print(glance.view(told, datetime.now().astimezone(), console.width))
    sys.exit(exit_code(told))


# -- trace ---------------------------------------------------------------------------------------------------------


@main.command(short_help="Explain which way a mail took.")
@click.argument("files", nargs=-1, metavar="[FILE|-]...", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per mail, one a line.")
def trace(files: tuple[Path, ...], as_json: bool) -> None:
    """Explain the way of any mail by its header: who had it for how long, as far as its stamps tell.

    FILE is a message (.eml), an mbox, or header lines that were copied from somewhere; - or nothing: standard input.
    Exits with 1 where no mail with a Received header was found.
    """
    from probe import traced
    from probe.core.explain import explain
    from probe.core.mailfile import headers

    console = _console()
    empty = False
    for file in files or (Path("-"),):
        name = "standard input" if str(file) == "-" else str(file)
        try:
            raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        except OSError as error:
            _fail(f"{name}: {error.strerror}")
        mails = [mail for mail in map(explain, headers(raw)) if mail.hops]
        if not mails:
            click.echo(
                f"mailprobe: {name}: no Received header in it; give a message, an mbox, or header lines", err=True
            )
            empty = True
        for mail in mails:
            if as_json:
                click.echo(json.dumps(traced.data(mail, name)))
            else:
                console.print(traced.view(mail, console.width))
    sys.exit(1 if empty else 0)


# -- demo ----------------------------------------------------------------------------------------------------------


_STORIES = "\n".join(f"{name:<12} {story.about}" for name, story in SCENARIOS.items())


@main.command(
    short_help="Try it out against an embedded provider.",
    help="Probe an embedded mail provider on this machine: no account needed, nothing leaves it.\n\n"
    "It plays a SCENARIO, faster than it would happen: daemon, provider and mails are real, and live by a clock of "
    f"their own. At the end, what was measured is held against what the provider really did.\n\n\b\n{_STORIES}",
)
@_listen
@click.argument("scenario", type=click.Choice(list(SCENARIOS)), default="outage", metavar="[SCENARIO]")
@click.option("--speed", type=click.FloatRange(min=1), metavar="N", help="Seconds of the story per second, or inf.")
@click.option("--real-time", "speed", flag_value=1.0, help="By the machine's clock: the same as --speed 1.")
@click.option("--for", "limit", metavar="DURATION", help="End after this real time.  [default: when the story ends]")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where the report goes.  [default: a new file in /tmp]",
)
@click.pass_obj
def demo(options: _Options, scenario: str, speed: float | None, limit: str | None, report: Path | None) -> None:
    """What the help says above."""
    seconds = _duration(limit) if limit else math.inf
    log.configure(os.environ, logging.CRITICAL)
    try:
        from probe import demo as embedded
        from probe.world import Loop, World
    except ImportError as error:
        _fail(f"the demo needs more packages ({error.name} is missing): pip install 'mailprobe[demo]'")
    try:
        host, port = config.listen_address(options.listen or _free(_LISTEN))
    except ValueError as error:
        _fail(f"--listen: {error}")
    story = SCENARIOS[scenario]
    speed = speed or story.speed
    world = World(BEGINS, speed) if speed > 1 else None

    async def show_it() -> None:
        rng = random.Random()  # noqa: S311 - delays and phases
        async with embedded.started(story, world, host, port, rng) as stage:
            at = f"[{host}]" if ":" in host else host
            await _show_demo(stage, f"http://{at}:{stage.running.port}", seconds)
            await _demo_report(stage, report)

    _run(show_it(), (lambda: Loop(world)) if world else None)


async def _show_demo(stage: Stage, url: str, limit: float) -> None:
    from rich.live import Live

    from probe import show

    console = _console()
    view = stage.running.views

    def top() -> Text:
        return show.heading(stage.running.prober.clock(), stage.speed)

    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            async for _ in _beats(0.2, limit, stage):
                live.update(show.board(top(), view(), stage.says, stage.news, url), refresh=True)
    else:
        told = None
        async for _ in _beats(2.0, limit, stage):
            if told is None:
                click.echo(f"page: {url}/   prometheus: {url}/metrics")
            for item in stage.news[told:]:
                click.echo(show.news_line(*item))
            told = len(stage.news)
            click.echo(f"{top()}\n  {show.board_line(view())}")
    accepted, delivered = stage.running.board.accepted.total(), stage.running.board.delivered.total()
    flying = sum(view.in_flight for view in stage.running.views())
    console.print(show.comparison(stage.compare()))
    click.echo(f"{accepted} test mails accepted, {delivered} measured, {flying} still in flight.")


async def _demo_report(stage: Stage, path: Path | None) -> None:
    """What a customer would send to the provider; made from the replay's ledger, which goes with it."""
    from probe.report import file, render
    from probe.report.gather import Wanted, collect

    ledger, now = stage.running.prober.settings.state_dir / "ledger.sqlite", clock.now().wall
    found = await collect(ledger, (), Wanted(stage.began, now, now, "en", ZoneInfo("UTC"), 20))
    what = "a replay" if stage.speed > 1 else "a play"
    text = render(dataclasses.replace(found, program=f"{found.program}: {what} with an embedded provider"), "html")
    if path is None:
        descriptor, name = tempfile.mkstemp(".html", "mailprobe-demo-")
        os.close(descriptor)
        path = Path(name)
    file.save(path, text, force=True)
    click.echo(f"The report on it: {path} (as you would send it; mailprobe verify looks whether it was changed)")


async def _beats(every: float, limit: float, stage: Stage) -> AsyncIterator[None]:
    """Every so many real seconds, whatever the loop's clock does; until Ctrl-C, the limit or the story's end."""
    stop, beat = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: (stop.set(), beat.set()))  # type: ignore[func-returns-value]
    loop.add_signal_handler(signal.SIGALRM, beat.set)
    end = time.monotonic() + limit
    signal.setitimer(signal.ITIMER_REAL, min(every, limit), every)
    try:
        while not (stop.is_set() or stage.over or time.monotonic() >= end):
            yield
            await beat.wait()
            beat.clear()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _free(address: str) -> str:
    """This address, or any free port when somebody listens there already (a daemon, another demo)."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_server((host, int(port))).close()
    except OSError:
        return f"{host}:0"
    return address


# -- report, verify ------------------------------------------------------------------------------------------------


@main.command(short_help="Put together the evidence, as a document.")
@_config
@click.option("--since", default="", metavar="TIME", help="2007-01-26, 2007-01-26T09:02+01:00, or 7d.  [default: 24h]")
@click.option("--until", default="", metavar="TIME", help="The same; a date is its whole day.  [default: now]")
@click.option("--route", "routes", multiple=True, metavar="ROUTE", help="Only this one; may be repeated.")
@click.option("--format", "form", type=click.Choice(("html", "md", "json", "csv")), default="html", show_default=True)
@click.option("--lang", type=click.Choice(("en", "de")), default="en", show_default=True)
@click.option("--tz", default="UTC", metavar="ZONE", help="Also tell times there, such as Europe/Berlin.")
@click.option("--details", default=20, metavar="N", help="The way through the servers of so many.", show_default=True)
@click.option(
    "--heads", is_flag=True, help="Only the heads of the chains, a line for each route and day, for a witness."
)
@click.option("--ledger", type=click.Path(path_type=Path), metavar="FILE", help="Instead of the configuration's.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Instead of standard output.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.pass_obj
def report(
    options: _Options,
    since: str,
    until: str,
    routes: tuple[str, ...],
    form: str,
    lang: Language,
    tz: str,
    details: int,
    heads: bool,
    ledger: Path | None,
    output: Path | None,
    force: bool,
) -> None:
    """Put together the evidence of a span of time, as a document that can be sent and verified.

    Every mail that was late, lost, returned, refused or is not there yet, with all instants and what the servers said.
    """
    from probe.report import file, render
    from probe.report.gather import Wanted, collect, collect_heads
    from probe.report.span import span, zone

    now = clock.now().wall
    try:
        place = zone(tz)
        wanted = Wanted(*span(since, until, place, now), now, lang, place, max(0, details))
    except ValueError as error:
        _fail(str(error))
    path = ledger or _settings(options).state_dir / "ledger.sqlite"
    try:
        if heads:
            text = "".join(f"{line}\n" for line in asyncio.run(collect_heads(path, routes, wanted)))
        else:
            text = render(asyncio.run(collect(path, routes, wanted)), form)
        if output:
            file.save(output, text, force=force)
        else:
            sys.stdout.buffer.write(text.encode())
    except (LedgerError, ValueError, file.Exists) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{output or 'standard output'}: {error.strerror}")


@main.command(short_help="Look whether a report is as it was made.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--heads", type=click.Path(path_type=Path), metavar="FILE", help="Heads as a witness has kept them.")
def verify(file: Path, heads: Path | None) -> None:
    """Look whether a report (HTML or JSON) is as it was made, and what that proves. Needs nothing but FILE.

    Exits with 0 when it is, 1 when it was changed, 2 when it cannot be verified.
    """
    from probe.core.evidence import read_heads
    from probe.report.verify import findings
    from probe.report.verify import verify as examine

    name = heads or file
    try:
        witness = read_heads(heads.read_text("utf-8", "replace").splitlines()) if heads else {}
        name = file
        verdict = examine(file.read_bytes(), witness)
    except (OSError, ValueError) as error:
        _fail(f"{name}: {getattr(error, 'strerror', None) or error}")
    for line in findings(verdict, witness):
        click.echo(line)
    sys.exit(1 if verdict.changed else 0)


# -- shared --------------------------------------------------------------------------------------------------------


def _load(options: _Options) -> Settings:
    environ = dict(os.environ)
    if options.listen is None:
        return config.load(options.config, environ)
    try:
        return config.load(options.config, environ | {"MAILPROBE_LISTEN": options.listen})
    except config.ConfigError as error:
        raise config.ConfigError(
            *(line.replace("MAILPROBE_LISTEN: listen", "--listen") for line in error.lines)
        ) from None


def _settings(options: _Options, exit_code: int = 2) -> Settings:
    try:
        return _load(options)
    except config.ConfigError as error:
        _fail(str(error), exit_code)


def _duration(text: str) -> float:
    try:
        return config.parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _run(job: Coroutine[Any, Any, _T], loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> _T:
    """Run to the end, on this loop, else on uvloop where it is installed; what a user can mend becomes one line and
    exit code 2 or 75."""
    gc.freeze()  # what is loaded by now stays: shorter pauses while mails are stamped
    try:
        with asyncio.Runner(loop_factory=loop or _loop_factory()) as runner:
            return runner.run(job)
    except (LedgerError, keyfile.KeyFileError) as error:
        _fail(str(error), 75 if _may_pass(error.__cause__) else 2)
    except OSError as error:
        text = f"cannot listen: {error.strerror or error}; choose another address with --listen HOST:PORT"
        _fail(text, 75 if _may_pass(error) else 2)


def _may_pass(error: BaseException | None) -> bool:
    """Whether trying again may help: a disk gets room, another process ends, an address comes with its network. Not
    so a file that is not what it should be, nor a place that is not ours."""
    if (code := getattr(error, "sqlite_errorcode", None)) is not None:
        return code & 0xFF not in {11, 26}  # SQLITE_CORRUPT, SQLITE_NOTADB
    return isinstance(error, OSError) and error.errno not in {
        errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
    }  # fmt: skip


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _fail(text: str, exit_code: int = 2) -> NoReturn:
    mark = log.mark(os.environ, logging.CRITICAL)
    for each in text.splitlines():
        click.echo(f"{mark}mailprobe: {each}", err=True)
    sys.exit(exit_code)
