"""Incidents at work: from the recorder's outcomes to the log and the ledger, and back after a restart or a crash."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import closing, suppress
from math import inf
from pathlib import Path
from typing import Any

import pytest

from probe.core.events import Event, Instant, Part, Traced
from probe.core.history import IncidentRow
from probe.core.outcome import InFlight, Outcome
from probe.core.state import IN_FLIGHT, Probe, advance
from probe.core.trouble import RouteState, Toll
from probe.incidents import Incidents
from probe.ledger import Ledger, LedgerError, Reader

from .make import accepted, arrived, bounced, expired, instant, judged, make_probe, make_route, sending

ROUTES = {"r": make_route()}  # deadlines 30 s and 300 s
WATCHED = {"own": True}
MANY = {name: make_route(name) for name in (f"r{number}" for number in range(80))}


class Day:
    """Probes on a ledger and what watches them; `crash()` is a restart without a word."""

    def __init__(self, path: Path) -> None:
        self.path = path / "ledger.sqlite"
        self.ledger = Ledger(self.path)
        self.incidents = Incidents(ROUTES)
        self.probes: dict[str, Probe] = {}

    async def happens(self, *events: Event, told: bool = True) -> None:
        """These are on record; if `told`, the recorder had the time to tell of them."""
        for event in events:
            before = self.probes.get(event.probe)
            probe = self.probes[event.probe] = advance(before, event)
            await self.ledger.commit([event], [probe], [], [])
            if told:
                self.incidents.observe(Outcome(event, before, probe))

    async def at(self, seconds: float) -> RouteState:
        """The time is told, and put on record; how the route is."""
        aloft = [probe.answerable for probe in self.probes.values() if probe.answerable and probe.state in IN_FLIGHT]
        flying = InFlight(len(aloft), min(aloft)) if aloft else None
        self.incidents.tick("r", instant(seconds), flying, WATCHED)
        await self.incidents.keep(self.ledger, instant(seconds))
        return self.state(seconds)

    def state(self, seconds: float) -> RouteState:
        """How the route is."""
        view = self.incidents.view("r", instant(seconds))
        assert view is not None
        return view.state

    async def crash(self) -> None:
        """Another process goes on."""
        self.incidents = Incidents(ROUTES)
        await self.incidents.restore(self.ledger)

    async def on_record(self) -> list[tuple[str, float, float | None]]:
        """Kind, begin and end of each incident, in seconds."""
        with closing(Reader(self.path)) as reader:
            rows = await reader.incidents(0.0, 1e12)
        start = instant(0).wall
        return [(row.kind, row.begin - start, None if row.end is None else row.end - start) for row in rows]


@pytest.fixture
async def day(tmp_path: Path) -> AsyncIterator[Day]:
    day = Day(tmp_path)
    with closing(day.ledger):
        yield day


HELD = (sending(0.0, "a"), accepted(1.0, "a"), judged(31.0, "a", met=False), judged(301.0, "a", 300.0, met=False))


def comes(probe: str, at: float) -> tuple[Event, ...]:
    """A mail that is there at once, and when its shortest deadline passes is known to have been."""
    return sending(at, probe), accepted(at + 0.5, probe), arrived(at + 1.0, probe)


async def test_an_incident_is_on_record_when_it_is_noticed_and_again_when_it_is_over(day: Day) -> None:
    await day.happens(*HELD)
    assert await day.at(302.0) is RouteState.STUCK
    assert await day.on_record() == [("late", 1.0, None)]
    await day.happens(arrived(400.0, "a"))
    for number in range(4):
        await day.happens(*comes(f"b{number}", 420.0 + 150.0 * number))
    assert await day.at(900.0) is RouteState.OK
    assert await day.on_record() == [("late", 1.0, 420.5)]


@pytest.mark.parametrize("end", [arrived(400.0, "a"), bounced(400.0, "a"), expired(1001.0, "a")])
async def test_what_ended_in_the_moment_of_a_crash_is_not_held_for_ever(day: Day, end: Event) -> None:
    await day.happens(*HELD)
    await day.at(302.0)
    await day.happens(end, told=False)
    await day.crash()
    for number in range(4):
        await day.happens(*comes(f"b{number}", 1020.0 + 150.0 * number))
    assert await day.at(1500.0) is RouteState.OK
    [(_, _, over)] = await day.on_record()
    assert over is not None


async def test_a_mail_was_held_until_it_was_lost_and_not_until_the_next_start(day: Day) -> None:
    await day.happens(*HELD)
    await day.at(302.0)
    await day.happens(expired(1001.0, "a"), told=False)
    await day.crash()
    await day.at(90_000.0)
    view = day.incidents.view("r", instant(90_000.0))
    assert view is not None
    assert view.incidents[0].peak == 1000.0


async def test_a_mail_that_is_lost_without_a_look_is_no_trouble_of_the_providers(day: Day) -> None:
    await day.happens(sending(), accepted(), expired(1001.0, looked=False))
    await day.happens(*HELD, expired(1001.0, "a", looked=False))
    for number in range(4):
        await day.happens(*comes(f"b{number}", 1020.0 + 150.0 * number))
    assert await day.at(1500.0) is RouteState.OK
    assert await day.on_record() == [("late", 1.0, 1020.5)]  # while somebody looked, it was not there
    with closing(Reader(day.path)) as reader:
        [row] = await reader.incidents(0.0, 1e12)
    toll = Toll(*row.record["toll"])
    assert toll == Toll(unknown=1)


async def test_a_held_mail_that_is_on_record_no_more_does_not_keep_its_route_stuck(day: Day) -> None:
    await day.happens(*HELD)
    await day.at(302.0)
    with closing(sqlite3.connect(day.path)) as db, db:  # a rescued file, say
        db.execute("DELETE FROM probes")
        db.execute("DELETE FROM events")
    day.probes.clear()
    await day.crash()
    for number in range(4):
        await day.happens(*comes(f"b{number}", 420.0 + 150.0 * number))
    assert await day.at(900.0) is RouteState.OK
    assert await day.on_record() == [("late", 1.0, 420.5)]


async def test_a_restart_goes_on_with_what_was_open_and_opens_nothing_twice(day: Day) -> None:
    await day.happens(*HELD)
    await day.at(302.0)
    await day.crash()
    assert await day.at(331.0) is RouteState.STUCK
    await day.happens(sending(320.0, "b"), accepted(321.0, "b"), judged(351.0, "b", met=False))
    await day.at(352.0)
    assert await day.on_record() == [("late", 1.0, None)]


async def test_the_way_of_a_late_mail_says_who_held_it(day: Day) -> None:
    await day.happens(*HELD)
    parts = Part("submission", 500.0, 500.0), Part("sender", 380.0, 390.0), Part("recipient", 1.0, 2.0)
    await day.happens(arrived(400.0, "a"), Traced("a", instant(400.0), parts))
    view = day.incidents.view("r", instant(401.0))
    assert view is not None
    assert view.incidents[0].fault == ("sender", 380.0, 390.0)


async def test_an_arrival_whose_way_is_not_told_waits_no_longer_than_a_tick(day: Day) -> None:
    await day.happens(*HELD, arrived(400.0, "a"))
    await day.at(401.0)
    view = day.incidents.view("r", instant(401.0))
    assert view is not None
    assert view.last_arrival == instant(400.0)


async def test_begin_and_end_are_in_the_log(day: Day, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mailprobe")
    await day.happens(*HELD, arrived(400.0, "a"))
    for number in range(4):
        await day.happens(*comes(f"b{number}", 420.0 + 150.0 * number))
    await day.at(900.0)
    said = [record.getMessage() for record in caplog.records if "incident" in record.getMessage()]
    assert said == [
        "incident_opened route=r kind=late state=slow seconds_ago=30.000",
        "incident_closed route=r kind=late lasted=419.500 mails=1 peak=399.000",
    ]


async def test_a_ledger_that_cannot_be_written_is_tried_again(day: Day) -> None:
    class Full:
        async def save(self, *_: object) -> None:
            raise LedgerError("disk is full")

    await day.happens(*HELD)
    day.incidents.tick("r", instant(302.0), None, WATCHED)
    with pytest.raises(LedgerError):
        await day.incidents.keep(Full(), instant(302.0))  # type: ignore[arg-type]
    await day.incidents.keep(day.ledger, instant(303.0))
    assert await day.on_record() == [("late", 1.0, None)]
    await day.crash()
    assert await day.at(305.0) is RouteState.STUCK


class Recording:
    """A ledger that gives up after so many transactions."""

    def __init__(self, ledger: Ledger, transactions: float = inf) -> None:
        self.ledger, self.left, self.kept = ledger, transactions, list[set[str]]()
        self.memory, self.find = ledger.memory, ledger.find

    async def save(self, incidents: Iterable[IncidentRow] = (), memory: Mapping[str, Any] | None = None) -> None:
        """As the ledger does it."""
        if self.left <= 0:
            raise LedgerError("disk is full")
        self.left -= 1
        await self.ledger.save(incidents, memory)
        self.kept.append({name.removeprefix("incidents/") for name in memory or {}})


def is_held(incidents: Incidents, number: int, at: float) -> None:
    """A mail of each route was sent then, and was not there in time."""
    for route in MANY:
        probe = make_probe(sending(at, f"{route}-{number}", route), accepted(at + 1.0, f"{route}-{number}"))
        event = judged(at + 31.0, probe.id, met=False)
        incidents.observe(Outcome(event, probe, advance(probe, event)))


async def test_a_crash_while_the_incidents_of_many_routes_go_on_record_opens_none_twice(day: Day) -> None:
    incidents = Incidents(MANY)
    is_held(incidents, 0, 0.0)
    with suppress(LedgerError):
        await incidents.keep(Recording(day.ledger, 2), instant(32.0))
    incidents = Incidents(MANY)
    await incidents.restore(day.ledger)
    is_held(incidents, 1, 60.0)
    await incidents.keep(day.ledger, instant(92.0))
    assert len(await day.on_record()) == len(MANY)


async def test_no_route_is_forgotten_for_long_however_many_there_are(day: Day) -> None:
    incidents, shelf = Incidents(MANY), Recording(day.ledger)
    for second in range(6):
        is_held(incidents, second, float(second))
        await incidents.keep(shelf, instant(32.0 + second))
    for some in (shelf.kept[:8], shelf.kept[-8:]):  # when the incidents began, and five seconds later
        assert set().union(*some) == set(MANY)
    assert max(map(len, shelf.kept)) <= 10


async def test_what_could_not_be_put_on_record_is_with_the_next_attempt(day: Day) -> None:
    incidents = Incidents(MANY)
    is_held(incidents, 0, 0.0)
    for transactions in (1, 0, 1, inf):
        with suppress(LedgerError):
            await incidents.keep(Recording(day.ledger, transactions), instant(32.0))
    assert len(await day.on_record()) == len(MANY)


async def test_a_memory_that_cannot_be_read_is_told_and_left(day: Day, caplog: pytest.LogCaptureFixture) -> None:
    await day.ledger.save(memory={"incidents/r": {"state": 7}, "incidents/gone": {}})
    await day.crash()
    assert "incidents_forgotten route=r" in caplog.text
    assert await day.at(2.0) is RouteState.UNKNOWN


async def test_a_route_that_changes_goes_on_and_one_that_is_removed_is_forgotten(day: Day) -> None:
    await day.happens(*HELD)
    await day.at(302.0)
    day.incidents.follow({"r": make_route(deadlines=(60.0, 300.0)), "new": make_route("new")})
    assert day.state(303.0) is RouteState.STUCK
    assert day.incidents.view("new", instant(303.0)) is not None
    day.incidents.follow({})
    assert day.incidents.view("r", instant(303.0)) is None


async def test_an_incident_of_a_route_that_is_removed_lasted_until_then_at_least(day: Day) -> None:
    await day.happens(*HELD)
    await day.at(302.0)
    day.incidents.follow({})
    await day.incidents.keep(day.ledger, instant(303.0))
    assert await day.on_record() == [("late", 1.0, 302.0)]
    day.incidents.follow(ROUTES)
    await day.happens(arrived(400.0, "a", not_before=399.0))
    for number in range(4):
        await day.happens(*comes(f"b{number}", 420.0 + 150.0 * number))
    assert await day.at(900.0) is RouteState.OK
    assert await day.on_record() == [("late", 1.0, 302.0), ("late", 1.0, 420.5)]


async def test_an_incident_of_a_route_that_is_gone_at_the_next_start_lasted_until_the_last_one_s_end(day: Day) -> None:
    await day.happens(*HELD)
    await day.at(302.0)
    for _ in range(2):
        day.incidents = Incidents({})
        await day.incidents.restore(day.ledger)
        await day.incidents.keep(day.ledger, instant(5001.0))
        assert await day.on_record() == [("late", 1.0, 302.0)]
        assert await day.ledger.memory() == {}


async def test_who_was_blind_on_a_route_that_is_removed_was_so_until_the_last_look(day: Day) -> None:
    for second in range(100):
        day.incidents.tick("r", instant(second), None, {"own": second == 0})
    day.incidents.follow({})
    await day.incidents.keep(day.ledger, instant(100.0))
    assert await day.on_record() == [("blind", 1.0, 99.0)]
    with closing(Reader(day.path)) as reader:
        [row] = await reader.incidents(0.0, 1e12)
    assert (row.record["peak"], row.record["origin"]) == (98.0, "left")


def test_nobody_watched_is_blind() -> None:
    incidents = Incidents(ROUTES)

    def state(at: Instant) -> RouteState:
        incidents.tick("r", at, None, {"own": False})
        view = incidents.view("r", at)
        assert view is not None
        return view.state

    assert [state(instant(seconds)) for seconds in (0.0, 20.0, 31.0)][-1] is RouteState.BLIND
