"""What the service manager is told: read on a socket like its own."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from probe.service.notify import Notifier


class Manager:
    """The socket of a service manager; `said` is every message so far."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)
        self._said: list[dict[str, str]] = []

    def said(self) -> list[dict[str, str]]:
        while True:
            try:
                text = self._socket.recv(65536).decode()
            except BlockingIOError:
                return self._said
            self._said.append(dict(line.split("=", 1) for line in text.split("\n")))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "file" else f"@mailprobe-{secrets.token_hex(8)}"
    manager = Manager(address)
    yield manager
    manager.close()


def test_words_arrive_as_one_message_each_on_a_line(manager: Manager) -> None:
    Notifier({"NOTIFY_SOCKET": manager.address}).tell(READY=1, STATUS="2 routes fine")
    assert manager.said() == [{"READY": "1", "STATUS": "2 routes fine"}]


def test_no_value_can_make_a_second_line(manager: Manager) -> None:
    Notifier({"NOTIFY_SOCKET": manager.address}).tell(STATUS="auth refused\nMAINPID=1")
    assert manager.said() == [{"STATUS": "auth refused MAINPID=1"}]


def test_a_manager_that_is_gone_or_was_never_there_is_no_error(tmp_path: Path) -> None:
    for address in ("", "vsock:2:1234", str(tmp_path / "nobody")):
        Notifier({"NOTIFY_SOCKET": address}).tell(WATCHDOG=1)


def test_a_manager_that_does_not_listen_keeps_nobody_waiting(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    for _ in range(5000):  # more than its queue takes
        notifier.tell(STATUS="x" * 1000)


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_heard_of_when_it_is_ours(environ: dict[str, str], seconds: float | None) -> None:
    assert Notifier(environ).watchdog == seconds
