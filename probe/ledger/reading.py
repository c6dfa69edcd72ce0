"""Questions about the past, as statements for SQLite.

Rules:
- What can be counted, sorted and ranked in SQL is: there it does not hold the interpreter's lock, so the loop goes on.
- Every question is answered by statements that end: what a reader holds on to keeps the log (WAL) from being emptied.
- Where a stretch of time is whole hours or days, cells answer; else the summaries themselves.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from math import inf, nextafter
from typing import Any, cast

from probe.core.chain import Link
from probe.core.events import Placement, Segment
from probe.core.history import (
    DAY,
    HOUR,
    Cell,
    Day,
    IncidentRow,
    Latencies,
    Life,
    Point,
    Share,
    Standing,
    Summary,
    Totals,
)
from probe.core.state import IN_FLIGHT, State
from probe.ledger.schema import COUNTED, COUNTS, COUNTS_AS, IS_OPEN, OF_NOTE

_ROUTE = "route = (SELECT id FROM routes WHERE name = :route)"
_SPAN = "started >= :since AND started < :until"
_SUMMARY = ", ".join(f"summaries.{name}" for name in Summary._fields[1:])
_IN_FLIGHT = ", ".join(f"'{state.value}'" for state in sorted(IN_FLIGHT))
_BY_NOTE = "INDEXED BY summaries_of_note"  # without statistics the planner prefers the whole route
_LOOKED = 20_000  # probes that one page looks at; 0.1 s, and 0.4 s where they are not in memory
_GONE = "'lost', 'found', 'bounced'"
_EVIDENCE_AT_ONCE = 20  # probes; whoever is given them has the loop to themselves for some ms


def routes(db: sqlite3.Connection) -> list[str]:
    """All that were ever probed, by name."""
    return [name for (name,) in db.execute("SELECT name FROM routes ORDER BY name")]


def caught_up(db: sqlite3.Connection) -> float | None:
    """The Unix time up to which the probes that an older version recorded are summarised, and their incidents found;
    None: all are."""
    marks = db.execute("SELECT value FROM about WHERE name IN ('caught_up', 'replayed')")
    return min((float(json.loads(value)[0]) for (value,) in marks), default=None)


def last_route(db: sqlite3.Connection) -> int:
    """The highest number that a route has; 0: there is none."""
    return cast(int, db.execute("SELECT ifnull(max(id), 0) FROM routes").fetchone()[0])


def strip(
    db: sqlite3.Connection,
    since: float,
    until: float,
    cells: int,
    route: str | None,
    numbers: tuple[int, int] = (0, 1 << 62),
) -> list[Cell]:
    """Equal stretches of time, by route and time; those in which nothing was started are left out. `numbers`: only of
    routes that have one after the first and up to the second."""
    width = (until - since) / cells
    size = next((size for size in (DAY, HOUR) if since % size == 0 and width % size == 0), None)
    counted, group = ", ".join([*(f"sum({name})" for name in COUNTS_AS), "max(worst)"]), "GROUP BY name, cell"
    if size is None:
        counted = COUNTED
    elif size == width:  # nothing to add up
        counted, group = ", ".join([*COUNTS_AS, "worst"]), ""
    table, at = ("cells", "begin") if size else ("summaries", "started")
    # The planner does not know that there are few routes, and many cells of each.
    query = f"""SELECT name, :since + :width * CAST(({at} - :since) / :width AS INTEGER) AS cell, {counted}
        FROM routes CROSS JOIN {table} ON route = routes.id AND {at} >= :since AND {at} < :until
        {"AND size = :size" if size else ""}
        WHERE routes.id > :after AND routes.id <= :upto AND (:route IS NULL OR name = :route)
        {group} ORDER BY name, cell"""
    asked = {"since": since, "until": until, "width": width, "size": size, "route": route}
    rows = db.execute(query, asked | {"after": numbers[0], "upto": numbers[1]})
    return list(map(Cell._make, rows))


def latencies(db: sqlite3.Connection, route: str, since: float, until: float, points: int) -> list[Point]:
    """Equal stretches of time; those without a latency that counts are left out."""
    width = (until - since) / points
    query = f"""WITH
        measured AS (SELECT CAST((started - :since) / :width AS INTEGER) AS point, latency
          FROM summaries WHERE {_ROUTE} AND {_SPAN} AND {COUNTS}),
        ranked AS (SELECT *, row_number() OVER (PARTITION BY point ORDER BY latency) AS rank,
          count(*) OVER (PARTITION BY point) AS n FROM measured)
        SELECT point, n, min(latency), max(CASE WHEN rank = (n + 1) / 2 THEN latency END), max(latency)
        FROM ranked GROUP BY point ORDER BY point"""
    rows = db.execute(query, {"since": since, "until": until, "width": width, "route": route})
    return [Point(since + width * point, *numbers) for point, *numbers in rows]


def probes(
    db: sqlite3.Connection,
    route: str,
    before: tuple[float, str],
    limit: int,
    states: Collection[State],
    late: bool,
    of_note: bool,
) -> list[Summary]:
    """So many that were started before this one, (started, probe), the newest first."""
    which, index = [_ROUTE, "(started, probe) < (:started, :probe)"], ""
    if late or of_note:
        which, index = [*which, OF_NOTE], _BY_NOTE
    which += [f"state IN ({', '.join(repr(state.value) for state in states)})"] * bool(states)
    which += ["missed IS NOT NULL"] * late
    query = f"""SELECT :route, {_SUMMARY} FROM summaries {index} WHERE {" AND ".join(which)}
        ORDER BY started DESC, probe DESC LIMIT :limit"""
    rows = db.execute(query, {"route": route, "started": before[0], "probe": before[1], "limit": limit})
    return [_summary(row) for row in rows]


def browse(
    db: sqlite3.Connection,
    route: str | None,
    since: float,
    until: float,
    before: tuple[float, str],
    limit: int,
    states: Collection[State],
) -> tuple[list[Summary], tuple[float, str] | None]:
    """So many that were started before this one, (started, probe), the newest first; and before which one to go on.
    There may be fewer, or none, where only some states are wanted: _LOOKED are looked at."""
    probe, where = ("probe", f"summaries WHERE {_ROUTE}") if route else ("id", "probes WHERE 1")
    looked = f"""SELECT started, {probe} AS probe FROM {where} AND {_SPAN}
        AND (started, {probe}) < (:started, :probe) ORDER BY started DESC, {probe} DESC"""
    wanted = f"WHERE summaries.state IN ({', '.join(repr(state.value) for state in states)})" if states else ""
    query = f"""WITH looked AS ({looked} LIMIT :most)
        SELECT name, {_SUMMARY} FROM looked CROSS JOIN probes ON probes.id = looked.probe
        CROSS JOIN routes ON name = probes.route CROSS JOIN summaries
        ON summaries.route = routes.id AND summaries.started = looked.started AND summaries.probe = looked.probe
        {wanted} ORDER BY looked.started DESC, looked.probe DESC LIMIT :limit"""
    most = max(limit, _LOOKED) if states else limit
    asked = {"route": route, "since": since, "until": _upto(until, before[0])}
    asked |= {"started": before[0], "probe": before[1]}
    found = [_summary(row) for row in db.execute(query, asked | {"most": most, "limit": limit})]
    if len(found) == limit:
        return found, (found[-1].started, found[-1].probe)
    return found, db.execute(f"{looked} LIMIT 1 OFFSET :last", asked | {"last": most - 1}).fetchone()


def _upto(until: float, before: float) -> float:
    """Where a page may begin: of two bounds the planner takes one, and the other one costs a look at each row."""
    return min(until, nextafter(before, inf))


def shares(db: sqlite3.Connection, since: float, until: float) -> dict[str, Share]:
    """Of every route all that was started in this span."""
    query = f"""SELECT name, count(*), sum(undecided), sum(refused), sum(unseen), sum(met),
          sum(NOT (undecided OR refused OR unseen OR met))
        FROM (SELECT name, {IS_OPEN} AND missed IS NULL AS undecided, {COUNTS_AS["refused"]} AS refused,
          unknown IS NOT NULL AND missed IS NULL AND NOT {IS_OPEN} AND state NOT IN ({_GONE}) AS unseen,
          state = 'delivered' AND missed IS NULL AND unknown IS NULL AS met
          FROM routes CROSS JOIN summaries ON route = routes.id AND {_SPAN})
        GROUP BY name"""
    return {name: Share(*numbers) for name, *numbers in db.execute(query, {"since": since, "until": until})}


def last_delivery(db: sqlite3.Connection, route: str) -> Summary | None:
    """The newest of the route's last probes that came; of few, as where nothing comes for long there are many."""
    arrived = [State.DELIVERED, State.FOUND]
    found, _ = browse(db, route, 0.0, float("inf"), (float("inf"), ""), 1, arrived)
    return found[0] if found else None


def standings(db: sqlite3.Connection) -> dict[str, Standing]:
    """How each route stands."""
    query = f"""SELECT name, {_SUMMARY} FROM routes CROSS JOIN summaries
        ON route = routes.id AND started = (SELECT max(started) FROM summaries WHERE route = routes.id)"""
    newest = {row[0]: _summary(row) for row in db.execute(query)}
    flying = f"""SELECT name, count(*), min(accepted) FROM summaries JOIN routes ON routes.id = route
        WHERE pending = 1 AND state IN ({_IN_FLIGHT}) GROUP BY name"""
    found = {name: (number, oldest) for name, number, oldest in db.execute(flying)}
    return {name: Standing(it, *found.get(name, (0, None))) for name, it in newest.items()}


def totals(db: sqlite3.Connection, route: str, since: float, until: float) -> Totals:
    """All that was started in this span."""
    span = {"route": route, "since": since, "until": until}
    states: Counter[State] = Counter()
    places: Counter[Placement] = Counter()
    holders: dict[Segment, tuple[int, float]] = {}
    all_late = all_unknown = measured = 0
    query = f"""SELECT state, placement, holder, count(*), count(missed), count(unknown), total(held), sum({COUNTS})
        FROM summaries WHERE {_ROUTE} AND {_SPAN} GROUP BY 1, 2, 3"""
    for state, placement, holder, number, late, unknown, held, counting in db.execute(query, span):
        states[State(state)] += number
        all_late, all_unknown, measured = all_late + late, all_unknown + unknown, measured + counting
        if placement:
            places[placement] += number
        if holder:
            before = holders.get(holder, (0, 0.0))
            holders[holder] = before[0] + number, before[1] + held
    found = _ranked(db, span, measured) if measured else None
    return Totals(dict(states), all_late, all_unknown, dict(places), holders, found)


def _ranked(db: sqlite3.Connection, span: dict[str, object], number: int) -> Latencies:
    ranks = [-(-number * percent // 100) for percent in (50, 95, 99, 100)]
    query = f"""SELECT rank, latency FROM (SELECT latency, row_number() OVER (ORDER BY latency) AS rank
        FROM summaries WHERE {_ROUTE} AND {_SPAN} AND {COUNTS}) WHERE rank IN ({", ".join(map(str, ranks))})"""
    found = dict(db.execute(query, span))
    return Latencies(number, *(found[rank] for rank in ranks))


# -- one probe, and what is to be proved ----------------------------------------------------------------------------


def life(db: sqlite3.Connection, probe: str) -> Life | None:
    """All that is on record of a probe; None: nothing is."""
    query = f"""SELECT name, {_SUMMARY} FROM probes JOIN routes ON name = probes.route
        JOIN summaries ON summaries.route = routes.id AND summaries.started = probes.started AND probe = probes.id
        WHERE probes.id = ?"""
    rows = db.execute(query, (probe,)).fetchall()
    return next(iter(_lives(db, [_summary(row) for row in rows])), None)


def evidence(db: sqlite3.Connection, route: str, after: tuple[float, str], until: float) -> list[Life]:
    """Some of the probes that were late, lost, bounced, refused or not confirmed, and started after this one, (started,
    probe); the oldest first."""
    query = f"""SELECT :route, {_SUMMARY} FROM summaries {_BY_NOTE} WHERE {_ROUTE} AND {OF_NOTE}
        AND (started, probe) > (:at, :probe) AND started < :until ORDER BY started, probe LIMIT {_EVIDENCE_AT_ONCE}"""
    rows = db.execute(query, {"route": route, "at": after[0], "probe": after[1], "until": until})
    return _lives(db, [_summary(row) for row in rows])


def _lives(db: sqlite3.Connection, found: Sequence[Summary]) -> list[Life]:
    events: defaultdict[str, list[tuple[str, Any]]] = defaultdict(list)
    headers: defaultdict[str, list[bytes]] = defaultdict(list)
    links: defaultdict[str, list[Link]] = defaultdict(list)
    theirs, names = (
        "WHERE probe IN (SELECT value FROM json_each(?)) ORDER BY",
        (json.dumps([it.probe for it in found]),),
    )
    for probe, kind, record in db.execute(f"SELECT probe, kind, record FROM events {theirs} seq", names):
        events[probe].append((kind, json.loads(record)))
    for probe, raw in db.execute(f"SELECT probe, raw FROM headers {theirs} seq", names):
        headers[probe].append(zlib.decompress(raw))
    for row in db.execute(f"SELECT number, probe, at, digest, link FROM chain {theirs} number", names):
        links[row[1]].append(Link(*row))
    return [Life(it, tuple(events[it.probe]), tuple(headers[it.probe]), tuple(links[it.probe])) for it in found]


def _summary(row: Sequence[Any]) -> Summary:
    route, started, probe, state, *rest = row
    found = Summary(route, started, probe, State(state), *rest)
    return found._replace(doubtful=bool(found.doubtful))


# -- the chain ------------------------------------------------------------------------------------------------------


def ledger(db: sqlite3.Connection) -> str:
    """What tells this ledger from all others: from it and a route's name comes link 0 of the route's chain."""
    return cast(str, db.execute("SELECT value FROM about WHERE name = 'ledger'").fetchone()[0])


def days(db: sqlite3.Connection, route: str, since: float, until: float) -> list[Day]:
    """The heads of a route's chain of all days that began in this span and on which something was chained."""
    query = f"SELECT day, number, link FROM heads WHERE {_ROUTE} AND day >= :since AND day < :until ORDER BY day"
    return [Day(*row) for row in db.execute(query, {"route": route, "since": since, "until": until})]


def digests(db: sqlite3.Connection, route: str, after: int, upto: int) -> list[bytes]:
    """The digests in these links: all that is needed to compute them again."""
    query = f"SELECT digest FROM chain WHERE {_ROUTE} AND number > :after AND number <= :upto ORDER BY number"
    return [digest for (digest,) in db.execute(query, {"route": route, "after": after, "upto": upto})]


# -- incidents ------------------------------------------------------------------------------------------------------


def incidents(db: sqlite3.Connection, since: float, until: float, route: str | None) -> list[IncidentRow]:
    """Those of which a part lies in this span, by their begin."""
    query = """SELECT id, route, kind, begin, "end", record FROM incidents WHERE begin < :until
        AND ("end" IS NULL OR "end" >= :since) AND (:route IS NULL OR route = :route) ORDER BY begin, id"""
    rows = db.execute(query, {"since": since, "until": until, "route": route})
    return [IncidentRow._make((*row, json.loads(record))) for *row, record in rows]


def incidents_before(
    db: sqlite3.Connection,
    since: float,
    until: float,
    route: str | None,
    lasting: bool | None,
    before: tuple[float, str],
    limit: int,
) -> list[IncidentRow]:
    """Of those that lie in this span, and last or do not, so many that began before this one, (begin, id)."""
    query = """SELECT id, route, kind, begin, "end", record FROM incidents WHERE begin < :until
        AND ("end" IS NULL OR "end" >= :since) AND (:route IS NULL OR route = :route)
        AND (:lasting IS NULL OR ("end" IS NULL) = :lasting) AND (begin, id) < (:begin, :id)
        ORDER BY begin DESC, id DESC LIMIT :limit"""
    asked = {"since": since, "until": _upto(until, before[0]), "route": route, "lasting": lasting, "limit": limit}
    rows = db.execute(query, asked | {"begin": before[0], "id": before[1]})
    return [IncidentRow._make((*row, json.loads(record))) for *row, record in rows]
