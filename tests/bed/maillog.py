"""Stands in for Postfix's postlogd: the instant of each line is the kernel's, taken as the line was said.

Rule: what a server's own clock says of a line is only text. Postfix stamps in whole seconds, and a relay of ours may
have a wrong clock; the kernel stamps to the nanosecond, and however late we read.
"""

from __future__ import annotations

import socket
import struct
import threading
from pathlib import Path

_SO_TIMESTAMPNS = 35  # include/uapi/asm-generic/socket.h; Python does not name it
_LONGEST = 65536  # octets of a line


class StampedLog:
    """Appends to `path` what is said to the socket `listen()` makes, a line each, after its instant: Unix time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def listen(self, address: Path) -> None:
        """Make the socket, or none when there is one."""
        if self._socket:
            return
        address.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.bind(str(address))
        address.chmod(0o666)
        self._thread = threading.Thread(target=self._read, args=(self._socket,), daemon=True)
        self._thread.start()

    def _read(self, listener: socket.socket) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            while True:
                line, [(_, _, stamp)], _, _ = listener.recvmsg(_LONGEST, 128)
                if not line:
                    return
                seconds, nanoseconds = struct.unpack("qq", stamp)
                text = line.decode(errors="replace").strip()
                file.write(f"{seconds}.{nanoseconds // 1000:06} {text}\n")
                file.flush()

    def close(self) -> None:
        """Take no more lines."""
        if self._socket and self._thread:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                last.sendto(b"", self._socket.getsockname())
            self._thread.join()
            self._socket.close()
            self._socket = self._thread = None
