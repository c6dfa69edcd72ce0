"""Incidents by exact instants: mails as tuples over a fake clock, the deadlines judged as the recorder judges them."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.core import incidents as incidents_module
from probe.core import lateness, refusals, sight
from probe.core.drain import Drain, Passage, correlation, drain
from probe.core.events import (
    Accepted,
    Arrived,
    Bounced,
    Deferred,
    Detection,
    Event,
    Expired,
    Failed,
    Instant,
    Judged,
    Rejected,
    Sending,
    elapsed,
)
from probe.core.incidents import RULES, Facts, Memory, Tracker
from probe.core.outcome import InFlight, Outcome
from probe.core.phrases import PHRASES, Language, end, sentence, trouble
from probe.core.plain import typed
from probe.core.settings import Route
from probe.core.state import IN_FLIGHT, Probe, advance, met
from probe.core.trouble import (
    Change,
    Closed,
    Held,
    Incident,
    Opened,
    Origin,
    RouteState,
    StateChanged,
    Toll,
    Updated,
    View,
)

from .make import BUSY, NO, OK, RECIPIENT, ROOT, SENDER, T0, instant, make_route, place

ROUTE = make_route(lost_after=86_400.0)
_S = RouteState
_NEVER = 10.0**9


class Mail(NamedTuple):
    """A mail that is accepted at `at` and comes after `latency`, both in seconds; or meets another fate then."""

    at: float
    latency: float = 1.0
    fate: str = "delivered"


class Times(NamedTuple):
    """From `begin` to `end`, in seconds."""

    begin: float
    end: float

    def hold(self, at: float) -> bool:
        return self.begin <= at < self.end


class World:
    """A route whose mails are known beforehand. Mail is seen when it comes, or when the mailbox is watched again;
    nothing at all happens while the daemon is down."""

    def __init__(
        self, mails: Iterable[Mail], route: Route = ROUTE, blind: Iterable[Times] = (), down: Iterable[Times] = ()
    ) -> None:
        self.route, self.blind, self.down = route, [*blind], [*down]
        self.tracker = Tracker(route)
        self.probes: dict[str, Probe] = {}
        self.awaited: dict[str, None] = {}  # of these more is expected
        self.events: list[Event] = []
        self.changes: list[Change] = []
        self.restarts = 0  # how often the tracker is made anew from its dump: before every event of so many
        self.clock = instant
        self.now = 0.0
        self.looked = 0.0  # the last moment at which the mailbox was watched
        sent = [mail for mail in mails if not any(time.hold(mail.at) for time in self.down)]
        self.ahead = sorted(self.happen(sent), key=lambda it: it[0])

    def happen(self, mails: Iterable[Mail]) -> Iterable[tuple[float, str, str]]:
        for number, (at, latency, fate) in enumerate(mails):
            probe = f"{number:016x}"
            yield at, "send", probe
            if fate in {"delivered", "bounced"}:
                yield at, "accepted", probe
                yield at + latency, fate, probe
            else:
                yield at, fate, probe

    def run(self, until: float, step: float = 1.0) -> World:
        while self.now < until:
            if not self.is_in(self.down):
                self.work()
            self.now += step
        return self

    def is_in(self, times: Iterable[Times]) -> bool:
        return any(time.hold(self.now) for time in times)

    def work(self) -> None:
        """What the daemon does once a second."""
        watched = not self.is_in(self.blind)
        later = []
        while self.ahead and self.ahead[0][0] <= self.now:
            at, what, probe = self.ahead.pop(0)
            if what == "delivered" and not watched:
                later.append((at, what, probe))
            else:
                self.tell(self.event(at, what, probe))
        self.ahead[:0] = later
        self.looked = self.now if watched else self.looked
        for name in list(self.awaited):
            for event in self.judge(self.probes[name], watched):
                self.tell(event)
            probe = self.probes[name]
            if probe.state not in IN_FLIGHT and (not probe.answerable or {*self.route.deadlines} <= {*probe.judged}):
                del self.awaited[name]
        awaited = [self.probes[name] for name in self.awaited]
        flying = [probe.answerable for probe in awaited if probe.state in IN_FLIGHT and probe.answerable]
        oldest = min(flying, key=lambda it: it.wall, default=None)
        self.changes += self.tracker.tick(self.clock(self.now), InFlight(len(flying), oldest), watched)

    def event(self, at: float, what: str, probe: str) -> Event:
        when = self.clock(max(at, self.now if what == "delivered" and self.looked < self.now - 1 else at))
        match what:
            case "send":
                return Sending(probe, when, self.route.name, when, SENDER, RECIPIENT)
            case "accepted":
                return Accepted(probe, when, OK)
            case "refused":
                return Rejected(probe, when, "envelope", NO)
            case "deferred":
                return Deferred(probe, when, "envelope", BUSY)
            case "bounced":
                return Bounced(probe, when, place(int(probe, 16), "gmx"), "5.1.1", "no such user")
            case "delivered":
                seen = at >= self.looked or self.looked >= self.now - 1
                how: Detection = "idle" if seen else "catch-up"
                low = self.clock(at - 0.1 if seen else self.looked)
                return Arrived(probe, when, place(int(probe, 16)), "inbox", how, low)
        return Failed(probe, when, "data", what)

    def judge(self, probe: Probe, watched: bool) -> Iterable[Event]:
        """As recorder.tick does: with a look after the deadline, or half a minute later without."""
        if probe.answerable is None:
            return
        age = elapsed(probe.answerable, self.clock(self.now))
        for deadline in self.route.deadlines:
            if deadline in probe.judged or age < deadline:
                continue
            if probe.arrived or watched or age > deadline + 30:
                verdict = met(probe, deadline) if probe.arrived else False if watched else None
                yield Judged(probe.id, self.clock(self.now), deadline, verdict)
        if probe.state in IN_FLIGHT and watched and age > self.route.lost_after:
            yield Expired(probe.id, self.clock(self.now))

    def tell(self, event: Event) -> None:
        if self.restarts:
            self.tracker = reloaded(self.tracker)
        before = self.probes.get(event.probe)
        probe = self.probes[event.probe] = advance(before, event)
        self.awaited.setdefault(event.probe)
        self.events.append(event)
        self.changes += self.tracker.observe(Outcome(event, before, probe))

    # -- what came of it -------------------------------------------------------------------------------------------

    def states(self) -> list[tuple[float, str]]:
        return [(since(it.at), it.new.value) for it in self.changes if isinstance(it, StateChanged)]

    def closed(self) -> list[Incident]:
        return [it.incident for it in self.changes if isinstance(it, Closed)]

    def opened(self) -> list[Incident]:
        return [it.incident for it in self.changes if isinstance(it, Opened)]

    def incidents(self) -> list[Incident]:
        return [*self.closed(), *self.view().incidents]

    def view(self) -> View:
        return self.tracker.view(self.clock(self.now))


def since(when: Instant) -> float:
    return round(when.wall - T0.wall, 3)


def reloaded(tracker: Tracker) -> Tracker:
    """A new one that goes on from what the old one wrote on paper."""
    other = Tracker(tracker.route)
    other.load(json.loads(json.dumps(tracker.dump())))
    return other


def mails(begin: float, end: float, latency: float = 1.0, every: float = 60.0, fate: str = "delivered") -> list[Mail]:
    return [Mail(begin + n * every, latency, fate) for n in range(int((end - begin) / every))]


def held_until(begin: float, end: float, again: float, apart: float, order: str = "fifo") -> list[Mail]:
    """Mails that are held and come from `again` on, so many seconds apart."""
    held = mails(begin, end)
    turns = list(range(len(held)))
    if order == "lifo":
        turns.reverse()
    if order == "mixed":
        random.Random(1).shuffle(turns)
    return [Mail(mail.at, again + apart * turn - mail.at) for mail, turn in zip(held, turns, strict=True)]


def stall(order: str = "fifo") -> list[Mail]:
    """Half an hour in which all is held, then a mail a second, and then all is well."""
    return [*mails(0, 600), *held_until(600, 2400, 2400, 1.0, order), *mails(2460, 4800)]


# -- scenarios -----------------------------------------------------------------------------------------------------


def the_one(world: World) -> Incident:
    """The incident, when there is one and no more."""
    (incident,) = world.incidents()
    assert incident.end is None or elapsed(incident.begin, incident.end) >= 0
    return incident


@pytest.mark.parametrize("order", ["fifo", "lifo", "mixed"])
def test_a_stall_is_one_incident_from_the_first_mail_that_was_held_to_the_first_that_was_in_time(order: str) -> None:
    world = World(stall(order)).run(4800)
    assert world.states() == [(1, "ok"), (630, "slow"), (900, "stuck"), (2400, "recovering"), (2761, "ok")]
    incident = the_one(world)
    assert (since(incident.begin), since(incident.noticed), incident.worst) == (600, 630, _S.STUCK)
    assert incident.end == instant(2460)
    assert incident.toll == Toll(late=30)
    assert incident.peak == max(mail.latency for mail in stall(order))


def test_a_stall_is_told_when_the_shortest_deadline_has_passed_and_every_mail_after_it() -> None:
    world = World(stall()).run(1000)
    assert Counter(type(it) for it in world.changes) == {StateChanged: 3, Opened: 1, Updated: 7}
    incident = the_one(world)
    assert (incident.end, incident.toll) == (None, Toll(held=7))
    assert world.view().in_flight == 7
    assert world.view().oldest == 400


def test_mail_that_comes_between_the_deadlines_is_slow_and_six_in_time_end_it() -> None:
    world = World([*mails(0, 3600, 40), *mails(3600, 7200)]).run(7200)
    assert world.states() == [(30, "slow"), (3901, "ok")]
    incident = the_one(world)
    assert (incident.worst, incident.peak, incident.toll) == (_S.SLOW, 40, Toll(late=60))
    assert (since(incident.begin), incident.end) == (0, instant(3600))


def test_with_one_deadline_a_late_mail_is_stuck_at_once() -> None:
    world = World([Mail(0, 400), *mails(60, 900)], make_route(deadlines=(30.0,), lost_after=86_400.0)).run(900)
    assert world.states()[:2] == [(30, "stuck"), (61, "recovering")]
    assert the_one(world).worst is _S.STUCK


def test_without_deadlines_only_a_lost_mail_is_an_incident() -> None:
    route = make_route(deadlines=(), lost_after=1000.0)
    world = World([Mail(0, 5000), *mails(60, 3000, 500)], route).run(3000)
    assert (the_one(world).toll, since(the_one(world).begin)) == (Toll(lost=1), 0)
    assert the_one(world).end is not None


def test_one_mail_that_is_held_while_all_others_pass_is_stuck_until_it_comes() -> None:
    world = World([*mails(0, 600), Mail(600, 3000), *mails(660, 7200)]).run(7200)
    assert world.states() == [(1, "ok"), (630, "slow"), (900, "stuck"), (3600, "ok")]
    assert (the_one(world).toll, the_one(world).end) == (Toll(late=1), instant(3600))


def test_what_is_left_behind_when_a_backlog_has_drained_is_stuck_again() -> None:
    world = World([Mail(0, _NEVER), *held_until(60, 1200, 1200, 1.0), *mails(1200, 4800)]).run(4800)
    assert world.states()[-2:] == [(1200, "recovering"), (1802, "stuck")]
    assert the_one(world).toll == Toll(held=1, late=19)


def test_a_drain_that_comes_to_a_halt_is_stuck_again_and_the_same_incident() -> None:
    first, second = held_until(600, 1200, 2400, 1.0), held_until(1200, 4200, 4200, 1.0)
    world = World([*mails(0, 600), *first, *second, *mails(4260, 6000)]).run(6000)
    wanted = [(630, "slow"), (900, "stuck"), (2400, "recovering"), (2710, "stuck"), (4200, "recovering"), (4561, "ok")]
    assert world.states()[1:] == wanted
    assert the_one(world).toll == Toll(late=60)
    assert World([*mails(0, 600), *first, *second]).run(4211).view().drain.mails == 11


def test_a_mail_that_is_lost_ends_the_waiting_and_if_it_is_found_it_is_not_affected_again() -> None:
    route = make_route(lost_after=1000.0)
    world = World([Mail(0, 5000), *mails(60, 7200)], route).run(7200)
    assert world.states()[-1] == (1001, "ok")
    assert (the_one(world).toll, the_one(world).end) == (Toll(lost=1), instant(1001))


def test_a_held_mail_that_is_returned_belongs_to_its_incident() -> None:
    held = [Mail(at, 2000 - at, "bounced") for at in (0, 60, 120)]
    world = World([*held, *mails(180, 3600)]).run(3600)
    assert (the_one(world).kind, the_one(world).toll) == ("late", Toll(bounced=3))
    assert the_one(world).end == instant(2000)


# -- submissions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fate", ["refused", "deferred", "timeout"])
def test_a_route_that_takes_no_mail_fails_from_the_second_refusal_until_three_are_taken(fate: str) -> None:
    world = World([*mails(0, 600), *mails(600, 1200, fate=fate), *mails(1200, 2400)]).run(2400)
    assert world.states() == [(1, "ok"), (660, "failing"), (1320, "ok")]
    incident = the_one(world)
    assert (incident.kind, incident.toll, incident.peak) == ("refused", Toll(refused=10), 600)
    assert (since(incident.begin), since(incident.noticed), incident.end) == (600, 660, instant(1200))


def test_a_single_refusal_now_and_then_is_daily_life() -> None:
    some = [mail._replace(fate="deferred") if mail.at % 120 else mail for mail in mails(0, 3600)]
    assert World(some).run(3600).states() == [(1, "ok")]


def test_what_the_prober_itself_could_not_do_is_no_refusal() -> None:
    assert World(mails(0, 1200, fate="ledger_unwritable")).run(1200).changes == []


def test_mail_that_is_taken_and_returned_at_once_is_failing_until_mail_is_delivered() -> None:
    world = World([*mails(0, 600), *mails(600, 1200, 2.0, fate="bounced"), *mails(1200, 2400)]).run(2400)
    assert world.states() == [(1, "ok"), (662, "failing"), (1321, "ok")]
    incident = the_one(world)
    assert (incident.kind, incident.toll, incident.peak) == ("bounced", Toll(bounced=10), 601)
    assert incident.end == instant(1201)


def test_held_mail_and_refused_mail_are_two_incidents_and_stuck_is_the_worse() -> None:
    world = World([*mails(0, 600, _NEVER), *mails(600, 1200, fate="refused")]).run(1200)
    assert world.states() == [(30, "slow"), (300, "stuck")]
    assert [incident.kind for incident in world.view().incidents] == ["late", "refused"]


# -- what nobody sees ----------------------------------------------------------------------------------------------


def test_blindness_is_the_probers_own_incident_and_no_mail_is_late_for_it() -> None:
    world = World(mails(0, 3600), blind=[Times(610, 1200)]).run(3600)
    assert world.states() == [(1, "ok"), (640, "blind"), (1201, "ok")]
    incident = the_one(world)
    assert (incident.kind, since(incident.begin), since(incident.noticed)) == ("blind", 610, 640)
    assert (incident.end, incident.peak, incident.toll) == (instant(1200), 590, Toll(unknown=4))


def test_a_mailbox_that_reconnects_is_no_blindness_and_one_that_comes_and_goes_is_one() -> None:
    assert World(mails(0, 1200), blind=[Times(t, t + 29) for t in range(0, 1200, 100)]).run(1200).opened() == []
    world = World(mails(0, 1800), blind=[Times(t, t + 50) for t in range(0, 1200, 100)]).run(1800)
    assert [(it.kind, since(it.begin)) for it in world.opened()] == [("blind", 0)]
    assert the_one(world).end == instant(1150)


def test_a_stall_during_blindness_is_told_when_we_look_again_and_from_its_first_mail() -> None:
    world = World([*mails(0, 600), *mails(600, 3000, _NEVER)], blind=[Times(610, 2000)]).run(2200)
    assert world.states() == [(1, "ok"), (640, "blind"), (2000, "stuck")]
    late = next(it for it in world.incidents() if it.kind == "late")
    assert since(late.begin) == 1680  # the first of which a verdict was still due; those before are unknown
    assert since(late.noticed) <= 2001


def test_a_mail_whose_deadlines_nobody_saw_pass_is_stuck_as_soon_as_somebody_looks() -> None:
    world = World([*mails(0, 600), Mail(600, _NEVER)], blind=[Times(610, 2000)]).run(2100)
    assert world.states() == [(1, "ok"), (640, "blind"), (2000, "stuck")]
    assert [it.kind for it in world.incidents()] == ["blind"]


def test_an_incident_begins_earlier_when_a_mail_of_which_nobody_knew_comes() -> None:
    world = World([Mail(0), Mail(600, 2600), Mail(1980, 1300)], blind=[Times(610, 2000)]).run(2100)
    assert [since(it.begin) for it in world.incidents() if it.kind == "late"] == [1980]
    assert [since(it.begin) for it in world.run(3250).incidents() if it.kind == "late"] == [600]


def test_a_mail_that_was_sent_before_the_last_late_one_is_no_sign_that_it_is_over() -> None:
    world = World([Mail(10, 50)]).run(65)
    world.tell(Sending("f", instant(0), "r", instant(0), SENDER, RECIPIENT))
    world.tell(Accepted("f", instant(0), OK))
    world.tell(Arrived("f", instant(70), place(77), "inbox", "catch-up", instant(0), T0.wall + 5))
    assert world.view().last_latency == 6
    assert world.tracker._memory.late.fresh == []


def test_a_reboot_with_another_wall_clock_while_all_settles_only_begins_the_settling_anew() -> None:
    world = World([*mails(0, 600), *held_until(600, 1200, 1200, 1.0), *mails(1200, 2400)]).run(1390)
    world.clock = lambda at: Instant(T0.wall + at - 3600, at, "boot-2")
    assert world.run(2400).states()[-1] == (1741 - 3600, "ok")


def test_nothing_measured_is_unknown_and_so_is_what_was_measured_long_ago() -> None:
    assert World([]).run(600).states() == []
    assert World([]).run(600).view().reason == "unmeasured"
    world = World([Mail(0)]).run(900)
    assert world.states() == [(1, "ok"), (482, "unknown")]  # three periods and the longest deadline
    assert world.view().reason == "silent"


def test_a_time_in_which_the_daemon_was_down_is_unknown_and_not_ok() -> None:
    world = World(mails(0, 3600), down=[Times(610, 1230)]).run(3600)
    assert world.states() == [(1, "ok"), (609, "unknown"), (1261, "ok")]
    assert World(mails(0, 3600), down=[Times(610, 660)]).run(3600).states() == [(1, "ok")]


def test_an_incident_goes_on_over_a_restart_of_the_daemon() -> None:
    world = World(stall(), down=[Times(1210, 1500)]).run(1210)
    world.tracker = reloaded(world.tracker)
    world.run(4800)
    assert world.states()[3:] == [(1209, "unknown"), (1500, "stuck"), (2400, "recovering"), (2761, "ok")]
    assert (since(the_one(world).begin), the_one(world).end) == (600, instant(2460))


def test_submissions_that_failed_before_a_gap_say_nothing_after_it() -> None:
    world = World([*mails(0, 600), *mails(600, 1200, fate="refused")], down=[Times(900, 2000)]).run(2100)
    assert world.states() == [(1, "ok"), (660, "failing"), (899, "unknown")]


def test_a_wall_clock_that_is_set_changes_nothing() -> None:
    plain, stepped = World(stall()), World(stall())
    stepped.clock = lambda at: instant(at)._replace(wall=T0.wall + at + (86_400 if at > 1000 else 0))
    plain.run(4800)
    stepped.run(4800)
    assert the_one(stepped).peak == the_one(plain).peak
    assert the_one(stepped).toll == the_one(plain).toll
    assert [it.boot for it in (the_one(stepped).begin, the_one(stepped).end or T0)] == [5600, 7460]


def test_an_incident_never_ends_before_it_began() -> None:
    """Also when the machine comes up with a clock that was set back by an hour: that counts as having been away."""
    world = World(stall()).run(1200)
    world.clock = lambda at: Instant(T0.wall + at - 3600, at, "boot-2")
    world.run(4800)
    assert world.states()[3][1] == "unknown"
    assert the_one(world).end == the_one(world).begin
    assert world.states()[-1] == (2761 - 3600, "ok")


# -- hysteresis ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", [2, 3, 5, 9, 12])
def test_latencies_that_swing_about_a_deadline_are_one_incident(period: int) -> None:
    swinging = [Mail(60.0 * n, 31.0 if n % period == 0 else 29.0) for n in range(120)]
    world = World(swinging).run(7200)
    assert len(world.opened()) == 1
    assert world.closed() == []
    assert world.states() == [(30, "slow")]


def test_a_route_whose_latencies_are_always_just_in_time_is_ok_again_after_twelve() -> None:
    world = World([Mail(0, 31), *mails(60, 3600, 29)]).run(3600)
    assert world.states() == [(30, "slow"), (60 * 12 + 29, "ok")]


def test_random_latencies_about_a_deadline_seldom_change_the_state() -> None:
    rng = random.Random(7)
    swinging = [Mail(60.0 * n, rng.uniform(24, 36)) for n in range(1440)]
    assert len(World(swinging).run(86_400, 5.0).states()) <= 3


# -- evidence of who held it ---------------------------------------------------------------------------------------


def test_the_segment_that_held_most_for_certain_is_at_fault() -> None:
    tracker, probes = Tracker(ROUTE), dict[str, Probe]()
    told = [Held("relay", 100, 130), Held("sender", 300, 310), Held("relay", 150, 500), None]
    for number, held in enumerate(told):
        name, at = f"{number:016x}", 60.0 * number
        world = World([Mail(at, 400)])
        for when, what, _ in world.ahead:
            event = replace(world.event(when, what, f"{0:016x}"), probe=name)
            before, probes[name] = probes.get(name), advance(probes.get(name), event)
            changes = tracker.observe(Outcome(event, before, probes[name]), held)
    assert tracker.view(instant(0)).incidents[0].fault == Held("sender", 300, 310)
    assert any(isinstance(change, Updated) for change in changes)


# -- a backlog drains ----------------------------------------------------------------------------------------------


def passages(*pairs: tuple[float, float]) -> list[Passage]:
    return [Passage(instant(accepted), instant(seen)) for accepted, seen in pairs]


def test_nothing_is_said_of_a_backlog_of_which_nothing_or_too_little_comes() -> None:
    assert drain([], instant(0)) == Drain(doubt="nothing_comes")
    assert drain(passages((0, 100), (60, 101)), instant(101)) == Drain(2, rate=60.0, doubt="too_few")
    assert drain(passages(*((60 * n, 1000) for n in range(9))), instant(1000)) == Drain(9, 1.0, "fifo", doubt="too_few")


def test_the_wait_in_a_queue_in_order_is_that_of_its_front() -> None:
    """A mail a second, accepted a minute apart: the front of 10 min ago reaches us in 10 s, and has gone on since."""
    came = passages(*((60 * n, 1000 + n) for n in range(10)))
    assert drain(came, instant(1140)) == Drain(10, 1.0, "fifo", 60.0, (0.0, 0.0), "")
    assert drain(came, instant(1009)).wait == pytest.approx(((1009 - 540) / 60,) * 2)
    slowing = passages(*((60 * n, 1000 + n * n) for n in range(10)))
    low, high = drain(slowing, instant(1081)).wait or (0, 0)
    assert (low, high) == (pytest.approx(541 * 81 / 540), pytest.approx(541 * 56 / 240))


def test_mail_that_is_always_as_late_makes_the_next_wait_as_long() -> None:
    assert drain(passages(*((60 * n, 60 * n + 45) for n in range(10))), instant(585)).wait == (45, 45)


def test_no_wait_is_foretold_where_there_is_no_order() -> None:
    backwards = passages(*((-60 * n, 1000 + n) for n in range(10)))
    assert drain(backwards, instant(1010)) == Drain(10, -1.0, "lifo", 60.0, None, "no_order")
    mixed = passages(*((60 * (n * 7 % 10), 1000 + n) for n in range(10)))
    assert (drain(mixed, instant(1010)).order, drain(mixed, instant(1010)).doubt) == ("mixed", "no_order")


def test_a_few_mails_out_of_turn_do_not_undo_an_order() -> None:
    came = passages(*((60 * n, 1000 + n) for n in (1, 0, 2, 3, 4, 5, 7, 6, 8, 9)))
    assert correlation(came) == pytest.approx(1 - 6 * 4 / 990)
    assert drain(came, instant(1010)).order == "fifo"


@pytest.mark.parametrize(("order", "rho"), [("fifo", 1.0), ("lifo", -1.0)])
def test_the_view_tells_how_the_backlog_of_a_stall_drains(order: str, rho: float) -> None:
    seen = World(stall(order)).run(2411).view().drain
    assert (seen.mails, seen.correlation, seen.order, seen.rate) == (11, rho, order, 60.0)
    assert (seen.wait is None) == (order == "lifo")
    assert World(stall(order)).run(2390).view().drain == Drain()


def test_a_backlog_is_remembered_no_longer_than_its_incident() -> None:
    assert World(stall()).run(2420).tracker.dump()["late"]["drained"]
    assert World(stall()).run(4800).tracker.dump()["late"]["drained"] == []


# -- whatever happens ----------------------------------------------------------------------------------------------

FATES = st.sampled_from(["delivered"] * 6 + ["bounced", "refused", "deferred", "timeout", "ledger_unwritable"])
LATENCIES = st.sampled_from([0.5, 5.0, 25.0, 29.0, 31.0, 40.0, 290.0, 310.0, 1200.0, 4000.0, _NEVER])
# Bursts of mails alike, as troubles are.
BURSTS = st.lists(st.tuples(st.integers(1, 8), LATENCIES, FATES), min_size=1, max_size=8)
TIMES = st.lists(
    st.tuples(st.integers(0, 3000), st.integers(1, 900)).map(lambda t: Times(t[0], t[0] + t[1])), max_size=2
)


def life(bursts: list[tuple[int, float, str]], blind: list[Times], down: list[Times]) -> World:
    ones = [(latency, fate) for number, latency, fate in bursts for _ in range(number)]
    plan = [Mail(60.0 * n, latency, fate) for n, (latency, fate) in enumerate(ones)]
    return World([*plan, *mails(60.0 * len(plan), 60.0 * len(plan) + 900)], make_route(lost_after=3000.0), blind, down)


@settings(max_examples=12, deadline=None)
@given(BURSTS, TIMES, TIMES)
def test_restarts_at_any_moment_change_nothing_that_is_told(
    bursts: list[tuple[int, float, str]], blind: list[Times], down: list[Times]
) -> None:
    once, again = life(bursts, blind, down), life(bursts, blind, down)
    again.restarts = 1
    assert again.run(4000, 11.0).changes == once.run(4000, 11.0).changes
    assert again.view() == once.view()


@settings(max_examples=60, deadline=None)
@given(BURSTS, TIMES, TIMES)
def test_what_is_told_is_consistent(
    bursts: list[tuple[int, float, str]], blind: list[Times], down: list[Times]
) -> None:
    world = life(bursts, blind, down).run(6000, 7.0)
    running: dict[str, Incident] = {}
    state = _S.UNKNOWN
    for change in world.changes:
        match change:
            case StateChanged(old=old, new=new):
                assert (old, new != old) == (state, True)
                state = new
            case Opened(incident):
                assert incident.kind not in running
                assert incident.end is None
                assert elapsed(incident.begin, incident.noticed) >= 0
                running[incident.kind] = incident
            case Updated(incident):
                before = running[incident.kind]
                assert elapsed(incident.begin, before.begin) >= 0
                assert (incident.peak, incident.toll.affected) >= (before.peak, before.toll.affected)
                running[incident.kind] = incident
            case Closed(incident):
                del running[incident.kind]
                assert incident.end is not None
                assert elapsed(incident.begin, incident.end) >= 0
                assert incident.toll.held == 0
    assert tuple(sorted(running)) == tuple(sorted(it.kind for it in world.view().incidents))
    assert state == world.view().state


@settings(max_examples=60, deadline=None)
@given(BURSTS, TIMES, TIMES)
def test_a_mail_is_affected_once(bursts: list[tuple[int, float, str]], blind: list[Times], down: list[Times]) -> None:
    world = life(bursts, blind, down).run(6000, 7.0)
    late = set()  # by the events alone: judged absent, come too late, given up as lost
    before: dict[str, Probe] = {}
    for event in world.events:
        probe = before.get(event.probe)
        after = before[event.probe] = advance(probe, event)
        absent = isinstance(event, Judged) and event.met is False and after.state in IN_FLIGHT
        measured = probe is not None and probe.latency is None and after.latency is not None
        if absent or isinstance(event, Expired) or (measured and met(after, 30.0) is False and not after.bounced):
            late.add(event.probe)
    tolls = [incident.toll for incident in world.incidents() if incident.kind == "late"]
    assert sum(toll.affected - toll.unknown for toll in tolls) == len(late)
    refused = [incident.toll.refused for incident in world.incidents() if incident.kind == "refused"]
    assert sum(refused) <= sum(isinstance(event, Rejected | Deferred | Failed) for event in world.events)


# -- the rules -----------------------------------------------------------------------------------------------------

REACHED: dict[str, Callable[[], World]] = {
    "overdue": lambda: World(stall()).run(1000),
    "refused": lambda: World(mails(0, 300, fate="refused")).run(300),
    "bounced": lambda: World(mails(0, 300, fate="bounced")).run(300),
    "unwatched": lambda: World(mails(0, 300), blind=[Times(100, 300)]).run(300),
    "draining": lambda: World(stall()).run(2410),
    "settling": lambda: World(stall()).run(2700),
    "late": lambda: World(mails(0, 300, 40)).run(275),
    "in_time": lambda: World(mails(0, 300)).run(300),
    "away": lambda: World(mails(0, 300), down=[Times(300, 400)]).run(410),
    "silent": lambda: World(mails(0, 300)).run(1200),
    "unmeasured": lambda: World([]).run(10),
}


@cache
def reached(reason: str) -> World:
    """A route that is as it is for this reason."""
    return REACHED[reason]()


@pytest.mark.parametrize(("state", "reason"), [(state, reason) for state, reason, _ in RULES])
def test_every_rule_is_the_first_that_holds_for_some_life(state: RouteState, reason: str) -> None:
    view = reached(reason).view()
    assert (view.state, view.reason) == (state, reason)


def test_every_state_has_a_rule_and_one_always_holds() -> None:
    assert {state for state, _, _ in RULES} == set(RouteState)
    assert REACHED.keys() == {reason for _, reason, _ in RULES}
    assert RULES[-1][2](Facts())


def test_the_document_has_the_rules_and_the_parameters_as_they_are() -> None:
    text = (ROOT / "docs/incidents.md").read_text()
    rows = re.findall(r"^\| (\w+) \| `(\w+)` \|", text, re.M)
    assert rows == [(state.value, reason) for state, reason, _ in RULES]
    said = {name: float(value) for name, value in re.findall(r"^\| `([A-Z_]+)` \| ([\d.]+)", text, re.M)}
    modules = (incidents_module, lateness, refusals, sight)
    assert said == {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, int | float) and not name.startswith("_")
    }


# -- words ---------------------------------------------------------------------------------------------------------

SENTENCES: list[tuple[str, Language, str]] = [
    ("overdue", "en", "stuck: 7 mails in flight, the oldest for 6 min 40 s; last delivery 22:22"),
    ("overdue", "de", "hängt: 7 Mails unterwegs, die älteste seit 6 min 40 s; letzte Zustellung 22:22"),
    (
        "refused",
        "en",
        "failing: the sender's server has refused 5 mails since 22:13; nothing in flight; no delivery yet",
    ),
    ("late", "de", "langsam: 1 Mail unterwegs, seit 35,0 s; letzte Zustellung 22:17, nach 40,0 s"),
    ("in_time", "en", "ok: last delivery 22:17, after 1.0 s"),
    ("silent", "de", "unbekannt: in letzter Zeit wurde nichts gemessen; nichts unterwegs; letzte Zustellung 22:17"),
]


@pytest.mark.parametrize(("reason", "language", "words"), SENTENCES)
def test_a_page_says_how_a_route_is(reason: str, language: Language, words: str) -> None:
    assert sentence(reached(reason).view(), language) == words


def test_both_languages_say_the_same_with_the_same_numbers() -> None:
    keys = {language: table.keys() for language, table in PHRASES.items()}
    assert keys["en"] == keys["de"]
    for key, text in PHRASES["en"].items():
        assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", PHRASES["de"][key])), key


@pytest.mark.parametrize("reason", REACHED)
@pytest.mark.parametrize("language", ["en", "de"])
def test_every_state_can_be_said(reason: str, language: Language) -> None:
    words = sentence(reached(reason).view(), language)
    assert words.startswith(PHRASES[language][reached(reason).view().state.value] + ": ")
    assert not re.search(r"[{}]|None|inf|nan", words)


def test_a_drain_is_said_with_its_order_and_the_wait_that_it_means() -> None:
    words = sentence(World(stall()).run(2411).view(), "en")
    assert words.startswith(
        "recovering: mail comes again, 60.0 a minute; first in, first out; sent now, a mail would wait "
    )


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ("live", ("late mail", "12:30")),
        ("left", ("late mail", "≥ 12:30")),
        ("replayed", ("late mail (reconstructed)", "12:30")),
        ("cut", ("late mail (reconstructed)", "≥ 12:30")),
    ],
)
def test_who_told_an_incident_shows_in_its_words(origin: Origin, words: tuple[str, str]) -> None:
    incident = replace(the_one(World(stall()).run(6000)), origin=origin)
    assert (trouble(incident, "en"), end(incident, "12:30")) == words


# -- on paper ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        {},
        {"state": "splendid"},
        {"in_flight": "1"},
        {"in_flight": True},
        {"ever": 1},
        {"oldest": [1.0, 2.0]},
        {"late": {}},
        {"sight": None},
        {"surplus": 1},
    ],
)
def test_what_is_no_dump_is_refused_in_one_line_and_changes_nothing(damage: dict[str, object]) -> None:
    world = World(stall()).run(1000)
    before = world.view()
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        world.tracker.load({**world.tracker.dump(), **damage} if damage else {})
    assert world.view() == before


def test_a_dump_is_json_and_comes_back_as_it_was() -> None:
    for reason in REACHED:
        world = reached(reason)
        dump = world.tracker.dump()
        assert json.loads(json.dumps(dump)) == dump
        memory = typed(Memory, dump)
        assert memory == world.tracker._memory
        assert isinstance(memory.late.held, set)
