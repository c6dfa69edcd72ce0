"""The HTTP face but for the status page, asked by a real client over a real socket."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest

from probe.board import Board
from probe.core.outcome import InFlight, Outcome, Standing
from probe.core.settings import Settings
from probe.core.state import advance
from probe.metrics import Metrics
from probe.web import Pages, serve

from .make import (
    ROOT,
    FakeClock,
    accepted,
    after_reboot,
    arrived,
    instant,
    make_accounts,
    make_route,
    sending,
)


@dataclass
class World:
    """A face and what is behind it."""

    ready: bool = True
    base: str = ""

    @asynccontextmanager
    async def get(self, path: str, **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        client = aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Accept-Encoding"])
        async with client as session, session.get(self.base + path, headers=sent) as response:
            yield response


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    metrics = Metrics("1.2.3", Standing, FakeClock())
    metrics.configure(make_accounts(), {"r": make_route()})
    pages = Pages(metrics.render, lambda: world.ready)
    async with serve(pages, "127.0.0.1", 0) as port:
        world.base = f"http://127.0.0.1:{port}"
        yield world


async def test_metrics_come_in_the_format_that_was_asked_for(world: World) -> None:
    async with world.get("/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        assert "mailprobe_oldest_in_flight_seconds" in await response.text()
    async with world.get("/metrics", Accept="application/openmetrics-text; version=1.0.0") as response:
        assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert (await response.text()).endswith("# EOF\n")
        assert "Accept" in response.headers["Vary"]


@pytest.mark.parametrize("accepts", ["gzip", "deflate, gzip;q=0.5", "gzip, deflate, br"])
async def test_metrics_are_compressed_for_who_takes_that(world: World, accepts: str) -> None:
    async with world.get("/metrics", Accept_Encoding=accepts) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert b"mailprobe_build_info" in gzip.decompress(await response.read())


@pytest.mark.parametrize("accepts", ["", "identity", "br", "gzip;q=0", "identity, gzip; q=0.0"])
async def test_metrics_are_not_compressed_for_who_does_not(world: World, accepts: str) -> None:
    async with world.get("/metrics", Accept_Encoding=accepts) as response:
        assert "Content-Encoding" not in response.headers
        assert b"mailprobe_build_info" in await response.read()


async def test_healthy_is_always_and_ready_when_it_is(world: World) -> None:
    async with world.get("/-/healthy") as response:
        assert (response.status, await response.text()) == (200, "mailprobe is healthy.\n")
    async with world.get("/-/ready") as response:
        assert (response.status, await response.text()) == (200, "mailprobe is ready.\n")
    world.ready = False
    async with world.get("/-/ready") as response:
        assert response.status == 503
    async with world.get("/-/healthy") as response:
        assert response.status == 200


async def test_there_is_nothing_else(world: World) -> None:
    for path in ("/metrics/", "/etc/passwd", "/-/reload", "/favicon.ico"):
        async with world.get(path) as response:
            assert response.status == 404
    async with aiohttp.ClientSession() as session, session.post(world.base + "/metrics") as response:
        assert response.status == 405


async def test_a_port_that_is_taken_is_an_error_at_once(world: World) -> None:
    pages = Pages(Metrics("1", Standing, FakeClock()).render, lambda: True)
    with pytest.raises(OSError, match="address already in use"):
        async with serve(pages, "127.0.0.1", int(world.base.rpartition(":")[2])):
            pass


# -- the board behind the page -------------------------------------------------------------------------------------


def settings() -> Settings:
    return Settings(make_accounts(), {"r": make_route(), "unused": make_route("unused")}, ROOT)


def test_the_board_remembers_the_latest_arrival_and_computes_ages_when_asked() -> None:
    board, probe = Board(), None
    for event in (sending(), accepted(0.5), arrived(4.5), arrived(6.0, uid=2)):
        before, probe = probe, advance(probe, event)
        board.observe(Outcome(event, before, probe))
    view, unused = board.views(settings(), {"r": InFlight(2, instant(2.0))}, lambda _: True, instant(62.0))
    assert (view.in_flight, view.oldest, view.last_latency, view.last_arrival_ago) == (2, 60.0, 4.0, 56.0)
    assert (unused.in_flight, unused.oldest, unused.last_latency, unused.last_arrival_ago) == (0, None, None, None)
    assert (board.accepted["r"], board.delivered["r"]) == (1, 1)


def test_no_age_on_the_board_is_negative() -> None:
    stepped = after_reboot(0.0)._replace(wall=instant(-3600.0).wall)  # rebooted, and the clock was set back
    view, _ = Board().views(settings(), {"r": InFlight(1, instant(0.0))}, lambda _: True, stepped)
    assert view.oldest == 0.0


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:1", 200),
        ("localhost", 200),
        ("[::1]:10925", 200),
        ("192.0.2.1", 200),
        ("evil.example", 421),
        ("", 421),
    ],
)
async def test_no_site_can_have_its_own_name_lead_to_the_loopback_address(world: World, host: str, status: int) -> None:
    for path in ("/metrics", "/-/ready", "/nothing"):
        async with world.get(path, Host=host) as response:
            assert response.status == (404 if path == "/nothing" and status == 200 else status)
            assert response.headers["Server"] == "mailprobe"


async def test_a_client_that_names_no_host_is_answered(world: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.base.rpartition(":")[2]))
    writer.write(b"GET /-/healthy HTTP/1.0\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.0 200 ")
    writer.close()
    await writer.wait_closed()
