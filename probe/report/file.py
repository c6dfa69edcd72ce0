"""A report as a file: whole or not at all, and never over another one unless that is wanted."""

from __future__ import annotations

import os
from pathlib import Path


class Exists(Exception):
    """There is a file already; one line."""


def save(path: Path, text: str, *, force: bool) -> None:
    """Write it under another name, then give it its own. Raises Exists, OSError."""
    if path.exists() and not path.is_file():
        raise Exists(f"{path}: is no file that can be replaced; for a pipe or a device leave --output away")
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # addresses are nobody else's business
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(descriptor)
        if force:
            draft.replace(path)
        else:
            path.hardlink_to(draft)
    except FileExistsError:
        raise Exists(f"{path}: there is a file of this name already; --force replaces it") from None
    finally:
        draft.unlink(missing_ok=True)
