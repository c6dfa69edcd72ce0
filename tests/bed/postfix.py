"""Postfix: submission for every user of the bed, a queue that can be held, and the true instant a mail came in.

Rule: no mail leaves the bed (an address outside of bed.test bounces at the last hop), and nothing is throttled but
what a test throttles. Needs root. Reads nothing of /etc/postfix but the package's own tables (postfix-files).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .pki import Authority
from .service import HOST, Service, children, run_tool, wait_until

DOMAIN = "bed.test"

# anvil's limits are off (0) and in_flow_delay too: a burst from 127.0.0.1 is what tests do.
# Backoff of seconds: a deferred or greylisted mail costs seconds, not minutes.
_MAIN = """\
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
maillog_file = {root}/log
maillog_file_prefixes = {root}
# The ground truth: long ids carry the arrival to the microsecond.
enable_long_queue_ids = {long_ids}

myhostname = {hostname}
myorigin = {domain}
mydestination =
inet_interfaces = {host}
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
biff = no
append_dot_mydomain = no
smtp_tls_security_level = may
smtp_tls_CAfile = {ca}
smtpd_tls_security_level = may
smtpd_tls_cert_file = {certificate.chain}
smtpd_tls_key_file = {certificate.key}
smtpd_tls_auth_only = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:{host}:{sasl}
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination

default_process_limit = 200
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_client_message_rate_limit = 0
smtpd_client_recipient_rate_limit = 0
smtpd_client_new_tls_session_rate_limit = 0
smtpd_client_auth_rate_limit = 0
smtpd_error_sleep_time = 0
in_flow_delay = 0
initial_destination_concurrency = 20
lmtp_destination_concurrency_limit = 40

minimal_backoff_time = 2s
maximal_backoff_time = 4s
queue_run_delay = 2s
{routing}
{extra}
"""

_MASTER = """\
{host}:{smtp}        inet  n - n - - smtpd
{host}:{submission}  inet  n - n - - smtpd
  -o syslog_name=postfix/submission
  -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
{host}:{submissions} inet  n - n - - smtpd
  -o syslog_name=postfix/submissions
  -o smtpd_tls_wrappermode=yes
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
smtp      unix  - - n - - smtp
lmtp      unix  - - n - - lmtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""

_MESSAGE_ID = re.compile(r"/cleanup\[\d+\]: (\w+): message-id=(\S+)")
_ATTEMPT = re.compile(r": (\w+): to=<(.*?)>, .*delay=([\d.]+), delays=\S+, dsn=([\d.]+), status=(\w+)")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt, as the log has it. `arrived`: Unix time, to the microsecond; `delay`: seconds since, 2 digits."""

    queue_id: str
    message_id: str | None  # with its angle brackets
    to: str
    arrived: float
    delay: float
    dsn: str
    status: str  # sent, deferred, bounced


class Postfix(Service):
    """lmtp_port: deliver bed.test there (the last hop); relay_port: or pass everything on to the hop there.

    sasl_port: the Dovecot that knows the passwords (the first hop). domains: what the last hop delivers. long_ids: no:
    ids are short, and say of the arrival only the fraction of its second. `extra`: more lines for main.cf.
    """

    port_names = ("submission", "submissions", "smtp")

    def __init__(
        self, root: Path, pki: Authority, *, hostname: str = "mx.bed.test", lmtp_port: int | None = None,
        relay_port: int | None = None, sasl_port: int | None = None, domains: str = DOMAIN, long_ids: bool = True,
        extra: str = "",
    ) -> None:  # fmt: skip
        super().__init__(root)
        self.pki, self.hostname, self.extra = pki, hostname, extra
        self.lmtp_port, self.relay_port, self.sasl_port = lmtp_port, relay_port, sasl_port
        self.domains, self.long_ids = domains, long_ids
        self._conf = self.root / "conf"
        self.env = {"MAIL_CONFIG": str(self._conf), "TZ": "UTC"}

    def configure(self) -> None:
        routing = f"relayhost = [{HOST}]:{self.relay_port}"
        if self.lmtp_port:
            routing = (
                f"virtual_mailbox_domains = {self.domains}\nvirtual_mailbox_maps = static:all\n"
                f"virtual_transport = lmtp:inet:{HOST}:{self.lmtp_port}\n"
                "default_transport = error:5.1.2 the test bed ends here"
            )
        for folder in (self._conf, self.root / "queue", self.root / "data"):
            folder.mkdir(exist_ok=True)
        shutil.chown(self.root / "data", "postfix")
        (self._conf / "main.cf").write_text(_MAIN.format(
            root=self.root, host=HOST, hostname=self.hostname, domain=DOMAIN, ca=self.pki.ca,
            certificate=self.pki.valid(self.hostname), sasl=self.sasl_port or 0, routing=routing,
            long_ids="yes" if self.long_ids else "no", extra=self.extra,
        ))  # fmt: skip
        (self._conf / "master.cf").write_text(_MASTER.format(host=HOST, **self.ports))
        self._age_main_cf()
        if not (self.root / "queue/incoming").exists():
            # Makes the queue's directories. Not again: in a queue that holds a file of a cleanup that was killed, it
            # wants to log a warning, which it may not as the user `postfix`, and fails.
            self.run("postfix", "check")

    def command(self) -> list[str]:
        # Not "postfix start-fg": its shell dies of our signal and leaves master behind.
        return ["/usr/lib/postfix/sbin/master", "-s"]

    def _age_main_cf(self) -> None:
        """Postfix sleeps until main.cf is two seconds old: make it old now."""
        long_ago = time.time() - 60
        os.utime(self._conf / "main.cf", (long_ago, long_ago))

    # -- making delays ---------------------------------------------------------------------------------------------
    def run(self, name: str, *arguments: str) -> str:
        """A command of this instance (postsuper, postqueue, postconf, ...); returns what it printed."""
        return run_tool(name, "-c", self._conf, *arguments, env=self.env)

    def set(self, **parameters: str) -> None:
        """Change main.cf; returns when every idle process of the old configuration has gone.

        E.g. defer_transports="lmtp" (wait in the queue), lmtp_destination_rate_delay="3s" (one mail in 3 s),
        smtpd_end_of_data_restrictions="sleep 2" (a slow 250), transport_maps="inline:{ {x@bed.test=error:5.1.1 no} }".
        A client that is connected keeps its smtpd, and with it the old configuration.
        """
        self.run("postconf", *(f"{name}={value}" for name, value in parameters.items()))
        self._age_main_cf()
        old = set(children(self.pid))
        self.run("postfix", "reload")
        with contextlib.suppress(TimeoutError):  # somebody is connected: see above
            wait_until(lambda: old.isdisjoint(children(self.pid)), 1.0)

    def hold_new(self, on: bool = True) -> None:
        """Put each new mail on hold from now on (or no more); release() lets it go."""
        self.set(smtpd_end_of_data_restrictions="check_sender_access static:HOLD" if on else "")

    def release(self, queue_id: str = "ALL") -> None:
        """Let a held mail go, or all of them; at once."""
        self.run("postsuper", "-H", queue_id)
        self.flush()

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Mails that come in meanwhile are held until the end of the block."""
        self.hold_new()
        try:
            yield
        finally:
            self.hold_new(False)
            self.release()

    def flush(self) -> None:
        """Try everything in the queue now."""
        self.run("postqueue", "-f")

    # -- ground truth ----------------------------------------------------------------------------------------------
    def queue(self, name: str | None = None) -> list[dict[str, object]]:
        """What waits, as `postqueue -j` says it; name: only in this queue (hold, deferred, active, incoming)."""
        entries = map(json.loads, self.run("postqueue", "-j").splitlines())
        return [entry for entry in entries if name in (None, entry["queue_name"])]

    def queue_ids(self) -> dict[str, str]:
        """{message id with its angle brackets: queue id} of all mails that came in here."""
        return {found[2]: found[1] for line in self._log.all() if (found := _MESSAGE_ID.search(line))}

    def deliveries(self) -> list[Delivery]:
        """Every attempt so far, in the log's order."""
        message_ids = {queue_id: message_id for message_id, queue_id in self.queue_ids().items()}
        return [
            Delivery(found[1], message_ids.get(found[1]), found[2], arrival_time(found[1]), float(found[3]),
                     found[4], found[5])
            for line in self._log.all() if (found := _ATTEMPT.search(line))
        ]  # fmt: skip


_DIGITS = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"


def arrival_time(queue_id: str) -> float:
    """Unix time to the microsecond of a long queue id: SECONDS, 4 digits of MICROSECONDS, z, INODE; in base 52."""
    stamp = queue_id.rpartition("z")[0]
    return _base52(stamp[:-4]) + _base52(stamp[-4:]) / 1e6


def _base52(text: str) -> int:
    value = 0
    for digit in text:
        value = value * 52 + _DIGITS.index(digit)
    return value
