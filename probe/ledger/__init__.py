"""The record on disk: SQLite in the state directory, append-only events, one writer, and readers beside it.

Rules:
- Events are never changed. All else (rows, summaries, cells) follows from them and can be made anew; but for the chain,
  which says what they were.
- What mails' headers said is kept beside the events, for a day: for good only where there is something to prove.
- Only this package imports sqlite3.

    schema.py -> file.py -> records.py, replaying.py -> chaining.py -> writing.py -> writer.py
                                     \\-> reading.py -> reader.py (with what writing.py only reads)
"""

from __future__ import annotations

from probe.ledger.file import LedgerError
from probe.ledger.reader import Reader
from probe.ledger.schema import VERSION as SCHEMA_VERSION
from probe.ledger.writer import Ledger

__all__ = ["SCHEMA_VERSION", "Ledger", "LedgerError", "Reader"]
