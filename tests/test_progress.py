"""Who stands still, and who does not."""

from __future__ import annotations

from probe.core.progress import Progress, Work


def looks(*looks: tuple[float, int, bool]) -> list[bool]:
    """Looks at one part with a patience of 60 s, at (time, steps, resting): does it stand still?"""
    progress = Progress(longest=20.0)
    return [bool(progress.stalled([Work("x", steps, resting, 60.0)], at)) for at, steps, resting in looks]


def every_ten(*works: tuple[int, bool]) -> bool:
    return looks(*((10.0 * n, *work) for n, work in enumerate(works)))[-1]


def test_work_without_a_step_for_longer_than_it_may_take_stands_still() -> None:
    assert looks((0, 5, False), (20, 5, False), (40, 5, False), (60, 5, False), (80, 5, False)) == [*[False] * 4, True]


def test_every_step_begins_anew() -> None:
    assert not every_ten(*((n // 5, False) for n in range(100)))
    assert every_ten(*((n // 5, False) for n in range(8)), *((1, False) for _ in range(7)))


def test_who_has_nothing_to_do_may_take_its_time() -> None:
    assert not every_ten(*((1, True) for _ in range(100)))
    assert not every_ten(*((1, n % 2 == 0) for n in range(100)))


def test_time_in_which_nobody_looked_is_not_held_against_anybody() -> None:
    assert looks((0, 1, False), (100_000, 1, False), (100_010, 1, False)) == [False] * 3


def test_those_that_stand_still_are_named_and_those_that_are_gone_forgotten() -> None:
    progress = Progress(longest=20.0)
    for at in range(0, 90, 10):
        found = progress.stalled([Work("a", 1, False, 60.0), Work("b", at, False, 60.0)], float(at))
    assert found == ["a"]
    assert progress.stalled([], 100.0) == []
    assert progress.stalled([Work("a", 1, False, 60.0)], 110.0) == []
