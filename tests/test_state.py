"""What became of a probe: the whole table against the one written here by hand, and what times follow from events."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.core.events import Arrived, Event, clock_between, elapsed
from probe.core.outcome import Outcome
from probe.core.state import IN_FLIGHT, OPEN, TRANSITIONS, ImpossibleEvent, Probe, State, advance, arrival_bounds, met
from probe.ledger import Ledger, LedgerError
from probe.recorder import Recorder

from .make import (
    PATHS,
    T0,
    FakeClock,
    FakeEyes,
    Told,
    accepted,
    after_reboot,
    arrived,
    bounced,
    deferred,
    expired,
    failed,
    instant,
    judged,
    make_probe,
    make_route,
    notified,
    place,
    probe_in,
    rejected,
    sending,
    traced,
    unconfirmed,
    vanished,
)

EVENTS: dict[str, Event] = {
    "Sending": sending(),
    "Accepted": accepted(),
    "Unconfirmed": unconfirmed(),
    "Rejected": rejected(),
    "Deferred": deferred(),
    "Failed": failed(),
    "Arrived": arrived(),
    "Expired": expired(),
    "Vanished": vanished(),
    "Bounced": bounced(),
    "Notified": notified(),
    "Judged": judged(),
    "Traced": traced(),
}
# Written from the design's diagram, not from the code.
EXPECTED: dict[State | None, dict[str, str]] = {
    None: {"Sending": "sending"},
    State.SENDING: {
        "Accepted": "accepted",
        "Unconfirmed": "unconfirmed",
        "Rejected": "rejected",
        "Deferred": "deferred",
        "Failed": "failed",
        "Arrived": "early",
        "Bounced": "bounced",
        "Notified": "sending",
    },
    State.EARLY: {
        "Accepted": "delivered",
        "Unconfirmed": "delivered",
        "Rejected": "rejected",
        "Deferred": "deferred",
        "Failed": "failed",
        "Arrived": "early",
        "Bounced": "early",
        "Notified": "early",
        "Vanished": "early",
    },
    State.ACCEPTED: {
        "Arrived": "delivered",
        "Expired": "lost",
        "Bounced": "bounced",
        "Notified": "accepted",
        "Judged": "accepted",
    },
    State.UNCONFIRMED: {
        "Arrived": "delivered",
        "Expired": "lost",
        "Bounced": "bounced",
        "Notified": "unconfirmed",
        "Judged": "unconfirmed",
    },
    State.DELIVERED: dict.fromkeys(("Arrived", "Bounced", "Notified", "Vanished", "Judged", "Traced"), "delivered"),
    # After accepted(): another reply to the same submission cannot be.
    State.BOUNCED: {"Arrived": "found", **dict.fromkeys(("Bounced", "Notified", "Judged"), "bounced")},
    State.LOST: {"Arrived": "found", "Bounced": "bounced", **dict.fromkeys(("Notified", "Judged"), "lost")},
    State.FOUND: dict.fromkeys(("Arrived", "Bounced", "Notified", "Vanished", "Judged", "Traced"), "found"),
    State.REJECTED: dict.fromkeys(("Arrived", "Bounced", "Notified", "Vanished"), "rejected"),
    State.DEFERRED: dict.fromkeys(("Arrived", "Bounced", "Notified", "Vanished"), "deferred"),
    State.FAILED: dict.fromkeys(("Arrived", "Bounced", "Notified", "Vanished"), "failed"),
}
# Where the reply to the submission is read after all else.
LATE_REPLIES: dict[tuple[Event, ...], dict[str, str]] = {
    (bounced(0.1),): {"Accepted": "bounced", "Unconfirmed": "bounced"},
    (bounced(0.1), arrived(0.2)): {"Accepted": "found", "Unconfirmed": "found"},
}
PAIRS = list(itertools.product([None, *State], EVENTS))


# -- the table -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "kind"), PAIRS, ids=str)
def test_every_pair_leads_where_the_design_says_or_is_impossible(state: State | None, kind: str) -> None:
    probe = probe_in(state) if state else None
    wanted = EXPECTED[state].get(kind)
    if wanted is None:
        with pytest.raises(ImpossibleEvent) as raised:
            advance(probe, EVENTS[kind])
        assert (raised.value.state, raised.value.event) == (state, EVENTS[kind])
        assert kind in str(raised.value)
        assert str(state or "unknown") in str(raised.value)
    else:
        assert advance(probe, EVENTS[kind]).state == wanted


@pytest.mark.parametrize("before", LATE_REPLIES)
@pytest.mark.parametrize(
    "reply", [accepted(), unconfirmed(), rejected(), deferred(), failed()], ids=lambda e: type(e).__name__
)
def test_a_reply_that_is_read_after_a_bounce_is_not_a_second_life(before: tuple[Event, ...], reply: Event) -> None:
    kind = type(reply).__name__
    assert make_probe(sending(), *before, reply).state == LATE_REPLIES[before].get(kind, kind.lower())
    with pytest.raises(ImpossibleEvent):
        make_probe(sending(), *before, reply, reply)


def test_every_key_of_the_table_is_reached_from_the_beginning() -> None:
    reached = set()
    for path in (*PATHS.values(), *((sending(), *before) for before in LATE_REPLIES)):
        before = None
        for event in path:
            reached.add((before.state if before else None, type(event)))
            before = advance(before, event)
        for event in EVENTS.values():
            with contextlib.suppress(ImpossibleEvent):
                advance(before, event)
                reached.add((before.state if before else None, type(event)))
    assert reached >= TRANSITIONS.keys()
    assert set(TRANSITIONS.values()) == set(State) == PATHS.keys()


@pytest.mark.parametrize("state", State)
def test_the_paths_of_these_tests_lead_where_they_say(state: State) -> None:
    assert probe_in(state).state is state


def test_a_probe_is_open_exactly_while_its_submission_or_its_arrival_is_awaited() -> None:
    assert set(OPEN) == {State.SENDING, State.EARLY, State.ACCEPTED, State.UNCONFIRMED}
    assert set(IN_FLIGHT) == {State.ACCEPTED, State.UNCONFIRMED}
    for state in State:
        assert (probe_in(state).answerable is not None) >= (state in IN_FLIGHT)


def test_the_first_arrival_is_the_measured_one_and_every_copy_is_remembered() -> None:
    first, second = arrived(1.0, uid=1), arrived(9.0, uid=2)
    probe = make_probe(sending(), accepted(), first, second)
    assert probe.arrived == first
    assert probe.places == (place(1), place(2))
    assert probe.latency == 0.5


def test_a_probe_keeps_what_its_sending_said() -> None:
    event = sending(3.0, due=2.5)
    probe = make_probe(event)
    assert (probe.id, probe.route, probe.sender, probe.recipient) == (
        event.probe,
        event.route,
        event.sender,
        event.recipient,
    )
    assert (probe.due, probe.started) == (instant(2.5), instant(3.0))


# -- times ---------------------------------------------------------------------------------------------------------


def test_latency_is_by_the_boot_clock_even_when_the_wall_clock_was_stepped() -> None:
    clock = FakeClock(instant(0.5))
    event = dataclasses.replace(accepted(), at=clock())
    clock.advance(4.0)
    clock.step(-3600.0)
    probe = make_probe(sending(), event, dataclasses.replace(arrived(), at=clock()))
    assert probe.latency == 4.0
    assert clock_between(event.at, clock()) == "boottime"


def test_latency_is_by_the_wall_clock_across_boots() -> None:
    late = dataclasses.replace(arrived(), at=after_reboot(86400.5))
    probe = make_probe(sending(), accepted(0.5), late)
    assert probe.latency == 86400.0
    assert clock_between(accepted().at, late.at) == "wall"


def test_elapsed_is_negative_when_the_end_came_first() -> None:
    assert elapsed(instant(5), instant(3)) == -2.0
    assert elapsed(after_reboot(5), instant(3)) == -2.0


@pytest.mark.parametrize("at", [0.1, 0.5])
def test_an_arrival_before_its_250_has_a_latency_of_zero(at: float) -> None:
    early = make_probe(sending(), arrived(at), accepted(0.5))
    assert (early.state, early.latency) == (State.DELIVERED, 0.0)
    reordered = make_probe(sending(), accepted(0.5), arrived(at))
    assert (reordered.state, reordered.latency) == (State.DELIVERED, 0.0)


def test_an_unconfirmed_probe_is_measured_from_when_the_provider_may_have_had_it() -> None:
    probe = make_probe(sending(), unconfirmed(30.0, since=0.25), arrived(10.25))
    assert probe.answerable == instant(0.25)
    assert probe.latency == 10.0


@pytest.mark.parametrize("refused", [rejected(), deferred(), failed()])
def test_what_was_refused_has_no_latency_even_when_it_arrives(refused: Event) -> None:
    for path in ((sending(), refused, arrived()), (sending(), arrived(0.1), refused)):
        probe = make_probe(*path)
        assert probe.latency is None
        assert probe.arrived is not None


def test_a_probe_that_has_not_arrived_has_neither_latency_nor_uncertainty() -> None:
    for state in (State.SENDING, State.ACCEPTED, State.UNCONFIRMED, State.LOST):
        assert probe_in(state).latency is None
        assert probe_in(state).uncertainty is None


# (not_before, stored second, first byte) → (low, high), in seconds after T0, which is on a whole second
BOUNDS = {
    "stored inside narrows both ends": ((10.0, 50.0, 100.0), (50.0, 51.0)),
    "stored with nothing known before": ((None, 50.0, 100.0), (50.0, 51.0)),
    "stored in the second of the first byte": ((10.0, 100.0, 100.5), (100.0, 100.5)),
    "stored in the second of the last look": ((10.5, 10.0, 100.0), (10.5, 11.0)),
    "stored before the last look is another clock's": ((10.5, 9.0, 100.0), (10.5, 100.0)),
    "stored after the first byte is another clock's": ((10.5, 101.0, 100.5), (10.5, 100.5)),
    "stored long ago with nothing known before": ((None, -5000.0, 100.0), (-5000.0, -4999.0)),
    "stored unknown": ((10.0, None, 100.0), (10.0, 100.0)),
    "nothing known at all": ((None, None, 100.0), (None, 100.0)),
}


@pytest.mark.parametrize("case", BOUNDS)
def test_a_catch_up_is_bounded_by_the_servers_stamp_where_that_can_be(case: str) -> None:
    (not_before, stored, at), (low, high) = BOUNDS[case]
    event = arrived(at, detection="catch-up", not_before=not_before, stored=stored)
    assert arrival_bounds(event) == (None if low is None else instant(low), instant(high))


@pytest.mark.parametrize("detection", ["idle", "poll"])
def test_the_servers_stamp_is_ignored_when_we_saw_the_mail_come(detection: str) -> None:
    event = arrived(100.0, detection=detection, not_before=99.0, stored=50.0)  # type: ignore[arg-type]
    assert arrival_bounds(event) == (instant(99.0), instant(100.0))


bounded = st.none() | st.integers(0, 4000).map(lambda n: n / 4)


@given(bounded, bounded.map(lambda it: None if it is None else float(int(it))), st.integers(4000, 8000))
def test_the_bounds_of_an_arrival_never_leave_what_we_saw_ourselves(
    not_before: float | None, stored: float | None, at: int
) -> None:
    event = arrived(at / 4, detection="catch-up", not_before=not_before, stored=stored)
    low, high = arrival_bounds(event)
    assert elapsed(high, event.at) >= 0
    if event.not_before:
        assert low is not None
        assert elapsed(event.not_before, low) >= 0
        assert elapsed(low, high) >= 0
        assert elapsed(event.not_before, high) >= 0


def test_latency_of_a_catch_up_is_measured_to_the_late_end_of_its_bounds() -> None:
    seen = arrived(90_000.0, detection="catch-up", not_before=10.0, stored=50.0)
    probe = make_probe(sending(), accepted(0.5), seen)
    assert probe.latency == 50.5
    assert probe.uncertainty == 1.0


def test_uncertainty_is_the_width_of_the_interval_and_no_mail_comes_before_it_is_sent() -> None:
    def uncertainty(not_before: float | None) -> float | None:
        return make_probe(sending(), accepted(0.5), arrived(2.0, not_before=not_before)).uncertainty

    assert uncertainty(1.75) == 0.25
    assert uncertainty(-3600.0) == 1.5
    assert uncertainty(None) == 1.5
    assert make_probe(sending(), accepted(3.0), arrived(2.0)).uncertainty == 0.0
    assert make_probe(sending(), arrived(2.0)).uncertainty is None
    assert make_probe(sending(), arrived(2.0, not_before=1.5)).uncertainty == 0.5


# (detection, not_before, stored, first byte) → is it among the measurements? Accepted at 0.5 s.
DOUBTS = {
    "pushed": (("idle", None, None, 600.0), False),
    "asked for in time": (("poll", 599.0, None, 600.0), False),
    "asked for at once": (("poll", None, None, 0.55), False),
    "caught up, stamped": (("catch-up", 0.25, 50.0, 600.0), False),
    "caught up, stamped in the very second": (("catch-up", 0.25, 0.0, 600.0), False),
    "caught up, with nothing known": (("catch-up", None, None, 600.0), True),
    "caught up, stamped by a wrong clock": (("catch-up", 0.25, 5000.0, 600.0), True),
    "caught up a moment later": (("catch-up", 0.25, None, 1.25), False),
    "caught up, not there after half the time": (("catch-up", 300.0, None, 600.0), False),
}


@pytest.mark.parametrize("case", DOUBTS)
def test_a_latency_of_which_nobody_knows_more_than_that_it_is_over_is_doubtful(case: str) -> None:
    (detection, not_before, stored, at), doubtful = DOUBTS[case]
    event = arrived(at, detection=detection, not_before=not_before, stored=stored)  # type: ignore[arg-type]
    probe = make_probe(sending(), accepted(0.5), event)
    assert probe.doubtful is doubtful
    assert (met(probe, 10_000.0) is None) is doubtful


def test_a_mail_that_came_before_it_was_sent_by_a_clock_set_across_a_reboot_is_doubtful() -> None:
    late = dataclasses.replace(arrived(), at=after_reboot(-3600.0))
    probe = make_probe(sending(), accepted(0.5), late)
    assert (probe.latency, probe.clock, probe.doubtful) == (0.0, "wall", True)
    slewed = dataclasses.replace(arrived(), at=after_reboot(0.25))
    assert not make_probe(sending(), accepted(0.5), slewed).doubtful


def test_what_has_not_come_is_not_doubtful() -> None:
    for state in (State.SENDING, State.ACCEPTED, State.BOUNCED, State.LOST, State.REJECTED):
        assert probe_in(state).doubtful is False
        assert probe_in(state).clock is None


@pytest.mark.parametrize(
    ("not_before", "at", "wanted"),
    [
        (None, 30.5, True),
        (30.25, 30.75, False),  # late, and hardly otherwise
        (28.75, 30.75, None),  # by more than 5 % of the deadline it may have been in time
        (10.0, 90.0, None),
        (31.0, 90.0, False),
    ],
)
def test_whether_a_deadline_was_met_is_known_only_as_well_as_the_arrival(
    not_before: float | None, at: float, wanted: bool | None
) -> None:
    probe = make_probe(sending(), accepted(0.5), arrived(at, not_before=not_before))
    assert met(probe, 30.0) is wanted


def test_of_a_mail_that_has_not_come_no_deadline_is_known() -> None:
    assert met(probe_in(State.BOUNCED), 30.0) is None  # it may have come all the same: somebody has to look
    assert met(probe_in(State.ACCEPTED), 30.0) is None


def test_an_outcome_completes_the_measurement_exactly_once() -> None:
    for path in (
        (sending(), accepted(), arrived(uid=1), arrived(2.0, uid=2)),
        (sending(), arrived(0.1), arrived(0.2, uid=2), accepted(), arrived(2.0, uid=3)),
        (sending(), unconfirmed(), expired(), arrived(2000.0)),
    ):
        before: Probe | None = None
        told = []
        for event in path:
            after = advance(before, event)
            told.append(Outcome(event, before, after).measured_now)
            before = after
        assert told.count(True) == 1


# -- the conservation law ------------------------------------------------------------------------------------------

KINDS = st.sampled_from([accepted, unconfirmed, rejected, deferred, failed, expired])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 3)),
        st.tuples(KINDS, st.integers(0, 3)),
        st.tuples(st.just("arrive"), st.integers(0, 3), st.integers(1, 3)),
        st.tuples(st.sampled_from(["drain", "restart", "reboot", "step", "wait"])),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_whatever_happens_every_probe_is_counted_in_exactly_one_state(steps: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_live(steps, Path(directory) / "ledger.sqlite"))


async def _live(steps: list[tuple[object, ...]], path: Path) -> None:
    clock, told, routes = FakeClock(), Told(), {"even": make_route("even"), "odd": make_route("odd")}
    sent: set[int] = set()
    ledger = Ledger(path)

    def begin() -> Recorder:
        return Recorder(ledger, clock, lambda: routes, FakeEyes(clock), told, LedgerError)

    recorder = begin()
    for step in steps:
        clock.advance(0.25)
        match step:
            case ("send", int(number)):
                if number not in sent:
                    event = sending(probe=f"{number:016x}", route=("even", "odd")[number % 2])
                    recorder.put(dataclasses.replace(event, at=clock()))
                    sent.add(number)
            case ("arrive", int(number), int(uid)):
                recorder.put(dataclasses.replace(arrived(probe=f"{number:016x}", uid=10 * number + uid), at=clock()))
            case ("drain",):
                await recorder.drain()
            case ("restart",):
                await recorder.drain()
                await asyncio.to_thread(ledger.close)
                ledger = Ledger(path)
                recorder = begin()
                recorder.resume(await ledger.unfinished(0.0), await ledger.counts(), await ledger.last_judgement())
            case ("reboot",):
                clock.reboot()
            case ("step",):
                clock.step(-7200.0)
            case ("wait",):
                clock.advance(600.0)
                recorder.tick()
            case (make, int(number)):
                event = make(probe=f"{number:016x}")  # type: ignore[operator]
                recorder.put(dataclasses.replace(event, at=clock()))
    await recorder.drain()
    counts = {key: number for key, number in recorder.counts.items() if number}
    assert min(counts.values(), default=1) > 0
    assert sum(counts.values()) == len(sent)
    assert counts == await ledger.counts()
    told = [await ledger.find(f"{number:016x}") for number in sent]
    assert Counter((probe.route, probe.state) for probe in told if probe) == counts
    assert {probe.id: probe for probe in told if probe and probe.state in OPEN} == {
        probe.id: probe for probe in recorder.probes.values() if probe.state in OPEN
    }
    flying = sum(number for (_, state), number in counts.items() if state in IN_FLIGHT)
    assert sum(it.number for it in recorder.standing().in_flight.values()) == flying
    await asyncio.to_thread(ledger.close)


def test_the_fake_world_begins_on_a_whole_second() -> None:
    assert T0.wall == int(T0.wall)
    assert isinstance(arrived(), Arrived)
