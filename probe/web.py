"""The HTTP face: /metrics, /-/healthy, /-/ready and a plain page. It shows what it is handed and knows nothing itself.

Rule: no request waits for a provider, a disk or a thread that measures; nothing secret is ever handed to this module.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import escape

from aiohttp import web

from probe.core.outcome import RouteView
from probe.core.words import duration


@dataclass(frozen=True, slots=True)
class Pages:
    """Where the pages get their content."""

    metrics: Callable[[str, bool], Awaitable[tuple[bytes, str]]]  # (Accept, gzip?) → body, content type
    ready: Callable[[], bool]
    rows: Callable[[], Sequence[RouteView]]


@asynccontextmanager
async def serve(pages: Pages, host: str, port: int) -> AsyncIterator[int]:
    """Listen while the context is entered; yields the port (asked for as 0: any free one). Raises OSError."""

    async def metrics(request: web.Request) -> web.Response:
        zipped = bool(re.search(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))", request.headers.get("Accept-Encoding", "")))
        body, content_type = await pages.metrics(request.headers.get("Accept", ""), zipped)
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        return web.Response(body=body, headers=headers | ({"Content-Encoding": "gzip"} if zipped else {}))

    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="mailprobe is healthy.\n")

    async def ready(_: web.Request) -> web.Response:
        if pages.ready():
            return web.Response(text="mailprobe is ready.\n")
        return web.Response(text="mailprobe has not tried every mailbox yet.\n", status=503)

    async def index(_: web.Request) -> web.Response:
        return web.Response(text=_page(pages.rows()), content_type="text/html", headers=_HEADERS)

    app = web.Application()
    app.add_routes(
        [
            web.get("/", index),
            web.get("/metrics", metrics),
            web.get("/-/healthy", healthy),
            web.get("/-/ready", ready),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #8884; }
td.number, th.number { text-align: right; }
.bad { font-weight: 600; color: #c62828; } @media (prefers-color-scheme: dark) { .bad { color: #ff8a80; } }
small { opacity: .7; }
"""


def _page(rows: Sequence[RouteView]) -> str:
    body = "\n".join(_row(row) for row in rows)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>mailprobe</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta http-equiv="refresh" content="5">
<style>{_STYLE}</style></head><body>
<h1>mailprobe</h1>
<div class="scroll"><table>
<thead><tr><th scope="col">Route</th><th scope="col">Mailbox</th><th scope="col" class="number">In flight</th>
<th scope="col" class="number">Oldest in flight</th><th scope="col" class="number">Last delay</th>
<th scope="col" class="number">Last arrival</th></tr></thead>
<tbody>
{body}
</tbody></table></div>
<p><small>For Prometheus: <a href="/metrics">/metrics</a></small></p>
</body></html>
"""


def _row(row: RouteView) -> str:
    watched = "watched" if row.watched else '<span class="bad">not watched</span>'
    addresses = f"<br><small>{escape(row.sender)} → {escape(row.recipient)}</small>"
    numbers = (
        str(row.in_flight),
        duration(row.oldest),
        duration(row.last_latency),
        "never" if row.last_arrival_ago is None else f"{duration(row.last_arrival_ago)} ago",
    )
    cells = "".join(f'<td class="number">{number}</td>' for number in numbers)
    return f"<tr><td>{escape(row.route)}{addresses}</td><td>{watched}</td>{cells}</tr>"
