"""The JSON API: what the daemon knows and what is on record, for programs. docs/api.md describes it.

Rules:
- resources.py says what every resource looks like, as pure functions; document.py promises the same, as OpenAPI.
- What is not for the public is left out there, field by field: a field that nobody named public is not.
- A request is bounded in time and memory, asks the disk in a thread of its own, and few ask at a time.

    resources.py -> examples.py, asked.py -> document.py, past.py -> answers.py
"""

from __future__ import annotations

from probe.api.answers import Api
from probe.api.past import Record

__all__ = ["Api", "Record"]
