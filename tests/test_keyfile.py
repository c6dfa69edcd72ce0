"""The key: one per installation, nobody else's to read, and the same for everybody who starts at once."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from probe.keyfile import KeyFileError, load

_barrier: Any = None


def _meet(barrier: Any) -> None:
    global _barrier  # noqa: PLW0603 - a pool's initialiser has no other way
    _barrier = barrier


def _load_together(state_dir: Path) -> bytes:
    _barrier.wait(10)
    return load(state_dir)


def test_the_key_is_32_bytes_and_nobody_elses_to_read(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        key = load(tmp_path / "deep" / "state")
    finally:
        os.umask(before)
    path = tmp_path / "deep" / "state" / "key"
    assert len(key) == 32
    assert path.read_bytes() == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [it.name for it in path.parent.iterdir()] == ["key"]


def test_the_key_stays_and_two_installations_have_two(tmp_path: Path) -> None:
    assert load(tmp_path / "a") == load(tmp_path / "a") == load(tmp_path / "a", make=False)
    assert load(tmp_path / "a") != load(tmp_path / "b")


def test_processes_that_start_first_together_agree(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with context.Pool(6, _meet, (context.Barrier(6),)) as pool:
        for number in range(10):
            keys = pool.map(_load_together, [tmp_path / str(number)] * 6, chunksize=1)
            assert len(set(keys)) == 1
            assert [it.name for it in (tmp_path / str(number)).iterdir()] == ["key"]


def test_a_draft_left_by_a_crash_is_no_key_and_in_nobodys_way(tmp_path: Path) -> None:
    draft = tmp_path / f"key.{os.getpid()}"
    draft.touch(0o600)
    draft.write_bytes(b"half")
    assert len(load(tmp_path)) == 32
    assert [it.name for it in tmp_path.iterdir()] == ["key"]


def refusal(state_dir: Path, **more: bool) -> str:
    with pytest.raises(KeyFileError) as raised:
        load(state_dir, **more)
    text = str(raised.value)
    assert "\n" not in text
    assert text.startswith(str(state_dir / "key"))
    return text


def test_without_leave_to_make_one_a_missing_key_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    assert "state_dir" in refusal(tmp_path / "none", make=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_a_file_that_is_no_key_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    assert "is not a key" in refusal(tmp_path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_key_that_others_may_read_is_refused_with_the_mend(tmp_path: Path, mode: int) -> None:
    load(tmp_path)
    (tmp_path / "key").chmod(mode)
    assert "chmod 600" in refusal(tmp_path)


def test_a_place_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "state_dir must be a directory" in refusal(tmp_path / "file")
    (tmp_path / "key").mkdir()
    assert "state_dir must be a directory" in refusal(tmp_path)
