"""The chain of relays is what it says: its names, its clocks, what it keeps, and what it tells of a mail's way."""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from probe.core.events import elapsed
from probe.core.headers import parse_head
from probe.core.skew import Interval
from probe.core.way import held_most, slowest

from .bed.mailbed import address
from .bed.postfix import arrival_time
from .bed.relays import HOSTS, STORE, Relays
from .bed.service import children, port_open, wait_until
from .process import Daemon, account, route
from .test_bed import alive, send
from .test_cli import mailprobe
from .travelling import Arrivals, Trip, probes, sender_address

pytestmark = pytest.mark.timeout(60)

HELD = 2.0  # seconds: nobody keeps a mail for so long by himself
FreshUser = Callable[[], str]


class Field(NamedTuple):
    """What a Received field says; `at`: Unix time by its host's clock, cut to the second."""

    source: str
    by: str
    queue_id: str
    at: float


def received(raw: bytes) -> list[Field]:
    """All of them, in the order in which the hosts wrote them."""
    fields = [re.sub(r"\s+", " ", value) for value in reversed(parse_head(raw)["received"])]
    found = [re.fullmatch(r"from (\S+) .*\bby (\S+) .*?\bid (\S+) .*; (.*)", field) for field in fields]
    return [Field(it[1], it[2], it[3], parsedate_to_datetime(it[4]).timestamp()) for it in found if it]


def test_each_host_adds_one_field_with_its_name_its_queue_id_and_its_clock(
    relays: Relays, fresh_user: FreshUser
) -> None:
    user = fresh_user()
    way = relays.truth(send(relays, user))
    (mail,) = relays.mails(user)
    fields = received(mail)
    assert mail.count(b"\nReceived:") == len(fields)
    assert [field.source for field in fields] == ["[127.0.0.1]", *HOSTS]
    assert [field.by for field in fields] == [stay.host for stay in way.stays] + [STORE] == [*HOSTS, STORE]
    assert [field.queue_id for field in fields[:3]] == [stay.queue_id for stay in way.stays]
    assert [len(stay.queue_id) > 12 for stay in way.stays] == [False, False, True]
    true = [*(stay.received for stay in way.stays), way.end]
    # A stamp is at most a second old when it is written, and its mail comes a moment later.
    behind = [at - field.at for at, field in zip(true, fields, strict=True)]
    assert [low <= seconds < low + 10 for low, seconds in zip((0, 37, 0, 0), behind, strict=True)] == [True] * 4


def test_the_truth_is_in_order_whatever_a_relay_believes(relays: Relays, fresh_user: FreshUser) -> None:
    before = time.time()
    message_id = send(relays, fresh_user())
    way = relays.truth(message_id)
    instants = [before, *(stay.received for stay in way.stays), way.end, time.time()]
    assert instants == sorted(instants)
    assert all(following.received < stay.sent for stay, following in pairwise(way.stays))
    last = way.stays[-1]
    assert arrival_time(last.queue_id) <= last.received < way.end, "two witnesses: the queue id, and the kernel"
    assert way.start == way.stays[0].received


def test_the_clock_of_a_relay_can_be_set_while_it_works(relays: Relays, fresh_user: FreshUser) -> None:
    users, relay = (fresh_user(), fresh_user()), relays.hops[1]
    usual = relay.clock or 0.0
    try:
        for user, ahead in zip(users, (600.0, -600.0), strict=True):
            relay.set_clock(ahead)
            relays.truth(send(relays, user))
    finally:
        relay.set_clock(usual)
    stamped = [received(mail) for user in users for mail in relays.mails(user)]
    assert [round(middle.at - first.at, -2) for first, middle, *_ in stamped] == [600, -600]


@pytest.mark.parametrize("keeper", range(3), ids=HOSTS)
def test_a_held_mail_stays_at_its_relay_and_then_travels_like_any_other(
    relays: Relays, fresh_user: FreshUser, keeper: int
) -> None:
    user, relay = fresh_user(), relays.hops[keeper]
    relay.hold(HELD, address(user))
    way = relays.truth(send(relays, user))
    assert [stay.seconds >= HELD for stay in way.stays] == [hop is relay for hop in relays.hops]
    wait_until(lambda: not relay.queue())
    assert [field.by for field in received(relays.mails(user)[0])] == [*HOSTS, STORE]


async def test_probes_travel_at_once_and_each_is_held_where_its_sender_is_held(
    relays: Relays, fresh_user: FreshUser
) -> None:
    senders = [fresh_user() for _ in range(4)]
    for sender, hop in zip(senders, relays.hops, strict=False):
        hop.hold(HELD, sender_address(sender))
    trips = await probes(relays, senders)
    assert [trip.probe.sender for trip in trips] == [sender_address(sender) for sender in senders]
    latencies = [elapsed(trip.accepted, trip.seen) for trip in trips]
    assert min(latencies) == latencies[3], "nobody holds the last sender's"
    assert latencies == [trip.probe.latency for trip in trips]
    for number, trip in enumerate(trips):
        assert [stay.seconds >= HELD for stay in trip.way.stays] == [number == hop for hop in range(3)]
        assert trip.way.start < trip.accepted.wall
        assert [field.queue_id for field in received(trip.raw)[:3]] == [stay.queue_id for stay in trip.way.stays]


def test_mailprobe_once_goes_through_the_chain(relays: Relays, fresh_user: FreshUser, tmp_path: Path) -> None:
    a, b = fresh_user(), fresh_user()
    daemon = Daemon(tmp_path, account(relays, a) + account(relays, b) + route("one", a, b))
    done = mailprobe("once", "-c", daemon.config, "one")
    assert done.returncode == 0, done.stdout + done.stderr
    (message_id,) = (event.message_id for event in relays.dovecot.events("save") if event.user == b)
    way = relays.truth(message_id)
    assert f"queue id {way.stays[0].queue_id}" in done.stdout
    assert address(b) in done.stdout


def test_the_chain_leaves_nothing_behind_even_when_it_holds_mail() -> None:
    threads = set(threading.enumerate())
    with tempfile.TemporaryDirectory(prefix="mailbed-", dir="/tmp") as root:
        Path(root).chmod(0o755)
        with Relays(Path(root), {HOSTS[0]: 90.25, HOSTS[1]: -1.5}) as chain:
            chain.hops[1].hold(3600)
            send(chain, "somebody")
            wait_until(lambda: chain.hops[1].queue("hold"))
            masters = [hop.pid for hop in chain.hops]
            servers = [pid for master in (*masters, chain.dovecot.pid) for pid in (master, *children(master))]
            ports = [port for hop in chain.hops for port in hop.ports.values()]
            assert any(Path("/dev/shm").glob(f"*faketime*_{masters[1]}"))
    assert len(servers) > 12
    wait_until(lambda: not any(map(alive, servers)))
    assert not any(map(port_open, ports))
    assert not [left for pid in masters for left in Path("/dev/shm").glob(f"*faketime*_{pid}")]
    wait_until(lambda: threads.issuperset(threading.enumerate()))


# -- who held it ---------------------------------------------------------------------------------------------------

LONG = 20.0  # seconds
_APART = 0.3  # seconds between MAIL FROM, when a host stamps, and RCPT TO, of which its log tells: 50 mails at once


def truth(trip: Trip) -> dict[str, float]:
    """Seconds in each segment, by the relays' logs."""
    _, middle, last = trip.way.stays
    return {
        "sender": middle.received - trip.accepted.wall,
        "between": last.received - middle.received,
        "recipient": trip.way.end - last.received,
        "mailbox": trip.seen.wall - trip.way.end,
    }


@pytest.mark.timeout(120)
async def test_in_50_probes_of_50_the_one_who_held_it_is_named_and_the_interval_holds_the_truth(
    relays: Relays, fresh_user: FreshUser
) -> None:
    known, held = [fresh_user() for _ in range(10)], [fresh_user() for _ in range(50)]
    keepers = {user: number % 3 for number, user in enumerate(held)}
    for user, keeper in keepers.items():
        relays.hops[keeper].hold(LONG, sender_address(user))
    trips = await probes(relays, *([user] for user in known), held, timeout=60.0)
    wrong = []
    for user, trip in zip(held, trips[len(known) :], strict=True):
        assert trip.probe.traced is not None
        told = {segment: Interval(low, high) for segment, low, high, _ in trip.probe.traced.segments}
        true = truth(trip)
        outside = [s for s, t in true.items() if not told[s].low - _APART <= t <= told[s].high + _APART]
        longest = slowest(trip.probe.traced)
        right = longest is not None and longest.segment == ["sender", "between", "recipient"][keepers[user]]
        if outside or not right or held_most(trip.probe.traced) != HOSTS[keepers[user]]:
            wrong.append((user, told, true))
        assert max(true.values()) > LONG - 1
    assert wrong == []


async def test_a_relays_clock_that_is_set_is_noticed_with_its_size_and_spoils_nothing(
    relays: Relays, fresh_user: FreshUser
) -> None:
    users, arrivals = [fresh_user() for _ in range(12)], Arrivals()
    try:
        trips = await probes(
            relays, *([user] for user in users[:10]), users[10:], arrivals=arrivals,
            before_last=lambda: relays.hops[1].set_clock(25.0),
        )  # fmt: skip
    finally:
        relays.hops[1].set_clock(-37.0)
    ((host, (low, high)),) = arrivals.steps
    assert host == HOSTS[1]
    assert low <= 62.0 <= high
    for trip in trips[10:]:
        assert trip.probe.traced is not None
        told = {segment: Interval(low, high) for segment, low, high, _ in trip.probe.traced.segments}
        for segment, true in truth(trip).items():
            assert told[segment].low - _APART <= true <= told[segment].high + _APART
