"""Every parser of foreign bytes against any bytes: only documented errors, and what comes out keeps its promises.

Rule: the parsers, the seeds and the promises stand in one table (tests/fuzz/targets.py), which `make fuzz` uses, too.
"""

from __future__ import annotations

import base64
import dataclasses
import re
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.core.authres import Verdicts
from probe.core.dsn import Notice
from probe.core.explain import explain
from probe.core.message import Recognised
from probe.mail.imap_syntax import Fetched, Folder, Framer, Parts

from .fuzz import __main__ as command
from .fuzz import targets
from .fuzz.targets import TARGETS, TOKEN, Target, Wire


@st.composite
def mutated(draw: st.DrawFn, target: Target) -> bytes:
    """A seed after some accidents."""
    raw = draw(st.sampled_from(target.seeds))
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(raw)))
        end = min(len(raw), begin + draw(st.integers(0, 40)))
        match draw(st.sampled_from(["truncate", "duplicate", "splice", "flip", "replace"])):
            case "truncate":
                raw = raw[:begin]
            case "duplicate":
                raw = raw[:end] + raw[begin:end] + raw[end:]
            case "splice":
                other = draw(st.sampled_from(target.seeds))
                raw = raw[:begin] + other[draw(st.integers(0, len(other))) :]
            case "flip":
                bits = 1 << draw(st.integers(0, 7))
                raw = raw[:begin] + bytes(byte ^ bits for byte in raw[begin : begin + 1]) + raw[begin + 1 :]
            case "replace":
                raw = raw[:begin] + draw(st.sampled_from(target.words) | st.binary(max_size=8)) + raw[end:]
    return raw[:8192]


def unkind(target: Target) -> st.SearchStrategy[bytes]:
    structured = st.lists(st.sampled_from(target.words) | st.binary(max_size=4), max_size=20).map(b"".join)
    return st.binary(max_size=200) | structured | mutated(target)


def bear(target: Target) -> None:
    for seed in target.seeds:
        target.check(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_known_to_be_nasty_is_borne(name: str) -> None:
    bear(TARGETS[name])


@pytest.mark.parametrize("name", TARGETS)
def test_no_bytes_break_it(name: str) -> None:
    @settings(max_examples=300, deadline=None)
    @given(unkind(TARGETS[name]))
    def survives(data: bytes) -> None:
        TARGETS[name].check(data)

    survives()


def spent(target: Target, data: bytes) -> float:
    begun = time.process_time()
    (target.flooded or target.check)(data)
    return time.process_time() - begun


def hold_linear(target: Target) -> None:
    for frame in target.frames:
        before, _, after = frame.partition(b"@")
        for word in target.words:
            large = before + word * (8192 // len(word)) + after
            if spent(target, large) < 0.03:  # much less than a square of it would take
                continue
            small = before + word * (1024 // len(word)) + after
            ratio = min(spent(target, large) for _ in range(3)) / min(spent(target, small) for _ in range(3))
            assert ratio < 24, (frame, word)  # 8 is linear, 64 a square


@pytest.mark.parametrize("name", TARGETS)
def test_time_grows_no_faster_than_the_input(name: str) -> None:
    hold_linear(TARGETS[name])


# -- what cannot fail holds nothing --------------------------------------------------------------------------------


class Forgetful(Framer[int]):
    """Does not remember what came before."""

    def feed(self, data: bytes, stamp: int):  # type: ignore[no-untyped-def]
        return Framer[int]().feed(data, stamp)


class Late(Framer[int]):
    """Stamps a response by the read that ended it."""

    def feed(self, data: bytes, stamp: int):  # type: ignore[no-untyped-def]
        return ((parts, stamp) for parts, _ in super().feed(data, stamp))


class Raising(Wire):
    def _dispatch(self, parts: Parts, at: object) -> None:
        raise KeyError(parts[0])


class Chatty(Wire):
    def _continuation(self, line: bytes) -> None:
        self._write(b"\r\n")


def any_notice(key: bytes, raw: bytes) -> Notice:
    return Notice(TOKEN.probe, "failed", "", "\x1b[31m", "", "", "", "envid")


@pytest.mark.parametrize(
    ("name", "attribute", "broken"),
    [
        ("framing", "Framer", Forgetful),
        ("framing", "Framer", Late),
        ("wire", "Wire", Raising),
        ("wire", "Wire", Chatty),
        ("answers", "imap_syntax.parse_list", lambda parts: Folder("\x1b[31m", "a", "/", frozenset())),
        ("answers", "imap_syntax.parse_fetch", lambda parts: Fetched(0, b"", None)),
        ("answers", "imap_syntax.decode_utf7", lambda raw: "\ud800"),
        ("challenge", "oauth.why_refused", lambda challenge: "a\nb"),
        ("token", "verify", lambda key, text: TOKEN),
        ("token", "without_tokens", lambda text: text),
        ("received", "finer_stamp", lambda hop: (0.0, 1.0)),
        ("received", "as_json", lambda hop: {"from": "\x1b"}),
        ("header", "values", lambda head, name: ["\ud800"] * len(head[name])),
        ("trace", "explain", lambda block: dataclasses.replace(explain(block), held=())),
        ("authres", "read", lambda fields, own, hosts=(): Verdicts("\x1b[31m")),
        ("authres", "read", lambda fields, own, hosts=(): Verdicts()),
        ("mime", "mime_parts", lambda raw: []),
        ("mail", "recognise", lambda key, raw, senders: Recognised(TOKEN, "header", removable=True)),
        ("delivered", "recognise", lambda key, raw, senders: None),
        ("notice", "read_notice", any_notice),
        ("reply", "one_line", lambda text: text),
    ],
)
def test_a_broken_parser_is_found(
    name: str, attribute: str, broken: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{targets.__name__}.{attribute}", broken)
    with pytest.raises((AssertionError, ValueError)):
        bear(TARGETS[name])


def test_a_square_is_found() -> None:
    square = re.compile(rb"=[^?]*\?=")
    with pytest.raises(AssertionError, match="b'='"):
        hold_linear(Target(lambda data: [square.findall(data) for _ in range(5)], (), (b"a", b"=")))


def test_a_finding_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    def picky(data: bytes) -> None:
        assert data != b"\xff\0"

    monkeypatch.setitem(TARGETS, "picky", Target(picky, (), ()))
    assert command.main(["picky", "--repeat", ""]) == 0
    with pytest.raises(AssertionError):
        command.main(["picky", "--repeat", base64.b64encode(b"\xff\0").decode()])
    with pytest.raises(SystemExit):
        command.main(["nobody"])


def test_a_finding_is_told_with_its_traceback() -> None:
    trace, end = " === Uncaught Python exception: ===\nKeyError: 1\nTraceback", "ERROR: libFuzzer: fuzz target exited"
    assert command._complaint(f"INFO: x\n\n{trace}\n\n==7== {end}\nMS: 1") == trace.strip()
    assert command._complaint(f"INFO: x\n==7== {end}\nMS: 1") == end
    assert command._complaint("No module named atheris") == "No module named atheris"
