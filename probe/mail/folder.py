"""One folder of a mailbox: catch up, then in turns remove, wait, ask, read.

Rules:
- EXISTS is a doorbell. What came is learnt by UID FETCH last+1:*, on every ring and every connect.
- Only what is settled (on record) is removed: by UID, in the session and under the UIDVALIDITY in which its token was
  verified; and only if it is surely ours.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Protocol

from probe.core.asking import Asker, Usual
from probe.core.dsn import Notice
from probe.core.events import Arrived, Bounced, Cursor, Detection, Instant, Notified, Place, Vanished, elapsed
from probe.core.message import Recognised, Refused
from probe.core.outcome import Sink
from probe.core.settings import Account
from probe.mail.folders import INBOX, Watched
from probe.mail.imap import Connection, Fetched
from probe.mail.imap import Refused as CommandRefused
from probe.mail.imap_syntax import uid_sets

RELISTEN = 480.0  # seconds; Gmail drops an IDLE after about 9 minutes, Exchange Online falls silent
_POLL = 30.0  # between looks where a server has no IDLE
_SETTLING = 3  # turns
_REMOVE_AGAIN = 900.0  # seconds after a refusal
_SURE_FOR = 60.0  # seconds; then what lies under a UID is read again before it is removed
_SLUGGISH = 2.0  # seconds; an answer that took longer says little about when a mail came
_CURSOR_EVERY = 10.0  # seconds between notes of how far a folder was read, when nothing else is written
# What bounds the memory, and the loop's longest turn, however much comes at once and whatever it is:
_CHUNK = 500  # mails per FETCH
_HEADER = "BODY.PEEK[HEADER]<0.65536>"  # our own field stands far above that, even below everybody's Received and ARC
_BODY_LIMIT = 131072  # octets read of a mail whose header lost our token, or of a bounce


class NotThere(CommandRefused):
    """A folder cannot be opened. `reason` is a label."""

    def __init__(self, name: str, error: CommandRefused) -> None:
        super().__init__(f"{error.command} {name}", error.code, error.text)
        self._name = name

    @property
    def reason(self) -> str:
        if self.code not in ("", "NONEXISTENT", "TRYCREATE"):
            return super().reason
        return "no_inbox" if self._name == INBOX.name else "no_folder"


Recognise = Callable[[bytes], Recognised | Notice | Refused | None]


class Recorder(Protocol):
    """Who takes what is seen. Neither call blocks."""

    def report(self, event: Arrived | Vanished | Bounced | Notified) -> None:
        """Something with a verified token lies in the mailbox, or does no longer. Answer with Watcher.settle when a
        mail is on record."""

    def read_up_to(self, cursor: Cursor) -> None:
        """Everything up to here has been dealt with."""


class Mailbox(Protocol):
    """What a folder needs of its mailbox; watcher.Watcher is one."""

    account: Account
    recorder: Recorder
    sink: Sink
    clock: Callable[[], Instant]
    recognise: Recognise
    worth_reading: Callable[[bytes], bool]
    cursors: dict[str, Cursor]
    backlog_since: float | None

    async def log_in(self) -> Connection:
        """A connection of one's own."""

    def caught_up(self, folder: str) -> None:
        """This folder's backlog has been reported."""

    def seen(self, arrived: Arrived, route: str) -> None:
        """A probe of this route has arrived."""


@dataclass(slots=True)
class _Unsettled:
    """A mail that was reported and is not on record yet, or not removed yet."""

    probe: str
    removable: bool
    not_before: Instant | None  # when it was certainly not there
    read: Instant
    expunged: int  # how many mails had gone from the folder before it was read


class _News:
    """When the server told of each of the new mails: one that came while others were dealt with has its own moment."""

    def __init__(self, rings: Sequence[tuple[int, Instant]]) -> None:
        self._told, self._when = [told for told, _ in rings], [when for _, when in rings]

    def when(self, index: int, of: int, now: Instant) -> Instant:
        """The moment for the mail with this index among so many new ones in the order of their UIDs. Never too early:
        where mails are gone or were read before, it is the later one, and `now` for a mail that was never told of."""
        found = bisect_left(self._told, index + 1 + max(0, self._told[-1] - of))
        return self._when[found] if found < len(self._when) else now


@dataclass(slots=True)
class FolderWatch:
    """One folder in one session of its mailbox."""

    mailbox: Mailbox
    watched: Watched
    connection: Connection | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    asker: Asker = field(init=False)
    idle_since: Instant | None = None
    looked: Instant | None = None  # the last moment at which the folder held nothing unknown
    noted: Instant | None = None  # when the cursor was last reported
    uidvalidity: int = 0
    last: int = 0  # every UID up to this one was read
    wanted: bool = False  # somebody wants to know what is there now
    checked: Instant | None = None  # when the folder was last known to be the one of this name
    unsettled: dict[int, _Unsettled] = field(default_factory=dict)  # by UID
    settling: int = 0  # turns since the last arrival that were spent waiting for it to be on record
    refused: Instant | None = None  # when the server last refused to remove mails
    idle_works: bool = True  # until the server ends one by itself
    removable: set[int] = field(default_factory=set)
    steps: int = 0  # grows while it gets on, at least with every turn

    def __post_init__(self) -> None:
        self.asker = Asker(self.mailbox.account.asking)

    async def run(self, connection: Connection | None) -> None:
        """Watch until something fails (Lost, CommandRefused, Unreachable)."""
        if connection is None:
            async with await self.mailbox.log_in() as own:
                return await self.run(own)
        self.connection = connection
        await self._enter(connection)
        self.mailbox.caught_up(self.watched.name)
        while True:
            await self._turn(connection)

    async def _enter(self, connection: Connection) -> None:
        """Select the folder, and read what came."""
        asked = self.mailbox.clock()
        try:
            selected = await connection.select(self.watched.raw)
        except CommandRefused as error:
            raise NotThere(self.watched.name, error) from None
        if self.uidvalidity not in (0, selected.uidvalidity):
            raise NotThere(self.watched.name, CommandRefused("SELECT", "", "it has been made anew"))
        # A new arrival's count comes with SELECT; later ones ring.
        announced = connection.last_contact
        self.uidvalidity = selected.uidvalidity
        await self._catch_up(connection, selected.uidnext, selected.exists, announced)
        self.looked = self.checked = asked
        self._note(announced)

    # -- what lies there already ---------------------------------------------------------------------------------

    async def _catch_up(self, connection: Connection, uidnext: int | None, exists: int, announced: Instant) -> None:
        cursor = self.mailbox.cursors.get(self.watched.name)
        self.looked = cursor.looked if cursor else None
        known = cursor is not None and cursor.uidvalidity == self.uidvalidity
        if cursor and uidnext is not None and uidnext <= cursor.uid:
            known = False  # the mailbox was put back to an earlier state, against RFC 9051 §2.3.1.1
        self.last = max(self.last, cursor.uid) if cursor and known else 0
        if known and uidnext is not None and uidnext <= self.last + _CHUNK:
            if exists and uidnext > self.last + 1:
                await self._read(connection, f"{self.last + 1}:*", "catch-up", _News([(exists, announced)]))
        else:
            await self._search_backlog(connection, cursor, uidnext, exists, announced)

    async def _search_backlog(
        self, connection: Connection, cursor: Cursor | None, uidnext: int | None, exists: int, announced: Instant
    ) -> None:
        """A first look, a new UIDVALIDITY, or very many new mails: read what is young enough to be ours, in chunks."""
        # A wall clock that was ahead then must not make us search the future.
        since = min(cursor.looked.wall, self.mailbox.clock().wall) if cursor else self.mailbox.backlog_since
        if since is not None and exists:
            day = datetime.fromtimestamp(since - 86400, UTC).date()  # SINCE ignores time zones
            uids = [uid for uid in await connection.search_since(day) if uid > self.last]
            await self._read_all(connection, uids, "catch-up", _News([(exists, announced)]))
        if uidnext is not None:
            self.last = max(self.last, uidnext - 1)
        elif exists:  # not "*": that may be a mail that came just now
            self.last = max(self.last, await connection.uid_of(exists) or 0)

    async def _check(self, connection: Connection) -> None:
        """Enter the folder again, now and then, and when mails vanish or cannot be removed: somebody may have made it
        anew, and Dovecot then leaves us with the old one, in which nothing will ever come."""
        if self.checked is None or elapsed(self.checked, self.mailbox.clock()) > RELISTEN:
            await self._enter(connection)

    # -- listening and asking ------------------------------------------------------------------------------------

    async def _turn(self, connection: Connection) -> None:
        """Wait for a ring or for the time to ask, then deal with what came."""
        self.steps += 1
        self.wake.clear()
        await self._remove(connection)
        await self._check(connection)
        ended = "told" if connection.rung or self.wanted else await self._wait(connection)
        asked = None
        detection: Detection = "idle" if ended == "pushed" else "poll"
        rings = connection.take_rings()
        if not rings and (ended == "time" or self.wanted or self.asker.until_next(self.mailbox.clock()) == 0.0):
            self.wanted = False
            asked = self.mailbox.clock()
            self.asker.asked(asked)
            self.mailbox.sink.asked(self.mailbox.account.name)
            await connection.noop()
            rings = connection.take_rings()
            if rings and elapsed(asked, rings[-1][1]) > _SLUGGISH:
                detection = "catch-up"
        if rings and rings[-1][0] <= _CHUNK:
            await self._read(connection, f"{self.last + 1}:*", detection, _News(rings))
        elif rings:
            await self._read_all(connection, await connection.search_after(self.last), detection, _News(rings))
        if asked:
            self.looked = asked
        self._note(self.mailbox.clock())

    async def _wait(self, connection: Connection) -> Literal["pushed", "told", "time", "other"]:
        """Until the server tells of mail ("pushed": by itself, "told": by its answer to a command), until it is time to
        ask, or until there is something else to do."""
        delay = self.asker.until_next(self.mailbox.clock())
        if self.unsettled and self._may_remove() and self.settling < _SETTLING:
            # Within moments they will be on record, and then be removed: not worth entering IDLE and leaving it.
            self.settling += 1
            await connection.wait(0.1 if delay is None else min(delay, 0.1), self.wake)
            return "pushed" if connection.rung else "other"
        if not (connection.can_idle and self.idle_works):
            await connection.wait(_POLL if delay is None else min(delay, _POLL), self.wake)
            return self._ended(connection.rung is not None, connection)
        if delay is not None and self.asker.listening.slow and delay < 1.0:
            await connection.wait(delay, self.wake)
            return self._ended(connection.rung is not None, connection)
        seconds = RELISTEN if delay is None else min(delay, RELISTEN)
        self.idle_since = began = self.mailbox.clock()
        try:
            pushed = await connection.idle(seconds, self.wake)
        except CommandRefused as error:  # offered, and yet refused: asking now and then is as good a way to see
            self.idle_works = False
            self.mailbox.sink.note(
                self.mailbox.account.name, f"looks at {self.watched.name} every {_POLL:.0f} s: {error}"
            )
            return self._ended(False, connection)
        spent = elapsed(began, self.mailbox.clock())
        if not (pushed or self.wake.is_set()) and spent < min(1.0, seconds / 2):
            self.idle_works = False  # the server ends it by itself: waiting so would be asking without end
        return self._ended(pushed, connection)

    def _ended(self, pushed: bool, connection: Connection) -> Literal["pushed", "told", "time", "other"]:
        if connection.rung:
            return "pushed" if pushed else "told"
        return "other" if self.wake.is_set() else "time"

    # -- reading and removing ------------------------------------------------------------------------------------

    async def _read_all(self, connection: Connection, uids: list[int], detection: Detection, news: _News) -> None:
        for line in _lines(uids):
            await self._read(connection, line, detection, news, uids)

    async def _read(
        self, connection: Connection, uids: str, detection: Detection, news: _News, new: list[int] | None = None
    ) -> None:
        """Read these mails: all that are `new`, if None, else those that are among them."""
        expunged = connection.expunged  # before: the answer itself may tell of more
        mails = sorted(await connection.fetch(uids, _HEADER), key=lambda mail: mail.uid)
        self.steps += 1
        now, not_before = connection.last_contact, self.looked
        if new is None:
            mails = [mail for mail in mails if mail.uid > self.last]
            new = [mail.uid for mail in mails]
        for number, mail in enumerate(mails, 1):
            if number % 50 == 0:
                await asyncio.sleep(0)  # parsing takes 0.1 ms each; others' stamps must not wait for thousands
            at = news.when(bisect_left(new, mail.uid), len(new), now)
            await self._judge(connection, mail, detection, at, not_before, expunged)
            self.last = max(self.last, mail.uid)

    async def _judge(
        self,
        connection: Connection,
        mail: Fetched,
        detection: Detection,
        at: Instant,
        not_before: Instant | None,
        expunged: int,
    ) -> None:
        mailbox, name = self.mailbox, self.mailbox.account.name
        found, raw = await self._recognise(connection, mail)
        place = Place(name, self.watched.name, self.uidvalidity, mail.uid)
        if isinstance(found, Refused):
            mailbox.sink.unrecognised(name, found.reason)
        elif isinstance(found, Notice):
            self.unsettled[mail.uid] = _Unsettled(found.probe, False, not_before, at, expunged)
            mailbox.recorder.report(_news(found, at, place, raw))
        elif isinstance(found, Recognised):
            probe, sure = found.token.probe, found.removable
            self.unsettled[mail.uid] = _Unsettled(probe, sure, not_before, mailbox.clock(), expunged)
            self.settling = 0
            stored, head = mail.internal_date, mail.content
            arrived = Arrived(probe, at, place, self.watched.placement, detection, not_before, stored, sure, head)
            mailbox.seen(arrived, found.token.route)
            mailbox.recorder.report(arrived)

    def look(self) -> None:
        """Ask for news, whether or not it is time for it."""
        self.wanted = True
        self.wake.set()

    def arrived(self, arrived: Arrived) -> None:
        """A probe that may have been expected here has arrived, here or in another folder."""
        self.asker.arrived(arrived.probe, arrived.at, arrived.detection, self.idle_since)

    async def _recognise(
        self, connection: Connection, mail: Fetched
    ) -> tuple[Recognised | Notice | Refused | None, bytes]:
        """What this mail is to us, by its header or, where that may be worth it, by its body; and what was read."""
        raw = mail.content
        found = self.mailbox.recognise(raw)
        # A bounce may quote our subject, and yet its body says more.
        if not isinstance(found, Recognised) and self.mailbox.worth_reading(mail.content):
            bodies = await connection.fetch(str(mail.uid), f"BODY.PEEK[]<0.{_BODY_LIMIT}>")
            if raw := next((body.content for body in bodies if body.uid == mail.uid), b""):
                found = self.mailbox.recognise(raw)
        return found, raw or mail.content

    def expect(self, probe: str, route: str, since: Instant, usual: Usual) -> None:
        """A probe was accepted, and will probably come here."""
        self.asker.expect(probe, route, since, usual)
        self.wake.set()

    def settle(self, place: Place, ours: bool) -> None:
        """See Watcher.settle. A place of another UIDVALIDITY is not ours to touch."""
        here = place.account == self.mailbox.account.name and place.uidvalidity == self.uidvalidity
        if not here or place.uid not in self.unsettled:
            return
        if ours and self.unsettled[place.uid].removable and not self.mailbox.account.keep_mails:
            self.removable.add(place.uid)
        else:
            self._let_go(place.uid)
        self.wake.set()

    async def _remove(self, connection: Connection) -> None:
        """Remove what is settled. Without UIDPLUS an EXPUNGE could take others' mails along: mark as read and leave."""
        if not self.removable or not self._may_remove():
            return
        try:
            await self._verify_again(connection)
            uids = {uid for uid in self.removable if not self._doubtful(uid, connection)}
            if uids:
                await self._remove_these(connection, uids)
        except CommandRefused as error:  # read-only, or over quota; the measurement goes on
            self.refused = self.mailbox.clock()
            self.mailbox.sink.removal_refused(self.mailbox.account.name, error.reason)
            text = f"cannot remove test mails from {self.watched.name}: {error}"
            self.mailbox.sink.note(self.mailbox.account.name, text)
            self.checked = None
        if self.removable:  # they were settled meanwhile, or are in doubt once more
            self.settling = 0

    async def _remove_these(self, connection: Connection, uids: set[int]) -> None:
        gone_before = connection.expunged
        flag = "\\Deleted" if connection.can_expunge else "\\Seen"
        marked = uids & await connection.mark(sorted(uids), [flag])
        gone = uids - marked
        if gone:
            gone -= await connection.existing(sorted(gone))
            self._vanished(gone)
        if connection.can_expunge:
            if connection.expunged != gone_before:
                return  # whatever lies under these UIDs now, it is to be read before it is removed
            await connection.expunge(sorted(uids - gone))
        for uid in uids - gone:
            self._let_go(uid)
        if connection.expunged - gone_before == len(marked):  # ours and no others
            for mail in self.unsettled.values():
                mail.expunged += len(marked)
        if marked:
            self.mailbox.sink.removed(self.mailbox.account.name, len(marked))

    def _let_go(self, uid: int) -> None:
        self.unsettled.pop(uid, None)
        self.removable.discard(uid)

    def _doubtful(self, uid: int, connection: Connection) -> bool:
        """Whether another mail could lie there by now, if the server counts UIDs wrongly."""
        known = self.unsettled[uid]
        return known.expunged != connection.expunged or elapsed(known.read, self.mailbox.clock()) > _SURE_FOR

    async def _verify_again(self, connection: Connection) -> None:
        """Read once more what is to be removed, if mails have gone or time has passed since its token was verified."""
        now, expunged, known = self.mailbox.clock(), connection.expunged, self.unsettled
        doubtful = {uid for uid in self.removable if self._doubtful(uid, connection)}
        there = {}
        for line in _lines(sorted(doubtful)):
            for number, mail in enumerate(await connection.fetch(line, _HEADER), 1):
                if number % 50 == 0:
                    await asyncio.sleep(0)  # as in _read
                if mail.uid in doubtful:
                    there[mail.uid], _ = await self._recognise(connection, mail)
        self._vanished(doubtful - there.keys())
        for uid in doubtful & self.removable:
            found = there[uid]
            if isinstance(found, Recognised) and found.removable and found.token.probe == known[uid].probe:
                known[uid].read, known[uid].expunged = now, expunged
            else:
                self.mailbox.sink.unrecognised(self.mailbox.account.name, "uid_reused")
                self._let_go(uid)

    def _vanished(self, uids: set[int]) -> None:
        """Somebody else has taken away these mails, which were seen here."""
        if uids:
            self.checked = None
        for uid in sorted(uids & self.unsettled.keys()):
            place = Place(self.mailbox.account.name, self.watched.name, self.uidvalidity, uid)
            self.mailbox.recorder.report(Vanished(self.unsettled[uid].probe, self.mailbox.clock(), place))
            self._let_go(uid)

    def _may_remove(self) -> bool:
        return self.refused is None or elapsed(self.refused, self.mailbox.clock()) > _REMOVE_AGAIN

    def _note(self, now: Instant) -> None:
        """Report how far the folder was read, now and then: a restart looks again from there."""
        uid, looked = self.last, self.looked
        if self.unsettled:
            uid = min(self.unsettled) - 1
            looked = self.unsettled[uid + 1].not_before
        if looked is None:
            return
        cursor = Cursor(self.mailbox.account.name, self.watched.name, self.uidvalidity, uid, looked)
        self.mailbox.cursors[self.watched.name] = cursor
        if self.noted is None or elapsed(self.noted, now) >= _CURSOR_EVERY:
            self.noted = now
            self.mailbox.recorder.read_up_to(cursor)


def _lines(uids: list[int]) -> Iterator[str]:
    """These UIDs as sequence sets, each of one FETCH."""
    for start in range(0, len(uids), _CHUNK):
        yield from uid_sets(uids[start : start + _CHUNK])


def _news(notice: Notice, at: Instant, place: Place, raw: bytes) -> Bounced | Notified:
    said = notice.status, notice.diagnostic, notice.reporting_mta, notice.matched
    if notice.action == "failed":
        return Bounced(notice.probe, at, place, *said, raw)
    return Notified(notice.probe, at, place, notice.action, *said)
