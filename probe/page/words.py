"""What the page says, in English and German; a route's state has its sentences in core/phrases.py.

Rule: both tables have the same keys, and no other file of this package holds a word for people.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from probe.core.events import Instant, elapsed
from probe.core.phrases import PHRASES, Language
from probe.core.words import duration

WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "language": "English",
        "title": "Mail delivery",
        "skip": "to the content",
        "all": "All routes",
        "fine.none": "No route is configured",
        "fine.all": "All {number} routes are fine",
        "fine.all.one": "The route is fine",
        "fine.not": "{number} of {all} routes need a look",
        "fine.not.one": "1 of {all} routes needs a look",
        "fine.unknown": "Nothing is known yet",
        "in_flight": "{number} mails in flight",
        "in_flight.one": "1 mail in flight",
        "as_of": "As of {time}",
        "live": "live",
        "stale": "not live any more; reload the page",
        "demo": "A demo, no real mail: an embedded provider plays a story, by this machine's clock.",
        "replay": "A replay, no real mail: an embedded provider plays a story, by a clock of its own. It begins on "
        "{begin}; {runs}.",
        "replay.times": "at most {speed} of its seconds pass in one of ours",
        "replay.most": "its time passes as fast as this machine can",
        "filter": "Filter routes",
        "find": "Find",
        "every": "all",
        "nothing": "No route matches.",
        "own": "The prober itself",
        "own.well": "well: {number} mailboxes watched, all on record",
        "own.well.one": "well: 1 mailbox watched, all on record",
        "own.boxes": "mailboxes not watched: {number} of {all}",
        "own.ledger": "nothing can be put on record",
        "own.reload": "goes on with the old configuration",
        "own.since": "running since {time}",
        "own.version": "mailprobe {version}",
        "metrics": "For Prometheus: {link}",
        "strip": "The last {span}",
        "cells": "{good} of {measured} parts without trouble",
        "cells.none": "nothing measured",
        "good": "in time",
        "some": "a few mails late, refused or returned",
        "bad": "most of them, or mail lost",
        "dark": "nobody could see",
        "void": "nothing sent",
        "24h": "24 h",
        "7d": "7 days",
        "90d": "90 days",
        "now": "Now",
        "from_to": "From {sender} to {recipient}",
        "flying": "In flight",
        "flying.none": "No mail is in flight.",
        "flying.more": "and {number} more",
        "accepted": "Accepted",
        "queue_id": "Queue ID",
        "latency": "How long mail took",
        "chart": "Least, median and longest delay by the time at which mails were sent; open bars are mails in flight",
        "chart.table": "The same as a table",
        "chart.none": "No delay was measured in this time.",
        "median": "Median",
        "least": "Least",
        "most": "Longest",
        "p95": "95 % within",
        "p99": "99 % within",
        "mails": "Mails",
        "begin": "Begin",
        "sent": "Sent",
        "outcomes": "What became of them",
        "outcome": "Outcome",
        "share": "Share",
        "sending": "being submitted",
        "early": "seen before accepted",
        "accepted_state": "in flight",
        "unconfirmed": "in flight, not confirmed",
        "delivered": "delivered",
        "bounced": "returned",
        "lost": "lost",
        "found": "found after being lost",
        "rejected": "rejected for good",
        "deferred": "refused for now",
        "failed": "not submitted",
        "late": "late",
        "late.share": "late, whatever became of them",
        "unknown.share": "unknown whether in time",
        "junk.share": "in the junk folder",
        "holders": "Who held them longest",
        "holder": "Held by",
        "in_all": "In all",
        "each": "Each",
        "submission": "Submission",
        "sender": "the sender's provider",
        "between": "somebody between",
        "recipient": "the recipient's provider",
        "provider": "the provider",
        "unresolved": "one of them, which cannot be told",
        "mailbox": "the mailbox, before it was seen",
        "stages": "The last submission, by stage",
        "stage": "Stage",
        "resolve": "name look-up",
        "connect": "connection",
        "tls": "encryption",
        "ehlo": "greeting",
        "auth": "log-in",
        "envelope": "envelope",
        "data": "the mail itself",
        "took": "Took",
        "incidents": "Incidents",
        "incidents.none": "None in the last 90 days.",
        "route": "Route",
        "kind": "Kind",
        "end": "End",
        "lasts": "lasts",
        "worst": "Worst",
        "peak": "Longest",
        "recent": "The last mails of note",
        "recent.none": "None, but for mails in flight.",
        "state": "State",
        "took_delay": "Delay",
        "reason": "Reason",
        "none_yet": "The record cannot be read just now.",
        "not_found": "There is no such page.",
    },
    "de": {
        "language": "Deutsch",
        "title": "Mailzustellung",
        "skip": "zum Inhalt",
        "all": "Alle Strecken",
        "fine.none": "Keine Strecke ist eingerichtet",
        "fine.all": "Alle {number} Strecken sind in Ordnung",
        "fine.all.one": "Die Strecke ist in Ordnung",
        "fine.not": "{number} von {all} Strecken brauchen Aufmerksamkeit",
        "fine.not.one": "1 von {all} Strecken braucht Aufmerksamkeit",
        "fine.unknown": "Noch ist nichts bekannt",
        "in_flight": "{number} Mails unterwegs",
        "in_flight.one": "1 Mail unterwegs",
        "as_of": "Stand {time}",
        "live": "live",
        "stale": "nicht mehr aktuell; bitte neu laden",
        "demo": "Eine Vorführung, keine echte Mail: Ein eingebauter Anbieter spielt eine Geschichte, nach der Uhr "
        "dieses Rechners.",
        "replay": "Eine Nachstellung, keine echte Mail: Ein eingebauter Anbieter spielt eine Geschichte, nach einer "
        "eigenen Uhr. Sie beginnt am {begin}; {runs}.",
        "replay.times": "höchstens {speed} ihrer Sekunden vergehen in einer von unseren",
        "replay.most": "ihre Zeit vergeht, so schnell dieser Rechner kann",
        "filter": "Strecken auswählen",
        "find": "Suchen",
        "every": "alle",
        "nothing": "Keine Strecke passt dazu.",
        "own": "Die Messung selbst",
        "own.well": "in Ordnung: {number} Postfächer beobachtet, alles aufgezeichnet",
        "own.well.one": "in Ordnung: 1 Postfach beobachtet, alles aufgezeichnet",
        "own.boxes": "nicht beobachtete Postfächer: {number} von {all}",
        "own.ledger": "es kann nichts aufgezeichnet werden",
        "own.reload": "läuft mit der alten Konfiguration weiter",
        "own.since": "läuft seit {time}",
        "own.version": "mailprobe {version}",
        "metrics": "Für Prometheus: {link}",
        "strip": "Die letzten {span}",
        "cells": "{good} von {measured} Abschnitten ohne Störung",
        "cells.none": "nichts gemessen",
        "good": "rechtzeitig",
        "some": "einzelne Mails verspätet, abgewiesen oder zurückgekommen",
        "bad": "die meisten, oder Mail verloren",
        "dark": "niemand konnte es sehen",
        "void": "nichts gesendet",
        "24h": "24 Std.",
        "7d": "7 Tage",
        "90d": "90 Tage",
        "now": "Jetzt",
        "from_to": "Von {sender} an {recipient}",
        "flying": "Unterwegs",
        "flying.none": "Keine Mail ist unterwegs.",
        "flying.more": "und {number} weitere",
        "accepted": "Angenommen",
        "queue_id": "Queue-ID",
        "latency": "Laufzeit der Mails",
        "chart": "Kürzeste, mittlere und längste Laufzeit nach Sendezeit; offene Balken: Mails unterwegs",
        "chart.table": "Dasselbe als Tabelle",
        "chart.none": "In dieser Zeit wurde keine Laufzeit gemessen.",
        "median": "Median",
        "least": "Kürzeste",
        "most": "Längste",
        "p95": "95 % in höchstens",
        "p99": "99 % in höchstens",
        "mails": "Zahl",
        "begin": "Beginn",
        "sent": "Gesendet",
        "outcomes": "Was daraus wurde",
        "outcome": "Ergebnis",
        "share": "Anteil",
        "sending": "wird übergeben",
        "early": "vor der Annahme gesehen",
        "accepted_state": "unterwegs",
        "unconfirmed": "unterwegs, unbestätigt",
        "delivered": "zugestellt",
        "bounced": "zurückgekommen",
        "lost": "verloren",
        "found": "verloren, dann gefunden",
        "rejected": "endgültig abgewiesen",
        "deferred": "vorläufig abgewiesen",
        "failed": "nicht übergeben",
        "late": "verspätet",
        "late.share": "verspätet, gleich was daraus wurde",
        "unknown.share": "ungewiss, ob rechtzeitig",
        "junk.share": "im Spam-Ordner",
        "holders": "Bei wem sie am längsten lagen",
        "holder": "Lag bei",
        "in_all": "Zusammen",
        "each": "Je Mail",
        "submission": "Übergabe",
        "sender": "dem Anbieter des Absenders",
        "between": "jemandem dazwischen",
        "recipient": "dem Anbieter des Empfängers",
        "provider": "dem Anbieter",
        "unresolved": "einem davon, unklar bei welchem",
        "mailbox": "dem Postfach, ehe sie gesehen wurde",
        "stages": "Die letzte Übergabe, nach Schritten",
        "stage": "Schritt",
        "resolve": "Namensauflösung",
        "connect": "Verbindung",
        "tls": "Verschlüsselung",
        "ehlo": "Begrüßung",
        "auth": "Anmeldung",
        "envelope": "Umschlag",
        "data": "die Mail selbst",
        "took": "Dauer",
        "incidents": "Störungen",
        "incidents.none": "Keine in den letzten 90 Tagen.",
        "route": "Strecke",
        "kind": "Art",
        "end": "Ende",
        "lasts": "dauert an",
        "worst": "Schlimmster Zustand",
        "peak": "Längste Dauer",
        "recent": "Die letzten auffälligen Mails",
        "recent.none": "Keine, außer den Mails unterwegs.",
        "state": "Zustand",
        "took_delay": "Laufzeit",
        "reason": "Grund",
        "none_yet": "Die Aufzeichnung ist gerade nicht lesbar.",
        "not_found": "Diese Seite gibt es nicht.",
    },
}
_STATES = {"accepted": "accepted_state"}  # the word is taken by a column


@dataclass(frozen=True, slots=True)
class Speech:
    """A language and a time zone; how numbers, times and states are said in them."""

    language: Language = "en"
    zone: tzinfo = UTC

    def say(self, key: str, **values: object) -> str:
        """The words under this key, of one or of any `number`."""
        words = WORDS[self.language]
        one = words.get(f"{key}.one") if values.get("number") == 1 else None
        return (one or words[key]).format_map(values)

    def state(self, state: str) -> str:
        """A route's state."""
        return PHRASES[self.language][state]

    def outcome(self, state: str) -> str:
        """A probe's state."""
        return self.say(_STATES.get(state, state))

    def number(self, text: str) -> str:
        """A number as it is written here."""
        return text.replace(".", ",") if self.language == "de" else text

    def long(self, seconds: float | None) -> str:
        """A duration."""
        return self.number(duration(seconds))

    def at(self, what: Instant, now: Instant, seconds: bool = False) -> str:
        """A moment, counted back from now, for the wall clock may have been set."""
        return self.when(now.wall - elapsed(what, now), now.wall, seconds)

    def offsets(self, since: float, until: float) -> str:
        """How far this zone's clocks are ahead of UTC in a span: "1774742400:7200", since when by how many seconds;
        from one such pair to the next."""
        found: list[str] = []
        last = None
        for hour in range(int(since // 3600), int(until // 3600) + 1):
            offset = datetime.fromtimestamp(3600.0 * hour, self.zone).utcoffset()
            if offset != last:
                found.append(f"{3600 * hour}:{int(offset.total_seconds()) if offset else 0}")
            last = offset
        return " ".join(found)

    def when(self, wall: float, now: float, seconds: bool = False) -> str:
        """A Unix time: the time of day, with the date unless it is today's."""
        then = datetime.fromtimestamp(wall, self.zone)
        day = "" if then.date() == datetime.fromtimestamp(now, self.zone).date() else "%Y-%m-%d "
        return then.strftime(f"{day}%H:%M{':%S' if seconds else ''}")


def choose(wanted: str, accepts: str) -> Language:
    """The language that was asked for (?lang=), else the browser's first that we speak (RFC 9110 §12.5.4)."""
    if wanted in WORDS:
        return "de" if wanted == "de" else "en"
    ranges = re.findall(r"([A-Za-z]{1,8})[-\w]*\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?))?\s*(?:,|$)", accepts[:500])
    best: dict[str, float] = {}
    for name, quality in ranges:
        best.setdefault(name.lower(), float(quality or 1))
    return "de" if best.get("de", 0.0) > best.get("en", 0.0) else "en"
