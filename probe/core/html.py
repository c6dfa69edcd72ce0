"""HTML and SVG by functions: of the status page, and of reports.

Rule: a text that is not Html is escaped, wherever it stands, and shows what it is: no control character, and nothing
that turns the direction of writing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

_VOID = frozenset({"input", "link", "meta"})
_NAMES: dict[str, str] = {}
_UNSEEN = re.compile(r"[^\S ]")
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]")


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


def join(children: Iterable[str], between: str = "") -> Html:
    """These, one after the other."""
    return Html(between.join([one if type(one) is Html else escaped(one) for one in children]))


def lines(*elements: str) -> Html:
    """Elements, one on a line."""
    return join(elements, "\n")


def escaped(text: str) -> str:
    """A text as HTML."""
    return escape(shown(text))


def shown(text: str) -> str:
    """The text on one line, with a sign instead of what cannot be seen."""
    return text if text.isprintable() else _UNSHOWN.sub("\ufffd", _UNSEEN.sub(" ", text))


def _attribute(key: str, value: object) -> str:
    if value is False:
        return ""
    name = _NAMES.get(key) or _NAMES.setdefault(key, key.rstrip("_").replace("_", "-"))
    return f" {name}" if value is True else f' {name}="{escaped(str(value))}"'
