"""How things look on a terminal: renderables and lines for cli/, which prints them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from probe.check import Finding
from probe.core.events import Accepted, Instant, Part, Segment, Stay, Traced
from probe.core.outcome import RouteView
from probe.core.settings import Route, Settings
from probe.core.skew import Interval
from probe.core.spans import told
from probe.core.way import held_most, slowest
from probe.core.words import duration
from probe.once import Result, Step

if TYPE_CHECKING:
    from probe.demo.stage import Comparison  # which only its own command may load

_SIGNS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "bad": ("✗", "red")}
_COLOURS = {"ok": "green", "warning": "yellow", "critical": "red", "unknown": "magenta"}
_NEWS = 6  # headlines, the latest


def route(settings: Settings, wanted: Route) -> Text:
    """The headline over a timeline."""
    sender, recipient = (settings.accounts[name].address for name in (wanted.sender, wanted.recipient))
    return Text.assemble("\n", (wanted.name, "bold"), f"  {sender} → {recipient}")


def step(reached: Step) -> Text:
    """One line of a probe's timeline: seconds since the start, what was reached, how long it took by itself."""
    took = "" if reached.took is None else f"took {duration(reached.took)}"
    line = Text(f"  {reached.at:9.3f} s  {reached.name:<10}", end="")
    line.append(f"{took or reached.detail}", style="dim")
    return Text(line.plain.rstrip(), spans=line.spans)


def verdict(result: Result) -> Text:
    """One line, as monitoring plugins print: STATE - text | performance data."""
    data = ""
    if result.probe and result.probe.latency is not None:
        ends = sorted({*result.route.deadlines[:1], *result.route.deadlines[-1:]})
        data = ";".join([f" | latency={result.probe.latency:.3f}s", *(f"{deadline:g}" for deadline in ends)])
    word = result.verdict.upper()
    said = result.text.replace("|", "/")  # which begins the performance data
    return Text.assemble((word, f"bold {_COLOURS[result.verdict]}"), f" - {result.route.name}: {said}{data}")


_SEGMENTS: dict[Segment, str] = {
    "submission": "submission",
    "sender": "sender's provider",
    "between": "between them",
    "recipient": "recipient's provider",
    "provider": "the provider",
    "unresolved": "on its way",
    "mailbox": "mailbox, until seen",
}


def way(traced: Traced) -> RenderableType:
    """Who had the mail for how long, and what the receiver said of it."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    longest = slowest(traced)
    for part in traced.segments:
        style = "bold" if part == longest else ""
        table.add_row(f"  {_SEGMENTS[part.segment]}", Text(_held(part), style=style))
    for stay in traced.stays if held_most(traced) else ():
        if stay.host == held_most(traced):
            table.add_row("  longest at", Text(f"{stay.host}, {_held(stay)}", style="bold"))
    if traced.authentication:
        said = ", ".join(f"{method} {result}" for method, result in traced.authentication)
        table.add_row("  the receiver says", said)
    return table


def _held(held: Part | Stay) -> str:
    if held.low == held.high:
        return duration(held.low)
    stamped = held.high >= held.resolution  # what is below is bounded by the whole way, which we measured ourselves
    return told(Interval(held.low, held.high), held.resolution if stamped else 0.001)


def as_json(result: Result, steps: Sequence[Step]) -> dict[str, Any]:
    """The same as one object; times in seconds, instants in Unix time."""
    accepted = result.submitted if isinstance(result.submitted, Accepted) else None
    probe = result.probe
    traced = probe.traced if probe else None
    return {
        "route": result.route.name,
        "verdict": result.verdict,
        "text": result.text,
        "latency_seconds": probe.latency if probe else None,
        "uncertainty_seconds": probe.uncertainty if probe else None,
        "accepted": accepted.at.wall if accepted else None,
        "seen": probe.arrived.at.wall if probe and probe.arrived else None,
        "detection": probe.arrived.detection if probe and probe.arrived else None,
        "folder": probe.arrived.place.folder if probe and probe.arrived else None,
        "queue_id": accepted.queue_id if accepted else None,
        "timeline": [asdict(each) for each in steps],
        "segments": [part._asdict() for part in traced.segments] if traced else None,
        "hosts": [stay._asdict() for stay in traced.stays] if traced else None,
        "authentication": dict(traced.authentication) if traced else None,
    }


def finding(found: Finding) -> Text:
    """One line of `check`."""
    sign, colour = _SIGNS[found.level]
    return Text.assemble("  ", (sign, colour), f" {found.text}")


def heading(now: Instant, speed: float) -> Text:
    """What time it is, and whose time."""
    if speed == 1:
        return Text.assemble((_date(now.wall), "bold"), ("   in real time", "dim"))
    step = f"{speed / 60:g} min" if speed >= 60 else f"{speed:g} s"
    pace = "as fast as this machine can" if math.isinf(speed) else f"1 s = {step} at most"
    return Text.assemble((_date(now.wall), "bold"), (f"   a replay, {pace}: all times are the world's", "dim"))


def board(
    top: Text, views: Sequence[RouteView], says: Mapping[str, str], news: Sequence[tuple[float, str]], url: str
) -> RenderableType:
    """The demo's live table."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("route", "the provider", "last delay", "in flight", "oldest in flight"):
        table.add_column(name, justify="left" if name in {"route", "the provider"} else "right")
    for view in views:
        old = view.oldest is not None and view.oldest > 5
        table.add_row(
            view.route,
            Text(says.get(view.route, ""), style="dim"),
            duration(view.last_latency),
            str(view.in_flight),
            Text(duration(view.oldest), style="bold red" if old else ""),
        )
    told = Text("\n".join(["", *(news_line(*item).plain for item in news[-_NEWS:])]), style="yellow")
    links = Text.assemble("\nPage: ", (f"{url}/", "underline"), "   Prometheus: ", (f"{url}/metrics", "underline"))
    return Group(top, Text(), table, told, links, Text("Ctrl-C ends it.", style="dim"))


def news_line(wall: float, text: str) -> Text:
    """What the provider's operators could have told."""
    return Text(f"{_date(wall)}  {text}")


def comparison(rows: Iterable[Comparison]) -> RenderableType:
    """What the provider really did, and what was measured from outside."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("route", "what the provider did", "what mailprobe saw", "longest wait", "measured", "error"):
        table.add_column(name, justify="left" if name[:4] in {"rout", "what"} else "right")
    for row in rows:
        real, measured = row.longest or (None, None)
        table.add_row(
            row.route,
            _counted(row.fates),
            _counted(row.states) + (f", {row.unmeasured} unmeasured" if row.unmeasured else ""),
            duration(real),
            duration(measured),
            duration(row.error),
        )
    return Group(table, Text("error: the largest of all delivered mails, measured minus real", style="dim"))


def _counted(words: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {word}" for word, number in sorted(words.items(), key=lambda item: -item[1]))


def _date(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).strftime("%a %d %b %Y %H:%M UTC")


def board_line(views: Sequence[RouteView]) -> str:
    """The same on one line, where there is no terminal."""
    words = []
    for view in views:
        oldest = f", the oldest for {duration(view.oldest)}" if view.oldest is not None else ""
        words.append(f"{view.route}: last delay {duration(view.last_latency)}, {view.in_flight} in flight{oldest}")
    return "   ".join(words)
