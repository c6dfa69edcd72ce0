"""Charts of a report as SVG: delivery times on a logarithmic scale, and what became of the mails of each hour or day.

Rule: a chart shows the numbers of the report, and what it cannot show apart it draws once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from probe.core.evidence import Evidence
from probe.core.html import Html, lines, tag
from probe.core.report import RouteReport
from probe.core.words import brief

_WIDTH, _LEFT, _RIGHT = 720.0, 46.0, 8.0
_HEIGHT, _BOTTOM = 230.0, 18.0
_STRIP = 64.0
_MARKS = (0.01, 0.1, 1, 10, 60, 600, 3600, 21600, 86400, 432000, 2592000)  # seconds
_STEPS = (600, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000, 7776000, 31536000)
_TICKS = 8


class _Axis(NamedTuple):
    """Time, from left to right."""

    since: float
    until: float

    def x(self, at: float) -> float:
        share = (at - self.since) / (self.until - self.since)
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * min(1.0, max(0.0, share)), 1)

    def ticks(self, bottom: float) -> Iterator[Html]:
        step = next((it for it in _STEPS if (self.until - self.since) / it <= _TICKS), _STEPS[-1])
        for number in range(math.ceil(self.since / step), math.floor(self.until / step) + 1):
            at = datetime.fromtimestamp(number * step, UTC)
            said = at.strftime("%d.%m. %H:%M" if step < 86400 else "%Y-%m-%d")  # short and unmistakable
            x = self.x(number * step)
            yield tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 3, class_="axis")
            anchor = "middle" if x < _WIDTH - _RIGHT - 24 else "end"
            yield tag("text", said, x=x, y=bottom + 12, text_anchor=anchor)


def latencies(evidence: Evidence, route: RouteReport, title: str) -> Html:
    """Each late mail, and what all others took, over the time at which they were sent."""
    axis, bottom = _Axis(evidence.since, evidence.until), _HEIGHT - _BOTTOM
    held = [row.held for row in route.rows if row.held]
    highest = max([10.0, *held, *route.deadlines, *(point.most for point in route.evidence.points)]) * 1.5
    lowest = min([1.0, *(max(0.01, point.least) for point in route.evidence.points)]) / 1.5
    scale = (bottom - 6) / math.log(highest / lowest)

    def y(seconds: float) -> float:
        return round(bottom - scale * math.log(max(lowest, seconds) / lowest), 1)

    marks = [it for it in _MARKS if lowest <= it <= highest]
    drawn = [
        *(tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y(it), y2=y(it), class_="grid") for it in marks),
        *(tag("text", brief(it), x=_LEFT - 4, y=y(it) + 3, text_anchor="end") for it in marks),
        *(tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y(it), y2=y(it), class_="deadline") for it in route.deadlines),
        *axis.ticks(bottom),
        tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=bottom, y2=bottom, class_="axis"),
    ]
    for point in route.evidence.points:
        x = axis.x(point.begin)
        drawn.append(tag("line", x1=x, x2=x, y1=y(point.least), y2=y(point.most), class_="range"))
        drawn.append(tag("circle", cx=x, cy=y(point.median), r=1.2, class_="median"))
    marked = dict.fromkeys(
        (axis.x(row.accepted), y(row.held), row.seen is None) for row in route.rows if row.accepted and row.held
    )
    for x, top, away in marked:
        if away:
            drawn.append(tag("rect", x=round(x - 1.5, 1), y=top, width=3, height=round(bottom - top, 1), class_="away"))
        else:
            drawn.append(tag("circle", cx=x, cy=top, r=2, class_="late"))
    return _svg(drawn, _HEIGHT, title)


def strip(evidence: Evidence, route: RouteReport, title: str) -> Html:
    """The mails of each stretch of time as a column: well at the bottom, then unknown, bad and refused."""
    width, cells = route.evidence.width, route.evidence.cells
    axis = _Axis(evidence.since // width * width, math.ceil(evidence.until / width) * width)
    bottom = _STRIP - _BOTTOM
    unit = (bottom - 4) / max([1, *(cell.sent for cell in cells)])
    drawn = [*axis.ticks(bottom), tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=bottom, y2=bottom, class_="axis")]
    for cell in cells:
        x, wide = axis.x(cell.begin), max(0.4, round(axis.x(cell.begin + width) - axis.x(cell.begin) - 0.4, 1))
        bad = min(cell.sent - cell.refused, max(cell.late, cell.lost + cell.bounced))
        unclear = min(cell.sent - cell.refused - bad, cell.unknown + cell.open)
        top = bottom
        well = cell.sent - cell.refused - bad - unclear
        for kind, number in (("well", well), ("unclear", unclear), ("bad", bad), ("refused", cell.refused)):
            if number:
                top -= unit * number
                drawn.append(tag("rect", x=x, y=round(top, 2), width=wide, height=round(unit * number, 2), class_=kind))
    return _svg(drawn, _STRIP, title)


def _svg(drawn: list[Html], height: float, title: str) -> Html:
    box = f"0 0 {_WIDTH:g} {height:g}"
    return tag("svg", lines(tag("title", title), *drawn), viewBox=box, role="img")
