"""What the page is told of a daemon at work, as frozen records, and what of it the public may know.

Rule: public() is the one place that leaves things out; what it gives holds no address, no host, no account and no
reason in a server's words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from probe.core.events import Instant, Stage
from probe.core.trouble import View


@dataclass(frozen=True, slots=True)
class Route:
    """A route as the page shows it. "" for what is not shown."""

    name: str
    sender: str
    recipient: str
    view: View


class Mailbox(NamedTuple):
    """Whether an account's mailbox is watched; `reason`: why not, as a label."""

    account: str
    up: bool
    reason: str = ""


class Demo(NamedTuple):
    """An embedded provider plays a story, which begins at this Unix time. At most `speed` of its seconds pass in one of
    ours; 1: it happens now."""

    begins: float
    speed: float


@dataclass(frozen=True, slots=True)
class Health:
    """How the prober itself is. Texts are "" when all is well."""

    version: str
    since: Instant
    mailboxes: tuple[Mailbox, ...] = ()
    ledger: str = ""  # why it cannot be written
    reload: str = ""  # why the new configuration is not in use
    demo: Demo | None = None  # None: the mail is real

    @property
    def well(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.ledger or self.reload) and all(mailbox.up for mailbox in self.mailboxes)


class Figures(NamedTuple):
    """What is known of one route beside its view, without asking the record."""

    flying: tuple[tuple[Instant, str], ...] = ()  # mails in flight, the oldest first: when accepted, the queue's id
    stages: tuple[tuple[Stage, float], ...] = ()  # of the last submission that was accepted, in seconds
    at: Instant | None = None  # its end


class Source(Protocol):
    """Who knows; the daemon's outlook.Outlook is one."""

    def now(self) -> Instant: ...
    def is_public(self) -> bool: ...
    def routes(self) -> Sequence[str]:
        """By name, as they are configured."""

    def route(self, name: str, now: Instant) -> Route | None: ...
    def figures(self, name: str) -> Figures: ...
    def health(self) -> Health: ...


def public(route: Route) -> Route:
    """The same without addresses."""
    return replace(route, sender="", recipient="")


def public_health(health: Health) -> Health:
    """The same without names and reasons."""
    return replace(
        health,
        version="",
        mailboxes=tuple(Mailbox("", mailbox.up) for mailbox in health.mailboxes),
        ledger="?" if health.ledger else "",
        reload="?" if health.reload else "",
    )


def public_figures(figures: Figures) -> Figures:
    """The same without the queue's ids."""
    return figures._replace(flying=tuple((at, "") for at, _ in figures.flying))
