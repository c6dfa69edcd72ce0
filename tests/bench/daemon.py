"""`mailprobe run` as the process that it is for its users, and what can be seen of it from outside.

Rule: default settings for asking; every account of the bed has both wires by implicit TLS.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import sqlite3
import sys
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import ClassVar, NamedTuple

from probe.core.state import Probe
from probe.ledger import Ledger

from ..bed.mailbed import MailBed, address
from ..bed.service import HOST, Service, wait_until

_TICKS = os.sysconf("SC_CLK_TCK")
_SAMPLE = re.compile(r'^(\w+)\{(?:.*,)?(?:account|route)="([^"]*)".*\} (\S+)$', re.MULTILINE)


class RouteSpec(NamedTuple):
    """A route to configure; sender and recipient are local parts and account names, `every` as in the file."""

    name: str
    sender: str
    recipient: str
    every: str


class Daemon(Service):
    """One daemon with its own state directory below `root`."""

    port_names = ("web",)
    start_timeout: ClassVar[float] = 30.0

    def __init__(self, bed: MailBed, root: Path, routes: Iterable[RouteSpec]) -> None:
        super().__init__(root)
        self.routes = list(routes)
        self.executed = 0.0  # Unix time of the last exec
        self._bed = bed
        self._state = self.root / "state"

    def configure(self) -> None:
        ports, ca = self._bed.ports, self._bed.pki.ca
        secret = self.root / "password"
        secret.write_text(self._bed.password)
        secret.chmod(0o600)
        lines = [f'state_dir = "{self._state}"', f'listen = "{HOST}:{self.ports["web"]}"']
        for user in dict.fromkeys(u for route in self.routes for u in (route.sender, route.recipient)):
            lines += [f"[accounts.{user}]", f'address = "{address(user)}"', f'password_file = "{secret}"']
            for wire, port in ("smtp", ports["submissions"]), ("imap", ports["imaps"]):
                lines.append(f'{wire} = {{ host = "{HOST}", port = {port}, tls = "implicit", ca_file = "{ca}" }}')
        for route in self.routes:
            lines += [f"[routes.{route.name}]", f'from = "{route.sender}"', f'to = "{route.recipient}"']
            lines += [f'every = "{route.every}"', 'deadlines = ["30s"]', 'lost_after = "1h"']
        (self.root / "mailprobe.toml").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        self.executed = time.time()
        return [str(Path(sys.executable).with_name("mailprobe")), "run", "-c", str(self.root / "mailprobe.toml")]

    def wait_watching(self, timeout: float = 30.0) -> None:
        """Until every mailbox is watched. Raises TimeoutError."""
        watched = {route.recipient for route in self.routes}

        def all_up() -> bool:
            time.sleep(0.2)  # a scrape is work
            up = self.metric("mailprobe_mailbox_up")
            return all(up.get(name) == 1 for name in watched)

        wait_until(all_up, timeout, f"{self.root} watching")

    def metric(self, name: str) -> dict[str, float]:
        """The samples of one metric, summed by their account or route."""
        values: dict[str, float] = {}
        for found in _SAMPLE.finditer(self._scrape()):
            if found[1] == name:
                values[found[2]] = values.get(found[2], 0.0) + float(found[3])
        return values

    def logged(self, event: str) -> datetime | None:
        """When the log first told of this event; to the millisecond."""
        line = re.search(rf"^(\S+ \S+) \w+ +{event}\b", (self.root / "output").read_text(), re.MULTILINE)
        return datetime.fromisoformat(line[1].replace(",", ".")) if line else None

    def recorded(self) -> list[Probe]:
        """All probes, the oldest first. Only after the daemon's end: the ledger has one user."""

        async def load(ids: list[str]) -> list[Probe]:
            ledger = Ledger(path)
            try:
                return [probe for id_ in ids if (probe := await ledger.find(id_))]
            finally:
                ledger.close()

        path = self._state / "ledger.sqlite"
        db = sqlite3.connect(path)
        try:
            ids = [id_ for (id_,) in db.execute("SELECT id FROM probes ORDER BY started")]
        finally:
            db.close()
        return asyncio.run(load(ids))

    def _scrape(self) -> str:
        connection = http.client.HTTPConnection(HOST, self.ports["web"], timeout=10)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        finally:
            connection.close()


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used so far, all threads; steps of 10 ms (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_kib(pid: int) -> int:
    """VmRSS."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])
