"""The status page as bytes: what it says, in both languages, to whom, and how it is sent; asked over a real socket."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from html.parser import HTMLParser
from math import inf
from string import Formatter
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
import pytest

from probe.core.events import Instant, Segment, Stage
from probe.core.history import Cell
from probe.core.html import Html, tag
from probe.core.phrases import PHRASES
from probe.core.state import State
from probe.core.trouble import RouteState
from probe.page import Demo, Figures, Route, drawing, face, overview
from probe.page.live import Parts
from probe.page.overview import WORST_FIRST
from probe.page.strip import SPANS, level, levels, strip
from probe.page.words import WORDS, Speech, choose

from .showing import NOW, SECRETS, World, shown, view

NASTY = """<script>alert(1)</script>"'&amp;<img src=x onerror=alert(1)>"""


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    async with shown(world):
        yield world


async def get(world: World, path: str, **headers: str) -> tuple[int, str, Mapping[str, str]]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as session, session.get(world.base + path, headers=sent) as response:
        return response.status, await response.text(), response.headers


class Stream:
    """A viewer of /live."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def news(self) -> dict[str, Any]:
        """What the next event says."""
        async with asyncio.timeout(10):
            while line := await self.response.content.readline():
                if line.startswith(b"data: "):
                    said: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
                    return said
        raise EOFError

    async def news_of(self, part: str) -> str:
        """The next HTML of this part."""
        while True:
            if html := (await self.news()).get("html", {}).get(part):
                return str(html)


class Turns:
    """Counts how often everybody on the loop had a turn."""

    number = 0

    async def __aenter__(self) -> Turns:
        self._counting = asyncio.create_task(self._count())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._counting.cancel()

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.number += 1


class Reading(HTMLParser):
    """The texts of a page, its tags, and its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts += [data.strip()] if data.strip() else []


# -- what it says --------------------------------------------------------------------------------------------------


async def test_all_routes_are_there_the_worst_first_each_with_its_state_in_words(world: World) -> None:
    _, page, _ = await get(world, "/")
    assert re.findall(r'<li id="r-([\w-]+)" class="card" data-state="(\w+)"', page) == [
        ("ionos-to-own", "stuck"),
        ("own-to-t-online", "failing"),
        ("own-to-yahoo", "blind"),
        ("own-to-gmail", "recovering"),
        ("strato-to-own", "slow"),
        ("own-to-icloud", "unknown"),
        ("gmx-to-own", "ok"),
        ("posteo-to-own", "ok"),
    ]
    texts = Reading(page).texts
    start = texts.index("ionos-to-own")
    assert texts[start - 1 : start + 3] == [
        "stuck",
        "ionos-to-own",
        f"{world.sender} → {world.recipient}",
        "14 mails in flight, the oldest for 3 h 12 min; last delivery 09:00",
    ]
    assert "6 of 8 routes need a look" in texts
    assert "60 mails in flight" in texts
    assert "The prober itself: mailboxes not watched: 1 of 2; nothing can be put on record" in texts


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ([RouteState.OK, RouteState.OK, RouteState.UNKNOWN], "1 of 3 routes needs a look"),
        ([RouteState.STUCK, RouteState.OK, RouteState.UNKNOWN], "2 of 3 routes need a look"),
        ([RouteState.UNKNOWN, RouteState.UNKNOWN], "Nothing is known yet"),
        ([RouteState.OK], "1 mail in flight"),
    ],
)
async def test_what_needs_a_look_is_all_that_is_not_fine(world: World, states: list[RouteState], said: str) -> None:
    reasons = {RouteState.UNKNOWN: "unmeasured", RouteState.STUCK: "overdue"}
    world.views = [view(f"r{n}", it, reasons.get(it, "in_time"), in_flight=1) for n, it in enumerate(states)]
    assert said in Reading((await get(world, "/"))[1]).texts


@pytest.mark.parametrize(("number", "said"), [(1, "The route is fine"), (2, "All 2 routes are fine")])
async def test_routes_that_are_fine_are_said_to_be(world: World, number: int, said: str) -> None:
    world.views = [it for it in world.views if it.state is RouteState.OK][:number]
    assert said in Reading((await get(world, "/"))[1]).texts


async def test_a_page_without_routes_is_a_page(world: World) -> None:
    world.views = []
    assert "No route is configured" in (await get(world, "/"))[1]


async def test_routes_are_filtered_by_state_and_by_text_without_scripts(world: World) -> None:
    cards = re.compile(r'<li id="r-([\w-]+)"')
    assert cards.findall((await get(world, "/?state=stuck"))[1]) == ["ionos-to-own"]
    assert cards.findall((await get(world, "/?q=OWN-TO-G"))[1]) == ["own-to-gmail"]
    assert cards.findall((await get(world, "/?q=own-to&state=slow"))[1]) == []
    assert 'aria-current="true" href="/?lang=en&amp;state=stuck"' in (await get(world, "/?state=stuck"))[1]
    assert len(cards.findall((await get(world, "/?state=nonsense"))[1])) == 8


async def test_a_route_s_page_tells_all_that_is_known_of_it(world: World) -> None:
    status, page, _ = await get(world, "/route/ionos-to-own")
    texts = Reading(page).texts
    assert status == 200
    assert page.count('class="strip"') == 3 + 5  # and a legend
    known = [
        *("From probe@ionos.example to probe@own.example", "QUEUEID0", "encryption", "44 ms", "09:01:20", "5.7.26"),
        *("the sender's provider", "delivered", "1371", "returned", "lasts", "3 h 12 min", "52.1 s"),
    ]
    assert [words for words in known if words not in texts] == []
    assert page.count("data-point=") > 70
    assert len(drawn(page)) == 14


def drawn(page: str) -> list[int]:
    """When the mails were accepted that the chart draws in flight."""
    found = re.search(r'id="flying" data-accepted="([\d ]*)"', page)
    assert found
    return [int(at) for at in found[1].split()]


async def test_the_chart_draws_a_long_outage_from_its_first_mail_to_its_last(world: World) -> None:
    world.change("ionos-to-own", in_flight=1441, oldest=86_400.0)
    page = (await get(world, "/route/ionos-to-own"))[1]
    accepted = drawn(page)
    assert 300 < len(accepted) <= 400
    assert accepted == sorted(accepted)
    assert (NOW.wall - accepted[0], NOW.wall - accepted[-1] < 400) == (86_400.0, True)
    assert "and 1341 more" in page


def test_a_charts_times_follow_the_zones_clocks_through_their_change() -> None:
    change = datetime(2026, 3, 29, 1, tzinfo=UTC).timestamp()
    speech = Speech("en", ZoneInfo("Europe/Berlin"))
    assert speech.offsets(change - 86_400, change + 86_400) == f"{change - 86_400:.0f}:3600 {change:.0f}:7200"
    assert Speech().offsets(change, change + 7200) == f"{change:.0f}:0"


@pytest.mark.parametrize(
    "path", ["/route/none", "/route/%2e%2e%2fetc", "/live?route=none", "/static/x/page.js", "/static/"]
)
async def test_what_is_not_there_is_not_found(world: World, path: str) -> None:
    assert (await get(world, path))[0] == 404


async def test_a_record_that_cannot_be_read_leaves_the_present_on_the_page(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise LookupError("disk I/O error")

    async def torn(*_: object, **__: object) -> AsyncIterator[None]:
        raise LookupError("disk I/O error")
        yield

    for name in ("strip", "latencies", "incidents"):
        monkeypatch.setattr(world, name, broken)
    monkeypatch.setattr(world, "strips", torn)
    assert "14 mails in flight" in (await get(world, "/"))[1]
    _, page, _ = await get(world, "/route/ionos-to-own")
    assert "14 mails in flight" in page
    assert "The record cannot be read just now." in page


# -- to whom -------------------------------------------------------------------------------------------------------

PATHS = [f"{path}{more}" for path in ("/", "/route/ionos-to-own", "/route/own-to-yahoo", "/route/own-to-t-online")
         for more in ("?lang=en", "?lang=de")]  # fmt: skip


async def everything(world: World) -> str:
    """Every page, every stream's first words, every file."""
    pages = [(await get(world, path))[1] for path in PATHS]
    files = {path for page in pages for path in re.findall(r'"(/static/[^"]+)"', page)}
    texts = [(await get(world, path))[1] for path in sorted(files)]
    for route in ("", "ionos-to-own"):
        async with aiohttp.ClientSession() as session, session.get(f"{world.base}/live?route={route}") as response:
            texts.append(json.dumps(await Stream(response).news(), ensure_ascii=False))
    return "\n".join([*pages, *texts])


async def test_who_may_see_all_is_shown_all(world: World) -> None:
    said = await everything(world)
    assert [secret for secret in SECRETS if secret not in said] == []


async def test_the_public_is_shown_no_address_no_host_no_account_and_no_reason(world: World) -> None:
    world.public = True
    said = await everything(world)
    assert "14 mails in flight" in said
    assert [secret for secret in SECRETS if secret in said] == []
    assert "1.2.3" not in said
    assert (await get(world, "/?q=ionos.example"))[1].count('class="card"') == 0, "not even by asking for it"


REPLAYED = {
    "en": "A replay, no real mail: an embedded provider plays a story, by a clock of its own. It begins on "
    "2007-01-15 06:00 UTC; {}.",
    "de": "Eine Nachstellung, keine echte Mail: Ein eingebauter Anbieter spielt eine Geschichte, nach einer "
    "eigenen Uhr. Sie beginnt am 2007-01-15 06:00 UTC; {}.",
}


@pytest.mark.parametrize(
    ("speed", "language", "said"),
    [
        (1200.0, "en", REPLAYED["en"].format("at most 1200 of its seconds pass in one of ours")),
        (2.5, "de", REPLAYED["de"].format("höchstens 2,5 ihrer Sekunden vergehen in einer von unseren")),
        (inf, "en", REPLAYED["en"].format("its time passes as fast as this machine can")),
        (1.0, "en", "A demo, no real mail: an embedded provider plays a story, by this machine's clock."),
    ],
)
async def test_that_the_mail_is_not_real_is_the_first_thing_on_every_page_and_for_everybody(
    world: World, speed: float, language: str, said: str
) -> None:
    paths = [f"{path}?lang={language}" for path in ("/", "/route/ionos-to-own", "/route/none")]
    assert not [path for path in paths if "<aside" in (await get(world, path))[1]]
    world.demo, world.public = Demo(1_168_840_800.0, speed), True
    for path in paths:
        _, page, _ = await get(world, path)
        assert Reading(page.partition("<body")[2].partition(">")[2]).texts[0] == said
        assert f'<aside class="demo"><p>{escape(said)}</p></aside>' in page


async def test_whatever_is_shown_is_escaped(world: World) -> None:
    world.sender = world.recipient = world.reason = NASTY
    world.views = [replace(view("r", RouteState.STUCK, "overdue", 1, 400.0), route=NASTY)]
    for path in ("/", f"/?q={'%3Cscript%3E'}", "/route/" + "".join(f"%{byte:02x}" for byte in NASTY.encode())):
        status, page, _ = await get(world, path)
        read = Reading(page)
        assert status == 200
        assert "img" not in read.tags
        assert read.tags.count("script") == (1 if path.startswith("/?") or path == "/" else 3)
        assert not [name for name, _ in read.attributes if name.startswith("on") or name == "style"]
    assert NASTY in "".join(Reading((await get(world, "/"))[1]).texts)


def test_html_escapes_texts_and_attributes_and_leaves_html_alone() -> None:
    assert tag("a", NASTY, tag("b", "&"), title='"<') == Html(
        '<a title="&quot;&lt;">&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;amp;'
        "&lt;img src=x onerror=alert(1)&gt;<b>&amp;</b></a>"
    )
    assert tag("input", hidden=True, open=False, for_="q", data_x=None) == '<input hidden for="q">'


# -- in which language ---------------------------------------------------------------------------------------------


def test_both_languages_say_the_same_things() -> None:
    english, german = WORDS["en"], WORDS["de"]
    assert english.keys() == german.keys()
    for key in english:
        assert {f for _, f, _, _ in Formatter().parse(english[key])} == {
            f for _, f, _, _ in Formatter().parse(german[key])
        }


def test_every_state_stage_and_segment_has_words() -> None:
    speech = Speech("de")
    assert all(speech.outcome(state) and speech.outcome(state) != state for state in State)
    assert all(speech.state(state) for state in RouteState)
    assert set(Stage.__args__) | set(Segment.__args__) <= WORDS["de"].keys()
    assert set(WORST_FIRST) == set(RouteState)


async def test_no_english_is_left_on_a_german_page(world: World) -> None:
    english = {**WORDS["en"], **PHRASES["en"]}
    german = {*WORDS["de"].values(), *PHRASES["de"].values()}
    phrases = [part for text in english.values() if text not in german for part in re.split(r"\{\w+\}", text)]
    words = {part.strip(" :;,") for part in phrases} - {"", "English", "h", "d", "Mails"}
    for path in ("/", "/route/ionos-to-own", "/route/own-to-t-online", "/route/own-to-gmail"):
        world.demo = Demo(NOW.wall, inf if path == "/" else 1.0 if "own-to" in path else 1200.0)
        page = re.sub(r'<a href="[^"]*" lang="en".*?</a>', "", (await get(world, f"{path}?lang=de"))[1])
        said = re.sub(r"\b(?:class|id|href|src|data-state|data-stream|name|type)=\"[^\"]*\"", "", page)
        texts = " | ".join(Reading(said).texts + re.findall(r'(?:aria-label|placeholder|data-\w+)="([^"]*)"', said))
        assert [word for word in words if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", texts)] == []
        assert '<html lang="de">' in page


@pytest.mark.parametrize(
    ("wanted", "accepts", "language"),
    [
        ("", "", "en"),
        ("", "de", "de"),
        ("", "de-AT,de;q=0.9,en;q=0.5", "de"),
        ("", "en-GB,en;q=0.9,de;q=0.8", "en"),
        ("", "fr,de;q=0.3", "de"),
        ("", "fr;q=1", "en"),
        ("", "de;q=0", "en"),
        ("", "*;q=0.5, de;q=,,;", "en"),
        ("en", "de", "en"),
        ("de", "en", "de"),
        ("xx", "de", "de"),
    ],
)
def test_the_language_is_the_one_that_was_asked_for(wanted: str, accepts: str, language: str) -> None:
    assert choose(wanted, accepts) == language


# -- how it is sent ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/route/gmx-to-own", "/route/none", "/live"])
async def test_a_browser_is_told_to_load_nothing_from_elsewhere(world: World, path: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(world.base + path) as response:
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers.get("Cache-Control", "no-store") == "no-store"


async def test_files_are_kept_for_ever_under_names_that_change_with_them(world: World) -> None:
    _, page, _ = await get(world, "/route/gmx-to-own")
    files = re.findall(r'"(/static/[0-9a-f]{16}/[\w.]+)"', page)
    assert {path.rpartition("/")[2] for path in files} == {
        "icon.svg", "page.css", "uplot.css", "page.js", "chart.js", "uplot.js",
    }  # fmt: skip
    for path in files:
        status, body, headers = await get(world, path)
        assert (status, headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable")
        again = await get(world, path, If_None_Match=headers["ETag"])
        assert (again[0], again[1]) == (304, "")
        client = aiohttp.ClientSession(auto_decompress=False)
        async with client as session, session.get(world.base + path, headers={"Accept-Encoding": "gzip"}) as zipped:
            assert gzip.decompress(await zipped.read()).decode() == body


# -- what changes --------------------------------------------------------------------------------------------------


async def test_a_viewer_is_sent_what_changed_and_nothing_else(world: World) -> None:
    _, page, _ = await get(world, "/")
    found = re.search(r'data-stream="([^"]+)"', page)
    assert found
    async with aiohttp.ClientSession() as session, session.get(world.base + found[1].replace("&amp;", "&")) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        world.change("gmx-to-own", state=RouteState.STUCK, reason="overdue", in_flight=7, oldest=700.0)
        said = await Stream(response).news()
    assert set(said["html"]) == {"head", "r-gmx-to-own"}
    assert "7 mails in flight" in said["html"]["r-gmx-to-own"]
    assert said["order"][:2] == ["r-ionos-to-own", "r-gmx-to-own"]


async def test_a_viewer_of_some_routes_is_sent_those_that_come_to_be_among_them(world: World) -> None:
    async with aiohttp.ClientSession() as session, session.get(world.base + "/live?state=stuck") as response:
        stream = Stream(response)
        assert (await stream.news())["order"] == ["r-ionos-to-own"]
        world.change("gmx-to-own", state=RouteState.STUCK, reason="overdue", in_flight=7, oldest=700.0)
        said = await stream.news()
        assert said["order"] == ["r-ionos-to-own", "r-gmx-to-own"]
        assert "r-gmx-to-own" in said["html"]
        assert 'aria-current="true" href="/?lang=en&amp;state=stuck"' in said["html"]["head"]
        world.change("gmx-to-own", state=RouteState.OK)
        assert (await stream.news())["order"] == ["r-ionos-to-own"]


async def test_a_viewer_who_comes_back_is_sent_what_was_missed(world: World) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(world.base + "/live?route=ionos-to-own") as response:
            while not (line := await response.content.readline()).startswith(b"id: "):
                pass
        world.change("ionos-to-own", in_flight=15)
        headers = {"Last-Event-ID": line.decode()[4:].strip()}
        async with session.get(world.base + "/live?route=ionos-to-own", headers=headers) as response:
            said = await Stream(response).news()
    assert {"state", "flying"} <= set(said["html"]) <= {"state", "flying", "now"}


async def test_a_route_that_is_removed_goes_and_a_new_one_comes(world: World) -> None:
    async with aiohttp.ClientSession() as session, session.get(world.base + "/live") as response:
        stream = Stream(response)
        await stream.news()
        world.views = [*world.views[1:], view("brand-new", RouteState.UNKNOWN, "unmeasured")]
        said = await stream.news()
    assert "r-gmx-to-own" not in said["order"]
    assert "r-brand-new" in said["order"]
    assert "brand-new" in said["html"]["r-brand-new"]


async def test_who_watches_a_route_that_is_removed_is_not_told_that_all_goes_on(world: World) -> None:
    async with aiohttp.ClientSession() as session, session.get(world.base + "/live?route=gmx-to-own") as response:
        await Stream(response).news()
        world.views = world.views[1:]
        async with asyncio.timeout(5):
            while await response.content.readline():
                pass
    assert (await get(world, "/live?route=gmx-to-own"))[0] == 404


async def test_there_are_so_many_viewers_and_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face, "VIEWERS", 1)
    async with aiohttp.ClientSession() as session, session.get(world.base + "/live") as response:
        await Stream(response).news()
        async with session.get(world.base + "/live") as refused:
            assert (refused.status, refused.headers["Retry-After"]) == (503, "30")
        assert (await get(world, "/"))[0] == 200


async def test_streams_end_with_the_daemon() -> None:
    world = World()
    async with aiohttp.ClientSession() as session:
        async with shown(world):
            response = await session.get(world.base + "/live")
            await Stream(response).news()
        async with asyncio.timeout(2):
            while await response.content.readline():
                pass


async def test_however_many_look_the_record_is_asked_once(world: World) -> None:
    await asyncio.gather(*(get(world, "/") for _ in range(20)))
    assert world.asked == 2  # strips, incidents
    await asyncio.gather(*(get(world, "/route/gmx-to-own") for _ in range(20)))
    assert world.asked == 2 + 1 + 6  # the route's incidents; three strips, chart, totals, mails


async def test_while_a_thousand_routes_are_drawn_others_have_their_turns(world: World) -> None:
    world.views = [view(f"route-{i}", RouteState.SLOW, "late", 3, 50.0) for i in range(1000)]
    route, seen = world.route, list[int]()

    def asked(name: str, now: Instant) -> Route | None:
        seen.append(turns.number)
        return route(name, now)

    world.route = asked  # type: ignore[method-assign]
    async with Turns() as turns:
        pages = await asyncio.gather(*(get(world, f"/?lang={language}") for language in ("en", "de")))
    assert [page.count('class="card"') for _, page, _ in pages] == [1000, 1000]
    assert max(Counter(seen).values()) == 25
    assert all(len(page) / 1000 < 1_200 for _, page, _ in pages), "characters per route"


async def test_of_many_routes_pages_that_are_drawn_at_once_others_have_their_turn_after_each(world: World) -> None:
    figures, seen = world.figures, list[int]()

    def asked(name: str) -> Figures:
        seen.append(turns.number)
        return figures(name)

    world.figures = asked  # type: ignore[method-assign]
    async with Turns() as turns:
        await asyncio.gather(*(get(world, f"/route/{it.route}") for it in world.views))
    assert len(seen) == len(world.views)
    assert max(Counter(seen).values()) == 1


async def test_the_head_of_a_page_is_sent_before_anything_is_asked_or_drawn(world: World) -> None:
    world.slow = asyncio.Event()
    async with aiohttp.ClientSession() as session, session.get(world.base + "/") as response:
        head = await response.content.readuntil(b"</head>")
        assert b'<link rel="stylesheet"' in head
        assert not response.content.at_eof()
        world.slow.set()
        assert (await response.read()).count(b'class="card"') == 8


async def test_who_only_asks_for_the_header_fields_costs_no_drawing(world: World) -> None:
    async with aiohttp.ClientSession() as session, session.head(world.base + "/") as response:
        assert (response.status, response.headers["Content-Language"]) == (200, "en")
        assert await response.read() == b""
    assert world.asked == 0


async def test_pieces_make_the_same_page_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = set()
    for number in (1, 3, 8, 1000):
        monkeypatch.setattr(overview, "_AT_ONCE", number)
        monkeypatch.setattr(drawing, "_AT_ONCE", number)
        async with shown(world := World()):
            pages |= {(await get(world, "/?q=own", Accept_Encoding=packed))[1] for packed in ("gzip", "identity")}
    [page] = {re.sub(r"after=\d+", "", page) for page in pages}
    assert page.count('class="card"') == 8
    assert page.count("</ul>") == page.count("<ul")


@pytest.mark.parametrize(("accepts", "packed"), [("br, gzip", "gzip"), ("gzip;q=0", None), ("deflate", None)])
async def test_a_page_is_packed_for_who_takes_that(world: World, accepts: str, packed: str | None) -> None:
    _, page, headers = await get(world, "/", Accept_Encoding=accepts)
    assert headers.get("Content-Encoding") == packed
    assert headers["Vary"] == "Accept-Language, Accept-Encoding"
    assert page.endswith("</html>")


async def test_a_viewer_who_goes_away_in_the_middle_takes_nothing_from_the_others(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.slow = asyncio.Event()
    other = asyncio.create_task(get(world, "/"))
    async with aiohttp.ClientSession() as session, session.get(world.base + "/") as response:
        await response.content.readuntil(b"</head>")
        response.close()
    world.slow.set()
    assert (await other)[1].count('class="card"') == 8
    assert (await get(world, "/"))[1].count('class="card"') == 8
    assert world.asked == 2  # strips, incidents
    assert caplog.text == ""


async def test_what_changes_while_a_page_is_drawn_tears_no_card_and_no_headline(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of some routes it shows the old state and of some the new one, of each its own sentence, and counts them so."""
    monkeypatch.setattr(drawing, "_AT_ONCE", 1)
    world.views = [view(f"route-{i}", RouteState.OK, "in_time") for i in range(30)]
    stuck = [view(f"route-{i}", RouteState.STUCK, "overdue", 7, 700.0) for i in range(30)]
    route, seen = world.route, list[str]()

    def asked(name: str, now: Instant) -> Route | None:
        seen.append(name)
        if len(seen) == 12:
            asyncio.get_running_loop().call_soon(setattr, world, "views", stuck)
        return route(name, now)

    world.route = asked  # type: ignore[method-assign]
    _, page, _ = await get(world, "/")
    cards = re.findall(r'data-state="(\w+)" data-word="(\w+)">.*?</svg>(\w+)</span>.*?<p>(.*?)</p>', page)
    assert Counter(cards) == {
        ("ok", "ok", "ok", "last delivery 12:12, after 1.4 s"): 12,
        ("stuck", "stuck", "stuck", "7 mails in flight, the oldest for 11 min 40 s; last delivery 12:12"): 18,
    }
    assert "18 of 30 routes need a look" in page
    assert "126 mails in flight" in page


async def test_those_who_watch_all_share_what_is_sent_to_them(world: World) -> None:
    made = list[int]()

    async def make(parts: Parts) -> None:
        made.append(parts.serial)
        parts.put("x", None, lambda: Html(str(len(made))))

    parts = Parts(make, lambda: 0.0, every=0.0)
    await parts.refresh()
    first = parts.serial
    await parts.refresh()
    assert parts.news(first) is parts.news(first)
    assert json.loads(parts.news(first).split(b"data: ")[1]) == {"html": {"x": "2"}}
    assert parts.news(parts.serial) == b""
    await parts.refresh()
    assert json.loads(parts.news(first).split(b"data: ")[1]) == {"html": {"x": "3"}}


async def test_a_part_is_made_again_only_when_its_key_changes() -> None:
    made: list[object] = []

    async def make(_: Parts) -> None: ...

    parts = Parts(make, lambda: NOW.wall, every=1.0)
    for key in ("a", "a", "b"):
        parts.put("x", key, lambda: made.append(1) or Html("same"))  # type: ignore[func-returns-value]
    assert len(made) == 2
    assert parts.html == {"x": "same"}
    record = ["old"]
    for key, html in ((record, "a"), (record, "b"), (["old"], "c"), (None, "d"), (None, "e")):
        parts.put_together(key, lambda html=html: {"y": Html(html)})  # type: ignore[misc]
        made.append(parts.html["y"])
    assert made[2:] == ["a", "a", "c", "d", "e"]


# -- strips --------------------------------------------------------------------------------------------------------


def cell(at: float = 0.0, **counts: int) -> Cell:
    numbers = {"sent": 60, "open": 0, "late": 0, "unknown": 0, "lost": 0, "bounced": 0, "refused": 0, "measured": 60}
    return Cell("r", at, **(numbers | counts), worst=None)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, "good"),
        ({"late": 1}, "some"),
        ({"bounced": 30}, "some"),
        ({"late": 31}, "bad"),
        ({"refused": 60, "measured": 0}, "bad"),
        ({"lost": 1}, "bad"),
        ({"bounced": 20, "late": 20}, "some"),  # what is returned is late as well, when its deadline has passed
        ({"unknown": 60, "measured": 0}, "dark"),
        ({"unknown": 1, "measured": 59}, "good"),
        ({"open": 60, "measured": 0}, None),
    ],
)
def test_a_stretch_of_time_is_as_bad_as_its_mails(counts: dict[str, int], expected: str | None) -> None:
    assert level(cell(**counts)) == expected


def test_stretches_that_are_alike_are_one_line_and_the_picture_says_in_words_what_it_shows() -> None:
    cells = [cell(i * 3600.0, late=40 if i in {3, 4} else 0) for i in range(10)]
    drawn = strip(levels(cells, SPANS["24h"], 86_400.0), SPANS["24h"], Speech())
    assert 'class="good" d="M0 13.5h3M5 13.5h5"' in drawn
    assert 'class="bad" d="M3 8h2"' in drawn
    assert 'aria-label="The last 24 h: 8 of 10 parts without trouble"' in drawn
    assert "nothing measured" in strip(levels([], SPANS["24h"], 86_400.0), SPANS["24h"], Speech())
