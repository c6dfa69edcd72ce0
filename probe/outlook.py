"""What the status page and the API are told of a daemon at work: composed of those who know, when it asks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from probe.core.events import Instant, elapsed
from probe.core.state import State
from probe.incidents import Incidents
from probe.page import Figures, Health, Latest, Route
from probe.prober import Prober


class Outlook:
    """A page.Source, and an api.Source."""

    def __init__(self, prober: Prober, incidents: Incidents, latest: Latest) -> None:
        self._prober, self._incidents, self._latest = prober, incidents, latest

    def now(self) -> Instant:
        """By the daemon's clock."""
        return self._prober.clock()

    def is_public(self) -> bool:
        """As it is configured now."""
        return self._prober.settings.page.public

    def routes(self) -> Sequence[str]:
        """As they are configured now."""
        return list(self._prober.settings.routes)

    def route(self, name: str, now: Instant) -> Route | None:
        """None: there is none of this name."""
        settings = self._prober.settings
        route, view = settings.routes.get(name), self._incidents.view(name, now)
        if route is None or view is None:
            return None
        sender, recipient = (settings.accounts[it].address for it in (route.sender, route.recipient))
        return Route(name, sender, recipient, view)

    def figures(self, name: str) -> Figures:
        """Its mails in flight, and the stages of its last submission."""
        now = self.now()
        flying = [
            (probe.answerable, getattr(probe.submitted, "queue_id", ""))
            for probe in self._prober.recorder.flying(name)
            if probe.answerable
        ]
        accepted = self._latest.accepted.get(name)
        return Figures(
            tuple(sorted(flying, key=lambda mail: -elapsed(mail[0], now))),
            accepted.stages if accepted else (),
            accepted.at if accepted else None,
        )

    def counts(self) -> Mapping[tuple[str, State], int]:
        """All probes on record, by route and state."""
        return self._prober.recorder.standing().counts

    def health(self) -> Health:
        """The prober's own."""
        settings = self._prober.settings
        return self._latest.health(sorted({route.recipient for route in settings.routes.values()}))


def time_zone() -> tzinfo:
    """This machine's, so that a page's times are those of its log."""
    try:
        name = os.environ.get("TZ", "").removeprefix(":") or "/etc/localtime"
        if not name.startswith("/"):
            return ZoneInfo(name)
        with Path(name).open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError, KeyError):
        return UTC
