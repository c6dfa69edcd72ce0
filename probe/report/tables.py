"""A report for other programs and for mails: Markdown, CSV and JSON.

Rules:
- The same rows, the same numbers, the same words as on the page.
- Only JSON carries the evidence; Markdown and CSV carry the seal or the digests, by which they can be told from it.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields

from probe.core.dates import iso
from probe.core.evidence import Evidence, head_line, seal
from probe.core.html import shown
from probe.core.phrases import end, trouble
from probe.core.plain import plain
from probe.core.report import RouteReport, Row, report
from probe.report.words import Words, clocks, summary

_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~!])")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
COLUMNS = (
    *("route", "sender", "recipient", "probe", "fate", "due", "started", "accepted", "seen_after", "seen"),
    *("held_seconds", "uncertainty_seconds", "detection", "clock", "clock_step_seconds", "missed_deadlines_seconds"),
    *("expired", "bounced"),
    *("reply", "queue_id", "failure", "notices", "placement", "folder", "copies", "held_longest_by", "link", "digest"),
)  # fmt: skip


def as_json(evidence: Evidence, told: str) -> str:
    """Evidence, what follows from it, and the seal; instants in Unix time, spans in seconds."""
    found = []
    words = Words(evidence)
    for route in report(evidence):
        said = {"route": route.evidence.name, "summary": list(summary(words, route)), "clocks": clocks(words, route)}
        found.append(said | {it.name: plain(getattr(route, it.name)) for it in fields(route) if it.name != "evidence"})
    whole = {"evidence": json.loads(told), "report": found, "seal": seal(told)}
    return json.dumps(whole, indent=1, ensure_ascii=True) + "\n"


# -- CSV -----------------------------------------------------------------------------------------------------------


def as_csv(evidence: Evidence, told: str) -> str:
    """A row for each mail of which something is to be proved; instants in UTC."""
    del told
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(COLUMNS)
    for route in report(evidence):
        table.writerows(_cells(route, row) for row in (*route.rows, *route.refused))
    return out.getvalue()


def _cells(route: RouteReport, row: Row) -> list[str]:
    moments = {moment.what: moment.at for moment in reversed(row.moments)}
    longest = max(row.segments, key=lambda part: part.low + part.high, default=None)
    cells: list[object] = [
        *(route.evidence.name, route.evidence.sender, route.evidence.recipient, row.probe, row.fate),
        *(_utc(at) for at in (moments.get("due"), moments.get("started"), row.accepted, row.seen_after, row.seen)),
        *(_seconds(it) for it in (row.held, row.uncertainty)),
        *(row.detection, row.clock, _seconds(row.step)),
        " ".join(f"{deadline:g}" for deadline in row.missed),
        *(_utc(moments.get(what)) for what in ("expired", "bounced")),
        f"{row.reply.code} {row.reply.text}" if row.reply else "",
        *(row.queue_id, row.failure),
        "; ".join(" ".join(filter(None, notice)) for notice in row.notices),
        *(row.placement, row.folder, row.copies or "", longest and longest.segment, row.link, row.digest),
    ]
    return [_harmless(cell) if isinstance(cell, str) else "" if cell is None else str(cell) for cell in cells]


def _harmless(text: str) -> str:
    """No spreadsheet takes it for a formula."""
    text = shown(text)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _utc(at: float | None) -> str:
    return "" if at is None else iso(round(at, 3), 1e-3)


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


# -- Markdown ------------------------------------------------------------------------------------------------------


def as_markdown(evidence: Evidence, told: str) -> str:
    """The page's words and tables, without charts, ways and evidence."""
    return "\n".join(_lines(evidence, told))


def _lines(evidence: Evidence, told: str) -> Iterator[str]:
    words = Words(evidence)
    yield f"# {_md(words('title'))}\n"
    yield f"{words('made')}: {words.when(evidence.made)} {_md(words('by', program=evidence.program))}  "
    yield f"{words('seal')}: `SHA-256 {seal(told)}`\n"
    if evidence.missing is not None:
        yield _md(words("missing", at=words.when(evidence.missing))) + "\n"
    for route in report(evidence):
        yield f"## {_md(words('route', route=route.evidence.name))}\n"
        yield from (_md(sentence) + "\n" for sentence in summary(words, route))
        yield from _incidents(words, route)
        yield f"### {_md(words('mails.title'))}\n"
        yield from _mails(words, route.rows, 1)
        if route.refused:
            yield f"### {_md(words('refused.title'))}\n"
            yield from _mails(words, route.refused, 1 + len(route.rows))
        yield f"### {_md(words('clocks.title'))}\n"
        yield _md(clocks(words, route)) + "\n"
    for chapter, paragraphs in (("method", 4), ("proof", 4)):
        yield f"## {_md(words(f'{chapter}.title'))}\n"
        yield from (_md(words(f"{chapter}.{number}")) + "\n" for number in range(1, paragraphs + 1))
    yield _md(words("no_chain")) + "\n"
    yield f"### {_md(words('heads'))}\n"
    yield from (f"    {head_line(evidence.ledger, it.name, head)}" for it in evidence.routes for head in it.heads)
    yield ""


def _incidents(words: Words, route: RouteReport) -> Iterator[str]:
    yield f"### {_md(words('incidents'))}\n"
    if not route.evidence.incidents:
        yield _md(words("no_incidents")) + "\n"
    for it in route.evidence.incidents:
        until = end(it, words.when(it.end.wall)) if it.end else words("open")
        span = words("from_to", since=words.when(it.begin.wall), until=until)
        what = trouble(it, words.evidence.language)
        yield _md(f"- {what}: {span}; {words.mails(it.toll.affected)}; {words.long(it.peak)}")
    yield ""


def _mails(words: Words, rows: Sequence[Row], first: int) -> Iterator[str]:
    if not rows:
        yield _md(words("no_mails")) + "\n"
        return
    yield _table(words(name) if name != "moments" else words(name, zone="UTC") for name in _HEAD)
    yield _table("---" for _ in _HEAD)
    for number, row in enumerate(rows, first):
        moments = [f"{words.moment(moment)}: {words.utc(moment.at)}" for moment in row.moments]
        became = [words(f"fate.{row.fate}"), *filter(None, [words.held(row)]), *words.remarks(row)]
        cells = [[str(number)], moments, became, [*words.said(row), row.probe]]
        yield _table("<br>".join(map(_md, cell)) for cell in cells)
    yield ""


_HEAD = ("number", "moments", "became", "said")


def _table(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _md(text: str) -> str:
    """A text that stays one, also as HTML."""
    return html.escape(_SPECIAL.sub(r"\\\1", shown(text)), quote=False)
