"""A whole provider: submission -> Postfix (or a chain of them) -> LMTP -> Dovecot -> IMAP.

Rule: a bed has as many users as names are thought of, all with the password "secret"; a test uses names of its own
(fresh_user), so that tests run in any order. Whoever changes Postfix's ways (hold, set) changes them back.
"""

from __future__ import annotations

import imaplib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from .dovecot import PASSWORD, Dovecot
from .pki import Authority, Certificate
from .postfix import DOMAIN, Postfix, arrival_time
from .service import HOST, wait_until

_PACKAGES = {
    "/usr/lib/postfix/sbin/master": "postfix",
    "/usr/sbin/dovecot": "dovecot-core",
    "/usr/lib/dovecot/imap": "dovecot-imapd",
    "/usr/lib/dovecot/lmtp": "dovecot-lmtpd",
    "/usr/bin/sievec": "dovecot-sieve",
    "/usr/bin/openssl": "openssl",
    "/usr/sbin/nft": "nftables",
    "/usr/bin/prometheus": "prometheus",
    "/usr/bin/prometheus-alertmanager": "prometheus-alertmanager",
}


def what_is_missing() -> str:
    """One line that says what to do before a bed can start here; empty when it can."""
    if packages := sorted({package for path, package in _PACKAGES.items() if not Path(path).exists()}):
        return f"the mail bed needs Debian packages: apt-get install --no-install-recommends {' '.join(packages)}"
    return "" if os.getuid() == 0 else "the mail bed needs root (Postfix does): run the tests as root"


def fresh_user() -> str:
    """A local part that nobody has used before."""
    return f"u{secrets.token_hex(6)}"


def address(user: str) -> str:
    return f"{user}@{DOMAIN}"


class Truth(NamedTuple):
    """The servers' own instants of one mail: Unix time in seconds, to the microsecond, this machine's wall clock."""

    start: float  # the first hop opened its queue file: before its 250 to the final dot
    end: float  # Dovecot saved it: before an IMAP client can see it


class MailBed:
    """hostnames: one Postfix each; the first takes submissions, the last delivers to Dovecot.

    imap_certificate: a faulty one of `pki` instead of the valid one. After start() the ports are in `ports`.
    """

    host = HOST
    password = PASSWORD
    store = "mx.bed.test"  # by which Dovecot says it received

    def __init__(
        self, root: Path, hostnames: tuple[str, ...] = ("mx.bed.test",), imap_certificate: Certificate | None = None
    ) -> None:
        self.root = root.resolve()
        self.pki = Authority(self.root / "pki")
        self.dovecot = Dovecot(self.root / "dovecot", imap_certificate or self.pki.valid(), hostname=self.store)
        self.hops: list[Postfix] = []
        for hostname in reversed(hostnames):  # each must know the port of the next
            after = self.hops[0].ports["smtp"] if self.hops else None
            self.hops.insert(0, self._hop(
                hostname, relay_port=after, lmtp_port=None if after else self.dovecot.ports["lmtp"],
                sasl_port=self.dovecot.ports["sasl"],
            ))  # fmt: skip

    def _hop(self, hostname: str, **ports: int | None) -> Postfix:
        return Postfix(self.root / hostname, self.pki, hostname=hostname, **ports)

    @property
    def postfix(self) -> Postfix:
        """The hop that takes submissions."""
        return self.hops[0]

    @property
    def ports(self) -> dict[str, int]:
        """imap (STARTTLS), imaps, submission (STARTTLS), submissions; and lmtp, sasl, smtp."""
        return self.dovecot.ports | self.postfix.ports

    def start(self) -> Self:
        """Start every server; all or none."""
        try:
            for service in (self.dovecot, *reversed(self.hops)):
                service.start()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Kill every server and give the ports back, for good; the directory stays."""
        for service in (*self.hops, self.dovecot):
            service.close()

    def wipe(self) -> None:
        """Close and delete the directory."""
        self.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def truth(self, message_id: str, timeout: float = 10.0) -> Truth:
        """When the mail with this Message-ID (with its angle brackets) came in and was saved; waits until it is.

        Blocks: from async code, use to_thread. Raises TimeoutError after `timeout` seconds.
        """

        def look() -> Truth | None:
            saved = [event.at for event in self.dovecot.events("save") if event.message_id == message_id]
            queue_id = self.postfix.queue_ids().get(message_id)
            return Truth(arrival_time(queue_id), saved[0]) if saved and queue_id else None

        return wait_until(look, timeout, f"{message_id} saved")  # type: ignore[return-value]  # true, so not None

    def config(self, sender: str = "alice", recipient: str = "bob") -> str:
        """A mailprobe.toml with these two users as accounts and a route each way; both ways of TLS, for both protocols.

        The password is in the file `password` of this bed's directory.
        """
        secret = self.root / "password"
        secret.write_text(self.password)
        secret.chmod(0o600)

        def server(port: str, tls: str) -> str:
            return f'{{ host = "{HOST}", port = {self.ports[port]}, tls = "{tls}", ca_file = "{self.pki.ca}" }}'

        ways = {
            sender: (server("submission", "starttls"), server("imaps", "implicit")),
            recipient: (server("submissions", "implicit"), server("imap", "starttls")),
        }
        accounts = [
            f'[accounts.{user}]\naddress = "{address(user)}"\npassword_file = "{secret}"\n'
            f"smtp = {smtp}\nimap = {imap}\n"
            for user, (smtp, imap) in ways.items()
        ]
        routes = [
            f'[routes.{a}-to-{b}]\nfrom = "{a}"\nto = "{b}"\n'
            'every = "5s"\ndeadlines = ["1s", "30s"]\nlost_after = "1h"\n'
            for a, b in ((sender, recipient), (recipient, sender))
        ]
        return "\n".join(accounts + routes)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()


@contextmanager
def mailbox(bed: MailBed, user: str, folder: str = "INBOX") -> Iterator[imaplib.IMAP4]:
    """Somebody's mail program, with this folder open."""
    client = imaplib.IMAP4_SSL("127.0.0.1", bed.ports["imaps"], ssl_context=bed.pki.client_context())
    try:
        client.login(address(user), bed.password)
        client.select(folder)
        yield client
    finally:
        client.logout()
