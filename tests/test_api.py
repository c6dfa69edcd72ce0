"""The API, asked over a real socket about a real ledger: what its document promises, and nothing else."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any, NamedTuple

import aiohttp
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from probe.api import Api, Record, document, resources
from probe.api.examples import EXAMPLES
from probe.core.drain import Drain
from probe.core.events import Event, Instant
from probe.core.history import DAY, IncidentRow, Share, Summary, Totals
from probe.core.outcome import Standing
from probe.core.plain import plain
from probe.core.state import OPEN, Probe, State
from probe.core.trouble import Held, Incident, RouteState, Toll, View
from probe.ledger import Ledger, LedgerError, Reader
from probe.metrics import Metrics
from probe.seldom import Seldom
from probe.web import Pages, serve

from .make import RECIPIENT, SENDER, T0, FakeClock, arrived, bounced, make_probe, notified, vanished
from .test_history import LIVES, live

pytestmark = pytest.mark.timeout(60)
NOW = T0.shifted(4 * DAY)
# Whatever of this is in a public answer is a leak.
SECRETS = (
    SENDER, RECIPIENT, "example.de", "example.org", "queued as X1", "X1", "own", "gmx", "INBOX", "5.1.1", "no such",
    "connection refused", "spf", "X-Spam", "Received", "auth_refused", "disk is full", "1.2.3",
)  # fmt: skip


class Shown(NamedTuple):
    name: str
    sender: str
    recipient: str
    view: View


class Mailbox(NamedTuple):
    account: str
    up: bool
    reason: str


class Demo(NamedTuple):
    begins: float
    speed: float


class Health(NamedTuple):
    version: str
    since: Instant
    mailboxes: tuple[Mailbox, ...]
    ledger: str
    reload: str
    demo: Demo | None = None


def stall(route: str, ago: float, end: float | None = None) -> Incident:
    """Mail that was held, and may be still."""
    begin = NOW.shifted(-ago)
    it = Incident(route, "late", begin, begin.shifted(300.0), RouteState.STUCK, ago, Toll(held=3))
    held = Held("sender", 1.0, 2.0)
    return it if end is None else dataclasses.replace(it, end=NOW.shifted(-end), toll=Toll(late=3), fault=held)


@dataclass
class World:
    """A daemon's web server, what it knows, and its ledger."""

    ledger: Ledger
    public: bool = False
    demo: Demo | None = None
    base: str = ""
    lives: list[list[Event]] = field(default_factory=list)
    views: dict[str, View] = field(default_factory=dict)
    clock: FakeClock = field(default_factory=lambda: FakeClock(NOW))
    number: int = 0

    def now(self) -> Instant:
        return self.clock()

    def is_public(self) -> bool:
        return self.public

    def routes(self) -> list[str]:
        return list(self.views)

    def route(self, name: str, now: Instant) -> Shown | None:
        return Shown(name, SENDER, RECIPIENT, self.views[name]) if name in self.views else None

    def health(self) -> Health:
        boxes = Mailbox("own", True, ""), Mailbox("gmx", False, "auth_refused")
        return Health("1.2.3", NOW.shifted(-60.0), boxes, "disk is full", "", self.demo)

    def counts(self) -> Mapping[tuple[str, State], int]:
        return Counter((probe.route, probe.state) for probe in map(advanced, self.lives))

    async def write(self, *lives: list[Event]) -> None:
        for life in lives:
            probe = advanced(life)
            finished = [] if probe.state in OPEN else [probe.id]
            await self.ledger.commit(life, [probe], (), finished)
            self.lives.append(life)

    def some(self, route: str, start: float) -> list[list[Event]]:
        """One of every life, from then on."""
        made = []
        for at, life in enumerate(LIVES):
            self.number += 1
            made.append(live(self.number, route, start + 60.0 * at, life))
        return made


def advanced(life: list[Event]) -> Probe:
    return make_probe(*life)


def with_headers(life: list[Event], raw: bytes) -> list[Event]:
    return [dataclasses.replace(it, raw=raw) if hasattr(it, "raw") else it for it in life]


def view(name: str, state: RouteState, *incidents: Incident) -> View:
    return View(name, NOW, state, "overdue", NOW.shifted(-60.0), 2, 45.0, NOW.shifted(-9.0), 1.5, incidents, Drain())


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[World]:
    """Three routes with every life that a probe may have, incidents, and headers that are no text."""
    with closing(Ledger(path)) as ledger, closing(Reader(path, 5.0)) as reader:
        world = World(ledger)
        world.views = {
            "r0": view("r0", RouteState.STUCK, stall("r0", 3000.0)),
            "r1": view("r1", RouteState.OK),
            "idle": dataclasses.replace(view("idle", RouteState.UNKNOWN), since=None, oldest=None, last_arrival=None),
        }
        for route, start in (("r0", 0.0), ("r1", 3 * DAY), ("gone", DAY)):
            await world.write(*world.some(route, start))
        odd = live(900, "r1", 3.5 * DAY, LIVES[12])
        raw = b"Received: from mx.example.org\r\nSubject: \xff\x00\xed\xa0\x80 \xc3\xa4\r\n"
        await world.write(with_headers(odd, raw))
        long = (*LIVES[12], notified(400.0), bounced(401.0), vanished(402.0), arrived(403.0, uid=2))
        await world.write(live(901, "r1", 3.6 * DAY, long))
        rows = [stall("r0", 3000.0), stall("r1", 90_000.0, 80_000.0), stall("gone", 5000.0, 4000.0)]
        await ledger.save(
            IncidentRow(f"{it.route}/late/{i}", it.route, "late", it.begin.wall, it.end and it.end.wall, plain(it))
            for i, it in enumerate(rows)
        )
        api = Api(world, Record(reader, Seldom(asyncio.get_running_loop().time), LedgerError), "1.2.3")
        metrics = Metrics("1.2.3", Standing, world.clock)
        async with serve(Pages(metrics.render, lambda: True, more=api.routes()), "127.0.0.1", 0) as port:
            world.base = f"http://127.0.0.1:{port}"
            yield world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path / "ledger.sqlite") as world:
        yield world


async def ask(world: World, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, Mapping[str, str]]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Accept-Encoding"]) as session,
        session.request(method, f"{world.base}/api/v1{path}", headers=sent) as response,
    ):
        return response.status, await response.read(), response.headers


async def get(world: World, path: str) -> Any:
    status, body, _ = await ask(world, path)
    assert status == 200, body
    return json.loads(body)


@contextmanager
def in_a_thread(path: Path) -> Iterator[str]:
    """The same for a client that waits; yields where it is."""
    found: Queue[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Queue()

    async def run() -> None:
        async with running(path) as world:
            over = asyncio.Event()
            found.put((world.base, asyncio.get_running_loop(), over))
            await over.wait()

    thread = Thread(target=asyncio.run, args=[run()])
    thread.start()
    base, loop, over = found.get(timeout=20)
    try:
        yield base
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(20)


# -- the document --------------------------------------------------------------------------------------------------


def test_the_document_is_one_and_its_examples_are_what_it_says() -> None:
    said = document.document("1.2.3", EXAMPLES)
    assert said["openapi"] == "3.1.0"
    for name, example in EXAMPLES.items():
        schema = {**said, "$ref": f"#/components/schemas/{name}"}
        jsonschema_rs.Draft202012Validator(schema).validate(example)
    for name in document.SCHEMAS:
        jsonschema_rs.meta.validate(document.SCHEMAS[name])


def test_every_operation_answers_as_the_document_says_whatever_is_asked(tmp_path: Path) -> None:
    """What fits the document, what does not, and every method that is not in it."""
    with in_a_thread(tmp_path / "ledger.sqlite") as base:
        schema = schemathesis.openapi.from_url(f"{base}/api/v1/openapi.json")
        asked = Counter[int]()
        for operation in [found.ok() for found in schema.get_all_operations()]:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

                @settings(
                    max_examples=12,
                    deadline=None,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                    phases=[Phase.generate],
                )
                @given(case=operation.as_strategy(generation_mode=mode))
                def one(case: schemathesis.Case) -> None:
                    response = case.call()
                    asked[response.status_code] += 1
                    case.validate_response(response)

                with suppress(Unsatisfiable):  # nothing can be wrong where there is nothing to say
                    one()
        assert asked[200] > 15
        assert asked[400] > 20
        assert asked[404] > 5


async def pages(world: World, path: str, kind: str) -> list[Any]:
    """All of a list, page by page."""
    found, then = [], ""
    while then is not None:
        page = await get(world, f"{path}&cursor={then}" if then else path)
        found += page[kind]
        then = page["next"]
    return found


def fits(name: str, body: Any) -> None:
    schema = {**document.document(""), "$ref": f"#/components/schemas/{name}"}
    jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(body)


@pytest.mark.parametrize("public", [False, True])
async def test_all_that_is_on_record_is_told_as_the_document_says(world: World, public: bool) -> None:
    world.public = public
    fits("Routes", await get(world, "/routes"))
    for name in world.views:
        fits("RouteInFull", await get(world, f"/routes/{name}"))
    probes = await get(world, "/probes?limit=500")
    fits("Probes", probes)
    for probe in probes["probes"]:
        fits("Life", await get(world, f"/probes/{probe['id']}"))
    fits("Incidents", await get(world, "/incidents"))


# -- numbers -------------------------------------------------------------------------------------------------------


async def test_the_numbers_are_the_ledgers(world: World) -> None:
    for told in (await get(world, "/routes"))["routes"]:
        lives = [advanced(life) for life in world.lives if life[0].route == told["name"]]  # type: ignore[union-attr]
        assert told["totals"]["sent"] == len(lives)
        assert {state: told["totals"][state] for state in State} == {
            **dict.fromkeys(State, 0),
            **Counter(it.state for it in lives),
        }
        last = [it for it in lives if it.started.wall >= NOW.wall - DAY]
        day = told["last_24_hours"]
        assert day["sent"] == len(last) == sum(day[name] for name in ("open", "refused", "unknown", "in_time", "late"))
        good = [it for it in last if it.state is State.DELIVERED and not it.missed and not it.unknown]
        assert day["in_time"] == len(good)
        assert day["refused"] == len([it for it in last if it.state in {"rejected", "deferred", "failed"}])
        assert (told["state"], told["in_flight"]) == (world.views[told["name"]].state, 2)
    full = (await get(world, "/routes/r1"))["last_24_hours_in_full"]
    async with reader_of(world) as reader:
        assert full == resources.totals(await reader.totals("r1", NOW.wall - DAY, NOW.wall))
        probes = {it["id"]: it for it in (await get(world, "/probes?limit=500"))["probes"]}
        for life in world.lives:
            of = await reader.life(life[0].probe)
            assert of
            assert probes[life[0].probe] == resources.probe(of.summary, public=False)
            assert await get(world, f"/probes/{life[0].probe}") == resources.life(of, public=False)


@asynccontextmanager
async def reader_of(world: World) -> AsyncIterator[Reader]:
    with closing(Reader(world.ledger.path)) as reader:
        yield reader


async def test_a_probe_is_told_with_all_that_happened_to_it(world: World) -> None:
    told = await get(world, f"/probes/{901:016x}")
    kinds = [it["kind"] for it in told["timeline"]]
    assert " ".join(kinds) == "sending accepted judged arrived traced judged notified bounced vanished arrived"
    sending, accepted, judged = told["timeline"][:3]
    assert datetime.fromisoformat(sending["at"]).timestamp() == pytest.approx(world.lives[-1][0].at.wall, abs=0.001)
    assert sending["at"].endswith("Z")
    assert accepted["seconds"] == 0.5
    assert accepted["reply"] == {"code": 250, "status": "2.0.0", "text": "queued as X1"}
    assert accepted["stages"] == [{"stage": "connect", "seconds": 0.1}, {"stage": "data", "seconds": 0.2}]
    assert (judged["deadline_seconds"], judged["met"]) == (30.0, False)
    assert told["segments"][1] == {
        "segment": "sender",
        "low_seconds": 0.0,
        "high_seconds": 1.2,
        "resolution_seconds": 1.0,
    }
    assert told["hosts"][0]["host"] == "mail.example.de"
    assert told["authentication"] == [{"method": "spf", "result": "pass"}]
    assert (await get(world, f"/probes/{900:016x}"))["headers"][0].startswith("Received: from mx.example.org\r\n")


# -- lists ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/probes?limit=3", "/probes?limit=4&route=r1", "/probes?limit=2&state=lost&state=found"]
)
async def test_paging_visits_every_probe_once_while_new_ones_come_in(world: World, path: str) -> None:
    before = [it["id"] for it in (await get(world, re.sub("limit=.", "limit=500", path)))["probes"]]
    visited, then, late = [], "", DAY * 3.8
    while then is not None:
        page = await get(world, f"{path}&cursor={then}" if then else path)
        visited += page["probes"]
        then, late = page["next"], late + 3600.0
        await world.write(*world.some("r1", late))
    assert [it["id"] for it in visited] == before
    assert [it["started"] for it in visited] == sorted((it["started"] for it in visited), reverse=True)


async def test_a_list_is_of_what_was_asked_for(world: World) -> None:
    async def ids(query: str) -> set[str]:
        return {it["id"] for it in await pages(world, f"/probes?{query}", "probes")}

    def those(of: Any) -> set[str]:
        return {life[0].probe for life in world.lives if of(advanced(life))}

    assert await ids("route=gone&limit=500") == those(lambda it: it.route == "gone")
    assert await ids("state=bounced&limit=1") == those(lambda it: it.state is State.BOUNCED)
    since, until = world.lives[3][0].at.wall, world.lives[20][0].at.wall
    span = f"since={resources.time(since)}&until={resources.time(until)}"
    assert await ids(span) == those(lambda it: since <= it.started.wall < until)
    assert await ids("since=2300-01-01T00:00:00Z") == set()
    incidents = await pages(world, "/incidents?limit=1", "incidents")
    assert [it["route"] for it in incidents] == ["r0", "gone", "r1"]
    assert [it["id"] for it in (await get(world, "/incidents?open=true"))["incidents"]] == ["r0/late/0"]
    assert len((await get(world, "/incidents?open=false&route=r1"))["incidents"]) == 1
    assert incidents[0]["duration_seconds"] == 3000.0
    assert incidents[1]["held_longest_by"] == {"segment": "sender", "low_seconds": 1.0, "high_seconds": 2.0}


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("/probes?limit=0", 400, "limit: '0' is no number from 1 to 500"),
        ("/probes?limit=501", 400, "limit: '501' is no number from 1 to 500"),
        ("/probes?limit=5&limit=6", 400, "limit is there twice"),
        ("/probes?lmit=5", 400, "there is no 'lmit'; there are: route, state, since, until, limit, cursor"),
        ("/probes?since=yesterday", 400, "since: 'yesterday' is no time; write it as 2007-01-26T09:00:00Z"),
        ("/probes?since=2007-02-30T09:00:00Z", 400, "since: '2007-02-30T09:00:00Z' is in no calendar"),
        ("/probes?cursor=1", 400, "cursor: '1' is none"),
        ("/incidents?open=maybe", 400, "open: 'maybe' is none of true, false"),
        ("/probes?route=nowhere", 404, "there is no route 'nowhere'"),
        ("/routes/nowhere", 404, "there is no route 'nowhere'"),
        ("/probes/0000000000000000x", 404, "nothing is on record of a probe '0000000000000000x'"),
        ("/routes?x=1", 400, "there is no 'x'; there are: no parameters"),
        ("/", 404, "there is nothing here; /api/v1/openapi.json says what there is"),
    ],
)
async def test_what_is_wrong_is_said_in_a_line(world: World, path: str, status: int, detail: str) -> None:
    said, body, headers = await ask(world, path)
    assert (said, json.loads(body)["detail"]) == (status, detail)
    assert headers["Content-Type"] == "application/json"
    fits("Error", json.loads(body))


@pytest.mark.parametrize("path", ["/routes", "/routes/r0", "/probes", "/openapi.json"])
async def test_nothing_can_be_changed(world: World, path: str) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        status, body, headers = await ask(world, path, method)
        assert (status, headers["Allow"], json.loads(body)["error"]) == (405, "GET, HEAD", "method_not_allowed")


# -- HTTP ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/routes", "/routes/r1", "/probes", f"/probes/{901:016x}", "/incidents", "/openapi.json"]
)
async def test_what_the_client_has_already_is_not_sent_again(world: World, path: str) -> None:
    status, body, headers = await ask(world, path)
    assert (status, headers["Cache-Control"], headers["Vary"]) == (200, "no-cache", "Accept-Encoding")
    assert await ask(world, path) == (status, body, headers)
    for known in (headers["ETag"], f'"other", W/{headers["ETag"]}', "*"):
        again, nothing, same = await ask(world, path, If_None_Match=known)
        assert (again, nothing, same["ETag"]) == (304, b"", headers["ETag"])
    assert (await ask(world, path, If_None_Match='"other"'))[0] == 200
    zipped, packed, its = await ask(world, path, Accept_Encoding="gzip")
    assert (zipped, its["Content-Encoding"], gzip.decompress(packed)) == (200, "gzip", body)
    assert its["ETag"] != headers["ETag"], "other octets"
    assert "Content-Encoding" not in (await ask(world, path, Accept_Encoding="gzip;q=0"))[2]
    head, none, same = await ask(world, path, "HEAD")
    assert (head, none, same["ETag"], same["Content-Length"]) == (200, b"", headers["ETag"], str(len(body)))


async def test_a_tag_changes_with_what_is_told(world: World) -> None:
    before = {path: (await ask(world, path))[2]["ETag"] for path in ("/routes", "/probes")}
    await world.write(*world.some("r1", DAY * 3.9))
    for path, tag in before.items():
        assert (await ask(world, path, If_None_Match=tag))[0] == 200


# -- the public, and trouble ---------------------------------------------------------------------------------------


async def test_the_public_is_told_no_address_host_reason_or_header(world: World) -> None:
    paths = [
        "/routes",
        "/probes?limit=500",
        "/incidents",
        "/openapi.json",
        *(f"/routes/{name}" for name in world.views),
    ]
    paths += [f"/probes/{life[0].probe}" for life in world.lives]
    known = "".join([(await ask(world, path))[1].decode() for path in paths if "openapi" not in path])
    assert [secret for secret in SECRETS if secret not in known] == [], "else nothing is shown here"
    world.public = True
    for path in paths:
        body = (await ask(world, path))[1].decode()
        if "openapi" not in path:
            assert [secret for secret in SECRETS if secret in body.replace("unknown", "")] == [], path
        assert "1.2.3" not in body


async def test_the_public_is_not_told_of_routes_that_are_configured_no_more(world: World) -> None:
    old = next(life[0].probe for life in world.lives if life[0].route == "gone")  # type: ignore[union-attr]
    paths = ("/probes?limit=500", "/incidents", "/probes?route=gone", "/incidents?route=gone", f"/probes/{old}")
    for path in paths:
        assert b'"gone' in (await ask(world, path))[1], "else nothing is shown here"
    world.public = True
    assert [(await ask(world, path))[0] for path in paths] == [200, 200, 404, 404, 404]
    for path in paths[:2]:
        body = (await ask(world, path))[1]
        assert b'"r1' in body
        assert b'"gone' not in body


async def test_an_incident_that_another_version_wrote_in_its_own_way_is_told_by_its_row(world: World) -> None:
    begin, end = NOW.wall - 500.0, NOW.wall - 400.0
    await world.ledger.save([IncidentRow("r1/late/x", "r1", "late", begin, end, {"route": "r1", "strange": 1})])
    body = await get(world, "/incidents?route=r1")
    fits("Incidents", body)
    told = next(it for it in body["incidents"] if it["id"] == "r1/late/x")
    assert (told["kind"], told["worst"], told["duration_seconds"]) == ("late", "unknown", 100.0)


@pytest.mark.parametrize(("speed", "told"), [(1200.0, 1200.0), (inf, None)])
async def test_that_the_mail_is_not_real_is_said_to_everybody(world: World, speed: float, told: float | None) -> None:
    assert (await get(world, "/routes"))["prober"]["demo"] is None
    world.demo, world.public = Demo(1_168_840_800.0, speed), True
    said = await get(world, "/routes")
    fits("Routes", said)
    assert said["prober"]["demo"] == {"begins": "2007-01-15T06:00:00.000Z", "speed": told}


class Deaf:
    """A record that cannot be read."""

    def __getattr__(self, name: str) -> Any:
        async def fail(*_: object, **__: object) -> None:
            raise LedgerError("/secret/ledger.sqlite: database is locked")

        return fail


@asynccontextmanager
async def without_record(world: World, reader: Any) -> AsyncIterator[None]:
    api = Api(world, Record(reader, Seldom(asyncio.get_running_loop().time), LedgerError), "1.2.3")
    async with serve(
        Pages(Metrics("1", Standing, world.clock).render, lambda: True, more=api.routes()), "127.0.0.1", 0
    ) as port:
        world.base = f"http://127.0.0.1:{port}"
        yield


async def test_where_the_record_cannot_be_read_it_is_said_and_the_routes_are_told_all_the_same(world: World) -> None:
    async with without_record(world, Deaf()):
        for path in ("/probes", "/incidents", f"/probes/{1:016x}"):
            status, body, headers = await ask(world, path)
            assert (status, json.loads(body)["error"], headers["Retry-After"]) == (503, "unavailable", "5")
            assert b"secret" not in body
            fits("Error", json.loads(body))
        told = await get(world, "/routes")
        fits("Routes", told)
        assert [it["last_24_hours"] for it in told["routes"]] == [None, None, None]
        full = await get(world, "/routes/r0")
        fits("RouteInFull", full)
        assert full["last_24_hours_in_full"] is None


async def test_who_asks_when_too_many_wait_is_told_to_come_back(world: World) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    class Slow:
        async def browse(self, *_: object) -> tuple[list[Summary], None]:
            begun.set()
            await go.wait()
            return [], None

    async with without_record(world, Slow()):
        asked = [asyncio.create_task(ask(world, "/probes")) for _ in range(20)]
        refused, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        assert begun.is_set()
        assert {task.result()[0] for task in refused} == {503}
        go.set()
        assert Counter([(await task)[0] for task in asked]) == {200: 16, 503: 4}


async def test_a_days_sums_are_counted_once_for_all_who_ask(world: World) -> None:
    counted = Counter[str]()

    class Counting:
        async def shares(self, *_: object) -> dict[str, Share]:
            counted["all"] += 1
            return {"r0": Share(3, 0, 0, 0, 2, 1)}

        async def totals(self, route: str, *_: object) -> Totals:
            counted[route] += 1
            return Totals({}, 0, 0, {}, {}, None)

    async with without_record(world, Counting()):
        await asyncio.gather(*(get(world, path) for path in ("/routes", "/routes/r0", "/routes/r1", "/routes/r0")))
        told = await get(world, "/routes/r0")
    assert counted == {"all": 1, "r0": 1, "r1": 1}
    assert told["last_24_hours"]["in_time_ratio"] == pytest.approx(2 / 3)
