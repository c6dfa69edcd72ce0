"""The record on disk, on a real disk: what was committed is there, whatever happened to the process."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from probe.core.events import (
    Accepted,
    Arrived,
    Bounced,
    Cursor,
    Deferred,
    Event,
    Expired,
    Failed,
    Instant,
    Part,
    Place,
    Rejected,
    Reply,
    Sending,
    Stage,
    Stay,
    Traced,
    Unconfirmed,
)
from probe.core.state import State, advance
from probe.core.written import fields, typed
from probe.ledger import SCHEMA_VERSION, Ledger, LedgerError, writing
from probe.ledger.records import load
from probe.ledger.schema import IS_OPEN, SCHEMA

from .chained import headers
from .make import (
    PATHS,
    PROBE,
    ROOT,
    accepted,
    arrived,
    bounced,
    expired,
    instant,
    judged,
    make_probe,
    probe_in,
    sending,
    vanished,
)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Ledger]:
    ledger = await asyncio.to_thread(Ledger, path)
    try:
        yield ledger
    finally:
        await asyncio.to_thread(ledger.close)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.sqlite"


def with_id(number: int, *events: Event) -> tuple[Event, ...]:
    return tuple(dataclasses.replace(event, probe=f"{number:016x}") for event in events)


def in_writer_thread(ledger: Ledger, statement: str) -> object:
    return ledger._thread.submit(lambda: ledger._db.execute(statement).fetchone()).result()


# -- there and back ------------------------------------------------------------------------------------------------

FINITE = st.floats(allow_nan=False, allow_infinity=False)
# Anything may stand in a server's words; what the SMTP shell lets through has no lone surrogates.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INSTANTS = st.builds(Instant, FINITE, FINITE, TEXTS)
REPLIES = st.builds(Reply, st.integers(200, 599), TEXTS, TEXTS)
STAGES = st.lists(st.tuples(st.sampled_from(get_args(Stage)), FINITE), max_size=3).map(tuple)
PLACES = st.builds(Place, TEXTS, TEXTS, st.integers(1, 2**32), st.integers(1, 2**32))
LATELY = (st.none() | INSTANTS, st.none() | FINITE)
EVENTS = st.one_of(
    st.builds(Sending, TEXTS, INSTANTS, TEXTS, INSTANTS, TEXTS, TEXTS),
    st.builds(Accepted, TEXTS, INSTANTS, REPLIES, TEXTS, STAGES),
    st.builds(Deferred, TEXTS, INSTANTS, st.sampled_from(get_args(Stage)), REPLIES, STAGES),
    st.builds(Rejected, TEXTS, INSTANTS, st.sampled_from(get_args(Stage)), REPLIES, STAGES),
    st.builds(Failed, TEXTS, INSTANTS, st.sampled_from(get_args(Stage)), TEXTS, TEXTS, STAGES),
    st.builds(Unconfirmed, TEXTS, INSTANTS, INSTANTS, TEXTS, TEXTS, STAGES),
    st.builds(Arrived, TEXTS, INSTANTS, PLACES, st.just("junk"), st.just("poll"), *LATELY),
    st.builds(Expired, TEXTS, INSTANTS),
    st.builds(
        Traced,
        TEXTS,
        INSTANTS,
        st.lists(st.builds(Part, st.just("sender"), FINITE, FINITE, FINITE), max_size=3).map(tuple),
        st.lists(st.builds(Stay, TEXTS, FINITE, FINITE, FINITE), max_size=3).map(tuple),
        st.lists(st.tuples(TEXTS, TEXTS), max_size=3).map(tuple),
        st.lists(TEXTS, max_size=2).map(tuple),
    ),
)


@settings(max_examples=30, deadline=None, phases=[Phase.generate])
@given(st.lists(EVENTS, min_size=1, max_size=8))
def test_every_event_comes_back_from_the_file_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"

    async def write() -> None:
        async with opened(path) as ledger:
            await ledger.commit(events, [])

    asyncio.run(write())
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT probe, kind, at, record FROM events ORDER BY seq").fetchall()
    assert [typed(kind, json.loads(record)) for _, kind, _, record in rows] == events
    assert [(probe, at) for probe, _, at, _ in rows] == [(event.probe, event.at.wall) for event in events]


@pytest.mark.parametrize("state", State)
async def test_a_probe_in_every_state_is_found_again_after_reopening(path: Path, state: State) -> None:
    probe = probe_in(state)
    async with opened(path) as ledger:
        await ledger.commit(PATHS[state], [probe])
    async with opened(path) as ledger:
        assert await ledger.find(PROBE) == probe
        assert await ledger.counts() == {("r", state): 1}
        open_states = {State.SENDING, State.EARLY, State.ACCEPTED, State.UNCONFIRMED}
        assert await ledger.unfinished() == ([probe] if state in open_states else [])


async def test_events_of_many_commits_make_one_life(path: Path) -> None:
    life = (sending(), accepted(), expired(), arrived(2000.0, uid=1), arrived(2001.0, uid=2))
    async with opened(path) as ledger:
        probe = None
        for event in life:
            probe = advance(probe, event)
            await ledger.commit([event], [probe])
            assert await ledger.find(PROBE) == probe
        assert await ledger.counts() == {("r", State.FOUND): 1}
        assert await ledger.find("no such probe") is None


async def test_of_what_is_young_only_that_to_which_something_is_expected_is_read(path: Path) -> None:
    done, ahead, aloft = (
        with_id(number, *PATHS[state])
        for number, state in enumerate([State.DELIVERED, State.DELIVERED, State.ACCEPTED])
    )
    async with opened(path) as ledger:
        probes = [make_probe(*life) for life in (done, ahead, aloft)]
        await ledger.commit([*done, *ahead, *aloft], probes, (), [probes[0].id])
        assert await ledger.unfinished(0.0) == probes[1:]
        assert await ledger.unfinished(instant(999.0).wall) == probes[2:]
        await ledger.commit([with_id(0, judged(900.0))[0]], [probes[0]])  # more has happened than is chained
        assert [probe.id for probe in await ledger.unfinished(0.0)] == [probe.id for probe in probes]


async def test_what_is_open_or_young_is_found_without_a_look_at_anything_else(path: Path) -> None:
    def steps() -> tuple[int, int]:
        """Of SQLite's machine, in tens."""
        counted: list[int] = []
        with closing(sqlite3.connect(path)) as db:
            db.set_progress_handler(lambda: counted.append(1), 10)
            assert len(load(db, IS_OPEN, ())) == 1
            number = len(counted)
            assert len(load(db, "started >= ?", (instant(900.0).wall,))) == 1
            return number, len(counted) - number

    def later(event: Event) -> Event:
        return dataclasses.replace(event, at=event.at.shifted(999.0))

    async with opened(path) as ledger:
        young = with_id(0, *map(later, PATHS[State.ACCEPTED]))
        await ledger.commit(young, [make_probe(*young)])
        before = steps()
        old = [with_id(number, *PATHS[State.DELIVERED]) for number in range(1, 200)]
        await ledger.commit([event for life in old for event in life], [make_probe(*life) for life in old])
        assert steps() == pytest.approx(before, abs=3)


async def test_open_probes_come_oldest_first_and_interleaved_events_find_their_own(path: Path) -> None:
    lives = [with_id(number, sending(number), accepted(number + 0.5)) for number in range(5)]
    async with opened(path) as ledger:
        await ledger.commit([events[0] for events in lives], [make_probe(*events) for events in lives])
        await ledger.commit([events[1] for events in reversed(lives)], [])
        assert await ledger.unfinished() == [make_probe(*events) for events in lives]


async def test_cursors_come_back_and_a_newer_one_replaces_the_older(path: Path) -> None:
    inbox, junk = Cursor("own", "INBOX", 7, 41, instant(1)), Cursor("own", "Spam/Jünk ✓", 2**32 - 1, 0, instant(2))
    async with opened(path) as ledger:
        await ledger.commit([], [], [inbox, junk])
        await ledger.commit([], [], [inbox._replace(uid=42)])
    async with opened(path) as ledger:
        found = await ledger.cursors()
    assert found == {("own", "INBOX"): inbox._replace(uid=42), ("own", junk.folder): junk}
    assert all(isinstance(cursor.looked, Instant) for cursor in found.values())


async def test_counts_are_by_route_and_state(path: Path) -> None:
    lives = [with_id(number, sending(route=f"r{number % 2}"), accepted()) for number in range(5)]
    async with opened(path) as ledger:
        assert await ledger.counts() == {}
        for events in lives:
            await ledger.commit(events, [make_probe(*events)])
        assert await ledger.counts() == {("r0", State.ACCEPTED): 3, ("r1", State.ACCEPTED): 2}


# -- durable -------------------------------------------------------------------------------------------------------


async def test_the_file_is_in_wal_mode_with_full_synchronisation(path: Path) -> None:
    async with opened(path) as ledger:
        assert in_writer_thread(ledger, "PRAGMA journal_mode") == ("wal",)
        assert in_writer_thread(ledger, "PRAGMA synchronous") == (2,)
        assert in_writer_thread(ledger, "PRAGMA user_version") == (SCHEMA_VERSION,)


KILLED = """
import asyncio, os, signal
from pathlib import Path
from probe.ledger import Ledger
from tests.make import accepted, make_probe, sending

async def main():
    ledger = Ledger(Path({path!r}))
    await ledger.commit([sending()], [make_probe(sending())])
    await ledger.commit([accepted()], [make_probe(sending(), accepted())])
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_what_was_committed_survives_a_kill(path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED.format(path=str(path))], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    async with opened(path) as ledger:
        assert await ledger.unfinished() == [make_probe(sending(), accepted())]


async def test_a_commit_is_all_or_nothing(path: Path) -> None:
    async with opened(path) as ledger:
        await ledger.commit([sending()], [make_probe(sending())])
        # NaN becomes NULL, which the table refuses: a row in the middle fails after others went in.
        broken = dataclasses.replace(arrived(), at=Instant(float("nan"), 0.0, "b"))
        cursor = Cursor("own", "INBOX", 7, 41, instant(1))
        with pytest.raises(LedgerError, match="NOT NULL") as raised:
            await ledger.commit([accepted(), broken], [make_probe(sending(), accepted())], [cursor])
        assert str(path) in str(raised.value)
        assert await ledger.find(PROBE) == make_probe(sending())
        assert await ledger.counts() == {("r", State.SENDING): 1}
        assert await ledger.cursors() == {}
        await ledger.commit([accepted()], [make_probe(sending(), accepted())], [cursor])
        assert await ledger.find(PROBE) == make_probe(sending(), accepted())


async def test_a_failing_cursor_takes_the_events_back_with_it(path: Path) -> None:
    async with opened(path) as ledger:
        with pytest.raises(LedgerError):
            await ledger.commit([sending()], [make_probe(sending())], [Cursor("a", object(), 1, 1, instant(1))])  # type: ignore[arg-type]
        assert await ledger.find(PROBE) is None
        await ledger.commit([sending()], [make_probe(sending())])


async def test_a_full_disk_is_an_error_and_then_nothing_is_lost_that_was_there(path: Path) -> None:
    async with opened(path) as ledger:
        await ledger.commit([sending()], [make_probe(sending())])
        in_writer_thread(ledger, "PRAGMA max_page_count = 1")
        big = [dataclasses.replace(event, detail="x" * 10_000) for event in PATHS[State.FAILED][1:]]  # type: ignore[call-arg]
        with pytest.raises(LedgerError, match="full"):
            await ledger.commit(big, [probe_in(State.FAILED)])
        assert await ledger.find(PROBE) == make_probe(sending())
        in_writer_thread(ledger, "PRAGMA max_page_count = 100000")
        await ledger.commit(big, [probe_in(State.FAILED)])


# -- refused -------------------------------------------------------------------------------------------------------


def refusal(path: Path) -> str:
    with pytest.raises(LedgerError) as raised:
        Ledger(path)
    text = str(raised.value)
    assert "\n" not in text
    assert str(path) in text
    return text


SECOND = """
from pathlib import Path
from probe.ledger import Ledger, LedgerError
try:
    Ledger(Path({path!r}))
except LedgerError as error:
    print(error)
"""


async def test_a_second_daemon_is_refused_in_one_line_and_the_first_goes_on(path: Path) -> None:
    async with opened(path) as ledger:
        second = [sys.executable, "-c", SECOND.format(path=str(path))]
        process = await asyncio.create_subprocess_exec(*second, cwd=ROOT, stdout=subprocess.PIPE)
        said, _ = await process.communicate()
        assert said.decode().splitlines() == [
            f"{path}: in use by another mailprobe; stop that one or give this one another state_dir"
        ]
        await ledger.commit([sending()], [make_probe(sending())])
        assert await ledger.find(PROBE) == make_probe(sending())


async def test_a_ledger_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    async with opened(path) as ledger:
        await ledger.commit([sending()], [make_probe(sending())])
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    text = refusal(path)
    assert "newer mailprobe" in text
    assert str(SCHEMA_VERSION + 1) in text
    assert path.read_bytes() == before
    with closing(sqlite3.connect(path)) as db:  # nothing holds it
        db.execute("BEGIN EXCLUSIVE")


def cut(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


def scribble(whole: bytes) -> bytes:
    return whole[:100] + b"\xff" * (len(whole) - 100)


def text_file(_: bytes) -> bytes:
    return b"Dear reader, this is no database. " * 100


@pytest.mark.parametrize("damage", [cut, scribble, text_file])
async def test_a_damaged_file_is_refused_in_one_line_and_left_alone(
    path: Path, damage: Callable[[bytes], bytes]
) -> None:
    async with opened(path) as ledger:
        for number in range(100):
            events = with_id(number, sending(), accepted())
            await ledger.commit(events, [make_probe(*events)])
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    before = path.read_bytes()

    async def use() -> None:
        async with opened(path) as ledger:
            await ledger.unfinished()
            await ledger.counts()

    with pytest.raises(LedgerError) as raised:
        await use()
    text = str(raised.value)
    assert "\n" not in text
    assert str(path) in text
    assert "damaged" in text
    assert "move it away" in text
    assert path.read_bytes() == before


def test_a_path_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    assert "state_dir must be a directory" in refusal(file / "ledger.sqlite")
    assert "state_dir must be a directory" in refusal(file / "deeper" / "ledger.sqlite")
    (tmp_path / "ledger.sqlite").mkdir()
    assert "state_dir must be a directory" in refusal(tmp_path / "ledger.sqlite")
    assert file.read_text() == "in the way"


def test_the_directory_is_made(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "a" / "b" / "ledger.sqlite")
    ledger.close()
    assert (tmp_path / "a" / "b" / "ledger.sqlite").is_file()


def test_another_programs_database_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE recipes (name TEXT)")
        db.commit()
    refusal(path)
    with closing(sqlite3.connect(path)) as db:
        assert [name for (name,) in db.execute("SELECT name FROM sqlite_master")] == ["recipes"]


async def test_the_time_of_the_last_record_is_known(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    assert await ledger.last_record() == 0.0
    await ledger.commit([sending(3.0), accepted(7.5)], [make_probe(sending(3.0), accepted(7.5))])
    ledger.close()
    ledger = Ledger(path)
    assert await ledger.last_record() == await ledger.last_judgement() == instant(7.5).wall
    await ledger.commit([judged(38.0), vanished(50.0)], [])
    assert await ledger.last_record() == instant(50.0).wall
    assert await ledger.last_judgement() == instant(38.0).wall
    ledger.close()


# -- forgetting ----------------------------------------------------------------------------------------------------


async def fill(ledger: Ledger, number: int, *after: Event, start: float = 0.0) -> None:
    """So many probes, a second apart, to which this happened."""
    for index in range(number):
        events = [dataclasses.replace(event, probe=f"{int(start) + index:016x}") for event in (sending(), *after)]
        events = [dataclasses.replace(event, at=event.at.shifted(start + index)) for event in events]
        await ledger.commit(events, [make_probe(*events)])


async def test_finished_probes_are_forgotten_when_they_are_old_and_open_ones_never(path: Path) -> None:
    async with opened(path) as ledger:
        await fill(ledger, 5, accepted(), arrived())
        await fill(ledger, 5, accepted(), start=100.0)
        gone = await ledger.forget(instant(2.5).wall, 10**9, 0.0)
        assert gone == {("r", State.DELIVERED): 3}
        assert await ledger.counts() == {("r", State.DELIVERED): 2, ("r", State.ACCEPTED): 5}
        assert await ledger.find(f"{2:016x}") is None
        assert await ledger.forget(instant(1e6).wall, 10**9, 0.0) == {("r", State.DELIVERED): 2}
        assert await ledger.forget(instant(1e6).wall, 10**9, 0.0) == {}
        assert len(await ledger.unfinished()) == 5


async def test_a_ledger_that_is_too_big_lets_the_oldest_go_but_none_that_may_be_needed(path: Path) -> None:
    async with opened(path) as ledger:
        await fill(ledger, 20, accepted(), arrived())
        assert await ledger.forget(0.0, 10, instant(15.0).wall) == {("r", State.DELIVERED): 15}
        assert await ledger.forget(0.0, 10, instant(15.0).wall) == {}
        assert await ledger.forget(0.0, 10**9, instant(15.0).wall) == {}
        assert await ledger.counts() == {("r", State.DELIVERED): 5}


async def test_room_that_was_freed_is_used_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(path) as ledger:
        monkeypatch.setattr(writing, "_FORGET_AT_ONCE", 10_000)
        await fill(ledger, 300, accepted(), arrived())
        size = await ledger.size()
        for round_ in range(1, 4):
            await ledger.forget(instant(1e9).wall, 10**9, 0.0)
            await fill(ledger, 300, accepted(), arrived(), start=1000.0 * round_)
            assert await ledger.size() <= size * 1.1


# -- the headers beside the events ---------------------------------------------------------------------------------

HEAD = b"Received: from a.example by b.example; Fri, 26 Jan 2007 09:02:11 +0100\r\n" * 40


def with_raw(event: Event, raw: bytes = HEAD) -> Event:
    return dataclasses.replace(event, raw=raw)


async def test_a_header_is_kept_beside_the_events_and_takes_a_fraction_of_its_room(path: Path) -> None:
    async with opened(path) as ledger:
        await ledger.commit([*PATHS[State.ACCEPTED], with_raw(arrived()), with_raw(bounced(), b"No\xff")], [])
        assert headers(ledger.path, PROBE) == [HEAD, b"No\xff"]
        assert headers(ledger.path, "0" * 16) == []
        assert in_writer_thread(ledger, "SELECT length(raw) < 200 FROM headers ORDER BY seq") == (1,)
        assert in_writer_thread(ledger, "SELECT count(*) FROM events WHERE instr(record, 'raw')") == (0,)


async def test_the_headers_that_came_last_come_with_their_probes_the_oldest_first(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_HEADERS_KEPT", 2)
    async with opened(path) as ledger:
        for number in range(3):
            events = [with_raw(e, b"%d" % number) if isinstance(e, Arrived) else e for e in PATHS[State.DELIVERED]]
            await ledger.commit(with_id(number, *events), [make_probe(*with_id(number, *events))])
        recent = await ledger.recent_headers()
    assert [(probe.id, probe.state, raw) for probe, raw in recent] == [
        (f"{number:016x}", State.DELIVERED, b"%d" % number) for number in (1, 2)
    ]


EVIDENCE: dict[str, tuple[Event, ...]] = {
    "missed a deadline": (sending(), accepted(), arrived(40.0), judged(31.0, met=False)),
    "nobody knows whether it did": (sending(), accepted(), arrived(40.0), judged(31.0, met=None)),
    "was lost and found": (sending(), accepted(), expired(1000.0), arrived(2000.0)),
    "bounced": (sending(), accepted(), bounced()),
}
ORDINARY = (sending(), accepted(), arrived(2.0), judged(31.0, met=True))


@pytest.mark.parametrize("why", EVIDENCE)
async def test_after_its_time_a_header_stays_only_where_there_is_something_to_prove(
    path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(writing, "_HEADERS_KEPT", 0)
    late, at = with_id(1, *EVIDENCE[why]), arrived(40.0).at.wall
    async with opened(path) as ledger:
        for events in (late, with_id(2, *ORDINARY)):
            raw = [with_raw(event) if isinstance(event, Arrived | Bounced) else event for event in events]
            await ledger.commit(raw, [make_probe(*events)])
        assert await ledger.sift_headers(arrived(2.0).at.wall) == 0  # nothing is older than that
        while await ledger.sift_headers(at + 86400.0):
            pass
        assert headers(ledger.path, late[0].probe) == [HEAD]
        assert headers(ledger.path, f"{2:016x}") == []
        # and with its probe it goes, too
        while await ledger.forget(at + 86400.0, 10**12, 0.0):
            pass
        assert headers(ledger.path, late[0].probe) == []


async def test_the_newest_headers_stay_whatever_their_age(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_HEADERS_KEPT", 2)
    async with opened(path) as ledger:
        for number in range(5):
            events = with_id(number, *ORDINARY)
            await ledger.commit([with_raw(e) if isinstance(e, Arrived) else e for e in events], [make_probe(*events)])
        while await ledger.sift_headers(arrived(2.0).at.wall + 86400.0):
            pass
        assert [bool(headers(ledger.path, f"{number:016x}")) for number in range(5)] == [False] * 3 + [True] * 2


async def test_a_ledger_of_the_version_before_gets_what_it_lacks_and_loses_nothing(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SCHEMA[0])
        db.execute("PRAGMA user_version = 1")
        probe = probe_in(State.DELIVERED)
        for event in PATHS[State.DELIVERED]:
            record = json.dumps(fields(event))
            db.execute(
                "INSERT INTO events (probe, kind, at, record) VALUES (?, ?, ?, ?)",
                (PROBE, type(event).__name__, event.at.wall, record),
            )
        db.execute("INSERT INTO probes VALUES (?, ?, ?, ?)", (PROBE, "r", probe.state, probe.started.wall))
        db.commit()
    async with opened(path) as ledger:
        assert in_writer_thread(ledger, "PRAGMA user_version") == (SCHEMA_VERSION,)
        assert await ledger.find(PROBE) == probe
        await ledger.commit([with_raw(arrived(5.0))], [probe])
        assert headers(ledger.path, PROBE) == [HEAD]
