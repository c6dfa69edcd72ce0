"""The commands as a user types them: what they print and how they end."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from probe import __version__
from probe.core.settings import Route
from probe.core.state import State
from probe.demo.scenarios import SCENARIOS
from probe.once import Result
from probe.terminal import show

from .bed.mailbed import MailBed
from .make import probe_in
from .process import MAILPROBE, Daemon, account, route

pytestmark = pytest.mark.timeout(60)


def mailprobe(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([MAILPROBE, *map(str, words)], capture_output=True, text=True, check=False, timeout=50)


def test_help_names_every_command_and_version_is_the_packages() -> None:
    said = mailprobe("--help").stdout
    assert all(f"\n  {command} " in said for command in ("run", "check", "once", "status", "report", "verify", "demo"))
    assert mailprobe("--version").stdout == f"mailprobe {__version__}\n"


def test_a_bad_configuration_ends_with_2_one_line_per_mistake_and_nothing_started(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text(
        '[accounts.a]\naddress = "a@b"\nsmtp = { host = "x" }\n[routes.r]\nfrom = "a"\nto = "c"\nevry = "1m"\n'
    )
    for command in ("run", "check"):
        done = mailprobe(command, "-c", bad)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.splitlines() == [f"mailprobe: {bad}: routes.r.evry: unknown key; did you mean every?"]
    assert mailprobe("once", "-c", bad, "r").returncode == 3, "a monitoring plugin says UNKNOWN"
    assert not list(tmp_path.glob("**/ledger*"))


def test_once_shows_every_stage_and_exits_with_0(bed: MailBed, fresh_user: Callable[[], str], tmp_path: Path) -> None:
    a, b = fresh_user(), fresh_user()
    config = Daemon(tmp_path, account(bed, a) + account(bed, b) + route("one", a, b)).config
    done = mailprobe("once", "-c", config, "one")
    assert done.returncode == 0, done.stdout + done.stderr
    steps = re.findall(r"^ +\d+\.\d{3} s  (\w+)", done.stdout, re.M)
    assert steps == [
        *("watching", "resolve", "connect", "tls", "ehlo", "auth", "envelope", "data", "accepted", "seen", "removed")
    ]
    assert re.search(
        r"^OK - one: delivered \S+ ms after it was accepted \| latency=0\.\d{3}s;30;300$", done.stdout, re.M
    )
    assert re.search(r"^  the provider +≤ \d+ ms *$", done.stdout, re.M), "both accounts are at one provider"
    assert not (tmp_path / "state").exists(), "it keeps no record"
    unknown = mailprobe("once", "-c", config, "two")
    assert (unknown.returncode, unknown.stderr) == (3, "mailprobe: there is no route 'two'; there are: one\n")


def test_once_is_critical_when_the_server_is_not_there_and_unknown_when_it_cannot_see(
    bed: MailBed, fresh_user: Callable[[], str], tmp_path: Path
) -> None:
    a, b = fresh_user(), fresh_user()
    config = Daemon(tmp_path, account(bed, a, smtp_port=9) + account(bed, b) + route("one", a, b)).config
    done = mailprobe("once", "-c", config, "one", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["text"].startswith(f"submission through {a} failed at connect: refused")
    config = Daemon(tmp_path, account(bed, a) + account(bed, b, imap_port=9) + route("one", a, b)).config
    done = mailprobe("once", "-c", config, "one")
    assert done.returncode == 3
    assert f"UNKNOWN - one: cannot watch the mailbox of {b}: connect: refused" in done.stdout


def test_check_tells_what_accounts_can_do_and_names_the_mend(
    bed: MailBed, fresh_user: Callable[[], str], tmp_path: Path
) -> None:
    a, b = fresh_user(), fresh_user()
    good = account(bed, a) + account(bed, b) + route("one", a, b)
    config = Daemon(tmp_path, good).config
    done = mailprobe("check", "-c", config, "--send")
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "IDLE: yes",
        "UIDPLUS: yes",
        "watches Junk (junk, 0 mails)",
        "certificate until 20",
        "clock: the mail",
    ):
        assert done.stdout.count(words) == 2 * (2 if words.startswith("certificate") else 1), words
    assert "OK - one: delivered" in done.stdout
    wrong = tmp_path / "wrong"
    wrong.write_text("not the password")
    wrong.chmod(0o600)
    config.write_text(re.sub(r'password_file = ".*"', f'password_file = "{wrong}"', config.read_text(), count=1))
    done = mailprobe("check", "-c", config)
    assert done.returncode == 2
    assert done.stdout.count("check username and password; many providers want an app password") == 2
    assert "not the password" not in done.stdout + done.stderr


def test_demo_reaches_measured_deliveries_without_any_configuration() -> None:
    done = mailprobe("demo", "live", "--for", "6s")
    assert done.returncode == 0, done.stderr
    accepted, measured = map(int, re.findall(r"(\d+) test mails accepted, (\d+) measured", done.stdout)[0])
    assert accepted >= measured >= 4
    assert re.search(r"anna: last delay \d+ ms", done.stdout)
    assert "   in real time\n" in done.stdout
    assert mailprobe("demo", "--listen", "8080").stderr.startswith("mailprobe: --listen: is no address to listen on")


def test_demo_replays_an_outage_says_so_and_tells_what_really_happened() -> None:
    done = mailprobe("demo", "--for", "6s", "--speed", "2400")
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^Mon 15 Jan 2007 0[6-9]:\d\d UTC   a replay, 1 s = 40 min at most: all times are the world's$",
        done.stdout,
        re.M,
    )
    assert re.search(r"^david +\d+ inbox.* \d+ inbox", done.stdout, re.M)
    [(accepted, measured, flying)] = re.findall(r"(\d+) test mails accepted, (\d+) measured, (\d+) still", done.stdout)
    assert int(accepted) == int(measured) + int(flying) >= 5


def test_demo_ends_at_once_at_ctrl_c_and_its_help_tells_every_story() -> None:
    with subprocess.Popen([MAILPROBE, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout
        assert running.stdout.readline().startswith("page: http://")
        running.send_signal(signal.SIGINT)
        said, errors = running.communicate(timeout=20)
    assert (running.returncode, errors) == (0, "")
    assert "still in flight" in said
    told = mailprobe("demo", "--help").stdout
    assert all(f"  {name:<12} {story.about}\n" in told for name, story in SCENARIOS.items())
    wrong = mailprobe("demo", "sunshine")
    assert wrong.returncode == 2
    assert "'sunshine' is not one of 'outage'" in wrong.stderr


def test_a_route_without_deadlines_has_a_verdict_without_limits() -> None:
    probe = probe_in(State.DELIVERED)
    line = show.verdict(Result("ok", "delivered", dataclasses.replace(Route("r", "a", "b"), deadlines=()), None, probe))
    assert re.fullmatch(r"OK - r: delivered \| latency=\d+\.\d{3}s", line.plain)


def ended(directory: Path, listen: str, state_dir: Path) -> tuple[int, str]:
    """The exit code of a daemon that cannot start, and its last line."""
    config = directory / "mailprobe.toml"
    nobody = '{ host = "127.0.0.1", port = 9, tls = "implicit" }'
    account = f'[accounts.a]\naddress = "a@example.org"\nsmtp = {nobody}\nimap = {nobody}\n'
    config.write_text(f'state_dir = "{state_dir}"\n{account}{route("r", "a", "a", "1h")}')
    environ = {**os.environ, "MAILPROBE_ACCOUNTS__A__PASSWORD": "x"}
    command = [MAILPROBE, "run", "-c", config, "--listen", listen]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50, env=environ)
    return done.returncode, done.stderr.splitlines()[-1]


@pytest.mark.parametrize("listen", ["192.0.2.1:10925", "127.0.0.1:{taken}"])
def test_an_address_that_may_come_or_be_given_back_is_worth_a_restart(listen: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, line = ended(tmp_path, listen.format(taken=taken.getsockname()[1]), tmp_path / "state")
    assert code == 75
    assert line.startswith("mailprobe: cannot listen: ")


@pytest.mark.parametrize("state_dir", ["file", "damaged", "key"])
def test_a_state_that_is_not_ours_or_damaged_is_not_worth_a_restart(state_dir: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for name in ("damaged", "key"):
        (tmp_path / name).mkdir()
    (tmp_path / "damaged/ledger.sqlite").write_bytes(b"x" * 5000)
    (tmp_path / "key/key").write_bytes(b"short")
    code, line = ended(tmp_path, "127.0.0.1:0", tmp_path / state_dir)
    assert code == 2
    assert str(tmp_path / state_dir) in line
