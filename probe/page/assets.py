"""The files that pages are made of, under names that change with their content, so that browsers may keep them."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import NamedTuple

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


class Asset(NamedTuple):
    """A file as it is sent."""

    body: bytes
    zipped: bytes
    content_type: str
    digest: str


@cache
def assets() -> Mapping[str, Asset]:
    """By path."""
    found = {}
    for file in resources.files("probe.page").joinpath("static").iterdir():
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind:
            body = file.read_bytes()
            digest = hashlib.sha256(body).hexdigest()[:16]
            zipped = gzip.compress(body, mtime=0)
            found[f"/static/{digest}/{file.name}"] = Asset(body, zipped, f"{kind}; charset=utf-8", digest)
    return found


@cache
def paths() -> Mapping[str, str]:
    """Each one's path, by its name."""
    return {path.rpartition("/")[2]: path for path in assets()}
