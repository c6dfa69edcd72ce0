"""`mailprobe trace`: any mail's way is explained, in 80 columns and as JSON, and what cannot be known is said."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from probe.cli import main
from probe.core.explain import explain
from probe.core.headers import parse_head
from probe.core.received import as_json, hops
from probe.terminal.traced import data, view

from .make import ROOT

MESSAGES = sorted((ROOT / "tests/data/received/messages").glob("*.eml"))


def trace(*arguments: str, given: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["trace", *arguments], input=given, env={"COLUMNS": "80"})


def received(host: str, at: str, before: str = "x.example") -> str:
    return f"Received: from {before} ([192.0.2.1]) by {host} with ESMTPS id a; Fri, 26 Jan 2007 {at} +0000\n"


def mail(*stamps: tuple[str, str], more: str = "") -> str:
    """The header of a mail with these (host, time), the oldest first."""
    return "".join(received(*stamp) for stamp in reversed(stamps)) + "Subject: Test\n" + more


HELD = mail(("a.example", "09:00:00"), ("b.example", "09:00:01"), ("c.example", "09:01:30"), ("d.example", "09:01:31"))
SKEWED = mail(("a.example", "09:00:37"), ("b.example", "09:00:01"), ("c.example", "09:00:20"))


# -- in words ------------------------------------------------------------------------------------------------------


def test_the_host_that_held_it_is_named_with_bounds() -> None:
    result = trace("-", given=HELD.encode())
    assert result.exit_code == 0, result.output
    assert "Longest at b.example: 1 min 26 s–1 min 32 s." in result.output
    row = next(line for line in result.output.splitlines() if "b.example" in line)
    assert "█████████" in row
    assert "ESMTPS TLS" in row


def test_clocks_that_contradict_each_other_are_named_and_no_gap_within_their_error_is_called_a_hold() -> None:
    result = trace(given=SKEWED.encode())
    assert "The clocks of a.example and b.example differ by more than 35.0 s: one is wrong." in result.output
    assert "None of them certainly had it for longer than the others." in result.output
    assert "Longest" not in result.output


def test_what_one_mail_cannot_tell_is_said() -> None:
    flat = " ".join(trace(given=HELD.encode()).output.split())
    assert "One mail proves nothing of clocks: this holds if they differ by 2 s at most" in flat
    assert "No stamp tells when it was sent" in flat
    undated = HELD.replace("Fri, 26 Jan 2007 09:00:01 +0000", "yesterday")
    assert "1 of 4 hops have no stamp that can be read" in " ".join(trace(given=undated.encode()).output.split())


def test_the_receivers_verdicts_are_told() -> None:
    result = trace(given=("Authentication-Results: d.example; spf=pass; dkim=fail\nX-Spam-Flag: YES\n" + HELD).encode())
    flat = " ".join(result.output.split())
    assert "(d.example) seems to say: spf pass, dkim fail." in flat
    assert "x-spam-flag: spam" in flat


@pytest.mark.parametrize("file", MESSAGES, ids=lambda file: file.stem)
def test_every_mail_of_the_corpus_is_told_in_80_columns_without_colours(file: Path) -> None:
    result = trace(str(file))
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    assert max(map(len, result.output.splitlines())) <= 80
    number = len(hops(parse_head(file.read_bytes())))
    rows = re.findall(r"^ ?\d+ (?:\d\d:\d\d:\d\d|\?)", result.output, re.M)
    assert len(rows) == number > 0


def test_what_a_header_says_cannot_steer_the_terminal() -> None:
    hostile = mail(("a\x1b[31m.example", "09:00:00"), ("b.example", "09:00:01")).replace("Test", "\x1b]0;owned\x07")
    assert "\x1b" not in trace(given=hostile.encode()).output


# -- as JSON -------------------------------------------------------------------------------------------------------


def test_json_has_one_line_for_each_mail_with_its_hops_oldest_first(tmp_path: Path) -> None:
    mbox = tmp_path / "two.mbox"
    separator = "From probe@example.org Fri Jan 26 09:02:11 2007\n"
    mbox.write_text(separator + HELD + "\nbody\n\n" + separator + SKEWED + "\nbody\n")
    result = trace("--json", str(mbox))
    first, second = map(json.loads, result.output.splitlines())
    assert [hop["by"] for hop in first["hops"]] == ["a.example", "b.example", "c.example", "d.example"]
    assert first["hops"][1]["date"] == "2007-01-26T09:00:01Z"
    assert first["slowest"] == 1
    assert first["held"][1] == {"low": 86.0, "high": 92.0}
    assert first["held"][3] is None
    assert second["clocks"] == [{"earlier": "a.example", "later": "b.example", "differ_by_more_than": 35.0}]
    assert first["source"] == str(mbox)


@pytest.mark.parametrize("file", MESSAGES, ids=lambda file: file.stem)
def test_the_hops_of_the_corpus_are_those_that_are_read_from_its_bytes(file: Path) -> None:
    told = json.loads(trace("--json", str(file)).output)
    assert told["hops"] == [as_json(hop) for hop in hops(parse_head(file.read_bytes()))]


def test_several_files_are_told_one_after_the_other() -> None:
    result = trace("--json", *map(str, MESSAGES[:3]))
    assert [json.loads(line)["source"] for line in result.output.splitlines()] == [str(file) for file in MESSAGES[:3]]


# -- what cannot be used -------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_named_in_one_line(tmp_path: Path) -> None:
    result = trace(str(tmp_path / "none.eml"))
    assert result.exit_code == 2
    assert result.output.splitlines() == [f"mailprobe: {tmp_path / 'none.eml'}: No such file or directory"]


def test_where_no_mail_is_to_be_found_it_is_said_what_to_give() -> None:
    result = trace(given=b"Dear all,\n\nnothing here.\n")
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "mailprobe: standard input: no Received header in it; give a message, an mbox, or header lines"
    ]


@given(
    st.text(max_size=400)
    | st.lists(st.sampled_from([*received("h.example", "09:00:00").split(" "), "\n"])).map(" ".join)
)
def test_nothing_is_too_strange_to_be_told(text: str) -> None:
    found = explain(text)
    json.dumps(data(found, "x"))
    view(found)
