"""Take the evidence for a report from the ledger.

Rule: the ledger goes on while it is read, and only grows: what is asked for later holds all that was told before.
"""

from __future__ import annotations

import asyncio
import base64
import heapq
import math
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from probe import PROGRAM
from probe.core import chain
from probe.core.evidence import FORMAT, Evidence, Head, Mail, Offset, RouteEvidence, Stretch, head_line
from probe.core.headers import parse_head
from probe.core.history import DAY, HOUR, Day, Life, incident_of
from probe.core.phrases import Language
from probe.core.state import IN_FLIGHT
from probe.ledger import Reader

_HOURS = 8 * 24  # cells of an hour at most; else of a day
_POINTS = 360
_FLYING = 1000  # mails in flight that have missed no deadline yet


class Wanted(NamedTuple):
    """What a report is to be about. Unix times."""

    since: float
    until: float
    made: float
    language: Language
    zone: ZoneInfo
    details: int  # of how many mails the headers are wanted, those that were held longest


async def collect(path: Path, routes: Sequence[str], wanted: Wanted) -> Evidence:
    """The evidence in the ledger at `path`, of these routes, or of all. Raises LedgerError, ValueError."""
    async with (
        _opened(path, routes) as (reader, names),
        _opened(path, names) as (counter, _),
    ):  # two: SQLite counts and sorts long, and lets others work meanwhile
        return await _gather(reader, counter, names, wanted)


async def collect_heads(path: Path, routes: Sequence[str], wanted: Wanted) -> list[str]:
    """A line for each route and day, the oldest first. Raises LedgerError, ValueError."""
    async with _opened(path, routes) as (reader, names):
        own, begin = await reader.ledger(), wanted.since // DAY * DAY
        days = [(it, name) for name in names for it in await reader.days(name, begin, wanted.until)]
    return [head_line(own, name, _head(it)) for it, name in sorted(days)]


@asynccontextmanager
async def _opened(path: Path, routes: Sequence[str]) -> AsyncIterator[tuple[Reader, Sequence[str]]]:
    reader = await asyncio.to_thread(Reader, path)
    try:
        there = await reader.routes()
        for route in routes:
            if route not in there:
                raise ValueError(f"{path}: there is no route {route!r}; there are: {', '.join(there) or 'none'}")
        yield reader, list(dict.fromkeys(routes)) or there
    finally:
        await asyncio.to_thread(reader.close)


async def _gather(reader: Reader, counter: Reader, routes: Iterable[str], wanted: Wanted) -> Evidence:
    missing = await reader.caught_up()
    return Evidence(
        format=FORMAT,
        program=PROGRAM,
        ledger=await reader.ledger(),
        made=wanted.made,
        since=wanted.since,
        until=wanted.until,
        missing=missing if missing is not None and missing < wanted.until else None,
        language=wanted.language,
        zone=wanted.zone.key,
        offsets=list(_offsets(wanted.zone, wanted.since, max(wanted.made, wanted.until))),
        routes=[await _route(reader, counter, route, wanted) for route in routes],
    )


async def _route(reader: Reader, counter: Reader, route: str, wanted: Wanted) -> RouteEvidence:
    records, counts = await asyncio.gather(_records(reader, route, wanted), _counts(counter, route, wanted))
    return RouteEvidence(name=route, **records, **counts)


async def _counts(reader: Reader, route: str, wanted: Wanted) -> dict[str, Any]:
    """What all mails came to."""
    since, until = wanted.since, wanted.until
    width = HOUR if until - since <= _HOURS * HOUR else DAY
    begin, end = since // width * width, math.ceil(until / width) * width
    return {
        "totals": await reader.totals(route, since, until),
        "width": width,
        "cells": await reader.strip(begin, end, round((end - begin) / width), route),
        "points": await reader.latencies(route, since, until, _POINTS),
        "incidents": [incident_of(row) for row in await reader.incidents(since, until, route)],
    }


async def _records(reader: Reader, route: str, wanted: Wanted) -> dict[str, Any]:
    """The mails of which something is to be proved, and their chain."""
    lives = [life async for life in reader.evidence(route, wanted.since, wanted.until)]
    lives += await _flying(reader, route, wanted, {life.summary.probe for life in lives})
    lives.sort(key=lambda life: (life.summary.started, life.summary.probe))
    told = (life for life in lives if life.headers and life.summary.latency is not None)
    shown = {it.summary.probe for it in heapq.nlargest(wanted.details, told, lambda it: it.summary.latency or 0.0)}
    mails = [_mail(life, life.summary.probe in shown) for life in lives]
    heads, stretches = await _chain(reader, route, lives, wanted.since)
    sender, recipient = await _ends(reader, route, lives)
    return {"sender": sender, "recipient": recipient, "mails": mails, "heads": heads, "stretches": stretches}


async def _flying(reader: Reader, route: str, wanted: Wanted, known: set[str]) -> list[Life]:
    """What is in flight and has missed no deadline, because it is young or because nobody looked."""
    standing = (await reader.standings()).get(route)
    if standing is None or not standing.in_flight:
        return []
    rows = await reader.probes(route, (wanted.until, ""), _FLYING, states=IN_FLIGHT)
    found = [await reader.life(row.probe) for row in rows if row.started >= wanted.since and row.probe not in known]
    return [life for life in found if life]


async def _ends(reader: Reader, route: str, lives: Sequence[Life]) -> tuple[str, str]:
    """The addresses of sender and recipient."""
    standing = None if lives else (await reader.standings()).get(route)
    life = lives[-1] if lives else await reader.life(standing.newest.probe) if standing else None
    first = life.events[0][1] if life and life.events else {}
    return first.get("sender", ""), first.get("recipient", "")


def _mail(life: Life, with_header: bool) -> Mail:
    record, last = life.record, life.links[-1] if life.links else None
    link = last.number if last and last.digest == chain.digest(record) else None
    header = next(filter(None, map(_own_header, life.headers)), "") if with_header else ""
    return Mail(record.decode(), link, header)


def _own_header(raw: bytes) -> str:
    """The header block of the mail, without anything of its body; "" for a notification's."""
    kind = parse_head(raw).get("content-type", [""])[0]
    block = raw.replace(b"\r\n", b"\n").partition(b"\n\n")[0].decode("latin-1")
    return "" if kind.lower().lstrip().startswith("multipart/report") else block


# -- the chain -----------------------------------------------------------------------------------------------------


async def _chain(reader: Reader, route: str, lives: Iterable[Life], since: float) -> tuple[list[Head], list[Stretch]]:
    """The heads of all days from the span's begin, and the links of those days on which one of these was chained."""
    days = sorted(await reader.days(route, 0.0, math.inf), key=lambda it: it.number)  # the wall clock may have been set
    wanted = {link.number for life in lives for link in life.links[-1:]}
    heads, stretches = [], []
    before = Day(0.0, 0, chain.genesis(await reader.ledger(), route))
    for head in days:
        if not wanted.isdisjoint(range(before.number + 1, head.number + 1)):
            digests = await reader.digests(route, before.number, head.number)
            if len(digests) == head.number - before.number:  # else some are forgotten already
                told = base64.b64encode(b"".join(digests)).decode()
                stretches.append(Stretch(before.number, before.head.hex(), told))
                heads += [_head(before)] if before.number else []
        if head.begin + DAY > since:
            heads.append(_head(head))
        before = head
    return sorted(set(heads)), stretches


def _head(it: Day) -> Head:
    return Head(it.begin, it.number, it.head.hex())


def _offsets(zone: ZoneInfo, since: float, until: float) -> Iterator[Offset]:
    """The zone's offsets in this span, and in a month around it; one before all."""
    last = None
    for half in range(2 * math.floor(since / HOUR) - 31 * 48, 2 * math.ceil(until / HOUR) + 1):  # Lord Howe's clocks
        local = datetime.fromtimestamp(half * HOUR / 2, UTC).astimezone(zone)
        offset = local.utcoffset()
        now = (int(offset.total_seconds()) if offset else 0), local.tzname() or zone.key
        if now != last:
            yield Offset(half * HOUR / 2, *now)
        last = now
