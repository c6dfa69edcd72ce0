"""The instants that servers write into header fields, in their forms: RFC 5322, asctime, ISO 8601, and all between.

Rule: a stamp without a zone is no instant, and a zone whose letters mean several things is none; neither is guessed.

RFC 5322 §4.3 has ten names of zones and says of all others: unknown. A few that mean one thing everywhere are read too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_MONTHS = {name: number for number, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
_HOURS = {
    **{"UT": 0, "UTC": 0, "GMT": 0, "Z": 0, "WET": 0},
    **{"EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7},  # RFC 5322 §4.3
    **{"CET": 1, "MET": 1, "MEZ": 1, "WEST": 1, "CEST": 2, "MEST": 2, "MESZ": 2, "EET": 2, "EEST": 3},
    **{
        "JST": 9,
        "KST": 9,
        "HKT": 8,
        "AKST": -9,
        "AKDT": -8,
        "HST": -10,
        "AEST": 10,
        "AEDT": 11,
        "NZST": 12,
        "NZDT": 13,
    },
}

_ZONE = r"(?:(?:GMT|UTC?)?(?P<sign>[+-])\x20?(?P<offset>\d{1,2}:\d\d|\d{1,4})(?![\d:])|(?P<name>[A-Z]{1,5})(?![\w+-]))"
_TIME = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,12}))?)?(?!\d)"
    r"(?:\x20?(?P<half>[AP])\.?M\b\.?)?"
)
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})[a-z]{{0,6}}"
_GAP = r"[\x20,./-]{1,3}"
_FORMS = (
    rf"(?P<day>\d{{1,2}})(?:st|nd|rd|th)?{_GAP}{_MONTH}{_GAP}(?P<year>\d{{2,4}})[\x20,:]{{1,3}}(?:at\x20)?{_TIME}",  # RFC 5322
    rf"{_MONTH}{_GAP}(?P<day>\d{{1,2}}){_GAP}{_TIME}\x20(?:{_ZONE}\x20)?(?P<year>\d{{4}})(?!\d)",  # asctime, date(1)
    rf"{_MONTH}{_GAP}(?P<day>\d{{1,2}}){_GAP}(?P<year>\d{{4}})[\x20,]{{1,3}}(?:at\x20)?{_TIME}",  # JavaScript
    rf"(?P<year>\d{{4}})[-/](?P<month>\d\d)[-/](?P<day>\d\d)(?:T|,?\x20){_TIME}",  # ISO 8601, RFC 3339; Go's time.String
    rf"(?P<month>\d{{1,2}})/(?P<day>\d{{1,2}})/(?P<year>\d{{4}}),?\x20{_TIME}",  # .NET; only with AM or PM: see _moment
)
_ANY = tuple(re.compile(rf"(?<![\w:/.]){form}", re.I | re.A) for form in _FORMS)
_ZONE_AFTER = re.compile(rf"\x20{{0,2}}{_ZONE}", re.I | re.A)
_CLUE = re.compile(r"\d:\d\d")  # no form goes without


class Written(NamedTuple):
    """A stamp found in a text: it covers [at, at + resolution), in seconds of Unix time as its writer's clock had it.

    `at` is None where no zone is given; `naive` is then what the clock showed (ISO 8601), and else "". `start` and `end`
    are where it stands.
    """

    at: float | None
    resolution: float
    naive: str
    start: int
    end: int


def find(text: str) -> Iterator[Written]:
    """Every stamp in this line (no tabs, no line ends), by its form. Never raises; linear time."""
    if not _CLUE.search(text):
        return
    for form in _ANY:
        for match in form.finditer(text):
            if written := _written(match, text):
                yield written


def zone(text: str) -> timedelta | None:
    """The offset from UTC that these words say, for a zone that stands in a comment of its own."""
    match = _ZONE_AFTER.fullmatch(text.strip())
    return _offset(match) if match else None


def shifted(naive: str, offset: timedelta) -> float:
    """The Unix time of what a clock showed in a zone so far from UTC."""
    return (datetime.fromisoformat(naive).replace(tzinfo=UTC) - offset).timestamp()


def iso(at: float, resolution: float) -> str:
    """Unix time as ISO 8601 in UTC, with the digits that the resolution carries."""
    said = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=at)).isoformat(timespec="microseconds")
    digits = next((n for n in range(7) if 10**-n <= resolution * 1.0001), 6)
    return said[: 19 + bool(digits) + digits] + "Z"


def _written(match: re.Match[str], text: str) -> Written | None:
    moment = _moment(match)
    if moment is None:
        return None
    said, end = match.groupdict(), match.end()
    offset = _offset(match) if "name" in said else None
    if offset is None and (after := _ZONE_AFTER.match(text, end)):
        offset = _offset(after)
        end = after.end() if offset is not None or after["sign"] else end
    if offset is None and said["half"] and "/" in match[0]:
        offset = timedelta()  # Exchange alone writes 4/20/2018 11:01:36 PM, and means UTC
    digits = said["fraction"] or ""
    resolution = 10.0 ** -min(len(digits), 6) if said["second"] else 60.0
    if offset is None:
        spec = "microseconds" if digits else "seconds"
        return Written(None, resolution, moment.isoformat(timespec=spec), match.start(), end)
    at = (moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC) - offset).total_seconds()
    return Written(at, resolution, "", match.start(), end)


def _moment(match: re.Match[str]) -> datetime | None:
    """What the writer's clock showed; None for what no clock shows."""
    said = match.groupdict()
    year, month, hour = int(said["year"]), said["month"], int(said["hour"])
    if len(said["year"]) < 4:  # RFC 5322 §4.3
        year += 2000 if len(said["year"]) == 2 and year < 50 else 1900
    if said["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (said["half"] in "Pp")
    elif match.re is _ANY[-1]:
        return None  # 4/5/2018: April or May?
    second = int(said["second"] or 0)
    leap = second == 60  # RFC 5322 §3.3
    try:
        moment = datetime(  # noqa: DTZ001 - its zone is another question
            year,
            int(month) if month.isdigit() else _MONTHS[month.lower()],
            int(said["day"]),
            hour,
            int(said["minute"]),
            second - leap,
            int((said["fraction"] or "0")[:6].ljust(6, "0")),
        )
        return moment + timedelta(seconds=leap)
    except (ValueError, OverflowError):
        return None


def _offset(match: re.Match[str]) -> timedelta | None:
    if match["name"]:
        hours = _HOURS.get(match["name"].upper())
        return None if hours is None else timedelta(hours=hours)
    if not match["sign"]:
        return None
    digits = match["offset"].replace(":", "")
    hours, minutes = (int(digits), 0) if len(digits) < 3 else (int(digits[:-2]), int(digits[-2:]))
    if hours > 24 or minutes > 59:
        return None
    return timedelta(hours=hours, minutes=minutes) * (-1 if match["sign"] == "-" else 1)
