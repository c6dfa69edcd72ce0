"""Quantiles and plain tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """How some numbers are distributed; in the unit of the numbers."""

    n: int
    min: float
    median: float
    p90: float
    p99: float
    max: float

    def cells(self, digits: int = 1) -> list[str]:
        """For a table with the columns n, min, median, p90, p99, max."""
        return [str(self.n), *(f"{v:.{digits}f}" for v in (self.min, self.median, self.p90, self.p99, self.max))]


SPREAD_HEAD = ("n", "min", "median", "p90", "p99", "max")


def spread(values: Iterable[float]) -> Spread | None:
    """None when there are no values."""
    ranked = sorted(values)
    if not ranked:
        return None
    middle, p90, p99 = (quantile(ranked, q) for q in (0.5, 0.9, 0.99))
    return Spread(len(ranked), ranked[0], middle, p90, p99, ranked[-1])


def quantile(ranked: Sequence[float], q: float) -> float:
    """Of sorted values, interpolated linearly."""
    place = (len(ranked) - 1) * q
    low = int(place)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (ranked[high] - ranked[low]) * (place - low)


def median(values: Iterable[float]) -> float:
    """Raises IndexError when there are no values."""
    return quantile(sorted(values), 0.5)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines: the first column to the left, the others to the right."""
    cells = [list(head), *map(list, rows)]
    widths = [max(len(row[i]) for row in cells if i < len(row)) for i in range(len(head))]
    lines = []
    for row in cells:
        first = row[0].ljust(widths[0])
        lines.append("  ".join([first, *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=False))]).rstrip())
    return lines
