"""A report says what happened, to the millisecond, in every form; and nobody changes an octet of it unseen."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
import string
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.core import chain
from probe.core import evidence as ev
from probe.core.events import Arrived, Expired, Place
from probe.core.evidence import Evidence
from probe.core.report import report
from probe.report import FORMATS, render
from probe.report.gather import collect, collect_heads
from probe.report.page import parts
from probe.report.span import span, zone
from probe.report.texts import TEXTS
from probe.report.verify import findings, verify

from .evidence import BEGIN, HOSTILE, LATE, MADE, Story, at, make, stories, wanted
from .process import MAILPROBE

Data = dict[str, Any]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "ledger.sqlite"
    asyncio.run(make(path, stories()))
    return path


@pytest.fixture(scope="module")
def evidence(ledger: Path) -> Evidence:
    return asyncio.run(collect(ledger, [], wanted()))


@pytest.fixture(scope="module")
def told(evidence: Evidence) -> Data:
    data: Data = json.loads(render(evidence, "json"))
    return data["report"][0]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def page(evidence: Evidence) -> str:
    return render(evidence, "html")


def row(told: Data, number: int) -> Data:
    found = [it for it in (*told["rows"], *told["refused"]) if it["probe"] == f"{number:016x}"]
    assert len(found) == 1
    return found[0]  # type: ignore[no-any-return]


# -- what it says ----------------------------------------------------------------------------------------------------


def test_every_mail_of_note_is_a_row_by_what_became_of_it_and_no_other_is(told: Data) -> None:
    fates = {it["probe"]: it["fate"] for it in (*told["rows"], *told["refused"])}
    late = [*range(2, 33), 42, 44, 45]
    assert fates == {
        **{f"{number:016x}": "late" for number in late},
        f"{33:016x}": "lost",
        f"{34:016x}": "found",
        f"{35:016x}": "bounced",
        f"{36:016x}": "in_flight",
        f"{37:016x}": "unconfirmed",
        f"{38:016x}": "rejected",
        f"{39:016x}": "deferred",
        f"{40:016x}": "failed",
    }
    assert [it["fate"] for it in told["refused"]] == ["rejected", "deferred", "failed"]
    accepted = [it["accepted"] for it in told["rows"]]
    assert accepted == sorted(accepted)
    assert (told["sent"], told["accepted"], told["late"]) == (345, 342, len(late) + 4)
    assert told["deadlines"] == [30, 300]


def test_every_instant_of_a_late_mail_is_there(told: Data) -> None:
    it = row(told, 2)
    due, start, taken = BEGIN + 32530.74, BEGIN + 32530.75, BEGIN + 32531.0
    seen = taken + 2 * 86400 + 12536.5
    assert [(moment[0], round(moment[1], 3), moment[4]) for moment in it["moments"]] == [
        ("due", round(due, 3), None),
        ("started", start, None),
        ("accepted", taken, None),
        ("missed", taken + 30.5, 30),
        ("missed", taken + 300.5, 300),
        ("stored", seen - 0.5, None),
        ("seen", seen, None),
    ]
    assert (it["accepted"], it["seen"], it["held"], it["clock"]) == (taken, seen, 2 * 86400 + 12536.5, "boottime")
    assert it["uncertainty"] == pytest.approx(0.04)
    assert it["reply"] == [250, "2.0.0", "Message 0MKwh2 accepted"]
    assert it["queue_id"] == "0MKwh2-1HA002"
    assert [hop[0] for hop in it["hops"]] == ["mout.example.de", "mx00.kundenserver.example", "imap.example.org"]
    assert [hop[6] for hop in it["hops"]] == pytest.approx([0.0, 3.0, seen - 0.5 - taken])
    assert it["segments"][2][:3] == ["recipient", 2 * 86400 + 12533.5, 2 * 86400 + 12536.5]


def test_what_has_not_come_is_as_old_as_the_report(told: Data) -> None:
    flying, lost = row(told, 36), row(told, 33)
    assert (flying["seen"], flying["held"], flying["clock"]) == (None, MADE - flying["accepted"], "wall")
    assert (lost["seen"], lost["held"]) == (None, MADE - lost["accepted"])
    assert told["worst"]["probe"] == lost["probe"]
    assert flying["link"] is None, "it is not finished, so it is in no chain"
    assert "5 d 22 h, as of 2007-02-01 12:00:00 CET." in told["summary"][3]


def test_what_was_found_by_catching_up_came_between_two_moments(told: Data) -> None:
    it = row(told, 44)
    assert (it["detection"], it["clock"]) == ("catch-up", "wall")
    assert it["seen"] == BEGIN + 18 * 3600 + 1, "the server's stamp has whole seconds"
    assert it["seen_after"] == BEGIN + 18 * 3600
    assert [moment[0] for moment in it["moments"]][-3:] == ["stored", "seen", "noticed"]


def test_a_clock_that_was_set_is_told_and_measures_nothing(told: Data) -> None:
    it = row(told, 45)
    assert (it["step"], it["held"], it["clock"]) == (pytest.approx(7.0), pytest.approx(600.0), "boottime")
    assert told["steps"] == 1
    assert told["clocks"] == {"boottime": 35, "wall": 3}


def test_refusals_bounces_copies_and_failures_say_what_was_said(told: Data) -> None:
    assert row(told, 38)["reply"] == [554, "5.7.1", "refused by policy"]
    assert row(told, 39)["reply"][:2] == [451, "4.7.1"]
    assert row(told, 40)["failure"] == "connect: refused: connection refused"
    assert row(told, 37)["failure"] == "lost: connection lost"
    assert row(told, 35)["notices"] == [["failed", "5.1.1", "no such user", "mx00.example"]]
    assert row(told, 34)["notices"] == [["delayed", "4.4.1", "still trying", "mout.example.de"]]
    assert (row(told, 42)["copies"], [it[0] for it in row(told, 42)["moments"]].count("again")) == (2, 1)


def test_the_summary_counts_what_the_rows_do_not_show(told: Data) -> None:
    said = " ".join(told["summary"])
    assert "sent 345 mails from probe@example.de to probe@example.org; of these, 342 went to" in said
    assert "38 of 342 mails were not there in time: 34 late, 1 lost" in said
    assert "within 30 s" in said
    assert "the recipient's provider held them longest" in said
    assert "Nobody can say of 1 mail" in said
    assert "junk folder: 1 mail." in said
    assert "Not there yet when this report was made: 1 mail." in said
    assert "Not accepted at all: 3 mails" in said


def test_a_good_day_says_so_and_has_no_rows(ledger: Path) -> None:
    good = wanted()._replace(since=BEGIN + 2 * 86400, until=BEGIN + 3 * 86400)
    evidence = asyncio.run(collect(ledger, ["ionos-to-own"], good))
    found = report(evidence)[0]
    assert (found.sent, found.late, found.rows, found.refused) == (80, 0, [], [])
    assert "None of them was late, lost or returned." in json.loads(render(evidence, "json"))["report"][0]["summary"]
    assert not evidence.routes[0].stretches, "no links where there is nothing to prove"
    assert evidence.routes[0].heads
    assert not verify(render(evidence, "html").encode(), {}).changed


# -- the forms agree -------------------------------------------------------------------------------------------------


class Cells(HTMLParser):
    """The visible rows of mails, their texts by cell; and all elements and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self.elements: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self._cells: list[list[str]] = []
        self._depth = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        if tag == "tr" and self._depth == 1:
            self._cells = self.rows.setdefault(dict(attrs).get("id") or "", [])
        self._depth += tag == "table"
        if tag == "td" and self._depth == 1:
            self._cells.append([])

    def handle_endtag(self, tag: str) -> None:
        self._depth -= tag == "table"

    def handle_data(self, data: str) -> None:
        if self._cells and self._depth and data.strip():
            self._cells[-1].append(data)


def utc(at_: float) -> str:
    return datetime.fromtimestamp(round(at_, 3), UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def test_the_page_shows_every_instant_that_the_json_has(page: str, told: Data) -> None:
    rows = Cells(page).rows
    assert [name for name in rows if name] == [f"m{it['probe']}" for it in (*told["rows"], *told["refused"])]
    for it in (*told["rows"], *told["refused"]):
        _, moments, became, said = rows[f"m{it['probe']}"]
        for what, when, *_ in it["moments"]:
            assert utc(when) in moments, (it["probe"], what)
        assert TEXTS["en"][f"fate.{it['fate']}"] == became[0]
        assert not it["queue_id"] or f"queue id {it['queue_id']}" in said
    assert "13:31:07.500 CET" in rows[f"m{LATE}"][1]
    assert "held for 2 d 3 h" in rows[f"m{LATE}"][2]


def test_csv_and_markdown_agree_with_the_json(evidence: Evidence, told: Data) -> None:
    table = list(csv.DictReader(io.StringIO(render(evidence, "csv"))))
    rows = [*told["rows"], *told["refused"]]
    assert [it["probe"] for it in table] == [it["probe"] for it in rows]
    for cells, it in zip(table, rows, strict=True):
        for name in ("accepted", "seen"):
            assert cells[name] == ("" if it[name] is None else utc(it[name]).replace(" ", "T") + "Z")
        assert cells["held_seconds"] == ("" if it["held"] is None else str(round(it["held"], 3)))
        assert (cells["fate"], cells["digest"]) == (it["fate"], it["digest"])
    lines = [line for line in render(evidence, "md").splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(lines) == len(rows)
    for line, it in zip(lines, rows, strict=True):
        assert all(utc(moment[1]) in line for moment in it["moments"])
        assert it["probe"] in line


@pytest.mark.parametrize("language", ["en", "de"])
def test_what_servers_say_is_text_and_nothing_else(ledger: Path, language: str) -> None:
    evidence = asyncio.run(collect(ledger, [], wanted(language)))
    cells = Cells(render(evidence, "html"))
    assert cells.elements.keys() <= {
        *(
            "html",
            "head",
            "meta",
            "title",
            "style",
            "body",
            "h1",
            "h2",
            "h3",
            "p",
            "b",
            "div",
            "span",
            "pre",
            "details",
        ),
        *("table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "summary"),
        *("svg", "line", "text", "circle", "rect"),
    }
    assert not [name for name in cells.attributes if name.startswith("on") or name in {"href", "src", "style"}]
    shown = "".join(cells.rows[f"m{36:016x}"][3])
    assert "<script>alert('x')</script> =1+1 | \ufffd\ufffd[31m `*_ |&amp;" in shown
    assert "<b>id</b>" in shown
    table = render(evidence, "md")
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 5 for line in table.splitlines() if line.startswith("| "))
    assert "<script" not in table
    said = [it["reply"] for it in csv.DictReader(io.StringIO(render(evidence, "csv")))]
    assert not [cell for cell in said if cell.startswith(("=", "+", "@")) or not cell.isprintable()]
    assert any(HOSTILE[:20] in cell for cell in said)


def test_a_page_asks_nobody_for_anything(page: str) -> None:
    assert not re.search(r"//[\w.]+", page.partition('<pre id="evidence">')[0])
    assert "@import" not in page
    assert "url(" not in page
    assert page.count("default-src 'none'") == 1


def test_both_languages_have_the_same_texts() -> None:
    def fields(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    english, german = TEXTS["en"], TEXTS["de"]
    assert english.keys() == german.keys()
    assert {key: fields(text) for key, text in english.items()} == {key: fields(text) for key, text in german.items()}


# -- verify ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    path = tmp_path_factory.mktemp("small") / "ledger.sqlite"
    few = [story for story in stories() if story.probe in {LATE, f"{36:016x}", f"{38:016x}"}]
    asyncio.run(make(path, few))
    return asyncio.run(collect(path, [], wanted(details=1)))


@pytest.mark.parametrize("form", ["html", "json"])
def test_a_report_is_intact_as_it_was_made(evidence: Evidence, form: str) -> None:
    verdict = verify(render(evidence, form).encode(), {})
    assert verdict.changed == []
    assert not verdict.travelled
    assert verdict.chained
    assert (verdict.chained.records, verdict.chained.unchained) == (41, 1)
    assert verdict.seal == json.loads(render(evidence, "json"))["seal"]


def found(octets: bytes) -> bool:
    """Whether verify() says that this is not, to the letter, what was made, or none that can be verified."""
    try:
        verdict = verify(octets, {})
    except ValueError:
        return True
    return bool(verdict.changed) or verdict.travelled


@pytest.mark.timeout(300)
@pytest.mark.parametrize("form", ["html", "json"])
def test_any_changed_octet_of_the_evidence_and_of_the_rows_is_found(small: Evidence, form: str) -> None:
    octets = render(small, form).encode()
    marks = {"html": (b'<table class="mails">', b"</table>\n<h3>", b'<pre id="evidence">', b"</pre>")}.get(form)
    spans = (
        [(octets.index(marks[0]), octets.rindex(marks[1])), (octets.index(marks[2]), octets.rindex(marks[3]))]
        if marks
        else [(0, len(octets))]
    )
    places = [place for begin, end in spans for place in range(begin, end)]
    step = max(1, len(places) // 1500)
    for place in places[::step]:
        other = octets[place] ^ 1
        assert found(octets[:place] + bytes([other]) + octets[place + 1 :]), (place, octets[place - 20 : place + 20])


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_changed_lost_or_new_octet_is_found(data: st.DataObject, small: Evidence) -> None:
    octets = render(small, data.draw(st.sampled_from(["html", "json"]))).encode()
    place = data.draw(st.integers(0, len(octets) - 1))
    new = data.draw(st.binary(max_size=1))
    changed = octets[:place] + new + octets[place + data.draw(st.integers(0, 1)) :]
    assert found(changed) == (changed != octets)


TRAVELS: dict[str, Callable[[str], str]] = {
    "line ends": lambda text: text.replace("\n", "\r\n"),
    "a mark of the byte order": lambda text: "\ufeff" + text,
    "a line more": lambda text: text + "\n\n",
    "no end of the last line": lambda text: text.rstrip("\n"),
    "blanks at line ends": lambda text: text.replace("\n", " \n"),
}


@pytest.mark.parametrize("how", TRAVELS)
@pytest.mark.parametrize("form", ["html", "json"])
def test_what_mail_does_to_lines_is_named_and_harmless(small: Evidence, form: str, how: str) -> None:
    verdict = verify(TRAVELS[how](render(small, form)).encode(), {})
    assert (verdict.changed, verdict.travelled) == ([], True), how
    assert any("Line ends" in line for line in findings(verdict, {}))


def test_lines_of_a_page_are_short_enough_for_mail_and_may_be_broken_or_joined(evidence: Evidence, page: str) -> None:
    assert max(len(line.encode()) for line in page.splitlines()) < 998
    assert not [line for line in page.splitlines() if line != line.rstrip()]
    start = page.index('<pre id="evidence">')
    broken = page[:start] + re.sub(r"([^ \n]{60})(?=[^ \n])", r"\1\n", page[start:-60]) + page[-60:]
    verdict = verify(broken.encode(), {})
    assert (verdict.changed, verdict.travelled) == ([], True)


def forged(evidence: Evidence, number: int, change: Any) -> Evidence:
    """The evidence with another record, and all that is shown made to fit."""
    route = evidence.routes[0]
    mails = list(route.mails)
    place = next(n for n, it in enumerate(mails) if f"{number:016x}" in it.record)
    mails[place] = change(mails[place])
    return replace(evidence, routes=[replace(route, mails=mails)])


def test_a_record_that_is_changed_and_shown_consistently_is_not_the_one_that_was_chained(evidence: Evidence) -> None:
    def refused(mail: ev.Mail) -> ev.Mail:
        return mail._replace(record=mail.record.replace("Message 0MKwh2 accepted", "Message 0MKwh2 refused"))

    other = forged(evidence, 5, refused)
    number = next(mail.link for mail in other.routes[0].mails if "0MKwh2 refused" in mail.record)
    for form in ("html", "json"):
        assert verify(render(other, form).encode(), {}).changed == [
            f"ionos-to-own: the record with the number {number} is not the one that was chained"
        ]


def test_links_that_are_changed_or_missing_do_not_lead_to_the_head(evidence: Evidence) -> None:
    route = evidence.routes[0]
    first = route.stretches[0]
    for stretch in (
        first._replace(digests="A" * 44 + first.digests[44:]),
        first._replace(start="0" * 64),
        first._replace(after=1),
        first._replace(digests=first.digests[:-44]),
    ):
        other = replace(evidence, routes=[replace(route, stretches=[stretch, *route.stretches[1:]])])
        assert verify(render(other, "html").encode(), {}).changed
    alone = replace(evidence, routes=[replace(route, stretches=[])])
    assert len(verify(render(alone, "html").encode(), {}).changed) == 41


def test_a_chain_of_another_ledger_does_not_pass_as_this_ones_by_a_head_with_the_number_0(small: Evidence) -> None:
    route = small.routes[0]
    genesis = chain.genesis(small.ledger, route.name).hex()
    zeroth = ev.Head(0.0, 0, genesis)
    other = replace(small, ledger="0" * 32, routes=[replace(route, heads=[zeroth, *route.heads])])
    broken = ev.check(other, {}).broken
    assert f"{route.name}: a head has the number 0" in broken
    assert any("where the links of a day begin, is no head" in line for line in broken)


def test_a_mail_that_is_told_twice_is_found(small: Evidence) -> None:
    route = small.routes[0]
    other = replace(small, routes=[replace(route, mails=[*route.mails, route.mails[0]])])
    assert ev.check(other, {}).broken == [f"{route.name}: 2 mails have the link {route.mails[0].link}"]


def test_heads_that_cannot_both_be_true_are_no_witness() -> None:
    lines = [f"2007-01-26 7 {digit * 64} {'0' * 32} r" for digit in "ab"]
    with pytest.raises(ValueError, match="two heads in it have the number 7 of r"):
        ev.read_heads(lines)


def test_a_witness_knows_a_ledger_that_was_made_anew(ledger: Path, evidence: Evidence, tmp_path: Path) -> None:
    kept = ev.read_heads(asyncio.run(collect_heads(ledger, [], wanted())))
    honest = verify(render(evidence, "html").encode(), kept)
    assert honest.changed == []
    assert honest.chained
    assert honest.chained.witnessed == 41
    number, link = next(iter(kept[evidence.ledger, "ionos-to-own"].items()))
    other = {(evidence.ledger, "ionos-to-own"): {number: link[::-1]}}
    assert (
        f"ionos-to-own: head {number} is not the one that was witnessed"
        in verify(render(evidence, "html").encode(), other).changed
    )
    nothing = verify(render(evidence, "html").encode(), {("another", "ionos-to-own"): {1: link}})
    assert nothing.chained
    assert nothing.chained.witnessed == 0


@pytest.mark.parametrize("form", ["md", "csv"])
def test_forms_without_a_chain_are_named(evidence: Evidence, form: str) -> None:
    with pytest.raises(ValueError, match="carries no chain; verify the HTML or JSON"):
        verify(render(evidence, form).encode(), {})


@pytest.mark.parametrize("octets", [b'{"evidence": {}}', b'{"evidence": [1]}', b'{"evidence"', b'{"evidence": NaN}'])
def test_a_report_with_evidence_that_is_none_is_changed(octets: bytes) -> None:
    assert verify(octets, {}).changed


@pytest.mark.parametrize("octets", [b"", b"{}", b"<html></html>", b"\xff", b"[]", b"%PDF-1.7 \xe2\xe3", b"root:x:0:0"])
def test_what_is_no_report_cannot_be_verified(octets: bytes) -> None:
    with pytest.raises(ValueError, match="there is no evidence in it"):
        verify(octets, {})


CHANGES: dict[str, tuple[str, str]] = {
    "a break in a tag": ("</title>", "</ti\ntle>"),
    "a break in a number": ("mailprobe 0.", "mailprobe 0\n."),
    "a break in a style": (".well {", ".we\nll {"),
    "an empty line": ("<h2>", "\n<h2>"),
    "a space more": ("<h2>", " <h2>"),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_break_that_shows_something_else_is_a_change(small: Evidence, evidence: Evidence, how: str) -> None:
    old, new = CHANGES[how]
    text = render(evidence, "html")
    assert old in text
    verdict = verify(text.replace(old, new, 1).encode(), {})
    assert verdict.changed
    assert "what it shows is not what its evidence says: line " in verdict.changed[0]


@pytest.mark.parametrize(("old", "new"), [('"late": 30,', '"late": 0, "late": 30,'), (": false", ": 0")])
def test_json_that_means_the_same_to_some_and_is_written_otherwise_is_a_change(
    evidence: Evidence, old: str, new: str
) -> None:
    text = render(evidence, "json")
    old = old if old in text else re.search(r'"late": \d+,', text)[0]  # type: ignore[index]
    assert verify(text.replace(old, new, 1).encode(), {}).changed


def test_what_the_file_says_cannot_be_taken_for_what_verify_says(small: Evidence) -> None:
    other = replace(small, program="x\n  Witness: all of these records", ledger="\x1b[2Jx")
    lines = list(findings(verify(render(other, "json").encode(), {}), {}))
    assert not [line for line in lines if line.startswith("  Witness") or not line.isprintable()]


JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just([]) | st.just({})


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_evidence_that_somebody_made_up_is_never_more_than_changed(data: st.DataObject, small: Evidence) -> None:
    whole = json.loads(ev.text(small))
    whole["routes"][0]["mails"] = [[json.loads(record), *rest] for record, *rest in whole["routes"][0]["mails"]]
    for _ in range(data.draw(st.integers(1, 2))):
        node: Any = whole
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = data.draw(st.sampled_from(keys))
            if not (isinstance(node[key], dict | list) and node[key]) or data.draw(st.integers(0, 9)) == 0:
                break
            node = node[key]
        node[key] = data.draw(JSON)
    route = next(iter(whole["routes"]), None) if isinstance(whole["routes"], list) else None
    if isinstance(route, dict) and isinstance(route.get("mails"), list):
        route["mails"] = [[json.dumps(it[0]), *it[1:]] if isinstance(it, list) and it else it for it in route["mails"]]
    told = json.dumps(whole)
    assert found(json.dumps({"evidence": whole}).encode())
    assert found(f'<html><pre id="evidence">\n{told}\n</pre></html>'.encode())


def test_the_evidence_of_another_format_is_named(page: str) -> None:
    other = page.replace('"format":1', '"format":2').replace("&quot;format&quot;:1", "&quot;format&quot;:2")
    with pytest.raises(ValueError, match=r"made by mailprobe .*; verify it with that version"):
        verify(other.encode(), {})


def test_another_version_that_writes_it_otherwise_is_named(evidence: Evidence) -> None:
    text = render(replace(evidence, program="mailprobe 9.0"), "html").replace("<h1>", "<h1> ")
    with pytest.raises(ValueError, match=r"made by mailprobe 9\.0, .*; verify it with that version"):
        verify(text.encode(), {})


def test_the_page_carries_the_one_text_of_its_evidence(evidence: Evidence, page: str) -> None:
    assert parts(page)[1] == ev.text(evidence)
    assert ev.text(ev.read(ev.text(evidence))) == ev.text(evidence)


# -- spans -----------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 3, 29, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("since", "until", "begin", "end"),
    [
        ("", "", "2026-03-28T12:00+00:00", "2026-03-29T12:00+00:00"),
        ("7d", "", "2026-03-22T12:00+00:00", "2026-03-29T12:00+00:00"),
        ("7d", "1d", "2026-03-22T12:00+00:00", "2026-03-28T12:00+00:00"),
        ("2007-01-26", "2007-01-26", "2007-01-26T00:00+01:00", "2007-01-27T00:00+01:00"),
        ("2026-03-29", "2026-03-29", "2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00"),  # of 23 hours
        ("2007-01-26T09:02:11Z", "2007-01-26T11:00", "2007-01-26T09:02:11+00:00", "2007-01-26T11:00+01:00"),
    ],
)
def test_a_span_is_told_by_dates_times_and_durations(since: str, until: str, begin: str, end: str) -> None:
    expected = tuple(datetime.fromisoformat(it).timestamp() for it in (begin, end))
    assert span(since, until, ZoneInfo("Europe/Berlin"), NOW) == expected


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [
        ("yesterday", "", "--since: 'yesterday' is no time"),
        ("2007-13-01", "", "--since: '2007-13-01' is no time"),
        ("", "7", "--until: '7' is no time"),
        ("1d", "2d", "--since is not before --until"),
        ("2027-01-01", "2027-01-02", "--since is in the future"),
    ],
)
def test_a_span_that_is_none_is_named(since: str, until: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        span(since, until, ZoneInfo("UTC"), NOW)


def test_a_zone_that_is_none_is_named() -> None:
    for name in ("Mars/Olympus", "", "../etc/passwd", "/etc/localtime"):
        with pytest.raises(ValueError, match="--tz: there is no zone"):
            zone(name)


# -- the command -----------------------------------------------------------------------------------------------------


def mailprobe(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([MAILPROBE, *map(str, words)], capture_output=True, text=True, check=False, timeout=50)


def test_a_report_is_made_sent_verified_and_witnessed(ledger: Path, tmp_path: Path) -> None:
    file, heads = tmp_path / "report.html", tmp_path / "heads.txt"
    span_ = ("--ledger", ledger, "--since", "2007-01-26", "--until", "2007-02-01")
    done = mailprobe("report", *span_, "--tz", "Europe/Berlin", "--lang", "de", "-o", file)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert mailprobe("report", *span_, "--heads", "-o", heads).returncode == 0
    assert re.fullmatch(r"(2007-0\d-\d\d \d+ [0-9a-f]{64} [0-9a-f]{32} ionos-to-own\n)+", heads.read_text())
    done = mailprobe("verify", file, "--heads", heads)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("INTACT: this is the report as made\n")
    assert "Witness: 41 of these records are followed by a head that was witnessed" in done.stdout
    file.write_text(file.read_text().replace("12:31:07.500", "12:31:08.500", 1))
    done = mailprobe("verify", file)
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "CHANGED: this is not the report that was made")
    assert mailprobe("report", *span_, "-o", file).stderr == (
        f"mailprobe: {file}: there is a file of this name already; --force replaces it\n"
    )
    assert mailprobe("report", *span_, "-o", file, "--force").returncode == 0
    assert mailprobe("verify", file).returncode == 0
    assert [it.name for it in sorted(tmp_path.iterdir())] == ["heads.txt", "report.html"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--since", "soon"),
            "--since: 'soon' is no time; write 2007-01-26, 2007-01-26T09:02+01:00, or 7d for seven days ago",
        ),
        (("--route", "x"), "{ledger}: there is no route 'x'; there are: ionos-to-own"),
        (("--tz", "Mars"), "--tz: there is no zone 'Mars'; write one such as Europe/Berlin or UTC"),
        (("-o", "/nowhere/x"), "/nowhere/x: No such file or directory"),
        (("--ledger", "/nowhere/x"), "/nowhere/x: there is no ledger; the daemon makes it at its first start"),
    ],
)
def test_a_report_that_cannot_be_made_says_why_in_one_line(ledger: Path, words: tuple[str, ...], said: str) -> None:
    done = mailprobe("report", "--ledger", ledger, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"mailprobe: {said.format(ledger=ledger)}\n"


def test_what_cannot_be_verified_says_why_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "heads.txt"
    done = mailprobe("verify", file)
    assert (done.returncode, done.stderr) == (2, f"mailprobe: {file}: No such file or directory\n")
    file.write_text("nothing\n")
    done = mailprobe("verify", file, "--heads", file)
    assert (done.returncode, done.stderr) == (2, f"mailprobe: {file}: no line of it is a head\n")


def test_a_mail_that_was_given_up_without_a_look_is_not_said_to_be_late_or_lost(tmp_path: Path) -> None:
    it = Story(901, at(0, 1.0)).accepted().judged(None, None)
    path = tmp_path / "ledger.sqlite"
    asyncio.run(make(path, [it.add(Expired(it.probe, at(5, 2.0), looked=False))]))
    evidence = asyncio.run(collect(path, [], wanted()))
    [told] = report(evidence)
    assert [(row.fate, row.held, row.missed) for row in told.rows] == [("unseen", None, [])]
    assert (told.late, told.worst) == (0, None)
    page = render(evidence, "html")
    assert "given up; nobody could look whether it came" in page
    assert "given up as lost" not in page


def test_no_form_shows_a_secret_or_a_body(ledger: Path, tmp_path: Path) -> None:
    it = Story(900, at(0, 1.0), route="other").accepted().judged(False, False)
    raw = b"Received: by a.example; Fri, 26 Jan 2007 10:00:00 +0000\r\nSubject: x\r\n\r\nthe body of a mail"
    arrived = Arrived(it.probe, at(0, 2.0), Place("own", "INBOX", 7, 1), "inbox", "idle", at(0, 1.9), raw=raw)
    path = tmp_path / "ledger.sqlite"
    asyncio.run(make(path, [it.add(arrived)]))
    evidence = asyncio.run(collect(path, [], wanted()))
    for form in FORMATS:
        assert "the body" not in render(evidence, form), form
    assert evidence.routes[0].mails[0].header.endswith("Subject: x")
