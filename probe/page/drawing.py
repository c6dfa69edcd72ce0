"""The pages' parts, drawn of what is known now and of what is on record.

Rule: whether the public looks is decided once for each drawing, and before anything is drawn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

from probe.core.events import Instant
from probe.core.html import Html, tag
from probe.core.phrases import Language
from probe.core.trouble import Incident, as_of
from probe.page import detail, overview
from probe.page.facts import Health, Route, Source, public, public_figures, public_health
from probe.page.live import Parts
from probe.page.past import Past
from probe.page.strip import SPANS, Span, levels
from probe.page.words import Speech

_UNUSED = 30  # paces after which parts that nobody watches are forgotten
_INCIDENTS = 50  # in the table
_AT_ONCE = 25  # routes that are drawn before others have their turn
_NOTHING = levels((), SPANS["24h"], 0.0)


class Drawing:
    """Draws parts, and keeps them while somebody looks: anew once in `pace` seconds of the loop."""

    def __init__(self, source: Source, past: Past, pace: float) -> None:
        self._source, self._past, self._pace = source, past, pace
        self._parts: dict[tuple[Language, str, str, bool], Parts] = {}
        self._turns = asyncio.Lock()

    async def turn(self) -> None:
        """Wait for one's turn: of many viewers who wake together one goes on, then all others of the loop, and then the
        next."""
        async with self._turns:
            await asyncio.sleep(0)

    async def parts(self, speech: Speech, name: str, span: Span = SPANS["24h"]) -> Parts:
        """Those of this route's page, with this span's chart; "" for that of all; fresh."""
        await self.turn()
        now, hidden = asyncio.get_running_loop().time(), self._source.is_public()
        for old in [key for key, it in self._parts.items() if now - it.used > _UNUSED * self._pace]:
            del self._parts[old]
        key = speech.language, name, span.name if name else "", hidden
        if key not in self._parts:
            make = partial(self._route, name, span) if name else self._all
            self._parts[key] = Parts(partial(make, speech, hidden), lambda: self._source.now().wall, self._pace, now)
        parts = self._parts[key]
        await parts.refresh()
        return parts

    def route(self, name: str) -> Route | None:
        """As it may be shown now; None: there is none of this name."""
        return self._shown(name, self._source.now(), self._source.is_public())

    def head(self, parts: Parts, speech: Speech, asked: Mapping[str, str]) -> Html:
        """The headline for a viewer who asked for some of the routes."""
        health = self._health(self._source.is_public())
        return overview.head(list(parts.routes.values()), health, speech, **asked)

    def _shown(self, name: str, now: Instant, hidden: bool) -> Route | None:
        found = self._source.route(name, now)
        return public(found) if found and hidden else found

    def _health(self, hidden: bool) -> Health:
        health = self._source.health()
        return public_health(health) if hidden else health

    async def _all(self, speech: Speech, hidden: bool, parts: Parts) -> None:
        wall, routes = self._source.now().wall, list[Route]()
        days, over = await self._past.strips(wall), await self._past.incidents(wall)
        now = self._source.now()
        for number, name in enumerate(self._source.routes()):
            if not number % _AT_ONCE:
                await self.turn()
            if route := self._shown(name, now, hidden):
                routes.append(route)
                said, day = overview.says(route, speech), days.get(name, _NOTHING)
                key = route.view.state, said, route.sender, route.recipient, day
                parts.put(f"r-{name}", key, partial(overview.card, route, said, day, speech))
        routes.sort(key=overview.rank)
        parts.arrange({f"r-{route.name}": route for route in routes})
        health, found = self._health(hidden), _incidents(routes, over)
        parts.put("head", None, lambda: overview.head(routes, health, speech, "", ""))
        parts.put("own", None, lambda: overview.own(health, now.wall, speech))
        parts.put("incidents", (found, now.wall // 60), lambda: overview.incidents(found, now.wall, speech))
        parts.put("now", None, lambda: _now(speech, now))

    async def _route(self, name: str, span: Span, speech: Speech, hidden: bool, parts: Parts) -> None:
        wall = self._source.now().wall
        record, over = await self._past.detail(name, span, wall), await self._past.incidents(wall, name)
        await self.turn()
        now = self._source.now()
        route = self._shown(name, now, hidden)
        if route is None:
            return  # it was removed from the configuration; the page stays as it was
        figures, found = self._source.figures(name), _incidents([route], over)
        known = public_figures(figures) if hidden else figures
        parts.put_together(record, lambda: detail.past(record, speech, hidden, now.wall))
        parts.put("state", None, lambda: detail.state(route, speech))
        parts.put("flying", None, lambda: detail.flying(known, now, speech))
        parts.put("stages", None, lambda: detail.stages(known, now, speech))
        parts.put("incidents", None, lambda: overview.incidents(found, now.wall, speech, named=False))
        parts.put("now", None, lambda: _now(speech, now))


def _incidents(routes: Sequence[Route], over: Sequence[Incident]) -> list[Incident]:
    """Those that are open as they are now, and of the others what is on record."""
    known = {route.name for route in routes}
    open_ = [(it, route.view) for route in routes for it in route.view.incidents]
    latest = sorted(open_, key=lambda pair: -pair[0].begin.wall)[:_INCIDENTS]
    return [*(as_of(it, view) for it, view in latest), *(it for it in over if it.route in known)][:_INCIDENTS]


def _now(speech: Speech, now: Instant) -> Html:
    time = datetime.fromtimestamp(now.wall, speech.zone).strftime("%H:%M:%S %Z")
    return tag("p", speech.say("as_of", time=time), id="now", class_="quiet", data_wall=f"{now.wall:.3f}")
