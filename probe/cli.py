"""The command line: parses, calls, prints. The only module that prints.

Exit codes: 0 fine, 1 and 2 as each command says, 2 also for a configuration that cannot be used.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from probe import __version__, config, keyfile, log
from probe.core.settings import Settings
from probe.ledger import LedgerError

_T = TypeVar("_T")
_DEFAULT_CONFIG = "/etc/mailprobe/mailprobe.toml"


@dataclasses.dataclass(frozen=True, slots=True)
class _Options:
    config: Path
    listen: str | None


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="MAILPROBE_CONFIG",
    default=Path(_DEFAULT_CONFIG),
    show_default=True,
    show_envvar=True,
    help="The configuration.",
)
@click.option("--listen", metavar="HOST:PORT", help="Where /metrics is served, instead of what the configuration says.")
@click.version_option(__version__, "-V", "--version", prog_name="mailprobe")
@click.pass_context
def main(context: click.Context, config: Path, listen: str | None) -> None:
    """Send test mails through mail providers, see them arrive, and measure how long each one held them.

    Try `mailprobe demo` first: it needs no account. Then write a configuration, let `mailprobe check` look at it,
    send a single mail with `mailprobe once ROUTE`, and leave `mailprobe run` running.
    """
    context.obj = _Options(config, listen)


@main.command()
@click.pass_obj
def run(options: _Options) -> None:
    """Probe for good: the daemon.

    Serves metrics for Prometheus, re-reads the configuration on SIGHUP, ends on SIGTERM.
    """
    from probe import daemon

    settings = _settings(options)
    log.configure(os.environ)
    for warning in settings.warnings:
        log.log.warning(log.line("config", warning=warning))
    _run(daemon.run(settings, lambda: _load(options)))


def _load(options: _Options) -> Settings:
    environ = dict(os.environ)
    if options.listen:
        environ["MAILPROBE_LISTEN"] = options.listen
    return config.load(options.config, environ)


def _settings(options: _Options, exit_code: int = 2) -> Settings:
    try:
        return _load(options)
    except config.ConfigError as error:
        _fail(str(error), exit_code)


def _run(job: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end, on uvloop where it is installed; what a user can mend becomes one line and exit code 2."""
    gc.freeze()  # what is loaded by now stays: fewer and shorter pauses while mails are stamped
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(job)
    except (LedgerError, keyfile.KeyFileError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"cannot listen: {error.strerror or error}; choose another address with --listen HOST:PORT")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _fail(text: str, exit_code: int = 2) -> NoReturn:
    for each in text.splitlines():
        click.echo(f"mailprobe: {each}", err=True)
    sys.exit(exit_code)
