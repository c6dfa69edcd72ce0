"""Sockets notice a peer that is gone; the kernel's side of it, which no scripted server can show."""

from __future__ import annotations

import asyncio
import socket

from probe.mail import net


async def test_a_half_open_connection_would_be_noticed_within_twelve_seconds() -> None:
    async with await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        sock = await net.connect(await net.resolve("127.0.0.1", port, 5.0), 5.0)
        with sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            idle, interval, count = (
                sock.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
            assert idle + interval * count <= 12
            assert (
                sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 12_000
            )  # ms, for unacknowledged bytes
