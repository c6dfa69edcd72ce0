"""What a page wants to know that nobody else remembers: a sink with the latest word on mailboxes, disk and stages."""

from __future__ import annotations

from collections.abc import Iterable

from probe.core.events import Accepted, Instant
from probe.core.outcome import Outcome, Sink
from probe.page.facts import Demo, Health, Mailbox


class Latest(Sink):
    """A sink; `health()` and `accepted` say what it heard."""

    def __init__(self, version: str, since: Instant, demo: Demo | None = None) -> None:
        self.accepted: dict[str, Accepted] = {}  # route → its last submission that was accepted
        self._version, self._since, self._demo = version, since, demo
        self._down: dict[str, str] = {}  # account → why its mailbox is not watched
        self._tried: set[str] = set()
        self._ledger = self._reload = ""

    def health(self, accounts: Iterable[str]) -> Health:
        """How the prober is; `accounts`: those whose mailboxes are to be watched."""
        boxes = tuple(
            Mailbox(name, name in self._tried and name not in self._down, self._down.get(name, "")) for name in accounts
        )
        return Health(self._version, self._since, boxes, self._ledger, self._reload, self._demo)

    def observe(self, outcome: Outcome) -> None:
        """How long each stage of a submission took."""
        if outcome.probe and isinstance(outcome.event, Accepted):
            self.accepted[outcome.probe.route] = outcome.event

    def mailbox_up(self, account: str) -> None:
        """Watched."""
        self._tried.add(account)
        self._down.pop(account, None)

    def mailbox_down(self, account: str, reason: str, detail: str, retry: float) -> None:
        """Why it is not watched."""
        self._down[account] = reason

    def committed(self, events: int, seconds: float, error: str | None) -> None:
        """The ledger's trouble, while it lasts."""
        self._ledger = error or ""

    def reloaded(self, error: str | None) -> None:
        """Why the old configuration is still in use."""
        self._reload = error or ""
