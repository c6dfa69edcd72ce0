"""In one number, how a route is: the worst that is true of it.

Rule: the first line that holds wins. A larger number is worse, so sorting by it puts the worst first.
"""

from __future__ import annotations

from grafana.panels import Mapping
from grafana.queries import DEADLINE, WATCHED, deadlines, of_route, within

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
    "**stuck**: a mail is in flight for longer than the route's longest deadline, and the mailbox is watched. "
    "**lost**: one was lost or bounced in the last hour. "
    "**not sent**: none was accepted in 15 minutes, though tried or due. "
    "**unseen**: the mailbox is not watched, or was not when a deadline passed. "
    "**late**: one was missed in 15 minutes. "
)


def _recent(metric: str, *more: str, window: str = RECENT) -> str:
    return within(window, of_route(metric, *more), "route")


_MISSED = deadlines(RECENT, "false", "route") + " > 0"
_UNKNOWN = deadlines(RECENT, "unknown", "route") + " > 0"
_ACCEPTED = _recent("submissions_total", 'outcome="accepted"')
_NOT_ACCEPTED = _recent("submissions_total", 'outcome!="accepted"')
# As the alert MailprobeMailStuck has it: where nobody looks, age alone says nothing about the provider.
_OLD = f"{of_route('oldest_in_flight_seconds')} > on (job, instance, route) max by (job, instance, route) ({DEADLINE})"
_STUCK = f"({_OLD}) and on (job, instance, route) ({WATCHED} == 1)"

_CASES = (
    (STUCK, f"max by (route) ({_STUCK})"),
    (LOST, f"{_recent('lost_probes_total', window='1h')} + {_recent('bounces_total', window='1h')} > 0"),
    (REFUSED, f"{_NOT_ACCEPTED} + {_recent('probes_skipped_total')} > 0 unless {_ACCEPTED} > 0"),
    (UNSEEN, f"{_UNKNOWN} or max by (route) ({WATCHED} == 0)"),
    (LATE, _MISSED),
    (NEW, f"max by (route) ({of_route('last_arrival_timestamp_seconds')}) == 0"),
    (FINE, f"max by (route) ({of_route('in_flight_probes')})"),
)
STATE = "\nor ".join(f"0 * ({case}) + {number}" for number, case in _CASES)
