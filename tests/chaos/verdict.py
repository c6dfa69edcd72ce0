"""The ledger against the servers' word: every check is a line that says what was counted, and the cases that are wrong.

Tolerances, in seconds, and why:
    _CLOCK   two processes read one clock; Dovecot's log process stamps a save when it reads of it, and an imap process
             may say "nothing new" some ms after that. Where much else runs, or hundreds of mails come at once because
             a server was thawed, one in _RARELY takes up to _BUSY
    _BACKLOG for so long after a freeze the log may tell of what was before it
    _TAKING  from the queue file's opening to our reading of the 250, where nothing was disturbed
    _SEEING  from the save to our seeing it, where we were watching and nothing was disturbed: Dovecot's IDLE takes 0.5
"""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from probe.core.events import Accepted, Place
from probe.core.state import Probe, arrival_bounds
from probe.ledger import Ledger

from ..bed.dovecot import MailEvent
from ..bed.mailbed import MailBed
from .faults import Faults
from .neighbour import Held, Neighbour
from .truth import OURS, Fate, fates, known_queue_ids

_CLOCK = 0.1
_BUSY = 1.0
_BACKLOG = 3.0
_RARELY = 20
_TAKING = 1.0
_SEEING = 1.0
_THAW = 0.5  # after a fault its effects last a little

_FEW = 20
DELIVERED = {"delivered", "found"}
OPEN = {"sending", "early", "accepted"}  # something must still become of these
NEVER_LEFT = {"failed", "rejected", "deferred"}
FEW = 0.03  # of the probes, killed or cut between "may leave" and the reply; measured: 0.0024


@dataclass
class Verdict:
    """Lines for the report; `wrong` has one line for each case that must not be."""

    lines: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def check(self, text: str, wrong: Iterable[str] = ()) -> None:
        """One thing that was looked at, and its cases."""
        cases = list(wrong)
        self.lines.append(f"{'BAD' if cases else 'ok '} {text}")
        self.lines += [f"      {case}" for case in cases[:5]]
        self.wrong += [f"{text}: {case}" for case in cases]

    def note(self, text: str) -> None:
        """A number without a judgement."""
        self.lines.append(f"    {text}")


@dataclass
class Record:
    """What the ledgers hold, read while no daemon runs."""

    states: dict[str, str]  # probe → state, as the column says
    events: list[tuple[str, str, dict[str, object]]]  # probe, kind, record
    probes: dict[str, Probe]  # as the events tell
    damages: list[str]  # found by SQLite

    def kinds(self) -> dict[str, Counter[str]]:
        """Probe → how many events of which kind."""
        found: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for probe, kind, _ in self.events:
            found[probe][kind] += 1
        return found


def states(ledger: Path) -> Counter[str]:
    """Probes by state; only while no daemon runs."""
    with closing(sqlite3.connect(ledger)) as db:
        return Counter(dict(db.execute("SELECT state, count(*) FROM probes GROUP BY state")))


def read(paths: Iterable[Path]) -> Record:
    """These ledgers, as if they were one: probes of different installations never have the same id."""

    async def load(path: Path, ids: Iterable[str]) -> dict[str, Probe]:
        ledger = Ledger(path)
        try:
            return {id_: probe for id_ in ids if (probe := await ledger.find(id_))}
        finally:
            ledger.close()

    record = Record({}, [], {}, [])
    for path in paths:
        with closing(sqlite3.connect(path)) as db:
            record.damages += [row[0] for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
            states = dict(db.execute("SELECT id, state FROM probes"))
            rows = db.execute("SELECT probe, kind, record FROM events ORDER BY seq")
            record.events += [(probe, kind, json.loads(event)) for probe, kind, event in rows]
        record.states |= states
        record.probes |= asyncio.run(load(path, states))
    return record


def judge(bed: MailBed, record: Record, log: str, faults: Faults, verdict: Verdict) -> None:
    """What became of every probe."""
    truth = fates(bed)
    _ledger(record, log, verdict)
    _fates(bed, record, truth, log, verdict)
    _arrivals(record, truth, verdict)
    _latencies(record, truth, faults, verdict)


def _ledger(record: Record, log: str, verdict: Verdict) -> None:
    kinds = record.kinds()
    by_state = Counter(record.states.values())
    verdict.check(
        f"ledgers: {len(record.states)} probes = {', '.join(f'{n} {s}' for s, n in by_state.most_common())}; "
        f"{len(record.events)} events",
        [f"integrity_check: {damage}" for damage in record.damages]
        + [f"{id_}: {kinds[id_]['Sending']} Sending" for id_ in record.states if kinds[id_]["Sending"] != 1]
        + [f"{id_}: events, but no row" for id_ in kinds.keys() - record.states.keys()]
        + [
            f"{id_}: the row says {state}, the events {record.probes[id_].state if id_ in record.probes else 'nothing'}"
            for id_, state in record.states.items()
            if id_ not in record.probes or record.probes[id_].state != state
        ]
        + [f"{id_}: still {state}" for id_, state in record.states.items() if state in OPEN],
    )
    bad = [line for line in log.splitlines() if "bug:" in line or "Traceback" in line or "cannot be read" in line]
    verdict.check(f"log: {len(log.splitlines())} lines, {len(bad)} of bugs", bad)


def _fates(bed: MailBed, record: Record, truth: dict[str, Fate], log: str, verdict: Verdict) -> None:
    delivered = {id_ for id_, fate in truth.items() if fate.delivered}
    sent = sum(fate.statuses["sent"] > 0 for fate in truth.values())
    saved = sum(bool(fate.saves) for fate in truth.values())
    accepted = sum(fate.accepted for fate in truth.values())
    verdict.check(
        f"Postfix: {accepted} mails of ours accepted, {sent} sent; Dovecot: {saved} saved; "
        f"each is one delivered probe in the ledger",
        ["too few to say anything"] * (len(delivered) < _FEW)
        + [f"{id_}: {record.states.get(id_, 'not in the ledger')}; {truth[id_]}"
         for id_ in sorted(delivered) if record.states.get(id_) not in DELIVERED]
        + [f"{id_}: accepted, and neither delivered nor in the queue: {fate}"
           for id_, fate in truth.items() if fate.accepted and not fate.delivered],
    )  # fmt: skip
    verdict.check(
        f"{sum(state in DELIVERED for state in record.states.values())} delivered according to the ledger, "
        "each known to Dovecot or Postfix",
        [f"{id_}: {truth.get(id_)}" for id_, state in record.states.items()
         if state in DELIVERED and id_ not in delivered],
    )  # fmt: skip
    measured = Counter(
        found[1] for line in log.splitlines() if " latency=" in line and (found := re.search(r"probe=(\w+)", line))
    )
    verdict.check(
        f"{len(measured)} measured according to the daemons' logs, {measured.total() - len(measured)} of them twice",
        [f"{id_}: {n} times" for id_, n in measured.items() if n > 1],
    )
    verdict.check(
        "no mail was submitted twice",
        [f"{id_}: {fate.queue_ids}" for id_, fate in truth.items() if len(fate.queue_ids) > 1],
    )
    known = known_queue_ids(bed)
    said = {id_: probe.submitted for id_, probe in record.probes.items() if isinstance(probe.submitted, Accepted)}
    verdict.check(
        f"{len(said)} accepted according to the ledger; Postfix knows the queue id of each",
        [f"{id_}: {event}" for id_, event in said.items() if event.queue_id not in known],
    )
    never = [id_ for id_, state in record.states.items() if state in NEVER_LEFT]
    verdict.check(
        f"{len(never)} refused or failed according to the ledger; Postfix accepted none of them",
        [f"{id_}: {record.states[id_]}, {truth[id_]}" for id_ in never
         if id_ in truth and (truth[id_].accepted or truth[id_].delivered)],
    )  # fmt: skip
    doubtful = [id_ for id_, state in record.states.items() if state == "unconfirmed"]
    reasons = Counter(getattr(record.probes[id_].submitted, "reason", "?") for id_ in doubtful)
    verdict.check(
        f"{len(doubtful)} unconfirmed at the end ({', '.join(f'{n} {r}' for r, n in reasons.items())}); "
        "Postfix accepted none of them",
        [f"{id_}: {truth[id_]}" for id_ in doubtful if id_ in truth and truth[id_].accepted],
    )
    most = FEW * len(record.probes) + 3
    verdict.check(
        f"{len(doubtful)} of them are few: a probe is on record only when its server waits for its content",
        [f"more than {most:.0f}"] if len(doubtful) > most else [],
    )
    others = set(record.states.values()) - DELIVERED - OPEN - NEVER_LEFT - {"unconfirmed"}
    for state in sorted(others):
        those = [id_ for id_, each in record.states.items() if each == state]
        verdict.check(
            f"{len(those)} {state} according to the ledger; none of them was delivered",
            [f"{id_}: {truth[id_]}" for id_ in those if id_ in delivered],
        )


def _arrivals(record: Record, truth: dict[str, Fate], verdict: Verdict) -> None:
    wrong, unlogged, copies = [], 0, 0
    for id_, probe in record.probes.items():
        saves = truth[id_].saves if id_ in truth else []
        if len(set(probe.places)) != len(probe.places):
            wrong.append(f"{id_}: one copy on record twice: {probe.places}")
        if len(probe.places) > max(1, len(saves)):
            wrong.append(f"{id_}: {len(probe.places)} copies on record, {len(saves)} saved")
        copies += max(0, len(probe.places) - 1)
        unlogged += sum(_save(place, saves) is None for place in probe.places)
    again = sum(max(0, len(fate.saves) - 1) for fate in truth.values())
    verdict.check(f"{again} copies more, saved because Postfix had not heard of the first; {copies} on record", wrong)
    verdict.note(f"{unlogged} arrivals whose save Dovecot could not log any more")


def _save(place: Place, saves: Sequence[MailEvent]) -> MailEvent | None:
    """The save that put the mail there. An account of the daemon is named as its user."""
    return next((s for s in saves if (s.user, s.box, s.uid) == (place.account, place.folder, place.uid)), None)


@dataclass(frozen=True, slots=True)
class _Measured:
    """One probe's measurement beside the truth; Unix times and seconds."""

    probe: Probe
    queued: float
    saved: float
    start: float  # from which the provider answers for it, as we say
    low: float | None
    high: float
    calm: bool  # no fault from before the submission until we saw it, and the same life of the daemon

    @property
    def error(self) -> float:
        """Measured − true latency."""
        assert self.probe.latency is not None
        return self.probe.latency - (self.saved - self.queued)

    @property
    def caught_up(self) -> bool:
        """Whether it was found after a restart or reconnect, to a second."""
        return self.probe.arrived is not None and self.probe.arrived.detection == "catch-up"


def _latencies(record: Record, truth: dict[str, Fate], faults: Faults, verdict: Verdict) -> None:
    measured = list(_measured(record, truth, faults))
    watched = [m for m in measured if not m.caught_up]
    calm = [m for m in watched if m.calm]
    off = {m.probe.id: distance for m in measured if (distance := _outside(m, faults)) > _CLOCK}
    verdict.check(
        f"{len(measured)} latencies beside the truth; the save lies in the interval on record, to {_CLOCK:g} s, or for "
        f"{len(off)}: {max(off.values(), default=0.0):.2f} s",
        [
            f"{id_}: {distance:.3f} s outside of {arrival_bounds(arrived)}: {arrived}"
            for id_, distance in off.items()
            if (distance > _BUSY or len(off) > 2 + len(measured) // _RARELY) and (arrived := record.probes[id_].arrived)
        ],
    )
    confirmed = [m for m in measured if isinstance(m.probe.submitted, Accepted)]
    verdict.check(
        f"{len(confirmed)} acceptances not before Postfix's; {len(measured) - len(confirmed)} doubtful before the save",
        [f"{m.probe.id}: accepted {m.queued - m.start:.3f} s before" for m in confirmed if m.start < m.queued - 0.005]
        + [f"{m.probe.id}: {m.start - m.saved:.3f} s after the save: {m.probe.submitted}" for m in measured
           if not isinstance(m.probe.submitted, Accepted) and m.start > m.saved],
    )  # fmt: skip
    verdict.check(
        f"{len(calm)} of them watched and undisturbed: accepted within {_TAKING:g} s, seen within {_SEEING:g} s",
        [f"{m.probe.id}: accepted {m.start - m.queued:.3f} s after Postfix had it, seen {m.high - m.saved:.3f} s after "
         f"the save, {m.probe.arrived}"
         for m in calm if m.start - m.queued > _TAKING or m.high - m.saved > _SEEING],
    )  # fmt: skip
    for name, group in (
        ("undisturbed", calm),
        ("watched", watched),
        ("caught up", [m for m in measured if m.caught_up]),
    ):
        widths = [width for m in group if (width := m.probe.uncertainty) is not None]
        verdict.note(
            f"{name + ':':12} {len(group):4}; error, s: {_spread([m.error for m in group])}; "
            f"size of it: {_spread([abs(m.error) for m in group])}; uncertainty: {_spread(widths)}"
        )


def _measured(record: Record, truth: dict[str, Fate], faults: Faults) -> Iterator[_Measured]:
    for id_, probe in record.probes.items():
        fate = truth.get(id_)
        if fate is None or fate.queued is None or probe.arrived is None or probe.answerable is None:
            continue
        if (save := _save(probe.arrived.place, fate.saves)) is None:
            continue
        low, high = arrival_bounds(probe.arrived)
        calm = isinstance(probe.submitted, Accepted) and not faults.met(probe.started.wall - _THAW, high.wall)
        yield _Measured(probe, fate.queued, save.at, probe.answerable.wall, low.wall if low else None, high.wall, calm)


def _outside(m: _Measured, faults: Faults) -> float:
    """How many seconds the save lies outside of the interval; 0: inside.

    The log's stamp is late where Dovecot was frozen between the save and the line; INTERNALDATE, which bounds what was
    found later, is early where it was frozen between the mail's beginning and the save.
    """
    earliest = min([m.saved, *(w.begin for w in faults.met(m.saved - _BACKLOG, m.saved, "dovecot", "lmtp"))])
    return max(0.0, (m.low - m.saved) if m.low else 0.0, earliest - m.high)


def _spread(values: Sequence[float]) -> str:
    return f"median {median(values):.3f}, max {max(values):.3f}" if values else "none"


def foreign(
    before: Sequence[Held], after: Sequence[Held], bed: MailBed, neighbour: Neighbour, verdict: Verdict
) -> None:
    """Other people's mails are as they were, or as other people made them; ours are gone."""
    lies = {(held.user, held.folder, held.uid): held for held in after}
    wrong = []
    for held in before:
        now = lies.get((held.user, held.folder, held.uid))
        if now is None or now.digest != held.digest:
            wrong.append(f"{held.message_id}: was UID {held.uid} of {held.user}, is {'changed' if now else 'gone'}")
    for held in after:
        if OURS.fullmatch(held.message_id):
            continue
        flags = neighbour.flags.get(held.message_id, set())
        if held.flags != flags:
            wrong.append(f"{held.message_id}: flags {sorted(held.flags)}, set were {sorted(flags)}")
        _, mail = neighbour.written[held.message_id]
        head, _, body = mail.replace(b"\r\n", b"\n").partition(b"\n\n")
        if not held.raw.endswith(b"\n\n" + body) or any(line not in held.raw for line in head.split(b"\n")):
            wrong.append(f"{held.message_id}: is not as it was written")
    kept = {held.message_id for held in after}
    wrong += [f"{id_}: Postfix took it, it lies nowhere" for id_ in neighbour.taken if id_ not in kept]
    saved = [event for event in bed.dovecot.events("save") if not OURS.fullmatch(event.message_id)]
    wrong += [f"{s.message_id}: was saved as UID {s.uid} of {s.user}, is gone" for s in saved
              if (s.user, s.box, s.uid) not in lies]  # fmt: skip
    wrong += [
        f"{event}"
        for event in bed.dovecot.events("delete", "expunge", "copy")
        if not OURS.fullmatch(event.message_id) and (event.kind != "delete" or not _by_neighbour(event, neighbour))
    ]
    marked = sum("\\Deleted" in held.flags for held in after)
    verdict.check(
        f"{len(after)} foreign mails ({len(before)} of them from before, {marked} marked \\Deleted) untouched: "
        f"UIDs, flags, content",
        wrong,
    )
    left = [held for held in after if OURS.fullmatch(held.message_id)]
    verdict.check(
        f"{len(left)} mails of ours left in the mailboxes",
        [f"{held.user} {held.folder} UID {held.uid}: {held.message_id}" for held in left],
    )


def _by_neighbour(event: MailEvent, neighbour: Neighbour) -> bool:
    """Dovecot logs the setting of \\Deleted as "delete"."""
    return "\\Deleted" in neighbour.flags.get(event.message_id, set())
