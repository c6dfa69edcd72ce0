"""mailprobe as its users run it: a process of its own, seen only through its log, its pages and its exit code.

Rule: waiting is for a condition with a deadline; nothing sleeps and hopes.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Self

from prometheus_client.parser import text_string_to_metric_families

from .bed.mailbed import MailBed, address
from .bed.service import wait_until

MAILPROBE = Path(sys.executable).with_name("mailprobe")


class DidNotStart(Exception):
    """The daemon ended at once; the text is what it said."""


class Daemon:
    """`mailprobe run` with this configuration, in this directory. A context manager: killed at its end if need be."""

    def __init__(self, directory: Path, config: str, port: int = 0) -> None:
        """port: where it is to listen, when somebody must find it again after a restart."""
        self.directory, self.port = directory, port
        self.config = directory / "mailprobe.toml"
        self.log_file = directory / "log"
        self.write(config)
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, config: str) -> None:
        """(Re)write the configuration; takes effect with start() or a SIGHUP."""
        self.config.write_text(f'state_dir = "{self.directory}/state"\nlisten = "127.0.0.1:{self.port}"\n{config}')

    def start(self) -> Self:
        """Start, and return when it listens."""
        seen = len(self.log())
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen([MAILPROBE, "run", "-c", self.config], stdout=log, stderr=log)
        process = self.process

        def started() -> re.Match[str] | None:
            if process.poll() is not None:
                raise DidNotStart(f"exit code {process.returncode}: {self.log()[seen:]}")
            return re.search(r"started .*:(\d+)$", self.log()[seen:], re.M)

        found = wait_until(started, 10, "daemon started")
        assert isinstance(found, re.Match)
        self.url = f"http://127.0.0.1:{found[1]}"
        return self

    def stop(self) -> float:
        """SIGTERM; the seconds until it was gone. Fails on an exit code other than 0."""
        assert self.process
        began = time.monotonic()
        self.process.terminate()
        code = self.process.wait(10)
        assert code == 0, f"exit code {code}\n{self.log()}"
        return time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process
        self.process.kill()
        self.process.wait(10)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process
        os.kill(self.process.pid, number)

    def log(self) -> str:
        """All it has said so far."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def troubles(self) -> list[str]:
        """Lines of the log that are no plain information."""
        return [line for line in self.log().splitlines() if " INFO " not in line]

    def get(self, path: str) -> str:
        """The body of a page."""
        with urllib.request.urlopen(self.url + path, timeout=5) as reply:
            return reply.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples with this name and these labels."""
        families = text_string_to_metric_families(self.get("/metrics"))
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def until(self, condition: Callable[[], object], what: str, timeout: float = 20.0) -> object:
        """Wait for it; if it does not come, or the daemon does not answer, the log is shown."""
        try:
            return wait_until(condition, timeout, what)
        except OSError as error:  # TimeoutError is one
            raise type(error)(f"{error}\n{self.log()}") from None

    def until_metric(self, name: str, at_least: float, timeout: float = 20.0, **labels: str) -> None:
        """Wait until a metric has reached a value."""
        self.until(lambda: self.metric(name, **labels) >= at_least, f"{name}{labels} >= {at_least}", timeout)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def account(bed: MailBed, user: str, *, smtp_port: int | None = None, imap_port: int | None = None) -> str:
    """An account's TOML; the ports are another's, when a test stands between."""
    secret = bed.root / "password"
    if not secret.exists():
        secret.write_text(bed.password)
        secret.chmod(0o600)
    ca = f'ca_file = "{bed.pki.ca}"'
    smtp = f'{{ host = "127.0.0.1", port = {smtp_port or bed.ports["submissions"]}, tls = "implicit", {ca} }}'
    imap = f'{{ host = "127.0.0.1", port = {imap_port or bed.ports["imaps"]}, tls = "implicit", {ca} }}'
    return f'[accounts.{user}]\naddress = "{address(user)}"\npassword_file = "{secret}"\nsmtp = {smtp}\nimap = {imap}\n'


def route(name: str, sender: str, recipient: str, every: str = "1s", more: str = "") -> str:
    """A route's TOML."""
    return f'[routes.{name}]\nfrom = "{sender}"\nto = "{recipient}"\nevery = "{every}"\n{more}\n'
