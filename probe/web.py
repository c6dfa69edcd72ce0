"""The HTTP face: /metrics, /-/healthy, /-/ready and the status page. It passes on what it is handed and knows nothing.

Rule: no request waits for a provider, a disk or a thread that measures; nothing secret is ever handed to this module.
"""

from __future__ import annotations

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

    app = web.Application()
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
