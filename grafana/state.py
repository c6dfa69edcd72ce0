"""In one number, how a route is: the worst that is true of it.

Rule: the first line that holds wins. A larger number is worse, so sorting by it puts the worst first.
"""

from __future__ import annotations

from grafana.panels import Mapping
from grafana.queries import deadlines, of_route, within

RECENT = "15m"

FINE, NEW, LATE, UNSEEN, REFUSED, LOST, STUCK = range(7)
TROUBLE = LATE
STATES: Mapping = {
    FINE: ("fine", "green"),
    NEW: ("no mail yet", "blue"),
    LATE: ("late", "yellow"),
    UNSEEN: ("unseen", "purple"),
    REFUSED: ("not sent", "orange"),
    LOST: ("lost", "dark-red"),
    STUCK: ("stuck", "red"),
}
EXPLAINED = (
    "**stuck**: a mail is in flight for longer than *Stuck after*. "
    "**lost**: one was lost or bounced in the last hour. "
    "**not sent**: none was accepted in 15 minutes, though tried or due. "
    "**unseen**: a deadline passed while the mailbox was not watched. "
    "**late**: one was missed in 15 minutes. "
)


def _recent(metric: str, *more: str, window: str = RECENT) -> str:
    return within(window, of_route(metric, *more), "route")


_MISSED = deadlines(RECENT, "false", "route") + " > 0"
_UNKNOWN = deadlines(RECENT, "unknown", "route") + " > 0"
_ACCEPTED = _recent("submissions_total", 'outcome="accepted"')
_NOT_ACCEPTED = _recent("submissions_total", 'outcome!="accepted"')
# One figure for all routes. mailprobe_route_deadline_seconds, once it is exported, can take its place.
_OLD = f"max by (route) ({of_route('oldest_in_flight_seconds')}) > $stuck"

_CASES = (
    # Where nobody could look, age alone says nothing about the provider; a missed deadline says that somebody looked.
    (STUCK, f"{_OLD} unless ({_UNKNOWN} unless {_MISSED})"),
    (LOST, f"{_recent('lost_probes_total', window='1h')} + {_recent('bounces_total', window='1h')} > 0"),
    (REFUSED, f"{_NOT_ACCEPTED} + {_recent('probes_skipped_total')} > 0 unless {_ACCEPTED} > 0"),
    (UNSEEN, _UNKNOWN),
    (LATE, _MISSED),
    (NEW, f"max by (route) ({of_route('last_arrival_timestamp_seconds')}) == 0"),
    (FINE, f"max by (route) ({of_route('in_flight_probes')})"),
)
STATE = "\nor ".join(f"0 * ({case}) + {number}" for number, case in _CASES)
