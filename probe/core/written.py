"""Events as JSON types, and back: the form in which the ledger keeps them, chains them, and reports carry them.

Rule: what was written by an older version can be read: a field that is not there has its default.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args, get_type_hints

from probe.core.events import Event

_KINDS: dict[str, tuple[type[Event], dict[str, Any]]] = {
    kind.__name__: (kind, get_type_hints(kind)) for kind in get_args(Event)
}
_FIELDS: dict[type[Event], tuple[str, ...]] = {
    kind: tuple(field.name for field in dataclasses.fields(kind) if field.name != "raw") for kind in get_args(Event)
}


def fields(event: Event) -> dict[str, Any]:
    """The event's fields as JSON types; named tuples become lists."""
    return {name: getattr(event, name) for name in _FIELDS[type(event)]}


def typed(kind: str, record: Mapping[str, Any]) -> Event:
    """The event of which these are the fields. Raises KeyError, TypeError, ValueError."""
    cls, hints = _KINDS[kind]
    return cls(**{name: _typed(hints[name], value) if type(value) is list else value for name, value in record.items()})


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
