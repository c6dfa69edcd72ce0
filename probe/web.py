"""The HTTP face: /metrics, /-/healthy, /-/ready and the status page. It passes on what it is handed and knows nothing.

Rules:
- No request waits for a provider, a disk or a thread that measures; nothing secret is ever handed to this module.
- On a loopback address only who asks for an address is answered: else any site that a browser on this machine visits
  could have its own name lead here, and its scripts read everything (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from probe.core.accepts import takes_gzip


@dataclass(frozen=True, slots=True)
class Pages:
    """Where the pages get their content."""

    metrics: Callable[[str, bool], Awaitable[tuple[bytes, str]]]  # (Accept, gzip?) → body, content type
    ready: Callable[[], bool]
    more: Sequence[web.AbstractRouteDef] = ()  # of the status page and the API
    stop: Callable[[], None] = lambda: None  # ends what of these goes on and on


@asynccontextmanager
async def serve(pages: Pages, host: str, port: int) -> AsyncIterator[int]:
    """Listen while the context is entered; yields the port (asked for as 0: any free one). Raises OSError."""

    async def metrics(request: web.Request) -> web.Response:
        zipped = takes_gzip(request.headers.get("Accept-Encoding", ""))
        body, content_type = await pages.metrics(request.headers.get("Accept", ""), zipped)
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        return web.Response(body=body, headers=headers | ({"Content-Encoding": "gzip"} if zipped else {}))

    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="mailprobe is healthy.\n")

    async def ready(_: web.Request) -> web.Response:
        if pages.ready():
            return web.Response(text="mailprobe is ready.\n")
        return web.Response(text="mailprobe has not tried every mailbox yet.\n", status=503)

    app = web.Application(middlewares=[_only_for_us] if _is_local(host) else [])
    app.on_response_prepare.append(_unsigned)
    app.add_routes(
        [
            web.get("/metrics", metrics),
            web.get("/-/healthy", healthy),
            web.get("/-/ready", ready),
            *pages.more,
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        pages.stop()
        await runner.cleanup()


@web.middleware
async def _only_for_us(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    host = request.url.host or ""
    if "Host" not in request.headers or _is_local(host) or _is_address(host):
        return await handler(request)
    text = (
        "mailprobe listens on this machine only, under no name of its own: a proxy must ask for 127.0.0.1, as Host.\n"
    )
    return web.Response(text=text, status=421)


async def _unsigned(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "mailprobe"  # which Python that is, is nobody's business


def _is_local(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
