"""Events as rows of the file, and back.

Rule: an event is written once. A probe is what advance() makes of its events; what cannot be read is told and left out.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sqlite3
import zlib
from types import UnionType
from typing import Any, get_args, get_type_hints

from probe.core.events import Event
from probe.core.state import ImpossibleEvent, Probe, advance

log = logging.getLogger("mailprobe.ledger")

_KINDS: dict[str, tuple[type[Event], dict[str, Any]]] = {
    kind.__name__: (kind, get_type_hints(kind)) for kind in get_args(Event)
}
_FIELDS: dict[type[Event], tuple[str, ...]] = {
    kind: tuple(field.name for field in dataclasses.fields(kind) if field.name != "raw") for kind in get_args(Event)
}
_encode = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps would make one for every event


def row(event: Event) -> tuple[str, str, float, str]:
    """(probe, kind, at, record) as the table of events has them."""
    return event.probe, type(event).__name__, event.at.wall, _encode(fields(event))


def fields(event: Event) -> dict[str, Any]:
    """The event's fields as JSON types; named tuples become lists."""
    return {name: getattr(event, name) for name in _FIELDS[type(event)]}


def typed(kind: str, record: dict[str, Any]) -> Event:
    """The event of which these are the fields. Raises KeyError, TypeError, ValueError."""
    cls, hints = _KINDS[kind]
    return cls(**{name: _typed(hints[name], value) if type(value) is list else value for name, value in record.items()})


def load(db: sqlite3.Connection, where: str, args: tuple[object, ...]) -> list[Probe]:
    """The probes of which this holds, in the order of their first events."""
    probes: dict[str, Probe] = {}
    query = f"SELECT probe, kind, record FROM events JOIN probes ON id = probe WHERE {where} ORDER BY seq"
    for probe, kind, record in db.execute(query, args):
        try:
            probes[probe] = advance(probes.get(probe), typed(kind, json.loads(record)))
        except (ImpossibleEvent, KeyError, ValueError, TypeError):  # a rescued file, say; the others must not suffer
            log.exception("the record of probe %s in the ledger cannot be read; it is left out", probe)
            probes.pop(probe, None)
    return list(probes.values())


def headers(db: sqlite3.Connection, probe: str) -> list[bytes]:
    """The header blocks of this probe's mails and bounces that are kept, in the order in which they came."""
    kept = db.execute("SELECT raw FROM headers WHERE probe = ? ORDER BY seq", (probe,))
    return [zlib.decompress(raw) for (raw,) in kept]


def _typed(hint: Any, value: Any) -> Any:
    """JSON lists back into the named tuples and tuples that the field's annotation asks for."""
    if type(value) is not list:
        return value
    if isinstance(hint, UnionType):
        hint = next(option for option in get_args(hint) if option is not type(None))
    if hasattr(hint, "_fields"):
        return hint(*value)
    of = get_args(hint)[0]
    return tuple(_typed(of, item) for item in value)
