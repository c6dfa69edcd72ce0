"""What an arrival means: one verdict for every state, decided by where the copy lies."""

from __future__ import annotations

import dataclasses

import pytest

from probe.core.match import RECORDED, UNRECOGNISED, Verdict, judge
from probe.core.state import State, advance

from .make import RECIPIENT, SENDER, arrived, bounced, notified, place, probe_in, vanished

FIRST = {
    State.SENDING: Verdict.EARLY,
    State.ACCEPTED: Verdict.DELIVERED,
    State.UNCONFIRMED: Verdict.DELIVERED,
    State.LOST: Verdict.FOUND,
    State.BOUNCED: Verdict.FOUND,
    State.REJECTED: Verdict.CONTRADICTION,
    State.DEFERRED: Verdict.CONTRADICTION,
    State.FAILED: Verdict.CONTRADICTION,
}


@pytest.mark.parametrize("state", FIRST)
def test_a_first_arrival_means_what_the_state_says(state: State) -> None:
    assert judge(probe_in(state), arrived()) is FIRST[state]


@pytest.mark.parametrize("state", State)
def test_the_same_copy_again_is_seen_before_and_another_copy_a_duplicate(state: State) -> None:
    probe = probe_in(state)
    if not probe.places:
        probe = advance(probe, arrived(uid=1))
    assert judge(probe, arrived(99.0, uid=1)) is Verdict.SEEN_BEFORE
    assert judge(probe, arrived(99.0, uid=2)) is Verdict.DUPLICATE


def test_a_copy_is_another_one_by_any_part_of_its_place() -> None:
    probe = probe_in(State.DELIVERED)
    assert judge(probe, arrived()) is Verdict.SEEN_BEFORE
    for other in (place(2), place(account="gmx"), place(folder="Junk")):
        assert judge(probe, dataclasses.replace(arrived(), place=other)) is Verdict.DUPLICATE


def test_a_probe_on_no_record_is_foreign() -> None:
    assert judge(None, arrived()) is Verdict.FOREIGN


def test_renumbered_mails_are_the_same_mails() -> None:
    probe = probe_in(State.DELIVERED)
    for uid in (1, 2):
        again = dataclasses.replace(arrived(), place=place(uid, uidvalidity=8))
        assert judge(probe, again) is Verdict.SEEN_BEFORE


def test_a_copy_after_all_others_have_vanished_was_moved() -> None:
    probe = advance(probe_in(State.DELIVERED), vanished(uid=1))
    assert judge(probe, arrived(uid=2)) is Verdict.MOVED
    probe = advance(probe, arrived(uid=2))
    assert judge(probe, arrived(uid=3)) is Verdict.DUPLICATE


def test_another_mail_with_the_token_of_a_probe_that_has_come_is_a_replay() -> None:
    assert judge(probe_in(State.DELIVERED), arrived(uid=2, genuine=False)) is Verdict.REPLAYED
    assert judge(probe_in(State.ACCEPTED), arrived(uid=2, genuine=False)) is Verdict.DELIVERED


@pytest.mark.parametrize("state", State)
def test_only_the_mailbox_to_which_a_probe_was_sent_counts(state: State) -> None:
    probe = probe_in(state)
    assert judge(probe, arrived(uid=7), SENDER) is Verdict.ELSEWHERE
    assert judge(probe, arrived(uid=7), RECIPIENT.upper()) is judge(probe, arrived(uid=7))


THERE_OR_REFUSED = {State.EARLY, State.DELIVERED, State.FOUND, State.REJECTED, State.DEFERRED, State.FAILED}


@pytest.mark.parametrize("state", State)
def test_a_first_bounce_ends_what_has_not_come_and_contradicts_the_rest(state: State) -> None:
    probe = probe_in(state)
    first = Verdict.CONTRADICTION if state in THERE_OR_REFUSED else Verdict.BOUNCED
    assert judge(probe, bounced(uid=91)) is (Verdict.NOTICE if state is State.BOUNCED else first)
    assert judge(probe, notified()) is Verdict.NOTICE
    assert judge(advance(probe, notified()), notified(9.0)) is Verdict.SEEN_BEFORE
    assert judge(advance(probe, bounced(uid=91)), bounced(9.0, uid=91)) is Verdict.SEEN_BEFORE


def test_what_is_recorded_and_what_is_left_alone() -> None:
    assert set(Verdict) - RECORDED - UNRECOGNISED == {Verdict.SEEN_BEFORE}
    assert not RECORDED & UNRECOGNISED
    assert {Verdict.FOREIGN, Verdict.ELSEWHERE, Verdict.REPLAYED, Verdict.SURPLUS} == UNRECOGNISED


def test_of_a_flood_of_copies_or_notices_only_so_many_are_recorded() -> None:
    probe = probe_in(State.DELIVERED)
    for uid in range(2, 21):
        assert judge(probe, arrived(uid=uid)) is Verdict.DUPLICATE
        probe = advance(probe, arrived(uid=uid))
    assert judge(probe, arrived(uid=21)) is Verdict.SURPLUS
    assert judge(probe, arrived(uid=20)) is Verdict.SEEN_BEFORE
    for uid in range(100, 120):
        probe = advance(probe, notified(uid=uid))
    assert judge(probe, notified(uid=120)) is Verdict.SURPLUS
    assert judge(probe, bounced(uid=121)) is Verdict.SURPLUS


def test_a_notice_counts_in_the_mailboxes_of_the_sender_and_the_recipient_only() -> None:
    probe = probe_in(State.ACCEPTED)
    for mailbox in (SENDER, RECIPIENT, SENDER.upper(), None):
        assert judge(probe, bounced(), mailbox) is Verdict.BOUNCED
    assert judge(probe, bounced(), "mallory@example.com") is Verdict.ELSEWHERE
