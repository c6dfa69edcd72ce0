"""A mail's way on a terminal of 80 columns, and as JSON: what `mailprobe trace` prints.

Rule: what a header says is foreign text: no control character of it reaches the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from probe.core.explain import TRUST, Explained
from probe.core.received import Hop, as_json
from probe.core.skew import Interval, Stamp
from probe.core.spans import told
from probe.core.words import duration

_BAR = 10  # characters


def view(mail: Explained, width: int = 80) -> RenderableType:
    """One mail: its hops with how long each had it, who had it longest, and what cannot be known."""
    rows = list(_rows(mail))
    widths = [max((cell.cell_len for cell in cells), default=0) for cells in zip(*rows, strict=True)]
    widths[_SERVER] = max(12, width - 2 - sum(widths) + widths[_SERVER] - len(widths))
    table = Table.grid(padding=(0, 1, 0, 0))
    for column, size in enumerate(widths):
        table.add_column(width=size, no_wrap=True, justify="right" if column in (0, 2) else "left")
    for row in rows:
        row[_SERVER] = _shortened(row[_SERVER], widths[_SERVER])
        table.add_row(*row)
    title = Text(_clean(mail.subject) or _clean(mail.message_id) or "(no subject)", style="bold", no_wrap=True)
    title.truncate(width, overflow="ellipsis")
    days = sorted({_at(hop, mark).strftime("%Y-%m-%d") for hop, mark in _dated(mail)})
    return Group(
        title,
        Text(f"  {' and '.join(days[:: max(1, len(days) - 1)])} UTC" if days else "", "dim"),
        table,
        *_words(mail),
    )


_SERVER = 4


def _rows(mail: Explained) -> Iterator[list[Text]]:
    yield [Text(name, "dim") for name in ("", "at", "had it for", "", "server", "came by")]
    longest = max((span.high for span in mail.held if span and isfinite(span.high)), default=0.0)
    for number, (hop, mark, span) in enumerate(zip(mail.hops, mail.stamps, mail.held, strict=True)):
        style = "bold red" if number == mail.slowest else ""
        last = number == len(mail.hops) - 1
        held = "" if last else told(span, mark.resolution if mark else 1.0)
        at = _at(hop, mark).strftime("%H:%M:%S") if hop.date is not None else "?"
        server = Text(_clean(hop.by) or "?", style)
        yield [
            Text(str(number + 1)),
            Text(at),
            Text(held, style),
            Text(_bar(span, longest), style or "cyan"),
            server,
            Text(_manner(hop), "dim"),
        ]


def _shortened(name: Text, width: int) -> Text:
    """The end of a host's name says whose it is."""
    return name if name.cell_len <= width else Text("…" + name.plain[1 - width :], name.style)


def data(mail: Explained, source: str) -> dict[str, Any]:
    """The same as plain data for JSON: `held` in seconds, one for each hop; null: it cannot be told."""
    verdicts = mail.verdicts
    return {
        "source": source,
        "message_id": mail.message_id,
        "subject": mail.subject,
        "hops": [as_json(hop) for hop in mail.hops],
        "held": [{"low": span.low, "high": span.high} if span else None for span in mail.held],
        "total": mail.total._asdict() if mail.total else None,
        "slowest": mail.slowest,
        "clocks": [{"earlier": a, "later": b, "differ_by_more_than": seconds} for a, b, seconds in mail.wrong],
        "authentication": verdicts.summary(),
        "authserv_id": verdicts.authserv_id or None,
        "spam": [spam._asdict() for spam in verdicts.spam],
    }


def _words(mail: Explained) -> Iterator[Text]:
    yield Text()
    for line in _lines(mail):
        yield Text(line)
    yield Text()


def _lines(mail: Explained) -> Iterator[str]:
    """What there is to say below the table."""
    if mail.total:
        yield f"From the first stamp to the last: {duration(max(0.0, mail.total.high))}, if their clocks agree."
    if mail.slowest is not None:
        hop, mark, span = mail.hops[mail.slowest], mail.stamps[mail.slowest], mail.held[mail.slowest]
        yield f"Longest at {_clean(hop.by)}: {told(span, mark.resolution if mark else 1.0)}."
    elif len(mail.hops) > 1:
        yield "None of them certainly had it for longer than the others."
    for earlier, later, seconds in mail.wrong:
        apart = duration(float(int(seconds)) or seconds)
        yield f"The clocks of {_clean(earlier)} and {_clean(later)} differ by more than {apart}: one is wrong."
    if said := mail.verdicts.summary():
        by = f" ({_clean(mail.verdicts.authserv_id)})" if mail.verdicts.authserv_id else ""
        yield f"The receiver{by} seems to say: {', '.join(f'{method} {result}' for method, result in said.items())}."
    for spam in mail.verdicts.spam:
        verdict = {True: "spam", False: "not spam", None: "no verdict"}[spam.flagged]
        yield f"{_clean(spam.header)}: {verdict}" + ("" if spam.score is None else f", score {spam.score:g}") + "."
    if undated := sum(mark is None for mark in mail.stamps):
        yield f"{undated} of {len(mail.stamps)} hops have no stamp that can be read, or name no server."
    yield (
        f"One mail proves nothing of clocks: this holds if they differ by {TRUST:.0f} s at most, or by what the mail "
        "itself proves. No stamp tells when it was sent, or how long it lay in the mailbox."
    )


def _dated(mail: Explained) -> list[tuple[Hop, Stamp | None]]:
    return [each for each in zip(mail.hops, mail.stamps, strict=True) if each[0].date is not None]


def _at(hop: Hop, mark: Stamp | None) -> datetime:
    return datetime.fromtimestamp(mark.at if mark else hop.date or 0.0, UTC)


def _manner(hop: Hop) -> str:
    """Protocol, whether encrypted, and whether the client logged in (RFC 3848)."""
    words = [_clean(hop.protocol)[:12]]
    protocol = hop.protocol.upper()
    if hop.tls_version:
        words.append(_clean(hop.tls_version)[:9].replace("_", "."))
    elif protocol.endswith(("SMTPS", "SMTPSA", "LMTPS")):
        words.append("TLS")
    if hop.auth or protocol.endswith("SMTPA"):
        words.append("log-in")
    return " ".join(filter(None, words))


def _bar(span: Interval | None, longest: float) -> str:
    """Full for what is certain, light for what may be."""
    if span is None or longest <= 0:
        return ""
    sure, perhaps = (round(_BAR * min(1.0, end / longest)) for end in span)
    return "█" * sure + "░" * (perhaps - sure) or "▏"


def _clean(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
