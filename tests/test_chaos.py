"""Killed a hundred times while its servers freeze, restart and vanish: the short run of tests/chaos."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .bed.mailbed import what_is_missing
from .chaos.plan import draw
from .chaos.run import run

_KILLS = 105
_CHAOS = 62.0  # seconds; with set-up and settling 66, and 75 where much else runs


@pytest.fixture
def directory() -> Iterator[Path]:
    """Not tmp_path: see conftest.bed."""
    if missing := what_is_missing():
        pytest.fail(missing, pytrace=False)
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="chaos-") as root:
        Path(root).chmod(0o755)
        yield Path(root)


@pytest.mark.timeout(150)
def test_every_accepted_mail_is_one_measured_probe_whatever_was_killed_frozen_or_cut(directory: Path) -> None:
    plan = draw(secrets.randbelow(10**6), _CHAOS, _KILLS)
    verdict = run(directory, plan, print)
    again = f"python -m tests.chaos --seed {plan.seed} --for {_CHAOS:g}s --kills {_KILLS}"
    assert not verdict.wrong, again


def test_a_seed_draws_the_same_plan_again() -> None:
    assert draw(7, 60.0, 100) == draw(7, 60.0, 100)
    assert draw(7, 60.0, 100) != draw(8, 60.0, 100)
