"""What a client takes, and what it has."""

from __future__ import annotations

import pytest

from probe.core.accepts import has, tagged, takes_gzip


@pytest.mark.parametrize(
    ("said", "takes"),
    [
        ("gzip", True),
        ("br, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0, br", False),
        ("", False),
        ("br", False),
    ],
)
def test_gzip_is_for_who_takes_it(said: str, takes: bool) -> None:
    assert takes_gzip(said) is takes


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ('"a"', True),
        ('W/"a"', True),
        ('"x", W/"a"', True),
        ("*", True),
        (" * ", True),
        ('"a-gzip"', False),
        ("", False),
    ],
)
def test_a_tag_is_known_from_a_list_weak_or_strong(said: str, known: bool) -> None:
    assert has(said, tagged("a", packed=False)) is known


def test_what_is_packed_is_another_representation() -> None:
    assert tagged("a", packed=True) != tagged("a", packed=False)
