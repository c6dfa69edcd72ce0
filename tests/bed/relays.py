"""A mail's way through three hosts of three owners: each has its name, its clock, its log, and keeps mail on request.

Rule: the truth is by this machine's clock alone. A relay's own clock may be wrong: nothing is read from its stamps.

    mail.sender.example -> relay.between.example -> mx.recipient.example -> imap.recipient.example
    takes submissions                               has long queue ids      is Dovecot, its clock is right

Each host adds one Received field. Whoever sends as anybody@sender.example and receives as anybody@recipient.example
(or, as everywhere in the bed, @bed.test) has the password of the bed.
"""

from __future__ import annotations

import contextlib
import re
import socketserver
import sysconfig
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from . import mailbed
from .mailbed import MailBed
from .maillog import StampedLog
from .postfix import DOMAIN, Postfix
from .service import wait_until

SENDER_DOMAIN, RECIPIENT_DOMAIN = "sender.example", "recipient.example"
HOSTS = (f"mail.{SENDER_DOMAIN}", "relay.between.example", f"mx.{RECIPIENT_DOMAIN}")
STORE = f"imap.{RECIPIENT_DOMAIN}"

_FAKETIME = Path("/usr/lib", sysconfig.get_config_var("MULTIARCH") or "", "faketime/libfaketime.so.1")
# master(8) hands down no other variable. FAKETIME_SHARED is of the library's own making: with it the whole tree has
# one piece of shared memory, named after master, instead of one per process.
_EXTRA = """\
import_environment = MAIL_CONFIG MAIL_LOGTAG TZ LD_PRELOAD FAKETIME_TIMESTAMP_FILE FAKETIME_NO_CACHE
    FAKETIME_DONT_FAKE_MONOTONIC FAKETIME_SHARED
smtpd_data_restrictions = check_policy_service unix:private/hold
"""
_CLIENT = re.compile(r"^([\d.]+) .*smtpd\[\d+\]: (\w+): client=")
_SENT = re.compile(r"^([\d.]+) .*: (\w+): to=<.*, status=sent ")


def what_is_missing() -> str:
    """One line that says what to do before the chain can start here; empty when it can."""
    if not _FAKETIME.exists():
        return (
            "relays with clocks of their own need Debian packages: apt-get install --no-install-recommends libfaketime"
        )
    return mailbed.what_is_missing()


class Stay(NamedTuple):
    """A mail at one relay; Unix times in seconds, to the microsecond, by this machine's wall clock.

    The stamp of its Received field was taken at MAIL FROM, so it is that of a moment before `received`.
    """

    host: str
    queue_id: str  # as in the relay's Received field
    received: float  # at RCPT TO: its queue file was open, its content yet to come
    sent: float  # the next one's 250 to the final dot was read

    @property
    def seconds(self) -> float:
        """How long it was there."""
        return self.sent - self.received


class Way(NamedTuple):
    """A mail's whole way; `end`: Dovecot saved it, as in mailbed.Truth."""

    stays: tuple[Stay, ...]
    end: float

    @property
    def start(self) -> float:
        return self.stays[0].received


class Relay(Postfix):
    """clock: seconds by which its clock is ahead of this machine's; None: it has this machine's, for good."""

    def __init__(self, *arguments: Any, clock: float | None = None, **more: Any) -> None:
        super().__init__(*arguments, extra=_EXTRA, **more)
        self.clock = clock
        self._stamped = StampedLog(self.root / "log")
        self._keeper: _Keeper | None = None
        self._holds: dict[str | None, float] = {}
        self._releases: list[threading.Timer] = []

    def configure(self) -> None:
        super().configure()
        if self.clock is not None:
            self.set_clock(self.clock)
        master = self._conf / "master.cf"
        master.write_text(re.sub(r"(?m)^postlog .*\n", "", master.read_text()))
        self._stamped.listen(self.root / "queue/public/postlog")
        if self._keeper is None:
            self._keeper = _Keeper(self.root / "queue/private/hold", self._ask)

    def command(self) -> list[str]:
        # Only the daemons: a tool such as postsuper changes its uid first, and could not open what root has made.
        faked = [
            f"LD_PRELOAD={_FAKETIME}", f"FAKETIME_TIMESTAMP_FILE={self.root}/clock", "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        ]  # fmt: skip
        return [*([] if self.clock is None else ["env", *faked]), *super().command()]

    def set_clock(self, seconds: float) -> None:
        """Let its clock be ahead by so much from now on; only of a relay that was given a clock."""
        self.clock = seconds
        new = self.root / "clock.new"
        new.write_text(f"{seconds:+.6f}s\n")
        new.replace(self.root / "clock")

    def stop(self, kill: bool = False) -> None:
        """As any Service; and then what libfaketime leaves behind when it is killed."""
        pid = self._process and self._process.pid
        super().stop(kill)
        for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
            Path("/dev/shm", name).unlink(missing_ok=True)

    def close(self) -> None:
        for release in self._releases:
            release.cancel()
        for release in self._releases:
            release.join()
        super().close()
        self._stamped.close()
        if self._keeper:
            self._keeper.close()

    def hold(self, seconds: float, sender: str | None = None) -> None:
        """Keep each mail that comes from now on in the queue for so long, and then let it go; 0: no more.

        sender: only mail from this address. Needs no reload: whoever is connected is concerned, too.
        """
        self._holds[sender] = seconds

    def _ask(self, sender: str, queue_id: str) -> bool:
        seconds = self._holds.get(sender, self._holds.get(None, 0.0))
        if seconds:
            self._releases.append(threading.Timer(seconds, self._let_go, [queue_id]))
            self._releases[-1].start()
        return bool(seconds)

    def _let_go(self, queue_id: str) -> None:
        wait_until((self.root / "queue/hold" / queue_id).exists, what=f"{queue_id} on hold")
        self.release(queue_id)

    def stay(self, message_id: str) -> Stay | None:
        """Of the mail with this Message-ID (with its angle brackets); None until it was passed on."""
        queue_id = self.queue_ids().get(message_id)
        lines = self._log.all()
        received, sent = (
            [float(found[1]) for line in lines if (found := pattern.match(line)) and found[2] == queue_id]
            for pattern in (_CLIENT, _SENT)
        )
        return Stay(self.hostname, queue_id, received[0], sent[-1]) if queue_id and received and sent else None


class _Keeper(socketserver.ThreadingUnixStreamServer):
    """Tells smtpd at each DATA whether the mail goes on hold: Postfix's SMTPD_POLICY_README."""

    daemon_threads, block_on_close = True, False  # smtpd keeps its connection until it ends

    def __init__(self, address: Path, ask: Callable[[str, str], bool]) -> None:
        """ask: from (sender, queue id) to whether it goes on hold."""
        address.unlink(missing_ok=True)
        super().__init__(str(address), _Question)
        address.chmod(0o666)
        self.ask = ask
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Question(socketserver.StreamRequestHandler):
    server: _Keeper

    def handle(self) -> None:
        said: dict[str, str] = {}
        with contextlib.suppress(ConnectionError):
            for line in self.rfile:
                name, _, value = line.decode().strip().partition("=")
                said[name] = value
                if not name:
                    hold = self.server.ask(said["sender"], said["queue_id"])
                    self.wfile.write(b"action=HOLD\n\n" if hold else b"action=DUNNO\n\n")


class Relays(MailBed):
    """The chain. clocks: seconds by which the clock of a host (one of HOSTS) is ahead; the others' are right."""

    store = STORE
    hops: list[Relay]  # type: ignore[assignment]  # nobody puts another into the list

    def __init__(self, root: Path, clocks: Mapping[str, float]) -> None:
        self._clocks = clocks
        super().__init__(root, HOSTS)

    def _hop(self, hostname: str, **ports: int | None) -> Postfix:
        return Relay(
            self.root / hostname, self.pki, hostname=hostname, clock=self._clocks.get(hostname),
            domains=f"{DOMAIN} {SENDER_DOMAIN} {RECIPIENT_DOMAIN}", long_ids=hostname == HOSTS[-1], **ports,
        )  # fmt: skip

    def truth(self, message_id: str, timeout: float = 10.0) -> Way:  # type: ignore[override]  # has all that Truth has
        """The way of the mail with this Message-ID (with its angle brackets); waits until it has come to its end.

        Blocks: from async code, use to_thread. Raises TimeoutError after `timeout` seconds.
        """

        def look() -> Way | None:
            saved = [event.at for event in self.dovecot.events("save") if event.message_id == message_id]
            stays = [stay for hop in self.hops if (stay := hop.stay(message_id))]
            return Way(tuple(stays), saved[0]) if saved and len(stays) == len(self.hops) else None

        return wait_until(look, timeout, f"{message_id} saved")  # type: ignore[return-value]  # true, so not None

    def mails(self, user: str) -> list[bytes]:
        """What lies in this user's INBOX, to the octet, in no order. Not while somebody opens it: then it is moved."""
        inbox = self.dovecot.root / "mail" / user / "Maildir"
        return [path.read_bytes() for path in (*inbox.glob("new/*"), *inbox.glob("cur/*"))]
