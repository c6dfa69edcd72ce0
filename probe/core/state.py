"""What became of a probe: one table of transitions, and advance(), the only thing that applies it.

Rule: a state follows from the events alone. A pair that is not in TRANSITIONS is an ImpossibleEvent, never a guess.

           ┌──────────► early ───────────────┐         (seen before its 250 was read)
    due ─► sending ─► accepted ──────────────┴► delivered
              │  └──► unconfirmed ─► (as accepted)
              │            └─► lost ─► found            (arrived after it was counted as lost)
              └─► rejected, deferred, failed

Conservation: every probe is in exactly one of these states, so for each route
    sent = sending + early + accepted + unconfirmed + delivered + found + lost + rejected + deferred + failed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import get_args

from probe.core.events import (
    Accepted,
    Arrived,
    Deferred,
    Event,
    Expired,
    Failed,
    Instant,
    Place,
    Rejected,
    Sending,
    Submitted,
    Unconfirmed,
    elapsed,
)


class State(StrEnum):
    """See the module's diagram."""

    SENDING = "sending"
    EARLY = "early"
    ACCEPTED = "accepted"
    UNCONFIRMED = "unconfirmed"
    DELIVERED = "delivered"
    LOST = "lost"
    FOUND = "found"
    REJECTED = "rejected"
    DEFERRED = "deferred"
    FAILED = "failed"


IN_FLIGHT = frozenset({State.ACCEPTED, State.UNCONFIRMED})  # the provider answers for these, or may have to
OPEN = IN_FLIGHT | {State.SENDING, State.EARLY}  # something is still expected to happen to these
_S = State

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
    (_S.REJECTED, Arrived): _S.REJECTED,
    (_S.DEFERRED, Arrived): _S.DEFERRED,
    (_S.FAILED, Arrived): _S.FAILED,
    (_S.ACCEPTED, Arrived): _S.DELIVERED,
    (_S.UNCONFIRMED, Arrived): _S.DELIVERED,
    (_S.ACCEPTED, Expired): _S.LOST,
    (_S.UNCONFIRMED, Expired): _S.LOST,
    (_S.LOST, Arrived): _S.FOUND,
    (_S.DELIVERED, Arrived): _S.DELIVERED,  # a duplicate
    (_S.FOUND, Arrived): _S.FOUND,
}


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
    places: tuple[Place, ...] = ()  # every copy of the mail that was seen; more than one: duplicates

    @property
    def answerable(self) -> Instant | None:
        """The instant from which the provider answers for the mail, or may have to; None while it does not."""
        match self.submitted:
            case Accepted(at=at):
                return at
            case Unconfirmed(since=since):
                return since
        return None

    @property
    def latency(self) -> float | None:
        """Delivery latency in seconds, seen − accepted; None while there is none.

        0 when the mail was seen before its 250 was read: then the provider held it for no time that it answers for.
        """
        if self.arrived is None or self.answerable is None:
            return None
        return max(0.0, elapsed(self.answerable, arrival_bounds(self.arrived)[1]))

    @property
    def uncertainty(self) -> float | None:
        """Width in seconds of the interval in which the mail must have come; None when it has no lower end."""
        if self.arrived is None:
            return None
        low, high = arrival_bounds(self.arrived)
        if self.answerable is not None and (low is None or elapsed(low, self.answerable) > 0):
            low = self.answerable  # a mail does not arrive before it is sent
        return None if low is None else max(0.0, elapsed(low, high))


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
    if isinstance(event, get_args(Submitted)):
        return replace(probe, state=after, submitted=event)
    if isinstance(event, Arrived):
        return replace(probe, state=after, arrived=probe.arrived or event, places=(*probe.places, event.place))
    return replace(probe, state=after)
