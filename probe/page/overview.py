"""All routes on one page, the worst first.

Rule: what is shown of a route changes only when it says something new, so that a thousand of them cost little.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from probe.core.html import Html, join, opened, tag
from probe.core.phrases import end, sentence, trouble
from probe.core.trouble import Incident, RouteState
from probe.page.facts import Health, Route
from probe.page.frame import badge, icon, link, row, section, table
from probe.page.strip import SPANS, Levels, strip
from probe.page.words import Speech

_S = RouteState
WORST_FIRST = (_S.STUCK, _S.FAILING, _S.BLIND, _S.RECOVERING, _S.SLOW, _S.UNKNOWN, _S.OK)
_RANKS = {state: rank for rank, state in enumerate(WORST_FIRST)}
_HELD = {_S.STUCK, _S.RECOVERING, _S.SLOW}  # among these the one that has held mail for longest is worse
_AT_ONCE = 50  # routes in a piece


def rank(route: Route) -> tuple[int, float, str]:
    """By this the worst comes first."""
    view = route.view
    return _RANKS[view.state], -(view.oldest or 0.0) if view.state in _HELD else 0.0, route.name


def says(route: Route, speech: Speech) -> str:
    """How it is, without its state."""
    return sentence(route.view, speech.language, speech.zone).partition(": ")[2]


def card(route: Route, said: str, levels: Levels, speech: Speech) -> Html:
    """A route in a line; `said` of it, and how its last day was."""
    view = route.view
    people = f"{route.sender} →\u00a0{route.recipient}" if route.sender else ""
    name = link(f"/route/{route.name}", route.name, lang=speech.language)
    return tag(
        "li",
        badge(view.state, speech),
        tag("div", tag("h3", name), tag("small", people) if people else ""),
        tag("p", said),
        strip(levels, SPANS["24h"], speech),
        id=f"r-{route.name}",
        class_="card",
        data_state=view.state,
        data_word=speech.state(view.state),
    )


def head(routes: Sequence[Route], health: Health, speech: Speech, state: str, q: str) -> Html:
    """How many are how, as a headline and as links to those."""
    lang = speech.language
    counts = Counter(route.view.state for route in routes)
    all_ = len(routes)
    bad = all_ - counts[_S.OK]
    key = "fine.not" if bad else "fine.all" if all_ else "fine.none"
    if all_ and counts[_S.UNKNOWN] == all_:
        key = "fine.unknown"
    title = speech.say(key, number=bad or all_, all=all_)
    warning = tag("a", f"{speech.say('own')}: {troubles(health, speech)}", href="#own")
    flying = speech.say("in_flight", number=sum(route.view.in_flight for route in routes))
    chips = [_chip("", speech.say("every"), all_, state, lang, q)]
    chips += [_chip(it, badge(it, speech), counts[it], state, lang, q) for it in WORST_FIRST if counts[it]]
    return tag(
        "div",
        tag("h1", title),
        tag("p", flying, class_="quiet"),
        *([tag("p", icon(_S.BLIND), warning, class_="badge blind")] if not health.well else []),
        tag("ul", *(tag("li", chip) for chip in chips), class_="chips", aria_label=speech.say("filter")),
        id="head",
        data_title=f"{title} – {speech.say('title')}",
    )


def _chip(state: str, text: str, number: int, chosen: str, lang: str, q: str) -> Html:
    return link("/", text, tag("b", str(number)), current=state == chosen, lang=lang, state=state, q=q)


def search(speech: Speech, state: str, q: str) -> Html:
    """A form that works without scripts, and at once with them."""
    kept = [tag("input", type="hidden", name=n, value=v) for n, v in (("lang", speech.language), ("state", state)) if v]
    label = tag("label", speech.say("filter"), for_="q", class_="away")
    field = tag("input", type="search", id="q", name="q", value=q, placeholder=speech.say("filter"),
                autocomplete="off", spellcheck="false")  # fmt: skip
    return tag("form", *kept, label, field, tag("button", speech.say("find")), method="get", action="/", role="search")


def troubles(health: Health, speech: Speech) -> str:
    """What is wrong with the prober itself."""
    down, number = sum(not box.up for box in health.mailboxes), len(health.mailboxes)
    found = [speech.say("own.boxes", number=down, all=number)] if down else []
    found += [speech.say(key) for key, bad in (("own.ledger", health.ledger), ("own.reload", health.reload)) if bad]
    return "; ".join(found)


def own(health: Health, now: float, speech: Speech) -> Html:
    """The prober's own health."""
    text = troubles(health, speech) or speech.say("own.well", number=len(health.mailboxes))
    boxes = [f"{box.account} ({box.reason})" if box.reason else box.account for box in health.mailboxes if not box.up]
    reasons = [*boxes, health.ledger, health.reload] if health.version else []
    since = speech.say("own.since", time=speech.when(health.since.wall, now))
    about = [since, *([speech.say("own.version", version=health.version)] if health.version else [])]
    lines = ["; ".join(filter(None, reasons)), " · ".join(about)]
    state = _S.OK if health.well else _S.BLIND
    quiet = [tag("p", line, class_="quiet") for line in lines if line]
    return section(speech.say("own"), tag("p", icon(state), text, class_=f"badge {state}"), *quiet, id_="own")


def incidents(found: Sequence[Incident], now: float, speech: Speech, named: bool = True) -> Html:
    """A table of incidents, the latest first."""
    keys = [*(["route"] if named else []), "kind", "begin", "end", "worst", "holder", "mails", "peak"]
    rows = [
        row(
            *([link(f"/route/{it.route}", it.route, lang=speech.language)] if named else []),
            trouble(it, speech.language),
            speech.when(it.begin.wall, now),
            end(it, speech.when(it.end.wall, now)) if it.end else tag("b", speech.say("lasts")),
            badge(it.worst, speech),
            speech.say(it.fault.segment) if it.fault else "–",
            str(it.toll.affected),
            speech.long(it.peak),
            numbers=2,
        )
        for it in found
    ]
    title = speech.say("incidents")
    made = table(title, map(speech.say, keys), rows, 2, shown=False) if rows else tag("p", speech.say("incidents.none"))
    return section(title, made, id_="incidents")


def matches(route: Route, state: str, q: str) -> bool:
    """Whether it is among those that were asked for."""
    return (not state or route.view.state == state) and q.casefold() in _text(route.name, route.sender, route.recipient)


@lru_cache(4096)  # whoever watches some of the routes asks for all of them once a second
def _text(*of: str) -> str:
    return " ".join(of).casefold()


def content(
    fragments: Mapping[str, Html], order: Sequence[str], form: Html, speech: Speech, metrics: bool
) -> Iterator[Html]:
    """The page of these fragments, in pieces: the worst routes are in the first one."""
    begin = [fragments["head"], form, tag("h2", speech.say("all"), class_="away"), opened("ul", id="routes")]
    for number in range(0, len(order), _AT_ONCE):
        yield join([*begin, *(fragments[name] for name in order[number : number + _AT_ONCE])])
        begin = []
    yield join([
        *begin,
        Html("</ul>"),
        tag("p", speech.say("nothing"), id="nothing", hidden=bool(order)),
        legend(speech),
        fragments["incidents"],
        fragments["own"],
        tag("p", *_link_in(speech, "metrics", "/metrics"), class_="quiet") if metrics else Html(),
        fragments["now"],
    ])  # fmt: skip


def legend(speech: Speech) -> Html:
    """What the strips' heights and colours mean."""
    items = []
    for name, height in (("good", 5), ("some", 10), ("bad", 16), ("dark", 3), ("void", 1)):
        bar = tag("path", class_=name, d=f"M0 {16 - height / 2:g}h1")
        picture = tag("svg", bar, class_="strip", viewBox="0 0 1 16", preserveAspectRatio="none", aria_hidden="true")
        items.append(tag("li", picture, speech.say(name)))
    return tag("ul", *items, class_="legend")


def _link_in(speech: Speech, key: str, path: str) -> list[str]:
    before, after = speech.say(key, link="\0").split("\0")
    return [before, tag("a", path, href=path), after]
