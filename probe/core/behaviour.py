"""What a mail provider does to mail, as data: for the embedded provider, which does it, and the demo, which tells it.

Rule: a fault is here or it does not happen. Shares are of the mails, or of the attempts: 0 none, 0.1 one in ten, 1 all.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

STORES = 230  # hosts on which mailboxes lie


def store(address: str) -> str:
    """The storage host on which this address's mailbox lies, by a hash of its name."""
    return f"store{zlib.crc32(address.encode()) % STORES:03}"


@dataclass(frozen=True, slots=True)
class Hold:
    """A queue stands still: `after` seconds from the provider's start, for `lasts` seconds, again `every` so often."""

    after: float
    lasts: float
    every: float = math.inf  # from one beginning to the next; by default it happens once

    def rest(self, age: float) -> float:
        """How long the queue of a provider of this age (seconds since its start) will stand still; 0 if it moves."""
        since = (age - self.after) % self.every
        return self.lasts - since if age >= self.after and since < self.lasts else 0.0


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one recipient's mail is treated."""

    delay: tuple[float, float] = (0.0, 0.0)  # seconds in the queue, uniform; the order is kept
    hold: Hold | None = None  # afterwards all that waited comes, in order
    refused: float = 0.0  # 550 to RCPT
    deferred: float = 0.0  # 450 to RCPT
    lost: float = 0.0  # 250, and never delivered
    grey: float = 0.0  # seconds for which a storage host puts off each relay that it does not know yet
    put_off: float = 0.0  # of the attempts to deliver: the storage host is down or busy, and the relay tries again
    bounced: float = 0.0  # the storage host refuses them for good, and the sender is told so by a mail
    junked: float = 0.0  # delivered to Junk
    duplicated: float = 0.0  # delivered twice
