"""HTML and SVG, put together from elements.

Rule: every text is escaped and shows what it is: no control character, and nothing that turns the direction of writing.
"""

from __future__ import annotations

import html
import re

_UNSEEN = re.compile(r"[^\S ]")
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]")


class Markup(str):
    """What is markup already."""

    __slots__ = ()


def shown(text: str) -> str:
    """The text on one line, with a sign instead of what cannot be seen."""
    return text if text.isprintable() else _UNSHOWN.sub("\ufffd", _UNSEEN.sub(" ", text))


def escaped(text: str) -> str:
    """A text as markup."""
    return html.escape(shown(text))


def el(tag: str, *content: str, **attributes: object) -> Markup:
    """An element; `class_` stands for the name that is Python's, and stroke_width for stroke-width."""
    inside = "".join([it if type(it) is Markup else escaped(it) for it in content])
    said = "".join(
        [f' {name.rstrip("_").replace("_", "-")}="{escaped(str(value))}"' for name, value in attributes.items()]
    )
    return Markup(f"<{tag}{said}>{inside}</{tag}>")


def lines(*elements: str) -> Markup:
    """Elements, one on a line."""
    return Markup("\n".join([it if type(it) is Markup else escaped(it) for it in elements]))
