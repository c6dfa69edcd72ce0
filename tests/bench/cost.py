"""CPU time per probe, beside a bare script that has the same conversations at the same rate.

Ours and the floor take turns (A B A B …), so that a machine that gets slower hurts both. A probe is counted when
Dovecot saves its mail, for both alike.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from probe.core.message import Mail, compose
from probe.core.token import Token

from ..bed.mailbed import MailBed
from ..bed.service import HOST, BedError, Service
from . import truth
from .daemon import Daemon, RouteSpec, cpu_seconds
from .numbers import median

GOAL = 2.0  # ours / bare


@dataclass(frozen=True, slots=True)
class Pair:
    """CPU ms per probe, and asks (NOOPs) per probe."""

    ours: float
    bare: float
    ours_asks: float
    bare_asks: float

    @property
    def ratio(self) -> float:
        """How many times the floor."""
        return self.ours / self.bare


@dataclass(frozen=True, slots=True)
class Cost:
    """The result. rate: probes per second."""

    pairs: list[Pair]
    ratio: float  # the median of the pairs'
    ours: float
    bare: float
    routes: int
    rate: float


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure; seconds. warm_up lets every route connect and send at least once."""

    pairs: int = 3
    window: float = 15.0
    warm_up: float = 6.0
    routes: int = 20
    every: tuple[int, ...] = (1, 2, 3, 4, 5)


class Bare(Service):
    """bare.py as a process."""

    port_names = ()

    def __init__(self, bed: MailBed, root: Path, routes: Sequence[tuple[str, int]]) -> None:
        super().__init__(root)
        self._plan = {
            "host": HOST, "smtp": bed.ports["submissions"], "imap": bed.ports["imaps"], "password": bed.password,
            "ca": str(bed.pki.ca), "routes": routes, "mail": _like_ours(),
        }  # fmt: skip

    def configure(self) -> None:
        (self.root / "plan.json").write_text(json.dumps(self._plan))

    def command(self) -> list[str]:
        # By its path: the directory it runs in is not ours.
        return [sys.executable, str(Path(__file__).with_name("bare.py")), str(self.root / "plan.json")]

    def ready(self) -> bool:
        return "ready" in (self.root / "output").read_text()

    def counts(self) -> dict[str, int]:
        """After its end: how many mails and NOOPs."""
        found: dict[str, int] = json.loads((self.root / "output").read_text().splitlines()[-1])
        return found


def _like_ours() -> str:
    """A mail as long as a probe's."""
    token = Token("TOKEN", "route-of-the-bench", 0.0, 0.0)
    return compose(bytes(32), token, Mail("sender@bed.test", "recipient@bed.test")).decode()


def measure(bed: MailBed, root: Path, plan: Plan) -> Cost:
    """Run plan.pairs times a daemon and a bare script, one after the other."""
    routes = [(f"cost{i}", plan.every[i % len(plan.every)]) for i in range(plan.routes)]
    users = [user for user, _ in routes]
    specs = [RouteSpec(f"route-{user}", user, user, f"{every}s") for user, every in routes]
    pairs = []
    for turn in range(plan.pairs):
        with Daemon(bed, root / f"cost-ours-{turn}", specs) as daemon:
            daemon.wait_watching()
            ours = _cpu_per_probe(bed, daemon, plan, users)
            asks = sum(daemon.metric("mailprobe_mailbox_asks_total").values())
            ours_asks = asks / sum(daemon.metric("mailprobe_arrivals_total").values())
            daemon.stop()
        with Bare(bed, root / f"cost-bare-{turn}", routes) as bare:
            floor = _cpu_per_probe(bed, bare, plan, users)
            bare.stop()
            counts = bare.counts()
        pairs.append(Pair(ours, floor, ours_asks, counts["noops"] / counts["mails"]))
    return Cost(
        pairs, median(p.ratio for p in pairs), median(p.ours for p in pairs), median(p.bare for p in pairs),
        len(routes), sum(1 / every for _, every in routes),
    )  # fmt: skip


def _cpu_per_probe(bed: MailBed, process: Service, plan: Plan, users: Sequence[str]) -> float:
    """CPU milliseconds per probe over a window in which nothing begins or ends."""
    time.sleep(plan.warm_up)
    begin, used = time.time(), cpu_seconds(process.pid)
    time.sleep(plan.window)
    end, used = time.time(), cpu_seconds(process.pid) - used
    if not (mails := truth.saves(bed, users, begin, end)):
        raise BedError(f"no mail came from {process.root}\n{process.log_tail()}")
    return used * 1e3 / mails
