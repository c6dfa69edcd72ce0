"""The pages by HTTP: what is asked for in a URL, and the answers, live ones among them.

Rules:
- Whatever comes in a request is compared with what we know, never looked up elsewhere, and shown only escaped.
- Live streams are few, each sends to its own viewer at that one's pace, and all end when the daemon does.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from datetime import tzinfo
from functools import partial
from typing import Any, get_args

from aiohttp import web

from probe.core.accepts import has, tagged, takes_gzip
from probe.core.html import Html, tag
from probe.core.phrases import Language
from probe.core.trouble import RouteState
from probe.page import detail, overview
from probe.page.assets import assets, paths
from probe.page.drawing import Drawing
from probe.page.facts import Route, Source
from probe.page.frame import address, body, head, link
from probe.page.live import Parts, event
from probe.page.past import Past
from probe.page.strip import SPANS, Span
from probe.page.words import Speech, choose

VIEWERS = 200  # live streams at a time; more are told to come back later
_HEARTBEAT = 15  # paces in which a stream says something, lest a proxy take it for dead
_PATIENCE = 20  # paces for which a viewer may not read what it is sent
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_FRESH = {"Cache-Control": "no-store", "Vary": "Accept-Language, Accept-Encoding"}
_FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}


class Face:
    """The pages of one daemon. `routes()` are for its web server; stop() ends the streams. They are drawn anew once in
    `pace` seconds of the loop, whose days may be minutes."""

    def __init__(self, source: Source, past: Past, zone: tzinfo, pace: float = 1.0) -> None:
        self._source, self._zone, self._pace = source, zone, pace
        self._drawing = Drawing(source, past, pace)
        self._ending = asyncio.Event()
        assets()  # no request has to wait until they are read and packed
        self.viewers = 0

    def routes(self) -> list[web.AbstractRouteDef]:
        """What is answered."""
        return [
            web.get("/", self._overview),
            web.get("/route/{name}", self._detail),
            web.get("/live", self._live, allow_head=False),
            web.get("/static/{digest}/{name}", self._static),
        ]

    def stop(self) -> None:
        """End all streams."""
        self._ending.set()

    # -- what is shown -------------------------------------------------------------------------------------------

    def _speech(self, request: web.Request) -> Speech:
        accepts = request.headers.get("Accept-Language", "")
        return Speech(choose(request.query.get("lang", ""), accepts), self._zone)

    # -- the pages -----------------------------------------------------------------------------------------------

    async def _overview(self, request: web.Request) -> web.StreamResponse:
        speech, asked = self._speech(request), _asked(request)

        async def content() -> tuple[Iterable[Html], Parts]:
            parts = await self._drawing.parts(speech, "")
            fragments = dict(parts.html)  # while they are sent, others may be drawn
            if any(asked.values()):
                fragments["head"] = self._drawing.head(parts, speech, asked)
            form, metrics = overview.search(speech, **asked), not self._source.is_public()
            return overview.content(fragments, list(_wanted(parts, asked)), form, speech, metrics), parts

        return await self._page(request, speech, speech.say("title"), content, ["page.js"], asked)

    async def _detail(self, request: web.Request) -> web.StreamResponse:
        speech = self._speech(request)
        route = self._drawing.route(request.match_info["name"])
        if route is None:
            return await self._page(request, speech, speech.say("title"), partial(_nothing, speech), [], {}, 404)
        span = _span(request)

        async def content() -> tuple[Iterable[Html], Parts]:
            parts = await self._drawing.parts(speech, route.name, span)
            return [detail.content(route, parts.html, span, speech)], parts

        kept = {"span": span.name} if "span" in request.query else {}
        title, scripts = f"{route.name} – {speech.say('title')}", ["uplot.js", "chart.js", "page.js"]
        return await self._page(request, speech, title, content, scripts, kept)

    async def _page(
        self, request: web.Request, speech: Speech, title: str,
        content: Callable[[], Awaitable[tuple[Iterable[Html], Parts | None]]],
        scripts: list[str], kept: Mapping[str, str], status: int = 200,
    ) -> web.StreamResponse:  # fmt: skip
        """Its head is sent at once, and loads what it is made of while the rest is drawn."""
        response = _Packed(request, status, {**_HEADERS, **_FRESH, "Content-Language": speech.language})
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        with suppress(ConnectionError):  # the viewer has gone
            await response.send(head(speech, title, paths(), scripts))
            pieces, parts = await content()
            languages: dict[Language, str] = {
                language: address(request.path, {**kept, "lang": language}) for language in get_args(Language)
            }
            data = self._stream(request, speech, parts, kept) if parts else {}
            for piece in body(speech, self._source.health().demo, pieces, languages, **data):
                await response.send(piece)
                await self._drawing.turn()
            await response.end()
        return response

    def _stream(self, request: web.Request, speech: Speech, parts: Parts, kept: Mapping[str, str]) -> dict[str, Any]:
        """What the page's scripts are told."""
        live = {**kept, "lang": speech.language, "route": request.match_info.get("name", ""), "after": parts.serial}
        now = self._source.now().wall
        offsets = speech.offsets(now - _span(request).seconds, now) if live["route"] else None
        return {"data_stream": address("/live", live), "data_offsets": offsets}

    # -- what changes --------------------------------------------------------------------------------------------

    async def _live(self, request: web.Request) -> web.StreamResponse:
        speech, asked, name = self._speech(request), _asked(request), request.query.get("route", "")
        if name and not self._drawing.route(name):
            return web.Response(status=404, headers=_HEADERS)
        if self.viewers >= VIEWERS or self._ending.is_set():
            return web.Response(status=503, headers={**_HEADERS, "Retry-After": "30"})
        headers = {**_HEADERS, **_FRESH, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=headers)
        self.viewers += 1
        try:
            await response.prepare(request)
            await self._send(response, speech, name, _span(request), asked, _serial(request))
        except (ConnectionError, TimeoutError):
            pass  # the viewer has gone, or does not read
        finally:
            self.viewers -= 1
        return response

    async def _send(
        self, response: web.StreamResponse, speech: Speech, name: str, span: Span, asked: Mapping[str, str], serial: int
    ) -> None:
        loop = asyncio.get_running_loop()
        shown: Collection[str] | None = None
        quiet = loop.time()
        while not self._ending.is_set() and (not name or self._drawing.route(name)):
            parts = await self._drawing.parts(speech, name, span)
            if serial > parts.serial:
                serial = 0  # of a time before the clock was set back
            if any(asked.values()):
                wanted = _wanted(parts, asked)
                news = self._some(parts, speech, asked, serial, wanted, wanted.keys() if shown is None else shown)
                shown = wanted.keys()
            else:
                news = parts.news(serial)
            serial = parts.serial
            if news or loop.time() - quiet >= _HEARTBEAT * self._pace:
                quiet = loop.time()
                async with asyncio.timeout(_PATIENCE * self._pace):
                    await response.write(news or b":\n\n")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pace):
                    await self._ending.wait()

    def _some(
        self, parts: Parts, speech: Speech, asked: Mapping[str, str], serial: int, wanted: Mapping[str, Route],
        shown: Collection[str],
    ) -> bytes:  # fmt: skip
        """News for a viewer of some of the routes, who has a headline of his own."""
        said = parts.since(serial, wanted, shown)
        html = said.get("html")
        if isinstance(html, dict) and "head" in html:
            html["head"] = self._drawing.head(parts, speech, asked)
        return event(parts.serial, said) if said else b""

    # -- files ---------------------------------------------------------------------------------------------------

    async def _static(self, request: web.Request) -> web.Response:
        asset = assets().get(request.path)
        if asset is None:
            return web.Response(status=404, headers=_HEADERS)
        zipped = takes_gzip(request.headers.get("Accept-Encoding", ""))
        tag = tagged(asset.digest, zipped)
        headers = {**_HEADERS, **_FOREVER, "ETag": tag, "Vary": "Accept-Encoding"}
        if has(request.headers.get("If-None-Match", ""), tag):
            return web.Response(status=304, headers=headers)
        headers |= {"Content-Type": asset.content_type} | ({"Content-Encoding": "gzip"} if zipped else {})
        return web.Response(body=asset.zipped if zipped else asset.body, headers=headers)


class _Packed(web.StreamResponse):
    """An answer that is sent in pieces, packed for who takes that; each can be shown before the next one is made."""

    def __init__(self, request: web.Request, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status=status, headers=headers)
        self.content_type, self.charset = "text/html", "utf-8"
        self._packer = zlib.compressobj(wbits=31) if takes_gzip(request.headers.get("Accept-Encoding", "")) else None
        if self._packer:
            self.headers["Content-Encoding"] = "gzip"

    async def send(self, text: str) -> None:
        """Raises ConnectionError where nobody reads any more."""
        piece = text.encode()
        if self._packer:
            piece = self._packer.compress(piece) + self._packer.flush(zlib.Z_SYNC_FLUSH)
        await self.write(piece)

    async def end(self) -> None:
        """Nothing follows."""
        await self.write_eof(self._packer.flush() if self._packer else b"")


async def _nothing(speech: Speech) -> tuple[Iterable[Html], None]:
    back = link("/", f"← {speech.say('all')}", lang=speech.language)
    return [tag("p", back, class_="back"), tag("h1", speech.say("not_found"))], None


def _asked(request: web.Request) -> dict[str, str]:
    """By what the list is to be filtered."""
    state = request.query.get("state", "")
    return {"state": state if state in set(RouteState) else "", "q": request.query.get("q", "")[:100]}


def _wanted(parts: Parts, asked: Mapping[str, str]) -> Mapping[str, Route]:
    """Of the list those that were asked for."""
    if not any(asked.values()):
        return parts.routes
    return {name: route for name, route in parts.routes.items() if overview.matches(route, **asked)}


def _serial(request: web.Request) -> int:
    """From where the viewer goes on: by itself after a break, else from the page that it has."""
    said = request.headers.get("Last-Event-ID") or request.query.get("after", "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 20 else 0


def _span(request: web.Request) -> Span:
    """Which time the chart is to show."""
    return SPANS.get(request.query.get("span", ""), SPANS["24h"])
