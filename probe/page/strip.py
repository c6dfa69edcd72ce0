"""How a route was: a strip of equal stretches of time, as tall as the trouble was.

Rule: the height tells what the colour tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from probe.core.history import DAY, HOUR, Cell
from probe.core.html import Html, tag
from probe.page.words import Speech

Level = Literal["good", "some", "bad", "dark"]
Levels = tuple[Level | None, ...]
_HEIGHTS: Mapping[Level, int] = {"good": 5, "some": 10, "bad": 16, "dark": 3}
_TALL = 16


class Span(NamedTuple):
    """A stretch of time: its name, seconds, in how many cells a strip shows it, and in how many points a chart."""

    name: str
    seconds: int
    cells: int
    points: int

    def until(self, now: float) -> float:
        """Its end: the next whole hour or day, so that its cells begin on such."""
        size = DAY if self.seconds // self.cells % DAY == 0 else HOUR
        return (now // size + 1) * size


SPANS = {
    span.name: span for span in (Span("24h", DAY, 24, 96), Span("7d", 7 * DAY, 84, 168), Span("90d", 90 * DAY, 90, 180))
}


def level(cell: Cell) -> Level | None:
    """How bad it was; None: nothing was sent, or nothing is known yet."""
    ill = max(cell.late, cell.lost + cell.bounced) + cell.refused  # what is lost or returned is late as well
    if cell.lost or 2 * ill > cell.sent:
        return "bad"
    if ill:
        return "some"
    if cell.unknown and cell.unknown >= cell.measured:
        return "dark"
    return "good" if cell.measured else None


def levels(cells: Iterable[Cell], span: Span, until: float) -> Levels:
    """How bad each stretch was."""
    width, begin = span.seconds / span.cells, until - span.seconds
    found: list[Level | None] = [None] * span.cells
    for cell in cells:
        place = round((cell.begin - begin) / width)
        if 0 <= place < span.cells:
            found[place] = level(cell)
    return tuple(found)


@lru_cache(4096)  # most routes are fine
def strip(levels: Levels, span: Span, speech: Speech) -> Html:
    """The picture, and what it shows in words."""
    measured = [one for one in levels if one]
    words = speech.say("cells", good=measured.count("good"), measured=len(measured)) if measured else None
    label = f"{speech.say('strip', span=speech.say(span.name))}: {words or speech.say('cells.none')}"
    # Stretches that are alike are one line of dashes: pages stay small.
    paths = [_line(name, height, levels) for name, height in _HEIGHTS.items() if name in levels]
    base = tag("path", class_="void", d=f"M0 {_TALL - 1}h{len(levels)}")
    box = {"viewBox": f"0 0 {len(levels)} {_TALL}", "preserveAspectRatio": "none"}
    return tag("svg", base, *paths, class_="strip", **box, role="img", aria_label=label)


def _line(name: Level, height: int, levels: Sequence[Level | None]) -> Html:
    runs: list[list[int]] = []
    for place, one in enumerate(levels):
        if one == name:
            if runs and sum(runs[-1]) == place:
                runs[-1][1] += 1
            else:
                runs.append([place, 1])
    middle = f"{_TALL - height / 2:g}"
    return tag("path", class_=name, d="".join(f"M{place} {middle}h{length}" for place, length in runs))
