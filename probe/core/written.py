"""Events as JSON types, and back: the form in which the ledger keeps them, chains them, and reports carry them.

Rule: what was written by an older version can be read: a field that is not there has its default.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from probe.core.events import Event


def _reader(hint: Any) -> Callable[[list[Any]], Any]:
    """What makes of a JSON list the named tuple, or the tuple, that a field's annotation asks for."""
    if isinstance(hint, UnionType):
        hint = next(option for option in get_args(hint) if option is not type(None))
    if hasattr(hint, "_fields"):
        return lambda value: hint(*value)
    if get_origin(hint) is not tuple:
        return _refused
    of, *more = get_args(hint)
    if more != [...] or not (hasattr(of, "_fields") or get_origin(of) is tuple):
        return tuple
    inner = _reader(of)
    return lambda value: tuple(map(inner, value))


def _refused(value: list[Any]) -> None:
    raise TypeError(f"no field holds {value!r}")


# Made once, as every event of a ledger that is read goes through them.
_KINDS: dict[str, tuple[type[Event], dict[str, Callable[[list[Any]], Any]]]] = {
    kind.__name__: (kind, {name: _reader(hint) for name, hint in get_type_hints(kind).items()})
    for kind in get_args(Event)
}
_FIELDS: dict[type[Event], tuple[str, ...]] = {
    kind: tuple(field.name for field in dataclasses.fields(kind) if field.name != "raw") for kind in get_args(Event)
}


def fields(event: Event) -> dict[str, Any]:
    """The event's fields as JSON types; named tuples become lists."""
    return {name: getattr(event, name) for name in _FIELDS[type(event)]}


def typed(kind: str, record: Mapping[str, Any]) -> Event:
    """The event of which these are the fields. Raises KeyError, TypeError, ValueError."""
    cls, readers = _KINDS[kind]
    return cls(**{name: readers[name](value) if type(value) is list else value for name, value in record.items()})
