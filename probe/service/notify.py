"""Words for the service manager (sd_notify(3)): readiness, status line and watchdog, as datagrams to its socket.

Rule: nothing here can fail or wait. Without a service manager nothing is sent; a datagram that it will not take is
dropped, because the next says the same.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class Notifier:
    """`watchdog`: seconds within which WATCHDOG=1 is expected again and again; None: it is not."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        # Programs that we would start inherit the variables: only one process is meant.
        ours = environ.get("WATCHDOG_PID") in {None, "", str(os.getpid())}
        allowed = environ.get("WATCHDOG_USEC", "")
        self.watchdog = int(allowed) / 1e6 if ours and allowed.isdecimal() and int(allowed) else None
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address  # "@": the abstract namespace
        self._heard = address.startswith(("@", "/"))

    def tell(self, **words: str | int) -> None:
        """Send `WORD=value` lines as one message."""
        if not self._heard:
            return
        text = "\n".join(f"{word}={' '.join(str(value).split())}" for word, value in words.items())
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as letter:
            letter.setblocking(False)
            letter.sendto(text.encode("utf-8", "replace"), self._address)
