"""Doing what the plan says to servers and wires, and remembering when it was done."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..bed.mailbed import MailBed
from ..bed.netfault import FaultProxy, dropped, frozen
from ..bed.service import Service
from .plan import Fault


@dataclass(frozen=True, slots=True)
class Window:
    """A fault as it really was; Unix times in seconds."""

    fault: Fault
    begin: float
    end: float


@dataclass
class Faults:
    """What can be done to a bed whose submissions and IMAP go through these proxies."""

    bed: MailBed
    smtp: FaultProxy
    imap: FaultProxy
    windows: list[Window] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    stop: threading.Event = field(default_factory=threading.Event)

    def follow(self, track: Sequence[Fault], began: float) -> None:
        """Do these one after the other, at their instants after `began` (monotonic), until told to stop."""
        for fault in track:
            if self.stop.wait(max(0.0, began + fault.at - time.monotonic())):
                return
            begin = time.time()
            with self._doing(fault):
                self.stop.wait(fault.seconds)
            self.windows.append(Window(fault, begin, time.time()))
            self.done[f"{fault.target} {fault.kind}"] += 1

    def met(self, begin: float, end: float, *targets: str) -> list[Window]:
        """The faults (of these targets, or all) that overlap these Unix times."""
        return [
            w for w in self.windows if w.begin <= end and w.end >= begin and (not targets or w.fault.target in targets)
        ]

    def _doing(self, fault: Fault) -> contextlib.AbstractContextManager[None]:
        servers: dict[str, Service] = {"postfix": self.bed.postfix, "dovecot": self.bed.dovecot}
        if server := servers.get(fault.target):
            return frozen(server.pid) if fault.kind == "frozen" else _down(server)
        proxies = {"smtp": self.smtp, "imap": self.imap}
        if fault.kind == "dropped":
            proxy = proxies.get(fault.target)
            return dropped(proxy.port if proxy else self.bed.ports["lmtp"])
        return _proxied(proxies[fault.target], fault)


@contextlib.contextmanager
def _down(server: Service) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextlib.contextmanager
def _proxied(proxy: FaultProxy, fault: Fault) -> Iterator[None]:
    """cut: once, and again at the end; refused: and what is open is cut; limited: new connections live that long;
    stalled: everything comes late; swallowed: and then never, so that a 250 is lost that the server gave."""
    silent = fault.kind in {"stalled", "swallowed"}
    proxy.refuse = fault.kind == "refused"
    proxy.limit = fault.limit or None
    if silent:
        proxy.stalled = True
    else:
        proxy.cut()
    try:
        yield
    finally:
        proxy.refuse, proxy.limit = False, None
        if fault.kind != "stalled":
            proxy.cut()
        if silent:
            proxy.stalled = False
