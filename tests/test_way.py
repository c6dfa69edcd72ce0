"""Where a mail was for how long: what is told holds the truth, whatever the clocks say, and names who held it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import reduce

import pytest

from probe.core import way
from probe.core.events import Accepted, Event, Instant, Part, Traced
from probe.core.headers import fields
from probe.core.settings import Account, Server
from probe.core.skew import Interval
from probe.core.state import Probe, advance
from probe.core.way import Tracer, held_most, slowest

from .make import T0 as START
from .make import accepted, arrived, instant, sending, traced, unconfirmed

HOSTS = "mail.a.example", "gate.c.example", "mx.b.example"
SENDER = Account("a", "probe@example.de", "u", None, Server("mail.a.example", 465, "implicit"))
OWN = Account("own", "probe@example.org", "u", None, None, Server("imap.b.example", 993, "implicit"))
ROUTE = {account.name: account for account in (SENDER, OWN)}


def received(host: str, at: float) -> bytes:
    date = format_datetime(datetime.fromtimestamp(int(at), UTC))
    return f"Received: from x.example ([192.0.2.1])\r\n\tby {host} with ESMTP id abc; {date}\r\n".encode()


def probe_of(events: Iterable[Event]) -> Probe:
    probe = reduce(advance, events, None)
    assert probe is not None
    return probe


@dataclass
class World:
    """Hosts with clocks of their own, and a tracer that knows nothing of them but what mails tell."""

    offsets: Sequence[float] = (0.0, 0.0, 0.0)
    stored_offset: float = 0.0
    hosts: Sequence[str] = HOSTS
    tracer: Tracer = field(default_factory=lambda: Tracer(lambda: ROUTE))

    def probe(
        self, start: float, stamps: Sequence[float], stored: float | None, seen: float, took: float = 0.3
    ) -> Probe:
        """A mail that was submitted at `start`, in `took` seconds, of which its stages have 0.3, and stamped by the
        hosts at these true seconds after T0."""
        raw = b""
        for host, at, offset in zip(self.hosts, stamps, self.offsets, strict=True):
            raw = received(host, START.wall + at + offset) + raw
        stage = Accepted(sending().probe, instant(start + took), accepted().reply, "", (("ehlo", 0.1), ("data", 0.2)))
        shown = None if stored is None else float(int(START.wall + stored + self.stored_offset))
        return probe_of([sending(start), stage, replace(arrived(seen), raw=raw, stored=shown)])

    def send(self, start: float, held: Sequence[float]) -> tuple[Traced, list[float]]:
        """Send a mail that each host holds for so long, and the mailbox: what is told, and the truth by segment."""
        stamps = [start + 0.15]  # while it receives, before its 250
        stamps.append(start + 0.3 + held[0])
        stamps.append(stamps[-1] + held[1])
        stored = stamps[-1] + held[2]
        found = self.tracer.trace(self.probe(start, stamps, stored, stored + held[3]))
        assert found is not None
        return found, [0.3, *held]


def parts(found: Traced) -> dict[str, Interval]:
    return {segment: Interval(low, high) for segment, low, high, _ in found.segments}


# -- truth ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_the_truth_lies_in_every_interval_whatever_the_clocks_say(seed: int) -> None:
    rng = random.Random(seed)
    world = World([rng.gauss(0, 20) for _ in HOSTS], rng.gauss(0, 20))
    for number in range(15):
        held = [rng.expovariate(1) for _ in range(4)]
        held[rng.randrange(4)] += rng.choice([0.0, 0.0, 90.0])
        found, truth = world.send(number * 300.0, held)
        told = parts(found)
        assert list(told) == ["submission", "sender", "between", "recipient", "mailbox"]
        for (segment, (low, high)), true in zip(told.items(), truth, strict=True):
            assert low - 1e-5 <= true <= high + 1e-5, (number, segment)
        assert [stay.host for stay in found.stays] == [*HOSTS, "imap.b.example (mailbox)"]
        for stay, true in zip(found.stays, truth[1:], strict=True):
            assert stay.low - 1e-5 <= true <= stay.high + 1e-5, (number, stay)


@pytest.mark.parametrize(("who", "segment"), list(enumerate(["sender", "between", "recipient", "mailbox"])))
def test_after_ten_mails_a_hold_of_20_s_has_a_name_though_a_clock_is_37_s_slow(who: int, segment: str) -> None:
    world = World((0.2, -37.0, 3.4), 1.1)
    for number in range(10):
        world.send(number * 60.0, [0.2, 0.1, 0.2, 0.05])
    found, _ = world.send(600.0, [20.0 if each == who else 0.1 for each in range(4)])
    longest = slowest(found)
    assert longest is not None
    assert longest.segment == segment
    assert longest.high - longest.low < 4.0
    assert held_most(found) == [*HOSTS, "imap.b.example (mailbox)"][who]


# -- what headers lack ---------------------------------------------------------------------------------------------


def test_a_host_that_gives_no_date_leaves_its_boundary_open_and_no_other() -> None:
    world = World()
    world.send(0.0, [0.1] * 4)
    probe = world.probe(60.0, [60.1, 60.4, 80.4], 80.5, 80.6)
    assert probe.arrived is not None
    undated = probe.arrived.raw.replace(b"abc; " + format_datetime(moment(60.4)).encode(), b"abc")
    assert undated != probe.arrived.raw
    found = world.tracer.trace(replace(probe, arrived=replace(probe.arrived, raw=undated)))
    assert found is not None
    told = parts(found)
    for segment, true in (("sender", 0.1), ("between", 20.0)):
        assert told[segment].low <= true <= told[segment].high
        assert told[segment].high - told[segment].low > 19.0
    assert told["recipient"].high < 3.0


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(START.wall + seconds), UTC)


def test_without_any_received_field_the_way_is_one_piece() -> None:
    world = World((), hosts=())
    found = world.tracer.trace(replace_raw(world.probe(0.0, [], None, 5.3), b"Subject: hello\r\n"))
    assert found is not None
    assert found.segments[1:] == (Part("unresolved", pytest.approx(5.0), pytest.approx(5.0), 0.001),)
    assert found.stays == ()


def replace_raw(probe: Probe, raw: bytes) -> Probe:
    assert probe.arrived is not None
    return replace(probe, arrived=replace(probe.arrived, raw=raw))


def test_without_a_header_nothing_is_told() -> None:
    world = World()
    assert world.tracer.trace(replace_raw(world.probe(0.0, [0.1, 0.4, 0.5], 0.6, 0.7), b"")) is None


def test_of_a_mail_whose_acceptance_nobody_confirmed_the_same_is_told() -> None:
    world = World()
    for number in range(10):
        world.send(number * 60.0, [0.1] * 4)
    known = world.probe(600.0, [600.1, 600.4, 620.4], 620.5, 620.6)
    assert known.arrived is not None
    found = world.tracer.trace(probe_of([sending(600.0), unconfirmed(610.0, since=600.3), known.arrived]))
    assert found is not None
    assert parts(found)["between"].low > 15.0


def test_a_disk_that_is_waited_for_between_envelope_and_content_sets_no_hosts_clock() -> None:
    world = World()
    for number in range(3):
        start = number * 300.0
        stamps = [start + 0.15, start + 20.4, start + 20.5]  # the first while it takes the envelope
        world.tracer.trace(world.probe(start, stamps, start + 20.6, start + 20.7, took=20.3))
        assert world.tracer.clocks.steps == ()
    for low, high in world.tracer.clocks.offsets(START.wall + 700.0).values():
        assert low <= 0.0 <= high


# -- our own clock -------------------------------------------------------------------------------------------------


def test_when_our_own_clock_was_set_meanwhile_nothing_is_told_and_what_was_known_is_forgotten() -> None:
    world = World((0.0, -37.0, 0.0))
    for number in range(5):
        world.send(number * 60.0, [0.1] * 4)
    probe = world.probe(300.0, [300.1, 300.4, 300.5], 300.6, 300.7)
    assert probe.arrived is not None
    at = probe.arrived.at
    set_back = replace(probe.arrived, at=Instant(at.wall - 100.0, at.boot, at.boot_id))
    found = world.tracer.trace(replace(probe, arrived=set_back))
    assert found is not None
    assert [part.segment for part in found.segments] == ["submission"]
    assert world.tracer.clocks.offsets(START.wall) == {}
    # and it begins anew
    assert "between" in parts(world.send(360.0, [0.1] * 4)[0])


def test_when_our_own_clock_was_set_between_two_mails_no_host_s_is_said_to_have_been() -> None:
    world = World((0.0,), hosts=HOSTS[:1])
    for number in range(5):
        world.tracer.trace(world.probe(number * 60.0, [number * 60.0 + 0.1], None, number * 60.0 + 0.7))
    probe = world.probe(300.0, [300.1], None, 300.7)

    def forward(at: Instant | None) -> Instant:
        assert at is not None
        return Instant(at.wall + 3600.0, at.boot, at.boot_id)

    assert probe.arrived is not None
    came = replace(probe.arrived, at=forward(probe.arrived.at))
    found = world.tracer.trace(
        replace(probe, started=forward(probe.started), answerable=forward(probe.answerable), arrived=came)
    )
    assert found is not None
    assert len(found.segments) > 1
    assert world.tracer.clocks.steps == ()


# -- over a restart ------------------------------------------------------------------------------------------------


def test_what_an_earlier_run_knew_of_the_clocks_is_learnt_again_from_the_headers_it_left() -> None:
    world = World((0.0, -37.0, 3.0))
    left = []
    for number in range(10):
        start = number * 60.0
        probe = world.probe(start, [start + 0.1, start + 0.4, start + 0.5], start + 0.6, start + 0.7)
        world.tracer.trace(probe)
        assert probe.arrived is not None
        left.append((replace_raw(probe, b""), probe.arrived.raw))
    again = Tracer(lambda: ROUTE)
    again.learn(left)
    assert again.clocks.offsets(START.wall + 700.0) == world.tracer.clocks.offsets(START.wall + 700.0) != {}


def test_a_header_that_breaks_the_tracing_does_not_break_the_next_start(monkeypatch: pytest.MonkeyPatch) -> None:
    world, again, left = World(), Tracer(lambda: ROUTE), []
    for number in range(3):
        start = number * 60.0
        probe = world.probe(start, [start + 0.1, start + 0.4, start + 0.5], start + 0.6, start + 0.7)
        assert probe.arrived is not None
        left.append((probe, probe.arrived.raw if number != 1 else b"broken"))

    def read(raw: bytes) -> list[tuple[str, str]]:
        if raw == b"broken":
            raise RuntimeError("what a header")
        return fields(raw)

    monkeypatch.setattr(way, "fields", read)
    again.learn(left)
    assert again.clocks.offsets(START.wall + 200.0) != {}


# -- who held it ---------------------------------------------------------------------------------------------------


def test_nobody_is_named_where_another_may_have_held_it_for_longer() -> None:
    found = replace(
        traced(), segments=(Part("submission", 9.0, 9.0), Part("sender", 2.0, 5.0), Part("recipient", 0.0, 2.0))
    )
    assert slowest(found) is None
    clear = replace(found, segments=(*found.segments[:2], Part("recipient", 0.0, 1.9)))
    assert slowest(clear) == Part("sender", 2.0, 5.0)
    assert slowest(replace(found, segments=())) is None


def test_one_provider_on_both_sides_has_the_mail_all_the_time() -> None:
    both = Account("a", "probe@example.de", "u", None, Server("mail.a.example", 465, "implicit"), OWN.imap)
    own = replace(OWN, domains=("a.example",))
    world = World((0.0, 0.0), hosts=("mail.a.example", "store.a.example"))
    world.tracer = Tracer(lambda: {"a": both, "own": own})
    found = world.tracer.trace(world.probe(0.0, [0.1, 20.4], 20.5, 20.6))
    assert found is not None
    assert [part.segment for part in found.segments] == ["submission", "provider", "mailbox"]


# -- what the receiver said ----------------------------------------------------------------------------------------


def test_the_receivers_verdicts_are_taken_once_three_mails_have_shown_where_it_writes_them() -> None:
    world = World()
    told = []
    for number in range(5):
        start = number * 60.0
        probe = world.probe(start, [start + 0.1, start + 0.4, start + 0.5], start + 0.6, start + 0.7)
        assert probe.arrived is not None
        verdict = (
            b"Authentication-Results: mx.b.example; spf=pass smtp.mailfrom=a.example; dkim=fail\r\nX-Spam-Flag: NO\r\n"
        )
        forged = b"Authentication-Results: mx.b.example; spf=fail smtp.mailfrom=a.example\r\n"
        told.append(world.tracer.trace(replace_raw(probe, verdict + probe.arrived.raw + forged)))
    assert [found.authentication for found in told if found] == [()] * 3 + [(("spf", "pass"), ("dkim", "fail"))] * 2
    assert told[-1] is not None
    assert told[-1].spam == ("x-spam-flag: not spam",)
