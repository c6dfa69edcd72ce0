"""What can happen to a probe: frozen events, each with the instant at which its first byte came.

Rule: an event is stamped by the shell that saw it, before parsing and before queueing, and never changed afterwards.
The life of a probe is the list of its events; everything else (state, latency, metrics, pages) is derived from it.

Clocks. `wall` is Unix time (CLOCK_REALTIME, seconds). `boot` is seconds since boot including suspend (CLOCK_BOOTTIME),
comparable only between instants that carry the same `boot_id`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple


class Instant(NamedTuple):
    """A point in time by two clocks; see the module's text."""

    wall: float
    boot: float
    boot_id: str

    def shifted(self, seconds: float) -> Instant:
        """The instant this many seconds later, by both clocks."""
        return Instant(self.wall + seconds, self.boot + seconds, self.boot_id)


def elapsed(start: Instant, end: Instant) -> float:
    """Seconds from start to end: by the boot clock within one boot, else by the wall clock (RFC 7679 §3.7: say which).

    Negative when `end` came first. See `clock_between` for which clock was used.
    """
    return end.boot - start.boot if start.boot_id == end.boot_id else end.wall - start.wall


def clock_between(start: Instant, end: Instant) -> Literal["boottime", "wall"]:
    """The clock that `elapsed` used for this pair."""
    return "boottime" if start.boot_id == end.boot_id else "wall"


Stage = Literal["resolve", "connect", "tls", "ehlo", "auth", "envelope", "data"]
Placement = Literal["inbox", "junk", "other"]
Detection = Literal["idle", "poll", "catch-up"]
# Who had the mail: we while submitting it, the sender's provider, somebody between, the recipient's provider, its
# mailbox (stored and not seen yet). `provider`: the sender's is the recipient's. `unresolved`: one of those that follow
# one another, and it cannot be told which.
Segment = Literal["submission", "sender", "between", "recipient", "provider", "unresolved", "mailbox"]
NoticeAction = Literal["delayed", "relayed", "delivered", "expanded"]  # RFC 3464 §2.3.3, without "failed"


class Reply(NamedTuple):
    """An SMTP reply: code (RFC 5321 §4.2), enhanced status like "4.7.1" or "" (RFC 3463), its text on one line."""

    code: int
    status: str
    text: str


class Part(NamedTuple):
    """How long the mail was in one segment of its way: `low` to `high` seconds, by stamps of this resolution."""

    segment: Segment
    low: float
    high: float
    resolution: float = 1.0


class Stay(NamedTuple):
    """The same of a host, by its name in the mail's header."""

    host: str
    low: float
    high: float
    resolution: float = 1.0


class Place(NamedTuple):
    """Where exactly a mail lies: a UID means something only together with the UIDVALIDITY (RFC 9051 §2.3.1.1)."""

    account: str
    folder: str
    uidvalidity: int
    uid: int


@dataclass(frozen=True, slots=True)
class Sending:
    """The submission begins. On disk before the first byte of the mail's content leaves."""

    probe: str
    at: Instant
    route: str
    due: Instant
    sender: str  # addresses, not account names: evidence must outlive the configuration
    recipient: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The 250 after the final dot was read: from here on the provider answers for the mail (RFC 5321 §6.1)."""

    probe: str
    at: Instant
    reply: Reply
    queue_id: str = ""
    stages: tuple[tuple[Stage, float], ...] = ()  # seconds, in the order in which they were passed


@dataclass(frozen=True, slots=True)
class Deferred:
    """A 4xx reply: refused for now; the probe is not tried again."""

    probe: str
    at: Instant
    stage: Stage
    reply: Reply
    stages: tuple[tuple[Stage, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """A 5xx reply: refused for good."""

    probe: str
    at: Instant
    stage: Stage
    reply: Reply
    stages: tuple[tuple[Stage, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """No reply to speak of: DNS, connection, TLS, log-in. The mail certainly did not leave."""

    probe: str
    at: Instant
    stage: Stage
    reason: str  # one of a small fixed set of words, fit for a label
    detail: str = ""
    stages: tuple[tuple[Stage, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """The connection broke (or we were killed) after the content began to leave and before its reply was read.

    The mail may arrive; it is never sent again (RFC 5321 §4.5.3.2.6, RFC 1047). `since` is the instant from which the
    provider may have had it.
    """

    probe: str
    at: Instant
    since: Instant
    reason: str
    detail: str = ""
    stages: tuple[tuple[Stage, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Arrived:
    """A mail with this probe's verified token was seen in a mailbox.

    The mail came to lie there in (`not_before`, `at`]: `at` is the first byte that announced it, `not_before` the last
    moment at which the mailbox was known not to hold it, None when nothing is known.
    `stored` is the server's INTERNALDATE (Unix time by its own clock, 1 s resolution): evidence, not a measurement.
    `genuine`: to the letter our own mail, and not another one that carries its token.
    """

    probe: str
    at: Instant
    place: Place
    placement: Placement
    detection: Detection
    not_before: Instant | None = None
    stored: float | None = None
    genuine: bool = True
    # The mail's header block as it came; the ledger keeps it apart, and for a shorter time.
    raw: bytes = field(default=b"", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Vanished:
    """A copy of the mail that was seen is no longer where it was, and not because we removed it."""

    probe: str
    at: Instant
    place: Place


@dataclass(frozen=True, slots=True)
class Bounced:
    """A notification came back: the mail has failed for good (RFC 3464 §2.3.3, action "failed")."""

    probe: str
    at: Instant
    place: Place  # of the notification
    status: str  # enhanced status code (RFC 3463), or ""
    text: str
    reporting_mta: str = ""
    matched: str = ""  # how it was known: by our envelope id, the returned mail, or the text
    raw: bytes = field(default=b"", repr=False, compare=False)  # the beginning of the notification as it came


@dataclass(frozen=True, slots=True)
class Notified:
    """A notification of anything but failure; the mail is still on its way as far as we know."""

    probe: str
    at: Instant
    place: Place  # of the notification
    action: NoticeAction
    status: str
    text: str
    reporting_mta: str = ""
    matched: str = ""


@dataclass(frozen=True, slots=True)
class Traced:
    """What the arrived mail's own header tells of its way: see core/way.py. Worked out once, when the delivery was
    measured, from what was known of the hosts' clocks by then."""

    probe: str
    at: Instant
    segments: tuple[Part, ...] = ()  # in the order of the mail's way
    stays: tuple[Stay, ...] = ()  # by host, oldest first
    authentication: tuple[tuple[str, str], ...] = ()  # (method, result) by the receiver's own word (RFC 8601)
    spam: tuple[str, ...] = ()  # what the receiver's filters said, one text each


@dataclass(frozen=True, slots=True)
class Expired:
    """The probe is older than its route's lost_after. `looked`: and is not in its mailbox; else nobody could look."""

    probe: str
    at: Instant
    looked: bool = True


@dataclass(frozen=True, slots=True)
class Judged:
    """A deadline has passed, and it was decided, once and for all, whether the mail was there in time.

    `deadline` in seconds after the acceptance; `met` None: nobody could see.
    """

    probe: str
    at: Instant
    deadline: float
    met: bool | None


Event = (
    Sending
    | Accepted
    | Deferred
    | Rejected
    | Failed
    | Unconfirmed
    | Arrived
    | Vanished
    | Bounced
    | Notified
    | Traced
    | Expired
    | Judged
)
Submitted = Accepted | Deferred | Rejected | Failed | Unconfirmed  # what one submission comes to


class Cursor(NamedTuple):
    """How far a mailbox folder was read and cleaned: every UID up to this one needs no second look.

    `looked` is the last moment at which the folder was known to hold nothing newer.
    """

    account: str
    folder: str
    uidvalidity: int
    uid: int
    looked: Instant
