"""What is on record of a route's chain, and of headers, read and checked by another hand than the ledger's own."""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from probe.core.chain import Link


class Broken(NamedTuple):
    """The first place at which a chain does not hold."""

    number: int
    why: str


def verify(
    start: bytes, links: Sequence[Link], records: Mapping[str, Sequence[bytes]], head: bytes | None = None
) -> Broken | None:
    """The first place where this part of a chain does not hold; None: it holds from `start`, the link before it, to
    `head`, a link that is known from elsewhere.

    `records`, by probe: each must be one of those whose digests the links give for that probe.
    """
    wanted = {(probe, hashlib.sha256(text).digest()) for probe, texts in records.items() for text in texts}
    before, number = start, 0
    for number, it in enumerate(links, links[0].number if links else 0):
        if it.number != number:
            return Broken(number, f"the link after this one's predecessor has the number {it.number}")
        if it.link != hashlib.sha256(before + it.digest).digest():
            return Broken(number, f"the link of probe {it.probe} does not follow from the one before and its digest")
        wanted.discard((it.probe, it.digest))
        before = it.link
    if head is not None and before != head:
        return Broken(number, "the last link is not the head that is known from elsewhere")
    for probe, _ in sorted(wanted):
        numbers = [it.number for it in links if it.probe == probe]
        return Broken(min(numbers, default=number), f"the record of probe {probe} is not the one that was chained")
    return None


def links_of(ledger: Path, route: str, after: int = 0, upto: int = 10**9) -> list[Link]:
    """The links of the route's chain with these numbers, (after, upto]."""
    query = """SELECT chain.number, probe, at, digest, chain.link FROM chain JOIN routes ON routes.id = route
        WHERE name = ? AND chain.number > ? AND chain.number <= ? ORDER BY chain.number"""
    with closing(sqlite3.connect(ledger)) as db:
        return [Link(*row) for row in db.execute(query, (route, after, upto))]


def headers(ledger: Path, probe: str) -> list[bytes]:
    """The header blocks of this probe's mails and bounces that are kept, in the order in which they came."""
    with closing(sqlite3.connect(ledger)) as db:
        kept = db.execute("SELECT raw FROM headers WHERE probe = ? ORDER BY seq", (probe,)).fetchall()
    return [zlib.decompress(raw) for (raw,) in kept]
