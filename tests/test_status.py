"""The line in `systemctl status`."""

from __future__ import annotations

from pathlib import Path

from probe.core.events import Event
from probe.core.outcome import Outcome, RouteView
from probe.core.settings import Route, Settings
from probe.service.status import StatusLine

from .make import accepted, failed, make_account, make_probe, sending


def view(route: str, in_flight: int = 0, oldest: float | None = None, watched: bool = True) -> RouteView:
    return RouteView(route, "a@x", "b@x", watched, in_flight, oldest, None, None)


def text(line: StatusLine, *views: RouteView) -> str:
    routes = {it.route: Route(it.route, "gmx", "own", deadlines=(30.0, 300.0)) for it in views}
    accounts = {name: make_account(name, f"{name}@example.org") for name in ("gmx", "own")}
    return line.text(Settings(accounts, routes, Path()), views)


def outcome(*events: Event) -> Outcome:
    return Outcome(events[-1], None, make_probe(*events))


def test_all_is_well() -> None:
    assert text(StatusLine(), view("r")) == "1 route fine; no mail in flight"
    assert text(StatusLine(), view("r"), view("s", 1, 2.5)) == "2 routes fine; 1 mail in flight, the oldest for 2.5 s"


def test_mail_is_stuck_when_it_is_older_than_the_last_deadline() -> None:
    said = text(StatusLine(), view("a", 1, 299.0), view("b", 13, 11520.0))
    assert said == "1 route fine, 1 stuck: b; 14 mails in flight, the oldest for 3 h 12 min"


def test_the_oldest_is_named_first_and_the_rest_is_counted() -> None:
    said = text(StatusLine(), *(view(name, 1, 1000.0 + n) for n, name in enumerate("abcde")))
    assert said.startswith("0 routes fine, 5 stuck: e, d, c and 2 more; ")


def test_a_route_whose_mailbox_is_not_watched_is_neither_fine_nor_stuck() -> None:
    line = StatusLine()
    line.mailbox_down("gmx", "auth_refused", "detail", 120.0)
    said = text(line, view("a"), view("b", 1, 1000.0, watched=False))
    assert said.startswith("1 route fine, 1 unseen: b; ")
    assert said.endswith("; 1 mailbox unwatched: gmx (auth_refused)")
    line.mailbox_up("gmx")
    assert "unwatched" not in text(line, view("a"))


def test_a_route_that_sends_nothing_is_not_fine() -> None:
    line = StatusLine()
    line.observe(outcome(sending(), failed()))
    assert text(line, view("r")) == "0 routes fine, 1 not sending: r (refused); no mail in flight"
    line.observe(outcome(sending(), accepted()))
    assert text(line, view("r")).startswith("1 route fine")
    line.skipped("r", "auth_backoff")
    assert "1 not sending: r (auth_backoff)" in text(line, view("r"))


def test_trouble_with_the_ledger_and_the_configuration_is_said_while_it_lasts() -> None:
    line = StatusLine()
    line.committed(0, 0.0, "disk full")
    line.reloaded("mailprobe.toml: routes.r: no account 'x'")
    said = text(line, view("r"))
    assert "; the ledger cannot be written: disk full; " in said
    assert said.endswith("; goes on with the old configuration: mailprobe.toml: routes.r: no account 'x'")
    line.committed(1, 0.0, None)
    line.reloaded(None)
    assert text(line, view("r")) == "1 route fine; no mail in flight"


def test_news_is_what_begins_or_ends_and_not_its_repetition() -> None:
    line = StatusLine()
    for _ in range(3):
        line.mailbox_down("gmx", "refused", "detail", 2.0)
        line.observe(outcome(sending(), failed()))
        line.committed(1, 0.0, None)
    assert line.news == 2
