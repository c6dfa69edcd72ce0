"""The log: one line per thing that happened, `event key=value …`, for a person and for grep.

Rule: never a password, never a mail's content. Under systemd each line begins with its priority (sd-daemon(3)), so that
`journalctl -p warning` works.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping

from probe.core.clocks import Jump
from probe.core.events import (
    Accepted,
    Arrived,
    Bounced,
    Deferred,
    Expired,
    Failed,
    Judged,
    Notified,
    Rejected,
    Sending,
    Traced,
    Unconfirmed,
    Vanished,
)
from probe.core.match import Verdict
from probe.core.outcome import Outcome, Sink
from probe.core.reply import trouble
from probe.core.way import held_most

log = logging.getLogger("mailprobe")

_BARE = re.compile(r"[!#-<>-~]+")  # ASCII but for blanks, quotes and equals signs: most values, and quickly told
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _Priority(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        mark = f"<{_PRIORITIES.get(record.levelno, 5)}>"
        return mark + super().format(record).replace("\n", f"\n{mark} ")


def configure(environ: Mapping[str, str], level: int = logging.INFO) -> None:
    """Log to stderr: with priorities when that is the journal, else with the time."""
    handler = logging.StreamHandler(sys.stderr)
    journal = _is_journal(environ)
    handler.setFormatter(
        _Priority("%(message)s") if journal else logging.Formatter("%(asctime)s %(levelname)-7s %(message)s")
    )
    # Not shown, and costly for every line (Python's logging how-to, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    log.setLevel(level)


def mark(environ: Mapping[str, str], level: int) -> str:
    """What a line that is not logged begins with: its priority, where stderr is the journal."""
    return f"<{_PRIORITIES[level]}>" if _is_journal(environ) else ""


def _is_journal(environ: Mapping[str, str]) -> bool:
    """Whether stderr itself is the journal (systemd.exec(5)): programs below a service inherit the variable, too."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def line(event: str, **fields: object) -> str:
    """`event key=value …`; texts with spaces are quoted, None is left out, floats are seconds to the millisecond."""
    return " ".join([event, *(f"{key}={_value(value)}" for key, value in fields.items() if value is not None)])


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    if _BARE.fullmatch(text):
        return text
    if not text.isprintable():
        text = "".join(c if c.isprintable() else "?" for c in text)
    return '"' + text.replace('"', "'") + '"' if not text or set(text) & set(' "=') else text


def _interval(low: float, high: float) -> str:
    return f"{low:.3f}" if low == high else f"{low:.3f}..{high:.3f}"


class LogSink(Sink):
    """Writes outcomes to the log. Arrivals and acceptances are INFO, whatever a provider refused or lost a WARNING."""

    def __init__(self) -> None:
        self._ledger_error: str | None = None

    def observe(self, outcome: Outcome) -> None:
        """One line per event."""
        event, probe = outcome.event, outcome.probe
        about = {"route": probe.route if probe else None, "probe": event.probe}
        match event:
            case Sending():
                if log.isEnabledFor(logging.DEBUG):
                    log.debug(line("sending", **about))
            case Accepted():
                log.info(line("accepted", **about, queue_id=event.queue_id or None, code=event.reply.code))
            case Deferred() | Rejected():
                kind, (stage, reason) = type(event).__name__.lower(), trouble(event)
                said = {"code": event.reply.code, "text": event.reply.text}
                log.warning(line(kind, **about, stage=stage, reason=reason, **said))
            case Failed() | Unconfirmed():
                kind, (stage, reason) = type(event).__name__.lower(), trouble(event)
                log.warning(line(kind, **about, stage=stage, reason=reason, detail=event.detail or None))
            case Traced():
                way = {segment: _interval(low, high) for segment, low, high, _ in event.segments}
                log.info(line("traced", **about, **way, held_by=held_most(event), **dict(event.authentication)))
            case Expired():
                log.warning(line("lost", **about, looked=None if event.looked else False))
            case Judged(met=False, deadline=deadline):
                log.warning(line("deadline_missed", **about, deadline=deadline))
            case Judged(met=None, deadline=deadline):
                log.warning(line("deadline_unknown", **about, deadline=deadline))
            case Vanished():
                log.info(line("vanished", **about, folder=event.place.folder))
            case Bounced() | Notified():
                level = logging.WARNING if outcome.recorded else logging.DEBUG
                kind = event.action if isinstance(event, Notified) else "bounced"
                told = outcome.verdict if outcome.verdict not in {Verdict.BOUNCED, Verdict.NOTICE} else None
                by = event.reporting_mta or None
                log.log(level, line(kind, **about, status=event.status or None, text=event.text, by=by, verdict=told))
            case Arrived():
                level = logging.INFO if outcome.recorded else logging.DEBUG
                measured = probe if outcome.measured_now else None
                log.log(
                    level,
                    line(
                        str(outcome.verdict),
                        **about,
                        latency=measured.latency if measured else None,
                        uncertainty=measured.uncertainty if measured else None,
                        clock="wall" if measured and measured.clock == "wall" else None,
                        detection=event.detection,
                        folder=event.place.folder,
                    ),
                )

    def violated(self, law: str) -> None:
        """Must never be seen."""
        log.error(line("bug", violated=law))

    def clock_jumped(self, kind: Jump, seconds: float) -> None:
        """Why samples of that moment may be odd."""
        log.warning(line(f"clock_{kind}", seconds=seconds))

    def host_clock_set(self, host: str, by: tuple[float, float]) -> None:
        """Why who held a mail is less well known for a while."""
        log.info(line("host_clock_set", host=host, seconds=_interval(*by)))

    def committed(self, events: int, seconds: float, error: str | None) -> None:
        """The beginning and the end of trouble with the disk, not every attempt."""
        if error != self._ledger_error:
            if error:
                log.error(line("ledger_unwritable", reason=error))
            else:
                log.warning(line("ledger_writable_again"))
            self._ledger_error = error

    def skipped(self, route: str, reason: str, number: int = 1) -> None:
        """Probes that did not start are a hole in the evidence."""
        log.warning(line("skipped", route=route, reason=reason, number=number if number > 1 else None))

    def mailbox_up(self, account: str) -> None:
        """Back, or there for the first time."""
        log.info(line("mailbox_watched", account=account))

    def mailbox_down(self, account: str, reason: str, detail: str, retry: float) -> None:
        """The prober is blind on this side."""
        log.warning(line("mailbox_unwatched", account=account, reason=reason, detail=detail, retry_in=retry))

    def unrecognised(self, account: str, reason: str) -> None:
        """Left alone."""
        log.warning(line("unrecognised", account=account, reason=reason))

    def note(self, account: str, text: str) -> None:
        """For a person."""
        log.warning(line("note", account=account, text=text))
