"""What became of a probe: one table of transitions, and advance(), the only thing that applies it.

Rule: a state follows from the events alone. A pair that is not in TRANSITIONS is an ImpossibleEvent, never a guess.

           ┌──────────► early ───────────────┐         (seen before its 250 was read)
    due ─► sending ─► accepted ──────────────┴► delivered
              │  ├──► unconfirmed ─► (as accepted)
              │  │         ├─► lost ────┬─► found      (arrived after it was given up)
              │  └─────────┴─► bounced ─┘
              └─► rejected, deferred, failed

Conservation: every probe is in exactly one of these states, so for each route
    sent = sending + early + accepted + unconfirmed + delivered + bounced + lost + found + rejected + deferred + failed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from probe.core.events import (
    Accepted,
    Arrived,
    Bounced,
    Deferred,
    Event,
    Expired,
    Failed,
    Instant,
    Judged,
    Notified,
    Place,
    Rejected,
    Sending,
    Submitted,
    Traced,
    Unconfirmed,
    Vanished,
    clock_between,
    elapsed,
)


class State(StrEnum):
    """See the module's diagram."""

    SENDING = "sending"
    EARLY = "early"
    ACCEPTED = "accepted"
    UNCONFIRMED = "unconfirmed"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    LOST = "lost"
    FOUND = "found"
    REJECTED = "rejected"
    DEFERRED = "deferred"
    FAILED = "failed"


IN_FLIGHT = frozenset({State.ACCEPTED, State.UNCONFIRMED})  # the provider answers for these, or may have to
OPEN = IN_FLIGHT | {State.SENDING, State.EARLY}  # something is still expected to happen to these
_S = State
_REFUSED = (_S.REJECTED, _S.DEFERRED, _S.FAILED)

TRANSITIONS: dict[tuple[State | None, type[Event]], State] = {
    (None, Sending): _S.SENDING,
    (_S.SENDING, Accepted): _S.ACCEPTED,
    (_S.SENDING, Unconfirmed): _S.UNCONFIRMED,
    (_S.SENDING, Rejected): _S.REJECTED,
    (_S.SENDING, Deferred): _S.DEFERRED,
    (_S.SENDING, Failed): _S.FAILED,
    (_S.SENDING, Arrived): _S.EARLY,
    (_S.EARLY, Arrived): _S.EARLY,
    (_S.EARLY, Accepted): _S.DELIVERED,
    (_S.EARLY, Unconfirmed): _S.DELIVERED,
    # A server that says no after the content and delivers all the same: its word stands, the arrival is on record.
    (_S.EARLY, Rejected): _S.REJECTED,
    (_S.EARLY, Deferred): _S.DEFERRED,
    (_S.EARLY, Failed): _S.FAILED,
    **{(state, Arrived): state for state in _REFUSED},
    (_S.ACCEPTED, Arrived): _S.DELIVERED,
    (_S.UNCONFIRMED, Arrived): _S.DELIVERED,
    (_S.ACCEPTED, Expired): _S.LOST,
    (_S.UNCONFIRMED, Expired): _S.LOST,
    (_S.LOST, Arrived): _S.FOUND,
    (_S.DELIVERED, Arrived): _S.DELIVERED,  # a duplicate
    (_S.FOUND, Arrived): _S.FOUND,
    # A bounce ends a probe that has not come; where it contradicts an arrival or a refusal it is only on record.
    **{(state, Bounced): _S.BOUNCED for state in (_S.SENDING, _S.ACCEPTED, _S.UNCONFIRMED, _S.LOST, _S.BOUNCED)},
    **{(state, Bounced): state for state in (_S.EARLY, _S.DELIVERED, _S.FOUND, *_REFUSED)},
    (_S.BOUNCED, Arrived): _S.FOUND,
    # The reply to the submission is read after the bounce.
    (_S.BOUNCED, Accepted): _S.BOUNCED,
    (_S.BOUNCED, Unconfirmed): _S.BOUNCED,
    (_S.BOUNCED, Rejected): _S.REJECTED,
    (_S.BOUNCED, Deferred): _S.DEFERRED,
    (_S.BOUNCED, Failed): _S.FAILED,
    (_S.FOUND, Accepted): _S.FOUND,
    (_S.FOUND, Unconfirmed): _S.FOUND,
    (_S.FOUND, Rejected): _S.REJECTED,
    (_S.FOUND, Deferred): _S.DEFERRED,
    (_S.FOUND, Failed): _S.FAILED,
    # These are only put on record.
    **{(state, Notified): state for state in State},
    **{(state, Vanished): state for state in (_S.EARLY, _S.DELIVERED, _S.FOUND, *_REFUSED)},
    **{(state, Traced): state for state in (_S.DELIVERED, _S.FOUND)},
    **{(state, Judged): state for state in (*IN_FLIGHT, _S.DELIVERED, _S.BOUNCED, _S.LOST, _S.FOUND)},
}
_CLOCK_ERROR = 1.0  # seconds by which a good wall clock may be wrong after a reboot
_WHOLE_SECOND = 1.01  # uncertainty that a stamp in whole seconds leaves, and rounding


class ImpossibleEvent(Exception):
    """An event that cannot happen in this state: a bug of ours, or two daemons on one ledger."""

    def __init__(self, state: State | None, event: Event) -> None:
        super().__init__(f"{type(event).__name__} cannot happen to probe {event.probe} in state {state or 'unknown'}")
        self.state = state
        self.event = event


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe as its events tell it so far."""

    id: str
    route: str
    sender: str
    recipient: str
    due: Instant
    started: Instant
    state: State
    submitted: Submitted | None = None
    arrived: Arrived | None = None  # the first arrival
    bounced: Bounced | None = None  # the first bounce
    places: tuple[Place, ...] = ()  # every copy of the mail that was seen; more than one: moved, or duplicates
    vanished: tuple[Place, ...] = ()  # those of them that somebody else took away
    expired: Expired | None = None
    notices: tuple[Place, ...] = ()  # every notification about it
    judged: tuple[float, ...] = ()  # deadlines that were judged, in seconds
    missed: tuple[float, ...] = ()  # those of them that were missed
    unknown: tuple[float, ...] = ()  # those of which nobody could see whether they were
    traced: Traced | None = None

    # The instant from which the provider answers for the mail, or may have to; None while it does not.
    answerable: Instant | None = None
    # Delivery latency in seconds, seen − accepted; None while there is none. 0 when the mail was seen before its 250
    # was read: then the provider held it for no time that it answers for.
    latency: float | None = None
    # Width in seconds of the interval in which the mail must have come; None when it has no lower end.
    uncertainty: float | None = None

    @property
    def clock(self) -> Literal["boottime", "wall"] | None:
        """The clock by which `latency` was measured."""
        if self.arrived is None or self.answerable is None:
            return None
        return clock_between(self.answerable, self.arrived.at)

    @property
    def doubtful(self) -> bool:
        """Whether the latency says too little to be counted among measurements.

        That is when we were not looking, so that the mail may have come at any time since its acceptance, or when it
        came before its acceptance by a wall clock that was set across a reboot.
        """
        if self.arrived is None or self.answerable is None or self.latency is None or self.uncertainty is None:
            return False
        if self.clock == "wall" and elapsed(self.answerable, self.arrived.at) < -_CLOCK_ERROR:
            return True
        return self.arrived.detection != "idle" and self.uncertainty >= max(self.latency, _WHOLE_SECOND)


def met(probe: Probe, deadline: float) -> bool | None:
    """Whether the mail was there this many seconds after the acceptance, by what is known of it; None: it is not known.

    Late by what was measured, and yet perhaps in time by more than measuring is wrong anyway: not known.
    """
    latency, uncertainty = probe.latency, probe.uncertainty
    if latency is None or uncertainty is None or probe.doubtful:
        return None
    if latency <= deadline:
        return True
    return False if latency - uncertainty >= deadline - max(1.0, 0.05 * deadline) else None


def arrival_bounds(arrived: Arrived) -> tuple[Instant | None, Instant]:
    """The interval (low, high] in which the mail came to lie in the mailbox; the measured arrival is `high`.

    For a mail that came while we looked, that is (not_before, first byte that announced it]. For one found by catching
    up, our first byte says little; the server's stamp (whole seconds, its clock) narrows the interval where it lies
    inside; where it does not, the server's clock is off, and it is not used.
    """
    low, high = arrived.not_before, arrived.at
    if arrived.detection != "catch-up" or arrived.stored is None:
        return low, high
    earliest, latest = arrived.stored, arrived.stored + 1.0
    if (low is not None and latest < low.wall) or earliest > high.wall:
        return low, high
    if low is None or earliest > low.wall:
        low = high.shifted(earliest - high.wall)
    if latest < high.wall:
        high = high.shifted(latest - high.wall)
    return low, high


def _measured(probe: Probe) -> Probe:
    """The probe with what follows from its submission and its first arrival, worked out once."""
    answerable = None
    match probe.submitted:
        case Accepted(at=at):
            answerable = at
        case Unconfirmed(since=since):
            answerable = since
    latency = uncertainty = None
    if probe.arrived:
        low, high = arrival_bounds(probe.arrived)
        if answerable:
            latency = max(0.0, elapsed(answerable, high))
            if low is None or elapsed(low, answerable) > 0:
                low = answerable  # a mail does not arrive before it is sent
        uncertainty = None if low is None else max(0.0, elapsed(low, high))
    return replace(probe, answerable=answerable, latency=latency, uncertainty=uncertainty)


def advance(probe: Probe | None, event: Event) -> Probe:
    """The probe after this event. Raises ImpossibleEvent."""
    before = probe.state if probe else None
    try:
        after = TRANSITIONS[before, type(event)]
    except KeyError:
        raise ImpossibleEvent(before, event) from None
    if isinstance(event, Sending):
        return Probe(event.probe, event.route, event.sender, event.recipient, event.due, event.at, after)
    assert probe is not None  # no key of the table pairs None with anything but Sending
    match event:
        case Arrived(place=place):
            after_it = replace(probe, state=after, arrived=probe.arrived or event, places=(*probe.places, place))
            return after_it if probe.arrived else _measured(after_it)
        case Vanished(place=place):
            return replace(probe, state=after, vanished=(*probe.vanished, place))
        case Bounced(place=place):
            return replace(probe, state=after, bounced=probe.bounced or event, notices=(*probe.notices, place))
        case Notified(place=place):
            return replace(probe, state=after, notices=(*probe.notices, place))
        case Traced():
            arrived = replace(probe.arrived, raw=b"") if probe.arrived else None  # it is on disk, and was read
            return replace(probe, state=after, arrived=arrived, traced=event)
        case Judged(deadline=deadline, met=known):
            missed = (*probe.missed, deadline) if known is False else probe.missed
            unknown = (*probe.unknown, deadline) if known is None else probe.unknown
            return replace(probe, state=after, judged=(*probe.judged, deadline), missed=missed, unknown=unknown)
        case Expired():
            return replace(probe, state=after, expired=event)
    if probe.submitted:
        raise ImpossibleEvent(before, event)  # one submission has one outcome
    return _measured(replace(probe, state=after, submitted=event))
