"""When a route's mailbox was watched: blindness is the prober's own trouble, and has incidents of its own.

Rule: being watched is what the shells say at each tick; nothing here is in the ledger, so replay cannot find it again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from probe.core.events import Instant, elapsed
from probe.core.trouble import Incident, RouteState, later

# Seconds for which a mailbox may be away before that matters: so long the recorder waits for a look when a deadline has
# passed, so that no verdict is missing until then.
GRACE = 30.0
SEEN_AGAIN = 60.0  # seconds for which it is watched before blindness is over: a reconnect may not last


@dataclass(slots=True)
class Sight:
    """When the mailbox was watched. `incident` is left with its end when it is over, for the tracker to take."""

    incident: Incident | None = None
    watched: Instant | None = None  # the last tick at which it was
    unwatched: Instant | None = None  # the last tick at which it was not
    since: Instant | None = None  # the first tick of those that say the same

    def look(self, route: str, now: Instant, watched: bool) -> None:
        """The mailbox is watched now, or is not."""
        before = later(self.watched, self.unwatched) if self.watched else self.unwatched
        if before is None or self.since is None or watched != (before is self.watched):
            self.since = now
        lasted = elapsed(self.since, now)
        if watched:
            self.watched = now
            if self.incident and lasted >= SEEN_AGAIN:
                lasted = elapsed(self.incident.begin, self.since)
                self.incident = replace(self.incident, peak=lasted).ended(self.since)
        else:
            self.unwatched = now
            if self.incident is None and lasted >= GRACE:
                self.incident = Incident(route, "blind", self.since, now, RouteState.BLIND, lasted)

    def lasted(self, at: Instant) -> Instant:
        """Until when the incident lasted for certain, by what is known at `at`."""
        return self.unwatched or (self.incident.noticed if self.incident else at)

    def sees(self, now: Instant) -> bool:
        """Whether the mailbox is watched, but for a moment."""
        return self.watched is not None and elapsed(self.watched, now) < GRACE

    def is_blind(self, known: Instant | None) -> bool:
        """Whether nobody sees, and no delivery was judged since somebody did."""
        if self.incident is None or self.unwatched is None:
            return False
        return known is None or elapsed(self.unwatched, known) <= 0

    def look_away(self) -> None:
        """Nobody looked for a while, not even whether the mailbox is watched."""
        self.watched = self.unwatched = self.since = None

    def unjudged(self) -> None:
        """Nobody could say of a mail whether it came in time."""
        if self.incident:
            self.incident = replace(self.incident, toll=self.incident.toll.plus("unknown"))
