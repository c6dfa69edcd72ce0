"""The status page in a real Chromium: live, by keyboard, for a screen reader (axe), on a phone, and without scripts.

Rule: whatever a page says on its console, or asks of anybody else, fails the test that made it do so.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from probe import seldom
from probe.core.trouble import RouteState
from probe.page import Demo

from .make import ROOT
from .showing import NOW, World, shown

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHROMIUM = Path("/usr/bin/chromium")
AXE = (ROOT / "tests/data/axe/axe.min.js").read_text()
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    if not CHROMIUM.exists():
        pytest.fail("no chromium: apt-get install chromium", pytrace=False)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def world() -> AsyncIterator[World]:
    world = World()
    async with shown(world, UTC):
        yield world


@asynccontextmanager
async def opened(browser: Browser, world: World, path: str, **options: Any) -> AsyncIterator[Page]:
    """A page that is loaded, live where it has scripts, and does nothing that it should not."""
    complaints: list[str] = []
    context = await browser.new_context(**options)
    page = await context.new_page()
    page.set_default_timeout(10_000)
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda it: None if it.url.startswith(world.base + "/") else complaints.append(it.url))
    try:
        await page.goto(world.base + path)
        if options.get("java_script_enabled", True):
            await expect(page.locator("#live")).to_have_class("on")
        yield page
        assert complaints == []
    finally:
        await context.close()


async def names(page: Page) -> list[str]:
    """The routes that are shown, from top to bottom."""
    return [await it.inner_text() for it in await page.locator(".card:visible h3").all()]


async def test_a_change_arrives_moves_its_route_up_and_is_announced(browser: Browser, world: World) -> None:
    async with opened(browser, world, "/") as page:
        world.change("posteo-to-own", state=RouteState.STUCK, reason="overdue", in_flight=7, oldest=90_000.0)
        await expect(page.locator("#r-posteo-to-own")).to_contain_text("7 mails in flight, the oldest for 1 d 1 h")
        await expect(page.locator("#said")).to_have_text("posteo-to-own: stuck")
        await expect(page).to_have_title("7 of 8 routes need a look – Mail delivery")
        assert (await names(page))[0] == "posteo-to-own"


async def test_the_focus_stays_where_it_was_when_its_route_changes(browser: Browser, world: World) -> None:
    async with opened(browser, world, "/") as page:
        await page.locator("#r-posteo-to-own a").focus()
        world.change("posteo-to-own", state=RouteState.STUCK, reason="overdue", in_flight=7, oldest=90_000.0)
        await expect(page.locator("#r-posteo-to-own")).to_have_attribute("data-state", "stuck")
        await expect(page.locator("#r-posteo-to-own a")).to_be_focused()


async def test_typing_filters_at_once_and_escape_shows_all_again(browser: Browser, world: World) -> None:
    async with opened(browser, world, "/") as page:
        await page.keyboard.press("/")
        await page.keyboard.type("gM")
        assert await names(page) == ["own-to-gmail", "gmx-to-own"]
        await page.keyboard.type("nothing")
        await expect(page.get_by_text("No route matches.")).to_be_visible()
        await page.keyboard.press("Escape")
        assert len(await names(page)) == 8


async def test_all_can_be_reached_by_keyboard(browser: Browser, world: World) -> None:
    async with opened(browser, world, "/") as page:
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="to the content")).to_be_focused()
        await page.get_by_role("link", name="stuck 1").focus()
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(f"{world.base}/?lang=en&state=stuck")
        assert await names(page) == ["ionos-to-own"]
        await page.get_by_role("link", name="ionos-to-own").first.focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("ionos-to-own")
        await expect(page.locator("#live")).to_have_class("on")


_INK = """() => {
  const canvas = document.querySelector("#chart canvas"), {width, height} = canvas;
  const copy = new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true});
  copy.drawImage(canvas, 0, 0);
  const pixels = copy.getImageData(0, 0, width, height).data;
  const red = [];
  for (let i = 0; i < pixels.length; i += 4)
    if (pixels[i] > 150 && pixels[i + 1] < 90 && pixels[i + 2] < 90) red.push(Math.floor(i / 4 / width));
  return red.length ? height - Math.min(...red) : 0;
}"""


async def test_the_chart_draws_mails_in_flight_as_bars_that_grow(browser: Browser, world: World) -> None:
    world.change("gmx-to-own", in_flight=1, oldest=20.0)
    async with opened(browser, world, "/route/gmx-to-own") as page:
        await expect(page.locator("#chart canvas")).to_be_visible()
        await expect(page.locator("#points")).not_to_have_attribute("open", "")
        before = await page.evaluate(_INK)
        world.change("gmx-to-own", in_flight=1, oldest=2_000.0)
        await expect(page.locator("#flying")).to_contain_text("11:40:00")
        assert 0 < before < await page.evaluate(_INK)


async def test_new_delays_come_to_the_chart_by_themselves_and_leave_its_table_as_it_was(
    browser: Browser, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seldom, "_FRESH", 0.0)
    async with opened(browser, world, "/route/gmx-to-own") as page:
        await page.get_by_text("The same as a table").click()
        rows = page.locator("#points tbody tr")
        before = await rows.count()
        world.clock.advance(3600.0)
        await expect(rows).not_to_have_count(before)
        await expect(page.locator("#points table")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/route/ionos-to-own?lang=de"])
async def test_axe_finds_nothing(browser: Browser, world: World, path: str, scheme: str) -> None:
    for options, world.demo in (({}, None), (PHONE, Demo(NOW.wall, 1200.0))):
        async with opened(browser, world, path, color_scheme=scheme, **options) as page:
            await page.evaluate(AXE)  # not as a script of the page: that is forbidden
            found = await page.evaluate("axe.run({resultTypes: ['violations']})")
            broken = [(it["id"], [node["html"][:120] for node in it["nodes"][:3]]) for it in found["violations"]]
            assert broken == [], json.dumps(broken, indent=1)


@pytest.mark.parametrize("path", ["/", "/route/ionos-to-own", "/route/gmx-to-own?lang=de&span=90d"])
async def test_a_phone_need_not_be_scrolled_sideways(browser: Browser, world: World, path: str) -> None:
    async with opened(browser, world, path, **PHONE) as page:
        assert await page.evaluate("document.documentElement.scrollWidth") <= 390


async def test_without_scripts_there_are_tables_for_charts_and_a_button_for_the_filter(
    browser: Browser, world: World
) -> None:
    async with opened(browser, world, "/", java_script_enabled=False) as page:
        await page.get_by_role("searchbox").fill("gmx")
        await page.get_by_role("button", name="Find").click()
        assert await names(page) == ["gmx-to-own"]
        await page.get_by_role("link", name="gmx-to-own").click()
        await expect(page.get_by_role("cell", name="1.")).not_to_have_count(0)
        await expect(page.locator("#figure")).to_be_hidden()
        await expect(page.locator("#points table")).to_be_visible()


async def test_who_is_cut_off_is_told(browser: Browser) -> None:
    world = World()
    async with shown(world):
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(world.base)
        await expect(page.locator("#live")).to_have_class("on")
    await expect(page.get_by_text("not live any more; reload the page")).to_be_visible()
    await context.close()
