"""What can happen at a mail provider: the stories of `mailprobe demo`, as data.

Rule: a story says only what the provider does, and when. What is seen of it from outside is measured, never told.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from probe.core.behaviour import Behaviour, Hold

# The calendar of every replay begins on the Monday on which, as the press of that week has it, storage hosts of 1&1
# failed, after which some 14 million mails lay in queues. Which mailbox waited for how long is not known; the hours
# of the story are ours.
BEGINS = datetime(2007, 1, 15, 6, 0, tzinfo=UTC).timestamp()
FAILED = ("store002", "store008", "store085", "store119", "store131", "store207")
_REST = ("store052", "store154")  # where the others live to whom the demo writes

_FINE = Behaviour(delay=(0.3, 2.0))


@dataclass(frozen=True, slots=True)
class Turn:
    """From this hour of the story on, mail to these storage hosts (none named: to all) is treated so."""

    hour: float
    hosts: tuple[str, ...]
    behaviour: Behaviour
    says: str  # what the provider does, in a few words
    news: str = ""  # a headline


@dataclass(frozen=True, slots=True)
class Scenario:
    """A story. `speed` is how many seconds of it pass in one; 1: it is no replay, and happens now."""

    about: str
    hours: float
    turns: tuple[Turn, ...]
    people: tuple[str, ...] = ("anna", "bruno", "david")  # one route to each
    every: float = 900.0  # seconds between two test mails of a route
    deadlines: tuple[float, ...] = (60.0, 3600.0)
    lost_after: float = 5 * 86400.0
    speed: float = 1200.0

    def homes(self) -> set[str]:
        """The storage hosts of which the story tells."""
        return {host for turn in self.turns for host in turn.hosts}


def _begin(hosts: tuple[str, ...] = ()) -> Turn:
    return Turn(0, hosts, _FINE, "delivers within seconds")


def _end(hour: float, hosts: tuple[str, ...] = (), news: str = "All is well again.") -> Turn:
    return Turn(hour, hosts, _FINE, "delivers within seconds", news)


def _busy(hour: float, host: str, put_off: float, news: str = "") -> Turn:
    return Turn(hour, (host,), replace(_FINE, put_off=put_off), f"takes {1 - put_off:.0%} of what is tried", news)


SCENARIOS = {
    "outage": Scenario(
        "January 2007: six of 230 storage hosts fail together, and mails wait for days",
        60,
        (
            _begin(),
            Turn(2, FAILED, replace(_FINE, put_off=1), "does not answer", "Six of 230 storage hosts fail together."),
            Turn(5, _REST, Behaviour(delay=(60, 1200)), "takes minutes", "The relays' queues are full, for everybody."),
            _end(11, _REST, "More relays: mail to the other hosts is quick again."),
            _busy(14, "store002", 0.9, "The first host is back, and swamped."),
            _busy(20, "store002", 0.6),
            _busy(22, "store085", 0.95, "The second host is back, and swamped."),
            _end(26, ("store002",), "The first host has worked off its queue."),
            _busy(34, "store085", 0.7),
            _busy(40, "store119", 0.9, "The third host is back, and swamped."),
            _end(42, ("store085",), "The second host has worked off its queue."),
            _busy(48, "store119", 0.6),
            _end(52, ("store119",), "The third host has worked off its queue."),
        ),
        people=("anna", "bruno", "clara", "david", "emma"),
    ),
    "greylisting": Scenario(
        "the storage hosts put off every relay that they do not know yet, for five minutes",
        12,
        (
            _begin(),
            Turn(2, (), replace(_FINE, grey=300), "puts off unknown relays", "Greylisting is switched on."),
        ),
    ),
    "junked": Scenario(
        "a new filter takes all mail to one host, and half of that to another, for junk",
        12,
        (
            _begin(),
            Turn(2, ("store002",), replace(_FINE, junked=1), "files all under Junk", "A new junk filter."),
            Turn(2, ("store085",), replace(_FINE, junked=0.5), "files half under Junk"),
            _end(8),
        ),
    ),
    "bounces": Scenario(
        "mailboxes are full: what was accepted comes back to its sender, as a bounce",
        12,
        (
            _begin(),
            Turn(2, ("store002",), replace(_FINE, bounced=1), "returns all", "Two storage hosts are full."),
            Turn(2, ("store085",), replace(_FINE, bounced=0.3), "returns three in ten"),
            _end(8),
        ),
    ),
    "flapping": Scenario(
        "one host stands still for 20 minutes of every hour, then all that waited comes at once",
        12,
        (
            _begin(),
            Turn(
                0,
                ("store002",),
                replace(_FINE, hold=Hold(after=4000, lasts=1200, every=3600)),
                "stands still 20 min an hour",
            ),
        ),
        every=300.0,
    ),
    "silent-loss": Scenario(
        "one mail in five is accepted and never seen again; nobody says so",
        12,
        (
            _begin(),
            Turn(2, (), replace(_FINE, lost=0.2), "loses one in five", "Mails begin to vanish."),
            _end(8),
        ),
        lost_after=3 * 3600.0,
    ),
    "normal": Scenario("nothing happens", 12, (_begin(),)),
    "live": Scenario(
        "no replay: in real time, a quick host, a slow one, and one that stands still for 20 s of every 60",
        math.inf,
        (
            Turn(0, ("store002",), Behaviour(), "delivers at once"),
            Turn(0, ("store085",), Behaviour(delay=(1.0, 3.0)), "takes 1 to 3 s"),
            Turn(0, ("store119",), Behaviour(hold=Hold(10.0, 20.0, 60.0)), "holds all mail for 20 s of every 60"),
        ),
        people=("anna", "bruno", "clara"),
        every=2.0,
        deadlines=(1.0, 10.0),
        speed=1.0,
    ),
}
