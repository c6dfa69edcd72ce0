"""Reaching a server: resolve, connect, TLS; the same for both wires.

Rule: everything here ends within its timeout, and every failure is an Unreachable with the stage and a short reason
that is fit for a metric's label; details go into its text. TLS always verifies chain and name.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import socket
import ssl
from pathlib import Path
from typing import Literal, TypeGuard

import aiohappyeyeballs
from aiohappyeyeballs import AddrInfoType

# A half-open connection is noticed after about 9 s (test_net.py measures it): 5 s of silence, then 3 probes 2 s apart;
# and 8 s for sent bytes that nobody acknowledges. The one slower case (23 s): we hear the peer, it does not hear us,
# and nothing of ours is under way; its text that we cannot acknowledge comes again and again, and is a sign of life.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 8000),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)
_STAGGER = 0.25  # RFC 8305 §8: connection attempt delay


class Unreachable(Exception):
    """No usable connection. `stage` says how far it came, `reason` is one of a small fixed set of words."""

    def __init__(self, stage: Literal["resolve", "connect", "tls"], reason: str, detail: str) -> None:
        super().__init__(f"{stage}: {reason} ({detail})" if detail else f"{stage}: {reason}")
        self.stage: Literal["resolve", "connect", "tls"] = stage
        self.reason = reason


class Unusable(Exception):
    """The server was reached but does not offer what is needed; `reason` is a label."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason} ({detail})")
        self.reason = reason


async def resolve(host: str, port: int, timeout: float) -> list[AddrInfoType]:
    """Addresses of both families in the system's order (RFC 6724). Raises Unreachable("resolve", …)."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError, UnicodeError):  # an address needs no resolver, and no thread to wait for one
        return list[AddrInfoType](socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    try:
        async with asyncio.timeout(timeout):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise Unreachable("resolve", "dns_timeout", host) from None
    except (socket.gaierror, UnicodeError) as error:
        raise Unreachable("resolve", "dns_failure", f"{host}: {error}") from None
    return list(found)


async def connect(addresses: list[AddrInfoType], timeout: float) -> socket.socket:
    """A connected, non-blocking socket with keepalive set; IPv6 and IPv4 raced as RFC 8305 says.

    Raises Unreachable("connect", …).
    """
    try:
        async with asyncio.timeout(timeout):
            sock = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=_STAGGER, interleave=1)
    except TimeoutError:
        raise Unreachable("connect", "timeout", _names(addresses)) from None
    except OSError as error:
        reason = "refused" if isinstance(error, ConnectionRefusedError) else "unreachable"
        raise Unreachable("connect", reason, f"{_names(addresses)}: {error.strerror or error}") from None
    for level, option, value in _KEEPALIVE:
        sock.setsockopt(level, option, value)
    return sock


def _names(addresses: list[AddrInfoType]) -> str:
    return ", ".join(str(address[4][0]) for address in addresses)


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer, chain and host name verified, against the system's CAs or only this file's as it is now."""
    return _tls_context(ca_file, ca_file.stat().st_mtime_ns if ca_file else 0)


@functools.lru_cache(maxsize=64)
def _tls_context(ca_file: Path | None, _changed: int) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def let_go(sock: socket.socket) -> None:
    """Forget a socket with which create_connection(sock=…) failed.

    uvloop has closed its descriptor by then, behind the socket's back: closed again, when it is collected, it would
    take with it whatever has that number then. asyncio's own loop closes the socket itself.
    """
    if type(asyncio.get_running_loop()).__module__.startswith("uvloop"):
        sock.detach()


def peer_is_gone(error: BaseException | None) -> TypeGuard[OSError]:
    """Whether the kernel gave a connection up: keepalive or sent bytes were not acknowledged, or there is no way."""
    return isinstance(error, OSError) and error.errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)


def tls_reason(error: BaseException) -> str:
    """One word for why a handshake failed: certificate_expired, wrong_name, unknown_ca, bad_certificate, …"""
    if isinstance(error, ssl.SSLCertVerificationError):
        # OpenSSL's X509_V_ERR_* numbers (openssl/x509_vfy.h)
        return {
            10: "certificate_expired",
            9: "certificate_not_yet_valid",
            18: "unknown_ca",
            19: "unknown_ca",
            20: "unknown_ca",
            21: "unknown_ca",
            62: "wrong_name",
            64: "wrong_name",
        }.get(error.verify_code, "bad_certificate")
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ssl.SSLError):
        return "handshake_failure"
    return "connection_lost"
