"""A report as one HTML file: prints on A4, asks nobody for anything, and carries its evidence.

Rules:
- No scripts, no addresses, no images but our own SVG: the page says so to the browser (Content-Security-Policy), too.
- What stands here follows from the evidence, to the letter: verify.py makes it again and compares.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence

from probe.core.dates import iso
from probe.core.evidence import Evidence, day, seal
from probe.core.html import Html, escaped, lines, tag
from probe.core.phrases import end, trouble
from probe.core.report import RouteReport, Row, report
from probe.report import chart
from probe.report.words import Words, apart, clocks, summary

_BEGIN, _END = '<pre id="evidence">\n', "\n</pre>"
# A mail system may break a line of more than 998 octets, and strip spaces at ends of lines: there are none of either.
_WRAP = re.compile(r".{100,130}[^ ](?=[^ ])|.{130,}?[^ ](?=[^ ])|.+")
_STYLE = """
@page { size: A4; margin: 17mm 16mm 19mm;
  @bottom-left { content: "mailprobe · %s"; font: 7pt sans-serif; color: #555 }
  @bottom-right { content: counter(page) " / " counter(pages); font: 8pt sans-serif; color: #555 } }
:root { color-scheme: light }
body { font: 9.5pt/1.4 "Liberation Sans", Arial, sans-serif; color: #111; background: #fff; max-width: 178mm;
  margin: 8mm auto; padding: 0 4mm; overflow-wrap: anywhere }
h1 { font-size: 17pt; line-height: 1.2; margin: 0 }
h2 { font-size: 13pt; margin: 9mm 0 2mm; border-bottom: .4mm solid #111; padding-bottom: 1mm }
h3 { font-size: 10.5pt; margin: 6mm 0 1.5mm }
h1, h2, h3, caption { break-after: avoid }
p { margin: 0 0 1.6mm; orphans: 3; widows: 3 }
.subtitle { font-size: 11pt; margin: 1mm 0 0 } .meta { margin-top: 5mm }
.note { font-size: 8pt; color: #444 }
figure { margin: 0; break-inside: avoid }
svg { width: 100%%; height: auto; display: block }
svg text { font: 8px "Liberation Sans", Arial, sans-serif; fill: #333 }
.axis { stroke: #333; stroke-width: .7 } .grid { stroke: #ddd; stroke-width: .6 }
.deadline { stroke: #a00; stroke-width: .7; stroke-dasharray: 4 3 }
.range { stroke: #b5bcc4; stroke-width: 1.6 } .median { fill: #5c6670 }
.late { fill: #a00 } .away { fill: #fff; stroke: #a00; stroke-width: .9 }
.well { fill: #c3cbd3 } .bad { fill: #a00 }
.refused { fill: #d98200; stroke: #111; stroke-width: .4; stroke-dasharray: 1 1 }
.unclear { fill: #fff; stroke: #888; stroke-width: .5 }
table { border-collapse: collapse; width: 100%%; font-size: 8pt; line-height: 1.3; margin-bottom: 3mm }
th { text-align: left; border-bottom: .3mm solid #111; padding: .8mm 2mm .8mm 0; vertical-align: bottom }
td { vertical-align: top; padding: .8mm 2mm .8mm 0; border-bottom: .15mm solid #bbb }
thead { display: table-header-group } tr { break-inside: avoid }
td table { margin: 0; font-size: 7.5pt; line-height: 1.25 } td td { border: 0; padding: 0 1.5mm 0 0 }
.meta { width: auto } .meta td, .meta th { border: 0; padding: .3mm 4mm .3mm 0; vertical-align: top }
.at { white-space: nowrap; font-variant-numeric: tabular-nums } .number { text-align: right }
.hash { font: 7.5pt "Liberation Mono", monospace; word-break: break-all }
.mails th { white-space: nowrap }
.mails td:nth-child(1) { width: 6mm } .mails td:nth-child(3) { width: 33mm } .mails td:nth-child(4) { width: 54mm }
.mails td td { width: auto !important } .mails div { margin-bottom: .6mm }
#evidence { font: 6pt monospace; white-space: pre-wrap; word-break: break-all }
@media print { body { margin: 0; padding: 0; max-width: none } details { display: none } }
"""


def page(evidence: Evidence, told: str) -> str:
    """The whole file; `told` is the evidence's text. Raises ValueError."""
    words, sign, routes = Words(evidence), seal(told), report(evidence)
    body = lines(
        _head(words, routes, sign),
        *(part for route in routes for part in _route(words, route)),
        tag("h2", words("method.title")),
        *(tag("p", words(f"method.{number}")) for number in range(1, 5)),
        tag("h2", words("proof.title")),
        *(tag("p", words(f"proof.{number}")) for number in range(1, 5)),
        *_heads(words, evidence),
    )
    top = lines(
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width">'),
        Html('<meta name="robots" content="noindex">'),
        Html("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"),
        tag("title", f"{words('title')}: {', '.join(route.evidence.name for route in routes)}"),
        Html(f"<style>{_STYLE % sign[:16]}</style>"),
    )
    whole = (
        *(f'<!DOCTYPE html>\n<html lang="{evidence.language}">', tag("head", top), "\n<body>\n", body),
        *("\n<details>", tag("summary", words("evidence"))),
        *(_BEGIN, html.escape("\n".join(_WRAP.findall(told)), quote=False), _END),
        "</details></body></html>\n",
    )
    return "".join(whole)  # at once: of a year it is 50 MB, and every element around it would be a copy


def parts(page_: str) -> tuple[str, str, str]:
    """What a page shows before its evidence, the evidence's text, and what follows. Breaks of lines in the evidence
    mean nothing, nor blanks beside them. Raises ValueError."""
    before, begin, rest = page_.partition(_BEGIN)
    told, end, after = rest.partition(_END)
    if not (begin and end and before):
        raise ValueError("there is no evidence in it")
    return before, html.unescape("".join(line.strip(" \t") for line in told.split("\n"))), after


def _head(words: Words, routes: Sequence[RouteReport], sign: str) -> Html:
    evidence = words.evidence
    span = words("from_to", since=words.when(evidence.since), until=words.when(evidence.until))
    zone = words("in_zone", zone=evidence.zone) if words.two_zones else words("in_utc")
    meta = [
        (words("span"), span),
        (words("made"), f"{words.when(evidence.made)} {words('by', program=evidence.program)}"),
        (words("times"), zone),
        (words("seal"), tag("span", f"SHA-256 {sign}", class_="hash")),
    ]
    told = [words("subtitle", sender=it.evidence.sender, recipient=it.evidence.recipient) for it in routes]
    return lines(
        tag("h1", words("title")),
        *(tag("p", line, class_="subtitle") for line in dict.fromkeys(told)),
        tag("table", *(tag("tr", tag("th", name), tag("td", value)) for name, value in meta), class_="meta"),
        *([tag("p", words("missing", at=words.when(evidence.missing)))] if evidence.missing is not None else []),
    )


def _route(words: Words, route: RouteReport) -> Iterator[Html]:
    width = words("day" if route.evidence.width > 3600 else "hour")
    yield tag("h2", words("route", route=route.evidence.name))
    yield lines(*(tag("p", sentence) for sentence in summary(words, route)))
    for title, draw, text in (
        ("chart", chart.latencies, words("chart.text")),
        ("strip", chart.strip, words("strip.text", width=width)),
    ):
        name = words(title, width=width)
        figure = draw(words.evidence, route, name)
        yield tag("figure", tag("h3", name), figure, tag("figcaption", text, class_="note"))
    yield tag("h3", words("incidents"))
    yield _incidents(words, route)
    yield tag("h3", words("mails.title"))
    yield _mails(words, route.rows, 1)
    if route.refused:
        yield tag("h3", words("refused.title"))
        yield _mails(words, route.refused, 1 + len(route.rows))
    if route.rows:
        yield tag("h3", words("clocks.title"))
        yield tag("p", clocks(words, route))
    yield from _ways(words, route)


def _incidents(words: Words, route: RouteReport) -> Html:
    rows = [
        (
            trouble(it, words.evidence.language),
            words.when(it.begin.wall),
            end(it, words.when(it.end.wall)) if it.end else words("open"),
            words.mails(it.toll.affected),
            words.long(it.peak),
            words(f"segment.{it.fault.segment}").rstrip(",") if it.fault else "–",
        )
        for it in route.evidence.incidents
    ]
    if not rows:
        return tag("p", words("no_incidents"))
    head = [words(f"incident.{name}") for name in ("kind", "begin", "end", "mails", "peak", "fault")]
    return _table(head, [tag("tr", *(tag("td", cell) for cell in row)) for row in rows])


def _mails(words: Words, rows: Sequence[Row], first: int) -> Html:
    if not rows:
        return tag("p", words("no_mails"))
    zone = f"UTC, {words.evidence.zone}" if words.two_zones else "UTC"
    head = [words("number"), words("moments", zone=zone), words("became"), words("said")]
    return _table(head, [_mail(words, row, number) for number, row in enumerate(rows, first)], "mails")


def _mail(words: Words, row: Row, number: int) -> Html:
    became = [tag("b", words(f"fate.{row.fate}")), *filter(None, [words.held(row)]), *words.remarks(row)]
    cells = [
        tag("td", str(number)),
        tag("td", _moments(words, row)),
        tag("td", lines(*map(_div, became))),
        tag("td", lines(*map(_div, words.said(row)), tag("div", row.probe, class_="hash"))),
    ]
    return tag("tr", lines(*cells), id=f"m{row.probe}")


def _moments(words: Words, row: Row) -> Html:
    found = []
    for moment in row.moments:
        ends = [moment.at]
        if moment.earliest is not None and apart(moment.width):
            ends = [moment.earliest, moment.at]
        for place, at in enumerate(ends):
            name = words.moment(moment) if place == 0 else ""
            if len(ends) == 2:
                name = f"{name} {words(('between', 'and')[place])}".strip()
            elif moment.what in {"seen", "again"} and moment.earliest is None:
                name = f"{name} {words('latest')}"
            local = f'<td class="at">{escaped(words.beside(at))}' if words.two_zones else ""
            # The most of a long report: put together here, since end tags of cells and rows can be left out.
            found.append(Html(f'<tr><td>{escaped(name)}<td class="at">{words.utc(at)}{local}'))
    return tag("table", lines(*found))


def _div(text: str) -> Html:
    return tag("div", text)


def _ways(words: Words, route: RouteReport) -> Iterator[Html]:
    told = [(number, row) for number, row in enumerate(route.rows, 1) if row.hops]
    if told:
        yield tag("p", words("way.text", details=len(told), rows=len(route.rows)), class_="note")
    head = [words(name) for name in ("server", "client", "id", "date", "after")]
    for number, row in told:
        yield tag("h3", words("way.title", number=number))
        yield _table(
            head,
            [
                tag(
                    "tr",
                    tag("td", hop.by),
                    tag("td", " ".join(filter(None, (hop.from_, hop.protocol)))),
                    tag("td", hop.id),
                    tag("td", "–" if hop.date is None else iso(hop.date, hop.resolution), class_="at"),
                    tag("td", "–" if hop.after is None else words.after(hop.after), class_="at number"),
                )
                for hop in row.hops
            ],
        )


def _heads(words: Words, evidence: Evidence) -> Iterator[Html]:
    head = [words("heads.day"), words("heads.number"), words("heads.link")]
    for route in evidence.routes:
        if route.heads:
            rows = [
                tag("tr", tag("td", day(it.day)), tag("td", str(it.number)), tag("td", it.link, class_="hash"))
                for it in route.heads
            ]
            yield tag("h3", f"{words('heads')}: {route.name}")
            yield _table(head, rows)


def _table(head: Iterable[str], rows: Sequence[Html], class_: str = "") -> Html:
    top = tag("thead", tag("tr", *(tag("th", name) for name in head)))
    return tag("table", lines(top, tag("tbody", lines(*rows))), class_=class_)
