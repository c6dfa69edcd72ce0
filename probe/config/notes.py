"""Mistakes and warnings: one line each, that names the place, the key and the mend. Rule: no line can show a secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel

from probe.config.tables import (
    AccountTable,
    AskingTable,
    Document,
    LedgerTable,
    OAuthTable,
    PageTable,
    RouteTable,
    ServerTable,
)

Key = tuple[str, ...]  # ("routes", "a-to-b", "every")
PREFIX = "MAILPROBE_"
SECRETS = ("password", "refresh_token", "client_secret")  # of an account; never in the file


class ConfigError(Exception):
    """The configuration cannot be used. `lines` holds one line per mistake; str() is those lines."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass
class Notes:
    """The mistakes and warnings found so far, and which environment variable set which key."""

    file: str
    origins: dict[Key, str] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def wrong(self, key: Key, text: str, place: str = "") -> None:
        self.mistakes.append(self.line(key, text, place))

    def warn(self, key: Key, text: str) -> None:
        self.warnings.append(self.line(key, text))

    def line(self, key: Key, text: str, place: str = "") -> str:
        dotted = ".".join(part if re.fullmatch(r"[\w-]+", part, re.ASCII) else json.dumps(part) for part in key)
        line = ": ".join(part for part in (place or self.origins.get(key, self.file), dotted, text) if part)
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def instead(word: str, words: Iterable[str]) -> str:
    """The mend for a word that is none of `words`."""
    known = sorted(words)
    near = get_close_matches(word, known, 1)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known[:12]) or 'none'}"


def keys(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


_SUBTABLES: dict[str, type[BaseModel]] = {
    "smtp": ServerTable,
    "imap": ServerTable,
    "asking": AskingTable,
    "ledger": LedgerTable,
    "page": PageTable,
    "oauth": OAuthTable,
}
_WORDS = {
    "missing": "is missing; write it",
    "literal_error": "must be one of {expected}",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "string_type": "must be text in quotes",
    "list_type": "must be a list in [ ]",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("dict_type", "model_type"), "must be a table"),
}


def words(kind: str, context: Mapping[str, Any], key: Key) -> str:
    """A finding of pydantic's in our words, which never show the value."""
    if kind == "value_error":
        return str(context["error"])
    if kind != "extra_forbidden":
        return _WORDS.get(kind, "is not of the right kind").format(**context)
    if key[-1].lower() in SECRETS:
        return f"does not belong in this file; use {three_places(key[1] if len(key) > 2 else 'NAME', key[-1].lower())}"
    named = AccountTable if key[0] == "accounts" else RouteTable
    model = Document if len(key) == 1 else named if len(key) == 3 else _SUBTABLES[key[-2]]
    return f"unknown key{instead(key[-1], keys(model))}"


def three_places(name: str, secret: str) -> str:
    return f"{secret}_file, the credential {credential_for(name, secret)} or {variable_for(('accounts', name, secret))}"


def credential_for(name: str, secret: str) -> str:
    """The systemd credential with this secret of an account."""
    return f"accounts__{name}__{secret}"


def variable_for(key: Key) -> str:
    """The environment variable that sets this key."""
    return PREFIX + "__".join(key).upper().replace("-", "_")
