"""The daemon's standing in one line, for `systemctl status`: what is fine, what is not, the worst first.

Rule: whoever reads it at night needs no other page to know where to look; a route is fine only if it was seen to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from probe.core.events import Accepted, Deferred, Failed, Rejected
from probe.core.outcome import Outcome, RouteView, Sink
from probe.core.reply import trouble
from probe.core.settings import Settings
from probe.core.words import duration

_NAMED = 3  # of each kind; the rest is counted
_PATIENCE = 300.0  # seconds after which mail is stuck on a route without deadlines


class StatusLine(Sink):
    """A sink that remembers what is wrong; `text` says it."""

    def __init__(self) -> None:
        self.news = 0  # counts what began or ended, so that a reader sees whether there is something new
        self._blind: dict[str, str] = {}  # account → why its mailbox is not watched
        self._unsent: dict[str, str] = {}  # route → why its last probe was not accepted
        self._ledger = ""
        self._reload = ""

    def text(self, settings: Settings, views: Sequence[RouteView]) -> str:
        """The line, of the routes as they stand now."""
        kinds: dict[str, list[str]] = {"stuck": [], "not sending": [], "unseen": []}
        fine = 0
        # The oldest first; those that have none in flight last.
        for view in sorted(views, key=lambda view: -(view.oldest or 0.0)):
            route = settings.routes[view.route]
            if not view.watched:
                kinds["unseen"].append(view.route)
            elif (view.oldest or 0.0) > max(route.deadlines, default=_PATIENCE):
                kinds["stuck"].append(view.route)
            elif view.route in self._unsent:
                kinds["not sending"].append(f"{view.route} ({self._unsent[view.route]})")
            else:
                fine += 1
        routes = [f"{fine} {'route' if fine == 1 else 'routes'} fine"]
        routes += [f"{len(names)} {kind}: {_some(names)}" for kind, names in kinds.items() if names]
        blind = [f"{name} ({why})" for name, why in self._blind.items() if name in settings.accounts]
        parts = [", ".join(routes), _flying(views)]
        if blind:
            parts.append(f"{len(blind)} {'mailbox' if len(blind) == 1 else 'mailboxes'} unwatched: {_some(blind)}")
        if self._ledger:
            parts.append(f"the ledger cannot be written: {self._ledger}")
        if self._reload:
            parts.append(f"goes on with the old configuration: {self._reload}")
        return "; ".join(part for part in parts if part)

    # -- what it hears -------------------------------------------------------------------------------------------

    def observe(self, outcome: Outcome) -> None:
        """Whether the last submission of each route was accepted."""
        event, probe = outcome.event, outcome.probe
        if probe and isinstance(event, Accepted):
            self._ends(self._unsent, probe.route)
        elif probe and isinstance(event, Deferred | Rejected | Failed):
            self._begins(self._unsent, probe.route, trouble(event)[1])

    def skipped(self, route: str, reason: str, number: int = 1) -> None:
        """A probe that is not started is as good as not sent; one that was overslept is past."""
        if reason != "overslept":
            self._begins(self._unsent, route, reason)

    def mailbox_up(self, account: str) -> None:
        """Seen again."""
        self._ends(self._blind, account)

    def mailbox_down(self, account: str, reason: str, detail: str, retry: float) -> None:
        """Why nothing is seen there."""
        self._begins(self._blind, account, reason)

    def committed(self, events: int, seconds: float, error: str | None) -> None:
        """The ledger's trouble, while it lasts."""
        if (error or "") != self._ledger:
            self._ledger, self.news = error or "", self.news + 1

    def reloaded(self, error: str | None) -> None:
        """Why the new configuration is not in use."""
        self._reload, self.news = error or "", self.news + 1

    def _begins(self, kind: dict[str, str], name: str, why: str) -> None:
        if kind.get(name) != why:
            kind[name] = why
            self.news += 1

    def _ends(self, kind: dict[str, str], name: str) -> None:
        if kind.pop(name, None) is not None:
            self.news += 1


def _flying(views: Iterable[RouteView]) -> str:
    number = sum(view.in_flight for view in views)
    oldest = max((view.oldest for view in views if view.oldest is not None), default=None)
    if not number or oldest is None:
        return "no mail in flight"
    return f"{number} {'mail' if number == 1 else 'mails'} in flight, the oldest for {duration(oldest)}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
