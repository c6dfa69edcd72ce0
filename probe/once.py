"""One probe, start to end, outside the schedule: what `mailprobe once` and `mailprobe check --send` run.

Rule: it keeps no record. A daemon that watches the same mailbox sees a probe it does not know, and leaves it alone.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from probe import clock, keyfile
from probe.core.events import (
    Accepted,
    Arrived,
    Bounced,
    Deferred,
    Failed,
    Instant,
    Notified,
    Rejected,
    Submitted,
    Traced,
    Unconfirmed,
    elapsed,
)
from probe.core.outcome import Outcome, Sink
from probe.core.settings import Route, Settings
from probe.core.state import Probe
from probe.core.words import duration
from probe.ledger import Ledger
from probe.prober import Prober

_SERVICE = Path("/var/lib/mailprobe")  # where the service has its key, whoever asks
_CLEAN_UP = 5.0  # seconds that removing the mail may take afterwards

Verdict = Literal["ok", "warning", "critical", "unknown"]


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One line of the timeline: `at` seconds after the start, what was reached, `took` seconds for it alone."""

    at: float
    name: str
    took: float | None = None
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What became of it. `latency` in seconds; `text` is one sentence for a person."""

    verdict: Verdict
    text: str
    route: Route
    submitted: Submitted | None = None
    probe: Probe | None = None


async def once(
    settings: Settings, route: Route, timeout: float, tell: Callable[[Step], None], key: bytes | None = None
) -> Result:
    """Send one probe on this route and wait up to `timeout` seconds, from its acceptance, until it is seen."""
    began = clock.now()
    listener = _Listener(began, tell)
    ledger = Ledger(Path(":memory:"))
    only = _only(settings, route)
    key = key or _key(settings, listener)
    try:
        # Random phases and jitter, not secrets.
        async with Prober(only, ledger, key, clock.now, random.Random(), listener) as prober:  # noqa: S311
            watcher = prober.watchers[route.recipient]
            await watcher.attempted.wait()
            if not watcher.up:
                return Result("unknown", f"cannot watch the mailbox of {route.recipient}: {listener.blind}", route)
            listener.step("watching", detail=settings.accounts[route.recipient].address)
            submitted = await prober.send(route, clock.now(), listener.stage)
            if isinstance(submitted, str):
                return Result("unknown", f"not sent: {submitted}", route)
            if not isinstance(submitted, Accepted | Unconfirmed):
                return _not_accepted(route, submitted)
            listener.accepted(submitted)
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await listener.ended.wait()
                if listener.bounced:
                    return _came_back(route, submitted, listener.bounced)
                if not settings.accounts[route.recipient].keep_mails:
                    async with asyncio.timeout(_CLEAN_UP):
                        await listener.removed_all.wait()
            if listener.probe is None and not watcher.up:
                text = f"cannot see the mailbox of {route.recipient}: {listener.blind}"
                return Result("unknown", text, route, submitted)
            return _judged(route, submitted, listener.probe, timeout)
    finally:
        ledger.close()


def _only(settings: Settings, route: Route) -> Settings:
    accounts = {name: settings.accounts[name] for name in (route.sender, route.recipient)}
    return dataclasses.replace(settings, routes={route.name: route}, accounts=accounts)


def _key(settings: Settings, listener: _Listener) -> bytes:
    """The installation's key, or that of the service on this machine, so that a daemon counts the probe as foreign and
    not as forged; else one for now."""
    # Whoever administers the service asks for it, though a trial of their own may have left a key at home.
    own = (_SERVICE, settings.state_dir) if os.geteuid() == 0 else (settings.state_dir, _SERVICE)
    for place in own:
        try:
            return keyfile.load(place, make=False)
        except keyfile.KeyFileError as error:
            if isinstance(error.__cause__, PermissionError):
                listener.step("without key", detail=f"not ours to read: the daemon of {place} will count a forged mail")
    return secrets.token_bytes(32)


def _not_accepted(route: Route, submitted: Submitted) -> Result:
    match submitted:
        case Rejected(stage=stage, reply=reply) | Deferred(stage=stage, reply=reply):
            word = "rejected" if isinstance(submitted, Rejected) else "deferred"
            text = f"{word} by {route.sender}'s server at {stage}: {reply.code} {reply.text}"
        case Failed(stage=stage, reason=reason, detail=detail):
            text = f"submission through {route.sender} failed at {stage}: {reason.replace('_', ' ')}"
            text += f" ({detail})" if detail else ""
        case _:
            text = "not accepted"
    return Result("critical", text, route, submitted)


def _came_back(route: Route, submitted: Submitted, bounced: Bounced) -> Result:
    reason = " ".join(filter(None, (bounced.status, bounced.text)))
    by = f", says {bounced.reporting_mta}" if bounced.reporting_mta else ""
    return Result("critical", f"came back: {reason or 'without a reason'}{by}", route, submitted)


def _judged(route: Route, submitted: Submitted, probe: Probe | None, timeout: float) -> Result:
    if probe is None or probe.latency is None or probe.arrived is None:
        said = "accepted" if isinstance(submitted, Accepted) else "perhaps accepted"
        text = f"{said}, but not there after {duration(timeout)}: {route.recipient}'s or {route.sender}'s side holds it"
        return Result("critical", text, route, submitted)
    late = [deadline for deadline in route.deadlines if probe.latency > deadline]
    verdict: Verdict = "ok" if not late else "critical" if len(late) == len(route.deadlines) > 1 else "warning"
    text = f"delivered {duration(probe.latency)} after it was accepted"
    if late:
        text += f", later than the deadline of {duration(late[-1])}"
    if probe.arrived.placement != "inbox":
        verdict = "warning" if verdict == "ok" else verdict
        text += f", but into the folder {probe.arrived.place.folder}"
    return Result(verdict, text, route, submitted, probe)


class _Listener(Sink):
    """Turns what happens into steps of the timeline."""

    def __init__(self, began: Instant, tell: Callable[[Step], None]) -> None:
        self._began, self._tell = began, tell
        self.ended = asyncio.Event()  # it was seen, or has come back
        self.removed_all = asyncio.Event()
        self.probe: Probe | None = None
        self.bounced: Bounced | None = None
        self.blind = "no answer"

    def step(self, name: str, took: float | None = None, detail: str = "", at: Instant | None = None) -> None:
        """Tell of a step that was reached at this instant, or now."""
        self._tell(Step(elapsed(self._began, at or clock.now()), name, took, detail))

    def stage(self, name: str, seconds: float) -> None:
        """A stage of the submission has ended."""
        self.step(name, seconds)

    def accepted(self, submitted: Accepted | Unconfirmed) -> None:
        """The provider has it, or may have it."""
        if isinstance(submitted, Accepted):
            queue_id = f"queue id {submitted.queue_id}" if submitted.queue_id else submitted.reply.text
            self.step("accepted", None, queue_id, submitted.at)
        else:
            self.step("unconfirmed", None, f"{submitted.reason}: it may arrive all the same", submitted.at)

    def observe(self, outcome: Outcome) -> None:
        """The arrival, or the reply that makes an earlier arrival a measurement; or what came back instead."""
        event = outcome.event
        if isinstance(event, Arrived) and outcome.recorded and not self.ended.is_set():
            self.step("seen", None, f"in {event.place.folder}, by {event.detection}", event.at)
        if isinstance(event, Bounced) and outcome.recorded and not self.ended.is_set():
            self.step("bounced", None, f"in {event.place.account}'s {event.place.folder}", event.at)
            self.bounced = event
            self.ended.set()
        if isinstance(event, Notified) and outcome.recorded:
            self.step(event.action, None, event.text, event.at)
        if outcome.measured_now:
            self.ended.set()
        if outcome.measured_now or isinstance(event, Traced):
            self.probe = outcome.probe

    def removed(self, account: str, mails: int) -> None:
        """The mail is gone."""
        self.step("removed")
        self.removed_all.set()

    def mailbox_down(self, account: str, reason: str, detail: str, retry: float) -> None:
        """Why we cannot see."""
        self.blind = detail or reason
