"""Header fields: encoded words are read as their senders meant them, at a cost that grows no faster than the field."""

from __future__ import annotations

import base64
import encodings
import time
import warnings

import pytest

from probe.core.headers import parse_head, values

ODD_LETTERS = base64.b64encode(rb"+2AA- \ud800 \d").decode()


def said(value: str) -> str:
    (text,) = values({"subject": [value]}, "Subject")
    return text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("=?utf-8?q?a_b=C3=BC?=", "a bü"),
        ("a =?UTF-8?B?w7w=?= b", "a ü b"),
        ("=?utf-8?b?w7w?=", "ü"),  # no padding
        ("=?utf-8?q?=C3?= =?utf-8?q?=BC?=", "ü"),  # one character in two words
        ("=?utf-8?q?=C3?=  =?utf-8?b?vA==?=\n =?iso-8859-1?q?=FC?=", "üü"),
        ("=?utf-8?q?a?= b =?utf-8?q?c?=", "a b c"),
        ("=?iso-8859-1*de?q?=FC?=", "ü"),  # RFC 2231 §5
        ("=?koi8-r?b?zsU=?= =?gb2312?b?zcvQxQ==?=", "не退信"),
        ("=?utf-8?q?=FF?=", "\ufffd"),
        ("=?nonsense?q?x?= y", "=?nonsense?q?x?= y"),
        ("=?iso-8859-99?q?x?= y", "=?iso-8859-99?q?x?= y"),
        ("=?utf-8?x?a?= =?utf-8?q?", "=?utf-8?x?a?= =?utf-8?q?"),
        ("=?utf-8?q??=", ""),
        ("=?=", "=?="),
    ],
)
def test_encoded_words_are_read(value: str, text: str) -> None:
    assert said(value) == text


@pytest.mark.parametrize("charset", ["utf-7", "punycode", "unicode_escape", "idna", "undefined", "hex", "x\0"])
def test_what_python_calls_a_codec_is_not_always_a_charset(charset: str) -> None:
    word = f"=?{charset}?b?{ODD_LETTERS}?="
    with warnings.catch_warnings(action="error"):
        assert said(word) == word


def test_unknown_charsets_leave_nothing_behind() -> None:
    # Python keeps the name of every codec that it did not find.
    known = len(encodings._cache)  # type: ignore[attr-defined]
    for number in range(1000):
        said(f"=?x-{number}?q?a?=")
    assert len(encodings._cache) == known  # type: ignore[attr-defined]


@pytest.mark.parametrize("unit", ["=?", "=?utf-8?q?", "=?utf-8?q?a?= ", "=?utf-8?b?w7w=?=", "=?utf-8*", "=", "?= "])
def test_time_grows_no_faster_than_the_field(unit: str) -> None:
    head = parse_head(("Subject: " + unit * (2_000_000 // len(unit))).encode())
    begun = time.process_time()
    list(values(head, "Subject"))
    assert time.process_time() - begun < 5  # half a second; quadratic would be minutes
