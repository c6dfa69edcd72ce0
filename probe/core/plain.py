"""Frozen records as plain data that JSON can hold, and back, by their annotations.

Rule: what does not fit its annotation is refused in one line, never taken over half. A field that older data cannot
have says so in its metadata, {"later": True}, and has its default there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

_PLAIN = frozenset({str, float, int, bool, NoneType})


def plain(value: Any) -> Any:
    """The value as dicts, lists, strings, numbers, booleans and None."""
    if type(value) in _PLAIN:  # nearly all, and a tenth of the work
        return value
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, set):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def typed(hint: Any, value: Any) -> Any:
    """The value that plain() was given, of this annotation. Raises ValueError."""
    try:
        return _typed(hint, value)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not plain data of {getattr(hint, '__name__', hint)}: {error!r}") from error


def _typed(hint: Any, value: Any) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return None if value is None else _typed(next(arg for arg in args if arg is not NoneType), value)
    if origin is Literal:
        return _which(hint, value, value in args)
    if origin is dict:
        return {_typed(args[0], key): _typed(args[1], item) for key, item in value.items()}
    if origin in {list, set}:
        return origin(_typed(args[0], item) for item in _which(hint, value, isinstance(value, list)))
    if origin is tuple:
        return tuple(_typed(arg, item) for arg, item in zip(args, value, strict=True))
    if is_dataclass(hint) or hasattr(hint, "_fields"):
        return _record(hint, value)
    if issubclass(hint, Enum):
        return hint(value)
    fits = isinstance(value, (int, float) if hint is float else hint) and (hint is bool or not isinstance(value, bool))
    return _which(hint, value, fits)


@cache
def _hints(hint: Callable[..., Any]) -> tuple[dict[str, Any], set[str]]:
    later = {field.name for field in fields(hint) if "later" in field.metadata} if is_dataclass(hint) else set()
    return get_type_hints(hint), later


def _record(hint: Callable[..., Any], value: Any) -> Any:
    hints, later = _hints(hint)
    if isinstance(value, dict) and hints.keys() - later <= value.keys() <= hints.keys():
        return hint(**{name: _typed(hints[name], item) for name, item in value.items()})
    return hint(*(_typed(part, item) for part, item in zip(hints.values(), value, strict=True)))


def _which(hint: Any, value: Any, fits: bool) -> Any:
    if not fits:
        raise TypeError(f"{value!r} is no {hint}")
    return value
