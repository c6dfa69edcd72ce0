"""What --since and --until say, as Unix time.

Rule: a time without a zone is in the report's; a date is the day's first moment there, and with --until its last.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from probe.config import parse_duration


def span(since: str, until: str, zone: ZoneInfo, now: float) -> tuple[float, float]:
    """The span between two such texts; "" for the last 24 h, and for now. Raises ValueError."""
    end = _moment("--until", until, zone, now, days=1) if until else now
    begin = _moment("--since", since, zone, now) if since else end - 86400.0
    if begin >= end:
        raise ValueError(f"--since is not before --until: {_said(begin, zone)}, {_said(end, zone)}")
    if begin < 0:
        raise ValueError(f"--since is before 1970: {_said(begin, zone)}")
    if begin > now:
        raise ValueError(f"--since is in the future: {_said(begin, zone)}")
    return begin, end


def zone(name: str) -> ZoneInfo:
    """The zone of that name. Raises ValueError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"--tz: there is no zone {name!r}; write one such as Europe/Berlin or UTC") from None


def _moment(option: str, text: str, zone: ZoneInfo, now: float, days: int = 0) -> float:
    try:
        if len(text) == len("2007-01-26") and text[4] == "-":
            first = date.fromisoformat(text) + timedelta(days=days)
            return datetime(first.year, first.month, first.day, tzinfo=zone).timestamp()
        if text[4:5] == "-":
            moment = datetime.fromisoformat(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()
        return now - parse_duration(text)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{option}: {text!r} is no time; write 2007-01-26, 2007-01-26T09:02+01:00, or 7d for seven days ago"
        ) from None


def _said(at: float, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at, zone).isoformat(" ", "seconds")
