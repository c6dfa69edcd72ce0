"""A report of a route's year: what it takes to make it and to verify it.

    python -m tests.bench.evidence FILE     makes a ledger with one route-year there, or takes what is there

The ledger is that of `years`: two of a hundred mails are of note.
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
UNTIL = 1_790_000_000.0
YEAR = 366 * 86400.0


@dataclass(frozen=True, slots=True)
class Report:
    """Seconds by the clock and of the processor, by step."""

    mails: int  # of the route
    rows: int
    octets: int
    steps: dict[str, tuple[float, float]]


def measure(path: Path, since: float) -> Report:
    """Make a report as a page, and verify it."""
    steps: dict[str, tuple[float, float]] = {}

    def timed(name: str, work: Callable[[], _T]) -> _T:
        began, used = time.perf_counter(), time.process_time()
        result = work()
        steps[name] = time.perf_counter() - began, time.process_time() - used
        return result

    wanted = Wanted(since, UNTIL, UNTIL, "en", ZoneInfo("Europe/Berlin"), 20)
    evidence = timed("ask the ledger", lambda: asyncio.run(collect(path, [], wanted)))
    told = timed("write the evidence", lambda: ev.text(evidence))
    page = timed("make the page", lambda: FORMATS["html"](ev.read(told), told))
    steps["all of it"] = tuple(map(sum, zip(*steps.values(), strict=True)))  # type: ignore[assignment]
    octets = page.encode()
    verdict = timed("verify it", lambda: verify(octets, {}))
    assert not verdict.changed, verdict.changed
    route = evidence.routes[0]
    return Report(sum(route.totals.states.values()), len(route.mails), len(octets), steps)


def report(got: Report) -> list[str]:
    """For people."""
    return [
        f"REPORT  {got.mails} mails, {got.rows} rows, {got.octets / 1e6:.1f} MB; load average {os.getloadavg()[0]:.1f}",
        *table(("", "s", "s of CPU"), [[name, f"{s:.2f}", f"{cpu:.2f}"] for name, (s, cpu) in got.steps.items()]),
    ]


def main() -> None:
    """Make the ledger, where there is none; measure spans of a day, a month and a year."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.evidence", description=__doc__)
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    if not options.file.exists():
        years.make(options.file, 1, years.YEAR, UNTIL)
    for days in (1, 30, YEAR / 86400):
        print("\n".join(report(measure(options.file, UNTIL - days * 86400))), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
