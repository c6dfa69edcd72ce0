"""The instants that servers write into header fields, in their forms: RFC 5322, asctime, ISO 8601, and all between.

Rule: a stamp without a zone is no instant, and a zone whose letters mean several things is none; neither is guessed.

RFC 5322 §4.3 has ten names of zones and says of all others: unknown. A few that mean one thing everywhere are read too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_HOURS = {
    name: hours
    for hours, names in (
        (0, "UT UTC GMT Z WET"),
        *((-4, "EDT"), (-5, "EST CDT"), (-6, "CST MDT"), (-7, "MST PDT"), (-8, "PST AKDT")),
        *((-9, "AKST HDT"), (-10, "HST")),
        *((1, "CET MET MEZ WEST"), (2, "CEST MEST MESZ EET"), (3, "EEST"), (8, "HKT"), (9, "JST KST")),
        *((10, "AEST"), (11, "AEDT"), (12, "NZST"), (13, "NZDT")),
    )
    for name in names.split()
}

_ZONE = (
    r"(?:(?P<from>(?:GMT|UTC?)\x20?)?(?P<sign>[+-])(?P<offset>\d{1,2}:\d\d|\d{1,6})(?![\d:])"
    r"|-?(?P<name>[A-Z]{1,5}?)(?P<dst>\x20?DST)?(?![\w+-]|\x20Daylight))"
)
_TIME = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d{1,2})(?::(?P<second>\d{1,2})(?:[.,](?P<fraction>\d{1,12}))?)?(?!\d)"
    r"(?:\x20?(?P<half>[AP])\.?M\b\.?)?"
)
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})[a-z]{{0,6}}"
_DAY = r"(?P<day>\d{1,2})"
_GAP = r"[\x20,./-]{1,3}"
_FORMS = (
    rf"{_DAY}{_GAP}{_MONTH}{_GAP}(?P<year>\d{{2,4}})[\x20,:]{{1,3}}{_TIME}",  # RFC 5322 §3.3, §4.3
    rf"{_MONTH}{_GAP}{_DAY}{_GAP}{_TIME}\x20(?:{_ZONE}\x20)?(?P<year>\d{{4}})(?!\d)",  # asctime(3), date(1)
    rf"{_MONTH}{_GAP}{_DAY}{_GAP}(?P<year>\d{{4}})[\x20,]{{1,3}}{_TIME}",  # JavaScript
    rf"(?P<year>\d{{4}})[-/](?P<month>\d{{1,2}})[-/]{_DAY}(?:T|,?\x20){_TIME}",  # ISO 8601, RFC 3339, Go
    rf"(?P<month>\d{{1,2}})[-/]{_DAY}[-/](?P<year>\d{{4}}),?\x20{_TIME}",  # .NET
)
_ANY = tuple(re.compile(rf"(?<![\w:/.]){form}", re.I | re.A) for form in _FORMS)
_ZONE_AFTER = re.compile(rf",?\x20{{0,2}}{_ZONE}", re.I | re.A)
_CLUE = re.compile(r"\d:\d")  # no form goes without
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Written(NamedTuple):
    """A stamp found in a text: it covers [at, at + resolution), in seconds of Unix time as its writer's clock had it.

    `at` is None where no zone is given; `naive` is then what the clock showed (ISO 8601), and else "".
    It stands from `start` to `end`.
    """

    at: float | None
    resolution: float
    naive: str
    start: int
    end: int


def find(text: str, start: int = 0) -> Iterator[Written]:
    """Every stamp in this line (no tabs, no line ends) from there on, by its form. Never raises; linear time."""
    if not _CLUE.search(text, start):
        return
    for form in _ANY:
        for match in form.finditer(text, start):
            if written := _written(match, text):
                yield written


def zone(text: str) -> timedelta | None:
    """The offset from UTC that these words say, for a zone that stands in a comment of its own.

    "GMT-8" is none there: POSIX names China's zone so, and some servers put its names into comments.
    """
    match = _ZONE_AFTER.fullmatch(text.strip())
    return _offset(match) if match and not (match["from"] and len(match["offset"]) == 1) else None


def shifted(naive: str, offset: timedelta) -> float:
    """The Unix time of what a clock showed in a zone so far from UTC."""
    return (datetime.fromisoformat(naive).replace(tzinfo=UTC) - _EPOCH - offset).total_seconds()


def iso(at: float, resolution: float) -> str:
    """Unix time as ISO 8601 in UTC, with the digits that the resolution carries."""
    digits = next((count for count in range(6) if 10.0**-count <= resolution), 6)
    said = (_EPOCH + timedelta(seconds=at)).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return f"{said[: len(said) - 6 + digits].rstrip('.')}Z"


def _written(match: re.Match[str], text: str) -> Written | None:
    said, end = match.groupdict(), match.end()
    moment = _moment(said, month_first=match.re is _ANY[-1])
    if moment is None:
        return None
    offset = _offset(match) if said.get("name") or said.get("sign") else None
    if offset is None and (after := _ZONE_AFTER.match(text, end)):
        offset = _offset(after)
        end = end if offset is None else after.end()
    if offset is None and said["half"] and said["month"].isdigit():
        offset = timedelta()  # Exchange alone writes 4/20/2018 11:01:36 PM, and means UTC
    digits = min(len(said["fraction"] or ""), 6)
    resolution = 10.0**-digits if said["second"] else 60.0
    if offset is None:
        return Written(None, resolution, moment.isoformat(), match.start(), end)
    return Written((moment.replace(tzinfo=UTC) - _EPOCH - offset).total_seconds(), resolution, "", match.start(), end)


def _moment(said: dict[str, str | None], *, month_first: bool) -> datetime | None:
    """What the writer's clock showed; None for what no clock shows."""
    day, month, year, half = said["day"] or "", said["month"] or "", said["year"] or "", said["half"]
    if month_first and not half:
        return None  # 4/5/2018: April or May?
    hour, second = int(said["hour"] or 0), int(said["second"] or 0)
    if half:
        hour = hour % 12 + 12 * (half in "Pp") if 1 <= hour <= 12 else 24
    leap = second == 60  # RFC 5322 §3.3
    micros = int((said["fraction"] or "")[:6].ljust(6, "0"))
    century = 0 if len(year) == 4 else 2000 if len(year) == 2 and year < "50" else 1900  # RFC 5322 §4.3
    if not 1970 <= int(year) + century < 3000:
        return None
    try:
        number = int(month) if month.isdigit() else _MONTHS.index(month.lower()) + 1
        moment = datetime(int(year) + century, number, int(day), hour, int(said["minute"] or 0), second - leap, micros)
        return moment + timedelta(seconds=leap)
    except ValueError:
        return None


def _offset(match: re.Match[str]) -> timedelta | None:
    """None for the unknown zones, and for offsets like "+000"."""
    if match["name"]:
        hours = _HOURS.get(match["name"].upper())
        return None if hours is None else timedelta(hours=hours + bool(match["dst"]))
    digits = match["offset"].replace(":", "")
    if len(digits) not in {2, 4} and ":" not in match["offset"] and not (len(digits) == 1 and match["from"]):
        return None
    hours, minutes = (int(digits), 0) if len(digits) <= 2 else (int(digits[:-2]), int(digits[-2:]))
    sign = -1 if match["sign"] == "-" else 1
    return sign * timedelta(hours=hours, minutes=minutes) if hours <= 24 and minutes < 60 else None
