"""What the recorder tells: one frozen record per thing that happened, the same for every sink (metrics, log, page)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from probe.core.clocks import Jump
from probe.core.events import Event, Instant
from probe.core.match import RECORDED, Verdict
from probe.core.state import Probe, State


@dataclass(frozen=True, slots=True)
class Outcome:
    """An event, the probe before and after it, and an arrival's verdict."""

    event: Event
    before: Probe | None
    probe: Probe | None
    verdict: Verdict | None = None

    @property
    def recorded(self) -> bool:
        """Whether it changed anything; the ledger holds it then."""
        return self.verdict is None or self.verdict in RECORDED

    @property
    def measured_now(self) -> bool:
        """Whether this very event completed the measurement of the delivery latency: once in a probe's life."""
        if self.probe is None or self.probe.latency is None or not self.recorded:
            return False
        return self.before is None or self.before.latency is None


@dataclass(frozen=True, slots=True)
class InFlight:
    """A route's probes for which the provider answers. `oldest` is the earliest instant from which it does."""

    number: int
    oldest: Instant | None


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stand: in flight by route; all probes on record by route and state, and by route as they were sent."""

    in_flight: dict[str, InFlight] = field(default_factory=dict)
    counts: dict[tuple[str, State], int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RouteView:
    """A route as people see it. Times in seconds; None: there is none yet."""

    route: str
    sender: str
    recipient: str
    watched: bool
    in_flight: int
    oldest: float | None
    last_latency: float | None
    last_arrival_ago: float | None


class Sink:
    """Who is told of everything; overrides what it cares for, and must neither block nor raise."""

    def observe(self, outcome: Outcome) -> None:
        """Something happened to a probe."""

    def violated(self, law: str) -> None:
        """What must always hold does not: a bug of ours, in one line."""

    def committed(self, events: int, seconds: float, error: str | None) -> None:
        """So many events became durable in so many seconds, or an attempt failed for this reason."""

    def reloading(self) -> None:
        """The configuration is about to be read again."""

    def reloaded(self, error: str | None) -> None:
        """The new configuration is in use, or the old one still is, for this reason: one line per mistake."""

    def stored(self, octets: int) -> None:
        """So much room the ledger takes."""

    def clock_jumped(self, kind: Jump, seconds: float) -> None:
        """A clock did not go on evenly; see core/clocks.py."""

    def started(self, route: str, late: float) -> None:
        """A probe was started, so many seconds after it was due."""

    def skipped(self, route: str, reason: str, number: int = 1) -> None:
        """So many probes were due and not started; `reason` is a label."""

    def mailbox_up(self, account: str) -> None:
        """The whole mailbox is being watched, and what lay in it has been reported."""

    def mailbox_down(self, account: str, reason: str, detail: str, retry: float) -> None:
        """The mailbox cannot be watched; next attempt in `retry` seconds. `reason` is a label."""

    def contact(self, account: str, at: Instant) -> None:
        """The mail server last sent something at this instant."""

    def certificate(self, account: str, protocol: Literal["smtp", "imap"], not_after: float) -> None:
        """A server showed a certificate that ends then (Unix time)."""

    def asked(self, account: str) -> None:
        """The mailbox was asked once."""

    def unrecognised(self, account: str, reason: str) -> None:
        """A mail carried something like our token and is none of ours; `reason` is a label."""

    def clocks(self, offsets: Mapping[str, tuple[float, float]]) -> None:
        """By how many seconds mail hosts' clocks are ahead of ours, at least and at most; of all that are known."""

    def host_clock_set(self, host: str, by: tuple[float, float]) -> None:
        """A mail host's clock was surely set, by so many seconds at least and at most; what was known is void."""

    def removed(self, account: str, mails: int) -> None:
        """Probes' mails that were on record have been removed (or left as read, where removing is not safe)."""

    def removal_refused(self, account: str, reason: str) -> None:
        """The server refused to remove probes' mails; `reason` is a label. A note says it in its own words."""

    def note(self, account: str, text: str) -> None:
        """Something a person should know."""


class Sinks(Sink):
    """Several sinks as one, told in order, but for those that do not care. What one raises is told to `on_bug`, and
    keeps no other from hearing."""

    def __init__(self, *sinks: Sink, on_bug: Callable[[str], None]) -> None:
        for name, ignored in [(name, nothing) for name, nothing in vars(Sink).items() if not name.startswith("_")]:
            calls = [getattr(sink, name) for sink in sinks]
            cared = [call for call in calls if getattr(call, "__func__", None) is not ignored]
            setattr(self, name, _Fan(name, cared, on_bug))


class _Fan:
    def __init__(self, name: str, calls: Sequence[Callable[..., None]], on_bug: Callable[[str], None]) -> None:
        self._name, self._calls, self._on_bug = name, calls, on_bug

    def __call__(self, *args: object) -> None:
        for call in self._calls:
            try:
                call(*args)
            except Exception:  # noqa: BLE001 - recording goes on, whatever a listener does
                self._on_bug(self._name)
