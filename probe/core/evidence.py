"""The evidence of a report: what was taken from the ledger, with one text and one seal, and whether its chain holds.

Rules:
- All that a report shows follows from its evidence alone: no clock, ledger, configuration or table of zones is asked.
- The text is canonical JSON (RFC 8785, core/chain.py); the seal is its SHA-256.

Instants are Unix times by the prober's wall clock; digests and links are SHA-256 in hexadecimal digits.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from probe.core import chain
from probe.core.history import Cell, Point, Totals
from probe.core.phrases import Language
from probe.core.plain import plain, typed
from probe.core.trouble import Incident

FORMAT = 1  # of the evidence, and of what is shown of it: another program cannot compare that
_SIZE = 32  # octets of a digest
_DOOMSDAY = 1e11  # no calendar goes further
_HEAD_LINE = re.compile(r"\d{4}-\d\d-\d\d (\d+) ([0-9a-f]{64}) (\S+) (\S.*)", re.A)


class OtherVersion(ValueError):
    """Evidence of which only that version of the program knows what it shows."""

    def __init__(self, program: str) -> None:
        name = "".join(filter(str.isprintable, program))[:40]
        super().__init__(f"it was made by {name}, which may write it otherwise; verify it with that version")


class Offset(NamedTuple):
    """From then on the people's clocks are so many seconds ahead of UTC, and their time is called that."""

    since: float
    seconds: int
    name: str


class Mail(NamedTuple):
    """A probe of which something is to be proved."""

    record: str  # to the letter as it was chained, see core/chain.py
    link: int | None  # the number of its link; None: not all that is in the record was chained when this was made
    header: str  # of the mail as it arrived, octets as latin-1; "" where it is not kept, or was not asked for


class Stretch(NamedTuple):
    """Links of a chain that follow one another, each told by its digest."""

    after: int  # the number of the link before them; 0 is that of the chain's beginning
    start: str  # that link
    digests: str  # of the records, one after another, in base64


class Head(NamedTuple):
    """The last link of a day."""

    day: float  # at which it began, in UTC
    number: int
    link: str


@dataclass(frozen=True, slots=True)
class RouteEvidence:
    """One route in the span."""

    name: str
    sender: str
    recipient: str
    totals: Totals
    width: float  # seconds of a cell
    cells: list[Cell]  # the whole span and what is missing to whole cells; those without a probe are left out
    points: list[Point]
    incidents: list[Incident]
    mails: list[Mail]
    stretches: list[Stretch]  # of the days on which a record of `mails` was chained
    heads: list[Head]  # of all days from the span's first to the last of these


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a report is made from."""

    format: int
    program: str
    ledger: str  # its own name; link 0 of each chain comes from it
    made: float
    since: float  # the span: what was started in [since, until)
    until: float
    missing: float | None  # older records up to here only: the ledger was being brought up to date
    language: Language
    zone: str
    offsets: list[Offset]
    routes: list[RouteEvidence]


Witness = Mapping[tuple[str, str], Mapping[int, str]]  # (ledger, route) → number → link


class Chained(NamedTuple):
    """How much of some evidence the chains hold, and where they do not."""

    records: int  # held by a link
    unchained: int  # not yet chained when the report was made
    links: int  # recomputed, from one head to the next
    heads: int  # of these days
    witnessed: int  # records held by a link that leads to a head which is known from elsewhere
    broken: list[str]  # one line each


def text(evidence: Evidence) -> str:
    """The one text of this evidence."""
    return chain.canonical(plain(evidence)).decode()


def read(told: str) -> Evidence:
    """The evidence with this text. Raises ValueError."""
    data = json.loads(told, parse_constant=_refuse)
    if isinstance(data, dict) and type(data.get("format")) is int and data["format"] != FORMAT:
        raise OtherVersion(str(data.get("program")))
    evidence: Evidence = typed(Evidence, data)
    if not (0 <= evidence.since < evidence.until < _DOOMSDAY and evidence.offsets):
        raise ValueError("its span is none")
    if any(route.width <= 0 for route in evidence.routes):
        raise ValueError("its cells are none")
    return evidence


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def seal(told: str) -> str:
    """What a text of evidence is known by."""
    return hashlib.sha256(told.encode()).hexdigest()


def record_digest(mail: Mail) -> str:
    """The digest of the mail's record."""
    return chain.digest(mail.record.encode()).hex()


def check(evidence: Evidence, witness: Witness) -> Chained:
    """Whether the chains hold, and whether they lead to what is known from elsewhere. Raises ValueError."""
    parts = [
        _check(route, evidence.ledger, witness.get((evidence.ledger, route.name), {})) for route in evidence.routes
    ]
    records, unchained, links, heads, witnessed, broken = zip(*parts, strict=True) if parts else [()] * 6
    lines = [line for lines in broken for line in lines]
    return Chained(sum(records), sum(unchained), sum(links), sum(heads), sum(witnessed), lines)


def _check(route: RouteEvidence, ledger: str, witnessed: Mapping[int, str]) -> Chained:
    known = {**{head.number: head.link for head in route.heads}, 0: chain.genesis(ledger, route.name).hex()}
    broken = [f"head {number} is not the one that was witnessed" for number in _differ(known, witnessed)]
    broken += [f"a head has the number {head.number}" for head in route.heads if head.number < 1]
    digests, proved = dict[int, str](), set[int]()
    for stretch in route.stretches:
        if known.get(stretch.after) != stretch.start:
            broken.append(f"link {stretch.after}, where the links of a day begin, is no head")
        links = dict(_links(stretch, digests))
        wrong = [*_differ(links, known), *(number for number in [max(links, default=0)] if number not in known)]
        broken += [f"the links of a day do not lead to head {number}" for number in wrong[:1]]
        broken += [f"link {number} is not the one that was witnessed" for number in _differ(links, witnessed)]
        last = max(links.keys() & witnessed.keys(), default=0)
        proved.update(number for number in links if number <= last)
    chained = [mail for mail in route.mails if mail.link is not None]
    often = Counter(mail.link for mail in chained)
    broken += [f"{times} mails have the link {number}" for number, times in often.items() if times > 1]
    for mail in chained:
        if digests.get(mail.link or 0) != record_digest(mail):
            broken.append(f"the record with the number {mail.link} is not the one that was chained")
    return Chained(
        len(chained),
        len(route.mails) - len(chained),
        len(digests),
        len(route.heads),
        sum(mail.link in proved for mail in chained),
        [f"{route.name}: {line}" for line in broken],
    )


def _links(stretch: Stretch, digests: dict[int, str]) -> Iterator[tuple[int, str]]:
    """The links of a stretch, by number; their digests are put into `digests`."""
    octets, link = base64.b64decode(stretch.digests, validate=True), bytes.fromhex(stretch.start)
    for number, at in enumerate(range(0, len(octets), _SIZE), stretch.after + 1):
        digest = octets[at : at + _SIZE]
        link, digests[number] = chain.link(link, digest), digest.hex()
        yield number, link.hex()


def _differ(links: Mapping[int, str], others: Mapping[int, str]) -> list[int]:
    return sorted(number for number in links.keys() & others.keys() if links[number] != others[number])


# -- heads for a witness -------------------------------------------------------------------------------------------


def day(begin: float) -> str:
    """The day (UTC) that began then."""
    return datetime.fromtimestamp(begin, UTC).date().isoformat()


def head_line(ledger: str, route: str, head: Head) -> str:
    """A day's head as a line of text: day, number, link, ledger, route."""
    return f"{day(head.day)} {head.number} {head.link} {ledger} {route}"


def read_heads(lines: Iterable[str]) -> Witness:
    """What was witnessed, from such lines; others are passed over. Raises ValueError where none is left, or
    where two cannot both be true."""
    found: dict[tuple[str, str], dict[int, str]] = {}
    for line in lines:
        if match := _HEAD_LINE.fullmatch(line.strip()):
            number, link = int(match[1]), match[2]
            if found.setdefault((match[3], match[4]), {}).setdefault(number, link) != link:
                raise ValueError(f"two heads in it have the number {number} of {match[4]}: a chain was made anew")
    if not found:
        raise ValueError("no line of it is a head")
    return found
