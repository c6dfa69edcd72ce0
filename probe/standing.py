"""How all routes are, for `mailprobe status`: asked of the running daemon, else read from the ledger alone.

Rules:
- Both give what the API gives for /api/v1/routes; the ledger alone knows no route to be well, for nobody is looking.
- The ledger is only read: a daemon that is just not answering is not disturbed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import Any, NamedTuple

from probe import clock
from probe.api import resources
from probe.core.drain import Drain
from probe.core.events import Instant
from probe.core.history import DAY, incident_of
from probe.core.settings import Settings
from probe.core.trouble import RouteState, View
from probe.ledger import Reader

_PATIENCE = 10.0  # seconds that the daemon may take
_MOST = 64 << 20  # octets of its answer
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to ask one that listens there
# By the worst route: 2 where mail is stuck or refused, 3 where nobody can tell, 1 where it is slow.
_CODES = {
    RouteState.STUCK: 2,
    RouteState.FAILING: 2,
    RouteState.BLIND: 3,
    RouteState.UNKNOWN: 3,
    RouteState.SLOW: 1,
    RouteState.RECOVERING: 1,
    RouteState.OK: 0,
}
WORST_FIRST = tuple(sorted(_CODES, key=lambda state: (2, 3, 1, 0).index(_CODES[state])))


class _Route(NamedTuple):
    name: str
    sender: str
    recipient: str
    view: View


def standing(settings: Settings) -> dict[str, Any]:
    """What the API says of the routes and the prober, and under "source" who said so: "daemon", or "ledger" with
    "record_age_seconds". Raises LedgerError where neither says anything."""
    try:
        return {"source": "daemon", **_asked(settings)}
    except (OSError, HTTPException, ValueError) as error:
        return {"source": "ledger", "why": str(error) or type(error).__name__, **asyncio.run(_read(settings))}


def exit_code(told: Mapping[str, Any]) -> int:
    """As monitoring plugins have it."""
    codes = {_CODES[RouteState(route["state"])] for route in told["routes"]} or {3}
    if (prober := told["prober"]) and not (prober["record_ok"] and prober["configuration_ok"]):
        codes.add(1)
    return next(code for code in (2, 3, 1, 0) if code in codes)


def _asked(settings: Settings) -> dict[str, Any]:
    host = _ANYWHERE.get(settings.listen_host, settings.listen_host)
    with closing(HTTPConnection(host, settings.listen_port, timeout=_PATIENCE)) as connection:
        connection.request("GET", "/api/v1/routes", headers={"Accept": "application/json"})
        response = connection.getresponse()
        body = response.read(_MOST)
    told = json.loads(body) if response.status == 200 else None
    if not isinstance(told, dict) or told.keys() != {"prober", "routes"}:
        raise ValueError(f"{host}:{settings.listen_port} is another program, or another mailprobe")
    return told


async def _read(settings: Settings) -> dict[str, Any]:
    now = clock.now()
    with closing(await asyncio.to_thread(Reader, settings.state_dir / "ledger.sqlite")) as reader:
        last, counts = await reader.last_record() or None, resources.by_route(await reader.counts())
        standings, shares = await reader.standings(), await reader.shares(now.wall - DAY, now.wall)
        rows = await reader.incidents_before(float("-inf"), float("inf"), lasting=True, limit=1000)
        routes = []
        for name, route in settings.routes.items():
            sender, recipient = (settings.accounts[it].address for it in (route.sender, route.recipient))
            stand, came = standings.get(name), await reader.last_delivery(name)
            view = View(
                name, now, RouteState.UNKNOWN, "away" if stand else "unmeasured", _instant(last, now),
                stand.in_flight if stand else 0,
                max(0.0, now.wall - stand.oldest) if stand and stand.oldest is not None else None,
                _instant(came.seen if came else None, now), came.latency if came else None,
                tuple(incident_of(row) for row in rows if row.route == name), Drain(),
            )  # fmt: skip
            shown = _Route(name, sender, recipient, view)
            routes.append(
                resources.route(shown, counts.get(name, {}), shares.get(name, resources.NOTHING), public=False)
            )
    age = None if last is None else max(0.0, now.wall - last)
    return {"record_age_seconds": age, "prober": None, "routes": routes}


def _instant(wall: float | None, now: Instant) -> Instant | None:
    return None if wall is None else now.shifted(wall - now.wall)
