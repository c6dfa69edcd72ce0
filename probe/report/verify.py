"""Whether a report is what it was when it was made: without a network, a ledger or a configuration.

Rules:
- Nothing that a report shows is believed; it is made again from the evidence in it, and compared line by line.
- Of what the file says nothing is told before it is known to be as it was made, and then as a text on one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Literal, NamedTuple

from probe import PROGRAM
from probe.core import evidence as ev
from probe.core.evidence import Chained, Evidence, Witness
from probe.core.html import shown
from probe.report.page import page, parts
from probe.report.tables import COLUMNS, as_json

_SIGNS = {"html": '<pre id="evidence">', "json": '"evidence"'}


class Verdict(NamedTuple):
    """What was found; `changed` says what is not as it was, in one line each: a report that is intact has none."""

    changed: list[str]
    travelled: bool  # only line ends, or blanks at them, were changed: mail systems do that
    evidence: Evidence | None
    seal: str
    chained: Chained | None


def verify(octets: bytes, witness: Witness) -> Verdict:
    """What there is to say about a file. Raises ValueError where it is no report that can be verified."""
    given = octets.decode("utf-8", "replace")
    kind = _kind(given)
    if given.encode() != octets:
        return Verdict(["it is no text in UTF-8"], False, None, "", None)
    try:
        told, theirs = _told(kind, _settled(given))
        evidence = ev.read(told)
        changed = [] if ev.text(evidence) == told else ["the evidence is not written as it was"]
        chained = ev.check(evidence, witness)
        again = page(evidence, told) if kind == "html" else as_json(evidence, told)
    except ev.OtherVersion:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, OSError, RecursionError) as error:
        return Verdict([f"the evidence cannot be read: {shown(str(error))}"], False, None, "", None)
    _, ours = _told(kind, _settled(again))
    differ = [f"what it shows is not what its evidence says: {which}" for which in _differ(ours, theirs)]
    if differ and evidence.program.partition(":")[0] != PROGRAM:
        raise ev.OtherVersion(evidence.program)
    changed += differ
    travelled = not changed and again != given
    return Verdict([*changed, *map(shown, chained.broken)], travelled, evidence, ev.seal(told), chained)


def _kind(text: str) -> Literal["html", "json"]:
    start = text.removeprefix("\ufeff").lstrip()[:200]
    if start.startswith(("# ", ",".join(COLUMNS[:3]))):
        raise ValueError("a report as Markdown or CSV carries no chain; verify the HTML or JSON that was made with it")
    kind: Literal["html", "json"] = "json" if start.startswith("{") else "html"
    if _SIGNS[kind] not in text:
        raise ValueError("it is no report that can be verified: there is no evidence in it")
    return kind


def _settled(text: str) -> str:
    """The text without what mail systems do to lines: their ends, blanks at them, a mark of the byte order."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip(" \t") for line in lines).rstrip("\n")


def _told(kind: Literal["html", "json"], settled: str) -> tuple[str, list[str]]:
    """The evidence's text, and all that stands around it. Raises ValueError, LookupError, TypeError."""
    if kind == "html":
        before, told, after = parts(settled)
        return told, [before, after]
    return ev.text(ev.read(json.dumps(json.loads(settled)["evidence"]))), [settled]


def _differ(ours: list[str], theirs: list[str]) -> Iterator[str]:
    """Where a part first is another, if it is."""
    for one, other in zip(ours, theirs, strict=True):
        if one != other:
            lines = zip_longest(one.split("\n"), other.split("\n"), fillvalue="")
            yield next(
                f"line {n} is {shown(b)[:60]!r}, was {shown(a)[:60]!r}" for n, (a, b) in enumerate(lines, 1) if a != b
            )


def findings(verdict: Verdict, witness: Witness) -> Iterator[str]:
    """What was found, and what it proves and does not, for a person."""
    evidence, held = verdict.evidence, verdict.chained
    yield "CHANGED: this is not the report that was made" if verdict.changed else "INTACT: this is the report as made"
    yield from (f"  {line}" for line in verdict.changed)
    if evidence is None or held is None:
        return
    if verdict.travelled:
        yield "  Line ends, or blanks at them, were changed on its way; that changes nothing that it says."
    routes = ", ".join(shown(route.name) for route in evidence.routes) or "none"
    made = datetime.fromtimestamp(evidence.made, UTC).isoformat(" ", "seconds")
    yield f"  Made {made} by {shown(evidence.program)} from ledger {shown(evidence.ledger)}; routes: {routes}"
    yield f"  Seal: SHA-256 {verdict.seal}"
    if verdict.changed:
        return
    yield f"  Chain: {held.records} records in it, {held.unchained} not yet; {held.links} links, {held.heads} heads"
    if witness:
        yield f"  Witness: {held.witnessed} of these records are followed by a head that was witnessed"
    yield "This proves:"
    yield "  All that it shows follows from the evidence in it. Neither was changed since it was made, if its seal is"
    yield "  the one that you were told. Each record in the chain is a link of it, and leads to a head."
    if held.witnessed:
        yield f"  {held.witnessed} records were what they are when the witness was given the head after them."
    yield "It does not prove:"
    if left := held.records - held.witnessed:
        yield f"  - since when {left} records are what they are: no witness's head follows them (see --heads)"
    yield "  - that a record was true when it was written: whoever kept the ledger could have made it up. The servers'"
    yield "    replies and queue ids in it can be held against their own logs."
    yield "  - counts, charts, incidents and headers by the chain: they are no part of it, only of the seal."
