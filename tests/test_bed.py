"""The bed itself is real: what it says about a mail is true, and its faults are faults."""

from __future__ import annotations

import contextlib
import imaplib
import json
import os
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from email.message import EmailMessage
from email.utils import make_msgid
from pathlib import Path

import pytest

from .bed.dovecot import Dovecot
from .bed.mailbed import MailBed, address
from .bed.netfault import FaultProxy, dropped, frozen, why_not_dropped
from .bed.pki import Certificate
from .bed.prometheus import Prometheus
from .bed.service import HOST, BedError, PortBlock, children, port_open, wait_until

FreshUser = Callable[[], str]


def send(bed: MailBed, user: str, port: str = "submission", subject: str = "a probe") -> str:
    """Submit one mail from user to user; returns its Message-ID."""
    mail = EmailMessage()
    mail["From"] = mail["To"] = address(user)
    mail["Subject"] = subject
    mail["Message-ID"] = message_id = make_msgid(domain="bed.test")
    mail.set_content("hello")
    tls = bed.pki.client_context()
    implicit = port == "submissions"
    with (
        smtplib.SMTP_SSL(HOST, bed.ports[port], context=tls)
        if implicit
        else smtplib.SMTP(HOST, bed.ports[port]) as smtp
    ):
        if not implicit:
            smtp.starttls(context=tls)
        smtp.login(address(user), bed.password)
        smtp.send_message(mail)
    return message_id


def alive(pid: int) -> bool:
    """Whether it runs; a zombie that its new parent has yet to reap does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def banner(port: int, context: ssl.SSLContext) -> bytes:
    with socket.create_connection((HOST, port), 5) as tcp, context.wrap_socket(tcp, server_hostname=HOST) as tls:
        return tls.recv(100)


@pytest.mark.parametrize("port", ["submission", "submissions"])
def test_a_submitted_mail_is_saved_and_its_true_instants_are_in_order(
    bed: MailBed, fresh_user: FreshUser, port: str
) -> None:
    user, before = fresh_user(), time.time()
    message_id = send(bed, user, port)
    truth = bed.truth(message_id)
    assert before <= truth.start <= truth.end <= time.time()
    (saved,) = [event for event in bed.dovecot.events("save") if event.message_id == message_id]
    assert (saved.user, saved.box) == (user, "INBOX")
    (sent,) = wait_until(lambda: [d for d in bed.postfix.deliveries() if d.message_id == message_id])
    assert (sent.status, sent.to, sent.arrived) == ("sent", address(user), truth.start)


def test_a_mail_that_says_spam_is_saved_in_junk(bed: MailBed, fresh_user: FreshUser) -> None:
    message_id = send(bed, fresh_user(), subject="[spam] a probe")
    bed.truth(message_id)
    assert [event.box for event in bed.dovecot.events("save") if event.message_id == message_id] == ["Junk"]


def test_a_wrong_password_and_a_foreign_recipient_are_refused(bed: MailBed, fresh_user: FreshUser) -> None:
    with smtplib.SMTP_SSL(HOST, bed.ports["submissions"], context=bed.pki.client_context()) as smtp:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login(fresh_user(), "wrong")
        with pytest.raises(smtplib.SMTPRecipientsRefused):  # not logged in: nothing is relayed
            smtp.sendmail("a@bed.test", ["a@elsewhere.test"], "hello")


def test_a_held_mail_is_saved_only_after_its_release(bed: MailBed, fresh_user: FreshUser) -> None:
    with bed.postfix.holding():
        message_id = send(bed, fresh_user())
        queue_id = wait_until(lambda: bed.postfix.queue_ids().get(message_id))
        assert [mail["queue_id"] for mail in bed.postfix.queue("hold")] == [queue_id]
        with pytest.raises(TimeoutError):
            bed.truth(message_id, timeout=0.3)
        released = time.time()
    assert bed.truth(message_id).end >= released
    assert not bed.postfix.queue("hold")


def test_an_expunge_is_in_the_log(bed: MailBed, fresh_user: FreshUser) -> None:
    user = fresh_user()
    message_id = send(bed, user)
    bed.truth(message_id)
    with imaplib.IMAP4_SSL(HOST, bed.ports["imaps"], ssl_context=bed.pki.client_context()) as imap:
        imap.login(user, bed.password)
        imap.select()
        imap.store("1", "+FLAGS", r"\Deleted")
        imap.expunge()
    expunged = wait_until(lambda: [e for e in bed.dovecot.events("expunge") if e.user == user])
    assert [(e.message_id, e.uid) for e in expunged] == [(message_id, 1)]


def test_a_hundred_mailboxes_are_watched_and_served_at_once(bed: MailBed, fresh_user: FreshUser) -> None:
    users = [fresh_user() for _ in range(100)]
    tls = bed.pki.client_context()
    clients = [imaplib.IMAP4_SSL(HOST, bed.ports["imaps"], ssl_context=tls) for _ in users]
    for client, user in zip(clients, users, strict=True):
        client.login(user, bed.password)
        assert client.select()[0] == "OK"
    message_ids = [send(bed, user) for user in users[:20]]
    assert all(bed.truth(message_id) for message_id in message_ids)
    for client in clients:
        client.logout()


@pytest.mark.parametrize("kind", ["valid", "expired", "wrong_name"])
def test_only_the_valid_certificate_verifies(bed: MailBed, tmp_path_factory: pytest.TempPathFactory, kind: str) -> None:
    certificate: Certificate = getattr(bed.pki, kind)()
    with Dovecot(bed.root / f"dovecot-{kind}", certificate) as dovecot:
        context = bed.pki.client_context()
        if kind == "valid":
            assert banner(dovecot.ports["imaps"], context).startswith(b"* OK")
            return
        with pytest.raises(ssl.SSLCertVerificationError) as error:
            banner(dovecot.ports["imaps"], context)
        assert {"expired": "expired", "wrong_name": "IP address mismatch"}[kind] in str(error.value)


def test_a_chain_of_two_hops_adds_a_received_line_each(bed: MailBed, fresh_user: FreshUser) -> None:
    user = fresh_user()
    with MailBed(bed.root / "chain", hostnames=("out.bed.test", "mx.bed.test")) as chain:
        message_id = send(chain, user)
        assert chain.truth(message_id).start <= chain.truth(message_id).end
        assert all(message_id in hop.queue_ids() for hop in chain.hops)


def test_prometheus_scrapes_itself(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(json.dumps({"groups": [{"name": "g", "rules": [{"record": "two", "expr": "1 + 1"}]}]}))
    prometheus = Prometheus(tmp_path / "prometheus", rules=[rules])
    prometheus.targets["self"] = [prometheus.address]
    with prometheus:
        ((labels, value),) = wait_until(lambda: prometheus.query("up == 1"))
        assert (labels["job"], value) == ("self", 1.0)
        assert wait_until(lambda: prometheus.query("two"))[0][1] == 2.0


def test_a_frozen_server_accepts_and_says_nothing_until_it_is_thawed(bed: MailBed) -> None:
    with socket.socket() as client:
        client.settimeout(0.3)
        with frozen(bed.dovecot.pid):
            client.connect((HOST, bed.ports["imap"]))
            with pytest.raises(TimeoutError):
                client.recv(1)
        client.settimeout(5)
        assert client.recv(4) == b"* OK"


def test_the_proxy_delays_stalls_cuts_and_refuses(bed: MailBed) -> None:
    def connect() -> socket.socket:
        return socket.create_connection((HOST, proxy.port), 5)

    with FaultProxy(bed.ports["imap"]) as proxy:
        proxy.delay = 0.2
        with connect() as client:
            began = time.monotonic()
            greeting = client.recv(1000)
            assert greeting.startswith(b"* OK")
            assert time.monotonic() - began >= 0.2
            proxy.delay, proxy.stalled = 0.0, True
            client.sendall(b"a NOOP\r\n")
            client.settimeout(0.3)
            with pytest.raises(TimeoutError):
                client.recv(1)
            client.settimeout(5)
            proxy.stalled = False
            assert client.recv(1000).startswith(b"a ")
            proxy.cut()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        proxy.limit = len(greeting) + 3
        with connect() as client:
            assert client.recv(len(greeting), socket.MSG_WAITALL) == greeting
            client.sendall(b"a NOOP\r\n")
            assert client.recv(3, socket.MSG_WAITALL) == b"a O"
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        proxy.refuse = True
        with pytest.raises(ConnectionResetError), connect() as client:
            client.recv(1)


@pytest.mark.skipif(bool(why_not_dropped()), reason=why_not_dropped())
def test_packets_are_lost_for_one_port_until_the_block_or_its_process_ends(bed: MailBed) -> None:
    port, other = bed.ports["imap"], bed.ports["submission"]

    def greeted() -> bool:
        with contextlib.suppress(TimeoutError), socket.create_connection((HOST, port), 0.3) as client:
            return client.recv(100).startswith(b"* OK")
        return False

    assert greeted()
    for direction in "to", "from", "both":
        with dropped(port, direction):  # type: ignore[arg-type]
            assert not greeted()
            assert port_open(other)
        assert greeted()
    code = f"from tests.bed.netfault import dropped\nwith dropped({port}): print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout
        assert owner.stdout.readline()
        assert not greeted()
        owner.kill()
    wait_until(greeted, what="packets again")


def test_a_stopped_server_comes_back_on_its_port_with_its_mail(bed: MailBed, fresh_user: FreshUser) -> None:
    message_id = send(bed, fresh_user())
    bed.truth(message_id)
    bed.dovecot.stop()
    assert not port_open(bed.ports["imap"])
    bed.dovecot.start()
    assert bed.truth(message_id)
    # A waiting smtpd keeps its connection to the Dovecot that was: the next log-in through it would be refused (454).
    bed.postfix.stop()
    bed.postfix.start()


def test_no_two_blocks_of_ports_overlap() -> None:
    blocks = [PortBlock() for _ in range(20)]
    assert len({block.base for block in blocks}) == 20
    for block in blocks:
        block.close()


def test_the_servers_end_when_their_owner_is_killed(bed: MailBed) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-m", "tests.bed", str(bed.root / "orphan")], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout
    try:
        assert "ready in" in owner.stdout.readline()
        ports = json.loads(owner.stdout.readline().removeprefix("# ports ").replace("'", '"'))
        config = tomllib.loads((bed.root / "orphan" / "mailprobe.toml").read_text())
        assert config["accounts"]["alice"]["imap"]["port"] == ports["imaps"]
        servers = [pid for child in children(owner.pid) for pid in (child, *children(child))]
        assert len(servers) > 4
        os.kill(servers[0], signal.SIGSTOP)  # frozen ones too
        owner.kill()
        wait_until(lambda: not any(map(alive, servers)))
        assert not any(map(port_open, ports.values()))
    finally:
        owner.kill()
        owner.communicate()


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(bed: MailBed) -> None:
    dovecot = Dovecot(bed.root / "broken", bed.pki.valid(), extra="no_such_setting = yes")
    with pytest.raises(BedError, match="no_such_setting"), dovecot:
        pass
    assert not dovecot.running
