"""How long until the first submission, and how much memory.

First submission: from exec to the 250 of the first probe, less the random phase for which the schedule waited. Memory:
resident, of a daemon that has come to rest; the slope comes from daemons with equally many routes, so that it is the
mailbox alone (two connections: INBOX and Junk).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from probe.core.events import Accepted

from ..bed.mailbed import MailBed
from ..bed.service import wait_until
from .daemon import Daemon, RouteSpec, resident_kib
from .numbers import Spread, spread


@dataclass(frozen=True, slots=True)
class Startup:
    """Seconds from exec, and KiB."""

    first_accepted: Spread | None
    schedule_begins: Spread | None
    resident: int  # 10 routes, 2 mailboxes
    resident_few: int
    resident_many: int
    few: int  # mailboxes
    many: int

    @property
    def per_mailbox(self) -> float:
        """KiB of a further idle mailbox."""
        return (self.resident_many - self.resident_few) / (self.many - self.few)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure; rest: seconds."""

    starts: int = 5
    rest: float = 6.0
    few: int = 10
    many: int = 60


def measure(bed: MailBed, root: Path, plan: Plan) -> Startup:
    """Start daemons, one after the other."""
    times = [_first(bed, root / f"start-{i}") for i in range(plan.starts + 1)][1:]  # the first one fills caches
    ten = [RouteSpec(f"r{i}", f"start{i % 2}", f"start{1 - i % 2}", "5s") for i in range(10)]
    return Startup(
        spread(accepted for accepted, _ in times),
        spread(begun for _, begun in times),
        _resident(bed, root / "memory-2", ten, plan.rest),
        _resident(bed, root / "memory-few", _idle_routes(plan.few, plan.many), plan.rest),
        _resident(bed, root / "memory-many", _idle_routes(plan.many, plan.many), plan.rest),
        plan.few,
        plan.many,
    )


def _idle_routes(mailboxes: int, routes: int) -> list[RouteSpec]:
    """Every 10 h: in its first minute such a route sends one probe, at a random moment."""
    return [RouteSpec(f"r{i}", "start0", f"idle{i % mailboxes}", "10h") for i in range(routes)]


def _first(bed: MailBed, root: Path) -> tuple[float, float]:
    """Seconds from exec to the first 250, without the wait for the first due instant; and to the schedule's begin."""
    with Daemon(bed, root, [RouteSpec("first", "start0", "start1", "100ms")]) as daemon:
        wait_until(lambda: daemon.logged("accepted"), 20, "the first submission")
        begun = daemon.logged("started")
        daemon.stop()
        probe = next(probe for probe in daemon.recorded() if isinstance(probe.submitted, Accepted))
    assert probe.submitted
    assert begun
    phase = max(0.0, probe.due.wall - begun.timestamp())
    return probe.submitted.at.wall - daemon.executed - phase, begun.timestamp() - daemon.executed


def _resident(bed: MailBed, root: Path, routes: Sequence[RouteSpec], rest: float) -> int:
    with Daemon(bed, root, routes) as daemon:
        daemon.wait_watching()
        time.sleep(rest)
        return resident_kib(daemon.pid)
