"""Evidence for people: what happened to a route's mails, as a document for a customer, a provider or a lawyer.

Rules:
- gather.py takes the evidence from the ledger; all else follows from it (core/evidence.py, core/report.py), so that
  verify.py can make the document again, elsewhere, and compare.
- What mails say is never in it but for the header of our own; secrets never come near.

docs/evidence.md says what a report proves, and what it does not.
"""

from __future__ import annotations

from collections.abc import Callable

from probe.core.evidence import Evidence, read, text
from probe.report.page import page
from probe.report.tables import as_csv, as_json, as_markdown

FORMATS: dict[str, Callable[[Evidence, str], str]] = {
    "html": page,
    "md": as_markdown,
    "json": as_json,
    "csv": as_csv,
}


def render(evidence: Evidence, form: str) -> str:
    """The report in this form. What is shown is made from the text, as verify.py will do it."""
    told = text(evidence)
    return FORMATS[form](read(told), told)
