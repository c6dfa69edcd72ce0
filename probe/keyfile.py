"""The installation's key, which signs every token: made on first start, readable by nobody else."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

_LENGTH = 32


class KeyFileError(Exception):
    """The key cannot be read or made; one line with the path and the mend."""


def load(state_dir: Path, *, make: bool = True) -> bytes:
    """The key in `state_dir`, 32 bytes; made if there is none, unless told not to. Raises KeyFileError."""
    path = state_dir / "key"
    try:
        if make:
            state_dir.mkdir(parents=True, exist_ok=True)
            _make(path)
        key = path.read_bytes()
        exposed = path.stat().st_mode & 0o077
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}; state_dir must be a directory of mailprobe's own") from error
    if len(key) != _LENGTH:
        raise KeyFileError(
            f"{path}: is not a key; move it away (probes in flight will then be foreign) and start again"
        )
    if exposed:
        raise KeyFileError(f"{path}: others may read it, and could then forge probes; chmod 600 it")
    return key


def _make(path: Path) -> None:
    """Written under another name and linked, so that a crash leaves a whole key or none."""
    if path.exists():
        return
    draft = path.with_name(f"key.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, secrets.token_bytes(_LENGTH))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass  # another start was quicker; its key is the key
    finally:
        draft.unlink()
