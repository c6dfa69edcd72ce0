"""One daemon in one directory: reserve ports, start, wait until ready, stop.

Rule: a signal goes only to what this object started, and only while the number is certainly still its own: a child
that has ended has its group signalled before it is reaped, because until then the kernel cannot give the number away.
All waiting is by time.monotonic(); every timeout is in seconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Self, TextIO, TypeVar

HOST = "127.0.0.1"
FIRST_PORT, LAST_PORT, BLOCK = 22000, 29999, 10
T = TypeVar("T")


class BedError(Exception):
    """A server of the bed did not do what it was told; the text has the end of its log."""


def wait_until(condition: Callable[[], T], timeout: float = 10.0, what: str = "condition") -> T:
    """Call condition() every 10 ms until it is true, and return its value. Blocks: from async code use to_thread.

    Raises TimeoutError after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(0.01)
    return value


def run_tool(*command: str | Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and return its standard output; raises BedError with what it complained of."""
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | dict(env or {}), check=False)
    if ended.returncode:
        raise BedError(f"{' '.join(map(str, command))}: exit status {ended.returncode}\n{ended.stderr.strip()}")
    return ended.stdout


class PortBlock:
    """Ten neighbouring loopback ports, ours until close() or the end of this process.

    Two guards, because each is blind on one eye: a lock file per block keeps other test processes away between now
    and the server's bind; the bind shows strangers, and servers that outlive the holder of the lock by a moment.
    """

    def __init__(self) -> None:
        # A directory per uid: /tmp is sticky, where root may not open another user's file for writing.
        locks = Path(tempfile.gettempdir(), f"mailbed-ports-{os.getuid()}")
        locks.mkdir(mode=0o700, exist_ok=True)
        count = (LAST_PORT + 1 - FIRST_PORT) // BLOCK
        for i in range(count):
            # Begin at a place of this process's own. Not `random`: pytest-randomly seeds every worker alike.
            base = FIRST_PORT + (os.getpid() * 7 + i) % count * BLOCK
            lock = (locks / str(base)).open("w")
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if all(_free(port) for port in range(base, base + BLOCK)):
                    self.base, self._lock = base, lock
                    return
            lock.close()
        raise BedError(f"no free block of {BLOCK} ports in {FIRST_PORT}-{LAST_PORT}")

    def close(self) -> None:
        self._lock.close()


def _free(port: int) -> bool:
    """Whether a server (which sets SO_REUSEADDR) could listen there. TIME_WAIT does not count, a listener does."""
    with socket.socket() as s, contextlib.suppress(OSError):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((HOST, port))
        s.listen()
        return True
    return False


def port_open(port: int) -> bool:
    """Whether something accepts TCP connections there."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), 0.5):
        return True
    return False


def children(pid: int) -> list[int]:
    """The direct children of a process (of each of its threads); empty once it is gone."""
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, listing.read_text().split())
    return found


class LogLines:
    """The lines of a growing log, each read once: asking again costs only what is new."""

    def __init__(self, path: Path) -> None:
        self._path, self._rest, self._lock = path, "", threading.Lock()
        self._file: TextIO | None = None
        self._lines: list[str] = []

    def all(self) -> list[str]:
        """All complete lines so far, without their ends; callable from several threads."""
        with self._lock:
            if self._file is None:
                if not self._path.exists():
                    return []
                self._file = self._path.open(encoding="utf-8", errors="replace")
            *new, self._rest = (self._rest + self._file.read()).split("\n")
            self._lines += new
            return self._lines[:]

    def close(self) -> None:
        """Give the file back; what was read stays."""
        with self._lock:
            if self._file:
                self._file.close()
                self._file = None
                self._path = Path(os.devnull)


class Service:
    """One daemon below `root`. Its ports are reserved when it is made and kept over stop() and start().

    Subclasses name their ports and override configure() and command(). As a context manager: start, then close.
    """

    port_names: ClassVar[tuple[str, ...]] = ("main",)
    start_timeout: ClassVar[float] = 20.0
    stop_timeout: ClassVar[float] = 10.0

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._block = PortBlock()
        self.ports = {name: self._block.base + i for i, name in enumerate(self.port_names)}
        self._log = LogLines(self.root / "log")
        self.env: dict[str, str] = {}
        self.start_seconds = 0.0  # how long the last start() took
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def configure(self) -> None:
        """Write the configuration below self.root; called by every start()."""

    def command(self) -> list[str]:
        """The argv of the daemon, in the foreground."""
        raise NotImplementedError

    def demote(self) -> list[str]:
        """A command that takes rights away and then runs the rest of its arguments; empty: none."""
        return []

    def ready(self) -> bool:
        """Whether it serves. By default: every port accepts."""
        return all(map(port_open, self.ports.values()))

    @property
    def pid(self) -> int:
        """The daemon's process id, which is also its session and its process group."""
        if self._process is None:
            raise BedError(f"{self.root} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and not _ended(self._process.pid)

    def start(self) -> Self:
        """Start and wait until ready(). Raises BedError when it ends instead, TimeoutError when it is not ready.

        When this process ends in whatever way, kill -9 included, so does the daemon and its whole group.
        """
        if self._process:
            raise BedError(f"{self.root} is already running")
        began = time.monotonic()
        self.root.mkdir(parents=True, exist_ok=True)
        self.configure()
        argv = [*self.demote(), *self.command()]
        with (self.root / "output").open("ab") as output:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                cwd=self.root, env=os.environ | self.env,
            )  # fmt: skip
        # A shell that waits for the end of a pipe, which comes when we are no more. PR_SET_PDEATHSIG cannot do it:
        # Postfix's master changes its effective uid for a moment, and the kernel then forgets that signal.
        self._guard = subprocess.Popen(
            ["sh", "-c", f"read -r _ || kill -s KILL -- -{self._process.pid}"],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            wait_until(self._up, self.start_timeout, f"{self.root} ready")
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.monotonic() - began
        return self

    def _up(self) -> bool:
        if not self.running:
            raise BedError(f"{self.command()[0]} ended:\n{self.log_tail()}")
        return self.ready()

    def stop(self, kill: bool = False) -> None:
        """End it in order (SIGTERM, then SIGKILL to what is left), or at once as by a power cut (`kill`)."""
        process, guard = self._process, self._guard
        self._process = self._guard = None
        if process is None:
            return
        if not kill:
            os.kill(process.pid, signal.SIGTERM)  # not Popen.send_signal: it would reap one that has ended
            _signal_group(process.pid, signal.SIGCONT)  # a frozen one could not obey
            with contextlib.suppress(TimeoutError):
                wait_until(lambda: _ended(process.pid), self.stop_timeout)
        _signal_group(process.pid, signal.SIGKILL)
        if guard:
            guard.communicate(b"done\n")  # before the number is given away
        process.wait()

    def close(self) -> None:
        """Kill it and give the ports back, for good. Nothing here is worth an orderly end, which can take seconds."""
        self.stop(kill=True)
        self._log.close()
        self._block.close()

    def log_tail(self, lines: int = 20) -> str:
        """The end of every log of this daemon, for an error message."""
        logs = [path for name in ("output", "log") if (path := self.root / name).exists()]
        return "\n".join(line for log in logs for line in log.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *exc: object) -> None:
        self.close()


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _ended(pid: int) -> bool:
    """Whether our child has ended; leaves it unreaped, so that its number stays its own."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
