"""Mails in a row that a server refuses, or takes and returns: an incident from the first of them on.

Rule: it follows from the probes' events alone. What the prober itself could not do is no refusal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from probe.core.events import Accepted, Bounced, Deferred, Failed, Instant, Rejected, elapsed
from probe.core.outcome import Outcome
from probe.core.state import Probe, State
from probe.core.trouble import NOBODY, Incident, RouteState

# One is daily life: greylisting, a server that restarts. Two in a row are a route that takes no mail, and with a mail a
# minute it is known within a minute of the first.
FAILURES = 2
SUCCESSES = 3  # in a row, until it is over: servers that fail now and then are not said to be mended each time
OURS = frozenset({"ledger_unwritable"})  # reasons of a failed submission that are the prober's own

Sort = Literal["refused", "bounced"]


@dataclass(slots=True)
class Run:
    """Mails in a row. `incident` is left with its end when it is over, for the tracker to take."""

    incident: Incident | None = None
    bad: int = 0
    good: int = 0  # since the last bad one
    began: Instant | None = None  # when the first bad one was started
    restored: Instant | None = None  # when the first good one since was taken, or came

    def well(self, at: Instant) -> None:
        """One was taken, or came."""
        if self.incident and self.bad and self.began:
            self.incident = replace(self.incident, peak=max(self.incident.peak, elapsed(self.began, at)))
        self.bad, self.good, self.restored = 0, self.good + 1, self.restored or at
        if self.incident and self.good >= SUCCESSES:
            self.incident = self.incident.ended(self.restored)

    def ill(self, sort: Sort, probe: Probe, at: Instant) -> None:
        """One was refused, or returned."""
        began = self.began = self.began if self.bad and self.began else probe.started
        self.bad, self.good, self.restored = self.bad + 1, 0, None
        incident = self.incident
        if incident is None and self.bad >= FAILURES:
            toll = NOBODY.plus(sort, self.bad - 1)
            incident = Incident(probe.route, sort, began, at, RouteState.FAILING, toll=toll)
        if incident:
            peak = max(incident.peak, elapsed(began, at))
            self.incident = replace(incident, peak=peak, toll=incident.toll.plus(sort))

    def lasted(self, at: Instant) -> Instant:
        """Until when the incident lasted for certain, by what is known at `at`."""
        return self.restored or at


def is_returned(outcome: Outcome) -> bool:
    """Whether this very event is the bounce for which the mail was given up."""
    before, probe = outcome.before, outcome.probe
    given_up = probe is not None and probe.state is State.BOUNCED
    return isinstance(outcome.event, Bounced) and given_up and before is not None and before.state is not State.BOUNCED


def runs(outcome: Outcome) -> Iterator[tuple[Sort, bool]]:
    """Which runs this goes on with, and whether it went well."""
    match outcome.event:
        case Accepted():
            yield "refused", True
        case Rejected() | Deferred():
            yield "refused", False
        case Failed(reason=reason) if reason not in OURS:
            yield "refused", False
    if is_returned(outcome):
        yield "bounced", False
    elif outcome.measured_now:
        yield "bounced", True
