"""The command that needs nothing: demo."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import os
import random
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from probe import clock, config, log
from probe.cli.common import (
    LISTEN,
    Options,
    fail,
    seconds_of,
    terminal,
    to_the_end,
    with_listen,
)
from probe.demo.scenarios import BEGINS, SCENARIOS

if TYPE_CHECKING:
    from rich.text import Text

    from probe.demo.stage import Stage

_STORIES = "\n".join(f"{name:<12} {story.about}" for name, story in SCENARIOS.items())


@click.command(
    short_help="Try it out against an embedded provider.",
    help="Probe an embedded mail provider on this machine: no account needed, nothing leaves it.\n\n"
    "It plays a SCENARIO, faster than it would happen: daemon, provider and mails are real, and live by a clock of "
    f"their own. At the end, what was measured is held against what the provider really did.\n\n\b\n{_STORIES}",
)
@with_listen
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
def demo(options: Options, scenario: str, speed: float | None, limit: str | None, report: Path | None) -> None:
    """What the help says above."""
    seconds = seconds_of("--for", limit) if limit else math.inf
    log.configure(os.environ, logging.CRITICAL)
    try:
        from probe.demo import stage as embedded
        from probe.demo.world import Loop, World
    except ImportError as error:
        fail(f"the demo needs more packages ({error.name} is missing): pip install 'mailprobe[demo]'")
    try:
        host, port = config.listen_address(options.listen or _free(LISTEN))
    except ValueError as error:
        fail(f"--listen: {error}")
    story = SCENARIOS[scenario]
    speed = speed or story.speed
    world = World(BEGINS, speed) if speed > 1 else None

    async def show_it() -> None:
        rng = random.Random()  # noqa: S311 - delays and phases
        async with embedded.started(story, world, host, port, rng) as stage:
            at = f"[{host}]" if ":" in host else host
            await _show_demo(stage, f"http://{at}:{stage.running.port}", seconds)
            await _demo_report(stage, report)

    to_the_end(show_it(), (lambda: Loop(world)) if world else None)


async def _show_demo(stage: Stage, url: str, limit: float) -> None:
    from rich.live import Live

    from probe.terminal import show

    console = terminal()
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
