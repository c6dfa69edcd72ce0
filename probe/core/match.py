"""Which probe was that, and what does its arrival mean? The decision only; recording and removing are done elsewhere.

Rule: every arrival gets exactly one verdict, and only NEW ones become events.
"""

from __future__ import annotations

from enum import StrEnum

from probe.core.events import Arrived
from probe.core.state import IN_FLIGHT, Probe, State


class Verdict(StrEnum):
    """What one mail with a verified token is."""

    DELIVERED = "delivered"  # the probe's first arrival
    EARLY = "early"  # the same, before the reply to its submission was read
    FOUND = "found"  # the same, after it was counted as lost
    DUPLICATE = "duplicate"  # another copy
    CONTRADICTION = "contradiction"  # the server had refused it
    SEEN_BEFORE = "seen_before"  # this very copy is on record: found again after a restart or reconnect
    FOREIGN = "foreign"  # signed by our key, but on no record of ours


def judge(probe: Probe | None, arrived: Arrived) -> Verdict:
    """The verdict on an arrival, given the probe that the ledger holds under its token's id."""
    if probe is None:
        return Verdict.FOREIGN
    if arrived.place in probe.places:
        return Verdict.SEEN_BEFORE
    if probe.places:
        return Verdict.DUPLICATE
    if probe.state is State.SENDING:
        return Verdict.EARLY
    if probe.state is State.LOST:
        return Verdict.FOUND
    return Verdict.DELIVERED if probe.state in IN_FLIGHT else Verdict.CONTRADICTION
