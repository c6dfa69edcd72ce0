"""How a route is, as a sentence, and the names of what can be: in English and German, one table of templates each.

Rule: both tables have the same keys, and every number in them comes from a record of core/trouble.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Literal

from probe.core.events import Instant, elapsed
from probe.core.trouble import Incident, RouteState, View
from probe.core.words import duration

Language = Literal["en", "de"]

PHRASES: dict[Language, dict[str, str]] = {
    "en": {
        "ok": "ok",
        "slow": "slow",
        "stuck": "stuck",
        "recovering": "recovering",
        "failing": "failing",
        "blind": "blind",
        "unknown": "unknown",
        "none": "nothing in flight",
        "one": "1 mail in flight, for {oldest}",
        "many": "{in_flight} mails in flight, the oldest for {oldest}",
        "never": "no delivery yet",
        "last": "last delivery {last}",
        "took": "last delivery {last}, after {latency}",
        "draining": "mail comes again, {rate} a minute",
        "coming": "mail comes again",
        "fifo": "first in, first out",
        "lifo": "last in, first out",
        "mixed": "in no order",
        "wait": "sent now, a mail would wait {low} to {high} if it goes on like this",
        "settling": "mail comes in time again, if it lasts",
        "refused": "the sender's server has refused {bad} mails since {begin}",
        "bounced": "{bad} mails were accepted and returned since {begin}",
        "unwatched": "the mailbox is not being watched since {begin}; nobody can tell",
        "away": "nothing was measured since {since}: mailprobe was away",
        "silent": "nothing was measured lately",
        "unmeasured": "nothing was measured yet",
        "incident.late": "late mail",
        "incident.refused": "mail refused",
        "incident.bounced": "mail returned",
        "incident.blind": "not watched",
        "reconstructed": "{kind} (reconstructed)",
    },
    "de": {
        "ok": "in Ordnung",
        "slow": "langsam",
        "stuck": "hängt",
        "recovering": "erholt sich",
        "failing": "gestört",
        "blind": "blind",
        "unknown": "unbekannt",
        "none": "nichts unterwegs",
        "one": "1 Mail unterwegs, seit {oldest}",
        "many": "{in_flight} Mails unterwegs, die älteste seit {oldest}",
        "never": "noch keine Zustellung",
        "last": "letzte Zustellung {last}",
        "took": "letzte Zustellung {last}, nach {latency}",
        "draining": "es kommt wieder Mail, {rate} pro Minute",
        "coming": "es kommt wieder Mail",
        "fifo": "die ältesten zuerst",
        "lifo": "die jüngsten zuerst",
        "mixed": "in keiner Reihenfolge",
        "wait": "jetzt gesendet, würde eine Mail {low} bis {high} warten, wenn es so weitergeht",
        "settling": "Mail kommt wieder rechtzeitig, wenn es so bleibt",
        "refused": "der Server des Absenders hat {bad} Mails seit {begin} abgewiesen",
        "bounced": "{bad} angenommene Mails kamen seit {begin} zurück",
        "unwatched": "das Postfach wird seit {begin} nicht beobachtet; niemand weiß, ob Mail ankommt",
        "away": "seit {since} wurde nichts gemessen: mailprobe war nicht da",
        "silent": "in letzter Zeit wurde nichts gemessen",
        "unmeasured": "es wurde noch nichts gemessen",
        "incident.late": "Mail verspätet",
        "incident.refused": "Mail abgewiesen",
        "incident.bounced": "Mail kam zurück",
        "incident.blind": "nicht beobachtet",
        "reconstructed": "{kind} (rekonstruiert)",
    },
}


def sentence(view: View, language: Language, zone: tzinfo = UTC) -> str:
    """How a route is: "stuck: 14 mails in flight, the oldest for 3 h 12 min; last delivery 09:02"."""
    phrases, values = PHRASES[language], _Values(view, language, zone)
    return f"{phrases[view.state]}: " + "; ".join(phrases[key].format_map(values) for key in _clauses(view))


def trouble(incident: Incident, language: Language) -> str:
    """What it is: "late mail", and whether it was found later in the record."""
    kind = PHRASES[language][f"incident.{incident.kind}"]
    return kind if incident.origin in {"live", "left"} else PHRASES[language]["reconstructed"].format(kind=kind)


def end(incident: Incident, time: str) -> str:
    """This time of its end, as what it is."""
    return f"≥ {time}" if incident.origin in {"left", "cut"} else time


def _clauses(view: View) -> Iterator[str]:
    """The keys of what is worth saying in this state."""
    drain = view.drain
    match view.state:
        case RouteState.RECOVERING:
            yield "settling" if view.reason == "settling" else "draining" if drain.rate else "coming"
            if drain.order and view.reason != "settling":
                yield drain.order
            if drain.wait and view.reason != "settling":
                yield "wait"
        case RouteState.FAILING | RouteState.BLIND | RouteState.UNKNOWN:
            yield view.reason
    if view.state is not RouteState.OK:
        yield "none" if view.oldest is None else "one" if view.in_flight == 1 else "many"
    if view.last_arrival is None:
        yield "never"
    else:
        yield "took" if view.state in {RouteState.OK, RouteState.SLOW} and view.last_latency is not None else "last"


class _Values:
    """What stands in the templates' places, each made when it is asked for: a page has a thousand sentences."""

    def __init__(self, view: View, language: Language, zone: tzinfo) -> None:
        self._told = view, language, zone

    def __getitem__(self, key: str) -> object:
        return _VALUES[key](*self._told)


_VALUES: Mapping[str, Callable[[View, Language, tzinfo], object]] = {
    "in_flight": lambda view, *_: view.in_flight,
    "oldest": lambda view, language, _: _long(view.oldest, language),
    "last": lambda view, _, zone: _when(view.last_arrival, view.at, zone),
    "latency": lambda view, language, _: _long(view.last_latency, language),
    "rate": lambda view, language, _: _number(f"{view.drain.rate or 0.0:.1f}", language),
    "low": lambda view, language, _: _long(view.drain.wait[0] if view.drain.wait else None, language),
    "high": lambda view, language, _: _long(view.drain.wait[1] if view.drain.wait else None, language),
    "begin": lambda view, _, zone: _when(incident.begin if (incident := _told_of(view)) else None, view.at, zone),
    "bad": lambda view, *_: incident.toll.affected if (incident := _told_of(view)) else 0,
    "since": lambda view, _, zone: _when(view.since, view.at, zone),
}


def _told_of(view: View) -> Incident | None:
    """The incident that is why it is as it is."""
    kind = {"unwatched": "blind"}.get(view.reason, view.reason)
    return next((incident for incident in view.incidents if incident.kind == kind), None)


def _long(seconds: float | None, language: Language) -> str:
    return _number(duration(seconds), language)


def _number(text: str, language: Language) -> str:
    return text.replace(".", ",") if language == "de" else text


def _when(what: Instant | None, now: Instant, zone: tzinfo) -> str:
    """Time of day, with the date unless it is today's; counted back from now, for the wall clock may have been set."""
    then = datetime.fromtimestamp(now.wall - elapsed(what or now, now), zone)
    return then.strftime("%H:%M" if then.date() == datetime.fromtimestamp(now.wall, zone).date() else "%Y-%m-%d %H:%M")
