"""The ledger's file: opened for the one who writes, or for one of those who read; and what to do where it cannot be.

Rules:
- One daemon per ledger: two would both send, count and delete. A lock beside the file says so, and goes with its
  process, however that ends; SQLite's own would keep out readers as well.
- A reader never makes or changes anything. It knows one schema, its own.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from probe.ledger.schema import SCHEMA, VERSION

_WAL_KEPT = 64 << 20  # octets; more is only kept while a reader needs it


class LedgerError(Exception):
    """The ledger cannot be used; one line with the path and the mend."""


def open_to_write(path: Path) -> tuple[sqlite3.Connection, int | None]:
    """The connection, and the descriptor that holds the lock (None: nobody else can reach it). Raises LedgerError."""
    if str(path) == ":memory:":
        return _prepare(sqlite3.connect(path, isolation_level=None), path), None
    lock = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(path)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # addresses are nobody else's business
        db = sqlite3.connect(path, timeout=1.0, isolation_level=None)
        try:
            return _prepare(db, path), lock
        except BaseException:
            db.close()
            raise
    except BaseException as error:
        if lock is not None:
            os.close(lock)
        if isinstance(error, OSError | sqlite3.Error):
            raise LedgerError(_mend(path, error)) from error
        raise


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that sees what is committed, also while a daemon writes. Raises LedgerError."""
    try:
        path.stat()
        db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", timeout=1.0, isolation_level=None, uri=True)
        try:
            if (version := _version(db, path)) < VERSION:
                raise LedgerError(
                    f"{path}: written by an older mailprobe (schema {version}, this one reads {VERSION}); "
                    "start the daemon, which brings it up to date"
                )
            # All of SQLite shares one lock for its memory: while a reader gets much at once, a year to be sorted, the
            # writer waits for it with the interpreter's lock in hand, and with it the loop (measured: 0.2 s).
            db.executescript("PRAGMA cache_size = -2000; PRAGMA temp_store = FILE")
        except BaseException:
            db.close()
            raise
    except FileNotFoundError as error:
        raise LedgerError(f"{path}: there is no ledger; the daemon makes it at its first start") from error
    except (OSError, sqlite3.Error) as error:
        if isinstance(error, PermissionError) or "unable to open" in str(error):
            raise LedgerError(f"{path}: may not be read by this user; try again as root") from error
        raise LedgerError(trouble(path, error)) from error
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk has rolled back by itself
            db.execute("ROLLBACK")
        raise


def trouble(path: Path, error: Exception) -> str:
    """What went wrong with an open ledger, in one line."""
    text = str(error)
    if "malformed" in text or "not a database" in text:
        return f"{path}: damaged ({text}); move it away (it stays readable by sqlite3's .recover) and start again"
    return f"{path}: {text}"


def _mend(path: Path, error: Exception) -> str:
    """What keeps the file from being opened, with what to do."""
    if isinstance(error, BlockingIOError) or "locked" in str(error):
        return f"{path}: in use by another mailprobe; stop that one or give this one another state_dir"
    said = trouble(path, error)
    return said if "damaged" in said else f"{said}; state_dir must be a directory that mailprobe can write to"


def _lock(path: Path) -> int:
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _version(db: sqlite3.Connection, path: Path) -> int:
    """The ledger's schema; 0: there is none yet."""
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise LedgerError(
            f"{path}: written by a newer mailprobe (schema {version}, this one knows {VERSION}); "
            "install that version again, or move the file away"
        )
    if version == 0 and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise LedgerError(f"{path}: is another program's database; give mailprobe a state_dir of its own")
    return version


def _prepare(db: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    _version(db, path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT}")
    with transaction(db):
        for script in SCHEMA[_version(db, path) :]:
            for statement in script.split(";\n"):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {VERSION}")
    return db
