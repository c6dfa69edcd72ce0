"""One route on a page of its own: how it is, how it was, and who held its mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from probe.core.events import Instant
from probe.core.history import Cell, Point, Summary, Totals
from probe.core.html import Html, join, tag
from probe.core.state import State
from probe.page.facts import Figures, Route
from probe.page.frame import badge, link, row, section, table
from probe.page.overview import legend, says
from probe.page.strip import SPANS, Span, levels, strip
from probe.page.words import Speech

_SHOWN = 100  # mails in flight that are told one by one,
_DRAWN = 400  # and that the chart draws: of more than that every second, third, …


class Past(NamedTuple):
    """What is on record of a route; `until`: the end of what was asked for, by span."""

    until: Mapping[str, float]
    strips: Mapping[str, Sequence[Cell]]
    points: Sequence[Point]
    totals: Totals
    recent: Sequence[Summary]


def state(route: Route, speech: Speech) -> Html:
    """How it is now."""
    return tag(
        "p", badge(route.view.state, speech), says(route, speech),
        id="state", class_="state", data_state=route.view.state, data_word=speech.state(route.view.state),
        data_title=f"{route.name}: {speech.state(route.view.state)} – {speech.say('title')}",
    )  # fmt: skip


def flying(figures: Figures, now: Instant, speech: Speech) -> Html:
    """The mails in flight, the oldest first. The chart draws them, too."""
    queued = any(name for _, name in figures.flying)
    rows = [row(speech.at(at, now, seconds=True), *([name] if queued else [])) for at, name in figures.flying[:_SHOWN]]
    drawn = figures.flying[:: max(1, -(-len(figures.flying) // _DRAWN))]
    more = len(figures.flying) - _SHOWN
    title, heads = speech.say("flying"), ["accepted", *(["queue_id"] if queued else [])]
    made = table(title, map(speech.say, heads), rows, shown=False) if rows else tag("p", speech.say("flying.none"))
    rest = tag("p", speech.say("flying.more", number=more), class_="quiet") if more > 0 else ""
    return section(title, made, rest, id_="flying", data_accepted=" ".join(f"{at.wall:.0f}" for at, _ in drawn))


def stages(figures: Figures, now: Instant, speech: Speech) -> Html:
    """How long the last submission took, stage by stage."""
    if not figures.stages:
        return tag("section", id="stages", hidden=True)
    most = max(seconds for _, seconds in figures.stages)
    rows = [
        row(speech.say(name), _bar(seconds / most if most else 0.0), speech.long(seconds), numbers=1)
        for name, seconds in figures.stages
    ]
    when = [tag("p", speech.at(figures.at, now, seconds=True), class_="quiet")] if figures.at else []
    title = speech.say("stages")
    heads = [speech.say("stage"), speech.say("share"), speech.say("took")]
    return section(title, *when, table(title, heads, rows, 1, shown=False), id_="stages")


def past(found: Past | None, speech: Speech, public: bool, now: float) -> dict[str, Html]:
    """All that comes from the record, by the ids of its parts."""
    names = ("strips", "points", "outcomes", "holders", "recent")
    parts = {name: tag("section", id=name, hidden=True) for name in names}
    if found is None:
        return parts | {"strips": tag("p", speech.say("none_yet"), id="strips")}
    return parts | {
        "strips": _strips(found, speech),
        "points": _points(found.points, speech, now),
        "outcomes": _outcomes(found.totals, speech),
        **({"holders": _holders(found.totals, speech)} if found.totals.holders else {}),
        "recent": _recent(found.recent, speech, public, now),
    }


def _strips(found: Past, speech: Speech) -> Html:
    strips = [
        tag("div", tag("h3", speech.say(name)), strip(levels(cells, span, found.until[name]), span, speech))
        for name, cells in found.strips.items()
        for span in [SPANS[name]]
    ]
    title = tag("h2", speech.say("strip", span=speech.say("90d")), class_="away")
    return tag("section", title, *strips, legend(speech), class_="strips", id="strips")


def _points(points: Sequence[Point], speech: Speech, now: float) -> Html:
    """The delays as a table, from which the chart is drawn."""
    heads = [speech.say(key) for key in ("sent", "mails", "least", "median", "most")]
    rows = [
        row(speech.when(it.begin, now), str(it.number), *(speech.long(x) for x in (it.least, it.median, it.most)),
            numbers=4, data_point=f"{it.begin:.0f} {it.least:.4g} {it.median:.4g} {it.most:.4g}")
        for it in points
    ]  # fmt: skip
    made = table(speech.say("chart"), heads, rows, 4, shown=False) if rows else tag("p", speech.say("chart.none"))
    return tag("details", tag("summary", speech.say("chart.table")), made, open=True, id="points")


def _latency(points: Html, span: Span, path: str, speech: Speech) -> Html:
    chosen = [
        tag("li", link(path, speech.say(name), current=name == span.name, lang=speech.language, span=name))
        for name in SPANS
    ]
    box = tag("div", id="chart", aria_hidden="true", data_span=span.seconds)
    chart = tag("figure", box, tag("figcaption", speech.say("chart")), hidden=True, id="figure")
    return section(speech.say("latency"), tag("ul", *chosen, class_="chips"), chart, points)


def _outcomes(totals: Totals, speech: Speech) -> Html:
    number = sum(totals.states.values())
    rows = [
        _share(speech.outcome(state), totals.states[state], number, speech) for state in State if state in totals.states
    ]
    more = {"late.share": totals.late, "unknown.share": totals.unknown, "junk.share": totals.placements.get("junk", 0)}
    rows += [_share(speech.say(key), some, number, speech) for key, some in more.items() if some]
    title = speech.say("outcomes")
    heads = [speech.say(key) for key in ("outcome", "share", "mails")]
    made = [table(title, heads, rows, 1, shown=False)] if rows else [tag("p", speech.say("cells.none"))]
    if found := totals.latencies:
        ranks = (("median", found.median), ("p95", found.p95), ("p99", found.p99), ("most", found.most))
        made += [tag("dl", *(tag("div", tag("dt", speech.say(key)), tag("dd", speech.long(it))) for key, it in ranks))]
    return section(title, *made, id_="outcomes")


def _holders(totals: Totals, speech: Speech) -> Html:
    title = speech.say("holders")
    heads = [speech.say(key) for key in ("holder", "share", "mails", "each")]
    found = sorted(totals.holders.items(), key=lambda item: -item[1][1])
    every = sum(held for _, held in totals.holders.values()) or 1.0
    rows = [
        row(speech.say(segment), _bar(held / every), str(mails), speech.long(held / mails), numbers=2)
        for segment, (mails, held) in found
    ]
    return section(title, table(title, heads, rows, 2, shown=False), id_="holders")


def _recent(found: Sequence[Summary], speech: Speech, public: bool, now: float) -> Html:
    title = speech.say("recent")
    heads = [speech.say(key) for key in ("sent", "outcome", *(() if public else ("reason",)), "took_delay")]
    rows = [
        row(speech.when(it.started, now, seconds=True), _fate(it, speech), *(() if public else (it.status or "–",)),
            speech.long(it.latency), numbers=1)
        for it in found
    ]  # fmt: skip
    made = table(title, heads, rows, 1, shown=False) if rows else tag("p", speech.say("recent.none"))
    return section(title, made, id_="recent")


def _fate(it: Summary, speech: Speech) -> str:
    late = f", {speech.say('late')}" if it.missed is not None and it.state is not State.LOST else ""
    return speech.outcome(it.state) + late


def _share(name: str, some: int, number: int, speech: Speech) -> Html:
    return row(name, _bar(some / number), f"{some}", numbers=1)


def _bar(share: float) -> Html:
    """A share as a bar; the number stands beside it."""
    path = tag("path", d=f"M0 .5h{max(0.004, share):.3f}")
    return tag("svg", path, class_="bar", viewBox="0 0 1 1", preserveAspectRatio="none", aria_hidden="true")


def content(route: Route, parts: Mapping[str, Html], span: Span, speech: Speech) -> Html:
    """The page of these parts."""
    path = f"/route/{route.name}"
    people = [speech.say("from_to", sender=route.sender, recipient=route.recipient)] if route.sender else []
    return join([
        tag("p", link("/", f"← {speech.say('all')}", lang=speech.language), class_="back"),
        tag("h1", route.name),
        *(tag("p", text, class_="quiet") for text in people),
        parts["state"],
        parts["strips"],
        _latency(parts["points"], span, path, speech),
        parts["incidents"],
        tag("div", parts["outcomes"], parts["flying"], class_="pair"),
        tag("div", parts["holders"], parts["stages"], class_="pair"),
        parts["recent"],
        parts["now"],
    ])  # fmt: skip
