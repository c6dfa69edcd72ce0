"""The service as it is installed, under a real systemd, against a real Postfix and Dovecot."""

from __future__ import annotations

import fcntl
import re
import secrets
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from .bed.mailbed import MailBed, address
from .bed.service import wait_until
from .bed.systemd_box import SystemdBox, what_is_missing, why_no_box
from .make import ROOT
from .process import route
from .test_daemon import held

IMPOSSIBLE = why_no_box()
pytestmark = [
    pytest.mark.skipif(bool(IMPOSSIBLE), reason=IMPOSSIBLE),
    pytest.mark.timeout(120),
]

UNIT = "mailprobe.service"
CREDENTIALS = "/etc/mailprobe/credentials"
# As it is shipped, but for the times that a test would wait for.
QUICK = "[Service]\nWatchdogSec=2\nRestartSec=100ms\n"


def new_box(*binds: tuple[Path, str]) -> SystemdBox:
    if missing := what_is_missing():
        pytest.fail(missing, pytrace=False)
    # Not tmp_path: its name names the machine and a cgroup.
    return SystemdBox(Path(tempfile.gettempdir(), f"mailprobe-{secrets.token_hex(4)}"), [(ROOT, "/src"), *binds])


@contextmanager
def started(box: SystemdBox) -> Iterator[SystemdBox]:
    try:
        yield box.start()
    finally:
        box.close()
        shutil.rmtree(box.root, ignore_errors=True)


@pytest.fixture(scope="module")
def tree() -> Path:
    """What both ways of installing put at /opt/mailprobe. Kept while it is up to date, for it takes longer than all the
    rest; made by one worker, while others wait for it."""
    tree, script = ROOT / ".cache/opt", ROOT / "deploy/tree.sh"
    tree.parent.mkdir(exist_ok=True)
    with tree.with_name("opt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = subprocess.run([script, "--fingerprint"], check=True, capture_output=True, text=True).stdout
        known = tree / "share/fingerprint"
        if not known.exists() or known.read_text() != wanted:
            subprocess.run([script, tree], check=True)
    return tree


@pytest.fixture(scope="module")
def installed(tree: Path) -> Iterator[SystemdBox]:
    """A box in which deploy/install was run."""
    with started(new_box((tree, "/tree"))) as box:
        said = box.do("/src/deploy/install", "--from", "/tree")
        assert "Not started: /etc/mailprobe/mailprobe.toml is still the example." in said
        yield box


class Service:
    """mailprobe in a box, with two users of the bed and a provider that is not there."""

    def __init__(self, box: SystemdBox, bed: MailBed, sender: str, recipient: str) -> None:
        self.box, self.bed, self.sender, self.recipient = box, bed, sender, recipient
        self.began = box.do("date", "+%s.%N").strip()

    def configure(self, *routes: str) -> None:
        """Write the configuration and the passwords."""
        here = 'ca_file = "/etc/mailprobe/ca.pem", host = "127.0.0.1", tls = "implicit", port = {}'
        smtp, imap = (here.format(self.bed.ports[port]) for port in ("submissions", "imaps"))
        dead = 'host = "127.0.0.1", port = 9, tls = "implicit"'
        text = 'listen = "127.0.0.1:0"\n'
        for user in (self.sender, self.recipient):
            text += f'[accounts.{user}]\naddress = "{address(user)}"\nsmtp = {{ {smtp} }}\nimap = {{ {imap} }}\n'
            self.box.write(f"{CREDENTIALS}/accounts__{user}__password", self.bed.password, "600")
        text += f'[accounts.dead]\naddress = "dead@example.org"\nimap = {{ {dead} }}\n'
        self.box.write(f"{CREDENTIALS}/accounts__dead__password", "x", "600")
        text += route("to-dead", self.sender, "dead", "1h") + "".join(routes)
        self.box.write("/etc/mailprobe/mailprobe.toml", text)
        self.box.write("/etc/mailprobe/ca.pem", self.bed.pki.ca.read_text())

    def route(self, name: str, every: str = "500ms") -> str:
        return route(name, self.sender, self.recipient, every)

    def start(self) -> None:
        """Start it; returns when it says that it is ready."""
        self.box.do("systemctl", "start", UNIT)

    def show(self, name: str) -> str:
        return self.box.show(UNIT, name)[name]

    def until(self, condition: Callable[[], object], what: str) -> None:
        try:
            wait_until(condition, 20, what)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n" + "\n".join(self.journal()[-40:])) from None

    def until_restarted(self, times: int) -> None:
        self.until(
            lambda: (
                self.box.show(UNIT, "NRestarts", "ActiveState") == {"NRestarts": str(times), "ActiveState": "active"}
            ),
            f"restart {times}",
        )

    def journal(self, *options: str) -> list[str]:
        return self.box.journal(UNIT, f"--since=@{self.began}", *options)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of these samples, of the process that runs now."""
        listening = [line.rpartition(":")[2] for line in self.journal() if line.startswith("started ")]
        with urllib.request.urlopen(f"http://127.0.0.1:{listening[-1]}/metrics", timeout=5) as reply:
            families = list(text_string_to_metric_families(reply.read().decode()))
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


@pytest.fixture
def service(installed: SystemdBox, bed: MailBed, fresh_user: Callable[[], str]) -> Iterator[Service]:
    installed.write(f"/etc/systemd/system/{UNIT}.d/quick.conf", QUICK)
    installed.do("systemctl", "daemon-reload")
    yield Service(installed, bed, fresh_user(), fresh_user())
    installed.do("systemctl", "stop", UNIT)
    installed.call("systemctl", "reset-failed", UNIT)
    installed.do("sh", "-c", f"rm -rf /var/lib/private/mailprobe {CREDENTIALS}/* /etc/systemd/system/{UNIT}.d")


def test_it_is_ready_when_every_mailbox_was_tried_and_its_status_says_how_things_are(service: Service) -> None:
    service.configure(service.route("r"))
    service.start()
    assert service.metric("mailprobe_mailbox_up", account=service.recipient) == 1, "when it says ready"
    service.until(lambda: service.metric("mailprobe_delivery_latency_seconds_count") >= 2, "mail is measured")
    service.until(lambda: "1 route fine, 1 unseen: to-dead; " in service.show("StatusText"), "the status line")
    status = service.box.do("systemctl", "--no-pager", "status", UNIT)
    assert re.search(r'Status: "1 route fine, 1 unseen: to-dead; .*; 1 mailbox unwatched: dead \(refused\)"', status)
    # Whether a mail to the dead account was due by now is a matter of phase.
    warnings = [
        line for line in service.journal("--priority=warning") if not line.startswith("rejected route=to-dead ")
    ]
    assert {line.partition(" detail=")[0] for line in warnings} == {"mailbox_unwatched account=dead reason=refused"}
    assert len([line for line in service.journal("--priority=info") if line.startswith("delivered ")]) >= 2
    state = service.box.do("stat", "-c", "%a %U", "/var/lib/private/mailprobe", "/var/lib/private/mailprobe/key")
    assert {line.split()[0] for line in state.splitlines()} == {"700", "600"}
    assert "root" not in state
    service.box.do("systemctl", "stop", UNIT)
    assert service.show("Result") == "success"
    assert service.show("NRestarts") == "0", "a dead provider is no reason to restart"


def test_a_reload_adds_a_route_and_leaves_watchers_and_mail_in_flight_alone(service: Service) -> None:
    service.configure(service.route("r"))
    service.start()
    with held(service.bed):
        service.until(lambda: service.metric("mailprobe_in_flight_probes", route="r") >= 3, "mail is held")
        before, pid = service.metric("mailprobe_in_flight_probes", route="r"), service.show("MainPID")
        service.configure(service.route("r"), service.route("added"))
        service.box.do("systemctl", "reload", UNIT)
        service.until(lambda: service.metric("mailprobe_in_flight_probes", route="added") >= 1, "the new route sends")
        assert service.metric("mailprobe_in_flight_probes", route="r") >= before
        oldest = service.metric("mailprobe_oldest_in_flight_seconds", route="r")
        service.box.write("/etc/mailprobe/mailprobe.toml", "routes = 3")
        service.box.do("systemctl", "reload", UNIT)
        service.until(lambda: "goes on with the old configuration: " in service.show("StatusText"), "the refusal")
        assert service.show("ActiveState") == "active"
        assert service.metric("mailprobe_oldest_in_flight_seconds", route="r") >= oldest
    service.until(lambda: service.metric("mailprobe_delivery_latency_seconds_count", route="r") >= before, "released")
    watched = [line for line in service.journal() if line.startswith("mailbox_watched")]
    assert sorted(watched) == sorted(f"mailbox_watched account={it}" for it in (service.sender, service.recipient))
    assert service.show("MainPID") == pid


def test_a_killed_service_and_a_frozen_one_are_restarted_and_know_their_mail_in_flight(service: Service) -> None:
    service.configure(service.route("r"))
    service.start()
    with held(service.bed):
        service.until(lambda: service.metric("mailprobe_in_flight_probes") >= 3, "mail is held")
        service.box.do("systemctl", "kill", "--signal=KILL", UNIT)
        service.until_restarted(1)
        assert service.metric("mailprobe_in_flight_probes") >= 3
        service.box.do("systemctl", "kill", "--signal=STOP", UNIT)
        service.until_restarted(2)
        assert service.metric("mailprobe_in_flight_probes") >= 3
    journal = service.journal()
    assert [line for line in journal if "Watchdog timeout" in line]
    assert [line for line in journal if line.startswith("Fatal Python error: Aborted")], "and where it stood"


# Run instead of mailprobe: once /run/stuck has the number of the process, the next commit does not end.
STUCK = """
import asyncio, os, pathlib, threading
from probe import cli, ledger, prober

prober._COMMIT = 1.0
ours, theirs, taken = threading.Lock(), threading.Lock(), threading.Event()

def writer_wants_what_the_loop_has():
    with theirs:
        taken.set()
        ours.acquire()

def loop_wants_what_the_writer_has(self):
    with ours:
        self._thread.submit(writer_wants_what_the_loop_has)
        taken.wait()
        theirs.acquire()

async def commit(self, *args, really=ledger.Ledger.commit):
    stuck = pathlib.Path("/run/stuck")
    pid, how = stuck.read_text().split() if stuck.exists() else ("", "")
    if pid == str(os.getpid()):
        if how == "deadlock":
            loop_wants_what_the_writer_has(self)
        await asyncio.Event().wait()
    await really(self, *args)

ledger.Ledger.commit = commit
cli.main()
"""


def test_a_deadlock_and_a_recorder_that_hangs_end_in_a_restart_and_the_journal_says_why(service: Service) -> None:
    service.box.write("/run/stuck.py", STUCK)
    start = "[Service]\nExecStart=\nExecStart=/opt/mailprobe/bin/python3 /run/stuck.py run\n"
    service.box.write(f"/etc/systemd/system/{UNIT}.d/stuck.conf", start)
    service.box.do("systemctl", "daemon-reload")
    service.configure(service.route("r"))
    service.start()
    service.until(lambda: service.metric("mailprobe_delivery_latency_seconds_count") >= 1, "mail is measured")
    for times, how in enumerate(("deadlock", "hang"), 1):
        pid = service.show("MainPID")
        service.box.write("/run/stuck", f"{pid} {how}")
        service.until_restarted(times)
        assert service.show("MainPID") != pid
    service.until(lambda: service.metric("mailprobe_delivery_latency_seconds_count") >= 1, "mail is measured again")
    journal = service.journal()
    watchdog = [number for number, line in enumerate(journal) if "Watchdog timeout" in line]
    assert len(watchdog) == 2
    before, between = journal[: watchdog[0]], journal[watchdog[0] : watchdog[1]]
    for where in ("loop_wants_what_the_writer_has", "writer_wants_what_the_loop_has"):
        assert [line for line in between if line.endswith(f"in {where}")], "both ends of the deadlock"
    assert not [line for line in before if "stalled=" in line], "the loop could not say it"
    assert 'bug stalled="the recorder"' in between


def test_a_full_disk_at_the_start_is_tried_again_until_there_is_room(service: Service) -> None:
    service.configure(service.route("r"))
    state = "/var/lib/private/mailprobe"
    service.box.do("install", "-d", "-m", "700", "/var/lib/private", state)
    service.box.do("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", state)
    try:
        service.box.call("dd", "if=/dev/zero", f"of={state}/filler", "bs=64k")
        service.box.do("systemctl", "start", "--no-block", UNIT)
        service.until(lambda: int(service.show("NRestarts")) >= 2, "it is tried again")
        assert [line for line in service.journal() if "status=75/TEMPFAIL" in line]
        assert [line for line in service.journal("--priority=crit") if "No space left on device" in line]
        service.box.do("rm", f"{state}/filler")
        service.until(lambda: service.show("ActiveState") == "active", "there is room")
        service.until(lambda: service.metric("mailprobe_delivery_latency_seconds_count") >= 1, "mail is measured")
        service.box.do("systemctl", "stop", UNIT)
    finally:
        service.box.do("umount", "-l", state)


def test_a_mail_by_hand_is_foreign_to_the_service_if_root_sends_it_and_forged_else(service: Service) -> None:
    service.configure(service.route("r", "1h"))
    file, heading = "/etc/mailprobe/mailprobe.toml", f"[accounts.{service.recipient}]\n"
    # Else it may be gone before the service has seen it.
    service.box.write(file, service.box.do("cat", file).replace(heading, f"{heading}keep_mails = true\n"))
    service.start()
    passwords = [
        f"MAILPROBE_ACCOUNTS__{name.upper()}__PASSWORD={service.bed.password}"
        for name in (service.sender, service.recipient, "dead")
    ]
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "HOME=/nonexistent", *passwords)
    for who, reason in ((("env", f"CREDENTIALS_DIRECTORY={CREDENTIALS}"), "foreign"), (nobody, "forged")):
        done = service.box.call(*who, "mailprobe", "once", "r")
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("without key" in done.stdout) == (reason == "forged")
        name = "mailprobe_unrecognised_messages_total"
        service.until(lambda name=name, reason=reason: service.metric(name, reason=reason) == 1, reason)


def test_a_night_without_dns_is_survived_by_one_process(service: Service) -> None:
    service.configure(service.route("r"))
    config = service.box.do("cat", "/etc/mailprobe/mailprobe.toml").replace(
        'host = "127.0.0.1"', 'host = "mail.example"'
    )
    service.box.write("/etc/mailprobe/mailprobe.toml", config)
    # Bound over the real one, which may be a link to somewhere else.
    service.box.write("/run/nobody.conf", "nameserver 127.0.0.9\n")
    service.box.do("mount", "--bind", "/run/nobody.conf", "/etc/resolv.conf")
    try:
        service.start()
        service.until(lambda: service.show("StatusText").count("(dns_failure)") == 3, "every mailbox is unwatched")
        service.until(lambda: service.metric("mailprobe_submissions_total", outcome="failed") >= 3, "it goes on trying")
        found = service.box.show(UNIT, "ActiveState", "NRestarts")
        assert found == {"ActiveState": "active", "NRestarts": "0"}
    finally:
        service.box.do("umount", "/etc/resolv.conf")


def test_without_credentials_it_ends_with_2_and_one_line_and_is_not_restarted(service: Service) -> None:
    service.configure(service.route("r"))
    service.box.do("rm", f"{CREDENTIALS}/accounts__{service.sender}__password")
    assert service.box.call("systemctl", "start", UNIT).returncode != 0
    found = service.box.show(UNIT, "SubState", "Result", "ExecMainStatus", "NRestarts")
    assert found == {"SubState": "failed", "Result": "exit-code", "ExecMainStatus": "2", "NRestarts": "0"}
    (line,) = service.journal("--priority=crit")
    assert f"the credential accounts__{service.sender}__password" in line
    service.box.do("mv", CREDENTIALS, f"{CREDENTIALS}.away")
    try:
        assert service.box.call("systemctl", "start", UNIT).returncode != 0
        assert service.box.show(UNIT, "SubState", "NRestarts") == {"SubState": "failed", "NRestarts": "0"}
    finally:
        service.box.do("mv", f"{CREDENTIALS}.away", CREDENTIALS)


def test_an_encrypted_credential_serves_as_well(service: Service) -> None:
    service.configure(service.route("r"))
    name = f"accounts__{service.sender}__password"
    service.box.do("rm", f"{CREDENTIALS}/{name}")
    encrypted = service.box.do("systemd-creds", "encrypt", "-p", f"--name={name}", "--with-key=host", "-", "-",
                               input=service.bed.password)  # fmt: skip
    service.box.write(f"/etc/systemd/system/{UNIT}.d/password.conf", f"[Service]\n{encrypted}")
    service.box.do("systemctl", "daemon-reload")
    service.start()
    service.until(lambda: service.metric("mailprobe_delivery_latency_seconds_count") >= 1, "mail is sent")


def test_the_unit_is_correct_and_exposes_little(installed: SystemdBox) -> None:
    file = f"/etc/systemd/system/{UNIT}"
    verified = installed.call("systemd-analyze", "verify", file)
    assert (verified.returncode, verified.stderr) == (0, "")
    verdict = installed.do("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", file)
    exposure = re.search(r"Overall exposure level for mailprobe.service: (\d+\.\d+)", verdict)
    assert exposure
    assert float(exposure[1]) <= 1.5


def test_install_says_what_it_would_do_can_be_repeated_and_undone(service: Service) -> None:
    box, install = service.box, ("/src/deploy/install", "--from", "/tree")
    service.configure(service.route("r", "1h"))
    assert "start the service" in box.do(*install)
    assert service.show("ActiveState") == "active"
    assert box.do("systemctl", "is-enabled", UNIT).strip() == "enabled"
    pid = service.show("MainPID")
    assert box.do(*install) == "nothing to do: mailprobe is up to date and running\n"
    assert "would stop and disable the service" in box.do(*install, "--dry-run", "--uninstall", "--purge")
    assert service.show("MainPID") == pid
    checked = box.call("env", f"CREDENTIALS_DIRECTORY={CREDENTIALS}", "mailprobe", "check").stdout
    assert re.search(rf"{service.sender}(.|\n)*logged in", checked), checked
    box.do(*install, "--uninstall")
    assert service.show("LoadState") == "not-found"
    assert box.call("ls", "/opt/mailprobe", "/usr/local/bin/mailprobe").stdout == ""
    box.do("ls", "/etc/mailprobe/mailprobe.toml", "/var/lib/private/mailprobe/key")
    box.do(*install)
    assert service.show("ActiveState") == "active"
    box.do(*install, "--uninstall", "--purge")
    assert box.call("ls", "-d", "/etc/mailprobe", "/var/lib/private/mailprobe", "/var/lib/mailprobe").stdout == ""
    box.do(*install)


def test_the_package_is_installed_upgraded_with_everything_kept_and_purged(
    tree: Path, bed: MailBed, fresh_user: Callable[[], str], tmp_path: Path
) -> None:
    made = subprocess.run([ROOT / "deploy/deb.sh", tree], check=True, capture_output=True, text=True).stdout
    old, new, unpacked = Path(made.strip()), tmp_path / "new.deb", tmp_path / "unpacked"
    subprocess.run(["dpkg-deb", "-R", old, unpacked], check=True)
    control = unpacked / "DEBIAN/control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 9."))
    subprocess.run(["dpkg-deb", "-Znone", "-b", unpacked, new], check=True, capture_output=True)
    apt = ["apt-get", "-qq", "-y"]
    # Without any source: it must do with what the package brings.
    apt += ["-o", "Dpkg::Use-Pty=0", "-o", "Dir::Etc::SourceList=/dev/null", "-o", "Dir::Etc::SourceParts=/dev/null"]
    noninteractive = {"env": {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}}
    with started(new_box((old, "/packages/old.deb"), (new, "/packages/new.deb"))) as box:
        box.write(f"/etc/systemd/system/{UNIT}", "")
        refused = box.call(*apt, "install", "/packages/old.deb", **noninteractive)
        assert refused.returncode
        assert "first run deploy/install --uninstall" in refused.stderr
        box.do("rm", f"/etc/systemd/system/{UNIT}")
        said = box.do(*apt, "install", "/packages/old.deb", **noninteractive)
        assert "mailprobe is not started: /etc/mailprobe/mailprobe.toml is still the example" in said
        assert box.show(UNIT, "ActiveState", "UnitFileState") == {
            "ActiveState": "inactive",
            "UnitFileState": "disabled",
        }

        service = Service(box, bed, fresh_user(), fresh_user())
        service.configure(service.route("r"))
        box.do("systemctl", "enable", "--now", UNIT)
        service.until(lambda: service.metric("mailprobe_delivery_latency_seconds_count") >= 2, "mail is measured")
        key, pid = box.do("sha256sum", "/var/lib/private/mailprobe/key"), service.show("MainPID")
        config = box.do("cat", "/etc/mailprobe/mailprobe.toml")

        box.do(*apt, "install", "/packages/new.deb", **noninteractive)
        assert box.do("dpkg-query", "-W", "-f", "${Version}", "mailprobe").startswith("9.")
        assert service.show("ActiveState") == "active"
        assert service.show("MainPID") != pid, "it runs what was installed"
        assert box.do("sha256sum", "/var/lib/private/mailprobe/key") == key
        assert box.do("cat", "/etc/mailprobe/mailprobe.toml") == config
        assert service.metric("mailprobe_ledger_sent_probes") >= 2

        box.do(*apt, "remove", "mailprobe", **noninteractive)
        assert service.show("LoadState") == "not-found"
        box.do("ls", "/etc/mailprobe/mailprobe.toml", "/var/lib/private/mailprobe/ledger.sqlite")
        box.do(*apt, "purge", "mailprobe", **noninteractive)
        left = ["/etc/mailprobe", "/opt/mailprobe", "/var/lib/private/mailprobe", "/var/lib/mailprobe"]
        assert box.call("ls", "-d", *left).stdout == ""
