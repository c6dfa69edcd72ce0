"""A ledger with every outcome that a probe can have, made by hand: an outage like that of January 2007.

Run as a program it makes a report to look at:  python -m tests.evidence FILE.html [de]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from probe.core.events import (
    Accepted,
    Arrived,
    Bounced,
    Deferred,
    Event,
    Expired,
    Failed,
    Instant,
    Judged,
    Notified,
    Part,
    Place,
    Rejected,
    Reply,
    Sending,
    Stay,
    Traced,
    Unconfirmed,
)
from probe.core.history import IncidentRow
from probe.core.plain import plain
from probe.core.state import OPEN
from probe.core.trouble import Held, Incident, RouteState, Toll
from probe.ledger import Ledger
from probe.report import render
from probe.report.gather import Wanted, collect

from .make import make_probe

BEGIN = datetime(2007, 1, 26, tzinfo=UTC).timestamp()
LATE = f"{2:016x}"  # the one with a header
MADE = BEGIN + 6 * 86400 + 11 * 3600
HOSTILE = "<script>alert('x')</script> =1+1 | \u202e\x1b[31m `*_\n|&amp;"
HEADER = b"""Received: from mx00.kundenserver.example (mx00.kundenserver.example [192.0.2.7])
\tby imap.example.org (Postfix) with ESMTPS id 4Kx7P21Zk9z5Qw
\tfor <probe@example.org>; Sun, 28 Jan 2007 12:31:07 +0000 (UTC)
Received: from mout.example.de (mout.example.de [198.51.100.4])
\tby mx00.kundenserver.example (node=mxeu7) with ESMTP (Nemesis)
\tid 0MKwh2-1HABCD2gYK-0005aB for <probe@example.org>; Fri, 26 Jan 2007 10:02:14 +0100
Received: from probe.example.net ([203.0.113.9])
\tby mout.example.de with ESMTPA; Fri, 26 Jan 2007 09:02:11 +0000
X-Mailprobe-Token: 1.0000000000000002.0.c2VjcmV0
Subject: mailprobe 1.0000000000000002 <script>
"""


def at(day: int, hour: float, boot: str = "6f1d2c3e") -> Instant:
    """So long after the begin, by both clocks."""
    seconds = day * 86400 + hour * 3600
    return Instant(BEGIN + seconds, 40_000 + seconds, boot)


class Story:
    """One probe's life, told shortly."""

    def __init__(self, number: int, start: Instant, route: str = "ionos-to-own") -> None:
        self.probe, self.start = f"{number:016x}", start
        self.taken = start.shifted(0.25)
        sent = Sending(self.probe, start, route, start.shifted(-0.01), "probe@example.de", "probe@example.org")
        self.events: list[Event] = [sent]

    def accepted(self, text: str = "Message 0MKwh2 accepted", queue_id: str = "") -> Story:
        queue_id = queue_id or f"0MKwh2-1HA{self.probe[-3:]}"
        reply = Reply(250, "2.0.0", text)
        self.events.append(Accepted(self.probe, self.taken, reply, queue_id, (("connect", 0.02), ("data", 0.1))))
        return self

    def judged(self, first: bool | None, last: bool | None) -> Story:
        for deadline, met in ((30.0, first), (300.0, last)):
            self.events.append(Judged(self.probe, self.taken.shifted(deadline + 0.5), deadline, met))
        return self

    def arrived(self, after: float, **more: object) -> Story:
        seen = self.taken.shifted(after)
        fields = {
            "place": Place("own", "INBOX", 7, int(self.probe, 16)),
            "placement": "inbox",
            "detection": "idle",
            "not_before": seen.shifted(-0.04),
            "stored": float(int(seen.wall)),
            **more,
        }
        self.events.append(Arrived(self.probe, seen, **fields))  # type: ignore[arg-type]
        return self

    def traced(self, held: float) -> Story:
        parts = (
            Part("submission", 0.2, 0.2),
            Part("sender", 0.0, 3.0),
            Part("recipient", held - 3.0, held),
            Part("mailbox", 0.0, 1.0),
        )
        stays = (Stay("mout.example.de", 0.0, 3.0), Stay("mx00.kundenserver.example", held - 3.0, held))
        seen = self.events[-1].at
        self.events.append(Traced(self.probe, seen.shifted(0.1), parts, stays, (("spf", "pass"), ("dkim", "pass"))))
        return self

    def add(self, *events: Event) -> Story:
        self.events += events
        return self


def stories() -> list[Story]:
    """Every outcome; the late ones all held until the third day."""
    found = [Story(1, at(0, 8.0)).accepted().arrived(1.4).judged(True, True)]
    late = Story(2, Instant(BEGIN + 32530.75, 72530.75, "6f1d2c3e")).accepted().judged(False, False)
    found.append(late.arrived(2 * 86400 + 12536.5).traced(2 * 86400 + 12536.5))
    for number in range(3, 33):
        start = at(0, 9.0 + number / 10)
        wait = 2 * 86400 + 12536.5 - (number - 2) * 200
        found.append(Story(number, start).accepted().judged(False, False).arrived(wait).traced(wait))
    found.append(Story(33, at(0, 12.5)).accepted().judged(False, False).add(Expired(f"{33:016x}", at(5, 12.5))))
    it = Story(34, at(0, 12.6)).accepted().judged(False, False)
    it.add(
        Notified(
            it.probe, at(0, 16.6), Place("ionos", "INBOX", 3, 34), "delayed", "4.4.1", "still trying", "mout.example.de"
        )
    )
    found.append(it.add(Expired(it.probe, at(5, 12.6))).arrived(5 * 86400 + 3600))
    it = Story(35, at(0, 12.7)).accepted().judged(False, False)
    found.append(
        it.add(Bounced(it.probe, at(0, 14.0), Place("ionos", "INBOX", 3, 35), "5.1.1", "no such user", "mx00.example"))
    )
    # In flight; not confirmed; refused in three ways; junk, twice; seen by nobody.
    found.append(Story(36, at(6, 9.0)).accepted(HOSTILE, "<b>id</b>").judged(False, False))
    it = Story(37, at(0, 13.0))
    it.add(Unconfirmed(it.probe, it.taken.shifted(5.0), it.taken, "lost", "connection lost", (("data", 5.0),)))
    found.append(it.arrived(7.0).judged(True, True))
    it = Story(38, at(0, 13.1))
    found.append(it.add(Rejected(it.probe, it.taken, "data", Reply(554, "5.7.1", "refused by policy"))))
    it = Story(39, at(0, 13.2))
    found.append(it.add(Deferred(it.probe, it.taken, "envelope", Reply(451, "4.7.1", HOSTILE))))
    it = Story(40, at(0, 13.3))
    found.append(it.add(Failed(it.probe, it.taken, "connect", "refused", "connection refused")))
    found.append(
        Story(41, at(0, 13.4))
        .accepted()
        .arrived(1.1, placement="junk", place=Place("own", "Junk", 9, 41))
        .judged(True, True)
    )
    it = Story(42, at(0, 13.5)).accepted().judged(False, True).arrived(60.0)
    found.append(it.arrived(61.0, place=Place("own", "Archive", 9, 42)))
    found.append(
        Story(43, at(0, 13.6))
        .accepted()
        .judged(None, None)
        .arrived(3600.0, detection="catch-up", not_before=None, stored=None)
    )
    # Found by catching up after a restart, and with a wall clock that was set: between two moments, by the wall clock.
    it = Story(44, at(0, 13.7)).accepted().judged(False, False)
    seen = Instant(BEGIN + 20 * 3600.0, 120.0, "a2b4c6d8")
    arrived = Arrived(
        it.probe, seen, Place("own", "INBOX", 7, 44), "inbox", "catch-up", at(0, 17.0), BEGIN + 18 * 3600.0
    )
    found.append(it.add(arrived))
    it = Story(45, at(0, 13.8)).accepted().judged(False, False)
    stepped = it.taken.shifted(600.0)
    found.append(
        it.add(
            Arrived(
                it.probe,
                stepped._replace(wall=stepped.wall + 7.0),
                Place("own", "INBOX", 7, 45),
                "inbox",
                "idle",
                it.taken.shifted(599.9),
            )
        )
    )
    for number in range(46, 346):  # good days
        found.append(
            Story(number, at(1 + number // 80, (number % 80) * 0.3))
            .accepted()
            .arrived(0.8 + number % 7)
            .judged(True, True)
        )
    return sorted(found, key=lambda story: story.start.wall)


INCIDENT = Incident(
    "ionos-to-own", "late", at(0, 9.0), at(0, 9.1), RouteState.STUCK, 2 * 86400 + 12536.5, Toll(late=33, lost=1),
    Held("recipient", 170000.0, 185000.0), at(2, 12.5),
)  # fmt: skip


async def make(path: Path, told: Sequence[Story], chained_by_day: bool = True) -> None:
    """Put them on record, each once it is finished."""
    ledger = await asyncio.to_thread(Ledger, path)
    try:
        for story in sorted(told, key=lambda story: max(it.at.wall for it in story.events)):
            probe = make_probe(*story.events)
            events = [
                replace(it, raw=HEADER) if isinstance(it, Arrived) and story.probe == LATE else it
                for it in story.events
            ]
            finished = [] if probe.state in OPEN else [probe.id]
            await ledger.commit(events, [probe], (), finished)
        await ledger.save(
            [IncidentRow("i1", INCIDENT.route, "late", INCIDENT.begin.wall, at(2, 12.5).wall, plain(INCIDENT))]
        )
    finally:
        await asyncio.to_thread(ledger.close)


def wanted(language: str = "en", zone: str = "Europe/Berlin", details: int = 3) -> Wanted:
    """The whole story."""
    return Wanted(BEGIN, MADE, MADE, language, ZoneInfo(zone), details)  # type: ignore[arg-type]


def main(words: Iterable[str]) -> None:
    """Make a report to look at."""
    output, *language = words
    with tempfile.TemporaryDirectory() as room:
        path = Path(room) / "ledger.sqlite"
        asyncio.run(make(path, stories()))
        evidence = asyncio.run(collect(path, [], wanted(*language)))
    Path(output).write_text(render(evidence, output.rpartition(".")[2]), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
