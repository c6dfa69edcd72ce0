"""One run: start, break things by plan, put everything right, let it settle, judge.

Two installations work at the same time, in the same two mailboxes: a start takes most of a second, so that one alone
would be killed while it starts more often than at work. To each, the other's mails are somebody else's.
"""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from probe import keyfile

from ..bed.mailbed import MailBed, fresh_user
from ..bed.netfault import FaultProxy
from ..bed.service import wait_until
from ..process import MAILPROBE, Daemon, account, route
from . import verdict as verdicts
from .faults import Faults
from .neighbour import Neighbour, contents, mailbox
from .plan import INSTALLATIONS, Life, Plan
from .truth import OURS
from .verdict import Verdict

_LMTP_STEPS = ("connect", "lhlo", "mail", "rcpt", "data_init", "data_xfer", "data_done", "rset", "quit")
_LETTERS = 24  # foreign mails that lie there before
_START = 15.0  # seconds; it takes 0.5 where nothing else runs
_HURRIED = 0.08  # seconds for a kill for which little time is left
_SETTLE = 40.0  # seconds at most until everything has arrived, once everything is well
_ROUNDS = 5  # undisturbed starts at most: a probe that is just due at the end of one is found by the next


@dataclass
class Lives:
    """The daemon's lives. deaths: those that ended by themselves, with what they said."""

    kills: int = 0
    came_up: int = 0
    lasted: list[float] = field(default_factory=list)  # seconds from exec to SIGKILL
    longest_down: float = 0.0  # of those that were not up yet
    deaths: list[str] = field(default_factory=list)


def run(directory: Path, plan: Plan, say: Callable[[str], None]) -> Verdict:
    """Below this directory, which Dovecot's user must be able to enter; everything is stopped at the end."""
    began = time.monotonic()
    for line in plan.lines():
        say(line)
    bed = MailBed(directory / "bed")
    # smtpd cannot start while Dovecot, who knows the passwords, is away; by default master then waits a minute. And by
    # default a delivery waits ten minutes for a Dovecot that was gone when the packets flowed again.
    limits = (f"lmtp_{step}_timeout = 5s" for step in _LMTP_STEPS)
    bed.postfix.extra = "\n".join(["service_throttle_time = 1s", *limits])
    try:
        with bed, FaultProxy(bed.ports["submissions"]) as smtp, FaultProxy(bed.ports["imaps"]) as imap:
            faults = Faults(bed, smtp, imap)
            return _chaos(faults, directory / "daemon", plan, say, began)
    finally:
        bed.close()


def _chaos(faults: Faults, directory: Path, plan: Plan, say: Callable[[str], None], began: float) -> Verdict:
    bed, rng = faults.bed, random.Random(plan.seed + 1)
    users = [fresh_user(), fresh_user()]
    a, b = users
    accounts = "".join(account(bed, u, smtp_port=faults.smtp.port, imap_port=faults.imap.port) for u in users)
    pairs = {"there": (a, b, "150ms"), "back": (b, a, "200ms"), "self": (a, a, "300ms")}
    often = "".join(route(name, *pair, 'deadlines = ["2s"]') for name, pair in pairs.items())
    seldom = "".join(route(name, *pair[:2], "1d", 'deadlines = ["2s"]') for name, pair in pairs.items())
    daemons = []
    for number in range(INSTALLATIONS):
        (directory / str(number)).mkdir(parents=True)
        daemons.append(Daemon(directory / str(number), accounts + often))
    key = keyfile.load(daemons[0].directory / "state")
    neighbour = Neighbour(bed, users, key, rng, list(pairs))
    while len(neighbour.taken) < _LETTERS:
        neighbour.write()
    wait_until(lambda: len(contents(bed, users)) == _LETTERS, 20, "the foreign mails")
    for message_id in rng.sample(neighbour.taken, _LETTERS // 2):
        neighbour.mark(message_id)
    before = contents(bed, users)
    verdict = Verdict()
    set_up = time.monotonic() - began
    try:
        lives = _break(faults, daemons, neighbour, plan)
        broken = time.monotonic() - began - set_up
        bed.postfix.flush()
        neighbour.finish()
        for daemon in daemons:
            daemon.write(accounts + seldom)
        rounds = _settle(bed, daemons, users, verdict)
    finally:
        for daemon in daemons:
            if daemon.process and daemon.process.poll() is None:
                daemon.kill()
    after = contents(bed, users)
    record = verdicts.read([_ledger(daemon) for daemon in daemons])
    for each in lives:
        early = sum(seconds < 0.5 for seconds in each.lasted)
        verdict.check(
            f"{each.kills} kills, {early} of them within 0.5 s of the start; {each.came_up + rounds} of "
            f"{each.kills + rounds} starts came up, the others had {each.longest_down:.2f} s at most",
            each.deaths + ["a start that takes so long"] * (each.longest_down > _START),
        )
    verdict.check(
        f"{sum(faults.done.values())} faults: {', '.join(f'{n} {what}' for what, n in sorted(faults.done.items()))}"
    )
    verdicts.judge(bed, record, "".join(daemon.log() for daemon in daemons), faults, verdict)
    verdicts.foreign(before, after, bed, neighbour, verdict)
    verdict.note(f"set-up {set_up:.1f} s, chaos {broken:.1f} s, all {time.monotonic() - began:.1f} s")
    for line in verdict.lines:
        say(line)
    return verdict


def _ledger(daemon: Daemon) -> Path:
    return daemon.directory / "state" / "ledger.sqlite"


def _break(faults: Faults, daemons: Sequence[Daemon], neighbour: Neighbour, plan: Plan) -> list[Lives]:
    """Everything that goes wrong; at the return nothing is wrong any more, and no daemon runs."""
    began = time.monotonic()
    share = len(daemons)
    with ThreadPoolExecutor(len(plan.tracks) + 1 + share) as pool:
        jobs = [pool.submit(faults.follow, track, began) for track in plan.tracks]
        jobs.append(pool.submit(neighbour.live, faults.stop))
        try:
            lives = [
                pool.submit(_kill, daemon, plan.lives[number::share], began + plan.seconds, faults.stop)
                for number, daemon in enumerate(daemons)
            ]
            ended = [each.result() for each in lives]
        finally:
            faults.stop.set()
    for job in jobs:
        job.result()
    return ended


def _kill(daemon: Daemon, planned: Sequence[Life], end: float, stop: threading.Event) -> Lives:
    """Start it and kill it, again and again, until `end` (monotonic); what is then left to be done is done in haste."""
    lives = Lives()
    for number, life in enumerate(planned, 1):
        before = len(daemon.log())
        started = time.monotonic()
        latest = max(_HURRIED, end - started - _HURRIED * (len(planned) - number))
        with daemon.log_file.open("ab") as log:
            process = daemon.process = subprocess.Popen([MAILPROBE, "run", "-c", daemon.config], stdout=log, stderr=log)
        # The length of its life, which is the point: nothing is waited for here but the instant of its death.
        if life.at_work:
            with suppress(TimeoutError):
                wait_until(lambda: _is_up(daemon, before) or process.poll() is not None, latest)  # noqa: B023 - at once
        stop.wait(min(life.seconds, started + latest - time.monotonic()))
        if process.poll() is not None:
            lives.deaths.append(f"ended by itself with {process.returncode}: {daemon.log()[before:]}")
        daemon.kill()
        lives.kills += 1
        lives.lasted.append(time.monotonic() - started)
        if _is_up(daemon, before):
            lives.came_up += 1
        else:
            lives.longest_down = max(lives.longest_down, lives.lasted[-1])
    return lives


def _is_up(daemon: Daemon, before: int) -> bool:
    return " started version=" in daemon.log()[before:]


def _settle(bed: MailBed, daemons: Sequence[Daemon], users: list[str], verdict: Verdict) -> int:
    """Start them undisturbed until nothing is on its way any more; how many starts each that took."""
    rounds = 0
    while rounds < _ROUNDS and not verdict.wrong:
        rounds += 1
        for daemon in daemons:
            daemon.start()
        try:
            for daemon in daemons:
                daemon.until_metric("mailprobe_mailbox_up", len(users))
            wait_until(lambda: not bed.postfix.queue() and not _ours(bed, users), _SETTLE, "all delivered and removed")
        except TimeoutError as error:
            verdict.wrong.append(f"not settled: {str(error).splitlines()[0]}; {json.dumps(bed.postfix.queue())[:500]}")
            verdict.lines.append(f"BAD {verdict.wrong[-1]}")
        for daemon in daemons:
            daemon.stop()
        still = sum(verdicts.states(_ledger(daemon))[state] for daemon in daemons for state in verdicts.OPEN)
        if not still and not _ours(bed, users):
            break
    return rounds


def _ours(bed: MailBed, users: list[str]) -> int:
    """How many mails of ours lie in the mailboxes."""
    found = 0
    for user in users:
        for folder in ("INBOX", "Junk"):
            with mailbox(bed, user, folder, readonly=True) as client:
                answers = client.uid("fetch", "1:*", "(BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")[1]
                found += sum(bool(OURS.search(a[1].decode())) for a in answers if isinstance(a, tuple))
    return found
