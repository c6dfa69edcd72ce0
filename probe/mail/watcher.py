"""The way back in: one mailbox, watched for good: connect, catch up, listen and ask, clean up, reconnect.

Rules:
- The watcher reports and obeys; it decides nothing. What an arrival means is the recorder's business, and only what the
  recorder has settled is removed: by UID, in the session and under the UIDVALIDITY in which its token was verified.
- EXISTS is a doorbell. What came is learnt by UID FETCH last+1:*, on every ring and every connect.
- The mailbox is one thing: when the connection of one of its folders fails, all reconnect, so "up" means all of it.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from probe.core.asking import Listening, Usual, next_ask
from probe.core.events import Arrived, Cursor, Detection, Instant, Place, elapsed
from probe.core.message import Recognised, Refused
from probe.core.outcome import Sink
from probe.core.schedule import backoff
from probe.core.settings import Account
from probe.mail.folders import INBOX, Watched, choose
from probe.mail.imap import AuthRefused, Connection, Fetched, ImapError, Lost
from probe.mail.imap import Refused as CommandRefused
from probe.mail.net import Unreachable

_RELISTEN = 480.0  # seconds; Gmail drops an IDLE after about 9 minutes, Exchange Online falls silent
_RETRY = 2.0, 300.0  # seconds before the first and at most before later attempts after a connection failed
_RETRY_LOGIN = 120.0, 3600.0  # the same after a refused log-in: repeated quickly, it would lock the account
_POLL = 30.0  # between looks where a server has no IDLE
_WELL = 30.0  # seconds of watching after which a loss is a new trouble and not the old one
_REMOVE_AGAIN = 900.0  # seconds after a refusal
_SETTLING = 3  # turns
_REMEMBERED = 1000  # probes in flight whose latency still teaches when to ask; in a stall there may be many more
_CURSOR_EVERY = 10.0  # seconds between notes of how far a folder was read, when nothing else is written
_CHUNK = 500  # mails per FETCH while catching up
_BODY_LIMIT = 65536  # octets read of a mail whose header lost our token


class Recorder(Protocol):
    """Who takes what is seen. Neither call blocks."""

    def arrived(self, event: Arrived) -> None:
        """A mail with a verified token lies in the mailbox. Answer with Watcher.settle when it is on record."""

    def read_up_to(self, cursor: Cursor) -> None:
        """Everything up to here has been dealt with."""


Recognise = Callable[[bytes], Recognised | Refused | None]


@dataclass(slots=True)
class _Expected:
    """A probe on its way to this mailbox. Ages are seconds since `since`."""

    route: str
    since: Instant
    asks: int = 0
    asked_at: float = 0.0
    next_at: float | None = None  # None: listen only


class Watcher:
    """Watches one account's mailbox. `run` never returns; cancel it.

    `recognise` says what a mail is, `worth_reading` whether a header without token is worth fetching the body for.
    `cursors` are how far each folder was read before; `backlog_since` (Unix time) is the start of the oldest open
    probe, from which to look where no cursor helps.
    """

    def __init__(
        self,
        account: Account,
        recorder: Recorder,
        sink: Sink,
        clock: Callable[[], Instant],
        rng: random.Random,
        recognise: Recognise,
        worth_reading: Callable[[bytes], bool],
        cursors: Iterable[Cursor] = (),
        backlog_since: float | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.account = account
        self.recorder = recorder
        self.sink = sink
        self.clock = clock
        self.rng = rng
        self.recognise = recognise
        self.worth_reading = worth_reading
        self.cursors = {cursor.folder: cursor for cursor in cursors}
        self.backlog_since = backlog_since
        self.timeout = timeout
        self.attempted = asyncio.Event()  # set after the first session came up or failed
        self.up_since: Instant | None = None  # None: not the whole mailbox is being watched
        self._recent: dict[str, None] = {}  # probes that have arrived
        self._usual: defaultdict[str, Usual] = defaultdict(Usual)
        self._lands_in: dict[str, str] = {}  # route → folder of its last arrival
        self._folders: dict[str, _Folder] = {}
        self._caught_up: set[str] = set()

    async def run(self) -> None:
        """Sessions one after the other, with growing delays after failures. Only cancelling ends it."""
        delays = self._delays()
        while True:
            try:
                await self._session()
            except (ImapError, Unreachable) as error:
                was_well = self.up_since is not None and elapsed(self.up_since, self.clock()) > _WELL
                if was_well:
                    delays = self._delays()
                delay = next(delays[isinstance(error, AuthRefused)])
                self.sink.mailbox_down(self.account.name, _label(error), str(error), delay)
            finally:
                self.up_since = None
                self.attempted.set()
            await asyncio.sleep(delay)

    def _delays(self) -> dict[bool, Iterator[float]]:
        """Pauses before the next attempt, by whether the log-in was refused: each kind grows by itself."""
        return {False: backoff(self.rng, *_RETRY), True: backoff(self.rng, *_RETRY_LOGIN)}

    @property
    def up(self) -> bool:
        """Whether the whole mailbox is being watched."""
        return self.up_since is not None

    def expect(self, probe: str, route: str, since: Instant) -> None:
        """A probe was accepted: ask for it, in the folder where its route's last mail came."""
        if self.backlog_since is None:
            self.backlog_since = since.wall  # it may come before a folder is looked at for the first time
        if probe in self._recent:
            self._usual[route].learn(0.0, 0, self.account.asking.floor)
            return
        folder = self._folders.get(self._lands_in.get(route, INBOX.name)) or self._folders.get(INBOX.name)
        if folder and folder.listening.worth_asking():
            folder.expected[probe] = _Expected(route, since)
            folder.wake.set()

    @property
    def last_contact(self) -> Instant | None:
        """When the server last sent a byte in this session; None outside of one."""
        found = [folder.connection.last_contact for folder in self._folders.values() if folder.connection]
        return max(found, default=None)

    def settle(self, place: Place) -> None:
        """The arrival at this place is on record: its mail may go."""
        folder = self._folders.get(place.folder)
        if folder:
            folder.settle(place)

    async def _session(self) -> None:
        assert self.account.imap is not None
        self._folders.clear()
        self._caught_up.clear()
        async with await self._log_in() as leader:
            watched = choose(await leader.list_folders(), self.account.folders)
            for missing in {name for name in self.account.folders if name.upper() != "INBOX"} - {
                f.name for f in watched
            }:
                self.sink.note(self.account.name, f"has no folder {missing!r}; it is not watched")
            self._folders.update({folder.name: _Folder(self, folder) for folder in watched})
            await _all_or_none(
                folder.run(leader if folder.watched is INBOX else None) for folder in self._folders.values()
            )

    async def _log_in(self) -> Connection:
        assert self.account.imap is not None
        assert self.account.password is not None
        connection = await Connection.open(self.account.imap, clock=self.clock, timeout=self.timeout)
        try:
            await connection.login(self.account.username, self.account.password)
        except BaseException:
            connection.abort()
            raise
        if connection.certificate_not_after:
            self.sink.certificate(self.account.name, "imap", connection.certificate_not_after)
        return connection

    # -- told by the folders -------------------------------------------------------------------------------------

    def _folder_caught_up(self, name: str) -> None:
        self._caught_up.add(name)
        if not self.up and self._caught_up >= self._folders.keys():
            self.up_since = self.clock()
            self.attempted.set()
            self.sink.mailbox_up(self.account.name)

    def _seen(self, arrived: Arrived, route: str) -> None:
        """An arrival ends the asking for its probe, and teaches when to ask for the next."""
        self._lands_in[route] = arrived.place.folder
        self._recent[arrived.probe] = None
        if len(self._recent) > _REMEMBERED:
            del self._recent[next(iter(self._recent))]
        for folder in self._folders.values():
            if expected := folder.expected.pop(arrived.probe, None) or folder.listened_for.pop(arrived.probe, None):
                age = elapsed(expected.since, arrived.at)
                self._usual[route].learn(age, expected.asks, self.account.asking.floor)
                if arrived.detection == "poll":
                    folder.listening.learn(False)
                elif arrived.detection == "idle" and folder.last_ask and folder.idle_since:
                    since_ask = min(elapsed(folder.last_ask, arrived.at), age)
                    folder.listening.learn(True, since_ask, elapsed(folder.idle_since, arrived.at))


@dataclass(slots=True)
class _Folder:
    """One folder in one session."""

    watcher: Watcher
    watched: Watched
    expected: dict[str, _Expected] = field(default_factory=dict)  # probes to ask for
    listened_for: dict[str, _Expected] = field(default_factory=dict)  # probes for which the asking is over
    connection: Connection | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    listening: Listening = field(default_factory=Listening)
    last_ask: Instant | None = None
    idle_since: Instant | None = None
    looked: Instant | None = None  # the last moment at which the folder held nothing unknown
    noted: Instant | None = None  # when the cursor was last reported
    uidvalidity: int = 0
    last: int = 0  # every UID up to this one was read
    # UID → may it be removed, and when was it certainly not there; until it is on record and removed
    unsettled: dict[int, tuple[bool, Instant | None]] = field(default_factory=dict)
    settling: int = 0  # turns since the last arrival that were spent waiting for it to be on record
    refused: Instant | None = None  # when the server last refused to remove mails
    idle_works: bool = True  # until the server ends one by itself
    removable: set[int] = field(default_factory=set)

    async def run(self, connection: Connection | None) -> None:
        """Watch until something fails (Lost, CommandRefused, Unreachable)."""
        if connection is None:
            async with await self.watcher._log_in() as own:
                return await self.run(own)
        self.connection = connection
        selected = await connection.select(self.watched.raw)
        # A new arrival's count comes with SELECT; later ones ring.
        announced = connection.last_contact
        self.uidvalidity = selected.uidvalidity
        await self._catch_up(connection, selected.uidnext, selected.exists, announced)
        self.watcher._folder_caught_up(self.watched.name)
        while True:
            await self._turn(connection)

    # -- what lies there already ---------------------------------------------------------------------------------

    async def _catch_up(self, connection: Connection, uidnext: int | None, exists: int, announced: Instant) -> None:
        cursor = self.watcher.cursors.get(self.watched.name)
        self.looked = cursor.looked if cursor else None
        known = cursor is not None and cursor.uidvalidity == self.uidvalidity
        self.last = cursor.uid if cursor and known else 0
        if known and uidnext is not None and uidnext <= self.last + _CHUNK:
            if exists and uidnext > self.last + 1:
                await self._read(connection, f"{self.last + 1}:*", "catch-up", announced)
        else:
            await self._search_backlog(connection, cursor, uidnext, exists, announced)
        self.looked = announced
        self._note(announced)

    async def _search_backlog(
        self, connection: Connection, cursor: Cursor | None, uidnext: int | None, exists: int, announced: Instant
    ) -> None:
        """A first look, a new UIDVALIDITY, or very many new mails: read what is young enough to be ours, in chunks."""
        since = cursor.looked.wall if cursor else self.watcher.backlog_since
        if since is not None and exists:
            day = datetime.fromtimestamp(since - 86400, UTC).date()  # SINCE ignores time zones
            uids = [uid for uid in await connection.search_since(day) if uid > self.last]
            for start in range(0, len(uids), _CHUNK):
                chunk = ",".join(map(str, uids[start : start + _CHUNK]))
                await self._read(connection, chunk, "catch-up", announced)
        if uidnext is not None:
            self.last = max(self.last, uidnext - 1)
        elif exists:  # not "*": that may be a mail that came just now
            self.last = max(self.last, await connection.uid_of(exists) or 0)

    # -- listening and asking ------------------------------------------------------------------------------------

    async def _turn(self, connection: Connection) -> None:
        """Wait for a ring or for the time to ask, then deal with what came."""
        self.wake.clear()
        await self._remove(connection)
        ended = "told" if connection.rung else await self._wait(connection)
        ring = connection.take_ring()
        if ring is None and (ended == "time" or self._until_next_ask() == 0.0):
            asked = self.watcher.clock()
            self._count_asks(asked)
            await connection.noop()
            ring = connection.take_ring()
            if ring is None:
                self.looked = asked
        if ring:
            await self._read(connection, f"{self.last + 1}:*", "idle" if ended == "pushed" else "poll", ring)
        self._note(self.watcher.clock())

    async def _wait(self, connection: Connection) -> Literal["pushed", "told", "time", "other"]:
        """Until the server tells of mail ("pushed": by itself, "told": by its answer to a command), until it is time to
        ask, or until there is something else to do."""
        delay = self._until_next_ask()
        if self.unsettled and self._may_remove() and self.settling < _SETTLING:
            # Within moments they will be on record, and then be removed: not worth entering IDLE and leaving it.
            self.settling += 1
            await connection.wait(0.1 if delay is None else min(delay, 0.1), self.wake)
            return "pushed" if connection.rung else "other"
        if not (connection.can_idle and self.idle_works):
            await connection.wait(_POLL if delay is None else min(delay, _POLL), self.wake)
            return self._ended(connection.rung is not None, connection)
        if delay is not None and self.listening.slow and delay < 1.0:
            await connection.wait(delay, self.wake)
            return self._ended(connection.rung is not None, connection)
        seconds = _RELISTEN if delay is None else min(delay, _RELISTEN)
        self.idle_since = began = self.watcher.clock()
        pushed = await connection.idle(seconds, self.wake)
        spent = elapsed(began, self.watcher.clock())
        if not (pushed or self.wake.is_set()) and spent < min(1.0, seconds / 2):
            self.idle_works = False  # the server ends it by itself: waiting so would be asking without end
        return self._ended(pushed, connection)

    def _ended(self, pushed: bool, connection: Connection) -> Literal["pushed", "told", "time", "other"]:
        if connection.rung:
            return "pushed" if pushed else "told"
        return "other" if self.wake.is_set() else "time"

    def _until_next_ask(self) -> float | None:
        """Seconds until the next ask of any expected probe; None: none is planned. Never closer than the floor."""
        now, asking = self.watcher.clock(), self.watcher.account.asking
        delays = []
        for probe, expected in list(self.expected.items()):
            expected.next_at = next_ask(expected.asked_at, expected.asks, self.watcher._usual[expected.route], asking)
            if expected.next_at is not None:
                delays.append(expected.next_at - elapsed(expected.since, now))
                continue
            self.listened_for[probe] = self.expected.pop(probe)
            if len(self.listened_for) > _REMEMBERED:
                del self.listened_for[next(iter(self.listened_for))]
        if not delays:
            return None
        floor = asking.floor - elapsed(self.last_ask, now) if self.last_ask else 0.0
        return max(0.0, floor, min(delays))

    def _count_asks(self, at: Instant) -> None:
        """One ask serves every expected probe for which it is time, or nearly."""
        self.last_ask = at
        self.watcher.sink.asked(self.watcher.account.name)
        for expected in self.expected.values():
            age = elapsed(expected.since, at)
            if expected.next_at is not None and age >= expected.next_at - self.watcher.account.asking.floor / 2:
                expected.asks += 1
                expected.asked_at = age

    # -- reading and removing ------------------------------------------------------------------------------------

    async def _read(self, connection: Connection, uids: str, detection: Detection, announced: Instant) -> None:
        mails = await connection.fetch(uids, "BODY.PEEK[HEADER]")
        not_before = self.looked
        for number, mail in enumerate(sorted(mails, key=lambda mail: mail.uid), 1):
            if number % 50 == 0:
                await asyncio.sleep(0)  # parsing takes 0.1 ms each; others' stamps must not wait for thousands
            if mail.uid > self.last or not uids.endswith(":*"):
                await self._judge(connection, mail, detection, announced, not_before)
                self.last = max(self.last, mail.uid)

    async def _judge(
        self, connection: Connection, mail: Fetched, detection: Detection, at: Instant, not_before: Instant | None
    ) -> None:
        watcher, name = self.watcher, self.watcher.account.name
        found = watcher.recognise(mail.content)
        if found is None and watcher.worth_reading(mail.content):
            bodies = await connection.fetch(str(mail.uid), f"BODY.PEEK[]<0.{_BODY_LIMIT}>")
            found = next((watcher.recognise(body.content) for body in bodies if body.uid == mail.uid), None)
        if isinstance(found, Refused):
            watcher.sink.unrecognised(name, found.reason)
        elif isinstance(found, Recognised):
            place = Place(name, self.watched.name, self.uidvalidity, mail.uid)
            self.unsettled[mail.uid] = found.removable, not_before
            self.settling = 0
            arrived = Arrived(
                found.token.probe, at, place, self.watched.placement, detection, not_before, mail.internal_date
            )
            watcher._seen(arrived, found.token.route)
            watcher.recorder.arrived(arrived)

    def settle(self, place: Place) -> None:
        """See Watcher.settle. A place of another UIDVALIDITY is not ours to touch."""
        ours = place.account == self.watcher.account.name and place.uidvalidity == self.uidvalidity
        if not ours or place.uid not in self.unsettled:
            return
        if self.unsettled[place.uid][0] and not self.watcher.account.keep_mails:
            self.removable.add(place.uid)
        else:
            del self.unsettled[place.uid]
        self.wake.set()

    async def _remove(self, connection: Connection) -> None:
        """Remove what is settled. Without UIDPLUS an EXPUNGE could take others' mails along: mark as read and leave."""
        if not self.removable or not self._may_remove():
            return
        uids = sorted(self.removable)
        try:
            if connection.can_expunge:
                await connection.mark(uids, ["\\Deleted"])
                await connection.expunge(uids)
            else:
                await connection.mark(uids, ["\\Seen"])
        except (
            CommandRefused
        ) as error:  # read-only, or over quota; the measurement goes on, the next session tries again
            self.refused = self.watcher.clock()
            self.watcher.sink.note(
                self.watcher.account.name, f"cannot remove test mails from {self.watched.name}: {error}"
            )
            return
        for uid in uids:
            self.unsettled.pop(uid, None)
        self.removable.difference_update(uids)  # others may have been settled meanwhile
        self.watcher.sink.removed(self.watcher.account.name, len(uids))

    def _may_remove(self) -> bool:
        return self.refused is None or elapsed(self.refused, self.watcher.clock()) > _REMOVE_AGAIN

    def _note(self, now: Instant) -> None:
        """Report how far the folder was read, now and then: a restart looks again from there."""
        uid, looked = self.last, self.looked
        if self.unsettled:
            uid = min(self.unsettled) - 1
            looked = self.unsettled[uid + 1][1]
        if looked is None:
            return
        cursor = Cursor(self.watcher.account.name, self.watched.name, self.uidvalidity, uid, looked)
        self.watcher.cursors[self.watched.name] = cursor
        if self.noted is None or elapsed(self.noted, now) >= _CURSOR_EVERY:
            self.noted = now
            self.watcher.recorder.read_up_to(cursor)


async def _all_or_none(jobs: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run them until one fails; end the others, and raise its error.

    Not a TaskGroup: Python 3.11's loses a cancel that comes while it ends the others.
    """
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ended = asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.shield(ended)
    for task in done:
        task.result()


def _label(error: BaseException) -> str:
    if isinstance(error, AuthRefused):
        return "auth_refused"
    if isinstance(error, CommandRefused):
        return "refused"
    return error.reason if isinstance(error, Lost | Unreachable) else "error"
