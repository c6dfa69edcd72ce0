"""Others' mail is sacred: whatever a server says and other clients do, nothing but our own probes' mail is touched.

Rule: what was done to a mail is asked of the server (`FakeImap.harm`), never of us.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.clock import now
from probe.core.events import Accepted, Arrived, Bounced, Cursor, Event, Instant, Notified, Sending, Vanished
from probe.core.match import UNRECOGNISED
from probe.core.message import Mail as Provenance
from probe.core.message import compose
from probe.core.outcome import Outcome, Sink
from probe.core.state import Probe
from probe.core.token import Token, mint_envelope_id
from probe.recorder import Recorder

from .fake_imap import CAPABILITIES, FakeImap, Mail, Session
from .make import OK, ROOT, make_route
from .watching import (
    BARE,
    FOREIGN,
    KEY,
    LIMIT,
    OWN,
    REPLY,
    SENDER,
    Book,
    Scene,
    attached,
    cursor,
    ours,
    probe_id,
    stripped,
    token_of,
    touched,
    turns,
    until,
    watching,
)

DELETED = b"\\Deleted"


def bounce(number: int) -> bytes:
    """What Postfix writes when the probe cannot be delivered."""
    raw = (ROOT / "tests/data/dsn/postfix-failed.eml").read_bytes().replace(b"\n", b"\r\n")
    envid = mint_envelope_id(KEY, probe_id(number)).encode()
    return raw.replace(b"@TOKEN@", token_of(ours(number))).replace(b"@ENVID@", envid)


def once_within(fake: FakeImap, command: bytes, do: object) -> None:
    """At the next answer to this command, after it has taken effect and before its OK."""
    assert callable(do)

    def before_done(session: Session) -> None:
        if session.command == command:
            fake.before_done = lambda session: None
            do()

    fake.before_done = before_done


def lazy(fake: FakeImap) -> None:
    """From now on the server tells no news."""
    fake.idle_lag, fake.tellers = None, frozenset()


def harmed(fake: FakeImap) -> list[int]:
    """UIDs of the mails to which something was done."""
    return sorted({mail.uid for _, mail in fake.harm})


def unharmed(fake: FakeImap, mail: Mail) -> bool:
    return all(other is not mail for _, other in fake.harm) and mail in fake.folders["INBOX"].mails.values()


async def seen(scene: Scene, *numbers: int) -> None:
    """These probes come, are reported, and the watcher listens again."""
    scene.fake.append_all(map(ours, numbers))
    await until(lambda: set(numbers) <= set(scene.book.probes))
    await scene.listening()


def settle(scene: Scene, *numbers: int) -> None:
    for number in numbers:
        for place in scene.book.places(number):
            scene.book.settle(place)


# ---------------------------------------------------------------- others take our mail away


async def test_a_copy_that_went_before_its_removal_is_reported_once_and_harms_nothing_else() -> None:
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        fake.append(FOREIGN)
        await seen(scene, 1, 2)
        lazy(fake)
        fake.remove(2)
        settle(scene, 1, 2)
        await until(lambda: scene.told.removals == [1])
        await turns()
        assert scene.left() == [1]
        assert harmed(fake) == [3]
        [vanished] = scene.book.others
        assert isinstance(vanished, Vanished)
        assert vanished.probe == probe_id(1)
        assert {vanished.place} == scene.book.places(1)


async def test_a_copy_whose_going_was_told_is_reported_once_and_not_asked_for() -> None:
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        await seen(scene, 1)
        fake.remove(1)
        settle(scene, 1)
        await until(lambda: scene.book.others)
        await turns()
        assert [type(event) for event in scene.book.others] == [Vanished]
        assert not touched(fake)
        assert scene.told.reasons == []


# ---------------------------------------------------------------- another mail lies where ours did


@pytest.mark.parametrize(
    "other",
    [FOREIGN, ours(2), stripped(ours(1)), ours(1).replace(SENDER.encode(), b"aunt@example.net")],
    ids=["foreign", "another probe", "only its body", "a replay"],
)
async def test_what_lies_under_a_reused_uid_is_never_touched(other: bytes) -> None:
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        await seen(scene, 1)
        mail = fake.reuse(1, other)
        await scene.listening()
        settle(scene, 1)
        await until(lambda: scene.told.reasons == ["uid_reused"])
        await turns()
        assert not touched(fake)
        assert unharmed(fake, mail)
        fake.append(FOREIGN)
        await until(lambda: scene.watcher.cursors["INBOX"].uid == 2)


async def test_a_mail_that_lost_its_token_from_the_header_is_opened_and_left() -> None:
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        await seen(scene, 1)
        assert not scene.count(b"BODY.PEEK[]")
        fake.reuse(1, stripped(ours(1)))
        settle(scene, 1)
        await until(lambda: scene.told.reasons)
        assert scene.count(b"BODY.PEEK[]") == 1
        assert not touched(fake)


async def test_after_any_expunge_the_mail_is_read_again_and_then_removed() -> None:
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        fake.append(FOREIGN)
        await seen(scene, 1)
        reads = scene.count(b"UID FETCH 2 ")
        fake.remove(1)
        settle(scene, 1)
        await until(lambda: scene.left() == [])
        assert scene.count(b"UID FETCH 2 ") == reads + 1
        assert scene.told.reasons == []


@pytest.mark.parametrize(("later", "reads"), [(50.0, 0), (70.0, 1)])
async def test_what_was_read_a_minute_ago_is_read_again(later: float, reads: int) -> None:
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        await seen(scene, 1)
        before = scene.count(b"UID FETCH 1 ")
        scene.clock.skipped = later
        settle(scene, 1)
        await until(lambda: scene.left() == [])
        assert scene.count(b"UID FETCH 1 ") == before + reads


async def test_a_mail_that_goes_while_it_is_read_first_is_read_again() -> None:
    """EXPUNGE may come in the answer to UID FETCH, after the mail's header."""
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        mails: list[Mail] = []
        once_within(fake, b"UID_FETCH", lambda: mails.append(fake.reuse(1, FOREIGN)))
        await seen(scene, 1)
        assert mails
        settle(scene, 1)
        await until(lambda: scene.told.reasons == ["uid_reused"])
        assert unharmed(fake, mails[0])


async def test_a_mail_that_goes_while_it_is_read_again_is_read_once_more() -> None:
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        fake.append(FOREIGN)
        await seen(scene, 1)
        mails: list[Mail] = []
        once_within(fake, b"UID_FETCH", lambda: mails.append(fake.reuse(2, FOREIGN)))
        fake.remove(1)
        settle(scene, 1)
        await until(lambda: scene.told.reasons == ["uid_reused"])
        assert unharmed(fake, mails[0])


async def test_a_mail_that_goes_once_it_is_marked_is_read_again_before_it_is_removed() -> None:
    """Its successor is marked as deleted by somebody else, and UID EXPUNGE would take it."""
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        await seen(scene, 1)
        mails: list[Mail] = []

        def reuse() -> None:
            mails.append(fake.reuse(1, FOREIGN))
            mails[0].flags.add(DELETED)

        once_within(fake, b"UID_STORE", reuse)
        settle(scene, 1)
        await until(lambda: scene.told.reasons == ["uid_reused"])
        assert unharmed(fake, mails[0])


async def test_a_mail_that_was_gone_when_it_was_to_be_marked_is_not_removed_either() -> None:
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        await seen(scene, 1, 2)
        lazy(fake)
        fake.remove(1)

        def come_back() -> None:
            fake.folders["INBOX"].mails = {1: mail, **fake.folders["INBOX"].mails}

        mail = Mail(1, FOREIGN, 0.0, {DELETED})
        once_within(fake, b"UID_FETCH", come_back)  # that asks whether it is there
        settle(scene, 1, 2)
        await until(lambda: scene.left() == [1])
        assert unharmed(fake, mail)


async def test_what_is_settled_while_others_are_read_again_is_read_again_too() -> None:
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        fake.append(FOREIGN)
        await seen(scene, 1, 2)
        fake.remove(1)
        mail = fake.reuse(3, FOREIGN)
        await scene.listening()
        once_within(fake, b"UID_FETCH", lambda: settle(scene, 2))
        settle(scene, 1)
        await until(lambda: scene.told.reasons == ["uid_reused"])
        await until(lambda: scene.told.removals == [1])
        assert unharmed(fake, mail)


async def test_an_answer_about_another_mail_s_flags_is_not_taken_for_one_of_ours() -> None:
    """Else the EXPUNGE of a mail of somebody else's, in the same moment, would be taken for one of ours."""
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        fake.append(FOREIGN)
        await seen(scene, 1, 2)
        mails: list[Mail] = []

        def another_client() -> None:
            fake.inbox().send(b"* 1 FETCH (UID 1 FLAGS (\\Seen))")
            once_within(fake, b"UID_EXPUNGE", lambda: mails.append(fake.reuse(3, FOREIGN)))

        once_within(fake, b"UID_STORE", another_client)
        settle(scene, 1)
        await until(lambda: scene.told.removals == [1])
        await scene.listening()
        settle(scene, 2)
        await until(lambda: scene.told.reasons == ["uid_reused"])
        assert unharmed(fake, mails[0])


async def test_a_folder_that_shrinks_without_a_word_is_as_one_that_told() -> None:
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        fake.append(FOREIGN)
        await seen(scene, 1)
        fake.inbox().send(b"* 1 EXISTS", b"* 2 EXISTS")
        mail = Mail(2, FOREIGN, 0.0)
        fake.folders["INBOX"].mails[2] = mail
        await turns()
        settle(scene, 1)
        await until(lambda: scene.told.reasons == ["uid_reused"])
        assert unharmed(fake, mail)


# ---------------------------------------------------------------- asked to look


async def test_looking_asks_every_folder_although_nothing_is_expected() -> None:
    async with FakeImap() as fake, watching(fake) as scene:
        await scene.listening("Junk")
        lazy(fake)
        fake.tellers = frozenset({b"NOOP"})
        await turns()
        assert scene.told.asks == 0
        fake.append(ours(1))
        fake.append(ours(2), "Junk")
        asked = now()
        scene.watcher.look()
        await until(lambda: sorted(scene.book.probes) == [1, 2])
        assert scene.told.asks == scene.count(b" NOOP") == 2
        assert {arrived.detection for arrived in scene.book.arrivals} == {"poll"}
        await until(lambda: scene.watcher.looked and scene.watcher.looked.boot >= asked.boot)
        await scene.listening()
        await scene.listening("Junk")
        assert scene.told.asks == 2


@pytest.mark.parametrize(("seconds", "detection"), [(1.0, "poll"), (3.0, "catch-up")])
async def test_an_answer_that_took_long_says_little_about_when_a_mail_came(seconds: float, detection: str) -> None:
    async with FakeImap() as fake, watching(fake, folders=("INBOX",)) as scene:
        lazy(fake)
        fake.tellers = frozenset({b"NOOP"})

        def dawdle() -> None:
            scene.clock.skipped += seconds

        once_within(fake, b"NOOP", dawdle)
        fake.append(ours(1))
        scene.watcher.look()
        await until(lambda: scene.book.arrivals)
        assert scene.book.last().detection == detection


# ---------------------------------------------------------------- what is only read


async def test_a_bounce_is_reported_never_touched_and_read_again_until_it_is_on_record() -> None:
    async with FakeImap() as fake, watching(fake, settled=False, cursors=[cursor(0)]) as scene:
        fake.append_all([FOREIGN, bounce(7), FOREIGN])
        await until(lambda: scene.book.others)
        await scene.listening()
        [event] = scene.book.others
        assert isinstance(event, Bounced)
        assert event.probe == probe_id(7)
        assert scene.watcher.cursors["INBOX"].uid == 1
        scene.clock.skipped = 70.0
        fake.close()
        await scene.up(2)
        await scene.listening()
        assert [it.place for it in scene.book.others] == [event.place] * 2
        scene.watcher.settle(event.place, False)
        await until(lambda: scene.watcher.cursors["INBOX"].uid == 3)
        await turns()
        assert fake.harm == []
        assert not touched(fake)


async def test_a_bounce_that_is_said_to_be_ours_is_not_touched_either() -> None:
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        fake.append(bounce(7))
        await until(lambda: scene.book.others)
        scene.watcher.settle(scene.book.others[0].place, True)
        await until(lambda: scene.watcher.cursors["INBOX"].uid == 1)
        assert not touched(fake)


HUMAN = {
    "letter": FOREIGN,
    "reply": REPLY.replace(b"%b", token_of(ours(1))),
    "quote": b"From: aunt@example.net\r\nSubject: what?\r\n\r\n" + token_of(ours(1)) + b"\r\n",
    "attached": attached(ours(1)),
    "attached bounce": attached(bounce(1), subject=b"Undelivered Mail Returned to Sender"),
    "empty path": b"Return-Path: <>\r\nFrom: aunt@example.net\r\nSubject: Out of office\r\n\r\nSunday?\r\n",
}


@pytest.mark.parametrize("mail", HUMAN.values(), ids=HUMAN)
async def test_a_letter_is_not_opened(mail: bytes) -> None:
    async with FakeImap() as fake, watching(fake) as scene:
        fake.append_all([mail, ours(2)])
        await until(lambda: scene.left() == [1])
        assert not scene.count(b"BODY.PEEK[]")
        assert scene.book.probes == [2]
        assert scene.book.others == []
        assert harmed(fake) == [2]


# ---------------------------------------------------------------- whatever happens

ELSEWHERE = "somebody@example.org"
REASONS = {"forged": "forged", "other key": "forged", "reply": "reply", "forward": "foreign_sender",
           "unknown": "foreign", "elsewhere": "elsewhere", "replay": "replayed"}  # fmt: skip
QUIET = ("letter", "attached", "bounce", "gateway")  # mails that are not ours to touch and are not counted
FOREIGNERS = (*REASONS, *QUIET)
BY_OTHERS = ("expunge", "flag", "move", "copy")
LIES = ("reuse", "restore")
MOMENTS = ("UID_FETCH", "UID_STORE", "UID_EXPUNGE", "DONE")

OURSELVES = ("ours", "ours", "ours", "pause", "pause", "record", "record", "look", "minute", "cut", "ghost")
what = st.one_of(*map(st.sampled_from, [OURSELVES, OURSELVES, FOREIGNERS, [*BY_OTHERS, *LIES, *LIES]]))
Deed = tuple[str, int, str]
deeds = st.lists(
    st.tuples(what, st.integers(0, 99), st.sampled_from(["now", "now", "now", *MOMENTS])), min_size=20, max_size=60
)


def raw_of(kind: str, number: int) -> bytes:
    """A mail of this kind, about probe number so and so."""
    raw, token = ours(number), token_of(ours(number))
    match kind:
        case "letter":
            return FOREIGN
        case "forged":
            return raw.replace(token[-22:], b"A" * 22)
        case "other key":
            return compose(b"o" * 32, Token(probe_id(number), "r", 1.0, 1.0), Provenance(SENDER, OWN))
        case "reply":
            return REPLY.replace(b"%b", token)
        case "forward":
            return attached(raw, subject=b"Fwd: mailprobe test mail " + token)
        case "attached":
            return attached(raw)
        case "replay":
            return raw.replace(b"From: " + SENDER.encode(), b"From: mallory@example.net")
        case "bounce":
            return bounce(number)
        case "gateway":
            return stripped(raw)
    return raw


async def rounds(number: int) -> None:
    """So many rounds of the loop, of which a command and its answer take some five."""
    for _ in range(number):
        await asyncio.sleep(0)


class Disk:
    """A ledger without a disk."""

    def __init__(self) -> None:
        self.probes: dict[str, Probe] = {}

    async def commit(
        self, events: Sequence[Event], probes: Iterable[Probe], cursors: Collection[Cursor], finished: Collection[str]
    ) -> None:
        self.probes.update({probe.id: probe for probe in probes})

    async def find(self, probe: str) -> Probe | None:
        return self.probes.get(probe)


class World(Book, Sink):
    """The mailbox in whose server and other clients hypothesis dwells, and the real recorder behind the watcher."""

    def __init__(self, fake: FakeImap) -> None:
        super().__init__(automatic=False)
        self.fake, self.disk = fake, Disk()
        self.recorder = Recorder(self.disk, now, lambda: {"r": make_route()}, self, self, LookupError)
        self.kinds: dict[bytes, str] = {}
        self.expected: Counter[bytes] = Counter()  # foreign mails that must be there
        self.sent: list[int] = []
        self.probe_of: dict[bytes, str] = {}
        self.taken: set[str] = set()  # probes of which somebody else took a copy
        self.unread: set[Mail] = set()  # mails under UIDs that were read already
        self.renumbered = False
        self.armed: list[Deed] = []
        self.reasons: Counter[str] = Counter()

    # -- the recorder's eyes and its listener

    def report(self, event: Arrived | Vanished | Bounced | Notified) -> None:
        super().report(event)
        self.recorder.put(event)

    def address(self, account: str) -> str | None:
        return OWN

    def looked(self, address: str) -> Instant | None:
        return None

    def look(self, address: str) -> None:
        pass

    def settle(self, event: Arrived | Bounced | Notified, ours: bool) -> None:  # type: ignore[override]
        assert self.watcher
        self.watcher.settle(event.place, ours)

    def observe(self, outcome: Outcome) -> None:
        if outcome.verdict in UNRECOGNISED:
            self.reasons[str(outcome.verdict)] += 1

    # -- what may happen

    async def do(self, deed: Deed) -> None:
        """Now, or at the moment that it names."""
        name, number, moment = deed
        folder = "Junk" if number % 3 == 0 else "INBOX"
        if name == "pause":
            await rounds(number)
        elif name == "record":
            await self.recorder.drain()
        elif moment != "now" or (name in LIES and not self.idle(folder)):
            self.armed.append(deed)
            if moment == "now":
                assert self.watcher
                self.watcher.look()  # the answer tells it
        else:
            self.act(name, number, folder)

    def idle(self, folder: str) -> bool:
        """Whether everybody who has this folder open hears of it before he can send his next command."""
        sessions = [session for session in self.fake.sessions if session.folder is self.fake.folders[folder]]
        return all(session.idle_tag or session.writer.is_closing() for session in sessions)

    async def before(self, tag: bytes, command: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
        """A command has come and nothing is done yet: time for what is lawful at any time."""
        name = f"UID_{args.split()[0].decode()}" if command == b"UID" else command.decode()
        session = next(session for session in self.fake.sessions if session.writer is writer)
        self.due(name, session, lambda deed: deed[0] not in LIES and deed[1] % 2 == 0)
        return writer.is_closing()

    def within(self, session: Session) -> None:
        """It has taken effect, and OK is to come: nobody can be surprised now who listens."""
        self.due(session.command.decode(), session, lambda deed: True)

    def due(self, command: str, session: Session, now_is_the_time: Callable[[Deed], bool]) -> None:
        folder = next((name for name, box in self.fake.folders.items() if box is session.folder), None)
        for deed in self.armed[:]:
            if folder and deed[2] in ("now", command) and now_is_the_time(deed):
                self.armed.remove(deed)
                self.act(deed[0], deed[1], folder)

    def act(self, name: str, number: int, folder: str) -> None:
        fake, box = self.fake, self.fake.folders[folder]
        mine = [uid for uid, mail in box.mails.items() if self.kinds[mail.raw] == "ours"]
        uids = mine if mine and number % 4 else list(box.mails)
        uid = uids[number % len(uids)] if uids else 0
        if name == "ours":
            number = self.send(OWN)
            raw = ours(number)
            self.kinds[raw], self.probe_of[raw] = name, probe_id(number)
            fake.append(raw, folder)
        elif name in FOREIGNERS:
            fake.append(self.known(name, number), folder)
        elif name == "cut":
            for session in fake.sessions[-1 - number % 2 :]:
                session.writer.transport.abort()
        elif name == "look":
            assert self.watcher
            self.watcher.look()
        elif name == "minute":
            self.skip(61.0)
        elif name in ("restore", "ghost"):
            fake.recreate(folder, tell=name == "restore")
            self.renumbered = True
        elif uid:
            self.meddle(name, number, folder, uid)

    def meddle(self, name: str, number: int, folder: str, uid: int) -> None:
        """Another client, or a server that counts wrongly, lays hands on a mail."""
        fake, mail = self.fake, self.fake.folders[folder].mails[uid]
        match name:
            case "flag":
                mail.flags.add(DELETED if number % 2 else b"\\Flagged")
            case "copy" | "move" if self.kinds[mail.raw] == "ours":
                fake.append(mail.raw, "INBOX" if folder == "Junk" else "Junk")
                if name == "move":
                    fake.remove(uid, folder)
            case "expunge" | "move" | "reuse":
                if self.kinds[mail.raw] == "ours":
                    self.taken.add(self.probe_of[mail.raw])
                else:
                    self.expected[mail.raw] -= 1
                if name == "reuse":
                    other = fake.reuse(uid, self.known(FOREIGNERS[number % len(FOREIGNERS)], number), folder)
                    other.flags |= {DELETED} if number % 2 else set()
                    self.unread.add(other)
                else:
                    fake.remove(uid, folder)

    def skip(self, seconds: float) -> None:
        """Set by the test: the watcher's clock."""

    def send(self, recipient: str) -> int:
        number = len(self.sent)
        self.sent.append(number)
        at = now()
        self.recorder.put(Sending(probe_id(number), at, "r", at, SENDER, recipient))
        self.recorder.put(Accepted(probe_id(number), at, OK))
        return number

    def known(self, kind: str, number: int) -> bytes:
        """A mail that is not ours to touch, from now on expected to be there."""
        arrived = [int(name, 16) for name, probe in self.disk.probes.items() if probe.places]
        if kind == "replay" and not arrived:
            kind = "letter"
        if kind == "elsewhere":
            number = self.send(ELSEWHERE)
        elif kind == "unknown":
            number += 10_000
        elif kind == "replay":
            number = arrived[number % len(arrived)]
        elif self.sent:
            number = self.sent[number % len(self.sent)]
        raw = raw_of(kind, number)
        self.kinds[raw] = kind
        self.expected[raw] += 1
        return raw

    # -- what must hold

    def lying(self) -> list[Mail]:
        return [mail for box in self.fake.folders.values() for mail in box.mails.values()]

    def only_ours_were_touched(self) -> None:
        for action, mail in self.fake.harm:
            assert self.kinds[mail.raw] == "ours", f"{action!r} for a mail that is {self.kinds[mail.raw]}"
            assert self.disk.probes[self.probe_of[mail.raw]].places, "touched, and not on record"
        assert Counter(mail.raw for mail in self.lying() if self.kinds[mail.raw] != "ours") == +self.expected

    def settled(self, scene: Scene) -> bool:
        """Whether all of ours are removed (without UIDPLUS: marked as read), and what is to be counted is."""
        lying = [mail for mail in self.lying() if mail not in self.unread]
        wanted = Counter(REASONS[kind] for kind in (self.kinds[mail.raw] for mail in lying) if kind in REASONS)
        if self.renumbered:  # who knows whether these are the copies that were seen before
            del wanted["replayed"]
        left = [mail.flags for mail in lying if self.kinds[mail.raw] == "ours"]
        if self.fake.capabilities == BARE:
            left = [flags for flags in left if b"\\Seen" not in flags]
        return not left and wanted <= self.reasons + Counter(scene.told.reasons)


@settings(max_examples=120, deadline=None)
@given(deeds, st.sampled_from([CAPABILITIES, CAPABILITIES, BARE]))
def test_whatever_happens_nothing_but_our_own_probes_is_touched(deeds: list[Deed], capabilities: bytes) -> None:
    asyncio.run(_whatever_happens(deeds, capabilities))


async def _whatever_happens(deeds: list[Deed], capabilities: bytes) -> None:
    async with FakeImap(capabilities=capabilities) as fake:
        world = World(fake)
        async with watching(fake, book=world) as scene:
            world.skip = lambda seconds: setattr(scene.clock, "skipped", scene.clock.skipped + seconds)  # type: ignore[method-assign]
            fake.handler, fake.before_done = world.before, world.within
            for deed in deeds:
                await world.do(deed)
                world.only_ours_were_touched()
            for _ in range(3):
                await world.recorder.drain()
                await rounds(100)
            world.armed.clear()
            for session in fake.sessions:  # also out of folders that are ghosts
                session.writer.transport.abort()
            async with asyncio.timeout(LIMIT):
                await world.recorder.drain()
                while not world.settled(scene):
                    await asyncio.sleep(0.001)
                    await world.recorder.drain()
            world.only_ours_were_touched()
            for number in world.sent:
                probe = world.disk.probes[probe_id(number)]
                if probe.recipient == OWN and probe.id not in world.taken:
                    assert probe.places, "a probe was never reported"
