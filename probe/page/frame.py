"""What all pages have in common: head, landmarks, languages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from math import isfinite
from urllib.parse import quote, urlencode

from probe.core.html import Html, join, opened, tag
from probe.core.phrases import Language
from probe.core.trouble import RouteState
from probe.page.facts import Demo
from probe.page.words import WORDS, Speech

# Each state has a shape of its own, for who does not see its colour: paths in a box of 16.
_SHAPES: Mapping[RouteState, str] = {
    RouteState.OK: "M3 8.5l3.5 3.5L13 4.5",
    RouteState.SLOW: "M8 4v4.5l3 2M8 1.5a6.5 6.5 0 1 0 .01 0",
    RouteState.STUCK: "M5.5 3v10M10.5 3v10",
    RouteState.RECOVERING: "M3 13L13 3M6 3h7v7",
    RouteState.FAILING: "M3.5 3.5l9 9M12.5 3.5l-9 9",
    RouteState.BLIND: "M1.5 8s2.5-4.5 6.5-4.5S14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8M3 14L13 2",
    RouteState.UNKNOWN: "M5 6a3 3 0 1 1 4.5 2.5C8.3 9.2 8 9.700 8 11M8 13.200v.6",
}
SHAPES = tag(
    "svg",
    *(tag("symbol", tag("path", d=shape), id=f"i-{state}", viewBox="0 0 16 16") for state, shape in _SHAPES.items()),
    class_="hidden",
    aria_hidden="true",
)


@lru_cache(64)
def badge(state: RouteState, speech: Speech) -> Html:
    """A state, by shape and in words."""
    return tag("span", icon(state), speech.state(state), class_=f"badge {state}")


def icon(state: RouteState) -> Html:
    """Its shape."""
    return tag("svg", tag("use", href=f"#i-{state}"), aria_hidden="true")


def table(caption: str, heads: Iterable[str], rows: Iterable[Html], numbers: int = 0, shown: bool = True) -> Html:
    """A table of which the last so many columns are numbers."""
    heads = list(heads)
    first = len(heads) - numbers
    cells = [tag("th", head, scope="col", class_="n" if i >= first else None) for i, head in enumerate(heads)]
    body = tag("table", tag("caption", caption, class_=None if shown else "away"), tag("thead", tag("tr", *cells)),
               tag("tbody", *rows))  # fmt: skip
    return tag("div", body, class_="scroll", tabindex="0", role="region", aria_label=caption)


def row(*cells: str, numbers: int = 0, **attributes: object) -> Html:
    """A row of a table; its first cell is its head."""
    first = len(cells) - numbers
    made = [
        tag("td" if i else "th", cell, class_="n" if i >= first else None, scope=None if i else "row")
        for i, cell in enumerate(cells)
    ]
    return tag("tr", *made, **attributes)


def link(path: str, /, *text: str, current: bool = False, **query: object) -> Html:
    """A link within the pages, with what is to be asked for; `current`: where the reader is."""
    return tag("a", *text, aria_current="true" if current else None, href=address(path, query))


def address(path: str, query: Mapping[str, object]) -> str:
    """A path with what is asked for; quoted, for names may be anything."""
    asked = urlencode({key: value for key, value in query.items() if value})
    return quote(path) + (f"?{asked}" if asked else "")


def head(speech: Speech, title: str, static: Mapping[str, str], scripts: Iterable[str]) -> Html:
    """How a page begins; nobody need be asked for it."""
    made = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("title", title),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href=static["icon.svg"], type="image/svg+xml"),
        *(tag("link", rel="stylesheet", href=static[name]) for name in ("uplot.css", "page.css")),
        *(tag("script", src=static[name], defer=True) for name in scripts),
    )
    return Html(f"<!DOCTYPE html>\n{opened('html', lang=speech.language)}{made}")


def body(
    speech: Speech, demo: Demo | None, content: Iterable[Html], languages: Mapping[Language, str], **data: object
) -> Iterator[Html]:
    """The rest of it, in pieces. `languages`: where it is in each; `data`: what its scripts are told."""
    others = [
        tag("a", WORDS[language]["language"], href=path, lang=language, hreflang=language, rel="alternate",
            aria_current="true" if language == speech.language else None)
        for language, path in languages.items()
    ]  # fmt: skip
    top = tag(
        "header",
        tag("a", speech.say("skip"), class_="skip", href="#content"),
        tag("span", tag("span", speech.say("stale"), hidden=True, id="stale"), id="live", data_live=speech.say("live")),
        tag("nav", *others, aria_label=f"{WORDS['en']['language']}, {WORDS['de']['language']}"),
    )
    said = tag("p", id="said", class_="away", role="status")
    played = [_played(demo, speech)] if demo else []
    yield join([opened("body", **data), SHAPES, *played, top, opened("main", id="content", tabindex="-1")])
    yield from content
    yield Html(f"</main>{said}</body></html>")


def _played(demo: Demo, speech: Speech) -> Html:
    """Who comes to the page by chance must not take it for real."""
    begin = datetime.fromtimestamp(demo.begins, speech.zone).strftime("%Y-%m-%d %H:%M %Z")
    runs = speech.say("replay.times", speed=speech.number(f"{demo.speed:g}"))
    told = {"begin": begin, "runs": runs if isfinite(demo.speed) else speech.say("replay.most")}
    text = speech.say("demo") if demo.speed == 1 else speech.say("replay", **told)
    return tag("aside", tag("p", text), class_="demo")


def section(title: str, *content: str, id_: str | None = None, **attributes: object) -> Html:
    """A part of a page with a heading."""
    return tag("section", tag("h2", title), join(content), id=id_, **attributes)
