"""Whether a report is what it was when it was made: without a network, a ledger or a configuration.

Rule: nothing that a report shows is believed; it is made again from the evidence that it carries, and compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from probe.core import evidence as ev
from probe.core.evidence import Chained, Evidence, Witness
from probe.report.page import evidence_text, page
from probe.report.tables import COLUMNS, as_json

_AT_BREAKS = re.compile(r"\s*\n\s*")


class Verdict(NamedTuple):
    """What was found; `changed` says what is not as it was, in one line each: a report that is intact has none."""

    changed: list[str]
    travelled: bool  # only line ends, or spaces at them, were changed: mail systems do that
    evidence: Evidence | None
    seal: str
    chained: Chained | None


def verify(octets: bytes, witness: Witness) -> Verdict:
    """What there is to say about a file. Raises ValueError where it is no report that can be verified."""
    try:
        given = octets.decode("utf-8")
    except UnicodeDecodeError:
        return Verdict(["it is no text in UTF-8"], False, None, "", None)
    kind = _kind(given)
    make: Callable[[Evidence, str], str] = page if kind == "html" else as_json
    given_plain = given.removeprefix("\ufeff").replace("\r\n", "\n")
    try:
        told = evidence_text(given_plain) if kind == "html" else ev.text(_evidence_in(given))
        evidence = ev.read(told)
        changed = [] if ev.text(evidence) == told else ["the evidence is not written as it was"]
        chained = ev.check(evidence, witness)
        again = make(evidence, told)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, OSError, RecursionError) as error:
        return Verdict([f"the evidence cannot be read: {error}".splitlines()[0]], False, None, "", None)
    same = again == given
    if not same and not _alike(kind, again, given_plain):
        changed.append(f"what it shows is not what its evidence says, from line {_first(again, given_plain)} on")
    return Verdict([*changed, *chained.broken], not same and not changed, evidence, ev.seal(told), chained)


def _kind(text: str) -> Literal["html", "json"]:
    start = text.removeprefix("\ufeff").lstrip()[:200]
    if start.startswith("{"):
        return "json"
    if start.startswith(("# ", ",".join(COLUMNS[:3]))):
        raise ValueError("a report as Markdown or CSV carries no chain; verify the HTML or JSON that was made with it")
    return "html"


def _evidence_in(text: str) -> Evidence:
    return ev.read(json.dumps(json.loads(text.removeprefix("\ufeff"))["evidence"]))


def _alike(kind: str, one: str, other: str) -> bool:
    """Whether they differ in nothing but the white space that means nothing."""
    if kind == "json":
        try:
            return bool(json.loads(one) == json.loads(other.removeprefix("\ufeff")))
        except ValueError:
            return False
    return _AT_BREAKS.sub("", one).strip() == _AT_BREAKS.sub("", other).strip()


def _first(one: str, other: str) -> int:
    """The number of the first line that differs."""
    ours, theirs = one.splitlines(), other.splitlines()
    differ = (number for number, (a, b) in enumerate(zip(ours, theirs, strict=False), 1) if a != b)
    return next(differ, 1 + min(len(ours), len(theirs)))


def findings(verdict: Verdict, witness: Witness) -> Iterator[str]:
    """What was found, and what it proves and does not, for a person."""
    evidence, held = verdict.evidence, verdict.chained
    yield "CHANGED: this is not the report that was made" if verdict.changed else "INTACT: this is the report as made"
    yield from (f"  {line}" for line in verdict.changed)
    if evidence is None or held is None:
        return
    if verdict.travelled:
        yield "  Line ends, or spaces beside them, were changed on its way; that changes nothing that it says."
    routes = ", ".join(route.name for route in evidence.routes) or "none"
    made = datetime.fromtimestamp(evidence.made, UTC).isoformat(" ", "seconds")
    yield f"  Made {made} by {evidence.program} from ledger {evidence.ledger}; routes: {routes}"
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
