"""How all routes are, on a terminal of 80 columns: what `mailprobe status` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from probe.core.words import duration
from probe.standing import WORST_FIRST

Data = Mapping[str, Any]
_SIGNS = {
    "stuck": ("✗", "bold red"), "failing": ("✗", "bold red"), "blind": ("?", "bold magenta"),
    "unknown": ("?", "magenta"), "recovering": ("!", "yellow"), "slow": ("!", "yellow"), "ok": ("✓", "green"),
}  # fmt: skip
_KINDS = {"late": "late mail", "refused": "mail refused", "bounced": "mail returned", "blind": "not watched"}
_PEAKS = {"late": "held for up to {}"}
_HEADS = ("", "route", "state", "in flight, oldest", "last delivery", "in time")
_NAME = 1  # the column that gives way


def view(told: Data, now: datetime, width: int = 80) -> RenderableType:
    """All routes, the worst first, their open incidents, and the prober. `now` has the zone of all times."""
    routes = sorted(
        told["routes"], key=lambda it: (WORST_FIRST.index(it["state"]), -(it["oldest_in_flight_seconds"] or 0))
    )
    rows = [[Text(head, "dim") for head in _HEADS], *(list(_row(route, now)) for route in routes)]
    widths = [max(cell.cell_len for cell in cells) for cells in zip(*rows, strict=True)]
    widths[_NAME] = min(widths[_NAME], max(12, width - sum(widths) + widths[_NAME] - 2 * len(widths)))
    table = Table.grid(padding=(0, 2, 0, 0))
    for column, size in enumerate(widths):
        table.add_column(width=size, no_wrap=True, overflow="ellipsis", justify="right" if column == 5 else "left")
    for row in rows if routes else ():
        table.add_row(*row)
    lines = [_incident(it, now) for route in routes for it in route["incidents"]]
    below: list[RenderableType] = ["", *lines] if lines else []
    return Group(_heading(routes), "", table, *below, "", *_prober(told))


def _heading(routes: Sequence[Data]) -> Text:
    states = Counter(route["state"] for route in routes)
    number = f"{len(routes)} route{'s' * (len(routes) != 1)}"
    parts = [(f"{states[state]} {state}", _SIGNS[state][1]) for state in WORST_FIRST if states[state]]
    text = Text.assemble((number, "bold"), ": " if parts else "; nothing to tell of")
    return text.append(Text(", ").join(Text(*part) for part in parts))


def _row(route: Data, now: datetime) -> Iterator[Text]:
    sign, style = _SIGNS[route["state"]]
    yield Text(sign, style)
    yield Text(route["name"])
    yield Text(route["state"], style)
    oldest = route["oldest_in_flight_seconds"]
    yield Text("–" if oldest is None else f"{route['in_flight']}, {duration(oldest)}")
    latency, last = route["last_latency_seconds"], _at(route["last_delivery"], now)
    yield Text(f"{last}, {duration(latency)}" if latency is not None and ":" in last[:3] else last)
    yield Text(_share(route["last_24_hours"]))


def _share(day: Data | None) -> str:
    """Rounded down: what was not always in time is not 100 %."""
    ratio = day["in_time_ratio"] if day else None
    return "–" if ratio is None else "100 %" if ratio == 1 else f"{int(ratio * 1000) / 10:.1f} %"


def _incident(it: Data, now: datetime) -> RenderableType:
    style = _SIGNS[it["worst"]][1]
    parts = [f"since {_at(it['begin'], now)}"]
    if number := it["mails"]["affected"]:
        parts.append(f"{number} mail{'s' * (number != 1)}")
    parts.append(_PEAKS.get(it["kind"], "for {}").format(duration(it["peak_seconds"])))
    if held := it["held_longest_by"]:
        parts.append(f"most of it with the {held['segment']}")
    text = Text.assemble(it["route"], ": ", (_KINDS[it["kind"]], style), " ", ", ".join(parts))
    return Padding(text, (0, 0, 0, 2), expand=False)


def _prober(told: Data) -> Iterator[RenderableType]:
    prober = told["prober"]
    if prober is None:
        age = told["record_age_seconds"]
        last = "nothing is on record yet" if age is None else f"the last record is {duration(age)} old"
        yield Text(f"The daemon does not answer ({told['why']}).", "bold magenta")
        yield Text(f"This is by the ledger alone: {last}.")
        return
    if prober.get("demo"):
        own = ", by a clock of its own" if prober["demo"]["speed"] != 1 else ""
        yield Text(f"This is mailprobe demo: an embedded provider plays a story{own}. The mail is not real.", "bold")
    boxes = prober["mailboxes"]
    down = [box for box in boxes if not box["watched"]]
    number = f"{len(boxes)} mailbox{'es' * (len(boxes) != 1)}"
    version = f" {prober['version']}" if prober["version"] else ""
    yield Text(f"mailprobe{version}, up for {duration(prober['up_seconds'])}, ").append(
        f"{number} watched" if not down else f"{len(down)} of {number} not watched", "" if not down else "bold magenta"
    )
    for box in down:
        if box["account"]:
            yield Text(f"  {box['account']}: {box['reason'] or 'not tried yet'}")
    if not prober["record_ok"]:
        yield Text.assemble(("The ledger cannot be written", "bold red"), _why(prober["record_error"]))
    if not prober["configuration_ok"]:
        yield Text.assemble(("The old configuration is still in use", "yellow"), _why(prober["configuration_error"]))


def _why(text: str | None) -> str:
    return f": {text.splitlines()[0]}" if text else ""


def _at(text: str | None, now: datetime) -> str:
    """Time of day, with the date unless it is today's."""
    if text is None:
        return "–"
    at = datetime.fromisoformat(text).astimezone(now.tzinfo)
    return at.strftime("%H:%M" if at.date() == now.date() else "%Y-%m-%d %H:%M")
