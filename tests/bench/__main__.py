"""`python -m tests.bench`: all measurements in one run, as a report for people and as JSON for machines."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from ..bed.mailbed import MailBed, what_is_missing
from . import accuracy, cost, evidence, page, peers, received, startup, years
from .numbers import SPREAD_HEAD, Spread, table


def main() -> None:
    options = _options()
    on_servers = set(options.only) - {"received"}
    if on_servers and (missing := what_is_missing()):
        sys.exit(missing)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end in order, as by Ctrl-C
    root = Path(tempfile.mkdtemp(prefix="mailbench-", dir="/tmp"))  # short and open: see tests/conftest.py
    root.chmod(0o755)
    bed = MailBed(root)
    began = time.monotonic()
    results: dict[str, object] = {"machine": _machine()}
    _say([f"mailprobe bench: {results['machine']}"])
    try:
        if on_servers:
            bed.start()
        if "accuracy" in options.only:
            measured = accuracy.measure(bed, root, _ACCURACY[options.quick])
            idle = peers.plain_idle(bed, 6 if options.quick else 20)
            plugin = peers.check_email_delivery(bed, 2 if options.quick else 5, options.plugins)
            results |= {"accuracy": measured, "plain_idle": idle, "check_email_delivery": plugin}
            _say(_accuracy(measured, idle, plugin))
        if "cost" in options.only:
            results["cost"] = spent = cost.measure(bed, root, _COST[options.quick])
            _say(_cost(spent))
        if "startup" in options.only:
            results["startup"] = started = startup.measure(bed, root, _STARTUP[options.quick])
            _say(_startup(started))
        if "received" in options.only:
            results["received"] = read = received.measure(3 if options.quick else 20)
            _say(_received(read))
        if "ledger" in options.only:
            results["ledger"] = asked = years.made_and_measured(root / "years.sqlite", *_LEDGER[options.quick])
            _say(years.report(asked))
            results["report"] = made = [evidence.measure(root / "years.sqlite", it) for it in evidence.ROUTES]
            _say([line for each in made for line in (*evidence.report(each), "")])
        if "page" in options.only:
            results["page"] = looked = page.measure(bed, root / "page", _PAGE[options.quick])
            _say(page.report(looked))
    except KeyboardInterrupt:
        sys.exit("interrupted")
    finally:
        bed.wipe()
    results["seconds"] = time.monotonic() - began
    _say([f"Took {results['seconds']:.0f} s; load average now {os.getloadavg()[0]:.2f}."])
    if options.json:
        options.json.write_text(json.dumps(results, default=_plain, indent=1) + "\n")


_ACCURACY = {False: accuracy.Plan(), True: accuracy.Plan(seconds=14.0, warm_up=3)}
_COST = {False: cost.Plan(), True: cost.Plan(pairs=1, window=6.0, warm_up=3.0, every=(1, 2))}
_STARTUP = {False: startup.Plan(), True: startup.Plan(starts=2, rest=2.0, many=30)}
_LEDGER = {
    False: (100, 500_000),
    True: (10, 10_000),
}  # routes, probes: a tenth, and a hundredth, of what it is made for
_PAGE = {False: page.Plan(), True: page.Plan(100, 10_000, settle=10.0, cold=1, warm=5, live=5.0)}
_PARTS = ("accuracy", "cost", "startup", "received", "ledger", "page")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers, about a minute, for development")
    parser.add_argument("--only", choices=_PARTS, nargs="+", default=_PARTS, help="only these parts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything there")
    parser.add_argument(
        "--plugins", type=Path, metavar="DIR", default=peers.PLUGINS, help="where check_email_delivery is"
    )
    return parser.parse_args()


def _machine() -> str:
    return (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, "
        f"uvloop {version('uvloop')}, load {os.getloadavg()[0]:.2f}"
    )


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        derived = [name for name, member in vars(type(value)).items() if isinstance(member, property)]
        return {name: getattr(value, name) for name in [*(f.name for f in dataclasses.fields(value)), *derived]}
    raise TypeError(type(value))


def _say(lines: list[str]) -> None:
    print("\n".join(lines), end="\n\n", flush=True)


# -- the report ------------------------------------------------------------------------------------------------------


def _row(name: str, numbers: Spread | None, digits: int = 1, note: str = "") -> list[str]:
    return [name, *(numbers.cells(digits) if numbers else ["0"]), note]


def _accuracy(got: accuracy.Accuracy, idle: peers.Peer, plugin: peers.Peer) -> list[str]:
    warm, cold, held = got.undisturbed, got.undisturbed_cold, got.held
    lines = [
        "ACCURACY  delivery latency as measured − true (Postfix's answer to Dovecot's save), in ms",
        *table(
            ("", *SPREAD_HEAD),
            [
                _row("mailprobe, undisturbed mail", warm.error),
                _row(f"  with the first {got.warm_up} of each route", cold.error),
                _row("  its start: 250 read − answered", warm.start),
                _row("  its end: seen − saved", warm.end),
                _row("mailprobe, mail held 0.5 … 10 s", held.error),
                _row("  |error| in % of the latency", held.percent),
                _row("plain IDLE, undisturbed mail", idle.error),
                _row("check_email_delivery, the same", plugin.error),
                _row("true latency, undisturbed", warm.true),
                _row("true latency, held", held.true),
            ],
        ),
        *(["check_email_delivery: " + plugin.note] if plugin.note else []),
        "",
        *table(
            ("", "within max(5 %, 30 ms)", "asks per probe", "seen by"),
            [
                [name, f"{group.near:.1%}", f"{asks:.2f}", _detections(group)]
                for name, group, asks in (
                    ("undisturbed", warm, got.asks_undisturbed),
                    ("held", held, got.asks_held),
                )
            ],
        ),
        f"true arrival before the recorded interval: {got.before} of {got.probes} (most {got.before_most:.1f} ms); "
        f"after it: {got.logged_late} (most {got.logged_late_most:.1f} ms;",
        f"Dovecot logs a save after it can be seen); 2 ms are allowed. Probes without measurement: {got.unmeasured}",
    ]
    for outlier in got.outliers:
        lines.append(
            f"  outlier {outlier.probe} {'held' if outlier.held else 'undisturbed'} no. {outlier.number}: "
            f"{outlier.latency:.3f} s, true {outlier.true:.3f} s, start {outlier.start * 1e3:+.1f} ms, "
            f"by {outlier.detection}"
            + (f", before the interval by {outlier.before * 1e3:.1f} ms" if outlier.before else "")
        )
    return lines


def _detections(group: accuracy.Group) -> str:
    total = max(1, sum(group.detections.values()))
    return ", ".join(f"{name} {number / total:.0%}" for name, number in sorted(group.detections.items()))


def _cost(got: cost.Cost) -> list[str]:
    def rows() -> Iterator[list[str]]:
        for number, pair in enumerate(got.pairs, 1):
            values = f"{pair.ours:.2f}", f"{pair.bare:.2f}", f"{pair.ratio:.2f}"
            yield [f"pair {number}", *values, f"{pair.ours_asks:.2f}", f"{pair.bare_asks:.2f}"]
        yield ["median", f"{got.ours:.2f}", f"{got.bare:.2f}", f"{got.ratio:.2f}"]

    verdict = "reached" if got.ratio <= cost.GOAL else "missed"
    return [
        f"COST  CPU ms per probe (user + system), {got.routes} routes, {got.rate:.1f} probes/s, uvloop for both",
        *table(("", "mailprobe", "bare script", "ratio", "asks per probe", "bare's"), rows()),
        f"goal: at most {cost.GOAL:.1f} times the bare script: {verdict}",
    ]


def _startup(got: startup.Startup) -> list[str]:
    return [
        "START-UP  seconds from exec",
        *table(
            ("", *SPREAD_HEAD),
            [
                _row("schedule runs", got.schedule_begins, 3),
                _row("first submission accepted", got.first_accepted, 3),
            ],
        ),
        "",
        "MEMORY  resident",
        *table(
            ("", "MiB"),
            [
                ["10 routes, 2 mailboxes", f"{got.resident / 1024:.1f}"],
                [f"{got.many} routes, {got.few} mailboxes", f"{got.resident_few / 1024:.1f}"],
                [f"{got.many} routes, {got.many} mailboxes", f"{got.resident_many / 1024:.1f}"],
            ],
        ),
        f"a further idle mailbox (2 connections): {got.per_mailbox:.0f} KiB",
    ]


def _received(got: received.Received) -> list[str]:
    verdict = "reached" if got.ours and got.ours.median <= received.GOAL else "missed"
    return [
        "RECEIVED  what is read right of what the corpus asserts",
        *table(("field", "right", "asserted", "%"), map(_share, got.fields)),
        "",
        *table(("software", "right", "asserted", "%"), map(_share, got.software)),
        "",
        *table(
            ("µs per field", *SPREAD_HEAD),
            [_row("mailprobe", got.ours), _row("email.message_from_string + parsedate_tz", got.stdlib)],
        ),
        f"goal: at most {received.GOAL:.0f} µs (median): {verdict}",
    ]


def _share(share: received.Share) -> list[str]:
    return [share.name, str(share.right), str(share.asserted), f"{share.percent:.1f}"]


main()
