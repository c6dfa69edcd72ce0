"""The API by HTTP: a query is read, a resource is made, and its bytes are sent with a tag, or are known already.

Rules:
- Everything under /api/v1 answers in JSON, mistakes too.
- The loop that measures is never held for long: routes are made a few at a time, and packed in a thread.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, Protocol

from aiohttp import web

from probe.api import resources
from probe.api.asked import PROBE, BadQuery, cursor, read
from probe.api.document import PATHS, document, parameters
from probe.api.examples import EXAMPLES
from probe.api.past import Busy, Record
from probe.api.resources import Data
from probe.core.accepts import has, tagged, takes_gzip
from probe.core.events import Instant
from probe.core.state import State

log = logging.getLogger("mailprobe.api")

_AT_ONCE = 25  # routes that are made before others have their turn
_SMALL = 16_384  # octets that are packed at once, in less than 1 ms
_AGAIN = 5  # seconds
_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


class Source(Protocol):
    """Who knows how things are now; the daemon's outlook.Outlook is one."""

    def now(self) -> Instant: ...
    def is_public(self) -> bool: ...
    def routes(self) -> Sequence[str]:
        """By name, as they are configured."""

    def route(self, name: str, now: Instant) -> resources.Route | None: ...
    def health(self) -> resources.Health: ...
    def counts(self) -> Mapping[tuple[str, State], int]:
        """All probes on record, by route and state."""


class _Error(Exception):
    def __init__(self, status: int, error: str, detail: str, **headers: str) -> None:
        self.status, self.body, self.headers = status, {"error": error, "detail": detail}, headers


class Api:
    """The API of one daemon; `routes()` are for its web server."""

    def __init__(self, source: Source, record: Record, version: str) -> None:
        self._source, self._record = source, record
        self._making: asyncio.Future[bytes] | None = None
        self._documents = {public: _encode(document("" if public else version, EXAMPLES)) for public in (False, True)}

    def routes(self) -> list[web.AbstractRouteDef]:
        """What is answered."""
        makers: Sequence[Callable[[web.Request], Awaitable[Data | bytes]]] = (
            self._routes, self._route, self._probes, self._probe, self._incidents, self._document,
        )  # fmt: skip
        return [
            *(
                web.get(path, partial(self._answer, path, make), name=None)
                for path, make in zip(PATHS, makers, strict=True)
            ),
            web.route("*", "/api/{tail:.*}", self._nothing),
        ]

    async def _answer(
        self, path: str, make: Callable[[web.Request], Awaitable[Data | bytes]], request: web.Request
    ) -> web.Response:
        try:
            if strange := request.query.keys() - set(parameters(path)):
                read(dict.fromkeys(strange, ("",)), parameters(path))
            body = await make(request)
        except BadQuery as error:
            return _refused(_Error(400, "bad_request", str(error)))
        except _Error as error:
            return _refused(error)
        except Busy as error:
            log.warning("the API cannot read the record: %s", error)
            detail = "the record cannot be read now; try again in a few seconds"
            return _refused(_Error(503, "unavailable", detail, **{"Retry-After": str(_AGAIN)}))
        return await _sent(request, body if isinstance(body, bytes) else _encode(body))

    async def _nothing(self, request: web.Request) -> web.Response:
        known = [re.sub(r"\{\w+\}", "[^/]+", re.escape(path).replace(r"\{", "{").replace(r"\}", "}")) for path in PATHS]
        if any(re.fullmatch(path, request.path) for path in known):
            return _refused(_Error(405, "method_not_allowed", "here only GET and HEAD are answered", Allow="GET, HEAD"))
        return _refused(_Error(404, "not_found", "there is nothing here; /api/v1/openapi.json says what there is"))

    # -- resources -----------------------------------------------------------------------------------------------

    async def _routes(self, _: web.Request) -> bytes:
        if self._making is None or self._making.done():
            self._making = asyncio.ensure_future(self._all_routes())
        return await asyncio.shield(self._making)  # for all who ask meanwhile; whoever asked first may go away

    async def _all_routes(self) -> bytes:
        source, now = self._source, self._source.now()
        try:
            shares = await self._record.shares(now.wall)
        except Busy as error:
            log.warning("the API cannot read the record: %s", error)
            shares = None
        public, counts, made = source.is_public(), resources.by_route(source.counts()), list[bytes]()
        for number, name in enumerate(source.routes()):
            if not number % _AT_ONCE:
                await asyncio.sleep(0)
            if found := source.route(name, now):
                day = None if shares is None else shares.get(name, resources.NOTHING)
                made.append(_encode(resources.route(found, counts.get(name, {}), day, public)))
        prober = _encode(resources.prober(source.health(), now, public))
        return b'{"prober":' + prober + b',"routes":[' + b",".join(made) + b"]}"

    async def _route(self, request: web.Request) -> Data:
        source, now, name = self._source, self._source.now(), request.match_info["name"]
        found = source.route(name, now)
        if found is None:
            raise _Error(404, "not_found", f"there is no route {name[:80]!r}")
        try:
            shares, totals = await self._record.shares(now.wall), await self._record.totals(name, now.wall)
            day, full = shares.get(name, resources.NOTHING), resources.totals(totals)
        except Busy as error:
            log.warning("the API cannot read the record: %s", error)
            day, full = None, None
        counts = resources.by_route(source.counts()).get(name, {})
        return {**resources.route(found, counts, day, source.is_public()), "last_24_hours_in_full": full}

    async def _probes(self, request: web.Request) -> Data:
        asked = read(_query(request), parameters(PATHS[2]))
        await self._known(asked.route)
        found, then = await self._record.ask(
            lambda reader: reader.browse(asked.route, asked.since, asked.until, asked.before, asked.limit, asked.states)
        )
        public = self._source.is_public()
        return {"probes": [resources.probe(it, public) for it in found if self._shows(it.route)], "next": cursor(then)}

    async def _probe(self, request: web.Request) -> Data:
        name = request.match_info["id"]
        life = await self._record.ask(lambda reader: reader.life(name)) if re.fullmatch(PROBE, name) else None
        if life is None or not self._shows(life.summary.route):
            raise _Error(404, "not_found", f"nothing is on record of a probe {name[:80]!r}")
        return resources.life(life, self._source.is_public())

    async def _incidents(self, request: web.Request) -> Data:
        asked = read(_query(request), parameters(PATHS[4]))
        await self._known(asked.route)
        rows = await self._record.ask(
            lambda reader: reader.incidents_before(
                asked.since, asked.until, asked.route, asked.open, asked.before, asked.limit
            )
        )
        now = self._source.now()
        more = len(rows) == asked.limit
        return {
            "incidents": [resources.recorded(row, now) for row in rows if self._shows(row.route)],
            "next": cursor((rows[-1].begin, rows[-1].id)) if more else None,
        }

    async def _document(self, _: web.Request) -> bytes:
        return self._documents[self._source.is_public()]

    def _shows(self, route: str) -> bool:
        """Whether it may be told of: to the public not of those that have another name by now, or are gone."""
        return not self._source.is_public() or route in self._source.routes()

    async def _known(self, route: str | None) -> None:
        """Raises _Error where nothing was ever heard of this route."""
        if route is None or route in self._source.routes():
            return
        if not self._shows(route) or route not in await self._record.ask(lambda reader: reader.routes()):
            raise _Error(404, "not_found", f"there is no route {route!r}")


def _query(request: web.Request) -> dict[str, list[str]]:
    return {name: request.query.getall(name) for name in request.query}


def _encode(data: Any) -> bytes:
    # Half a character, which a server may have sent, has an escape and no octets.
    return json.dumps(data, separators=(",", ":"), allow_nan=False).encode("ascii")


async def _sent(request: web.Request, body: bytes) -> web.Response:
    zipped = takes_gzip(request.headers.get("Accept-Encoding", ""))
    tag = tagged(blake2b(body, digest_size=12).hexdigest(), zipped)
    headers = {**_HEADERS, "ETag": tag}
    if has(request.headers.get("If-None-Match", ""), tag):
        return web.Response(status=304, headers=headers)
    if zipped:
        pack = partial(gzip.compress, body, compresslevel=4, mtime=0)
        body = pack() if len(body) <= _SMALL else await asyncio.to_thread(pack)
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=body, content_type="application/json", headers=headers)


def _refused(error: _Error) -> web.Response:
    headers = {**_HEADERS, **error.headers}
    return web.Response(status=error.status, body=_encode(error.body), content_type="application/json", headers=headers)
