"""HTML by functions. Rule: a text that is not Html is escaped, wherever it stands."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_VOID = frozenset({"input", "link", "meta"})
_NAMES: dict[str, str] = {}


class Html(str):
    """A text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: object) -> Html:
    """An element. `class_` and `aria_label` become class and aria-label; True is an attribute without a value, None and
    False are none."""
    begin = opened(name, **attributes)
    return begin if name in _VOID else Html(f"{begin}{join(children)}</{name}>")


def opened(name: str, /, **attributes: object) -> Html:
    """The beginning of an element; whoever asks for it writes the end."""
    return Html(f"<{name}{''.join([_attribute(key, it) for key, it in attributes.items() if it is not None])}>")


def join(children: Iterable[str]) -> Html:
    """These, one after the other."""
    return Html("".join([one if type(one) is Html else escape(one) for one in children]))


def _attribute(key: str, value: object) -> str:
    if value is False:
        return ""
    name = _NAMES.get(key) or _NAMES.setdefault(key, key.rstrip("_").replace("_", "-"))
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
