"""Events as rows of the file, and back.

Rule: an event is written once. A probe is what advance() makes of its events; what cannot be read is told and left out.
"""

from __future__ import annotations

import json
import logging
import sqlite3

from probe.core.events import Event
from probe.core.state import ImpossibleEvent, Probe, advance
from probe.core.written import fields, typed

log = logging.getLogger("mailprobe.ledger")

_encode = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps would make one for every event


def row(event: Event) -> tuple[str, str, float, str]:
    """(probe, kind, at, record) as the table of events has them."""
    return event.probe, type(event).__name__, event.at.wall, _encode(fields(event))


def load(db: sqlite3.Connection, where: str, args: tuple[object, ...]) -> list[Probe]:
    """The probes of which this holds, in the order of their first events."""
    probes: dict[str, Probe] = {}
    some = f"SELECT id FROM probes WHERE {where}"  # no join: for the order's sake it would go through all events
    query = f"SELECT probe, kind, record FROM events WHERE probe IN ({some}) ORDER BY seq"
    for probe, kind, record in db.execute(query, args):
        try:
            probes[probe] = advance(probes.get(probe), typed(kind, json.loads(record)))
        except (ImpossibleEvent, KeyError, ValueError, TypeError):  # a rescued file, say; the others must not suffer
            log.exception("the record of probe %s in the ledger cannot be read; it is left out", probe)
            probes.pop(probe, None)
    return list(probes.values())
