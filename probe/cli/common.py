"""What all commands share: the options before or after them, the configuration, how they end.

Exit codes: 0 fine; 2 for a configuration that cannot be used (3 from `once`, as monitoring plugins ask); 75 for what
may pass by itself, such as a full disk, so that trying again is worth it; else as each command says.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import gc
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from probe import config, keyfile, log
from probe.core.settings import Settings
from probe.ledger import LedgerError

if TYPE_CHECKING:
    from rich.console import Console

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])
_DEFAULT_CONFIG = "/etc/mailprobe/mailprobe.toml"
LISTEN = "127.0.0.1:10925"


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    config: Path = Path(os.environ.get("MAILPROBE_CONFIG") or _DEFAULT_CONFIG)
    listen: str | None = None


def _option(*names: str, into: str, **more: Any) -> Callable[[_F], _F]:
    """An option that may stand before or after the command; the later one wins."""

    def remember(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value is not None:
            context.obj = dataclasses.replace(context.find_object(Options) or Options(), **{into: value})

    return click.option(*names, expose_value=False, callback=remember, **more)


with_config = _option(
    "-c", "--config", into="config", type=click.Path(path_type=Path), metavar="FILE",
    help=f"The configuration.  [default: $MAILPROBE_CONFIG, else {_DEFAULT_CONFIG}]",
)  # fmt: skip
with_listen = _option(
    "--listen", into="listen", metavar="HOST:PORT", help=f"Where to serve the page and /metrics.  [default: {LISTEN}]"
)


def load(options: Options) -> Settings:
    environ = dict(os.environ)
    if options.listen is None:
        return config.load(options.config, environ)
    try:
        return config.load(options.config, environ | {"MAILPROBE_LISTEN": options.listen})
    except config.ConfigError as error:
        raise config.ConfigError(
            *(line.replace("MAILPROBE_LISTEN: listen", "--listen") for line in error.lines)
        ) from None


def settings_of(options: Options, exit_code: int = 2) -> Settings:
    try:
        return load(options)
    except config.ConfigError as error:
        fail(str(error), exit_code)


def seconds_of(option: str, text: str, exit_code: int = 2) -> float:
    try:
        return config.parse_duration(text)
    except ValueError as error:
        fail(f"{option}: {error}", exit_code)


def terminal() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def to_the_end(job: Coroutine[Any, Any, _T], loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> _T:
    """Run to the end, on this loop, else on uvloop where it is installed; what a user can mend becomes one line and
    exit code 2 or 75."""
    gc.freeze()  # what is loaded by now stays: shorter pauses while mails are stamped
    try:
        with asyncio.Runner(loop_factory=loop or _loop_factory()) as runner:
            return runner.run(job)
    except (LedgerError, keyfile.KeyFileError) as error:
        fail(str(error), 75 if _may_pass(error.__cause__) else 2)
    except OSError as error:
        text = f"cannot listen: {error.strerror or error}; choose another address with --listen HOST:PORT"
        fail(text, 75 if _may_pass(error) else 2)


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


def fail(text: str, exit_code: int = 2) -> NoReturn:
    mark = log.mark(os.environ, logging.CRITICAL)
    for each in text.splitlines():
        click.echo(f"{mark}mailprobe: {each}", err=True)
    sys.exit(exit_code)
