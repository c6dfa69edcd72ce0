"""The way back in, watched against a scripted mailbox: what is read, what is reported, what is removed, what never is.

Rules: nothing here waits for time to pass but for what is measured in time, and then for fractions of a second; every
watched mailbox is checked at its end for a command that could have harmed somebody's mail.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import re
from collections.abc import Callable, Iterator

import pytest

from probe.clock import now
from probe.core import asking
from probe.core.events import Instant, Place, elapsed
from probe.core.message import HEADER, recognise
from probe.core.settings import Asking
from probe.mail import folder as folder_module

from . import watching as watching_module
from .fake_imap import CAPABILITIES, FakeImap, Folder
from .watching import (
    BARE,
    DEAF,
    FASTER,
    FOREIGN,
    KEY,
    LIMIT,
    REPLY,
    SENDER,
    SENDERS,
    Scene,
    cursor,
    noops,
    once,
    ours,
    probe_id,
    refusing,
    silent_idle,
    stripped,
    token_of,
    touched,
    turns,
    unreachable,
    until,
    watching,
)

# ---------------------------------------------------------------- the first look


async def test_a_first_start_with_nothing_expected_reads_nobody_s_mail() -> None:
    async with FakeImap() as fake:
        fake.append_all([FOREIGN] * 3)
        fake.append(ours(1))
        async with watching(fake) as scene:
            await turns()
            assert not scene.count(b"FETCH")
            assert not scene.count(b"SEARCH")
            assert not touched(fake)
            assert {(made.folder, made.uid) for made in scene.book.cursors} == {("INBOX", 4), ("Junk", 0)}
        assert scene.left() == [1, 2, 3, 4]
        assert scene.book.arrivals == []


async def test_a_first_start_with_an_open_probe_looks_for_it_by_date() -> None:
    async with FakeImap() as fake:
        fake.append(ours(1), stored=now().wall - 40 * 86400)
        fake.append(FOREIGN)
        fake.append(ours(2))
        async with watching(fake, backlog_since=now().wall - 3600) as scene:
            await until(lambda: scene.left() == [1, 2])
        assert scene.book.probes == [2]
        assert scene.book.last().detection == "catch-up"
        assert scene.book.last().not_before is None


async def test_a_mail_that_came_before_the_first_session_could_begin_is_reported() -> None:
    """The daemon starts while the mailbox is down; probes go out, and they arrive."""
    async with FakeImap(greeting=b"* BYE not yet\r\n") as fake, watching(fake, wait=False) as scene:
        await until(lambda: scene.told.downs)
        scene.watcher.expect(probe_id(1), "r", now())
        fake.append(ours(1))
        fake.greeting = b"* OK ready\r\n"
        await scene.up()
        await scene.listening()
        await turns()
        assert scene.book.probes == [1]


async def test_a_mail_in_a_junk_folder_that_is_new_is_reported() -> None:
    """Servers make the folder when the first junk mail comes; it holds that very mail."""
    async with FakeImap() as fake:
        junk = fake.folders.pop("Junk")
        async with watching(fake) as scene:
            scene.watcher.expect(probe_id(1), "r", now())
            fake.folders["Junk"] = junk
            fake.append(ours(1), "Junk")
            fake.close()
            await scene.up(2)
            await scene.listening("Junk")
            await turns()
            assert scene.book.probes == [1]


async def test_a_server_without_uidnext_is_read_to_its_newest_mail() -> None:
    async with FakeImap() as fake:
        fake.uidnext = False
        fake.append_all([FOREIGN, ours(1)])
        async with watching(fake) as scene:
            fake.append(ours(2))
            await until(lambda: scene.left() == [1, 2])
            assert scene.book.probes == [2]
            assert scene.book.cursors[0].uid == 2 or scene.book.cursors[1].uid == 2


async def test_without_uidnext_a_mail_that_comes_during_the_first_look_is_not_passed_over() -> None:
    came: list[int] = []

    async def handler(tag: bytes, command: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
        if args.startswith(b"SEARCH") and not came:
            came.append(fake.append(ours(1)))
            fake.inbox().news()
        return False

    async with FakeImap(handler) as fake:
        fake.uidnext = False
        fake.append(FOREIGN)
        async with watching(fake) as scene:
            await turns()
            assert came
            assert scene.book.probes == [1]


# ---------------------------------------------------------------- catching up


async def test_what_came_while_away_is_reported_with_the_cursor_s_look_as_its_earliest_moment() -> None:
    async with FakeImap() as fake:
        fake.append_all([FOREIGN, FOREIGN, ours(1), FOREIGN, ours(2)], stored=now().wall - 30)
        before = cursor(2)
        async with watching(fake, cursors=[before]) as scene:
            await until(lambda: scene.left() == [1, 2, 4])
        assert scene.book.probes == [1, 2]
        for arrived in scene.book.arrivals:
            assert arrived.detection == "catch-up"
            assert arrived.placement == "inbox"
            assert arrived.not_before == before.looked
            assert 0 <= elapsed(arrived.at, now()) < LIMIT
            assert arrived.stored is not None
            assert abs(arrived.stored - (now().wall - 30)) < LIMIT + 1
        assert scene.count(b"FETCH 3:*") == 1


async def test_nothing_new_since_the_cursor_means_nothing_is_fetched() -> None:
    async with FakeImap() as fake:
        fake.append_all([FOREIGN, ours(1)])
        async with watching(fake, cursors=[cursor(2)]) as scene:
            await turns()
        assert not scene.count(b"FETCH")
        assert scene.book.arrivals == []


async def test_many_mails_since_the_cursor_are_read_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "_CHUNK", 10)
    async with FakeImap() as fake:
        fake.append_all([ours(100)] * 5 + [FOREIGN] * 30 + [ours(number) for number in range(30)])
        async with watching(fake, cursors=[cursor(5)]) as scene:
            await until(lambda: len(scene.left()) == 35)
        assert sorted(scene.book.probes) == list(range(30))
        assert scene.count(b"SEARCH") == 1
        assert all(len(line.split(b" ")[3].split(b",")) <= 10 for line in fake.lines if b"UID FETCH" in line)


async def test_the_cursor_never_passes_a_mail_that_is_not_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "_CURSOR_EVERY", 0.0)
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        fake.append(FOREIGN)
        fake.append(ours(1))
        fake.append(FOREIGN)
        fake.append(ours(2))
        await until(lambda: len(scene.book.arrivals) == 2)
        await scene.listening()
        first, second = (arrived.place for arrived in scene.book.arrivals)
        scene.book.settle(second)
        await until(lambda: scene.left() == [1, 2, 3])
        await scene.listening()
        assert {made.uid for made in scene.book.cursors if made.folder == "INBOX"} <= {0, 1}
        assert scene.watcher.cursors["INBOX"].uid == 1
        scene.book.settle(first)
        await until(lambda: scene.left() == [1, 3])
        fake.append(FOREIGN)
        await until(lambda: scene.book.cursors[-1].uid == 5)


async def test_a_cursor_before_an_unsettled_mail_does_not_claim_a_look_after_that_mail_came() -> None:
    """Cursor: `looked` is the last moment at which the folder was known to hold nothing newer than its UID."""
    async with FakeImap() as fake:
        fake.append(ours(1))
        before = cursor(0)
        async with watching(fake, settled=False, cursors=[before]) as scene:
            await until(lambda: scene.watcher.cursors["INBOX"] is not before)
            made = scene.watcher.cursors["INBOX"]
            assert made.uid == 0
            assert made.looked == before.looked


async def test_a_restart_reports_again_what_was_recorded_but_not_removed_and_then_removes_it() -> None:
    async with FakeImap() as fake:
        fake.append(FOREIGN)
        async with watching(fake, settled=False, cursors=[cursor(1)]) as first:
            fake.append(ours(1))
            await until(lambda: first.book.arrivals)
            await first.listening()
            left_off = first.watcher.cursors["INBOX"]
        assert first.left() == [1, 2]
        async with watching(fake, cursors=[left_off]) as second:
            await until(lambda: second.left() == [1])
        assert second.book.places(1) == first.book.places(1) == {Place("own", "INBOX", 1, 2)}


async def test_a_restart_between_store_and_expunge_ends_with_the_mail_removed() -> None:
    handler, fakes = once(b"UID EXPUNGE", lambda fake: fake.reset())
    async with FakeImap(handler) as fake:
        fakes.append(fake)
        fake.append(FOREIGN)
        async with watching(fake, cursors=[cursor(1)]) as scene:
            fake.append(ours(1))
            await until(lambda: scene.left() == [1])
        assert scene.book.places(1) == {Place("own", "INBOX", 1, 2)}


# ---------------------------------------------------------------- UIDVALIDITY


async def test_another_uidvalidity_than_the_cursor_s_means_a_search_by_date_and_no_removal_by_old_uids() -> None:
    async with FakeImap() as fake:
        fake.append(ours(9), stored=now().wall - 40 * 86400)
        fake.append_all([FOREIGN, ours(1)])
        fake.folders["INBOX"].uidvalidity = 2
        async with watching(fake, settled=False, cursors=[cursor(50, uidvalidity=1)]) as scene:
            for uid in (1, 2, 3, 50):
                scene.watcher.settle(Place("own", "INBOX", 1, uid), True)
            fake.append(FOREIGN)
            await until(lambda: scene.count(b"FETCH 4:*"))
            await scene.listening()
            assert scene.count(b"SEARCH SINCE") == 1
            assert not scene.count(b"50")
            assert scene.book.places(1) == {Place("own", "INBOX", 2, 3)}
            assert scene.book.probes == [1]
            assert not touched(fake)
            scene.book.settle(Place("own", "INBOX", 2, 3))
            await until(lambda: scene.left() == [1, 2, 4])


async def test_a_uidvalidity_that_changes_in_mid_session_ends_it_and_nothing_is_removed() -> None:
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        uid = fake.append(ours(1))
        await until(lambda: scene.book.arrivals)
        await scene.listening()
        box = fake.folders["INBOX"]
        box.uidvalidity, box.mails = 2, {}
        box.uidnext = 1
        assert fake.append(FOREIGN) == uid
        scene.book.settle(scene.book.last().place)
        fake.inbox().send(b"* OK [UIDVALIDITY 2] changed")
        await scene.up(2)
        await scene.listening()
        scene.book.settle(scene.book.last().place)
        await turns()
        assert scene.told.downs[0][0] == "protocol_error"
        assert scene.left() == [uid]
        assert box.mails[uid].flags == set()
        assert scene.watcher.cursors["INBOX"].uidvalidity == 2


async def test_another_uidvalidity_does_not_mean_reading_everything_since_the_first_probe_ever() -> None:
    """The cursor's look still says since when there can be something new, whatever the UIDs are now."""
    async with FakeImap() as fake:
        fake.append(ours(9), stored=now().wall - 40 * 86400)
        async with watching(fake, settled=False) as scene:
            scene.watcher.expect(probe_id(1), "r", now().shifted(-60 * 86400))  # long ago, and long delivered
            fake.folders["INBOX"].uidvalidity = 2
            fake.append(ours(10))
            fake.close()
            await scene.up(2)
            await until(lambda: scene.book.probes)
            await turns()
            assert scene.book.places(9) == set()


# ---------------------------------------------------------------- listening and asking


async def test_a_pushed_mail_is_stamped_by_its_first_byte() -> None:
    async with FakeImap() as fake, watching(fake) as scene:
        began = now()
        inbox = fake.inbox()
        folder = fake.folders["INBOX"]
        fake.tellers = frozenset()
        fake.idle_lag = None
        fake.append(ours(1))
        inbox.view = list(folder.mails)
        inbox.writer.write(b"* 1 EX")
        await turns()
        middle = now()
        inbox.writer.write(b"ISTS\r\n")
        await until(lambda: scene.book.arrivals)
        arrived = scene.book.last()
        assert arrived.detection == "idle"
        assert began.boot <= arrived.at.boot < middle.boot - 0.005
        assert arrived.not_before is not None
        assert arrived.not_before.boot <= began.boot
        assert scene.told.asks == 0


async def test_a_mail_that_idle_keeps_to_itself_is_seen_by_asking() -> None:
    async with FakeImap() as fake, watching(fake, asking=Asking(0.02, 60)) as scene:
        silent_idle(fake)
        since = now()
        scene.watcher.expect(probe_id(1), "r", since)
        await fake.received(b" NOOP", 3)
        came = now()
        fake.append(ours(1))
        await until(lambda: scene.book.arrivals)
        arrived = scene.book.last()
        assert arrived.detection == "poll"
        assert arrived.not_before is not None
        assert arrived.not_before.boot <= came.boot <= arrived.at.boot
        assert arrived.at.boot - arrived.not_before.boot < 0.3
        await until(lambda: scene.left() == [])
        await scene.listening()
        asks = scene.count(b" NOOP")
        await asyncio.sleep(0.1)
        assert scene.count(b" NOOP") == asks == scene.told.asks


async def test_asking_keeps_its_floor_and_its_budget_and_ends_in_plain_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_UNTIL", 0.6)
    plan = Asking(0.03, 8)
    async with FakeImap() as fake, watching(fake, asking=plan) as scene:
        silent_idle(fake)
        since = now()
        scene.watcher.expect(probe_id(1), "r", since)
        await until(lambda: not scene.watcher._folders["INBOX"].asker._expected)
        await scene.listening()
        await asyncio.sleep(0.2)
        asked = noops(fake, since)
        assert 4 <= len(asked) <= plan.budget
        assert asked[0] < 0.1
        assert all(later - earlier > 0.8 * plan.floor for earlier, later in itertools.pairwise(asked))
        assert fake.inbox().idle_tag
        assert len(noops(fake, since)) == len(asked)


async def test_many_expected_probes_share_their_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_UNTIL", 0.5)
    plan = Asking(0.05, 20)
    async with FakeImap() as fake, watching(fake, asking=plan) as scene:
        silent_idle(fake)
        since = now()
        for number in range(200):
            scene.watcher.expect(probe_id(number), f"r{number % 7}", since.shifted(number / 1000))
        await until(lambda: not scene.watcher._folders["INBOX"].asker._expected)
        asked = noops(fake, since)
        assert len(asked) <= 1 + asked[-1] / plan.floor * 1.2


async def test_a_probe_that_was_seen_before_it_was_expected_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A near server delivers before its 250 is read: an EARLY arrival. Asking for it is in vain."""
    monkeypatch.setattr(asking, "_UNTIL", 0.4)
    async with FakeImap() as fake, watching(fake, asking=Asking(0.02, 10)) as scene:
        fake.append(ours(1))
        await until(lambda: scene.book.arrivals)
        scene.watcher.expect(probe_id(1), "r", now())
        await turns(200)
        assert scene.told.asks == 0


async def arrive(scene: Scene, number: int, *, asked: bool | None = None) -> None:
    """A probe is expected, comes while the watcher idles, and goes."""
    before = scene.count(b" NOOP")
    scene.watcher.expect(probe_id(number), "r", now())
    if asked:
        await scene.fake.received(b" NOOP", before + 1)
    await scene.listening()
    await asyncio.sleep(0.04)  # a mail that comes as IDLE is entered says nothing about IDLE
    scene.fake.append(ours(number))
    await until(lambda: number in scene.book.probes)
    await until(lambda: not scene.left())
    await scene.listening()


async def test_a_server_whose_idle_is_quick_is_soon_not_asked_any_more() -> None:
    async with FakeImap() as fake, watching(fake, asking=Asking(0.1, 60)) as scene:
        for number in range(5):
            await arrive(scene, number, asked=True)
        asks = scene.count(b" NOOP")
        for number in range(5, 19):
            await arrive(scene, number)
        assert {arrived.detection for arrived in scene.book.arrivals} == {"idle"}
        assert scene.count(b" NOOP") == asks
        await arrive(scene, 19, asked=True)  # every 20th: the server may have changed
        assert scene.count(b" NOOP") > asks


async def test_a_server_that_tells_only_when_idle_is_ended_is_not_taken_for_a_quick_one() -> None:
    """Ending IDLE is what told: that was asking. Otherwise asking stops, and mails are seen when IDLE's time is up."""
    async with FakeImap() as fake, watching(fake, asking=Asking(0.02, 60)) as scene:
        fake.idle_lag = None
        for number in range(10):
            scene.watcher.expect(probe_id(number), "r", now())
            await turns(5)
            fake.append(ours(number))
            await until(lambda number=number: number in scene.book.probes, 1.0)  # IDLE's time is 8 minutes
            await until(lambda: not scene.left())
        assert not scene.watcher._folders["INBOX"].asker.listening.quick


async def test_a_mail_that_another_command_s_answer_tells_of_is_not_said_to_be_told_by_idle() -> None:
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        fake.append(ours(1))
        await until(lambda: scene.book.arrivals)
        await scene.listening()
        fake.idle_lag = None

        async def handler(tag: bytes, command: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
            if args.startswith(b"STORE") and len(scene.book.arrivals) == 1 and 2 not in fake.folders["INBOX"].mails:
                fake.append(ours(2))
            return False

        fake.handler = handler
        scene.book.settle(scene.book.last().place)
        await until(lambda: len(scene.book.arrivals) == 2)
        assert scene.book.last().detection == "poll"


async def test_waiting_for_a_mail_to_be_on_record_is_no_reason_to_ask() -> None:
    """A ledger that is slow or stuck would have every arrival asked for beyond floor and budget."""
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        for number in range(3):
            fake.append(ours(number))
            await until(lambda number=number: number in scene.book.probes)
            await asyncio.sleep(0.15)
        assert scene.told.asks == scene.count(b" NOOP") == 0


async def test_a_server_that_ends_every_idle_at_once_is_not_asked_in_a_loop() -> None:
    async def handler(tag: bytes, command: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
        if command == b"IDLE":
            writer.write(b"+ idling\r\n" + tag + b" OK that was it\r\n")
        return command == b"IDLE"

    async with FakeImap(handler) as fake, watching(fake, wait=False, asking=Asking(0.05, 60)) as scene:
        await scene.up()
        before = scene.count(b" NOOP") + scene.count(b" IDLE")
        await asyncio.sleep(0.3)
        assert scene.count(b" NOOP") + scene.count(b" IDLE") - before <= 2 * 2 * (0.3 / 0.05 + 2)


async def test_a_server_that_tells_when_idle_begins_and_never_after_is_not_taken_for_a_quick_one() -> None:
    """Entering IDLE is a command like others, and a far server spends a third of the asking between two IDLEs."""
    async with FakeImap() as fake, watching(fake, asking=Asking(0.02, 60)) as scene:
        fake.idle_lag, fake.tellers = None, frozenset({b"IDLE", b"NOOP"})
        due: list[int] = []

        async def handler(tag: bytes, command: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
            if command == b"IDLE" and due and writer is fake.inbox().writer:
                fake.append(ours(due.pop()))
            return False

        fake.handler = handler
        for number in range(8):
            assert not scene.watcher._folders["INBOX"].asker.listening.quick
            scene.watcher.expect(probe_id(number), "r", now())
            due.append(number)
            await until(lambda number=number: number in scene.book.probes, 1.0)
            await until(lambda: not scene.left())
            await scene.listening()


async def test_an_idle_that_the_server_ends_after_minutes_is_begun_again() -> None:
    """Polling instead would see every later mail up to half a minute late."""
    async with FakeImap() as fake, watching(fake) as scene:
        inbox = fake.inbox()
        before = scene.count(b" IDLE")
        scene.clock.skipped = 180.0
        tag, inbox.idle_tag = inbox.idle_tag, b""
        inbox.send(tag + b" OK that was long enough")
        await until(lambda: scene.count(b" IDLE") > before, 1.0)
        fake.append(ours(1))
        await until(lambda: scene.left() == [])
        assert scene.book.last().detection == "idle"


async def test_a_server_without_idle_is_looked_at_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "_POLL", 0.03)
    async with FakeImap(capabilities=DEAF) as fake, watching(fake) as scene:
        began = now()
        fake.append(ours(1))
        await until(lambda: scene.left() == [])
        await asyncio.sleep(0.15)
        assert scene.book.last().detection == "poll"
        assert not scene.count(b"IDLE")
        asked = noops(fake, began)
        assert 2 * 3 <= len(asked) <= 2 * (1 + elapsed(began, now()) / 0.03)


async def test_a_server_without_idle_is_asked_for_an_expected_probe() -> None:
    async with FakeImap(capabilities=DEAF) as fake, watching(fake, asking=Asking(0.02, 60)) as scene:
        scene.watcher.expect(probe_id(1), "r", now())
        await fake.received(b" NOOP", 2)
        fake.append(ours(1))
        await until(lambda: scene.left() == [])
        assert scene.book.last().detection == "poll"


# ---------------------------------------------------------------- what is never touched


async def test_without_uidplus_a_mail_is_marked_as_read_and_never_deleted() -> None:
    async with FakeImap(capabilities=BARE) as fake, watching(fake) as scene:
        fake.append_all([FOREIGN, ours(1)])
        await until(lambda: scene.told.removals)
        mails = fake.folders["INBOX"].mails
        assert {uid: mail.flags for uid, mail in mails.items()} == {1: set(), 2: {b"\\Seen"}}
        assert not scene.count(b"Deleted")
        assert not scene.count(b"EXPUNGE")
        fake.append(FOREIGN)
        await until(lambda: scene.watcher.cursors["INBOX"].uid == 3)


async def test_imap4rev2_knows_uid_expunge_without_naming_uidplus() -> None:
    """RFC 9051 appendix E: UIDPLUS is part of it; Connection.expunge knows."""
    async with (
        FakeImap(capabilities=BARE.replace(b"IMAP4rev1", b"IMAP4rev1 IMAP4rev2")) as fake,
        watching(fake) as scene,
    ):
        fake.append_all([FOREIGN, ours(1)])
        await until(lambda: scene.told.removals)
        assert scene.left() == [1]


@pytest.mark.parametrize("capabilities", [CAPABILITIES, BARE])
async def test_mails_to_be_kept_are_reported_once_and_never_touched(capabilities: bytes) -> None:
    async with FakeImap(capabilities=capabilities) as fake, watching(fake, keep_mails=True) as scene:
        fake.append_all([FOREIGN, ours(1), ours(2)])
        await until(lambda: len(scene.book.arrivals) == 2)
        fake.append(FOREIGN)
        await until(lambda: scene.watcher.cursors["INBOX"].uid == 4)
        fake.close()
        await scene.up(2)
        await turns()
        assert not touched(fake)
        assert len(scene.left()) == 4
        assert scene.book.probes == [1, 2]


async def test_a_token_in_the_body_alone_is_found_by_reading_on_and_the_mail_is_left() -> None:
    mail = stripped(ours(1))
    assert recognise(KEY, mail.partition(b"\r\n\r\n")[0], SENDERS) is None
    async with FakeImap() as fake, watching(fake) as scene:
        fake.append_all([FOREIGN, mail, FOREIGN])
        await until(lambda: scene.book.arrivals)
        await scene.listening()
        assert scene.book.places(1) == {Place("own", "INBOX", 1, 2)}
        assert [line.split(b" ")[3] for line in fake.lines if b"BODY.PEEK[]" in line] == [b"2"]
        assert not touched(fake)
        await until(lambda: scene.told.reasons == [])


async def test_a_token_in_the_subject_alone_is_found_and_the_mail_is_removed() -> None:
    raw = ours(1)
    head, gap, body = raw.partition(b"\r\n\r\n")
    mail = re.sub(rb"\r\n%s: [^\r]*" % HEADER.encode(), b"", head) + gap + body
    async with FakeImap() as fake, watching(fake) as scene:
        fake.append_all([FOREIGN, mail])
        await until(lambda: scene.left() == [1])
        assert not scene.count(b"BODY.PEEK[]")


@pytest.mark.parametrize(
    ("mail", "reason"),
    [
        (FOREIGN, None),
        (REPLY.replace(b"%b", token_of(ours(1))), "reply"),
        (REPLY.replace(b"%b", token_of(ours(1))).replace(b"aunt@example.net", SENDER.encode()), "reply"),
        (
            stripped(ours(1), b"Subject: Fwd: " + token_of(ours(1))).replace(SENDER.encode(), b"aunt@x.net"),
            "foreign_sender",
        ),
        (ours(1).replace(token_of(ours(1))[-22:], b"A" * 22), "forged"),
        (b"", None),
        (b"\xff\x00\r\n\r\n" + b"\x80" * 100, None),
        (b"From: " + SENDER.encode() + b"\r\nSubject: hello\r\n\r\nby hand\r\n", None),
    ],
    ids=["foreign", "reply", "reply by us", "forward", "forged", "empty", "binary", "by hand"],
)
async def test_a_mail_that_is_no_probe_is_told_of_once_with_its_reason_and_left(
    mail: bytes, reason: str | None
) -> None:
    async with FakeImap() as fake, watching(fake) as scene:
        fake.append_all([mail, ours(2)])
        await until(lambda: scene.left() == [1])
        assert scene.told.reasons == ([reason] if reason else [])
        assert scene.book.probes == [2]
        assert fake.folders["INBOX"].mails[1].flags == set()
        fake.close()
        await scene.up(2)
        await turns()
        assert len(scene.told.reasons) == (reason is not None)


async def test_a_copy_of_our_mail_from_somebody_else_is_reported_and_left() -> None:
    copy = ours(1).replace(b"From: " + SENDER.encode(), b"From: aunt@example.net")
    async with FakeImap() as fake, watching(fake) as scene:
        fake.append_all([copy, ours(2)])
        await until(lambda: scene.left() == [1])
        assert sorted(scene.book.probes) == [1, 2]
        assert fake.folders["INBOX"].mails[1].flags == set()


async def test_bodies_of_foreign_mails_are_never_fetched() -> None:
    async with FakeImap() as fake:
        fake.append_all([FOREIGN, REPLY.replace(b"%b", token_of(ours(1)))] * 3)
        async with watching(fake, cursors=[cursor(0)]) as scene:
            fake.append_all([FOREIGN] * 5)
            await until(lambda: scene.watcher.cursors["INBOX"].uid == 11)
            assert not scene.count(b"BODY.PEEK[]")
            assert scene.count(b"BODY.PEEK[HEADER]") == 2


# ---------------------------------------------------------------- removing


async def test_removal_waits_for_settling_and_is_done_in_one_batch() -> None:
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        fake.append_all([FOREIGN, *map(ours, range(10)), FOREIGN])
        await until(lambda: len(scene.book.arrivals) == 10)
        await scene.listening()
        await turns()
        assert not touched(fake)
        for arrived in scene.book.arrivals[:7]:
            scene.book.settle(arrived.place)
        await until(lambda: scene.told.removals == [7])
        assert [line.partition(b" ")[2] for line in touched(fake)] == [
            b"UID STORE 2:8 +FLAGS (\\Deleted)",
            b"UID EXPUNGE 2:8",
        ]
        assert scene.left() == [1, 9, 10, 11, 12]


@pytest.mark.parametrize(
    "change",
    [{"account": "other"}, {"folder": "Junk"}, {"folder": "Nowhere"}, {"uidvalidity": 2}, {"uid": 1}, {"uid": 99}],
    ids=str,
)
async def test_settling_any_other_place_does_nothing(change: dict[str, object]) -> None:
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        fake.append_all([FOREIGN, ours(1)])
        await until(lambda: scene.book.arrivals)
        await scene.listening()
        scene.book.settle(scene.book.last().place._replace(**change))  # type: ignore[arg-type]
        await turns()
        assert not touched(fake)
        assert scene.left() == [1, 2]


@pytest.mark.parametrize("command", [b"STORE", b"EXPUNGE"])
async def test_what_is_settled_while_others_are_being_removed_is_removed_too(command: bytes) -> None:
    """A commit's outcomes are settled in one go, but the next commit may come while STORE is on its way."""
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        fake.append_all([ours(1), ours(2)])
        await until(lambda: len(scene.book.arrivals) == 2)
        await scene.listening()
        first, second = (arrived.place for arrived in scene.book.arrivals)

        async def handler(tag: bytes, name: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
            if args.startswith(command):
                scene.book.settle(second)
            return False

        fake.handler = handler
        scene.book.settle(first)
        await until(lambda: scene.told.removals)
        await turns(200)
        assert scene.left() == []


async def test_settling_twice_and_what_is_gone_already_does_no_harm() -> None:
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        fake.append_all([ours(1), FOREIGN, ours(2)])
        await until(lambda: len(scene.book.arrivals) == 2)
        await scene.listening()
        fake.remove(1)
        for arrived in scene.book.arrivals * 2:
            scene.book.settle(arrived.place)
        await until(lambda: scene.left() == [2])
        for arrived in scene.book.arrivals:
            scene.book.settle(arrived.place)
        await turns()
        assert scene.told.downs == []
        fake.append(FOREIGN)
        await until(lambda: scene.watcher.cursors["INBOX"].uid == 4)


@pytest.mark.parametrize("command", [b"UID STORE", b"UID EXPUNGE"])
async def test_a_mailbox_that_refuses_removal_is_still_watched(command: bytes) -> None:
    """Read-only by an ACL, or over quota: the measurement does not depend on it, and logging in again is no mend."""
    async with FakeImap(refusing(command)) as fake, watching(fake) as scene:
        for number in range(3):
            fake.append(ours(number))
            await until(lambda number=number: number in scene.book.probes)
            await turns(100)
        assert scene.told.downs == []
        assert set(scene.book.probes) == {0, 1, 2}


async def test_a_removal_that_was_refused_is_tried_again_in_the_same_session() -> None:
    """Over quota for an hour is no reason to let mails pile up until the connection breaks, which may take weeks."""
    async with FakeImap(refusing(b"UID STORE", b"NO [OVERQUOTA] full")) as fake, watching(fake) as scene:
        fake.append(ours(1))
        await until(lambda: scene.count(b"STORE"))
        await scene.listening()
        assert scene.told.removals_refused == ["over_quota"]
        fake.handler = None
        scene.clock.skipped = 3600.0
        fake.append(ours(2))
        await until(lambda: scene.left() == [], 1.0)
        assert scene.told.downs == []


async def test_mails_that_could_not_be_removed_for_long_are_read_again_in_bounded_pieces() -> None:
    async with FakeImap(refusing(b"UID STORE", b"NO [OVERQUOTA] full")) as fake, watching(fake) as scene:
        fake.append_all(ours(number) for number in range(1, 701))
        await until(lambda: len(scene.book.arrivals) == 700 and scene.count(b"STORE"))
        await scene.listening()
        fake.handler, before = None, len(fake.lines)
        scene.clock.skipped = 3600.0
        fake.append(FOREIGN)
        await until(lambda: scene.left() == [701])
        again = [line for line in fake.lines[before:] if b"BODY.PEEK[HEADER]" in line and b":*" not in line]
        sizes = [int(end) - int(start) + 1 for line in again for start, end in re.findall(rb"(\d+):(\d+)", line)]
        assert sum(sizes) == 700
        assert max(sizes) <= folder_module._CHUNK


# ---------------------------------------------------------------- Junk


async def test_a_probe_in_junk_is_told_as_such_and_the_route_s_next_one_is_asked_for_there() -> None:
    async with FakeImap() as fake, watching(fake, asking=Asking(0.02, 60)) as scene:
        await scene.listening("Junk")
        fake.append(ours(1), "Junk")
        await until(lambda: scene.left("Junk") == [])
        assert scene.book.last().placement == "junk"
        assert scene.book.last().place == Place("own", "Junk", 1, 1)

        async def handler(tag: bytes, command: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
            if command == b"NOOP":
                asked.append("Junk" if writer is fake.inbox("Junk").writer else "INBOX")
            return False

        asked: list[str] = []
        fake.handler = handler
        silent_idle(fake)
        scene.watcher.expect(probe_id(2), "r", now())
        scene.watcher.expect(probe_id(3), "another", now())
        await until(lambda: asked.count("Junk") >= 2 and asked.count("INBOX") >= 2)
        fake.append(ours(2), "Junk")
        fake.append(ours(3, "another"))
        await until(lambda: len(scene.book.arrivals) == 3)
        assert [arrived.detection for arrived in scene.book.arrivals] == ["idle", "poll", "poll"]
        await until(lambda: scene.left("Junk") == [] and scene.left() == [])
        asked.clear()
        scene.watcher.expect(probe_id(4), "r", now())
        await until(lambda: len(asked) >= 2)
        assert set(asked) == {"Junk"}
        fake.idle_lag = 0.0
        fake.append(ours(4))
        await until(lambda: scene.left() == [])
        await turns()
        asked.clear()
        scene.watcher.expect(probe_id(5), "r", now())
        await until(lambda: len(asked) >= 2)
        assert set(asked) == {"INBOX"}


async def test_a_wanted_folder_that_is_missing_is_noted_and_inbox_never_is() -> None:
    async with FakeImap() as fake:
        fake.folders["Müll"] = Folder()
        async with watching(fake, folders=("Müll", "Nope", "Inbox")) as scene:
            fake.append(ours(1), "Müll")
            await until(lambda: scene.left("Müll") == [])
            assert scene.book.last().placement == "other"
            assert scene.told.notes == ["has no folder 'Nope'; it is not watched"]


# ---------------------------------------------------------------- loss

PHASES = [
    *(b"CAPABILITY", b"LOGIN", b"LIST", b"SELECT", b"UID FETCH", b"IDLE", b"DONE", b"NOOP", b"UID STORE"),
    b"UID EXPUNGE",
]
FAULTS: dict[str, Callable[[FakeImap], object]] = {
    "eof": lambda fake: fake.close(),
    "reset": lambda fake: fake.reset(),
    "bye": lambda fake: fake.push(b"* BYE going down\r\n"),
    "timeout": lambda fake: None,
    "protocol_error": lambda fake: fake.push(b"A0 OK what?\r\n"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("phase", PHASES, ids=bytes.decode)
async def test_a_connection_lost_in_any_phase_is_mended_and_nothing_is_lost(phase: bytes, fault: str) -> None:
    handler, fakes = once(phase, FAULTS[fault])
    async with FakeImap(handler) as fake:
        fakes.append(fake)
        fake.append_all([FOREIGN, ours(1), FOREIGN])
        timeout = 0.3 if fault == "timeout" else LIMIT
        plan = Asking(0.02, 60)
        async with watching(fake, cursors=[cursor(0)], wait=False, timeout=timeout, asking=plan) as scene:
            await until(lambda: scene.left() == [1, 3])
            if phase == b"IDLE":
                await until(lambda: scene.told.downs)  # what is expected in a session that dies is forgotten
            await until(lambda: scene.watcher.up)
            await scene.listening()
            scene.watcher.expect(probe_id(2), "r", now())
            # What is expected in a session that dies is forgotten.
            await until(lambda: scene.told.downs and scene.watcher.up if phase == b"DONE" else scene.count(b" NOOP"))
            fake.append(ours(2))
            await until(lambda: scene.left() == [1, 3])
            fake.append(ours(3), "Junk")
            await until(lambda: scene.left("Junk") == [])
            await scene.up()
            assert [reason for reason, _ in scene.told.downs] == [fault]
            assert set(scene.book.probes) == {1, 2, 3}
            assert all(len(scene.book.places(number)) == 1 for number in (1, 2, 3))
            assert [mail.flags for mail in fake.folders["INBOX"].mails.values()] == [set(), set()]


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [(b"* BYE full\r\n", "bye"), (b"hello?\r\n", "protocol_error"), (b"", "timeout"), (b"* OK h", "timeout")],
)
async def test_a_mailbox_that_greets_wrongly_is_down_with_the_reason_and_tried_again(
    greeting: bytes, reason: str
) -> None:
    async with (
        FakeImap(greeting=greeting) as fake,
        watching(fake, cursors=[cursor(0)], wait=False, timeout=0.1) as scene,
    ):
        await until(lambda: scene.told.downs)
        assert scene.watcher.attempted.is_set()
        assert not scene.watcher.up
        fake.greeting = b"* OK ready\r\n"
        fake.append(ours(1))
        await scene.up()
        await until(lambda: scene.left() == [])
        assert {down for down, _ in scene.told.downs} == {reason}


async def test_a_mailbox_that_is_not_there_is_tried_again_after_growing_pauses_with_jitter() -> None:
    async with FakeImap() as fake, unreachable(fake) as scene:
        await until(lambda: len(scene.told.downs) >= 12)
        assert {reason for reason, _ in scene.told.downs} == {"refused"}
        pauses = [retry * FASTER for _, retry in scene.told.downs[:12]]
        for number, pause in enumerate(pauses):
            most = min(2.0 * 2**number, 300.0)
            assert most / 2 <= pause <= most
        assert len({pause / min(2.0 * 2**number, 300.0) for number, pause in enumerate(pauses)}) == len(pauses)


async def test_a_refused_login_is_not_repeated_for_minutes() -> None:
    async with FakeImap(users={"me": "another"}) as fake, watching(fake, wait=False) as scene:
        await until(lambda: len(scene.told.downs) >= 3)
        assert {reason for reason, _ in scene.told.downs} == {"auth_refused"}
        assert all(retry * FASTER >= 60 for _, retry in scene.told.downs)
        assert scene.told.downs[2][1] > scene.told.downs[0][1]
        assert scene.count(b"LOGIN") <= len(scene.told.downs) + 1


async def test_a_wrong_password_is_tried_at_most_sixty_times_in_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching_module, "FASTER", 1e9)
    async with FakeImap(users={"me": "another"}) as fake, watching(fake, wait=False) as scene:
        await until(lambda: len(scene.told.downs) >= 70)
        pauses = [retry * 1e9 for _, retry in scene.told.downs]
        attempts = sum(start < 86400 for start in itertools.accumulate(pauses, initial=0.0))
        assert 24 <= attempts <= 60
        assert max(pauses) <= 3600


async def test_a_log_in_that_the_server_cannot_do_now_is_told_apart_from_a_refused_one() -> None:
    async with FakeImap(refusing(b"LOGIN", b"NO [UNAVAILABLE] later")) as fake, watching(fake, wait=False) as scene:
        await until(lambda: scene.told.downs)
        assert scene.told.downs[0][0] == "auth_unavailable"
        assert scene.told.downs[0][1] * FASTER <= 2.0
        fake.handler = None
        await scene.up()


async def test_an_inbox_that_is_missing_is_named_and_watched_again_when_it_is_there() -> None:
    async with FakeImap() as fake, watching(fake) as scene:
        old = fake.folders.pop("INBOX")
        fake.inbox("Junk").writer.close()
        await until(lambda: len(scene.told.downs) >= 3)
        assert [reason for reason, _ in scene.told.downs[1:]] == ["no_inbox"] * (len(scene.told.downs) - 1)
        assert not scene.watcher.up
        fake.folders["INBOX"] = Folder(uidvalidity=2)
        fake.append(ours(1))
        await scene.up(2)
        await until(lambda: scene.left() == [])
        assert scene.book.places(1) == {Place("own", "INBOX", 2, 1)}
        assert not old.mails


@pytest.mark.parametrize("answer", [b"NO no", b"BAD what?", b"NO [SERVERBUG] oops", b"NO [NOPERM] not you"])
@pytest.mark.parametrize("command", [b"CAPABILITY", b"LOGIN", b"LIST", b"SELECT INBOX", b"SELECT Junk", b"UID FETCH"])
async def test_a_command_that_is_refused_is_named_and_tried_again(command: bytes, answer: bytes) -> None:
    quoted = re.sub(rb"^SELECT (.*)", rb'SELECT "\1"', command).upper()
    async with FakeImap(refusing(quoted, answer)) as fake:
        fake.append(ours(1))
        async with watching(fake, cursors=[cursor(0)], wait=False) as scene:
            await until(lambda: len(scene.told.downs) >= 2)
            fake.handler = None
            await until(lambda: scene.left() == [])
        usual = {b"LOGIN": "auth_refused", b"SELECT INBOX": "no_inbox", b"SELECT Junk": "no_folder"}
        reason = usual.get(command, "command_refused")
        if b"[" in answer:
            words = ("auth_unavailable", "auth_refused") if command == b"LOGIN" else ("unavailable", "no_permission")
            reason = words[b"NOPERM" in answer]
        assert {reason for reason, _ in scene.told.downs} == {reason}


@pytest.mark.parametrize("answer", [b"NO no", b"BAD what?"])
@pytest.mark.parametrize("command", [b"IDLE", b"DONE"])
async def test_a_server_that_offers_idle_and_refuses_it_is_looked_at_instead(
    command: bytes, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "_POLL", 0.01)

    async def handler(tag: bytes, name: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
        if name == command:
            writer.write((tag or fake.inbox().idle_tag) + b" " + answer + b"\r\n")
            fake.inbox().idle_tag = b""
        return name == command

    async with FakeImap(handler) as fake:
        del fake.folders["Junk"]
        async with watching(fake, wait=False, asking=Asking(0.02, 60)) as scene:
            await scene.up()
            scene.watcher.expect(probe_id(1), "r", now())
            await until(lambda: scene.count(b"NOOP"))
            fake.append(ours(1))
            await until(lambda: scene.left() == [])
            await until(lambda: scene.told.notes)
            assert scene.told.downs == []
            assert "looks at INBOX every" in scene.told.notes[0]


async def test_a_login_refused_after_other_failures_is_not_repeated_for_minutes_either() -> None:
    async with (
        FakeImap(users={"me": "another"}, greeting=b"* BYE later\r\n") as fake,
        watching(fake, wait=False) as scene,
    ):
        await until(lambda: len(scene.told.downs) >= 2)
        fake.greeting = b"* OK ready\r\n"
        await until(lambda: scene.told.downs[-1][0] == "auth_refused")
        assert scene.told.downs[-1][1] * FASTER >= 60


async def test_pauses_begin_small_again_after_a_mailbox_was_up_for_long() -> None:
    async with FakeImap(greeting=b"* BYE later\r\n") as fake, watching(fake, wait=False) as scene:
        await until(lambda: len(scene.told.downs) >= 6)
        fake.greeting = b"* OK ready\r\n"
        await scene.up()
        await scene.listening()
        scene.clock.skipped = 3600.0
        fake.close()
        await scene.up(2)
        assert scene.told.downs[-1][1] * FASTER <= 2.0


async def test_pauses_grow_while_every_session_dies_as_soon_as_it_is_up() -> None:
    """A provider that limits connections says BYE to an IDLE; a log-in every two seconds for ever keeps it at that."""
    scenes: list[Scene] = []

    async def handler(tag: bytes, command: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
        if command == b"IDLE":
            await until(lambda: writer.is_closing() or (scenes and scenes[0].watcher.up))
            writer.write(b"* BYE too many\r\n")
        return command == b"IDLE"

    async with FakeImap(handler) as fake, watching(fake, wait=False) as scene:
        scenes.append(scene)
        await until(lambda: len(scene.told.downs) >= 8)
        assert scene.told.ups >= 7
        assert max(retry * FASTER for _, retry in scene.told.downs) > 4.0


async def test_one_folder_s_lost_connection_takes_the_mailbox_down_as_one() -> None:
    async with FakeImap() as fake, watching(fake) as scene:
        await scene.listening("Junk")
        inbox, junk = fake.inbox(), fake.inbox("Junk")
        junk.writer.close()
        await scene.up(2)
        await scene.listening()
        await scene.listening("Junk")
        assert fake.inbox() is not inbox
        assert len(scene.told.downs) == 1


async def test_a_bug_of_ours_ends_run_and_the_mailbox_does_not_stay_up() -> None:
    def buggy(raw: bytes) -> None:
        raise LookupError("a bug")

    async with FakeImap() as fake:
        with contextlib.suppress(AssertionError):
            async with watching(fake, recognise_with=buggy) as scene:
                fake.append(ours(1))
                assert scene.task
                await asyncio.wait([scene.task], timeout=LIMIT)
        assert scene.task.done()
        assert isinstance(scene.task.exception(), LookupError)
        assert not scene.watcher.up
        assert not touched(fake)


# ---------------------------------------------------------------- many


async def test_five_thousand_mails_at_once_are_all_reported_and_hold_up_nobody() -> None:
    """By 500 at a time: 7000 in one answer hold the loop for 0.12 s, 500 for 0.02 s."""
    mails = [b"X-Number: %d\r\n" % number + ours(number) for number in range(5000)] + [FOREIGN] * 2000
    random.Random(7).shuffle(mails)
    async with FakeImap() as fake, watching(fake, settled=False) as scene:
        fake.append_all(mails)
        await until(lambda: len(scene.book.arrivals) == 5000, 20)
        assert len({arrived.place.uid for arrived in scene.book.arrivals}) == 5000
        in_order = [int(found[1]) for raw in mails if (found := re.search(rb"^X-Number: (\d+)", raw, re.M))]
        assert scene.book.probes == in_order, "each once, in the mailbox's order"
        assert max(mails_asked_for(fake)) <= 500
        for arrived in scene.book.arrivals:
            scene.book.settle(arrived.place)
        await until(lambda: len(scene.left()) == 2000, 20)
        await until(lambda: sum(scene.told.removals) == 5000)
        assert scene.told.downs == []
        assert all(mail.raw == FOREIGN and not mail.flags for mail in fake.folders["INBOX"].mails.values())
        assert all(len(line) < 1000 for line in fake.lines)


def mails_asked_for(fake: FakeImap) -> Iterator[int]:
    """How many each FETCH can bring at most, "n:*" left out."""
    for line in fake.lines:
        if found := re.search(rb"UID FETCH ([\d:,]+) ", line):
            ends = [[int(end) for end in part.split(b":")] for part in found[1].split(b",")]
            yield sum(part[-1] - part[0] + 1 for part in ends)


async def test_probes_are_found_among_ten_thousand_foreign_mails_at_the_first_look() -> None:
    mails = [FOREIGN] * 10_000
    for number in range(20):
        mails[number * 499 + 7] = ours(number)
    async with FakeImap() as fake:
        fake.append_all(mails)
        async with watching(fake, backlog_since=now().wall - 3600, wait=False) as scene:
            await until(lambda: scene.watcher.up and len(scene.left()) == 9980, 3 * LIMIT)
        assert scene.book.probes == list(range(20))
        assert scene.told.downs == []
        assert 20 <= scene.count(b"UID FETCH") <= 25, "in bounded pieces, and few"
        assert max(mails_asked_for(fake)) <= 500
        assert not scene.count(b"BODY.PEEK[]"), "nobody's letters are read"


@pytest.mark.parametrize("first", [True, False], ids=["first look", "while watching"])
async def test_mails_with_megabytes_of_header_cost_a_bounded_piece_each(first: bool) -> None:
    """Whoever writes to the mailbox decides how long they are; read whole, a few hundred would fill the memory, be
    given up as too long an answer, and be met again after every reconnect."""
    huge = b"X-Long: %s\r\n" % (b"x" * 900) * 1200 + FOREIGN
    async with FakeImap() as fake:
        asked: list[bytes] = []

        async def handler(tag: bytes, command: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
            asked.extend(re.findall(rb"BODY\S+", args))
            return False

        fake.handler = handler
        fake.append_all([huge, ours(1), huge]) if first else None
        async with watching(fake, backlog_since=now().wall - 3600) as scene:
            fake.append_all([huge, ours(2), huge])
            await until(lambda: 2 in scene.book.probes)
            await until(lambda: not set(scene.left()) & {place.uid for n in (1, 2) for place in scene.book.places(n)})
        assert scene.told.downs == []
        assert scene.book.probes == ([1, 2] if first else [2])
        assert all(re.search(rb"<0\.65536>", item) for item in asked)


async def test_a_server_that_sends_megabytes_unasked_is_survived() -> None:
    literal = b"* 1 FETCH (UID 1 BODY[] {5000000}\r\n" + b"\xff" * 5_000_000 + b")\r\n"
    async with FakeImap() as fake, watching(fake) as scene:
        fake.push(literal)
        fake.append(ours(1))
        await until(lambda: scene.left() == [])
        assert scene.told.downs == []
        fake.inbox().writer.write(b"* 1 FETCH (UID 1 BODY[] {99999999999}\r\n")
        await until(lambda: scene.told.downs)
        assert scene.told.downs[0][0] == "protocol_error"
        await scene.up(2)
        fake.append(ours(2))
        await until(lambda: scene.left() == [])


async def test_bytes_that_are_no_text_anywhere_do_no_harm() -> None:
    noise = bytes(range(128, 256))
    dirty = b"From: %s <aunt@example.net>\r\nSubject: %s\r\n%s\r\n\r\n%s\r\n" % (noise, noise, noise, noise)
    async with FakeImap(greeting=b"* OK %s\r\n" % noise) as fake:
        fake.folders["Junk"].attributes += b" \\%s" % noise
        async with watching(fake) as scene:
            fake.push(b"* OK %s\r\n* %s\r\n* 1 FETCH (FLAGS (%s))\r\n" % (noise, noise, noise))
            fake.append_all([dirty, ours(1), dirty])
            await until(lambda: len(scene.left()) == 2)
            assert scene.told.downs == []
            assert scene.told.reasons == []


# ---------------------------------------------------------------- the end


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


async def test_cancelling_run_leaves_no_task_and_no_socket() -> None:
    async with FakeImap() as fake:
        files, tasks = open_files(), asyncio.all_tasks()
        async with watching(fake) as scene:
            await scene.listening("Junk")
            assert open_files() > files
        await until(lambda: open_files() == files)
        await until(lambda: asyncio.all_tasks() == tasks)


@pytest.mark.parametrize("part", range(4))
async def test_run_can_be_cancelled_at_any_moment_of_its_beginning(part: int) -> None:
    async with FakeImap() as fake:
        fake.append_all([FOREIGN, ours(1)])
        files, tasks = open_files(), asyncio.all_tasks()
        for steps in range(part, 120, 4):
            async with watching(fake, cursors=[cursor(0)], wait=False) as scene:
                for _ in range(steps):
                    await asyncio.sleep(0)
                assert scene.task
                scene.task.cancel()
                await asyncio.wait([scene.task], timeout=LIMIT)
                assert scene.task.cancelled()
                scene.start()
        await until(lambda: open_files() == files)
        await until(lambda: asyncio.all_tasks() == tasks)


async def test_run_can_be_cancelled_at_any_moment_of_a_loss() -> None:
    """A machine that shuts down stops the mail server and us together."""
    async with FakeImap() as fake:
        for steps in range(15):
            async with watching(fake) as scene:
                await scene.listening("Junk")
                fake.inbox("Junk").writer.transport.abort()
                for _ in range(steps):
                    await asyncio.sleep(0)
                assert scene.task
                scene.task.cancel()
                await asyncio.wait([scene.task], timeout=0.3)
                ended = scene.task.done()
                scene.task.cancel()
                await asyncio.wait([scene.task], timeout=LIMIT)
                assert ended, f"the cancellation was swallowed, {steps} steps after the loss"
                scene.start()


async def test_mails_that_came_while_others_were_dealt_with_have_each_their_own_instant() -> None:
    """The server is slow with a command and tells of two more mails meanwhile; they are read together, much later."""
    came: list[Instant] = []

    async def slow(tag: bytes, command: bytes, args: bytes, writer: asyncio.StreamWriter) -> bool:
        if args.startswith(b"STORE") and not came:
            for number in (2, 3):
                await asyncio.sleep(0.1)
                came.append(now())
                fake.append(ours(number))
                fake.inbox().news()
            await asyncio.sleep(0.1)
        return False

    async with FakeImap() as fake, watching(fake) as scene:
        fake.handler = slow
        fake.append(ours(1))
        await until(lambda: len(scene.book.arrivals) == 3)
        assert scene.book.probes == [1, 2, 3]
        for instant, arrival in zip(came, scene.book.arrivals[1:], strict=True):
            assert 0 <= elapsed(instant, arrival.at) < 0.05


@pytest.mark.parametrize(
    ("rings", "of", "seconds"),
    [
        ([(1, 1), (2, 2)], 2, [1, 2]),
        ([(2, 1), (3, 2)], 3, [1, 1, 2]),
        ([(1, 1), (2, 2)], 1, [2]),  # one of them is gone, or was read before
        ([(1, 1)], 3, [1, 9, 9]),  # two that nobody told of
    ],
)
def test_no_mail_is_stamped_before_it_was_told_of(rings: list[tuple[int, int]], of: int, seconds: list[int]) -> None:
    at = Instant(0.0, 0.0, "boot").shifted
    news = folder_module._News([(told, at(when)) for told, when in rings])
    assert [news.when(index, of, at(9)).boot for index in range(of)] == seconds


# -- progress ------------------------------------------------------------------------------------------------------


async def test_every_folder_takes_steps_of_its_own_and_one_that_hangs_takes_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with FakeImap() as fake, watching(fake) as scene:
        session, inbox, *_ = list(scene.watcher.works())
        assert (session.name, inbox.name) == ("own", "own INBOX")
        assert session.resting, "its folders are at work instead"
        scene.watcher.look()
        await until(lambda: list(scene.watcher.works())[1].steps > inbox.steps)

        hangs = asyncio.Event()

        async def hang(_: object) -> None:
            hangs.set()
            await asyncio.Event().wait()

        monkeypatch.setattr("probe.mail.imap.Connection.noop", hang)
        scene.watcher.look()
        await hangs.wait()
        stands = list(scene.watcher.works())[1]
        await turns()
        assert list(scene.watcher.works())[1] == stands
        assert not stands.resting
        assert 480 < stands.patience < 900


async def test_a_pause_before_the_next_attempt_is_rest_and_every_attempt_a_step() -> None:
    async with FakeImap() as fake, unreachable(fake) as scene:
        await until(lambda: next(scene.watcher.works()).resting)
        steps = next(scene.watcher.works()).steps
        await until(lambda: next(scene.watcher.works()).steps > steps + 2)
