"""How a backlog drains: in which order, how fast, and what a mail sent now would have to wait.

Rule: an estimate is given only under the conditions that make it one; else None, with the reason as a key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from probe.core.events import Instant, elapsed

Order = Literal["fifo", "lifo", "mixed"]
Doubt = Literal["", "nothing_comes", "too_few", "no_order"]

_ENOUGH = 5  # mails: five in order by chance alone are 1 in 120
_ORDERED = 0.8  # rank correlation from which an order is called one; a few mails overtaken by one do not undo it


class Passage(NamedTuple):
    """One late mail that came: when it was accepted, and when it was seen."""

    accepted: Instant
    seen: Instant


class Drain(NamedTuple):
    """`mails` have come, `rate` per minute. `wait`: between so many seconds and so many, for a mail sent now.

    The wait is that of a queue in order: while the mail that comes now was accepted at `front`, and `front` moves on
    by v seconds a second, a mail sent now waits (now − front) / v. Its bounds are the two v of the whole drain and of
    its latter half; both hold only as long as the provider goes on as it does. Our probes are samples of the
    provider's queue, so its length is not known, and not needed. `doubt` says why there is no estimate.
    """

    mails: int = 0
    correlation: float | None = None  # Spearman's ρ of the orders of sending and of arrival: 1 first in, first out
    order: Order | None = None
    rate: float | None = None
    wait: tuple[float, float] | None = None
    doubt: Doubt = "nothing_comes"


def drain(came: Sequence[Passage], now: Instant) -> Drain:
    """What can be said of a backlog of which these have come, in the order in which they came."""
    if not came:
        return Drain()
    span = elapsed(came[0].seen, came[-1].seen)
    rate = (len(came) - 1) * 60.0 / span if span > 0 else None
    if len(came) < _ENOUGH:
        return Drain(len(came), rate=rate, doubt="too_few")
    rho = correlation(came)
    order: Order = "fifo" if rho >= _ORDERED else "lifo" if rho <= -_ORDERED else "mixed"
    if order != "fifo":  # what was sent last may come first, or at any time
        return Drain(len(came), rho, order, rate, doubt="no_order")
    waits = sorted(w for part in (came, came[len(came) // 2 :]) if (w := _wait(part, now)) is not None)
    wait = (waits[0], waits[-1]) if waits else None
    return Drain(len(came), rho, order, rate, wait, "" if wait else "too_few")


def correlation(came: Sequence[Passage]) -> float:
    """Spearman's rank correlation of the orders of sending and of arrival, of at least two mails.

    1: first in, first out; −1: last in, first out. A single number for what RFC 4737 §3 counts mail by mail.
    """
    sent = sorted(range(len(came)), key=lambda i: elapsed(came[0].accepted, came[i].accepted))
    apart = sum((rank - i) ** 2 for rank, i in enumerate(sent))
    return 1.0 - 6.0 * apart / (len(came) * (len(came) ** 2 - 1))


def _wait(came: Sequence[Passage], now: Instant) -> float | None:
    first, last = came[0], came[-1]
    span, way = elapsed(first.seen, last.seen), elapsed(first.accepted, last.accepted)
    if span <= 0 or way <= 0:
        return None  # found all at once, when a mailbox was opened again: that says nothing about their speed
    return max(0.0, elapsed(last.accepted, now) * span / way - elapsed(last.seen, now))
