"""Clocks that do not go on evenly, told apart by their differences only."""

from __future__ import annotations

import pytest

from probe import clock
from probe.core.clocks import Jump, Reading, jumps

BEFORE = Reading(1_700_000_000.0, 5000.0, 4000.0)

# wall, boot and awake clock after it, in seconds; what happened
CASES: dict[str, tuple[tuple[float, float, float], list[tuple[Jump, float]]]] = {
    "even": ((0.5, 0.5, 0.5), []),
    "slewed": ((0.51, 0.5, 0.5), []),
    "a little late": ((0.9, 0.9, 0.9), []),
    "set forward": ((3600.5, 0.5, 0.5), [("step", 3600.0)]),
    "set back": ((-59.5, 0.5, 0.5), [("step", -60.0)]),
    "suspended": ((60.5, 60.5, 0.5), [("suspend", 60.0)]),
    "stalled": ((2.5, 2.5, 2.5), [("stall", 2.0)]),
    "suspended and set": ((7260.5, 60.5, 0.5), [("step", 7200.0), ("suspend", 60.0)]),
}


@pytest.mark.parametrize("case", CASES)
def test_every_jump_is_told_with_its_size(case: str) -> None:
    passed, wanted = CASES[case]
    after = Reading(*(a + b for a, b in zip(BEFORE, passed, strict=True)))
    found = jumps(BEFORE, after, 0.5)
    assert [kind for kind, _ in found] == [kind for kind, _ in wanted]
    for (_, seconds), (_, size) in zip(found, wanted, strict=True):
        assert seconds == pytest.approx(size)


def test_the_real_clocks_go_on_together() -> None:
    before, after = clock.reading(), clock.reading()
    assert all(b >= a for a, b in zip(before[1:], after[1:], strict=True))
    assert clock.now().boot == pytest.approx(after.boot, abs=5.0)
