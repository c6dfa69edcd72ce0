"""What an arrival means: one verdict for every state, decided by where the copy lies."""

from __future__ import annotations

import dataclasses

import pytest

from probe.core.match import Verdict, judge
from probe.core.state import State, advance

from .make import arrived, place, probe_in

FIRST = {
    State.SENDING: Verdict.EARLY,
    State.ACCEPTED: Verdict.DELIVERED,
    State.UNCONFIRMED: Verdict.DELIVERED,
    State.LOST: Verdict.FOUND,
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
    for other in (place(2), place(account="gmx"), place(folder="Junk"), place(uidvalidity=8)):
        assert judge(probe, dataclasses.replace(arrived(), place=other)) is Verdict.DUPLICATE


def test_a_probe_on_no_record_is_foreign() -> None:
    assert judge(None, arrived()) is Verdict.FOREIGN


def test_every_verdict_is_given_by_these_tests() -> None:
    assert {*FIRST.values(), Verdict.SEEN_BEFORE, Verdict.DUPLICATE, Verdict.FOREIGN} == set(Verdict)
