"""`mailprobe status`: what it says of a daemon, of a ledger alone, and how it ends."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from rich.console import Console

from probe.api import resources
from probe.core.history import Share
from probe.core.trouble import RouteState
from probe.ledger import Ledger
from probe.standing import exit_code
from probe.terminal import glance

from .make import T0
from .process import MAILPROBE
from .test_api import NOW, Health, Mailbox, Shown, in_a_thread, stall, view

pytestmark = pytest.mark.timeout(60)
CONFIG = """state_dir = "{0}"
listen = "127.0.0.1:{1}"
[accounts.own]
address = "probe@example.org"
password_file = "{0}/password"
smtp = {{ host = "mail.example.org", tls = "starttls" }}
imap = {{ host = "mail.example.org", tls = "implicit" }}
""" + "".join(f'[routes.{name}]\nfrom = "own"\nto = "own"\n' for name in ("r0", "r1", "idle"))


def status(directory: Path, port: int, *words: str) -> subprocess.CompletedProcess[str]:
    (directory / "password").write_text("hunter2")
    (directory / "password").chmod(0o600)
    config = directory / "mailprobe.toml"
    config.write_text(CONFIG.format(directory, port))
    done = subprocess.run(
        [MAILPROBE, "status", "-c", config, *words], capture_output=True, text=True, check=False, timeout=50,
        env={"TZ": "UTC", "COLUMNS": "80"},
    )  # fmt: skip
    assert "hunter2" not in done.stdout + done.stderr
    return done


def told(*states: RouteState, **more: Any) -> dict[str, Any]:
    """What the daemon says of routes in these states; the stuck one has an incident."""
    prober = resources.prober(
        Health("1.2.3", NOW.shifted(-90_000.0), (Mailbox("own", True, ""),), "", ""), NOW, public=False
    )
    routes = []
    for number, state in enumerate(states):
        incidents = [stall(f"r{number}", 11_520.0)] if state is RouteState.STUCK else []
        shown = Shown(f"r{number}", "", "", view(f"r{number}", state, *incidents))
        routes.append(resources.route(shown, {}, Share(1440, 0, 2, 0, 1424, 14), public=False))
    return {"source": "daemon", "prober": {**prober, **more}, "routes": routes}


def seen(data: dict[str, Any]) -> list[str]:
    console = Console(width=80, highlight=False)
    with console.capture() as capture:
        console.print(glance.view(data, datetime.fromtimestamp(NOW.wall, UTC)))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_worst_comes_first_and_an_incident_is_told() -> None:
    assert seen(told(RouteState.OK, RouteState.STUCK, RouteState.SLOW)) == [
        "3 routes: 1 stuck, 1 slow, 1 ok",
        "",
        "   route  state  in flight, oldest  last delivery  in time",
        "✗  r1     stuck  2, 45.0 s          22:13, 1.5 s    99.0 %",
        "!  r2     slow   2, 45.0 s          22:13, 1.5 s    99.0 %",
        "✓  r0     ok     2, 45.0 s          22:13, 1.5 s    99.0 %",
        "",
        "  r1: late mail since 19:01, 3 mails, held for up to 3 h 12 min",
        "",
        "mailprobe 1.2.3, up for 1 d 1 h, 1 mailbox watched",
    ]


def test_the_prober_says_what_is_wrong_with_itself() -> None:
    boxes = [
        {"account": "own", "watched": False, "reason": "auth_refused"},
        {"account": "gmx", "watched": True, "reason": None},
    ]
    wrong = {
        "record_ok": False,
        "record_error": "disk is full",
        "configuration_ok": False,
        "configuration_error": "a\nb",
    }
    assert seen(told(RouteState.OK, mailboxes=boxes, **wrong))[-4:] == [
        "mailprobe 1.2.3, up for 1 d 1 h, 1 of 2 mailboxes not watched",
        "  own: auth_refused",
        "The ledger cannot be written: disk is full",
        "The old configuration is still in use: a",
    ]


def test_a_demo_is_not_taken_for_real() -> None:
    replay = {"begins": "2007-01-15T06:00:00.000Z", "speed": None}
    assert seen(told(RouteState.OK, demo=replay))[-3:-1] == [
        "This is mailprobe demo: an embedded provider plays a story, by a clock of its",
        "own. The mail is not real.",
    ]
    assert "The mail is not real" in " ".join(seen(told(RouteState.OK, demo={**replay, "speed": 1.0})))
    assert not [line for line in seen(told(RouteState.OK)) if "demo" in line]


@pytest.mark.parametrize("name", ["r", "a-route-with-a-name-of-63-characters-" + "x" * 26])
def test_80_columns_are_enough(name: str) -> None:
    data = told(*RouteState)
    for route in data["routes"]:
        route |= {
            "name": name,
            "in_flight": 1440,
            "oldest_in_flight_seconds": 86_399.0 * 4,
            "last_latency_seconds": 200.0,
        }
    lines = seen(data)
    assert max(map(len, lines)) <= 80
    for state, line in zip((RouteState.STUCK, RouteState.FAILING), lines[3:], strict=False):
        assert f" {state} " in line
        assert "1440, 3 d 23 h" in line
        assert line.endswith("22:13, 3 min 20 s   99.0 %")


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ("ok", 0), ("ok slow", 1), ("recovering", 1), ("ok stuck slow", 2), ("failing blind", 2), ("slow blind", 3),
        ("unknown ok", 3), ("", 3),
    ],
)  # fmt: skip
def test_it_ends_as_monitoring_plugins_do(states: str, code: int) -> None:
    assert exit_code(told(*map(RouteState, states.split()))) == code


def test_a_ledger_that_cannot_be_written_is_a_warning() -> None:
    assert exit_code(told(RouteState.OK, record_ok=False)) == 1


def test_the_running_daemon_is_asked(tmp_path: Path) -> None:
    with in_a_thread(tmp_path / "ledger.sqlite") as base:
        port = int(base.rpartition(":")[2])
        done = status(tmp_path, port)
        assert done.returncode == 2, done.stderr
        assert done.stdout.splitlines()[0] == "3 routes: 1 stuck, 1 unknown, 1 ok"
        said = json.loads(status(tmp_path, port, "--json").stdout)
        assert said["source"] == "daemon"
        assert [it["name"] for it in said["routes"]] == ["r0", "r1", "idle"]


def test_without_a_daemon_the_ledger_is_read_and_nothing_is_called_well(tmp_path: Path) -> None:
    with in_a_thread(tmp_path / "ledger.sqlite"):
        pass
    with closing(Ledger(tmp_path / "ledger.sqlite")):  # one that is at work, and does not answer
        before = (tmp_path / "ledger.sqlite").read_bytes()
        done = status(tmp_path, 1)
        assert done.returncode == 3, done.stderr
        assert (tmp_path / "ledger.sqlite").read_bytes() == before
        lines = done.stdout.splitlines()
        assert lines[0] == "3 routes: 3 unknown"
        assert [line for line in lines if line.startswith("  r0: late mail since ")]
        assert lines[-2] == "The daemon does not answer ([Errno 111] Connection refused)."
        assert "by the ledger alone: the last record is " in lines[-1]
        said = json.loads(status(tmp_path, 1, "--json").stdout)
    assert (said["source"], said["prober"]) == ("ledger", None)
    r0, r1, idle = said["routes"]
    assert r0["totals"]["sent"] == 17
    assert datetime.fromisoformat(r1["last_delivery"]).timestamp() > T0.wall
    assert (r0["in_flight"], idle["in_flight"], idle["reason"]) == (2, 0, "unmeasured")


def test_another_program_at_the_daemons_address_is_not_believed(tmp_path: Path) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"hello": "world"}')

        def log_message(self, *_: object) -> None:
            pass

    with in_a_thread(tmp_path / "ledger.sqlite"):
        pass
    with HTTPServer(("127.0.0.1", 0), Other) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        done = status(tmp_path, server.server_port)
        server.shutdown()
    assert done.returncode == 3
    assert f"127.0.0.1:{server.server_port} is another program, or another mailprobe" in " ".join(done.stdout.split())


def test_where_nothing_can_be_asked_it_says_why_in_a_line(tmp_path: Path) -> None:
    done = status(tmp_path, 1)
    assert (done.returncode, done.stdout) == (3, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"mailprobe: no daemon answers, and {tmp_path}/ledger.sqlite: there is no ledger; ")
