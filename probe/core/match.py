"""Which probe was that, and what does its mail mean? The decision only; recording and removing are done elsewhere.

Rule: every mail with a verified token gets exactly one verdict, and only those of RECORDED become events.
"""

from __future__ import annotations

from enum import StrEnum

from probe.core.events import Arrived, Bounced, Notified
from probe.core.state import IN_FLIGHT, Probe, State


class Verdict(StrEnum):
    """What one mail with a verified token is."""

    DELIVERED = "delivered"  # the probe's first arrival
    EARLY = "early"  # the same, before the reply to its submission was read
    FOUND = "found"  # the same, after it was given up as lost or bounced
    DUPLICATE = "duplicate"  # another copy
    MOVED = "moved"  # the same copy, put into another folder by a filter or a person
    CONTRADICTION = "contradiction"  # arrived although refused; bounced although arrived or refused
    BOUNCED = "bounced"  # a notification of failure
    NOTICE = "notice"  # any other or further notification
    SEEN_BEFORE = "seen_before"  # this very mail is on record: found again after a restart or reconnect
    FOREIGN = "foreign"  # signed by our key, but on no record of ours
    ELSEWHERE = "elsewhere"  # a copy in a mailbox to which the probe was not sent
    REPLAYED = "replayed"  # another mail that carries the token of a probe which has arrived
    SURPLUS = "surplus"  # one more copy or notice than is worth recording: a mail loop, or somebody's joke


_MANY = 20  # copies, and notices, of one probe
UNRECOGNISED = frozenset(
    {Verdict.FOREIGN, Verdict.ELSEWHERE, Verdict.REPLAYED, Verdict.SURPLUS}
)  # left alone, and counted as such
_NOT_THERE = IN_FLIGHT | {State.SENDING, State.LOST}
RECORDED = frozenset(Verdict) - UNRECOGNISED - {Verdict.SEEN_BEFORE}


def judge(probe: Probe | None, event: Arrived | Bounced | Notified, mailbox: str | None = None) -> Verdict:
    """The verdict on a mail, given the probe that the ledger holds under its token's id, and the address of the mailbox
    in which it lies (None: not known)."""
    if probe is None:
        return Verdict.FOREIGN
    if isinstance(event, Arrived):
        return _arrival(probe, event, mailbox)
    if event.place in probe.notices:
        return Verdict.SEEN_BEFORE
    if mailbox is not None and mailbox.lower() not in {probe.sender.lower(), probe.recipient.lower()}:
        return Verdict.ELSEWHERE
    if len(probe.notices) >= _MANY:
        return Verdict.SURPLUS
    if isinstance(event, Notified) or probe.bounced:
        return Verdict.NOTICE
    return Verdict.BOUNCED if probe.state in _NOT_THERE else Verdict.CONTRADICTION


def _arrival(probe: Probe, arrived: Arrived, mailbox: str | None) -> Verdict:
    place = arrived.place
    # After a new UIDVALIDITY every mail has another number, so a copy in the same folder may be the one we know.
    renumbered = any(p[:2] == place[:2] and p.uidvalidity != place.uidvalidity for p in probe.places)
    if place in probe.places or renumbered:
        return Verdict.SEEN_BEFORE
    if mailbox is not None and mailbox.lower() != probe.recipient.lower():
        return Verdict.ELSEWHERE
    if probe.places:
        if not arrived.genuine:
            return Verdict.REPLAYED
        if len(probe.places) >= _MANY:
            return Verdict.SURPLUS
        return Verdict.MOVED if set(probe.places) <= set(probe.vanished) else Verdict.DUPLICATE
    if probe.state is State.SENDING:
        return Verdict.EARLY
    if probe.state in {State.LOST, State.BOUNCED}:
        return Verdict.FOUND
    return Verdict.DELIVERED if probe.state in IN_FLIGHT else Verdict.CONTRADICTION
