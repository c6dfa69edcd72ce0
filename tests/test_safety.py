"""Others' mail is sacred: whatever a server says and other clients do, nothing but our own probes' mail is touched.

Rule: what was done to a mail is asked of the server (`FakeImap.harm`), never of us.
"""

from __future__ import annotations

import pytest

from probe.clock import now
from probe.core.events import Bounced, Vanished
from probe.core.token import mint_envelope_id

from .fake_imap import FakeImap, Mail, Session
from .make import ROOT
from .watching import (
    FOREIGN,
    KEY,
    REPLY,
    SENDER,
    Scene,
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


def attached(raw: bytes, sender: bytes = b"aunt@example.net", subject: bytes = b"Fwd: look") -> bytes:
    """Somebody sends our mail on as an attachment."""
    return (
        b"From: " + sender + b"\r\nSubject: " + subject + b"\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nWhat is that?\r\n'
        b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + raw + b"\r\n--b--\r\n"
    )


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
