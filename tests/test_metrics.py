"""The metrics as a scraper reads them, through the parsers of prometheus_client, in both formats."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import math
from collections.abc import Iterator

import pytest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import Collector

from probe.core.events import Arrived, Bounced, Event, Notified
from probe.core.match import judge
from probe.core.outcome import InFlight, Outcome, Standing
from probe.core.state import Probe, State, advance
from probe.metrics import Metrics
from probe.metrics import exposition as metrics_module

from .make import (
    BUSY,
    PROBE,
    RECIPIENT,
    SENDER,
    FakeClock,
    accepted,
    arrived,
    bounced,
    deferred,
    expired,
    failed,
    instant,
    judged,
    make_account,
    make_accounts,
    make_probe,
    make_route,
    notified,
    rejected,
    sending,
    traced,
    unconfirmed,
    vanished,
)

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


class World:
    """Metrics of one route, with their clock and what is in flight."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.flying: dict[str, InFlight] = {}
        self.counts: dict[tuple[str, State], int] = {}
        self.sent: dict[str, int] = {}
        self.metrics = Metrics("1.2.3", lambda: Standing(self.flying, self.counts, self.sent), self.clock)
        self.metrics.configure(make_accounts(), {"r": make_route()})

    def tell(self, *events: Event) -> None:
        probe: Probe | None = None
        for event in events:
            verdict = judge(probe, event) if isinstance(event, Arrived | Bounced | Notified) else None
            before, probe = probe, advance(probe, event)
            self.metrics.observe(Outcome(event, before, probe, verdict))

    async def page(self, accept: str = "") -> str:
        body, _ = await self.metrics.render(accept, False)
        return body.decode()

    async def samples(self, accept: str = "") -> Samples:
        parse = parse_openmetrics if "openmetrics" in accept else parse_text
        found: Samples = {}
        for family in parse(await self.page(accept)):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
        return found

    async def value(self, name: str, **labels: str) -> float:
        return (await self.samples())[name][tuple(sorted(labels.items()))]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(metrics_module, "_FRESH", -1.0)  # every scrape is rendered
    return World()


# -- a mail's way --------------------------------------------------------------------------------------------------


async def test_where_a_mail_was_is_counted_by_the_middle_of_what_is_open(world: World) -> None:
    world.tell(sending(), accepted(), arrived(2.0), traced())
    delays = (await world.samples())["mailprobe_hop_delay_seconds_sum"]
    sums = {key[1][1]: value for key, value in delays.items()}
    assert sums == {"submission": 0.5, "sender": 0.6, "between": 0.0, "recipient": 0.7, "mailbox": 0.0}
    assert await world.value("mailprobe_hop_delay_seconds_count", route="r", segment="sender") == 1
    assert await world.value("mailprobe_hop_delay_seconds_count", route="r", segment="mailbox") == 0
    assert await world.value("mailprobe_authentication_results_total", route="r", method="spf", result="pass") == 1
    assert await world.value("mailprobe_authentication_results_total", route="r", method="dkim", result="pass") == 0


async def test_clocks_are_shown_while_they_are_known(world: World) -> None:
    world.metrics.clocks({"a.example": (-38.0, -36.5), "b.example": (0.0, 1.0)})
    assert await world.value("mailprobe_clock_offset_seconds", host="a.example", bound="low") == -38.0
    world.metrics.clocks({"a.example": (-37.5, -37.0)})
    assert (await world.samples())["mailprobe_clock_offset_seconds"] == {
        (("bound", "low"), ("host", "a.example")): -37.5,
        (("bound", "high"), ("host", "a.example")): -37.0,
    }


# -- from birth to removal -----------------------------------------------------------------------------------------


async def test_every_label_set_of_a_route_is_at_zero_from_birth(world: World) -> None:
    samples = await world.samples()
    for outcome in ("accepted", "deferred", "rejected", "failed", "unconfirmed"):
        assert samples["mailprobe_submissions_total"][("outcome", outcome), ("route", "r")] == 0
    for stage in ("resolve", "connect", "tls", "ehlo", "auth", "envelope", "data"):
        assert samples["mailprobe_submission_stage_seconds_count"][("route", "r"), ("stage", stage)] == 0
    assert set(samples["mailprobe_submission_errors_total"].values()) == {0}
    assert samples["mailprobe_probes_skipped_total"][("reason", "rate_limited"), ("route", "r")] == 0
    assert samples["mailprobe_removals_refused_total"][("account", "own"), ("reason", "over_quota")] == 0
    for placement in ("inbox", "junk", "other"):
        assert samples["mailprobe_arrivals_total"][("placement", placement), ("route", "r")] == 0
    for deadline in ("30", "300"):
        for met in ("true", "false", "unknown"):
            key = ("deadline", deadline), ("met", met), ("route", "r")
            assert samples["mailprobe_deadline_probes_total"][key] == 0
    for name in ("lost_probes", "found_probes", "duplicate_arrivals", "reordered_arrivals"):
        assert samples[f"mailprobe_{name}_total"] == {(("route", "r"),): 0}
    for name in ("in_flight_probes", "oldest_in_flight_seconds", "last_accepted_timestamp_seconds"):
        assert samples[f"mailprobe_{name}"] == {(("route", "r"),): 0}
    assert samples["mailprobe_delivery_latency_seconds_count"] == {(("route", "r"),): 0}
    assert len(samples["mailprobe_delivery_latency_seconds_bucket"]) == 15
    assert math.isnan(samples["mailprobe_last_delivery_latency_seconds"][(("route", "r"),)])
    assert samples["mailprobe_mailbox_up"] == {(("account", "own"),): 0}
    assert samples["mailprobe_unrecognised_messages_total"][("account", "own"), ("reason", "forged")] == 0
    names = {
        "route": "r",
        "sender": SENDER,
        "recipient": RECIPIENT,
        "sender_account": "gmx",
        "recipient_account": "own",
    }
    info = tuple(sorted(names.items()))
    assert samples["mailprobe_route_info"] == {info: 1}
    assert samples["mailprobe_build_info"] == {(("version", "1.2.3"),): 1}


async def test_what_is_no_longer_configured_has_no_series(world: World) -> None:
    world.tell(sending(), accepted(), arrived())
    world.metrics.mailbox_up("own")
    world.metrics.certificate("own", "imap", 2e9)
    world.metrics.mailbox_down("own", "timeout", "x", 1.0)
    world.metrics.skipped("r", "rate")
    world.metrics.removal_refused("own", "over_quota")
    world.metrics.configure({}, {})
    page = await world.page()
    assert 'route="r"' not in page
    assert 'account="' not in page


async def test_a_route_that_stays_keeps_its_counts(world: World) -> None:
    world.tell(sending(), accepted(), arrived())
    world.metrics.configure(make_accounts(), {"r": make_route(every=5.0), "new": make_route("new")})
    assert await world.value("mailprobe_delivery_latency_seconds_count", route="r") == 1
    assert await world.value("mailprobe_delivery_latency_seconds_count", route="new") == 0


async def test_a_deadline_that_is_no_longer_configured_has_no_series(world: World) -> None:
    world.metrics.configure(make_accounts(), {"r": make_route(deadlines=(60.0,))})
    labels = (await world.samples())["mailprobe_deadline_probes_total"]
    assert {dict(key)["deadline"] for key in labels} == {"60"}


async def test_the_configuration_can_be_read_and_follows_a_reload(world: World) -> None:
    route = (("route", "r"),)
    samples = await world.samples()
    assert samples["mailprobe_route_interval_seconds"] == {route: 60}
    assert samples["mailprobe_route_lost_after_seconds"] == {route: 1000}
    assert samples["mailprobe_route_deadline_seconds"] == {(("deadline", "30"), *route): 30, (("deadline", "300"), *route): 300}  # fmt: skip # noqa: E501
    changed = make_route(every=5.0, deadlines=(0.5, 30.0), lost_after=86400.0)
    world.metrics.configure(make_accounts(), {"r": changed})
    samples = await world.samples()
    assert samples["mailprobe_route_interval_seconds"] == {route: 5}
    assert samples["mailprobe_route_lost_after_seconds"] == {route: 86400}
    assert samples["mailprobe_route_deadline_seconds"] == {(("deadline", "0.5"), *route): 0.5, (("deadline", "30"), *route): 30}  # fmt: skip # noqa: E501
    counted = {dict(key)["deadline"] for key in samples["mailprobe_deadline_probes_total"]}
    assert counted == {dict(key)["deadline"] for key in samples["mailprobe_route_deadline_seconds"]}


async def test_an_address_that_changed_replaces_the_old_one(world: World) -> None:
    accounts = make_accounts() | {"gmx": make_account("gmx", "new@example.de", imap=False)}
    world.metrics.configure(accounts, {"r": make_route()})
    assert [dict(key)["sender"] for key in (await world.samples())["mailprobe_route_info"]] == ["new@example.de"]


async def test_an_account_that_gets_a_mailbox_has_its_series_from_then_on(world: World) -> None:
    accounts = make_accounts() | {"gmx": make_account("gmx", SENDER)}
    world.metrics.configure(accounts, {"r": make_route(), "back": make_route("back", "own", "gmx")})
    assert await world.value("mailprobe_mailbox_up", account="gmx") == 0
    assert await world.value("mailprobe_unrecognised_messages_total", account="gmx", reason="forged") == 0


async def test_an_account_that_loses_its_mailbox_is_not_up_for_ever(world: World) -> None:
    accounts = make_accounts() | {"gmx": make_account("gmx", SENDER)}
    routes = {"r": make_route(), "back": make_route("back", "own", "gmx")}
    world.metrics.configure(accounts, routes)
    world.metrics.mailbox_up("gmx")
    world.metrics.configure(make_accounts(), {"r": make_route()})
    assert (("account", "gmx"),) not in (await world.samples())["mailprobe_mailbox_up"]


async def test_a_mailbox_to_which_no_route_leads_is_not_reported_as_down(world: World) -> None:
    # The prober does not watch it; mailprobe_mailbox_up == 0 would be a false alarm for ever.
    world.metrics.configure(make_accounts() | {"idle": make_account("idle", "idle@example.org")}, {"r": make_route()})
    assert (("account", "idle"),) not in (await world.samples())["mailprobe_mailbox_up"]


async def test_late_news_of_what_is_gone_makes_no_series(world: World) -> None:
    world.metrics.configure({}, {})
    world.tell(sending(), accepted(), arrived(), arrived(2.0, uid=2))
    world.tell(sending(), accepted(), judged())
    world.metrics.skipped("r", "bug")
    assert 'route="r"' not in await world.page()
    world.metrics.certificate("gmx", "smtp", 2e9)
    world.metrics.contact("own", instant(0))
    world.metrics.mailbox_down("own", "timeout", "", 2.0)
    world.metrics.unrecognised("own", "forged")
    foreign = arrived(probe="f" * 16)
    world.metrics.observe(Outcome(foreign, None, None, judge(None, foreign)))
    assert 'account="' not in await world.page()


# -- in flight, now ------------------------------------------------------------------------------------------------


async def test_the_oldest_in_flight_ages_between_scrapes_although_nothing_happens(world: World) -> None:
    world.flying["r"] = InFlight(3, instant(0.5))
    world.clock.now = instant(60.5)
    assert await world.value("mailprobe_oldest_in_flight_seconds", route="r") == 60.0
    assert await world.value("mailprobe_in_flight_probes", route="r") == 3
    world.clock.advance(3600.0)
    world.clock.step(-86400.0)
    assert await world.value("mailprobe_oldest_in_flight_seconds", route="r") == 3660.0
    world.flying.clear()
    assert await world.value("mailprobe_oldest_in_flight_seconds", route="r") == 0.0


async def test_the_age_is_never_negative_and_unconfigured_routes_have_none(world: World) -> None:
    world.flying = {"r": InFlight(1, instant(5.0)), "gone": InFlight(9, instant(0.0))}
    assert (await world.samples())["mailprobe_oldest_in_flight_seconds"] == {(("route", "r"),): 0.0}


# -- counting ------------------------------------------------------------------------------------------------------


async def test_each_submission_is_counted_by_what_came_of_it_with_its_stages(world: World) -> None:
    for event in (accepted(), deferred(), rejected(), failed(), unconfirmed()):
        world.tell(sending(), event)
    samples = await world.samples()
    assert set(samples["mailprobe_submissions_total"].values()) == {1}
    assert samples["mailprobe_submission_stage_seconds_count"][("route", "r"), ("stage", "connect")] == 3
    assert samples["mailprobe_submission_stage_seconds_sum"][("route", "r"), ("stage", "data")] == pytest.approx(0.4)
    assert samples["mailprobe_last_accepted_timestamp_seconds"] == {(("route", "r"),): instant(0.5).wall}


async def test_an_arrival_is_measured_once_with_its_copies_beside_it(world: World) -> None:
    world.tell(sending(), accepted(0.5), arrived(4.5, placement="junk", not_before=4.25), arrived(9.0, uid=2))
    samples = await world.samples()
    route = (("route", "r"),)
    assert samples["mailprobe_delivery_latency_seconds_sum"] == {route: 4.0}
    assert samples["mailprobe_delivery_latency_seconds_count"] == {route: 1}
    assert samples["mailprobe_last_delivery_latency_seconds"] == {route: 4.0}
    assert samples["mailprobe_detection_uncertainty_seconds"] == {route: 0.25}
    assert samples["mailprobe_last_arrival_timestamp_seconds"] == {route: instant(4.5).wall}
    assert samples["mailprobe_arrivals_total"][("placement", "junk"), ("route", "r")] == 1
    assert samples["mailprobe_arrivals_total"][("placement", "inbox"), ("route", "r")] == 0
    assert samples["mailprobe_duplicate_arrivals_total"] == {route: 1}
    buckets = {dict(key)["le"]: value for key, value in samples["mailprobe_delivery_latency_seconds_bucket"].items()}
    assert (buckets["2.5"], buckets["5.0"], buckets["+Inf"]) == (0, 1, 1)


async def test_an_early_arrival_is_one_arrival_with_a_latency_of_zero(world: World) -> None:
    world.tell(sending(), arrived(0.25), accepted(0.5))
    assert await world.value("mailprobe_arrivals_total", route="r", placement="inbox") == 1
    assert await world.value("mailprobe_delivery_latency_seconds_sum", route="r") == 0
    assert await world.value("mailprobe_delivery_latency_seconds_count", route="r") == 1


async def test_a_mail_after_three_days_is_lost_and_found_and_measured_at_three_days(world: World) -> None:
    world.tell(sending(), accepted(0.5), expired(), arrived(259_200.5))
    assert await world.value("mailprobe_lost_probes_total", route="r") == 1
    assert await world.value("mailprobe_found_probes_total", route="r") == 1
    assert await world.value("mailprobe_last_delivery_latency_seconds", route="r") == 259_200.0


async def test_a_mail_that_arrives_after_a_later_one_is_reordered(world: World) -> None:
    for number, (sent, came) in enumerate([(0.0, 10.0), (5.0, 11.0), (2.0, 12.0), (6.0, 13.0)]):
        probe = f"{number:016x}"
        world.tell(sending(sent, probe), accepted(sent + 0.5, probe), arrived(came, probe))
    assert await world.value("mailprobe_reordered_arrivals_total", route="r") == 1


async def test_a_copy_that_was_seen_before_counts_nothing(world: World) -> None:
    world.tell(sending(), accepted(), arrived())
    before = await world.page()
    probe = make_probe(sending(), accepted(), arrived())
    world.metrics.observe(Outcome(arrived(9.0), probe, probe, judge(probe, arrived(9.0))))
    assert await world.page() == before


async def test_a_foreign_probe_counts_on_its_account_only(world: World) -> None:
    event = arrived(probe="f" * 16)
    world.metrics.observe(Outcome(event, None, None, judge(None, event)))
    assert await world.value("mailprobe_unrecognised_messages_total", account="own", reason="foreign") == 1
    assert (await world.samples())["mailprobe_arrivals_total"][("placement", "inbox"), ("route", "r")] == 0


async def test_deadlines_are_counted_by_what_was_known(world: World) -> None:
    for met in (True, False, None, None):
        world.tell(sending(), accepted(), judged(met=met))
    values = [await world.value("mailprobe_deadline_probes_total", route="r", deadline="30", met=met) for met in ("true", "false", "unknown")]  # fmt: skip # noqa: E501
    assert values == [1, 1, 2]


async def test_what_came_back_counts_by_class_and_subject_of_its_status(world: World) -> None:
    world.tell(sending(), accepted(), notified(), bounced(status="5.1.1"), bounced(9.0, uid=91))
    for odd in ("", "5.77.1", "nonsense"):
        world.tell(sending(), accepted(), bounced(status=odd))
    world.tell(sending(), accepted(), arrived(), bounced(status="5.7.1"))  # both: it came, and counts as come
    counts = (await world.samples())["mailprobe_bounces_total"]
    assert {dict(key)["status"]: value for key, value in counts.items() if value} == {"5.1": 1, "unknown": 3}
    assert await world.value("mailprobe_delay_notices_total", route="r") == 1


async def test_a_doubtful_latency_is_counted_but_not_measured(world: World) -> None:
    world.tell(sending(), accepted(0.5), arrived(600.5, detection="catch-up"))
    assert await world.value("mailprobe_uncertain_arrivals_total", route="r") == 1
    assert await world.value("mailprobe_delivery_latency_seconds_count", route="r") == 0
    assert math.isnan(await world.value("mailprobe_last_delivery_latency_seconds", route="r"))
    assert await world.value("mailprobe_detection_uncertainty_seconds", route="r") == 600.0
    assert await world.value("mailprobe_arrivals_total", route="r", placement="inbox") == 1


async def test_a_mail_that_was_moved_arrived_once(world: World) -> None:
    world.tell(sending(), accepted(), arrived(), vanished(), arrived(5.0, uid=2, placement="junk"))
    assert await world.value("mailprobe_moved_arrivals_total", route="r", placement="junk") == 1
    assert await world.value("mailprobe_arrivals_total", route="r", placement="junk") == 0
    assert await world.value("mailprobe_duplicate_arrivals_total", route="r") == 0


async def test_the_conservation_law_can_be_read_off(world: World) -> None:
    world.counts = {("r", State.DELIVERED): 7, ("r", State.ACCEPTED): 2, ("gone", State.LOST): 9}
    world.sent = {"r": 9, "gone": 9}
    samples = await world.samples()
    assert samples["mailprobe_ledger_sent_probes"] == {(("route", "r"),): 9}
    states = {dict(key)["state"]: value for key, value in samples["mailprobe_ledger_probes"].items()}
    assert states.keys() == {state.value for state in State}
    assert sum(states.values()) == 9
    assert states["delivered"] == 7


async def test_the_probers_own_troubles_are_counted(world: World) -> None:
    world.metrics.violated("a law")
    world.metrics.clock_jumped("suspend", 60.0)
    world.metrics.stored(4096)
    world.metrics.committed(0, 0.0, "disk full")
    samples = await world.samples()
    assert samples["mailprobe_violations_total"] == {(): 1}
    assert samples["mailprobe_clock_jumps_total"][(("kind", "suspend"),)] == 1
    assert samples["mailprobe_clock_jumps_total"][(("kind", "step"),)] == 0
    assert samples["mailprobe_ledger_size_bytes"] == {(): 4096}
    assert samples["mailprobe_ledger_writable"] == {(): 0}
    world.metrics.committed(1, 0.001, None)
    assert await world.value("mailprobe_ledger_writable") == 1


@pytest.mark.parametrize(
    ("event", "reason"), [(arrived(account="gmx"), "elsewhere"), (arrived(9.0, uid=2, genuine=False), "replayed")]
)
async def test_mails_with_a_good_token_that_are_left_alone_are_counted(
    world: World, event: Arrived, reason: str
) -> None:
    accounts = make_accounts() | {"gmx": make_account("gmx", SENDER)}
    world.metrics.configure(accounts, {"r": make_route()})
    probe = make_probe(sending(), accepted(), arrived())
    verdict = judge(probe, event, {"gmx": SENDER, "own": RECIPIENT}[event.place.account])
    world.metrics.observe(Outcome(event, probe, probe, verdict))
    name = "mailprobe_unrecognised_messages_total"
    assert await world.value(name, account=event.place.account, reason=reason) == 1


async def test_a_deadline_of_many_days_is_written_in_plain_seconds(world: World) -> None:
    fortnight, more = 14 * 86400.0, 14 * 86400.0 + 1
    world.metrics.configure(make_accounts(), {"r": make_route(deadlines=(0.5, fortnight, more))})
    labels = (await world.samples())["mailprobe_deadline_probes_total"]
    assert {dict(key)["deadline"] for key in labels} >= {"0.5", "1209600", "1209601"}


async def test_every_submission_that_fails_counts_once_with_its_stage_and_reason(world: World) -> None:
    for event in (deferred(), rejected(), failed(), unconfirmed(), accepted()):
        world.tell(sending(), event)
    samples = (await world.samples())["mailprobe_submission_errors_total"]
    assert {tuple(dict(key).values()): value for key, value in samples.items() if value} == {
        ("greylisted", "r", "envelope"): 1,
        ("no_such_user", "r", "data"): 1,
        ("refused", "r", "connect"): 1,
        ("lost", "r", "data"): 1,
    }


async def test_the_probers_own_health_is_counted(world: World) -> None:
    world.metrics.committed(3, 0.004, None)
    world.metrics.committed(0, 0.0, "disk full")
    world.metrics.started("r", 0.25)
    world.metrics.skipped("r", "rate")
    world.metrics.asked("own")
    world.metrics.mailbox_up("own")
    assert await world.value("mailprobe_ledger_commit_seconds_count") == 1
    assert await world.value("mailprobe_ledger_errors_total") == 1
    assert await world.value("mailprobe_schedule_lateness_seconds_sum") == 0.25
    assert await world.value("mailprobe_probes_skipped_total", route="r", reason="rate") == 1
    assert await world.value("mailprobe_mailbox_asks_total", account="own") == 1
    assert await world.value("mailprobe_mailbox_up", account="own") == 1


# -- the page ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["", "text/plain", OPENMETRICS, f"{OPENMETRICS};q=0.8,text/plain;q=0.5,*/*;q=0.1"])
async def test_both_formats_parse_and_say_the_same(world: World, accept: str) -> None:
    world.tell(sending(), accepted(), arrived())
    body, content_type = await world.metrics.render(accept, False)
    openmetrics = "openmetrics" in accept
    assert content_type.startswith("application/openmetrics-text" if openmetrics else "text/plain")
    assert body.endswith(b"# EOF\n") == openmetrics
    assert {k: v for k, v in (await world.samples(accept)).items() if "uncertainty" not in k} == {
        k: v for k, v in (await world.samples()).items() if "uncertainty" not in k
    }


async def test_a_compressed_page_is_the_same_page(world: World) -> None:
    plain, _ = await world.metrics.render("", False)
    zipped, content_type = await world.metrics.render("", True)
    assert gzip.decompress(zipped) == plain
    assert content_type.startswith("text/plain")
    assert len(zipped) < len(plain) / 4


async def test_the_exemplar_is_the_probe_and_short_enough(world: World) -> None:
    world.tell(sending(), accepted(0.5), arrived(4.5))
    families: list[Metric] = list(parse_openmetrics(await world.page(OPENMETRICS)))
    exemplars = [sample.exemplar for family in families for sample in family.samples if sample.exemplar]
    assert [(it.labels, it.value) for it in exemplars] == [({"probe": PROBE}, 4.0)]
    assert sum(len(name) + len(value) for it in exemplars for name, value in it.labels.items()) <= 128


class Counting(Collector):
    """Counts how often the registry is read."""

    reads = 0

    def collect(self) -> Iterator[Metric]:
        self.reads += 1
        yield GaugeMetricFamily("reads", "How often.", value=self.reads)


async def test_concurrent_scrapes_share_one_rendering() -> None:
    world, counting = World(), Counting()
    world.metrics.registry.register(counting)
    counting.reads = 0
    pages = await asyncio.gather(*(world.metrics.render("", False) for _ in range(20)))
    assert counting.reads == 1
    assert len(set(pages)) == 1


async def test_a_scraper_that_hangs_up_takes_nobody_elses_page_away() -> None:
    world = World()
    hasty, patient = (asyncio.create_task(world.metrics.render("", False)) for _ in range(2))
    await asyncio.sleep(0)
    hasty.cancel()
    body, _ = await patient
    assert b"mailprobe_build_info" in body


async def test_what_servers_say_never_reaches_a_label(world: World) -> None:
    nasty = 'evil\ud800\n"} 1\r\n\0'
    reply = BUSY._replace(status=nasty, text=nasty)
    world.tell(sending(), dataclasses.replace(accepted(), reply=reply, queue_id=nasty))
    world.tell(sending(), dataclasses.replace(deferred(), reply=reply))
    world.tell(sending(), dataclasses.replace(failed(), detail=nasty))
    place = arrived().place._replace(folder=nasty)
    world.tell(sending(), accepted(), dataclasses.replace(arrived(), place=place))
    world.metrics.mailbox_down("own", "timeout", nasty, 2.0)
    world.metrics.note("own", nasty)
    world.metrics.committed(0, 0.0, nasty)
    assert "evil" not in await world.page()
    assert "evil" not in await world.page(OPENMETRICS)


async def test_whatever_stands_in_a_label_the_page_can_be_rendered(world: World) -> None:
    accounts = {"gmx": make_account("gmx", 'a"b\\c\n@example.de'), "own": make_account("own", RECIPIENT)}
    world.metrics.configure(accounts, {"r": make_route()})
    for accept in ("", OPENMETRICS):
        (key,) = (await world.samples(accept))["mailprobe_route_info"]
        assert dict(key)["sender"] == 'a"b\\c\n@example.de'


async def test_a_client_can_ask_for_two_formats_and_for_none_of_its_own(world: World) -> None:
    types = set()
    for accept in (
        "",
        "text/plain;version=2.0.0",
        "*/*",
        *(f"{OPENMETRICS[:-5]}1.0.{n}" for n in range(5)),
        "x;=",
        "a;b",
    ):
        body, content_type = await world.metrics.render(accept, False)
        assert body.endswith(b"# EOF\n") == ("openmetrics" in content_type)
        types.add(content_type)
    body, content_type = await world.metrics.render("application/openmetrics-text;version=abc", False)
    assert types == {content_type, "text/plain; version=0.0.4; charset=utf-8"}
    assert content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
