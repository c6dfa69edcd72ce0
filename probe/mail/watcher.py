"""The way back in: one mailbox, watched for good: log in, find its folders, watch them all, reconnect.

Rules:
- The watcher reports and obeys; it decides nothing. What an arrival means is the recorder's business.
- The mailbox is one thing: when the connection of one of its folders fails, all reconnect, so "up" means all of it.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any

from probe.core.asking import Usual
from probe.core.events import Arrived, Cursor, Instant, Place, elapsed
from probe.core.outcome import Sink
from probe.core.progress import Work
from probe.core.schedule import backoff
from probe.core.settings import Account
from probe.mail.folder import RELISTEN, FolderWatch, Recognise, Recorder
from probe.mail.folders import INBOX, choose
from probe.mail.imap import Connection, Lost, Refused
from probe.mail.net import Unreachable
from probe.mail.oauth import NoToken, Tokens

_RETRY = 2.0, 300.0  # seconds before the first and at most before later attempts after a connection failed
_RETRY_LOGIN = 120.0, 3600.0  # the same after a refused log-in: repeated quickly, it would lock the account
_WELL = 30.0  # seconds of watching after which a loss is a new trouble and not the old one
_COMMANDS = 4  # each with its time limit, between two steps of a folder at most
_REMEMBERED = 1000  # arrivals that are remembered, lest a probe be asked for that was here before its 250


class Watcher:
    """Watches one account's mailbox. `run` never returns; cancel it.

    `recognise` says what a mail is, `worth_reading` whether a header without token is worth fetching the body for.
    `cursors` are how far each folder was read before; `backlog_since` (Unix time) is the start of the oldest open
    probe, from which to look where no cursor helps. `tokens` are for an account with oauth.
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
        tokens: Tokens | None = None,
    ) -> None:
        self.account = account
        self.tokens = tokens
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
        self._sessions = 0
        self._pausing = False
        self._recent: dict[str, None] = {}  # probes that have arrived
        self._usual: defaultdict[str, Usual] = defaultdict(Usual)
        self._lands_in: dict[str, str] = {}  # route → folder of its last arrival
        self._folders: dict[str, FolderWatch] = {}
        self._caught_up: set[str] = set()

    async def run(self) -> None:
        """Sessions one after the other, with growing delays after failures. Only cancelling ends it."""
        delays = self._delays()
        while True:
            self._sessions, self._pausing = self._sessions + 1, False
            try:
                await self._session()
            except (Lost, Refused, Unreachable, NoToken) as error:
                was_well = self.up_since is not None and elapsed(self.up_since, self.clock()) > _WELL
                if was_well:
                    delays = self._delays()
                for_good = error.for_good if isinstance(error, NoToken) else error.reason == "auth_refused"
                delay = next(delays[for_good])
                self.sink.mailbox_down(self.account.name, error.reason, str(error), delay)
            finally:
                self.up_since = None
                self.attempted.set()
            self._pausing = True
            await asyncio.sleep(delay)

    def works(self) -> Iterator[Work]:
        """What it is at: each folder of its session, or finding out which there are."""
        patience = RELISTEN + _COMMANDS * self.timeout
        yield Work(self.account.name, self._sessions, self._pausing or bool(self._folders), patience)
        for name, folder in self._folders.items():
            # A session that begins anew is a step, too: what a server says of a folder ends with it.
            steps = self._sessions + folder.steps
            yield Work(f"{self.account.name} {name}", steps, self._pausing, patience)

    def _delays(self) -> dict[bool, Iterator[float]]:
        """Pauses before the next attempt, by whether the log-in was refused: each kind grows by itself."""
        return {False: backoff(self.rng, *_RETRY), True: backoff(self.rng, *_RETRY_LOGIN)}

    @property
    def up(self) -> bool:
        """Whether the whole mailbox is being watched."""
        return self.up_since is not None

    def expect(self, probe: str, route: str, since: Instant) -> None:
        """A probe was accepted: ask for it, in the folder where its route's last mail came."""
        self.may_come(since)
        if probe in self._recent:
            self._usual[route].learn(0.0, 0, self.account.asking.floor)
            return
        folder = self._folders.get(self._lands_in.get(route, INBOX.name)) or self._folders.get(INBOX.name)
        if folder:
            folder.expect(probe, route, since, self._usual[route])

    @property
    def looked(self) -> Instant | None:
        """The last moment at which the whole mailbox held nothing that was not reported; None: it is not watched."""
        found = [folder.looked for folder in self._folders.values()]
        known = [looked for looked in found if looked]
        return min(known, key=lambda looked: looked.boot) if self.up and len(known) == len(found) else None

    def look(self) -> None:
        """Ask every folder for news now, although nobody may be expected."""
        for folder in self._folders.values():
            folder.look()

    @property
    def last_contact(self) -> Instant | None:
        """When the server last sent a byte in this session; None outside of one."""
        found = [folder.connection.last_contact for folder in self._folders.values() if folder.connection]
        return max(found, default=None)

    def may_come(self, since: Instant) -> None:
        """A probe is being sent: from this instant on its mail may come, even before its 250."""
        if self.backlog_since is None:
            self.backlog_since = since.wall

    def settle(self, place: Place, ours: bool) -> None:
        """The arrival at this place is on record: its mail may go. Or it is not `ours`: its mail is left alone."""
        folder = self._folders.get(place.folder)
        if folder:
            folder.settle(place, ours)

    async def _session(self) -> None:
        assert self.account.imap is not None
        self._folders.clear()
        self._caught_up.clear()
        async with await self.log_in() as leader:
            watched = choose(await leader.list_folders(), self.account.folders)
            names = {folder.name for folder in watched}
            for missing in {name for name in self.account.folders if name.upper() != "INBOX"} - names:
                self.sink.note(self.account.name, f"has no folder {missing!r}; it is not watched")
            self._folders.update({folder.name: FolderWatch(self, folder) for folder in watched})
            await _all_or_none(
                folder.run(leader if folder.watched is INBOX else None) for folder in self._folders.values()
            )

    async def log_in(self) -> Connection:
        """A connection that has logged in. Raises ImapError, Unreachable, NoToken."""
        assert self.account.imap is not None
        # Before there is a connection that would wait for it
        token = await self.tokens.get() if self.tokens else None
        connection = await Connection.open(self.account.imap, clock=self.clock, timeout=self.timeout)
        try:
            if token:
                await connection.show_token(self.account.username, token)
            else:
                assert self.account.password is not None
                await connection.login(self.account.username, self.account.password)
        except BaseException as error:
            connection.abort()
            if self.tokens and token and isinstance(error, Refused) and error.reason == "auth_refused":
                self.tokens.refused(token)
            raise
        if connection.certificate_not_after:
            self.sink.certificate(self.account.name, "imap", connection.certificate_not_after)
        return connection

    # -- told by the folders -------------------------------------------------------------------------------------

    def caught_up(self, folder: str) -> None:
        """A folder's backlog has been reported; when all are, the mailbox is up."""
        self._caught_up.add(folder)
        if not self.up and self._caught_up >= self._folders.keys():
            self.up_since = self.clock()
            self.attempted.set()
            self.sink.mailbox_up(self.account.name)

    def seen(self, arrived: Arrived, route: str) -> None:
        """An arrival ends the asking for its probe, and teaches when to ask for the next."""
        self._lands_in[route] = arrived.place.folder
        self._recent[arrived.probe] = None
        if len(self._recent) > _REMEMBERED:
            del self._recent[next(iter(self._recent))]
        for folder in self._folders.values():
            folder.arrived(arrived)


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
