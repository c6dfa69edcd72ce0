"""How far mailprobe's delivery latency is from the truth, for mail that comes at once and for mail that is held.

Each held route has a mailbox of its own and a period longer than any hold, so that asking for one probe never helps to
see another: that is the harder case, and the one that providers show.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from probe.core.events import Accepted
from probe.core.state import Probe, arrival_bounds

from ..bed.mailbed import MailBed
from ..bed.postfix import arrival_time
from . import truth
from .daemon import Daemon, RouteSpec
from .numbers import Spread, median, spread

_SHORTEST, _LONGEST = 0.5, 10.0  # seconds on hold
_SETTLE = 3.0  # seconds after the last release in which the last mails arrive
_CLOCKS = 0.002  # seconds: two processes reading one clock, and Dovecot's log line after its save
_NEAR, _NEAR_FLOOR = 0.05, 0.030  # good enough: within 5 % or 30 ms


@dataclass(frozen=True, slots=True)
class Sample:
    """One probe's measurement and its truth; seconds. start and end: ours − true of the latency's two ends."""

    probe: str
    held: bool
    number: int  # of its route, from 0
    latency: float
    true: float
    start: float
    end: float
    detection: str
    before: float  # how long the true arrival was before the recorded interval; 0: inside
    logged_late: float  # how long after we saw the mail Dovecot logged its save; 0: before

    @property
    def error(self) -> float:
        """Measured − true latency."""
        return self.latency - self.true

    @property
    def near(self) -> bool:
        """Whether the error is within 5 % of the latency or 30 ms."""
        return abs(self.error) <= max(_NEAR * self.true, _NEAR_FLOOR)


@dataclass(frozen=True, slots=True)
class Group:
    """Samples of one kind. Times in ms."""

    error: Spread | None
    percent: Spread | None  # |error| in % of the true latency
    start: Spread | None
    end: Spread | None
    true: Spread | None
    near: float  # share
    detections: dict[str, int]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The result. asks: NOOPs per delivered probe."""

    undisturbed: Group
    undisturbed_cold: Group  # with the warm-up
    held: Group
    asks_undisturbed: float
    asks_held: float
    before: int  # true arrivals before the recorded interval, by more than the clocks' 2 ms: a wrong "not yet"
    before_most: float  # ms
    logged_late: int  # seen more than 2 ms before Dovecot logged the save: the truth is late, not we early
    logged_late_most: float  # ms
    probes: int
    unmeasured: int  # accepted in time and yet without latency or truth
    warm_up: int
    usual_taking: float  # ms; see truth.py
    outliers: list[Sample]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure. seconds: of sending."""

    seconds: float = 70.0
    mailboxes: int = 2
    routes: int = 3  # to each mailbox, every 2 s
    held: int = 8  # mailboxes with one route each, every 12 s
    warm_up: int = 10  # probes of each undisturbed route that are left out
    seed: int = 1


def measure(bed: MailBed, root: Path, plan: Plan) -> Accuracy:
    """Run one daemon for plan.seconds and compare its ledger with the servers' logs."""
    quick = [
        RouteSpec(f"quick-{box}-{i}", f"sender{i}", f"quick{box}", "2s")
        for box in range(plan.mailboxes)
        for i in range(plan.routes)
    ]
    held = [RouteSpec(f"held-{i}", f"sender{i % plan.routes}", f"held{i}", "12s") for i in range(plan.held)]
    truth.prepare(bed, root / "held.regexp")
    with Daemon(bed, root / "accuracy", quick + held) as daemon:
        end = time.time() + plan.seconds
        _release_each(bed, random.Random(plan.seed), end)
        asks = daemon.metric("mailprobe_mailbox_asks_total")
        daemon.stop()
        probes = daemon.recorded()
    truth.prepare(bed)
    return _judge(plan, probes, truth.mails(bed), asks, end)


def _release_each(bed: MailBed, rng: random.Random, end: float) -> None:
    """Release each held mail after its own time, until those that came before `end` (Unix time) have arrived."""
    hold = bed.postfix.root / "queue/hold"
    due: dict[str, float] = {}
    while (now := time.time()) < end + _LONGEST + _SETTLE:
        for queue_id in {path.name for path in hold.iterdir()} - due.keys():
            due[queue_id] = arrival_time(queue_id) + math.exp(rng.uniform(math.log(_SHORTEST), math.log(_LONGEST)))
        for queue_id, at in due.items():
            if at <= now:
                bed.postfix.run("postsuper", "-H", queue_id)
                bed.postfix.run("postqueue", "-i", queue_id)
                due[queue_id] = math.inf
        if now > end and not any(arrival_time(queue_id) < end for queue_id, at in due.items() if at < math.inf):
            time.sleep(_SETTLE)
            return
        time.sleep(0.02)


def _judge(
    plan: Plan, probes: Sequence[Probe], mails: dict[str, truth.Mail], asks: dict[str, float], end: float
) -> Accuracy:
    ids = {f"<{probe.id}.mailprobe@bed.test>": probe for probe in probes}
    mails = {message_id: mail for message_id, mail in mails.items() if message_id in ids}
    taking = median(mail.taking for mail in mails.values() if not mail.to.startswith("held"))
    numbers: Counter[str] = Counter()
    samples, unmeasured = [], 0
    for message_id, probe in ids.items():
        number = numbers[probe.route]
        numbers[probe.route] += 1
        if probe.started.wall >= end:
            continue
        sample = _sample(probe, number, mails.get(message_id), taking)
        if sample:
            samples.append(sample)
        else:
            unmeasured += 1
    quick = [sample for sample in samples if not sample.held]
    held = [sample for sample in samples if sample.held]
    warm = [sample for sample in quick if sample.number >= plan.warm_up]
    arrived = Counter(probe.recipient.partition("@")[0] for probe in probes if probe.arrived)
    by_box = {kind: [box for box in arrived if box.startswith("held") is kind] for kind in (False, True)}
    per_probe = {
        kind: sum(asks.get(box, 0.0) for box in boxes) / max(1, sum(arrived[box] for box in boxes))
        for kind, boxes in by_box.items()
    }
    return Accuracy(
        undisturbed=_group(warm),
        undisturbed_cold=_group(quick),
        held=_group(held),
        asks_undisturbed=per_probe[False],
        asks_held=per_probe[True],
        before=sum(sample.before > _CLOCKS for sample in samples),
        before_most=max((sample.before * 1e3 for sample in samples), default=0.0),
        logged_late=sum(sample.logged_late > _CLOCKS for sample in samples),
        logged_late_most=max((sample.logged_late * 1e3 for sample in samples), default=0.0),
        probes=len(samples),
        unmeasured=unmeasured,
        warm_up=plan.warm_up,
        usual_taking=taking * 1e3,
        outliers=[s for s in samples if s.before > _CLOCKS]
        + sorted((s for s in warm + held if not s.near), key=lambda s: -abs(s.error))[:8],
    )


def _sample(probe: Probe, number: int, mail: truth.Mail | None, usual_taking: float) -> Sample | None:
    accepted, arrived = probe.submitted, probe.arrived
    if mail is None or arrived is None or probe.latency is None or not isinstance(accepted, Accepted):
        return None
    held = mail.to.startswith("held")
    taken = mail.queued + (usual_taking if held else mail.taking)
    low, high = arrival_bounds(arrived)
    return Sample(
        probe=probe.id,
        held=held,
        number=number,
        latency=probe.latency,
        true=mail.saved - taken,
        start=accepted.at.wall - taken,
        end=high.wall - mail.saved,
        detection=arrived.detection,
        before=max(0.0, low.wall - mail.saved) if low else 0.0,
        logged_late=max(0.0, mail.saved - high.wall),
    )


def _group(samples: Sequence[Sample]) -> Group:
    return Group(
        error=spread(sample.error * 1e3 for sample in samples),
        percent=spread(abs(sample.error) / max(sample.true, 1e-3) * 100 for sample in samples),
        start=spread(sample.start * 1e3 for sample in samples),
        end=spread(sample.end * 1e3 for sample in samples),
        true=spread(sample.true * 1e3 for sample in samples),
        near=sum(sample.near for sample in samples) / max(1, len(samples)),
        detections=dict(Counter(sample.detection for sample in samples)),
    )
