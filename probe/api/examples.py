"""Answers as the OpenAPI document shows them, made of records by what makes the real ones: a mail that was held."""

from __future__ import annotations

from typing import Any, NamedTuple

from probe.api import resources
from probe.core.drain import Drain
from probe.core.events import Instant
from probe.core.history import Latencies, Life, Share, Summary, Totals
from probe.core.state import State
from probe.core.trouble import Held, Incident, RouteState, Toll, View

_ID, _NAME = "4be1c0a95d2f7713", "ionos-to-own"
_AT = Instant(1_169_798_400.0, 1_998_400.0, "7c9f")


class _Route(NamedTuple):
    name: str
    sender: str
    recipient: str
    view: View


class _Mailbox(NamedTuple):
    account: str
    up: bool
    reason: str


class _Health(NamedTuple):
    version: str
    since: Instant
    mailboxes: tuple[_Mailbox, ...]
    ledger: str
    reload: str
    demo: resources.Demo | None = None


_NOW = _AT.shifted(11_520.0)
_INCIDENT = Incident(
    _NAME, "late", _AT, _AT.shifted(300.0), RouteState.STUCK, 11_520.0, Toll(held=14), Held("sender", 9_000.0, 11_400.0)
)
_ROUTE = _Route(
    _NAME, "probe@example.de", "probe@example.org",
    View(_NAME, _NOW, RouteState.STUCK, "overdue", _AT.shifted(300.0), 14, 11_519.6, _AT.shifted(-60.0), 1.2,
         (_INCIDENT,), Drain()),
)  # fmt: skip
_COUNTS = {State.DELIVERED: 51_840, State.ACCEPTED: 14, State.LOST: 1}
_SHARE = Share(1_440, 0, 2, 0, 1_424, 14)
_TOTALS = Totals(
    {State.DELIVERED: 1_424, State.ACCEPTED: 14, State.DEFERRED: 2}, 14, 0, {"inbox": 1_424},
    {"sender": (1_300, 1_560.0)}, Latencies(1_424, 1.2, 2.9, 8.1, 21.4),
)  # fmt: skip
_SUMMARY = Summary(
    _NAME, _AT.wall, _ID, State.DELIVERED, _AT.wall + 0.4, _AT.wall + 11_700.4, 11_700.0, missed=300.0,
    placement="inbox", holder="sender", held=11_698.5,
)  # fmt: skip
_EVENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("Sending", {"at": _AT, "due": _AT, "route": _NAME, "sender": _ROUTE.sender, "recipient": _ROUTE.recipient}),
    ("Accepted", {"at": _AT.shifted(0.4), "reply": (250, "2.0.0", "queued as X1"), "queue_id": "X1",
                  "stages": (("connect", 0.1), ("data", 0.2))}),
    ("Judged", {"at": _AT.shifted(30.5), "deadline": 30.0, "met": False}),
    ("Judged", {"at": _AT.shifted(300.5), "deadline": 300.0, "met": False}),
    ("Arrived", {"at": _AT.shifted(11_700.4), "place": ("own", "INBOX", 7, 1), "placement": "inbox",
                 "detection": "idle", "not_before": _AT.shifted(11_699.9), "stored": _AT.wall + 11_700.0,
                 "genuine": True}),
    ("Traced", {"at": _AT.shifted(11_700.5), "segments": (("sender", 11_698.0, 11_699.0, 1.0),),
                "stays": (("mail.example.de", 11_698.0, 11_699.0, 1.0),), "authentication": (("spf", "pass"),),
                "spam": ()}),
)  # fmt: skip
_HEADER = b"Received: from mail.example.de by mx.example.org; Fri, 26 Jan 2007 11:15:00 +0000\r\n"
_HEALTH = _Health("1.0", _AT.shifted(-86_400.0), (_Mailbox("own", True, ""),), "", "")

_ROUTE_DATA = resources.route(_ROUTE, _COUNTS, _SHARE, public=False)
EXAMPLES: dict[str, Any] = {
    "Routes": {"prober": resources.prober(_HEALTH, _NOW, public=False), "routes": [_ROUTE_DATA]},
    "RouteInFull": {**_ROUTE_DATA, "last_24_hours_in_full": resources.totals(_TOTALS)},
    "Probes": {"probes": [resources.probe(_SUMMARY, public=False)], "next": f"{_AT.wall!r}~{_ID}"},
    "Life": resources.life(Life(_SUMMARY, _EVENTS, (_HEADER,), ()), public=False),
    "Incidents": {"incidents": [resources.incident(_INCIDENT, _NOW)], "next": None},
}
