"""A network that misbehaves on request: frozen servers, lost packets, a proxy that delays, stalls, refuses and cuts.

Rule: every fault ends with its block. (A Service frozen by a test that is killed is killed too: Service.start.)
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, Self

from .service import HOST, BedError, children

_CHUNK = 65536


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """SIGSTOP a server and all below it: the kernel still accepts connections, nobody answers."""
    stopped: list[int] = []

    def stop(process: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGSTOP)  # before its children are listed: it shall not have another
            stopped.append(process)
        for child in children(process):
            stop(child)

    stop(pid)
    try:
        yield
    finally:
        for process in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


_CAP_NET_ADMIN = 12  # linux/capability.h
_DROPS: dict[str, tuple[str, ...]] = {"to": ("dport",), "from": ("sport",), "both": ("dport", "sport")}
_tables = itertools.count()


def why_not_dropped() -> str:
    """Why this process cannot use dropped(); "" when it can."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", Path("/proc/self/status").read_text(), re.M)
    allowed = found and int(found[1], 16) >> _CAP_NET_ADMIN & 1
    return "" if allowed else "losing packets takes root's CAP_NET_ADMIN"


@contextlib.contextmanager
def dropped(port: int, direction: Literal["to", "from", "both"] = "both") -> Iterator[None]:
    """The loopback loses every packet to and/or from this TCP port, and nobody is told: no FIN, no RST, no ICMP.

    By a table of nftables that belongs to the process which made it: the kernel removes it with that process, which
    ends when its input does, kill -9 of ours included. It drops on the way in, because a drop on the way out would be
    an error (EPERM) for the sender. Raises BedError.
    """
    name = f"inet mailprobe_test_{os.getpid()}_{next(_tables)}"
    lines = [f"add table {name} {{ flags owner; }}"]
    lines += [f"add chain {name} lost {{ type filter hook input priority raw; }}"]
    lines += [f'add rule {name} lost iifname "lo" tcp {end} {port} drop' for end in _DROPS[direction]]
    lines += [f"list table {name}"]
    with subprocess.Popen(
        ["nft", "-i"], text=True, bufsize=1, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as nft:  # fmt: skip
        assert nft.stdin is not None
        assert nft.stdout is not None
        nft.stdin.write("".join(line + "\n" for line in lines))
        for said in nft.stdout:
            if said == "}\n":  # the end of the list: the rules are there
                break
            if "Error" in said:
                raise BedError(f"nft: {said.strip()}")
        else:
            raise BedError("nft ended without a word")
        yield


class FaultProxy:
    """A TCP proxy in front of a port, with a thread and event loop of its own; change its faults at any time.

    delay: seconds each chunk waits, in each direction; stalled: nothing is passed on, connections stay open;
    refuse: new connections are reset; limit: bytes from the server after which a connection is reset; cut(): reset
    all that are open.
    """

    def __init__(self, target_port: int) -> None:
        self.port = 0  # where to connect to, once entered
        self.delay = 0.0
        self.refuse = False
        self.limit: int | None = None
        self._target_port, self._stalled = target_port, False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def stalled(self) -> bool:
        return self._stalled

    @stalled.setter
    def stalled(self, on: bool) -> None:
        self._stalled = on
        self._call(self._flowing.clear if on else self._flowing.set)

    def cut(self) -> None:
        """Reset (RST) both ends of every open connection; returns when it is done."""
        self._call(self._reset_all)

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, HOST, 0), self._loop)
        self._server = starting.result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._reset_all()
        await asyncio.sleep(0)  # an aborted transport closes its socket in the loop's next round

    def _call(self, action: Callable[[], None]) -> None:
        async def act() -> None:
            action()

        asyncio.run_coroutine_threadsafe(act(), self._loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            _reset(writer)
            return
        self._open.add(writer)
        out = None
        try:
            back, out = await asyncio.open_connection(HOST, self._target_port)
            self._open.add(out)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, out, None))
                pumps.create_task(self._pump(back, writer, self.limit))
        except (OSError, ExceptionGroup):  # one end is gone: the other shall know
            _reset(writer)
            if out:
                _reset(out)
        finally:
            for end in filter(None, (writer, out)):
                self._open.discard(end)
                end.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, limit: int | None) -> None:
        passed = 0
        while data := await source.read(_CHUNK):
            if self.delay:
                await asyncio.sleep(self.delay)
            await self._flowing.wait()
            sink.write(data if limit is None else data[: limit - passed])
            await sink.drain()
            passed += len(data)
            if limit is not None and passed >= limit:
                raise ConnectionResetError("the limit of this proxy")
        await self._flowing.wait()  # an end of file is news too
        with contextlib.suppress(OSError):
            sink.write_eof()

    def _reset_all(self) -> None:
        for writer in self._open:
            _reset(writer)
        self._open.clear()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST: linger on, for zero seconds."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
