"""A report of a route's year: what it takes to make it and to verify it.

    python -m tests.bench.evidence FILE [--routes 1] [--probes 525600]     makes a ledger there, or takes what is there

The ledger is that of `years`: two of a hundred mails are of note. The first route has a mail a minute; the
others, where there are some, share the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from probe.core import evidence as ev
from probe.report import FORMATS
from probe.report.gather import Wanted, collect
from probe.report.verify import verify

from . import years
from .numbers import table

_T = TypeVar("_T")
GOAL = 3.0  # seconds for a route's year, in a ledger of 1,000 routes and 5 million probes
UNTIL = 1_790_000_000.0
YEAR = 366 * 86400.0
ROUTES = "route-0000", "route-0001"  # the busiest, and one of the others


@dataclass(frozen=True, slots=True)
class Report:
    """Seconds by the clock and of the processor, by step."""

    route: str
    days: float
    mails: int  # of the route
    rows: int
    octets: int
    steps: dict[str, tuple[float, float]]


def measure(path: Path, route: str, since: float = UNTIL - YEAR) -> Report:
    """Make a report on this route as a page, and verify it."""
    steps: dict[str, tuple[float, float]] = {}

    def timed(name: str, work: Callable[[], _T]) -> _T:
        began, used = time.perf_counter(), time.process_time()
        result = work()
        steps[name] = time.perf_counter() - began, time.process_time() - used
        return result

    wanted = Wanted(since, UNTIL, UNTIL, "en", ZoneInfo("Europe/Berlin"), 20)
    evidence = timed("ask the ledger", lambda: asyncio.run(collect(path, [route], wanted)))
    told = timed("write the evidence", lambda: ev.text(evidence))
    page = timed("make the page", lambda: FORMATS["html"](ev.read(told), told))
    steps["all of it"] = tuple(map(sum, zip(*steps.values(), strict=True)))  # type: ignore[assignment]
    octets = page.encode()
    verdict = timed("verify it", lambda: verify(octets, {}))
    assert not verdict.changed, verdict.changed
    it, days = evidence.routes[0], (UNTIL - since) / 86400
    return Report(route, days, sum(it.totals.states.values()), len(it.mails), len(octets), steps)


def report(got: Report) -> list[str]:
    """For people."""
    return [
        f"REPORT  {got.route}, {got.days:.0f} days: {got.mails} mails, {got.rows} rows, {got.octets / 1e6:.1f} MB; "
        f"load average {os.getloadavg()[0]:.1f}; goal for a year, {GOAL:.0f} s: "
        f"{'reached' if got.steps['all of it'][0] <= GOAL else 'missed'}",
        *table(("", "s", "s of CPU"), [[name, f"{s:.2f}", f"{cpu:.2f}"] for name, (s, cpu) in got.steps.items()]),
    ]


def main() -> None:
    """Make the ledger, where there is none; measure spans of a day, a month and a year."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.evidence", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--routes", type=int, default=1)
    parser.add_argument("--probes", type=int, default=years.YEAR)
    options = parser.parse_args()
    if not options.file.exists():
        years.make(options.file, options.routes, options.probes, UNTIL)
    for route, days in [(ROUTES[0], 1), (ROUTES[0], 30), *((it, 366) for it in ROUTES[: options.routes])]:
        print("\n".join(report(measure(options.file, route, UNTIL - days * 86400))), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
