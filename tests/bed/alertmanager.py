"""Alertmanager, and a receiver that keeps what it is told.

Rule: as for Prometheus: no default of the machine comes between, the data dies with the directory. No cluster.
"""

from __future__ import annotations

import http.client
import http.server
import json
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from .service import HOST, BedError, Service


class Alertmanager(Service):
    """config: the text of its configuration."""

    port_names = ("web",)

    def __init__(self, root: Path, config: str) -> None:
        super().__init__(root)
        self.config = config

    @property
    def address(self) -> str:
        """host:port, for Prometheus."""
        return f"{HOST}:{self.ports['web']}"

    def configure(self) -> None:
        (self.root / "alertmanager.yml").write_text(self.config)

    def command(self) -> list[str]:
        return [
            "/usr/bin/prometheus-alertmanager", f"--config.file={self.root}/alertmanager.yml",
            f"--storage.path={self.root}/data", f"--web.listen-address={self.address}", "--cluster.listen-address=",
        ]  # fmt: skip

    def ready(self) -> bool:
        try:
            return self._ask("GET", "/-/ready")[0] == 200
        except OSError:
            return False

    def post(self, alerts: Iterable[Mapping[str, str]]) -> None:
        """These alerts, by their labels, are firing."""
        body = json.dumps([{"labels": dict(labels)} for labels in alerts])
        status, said = self._ask("POST", "/api/v2/alerts", body)
        if status != 200:
            raise BedError(f"{status} {said.decode()}")

    def alerts(self) -> list[dict[str, Any]]:
        """All that are firing, with their `status`."""
        found: list[dict[str, Any]] = json.loads(self._ask("GET", "/api/v2/alerts")[1])
        return found

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, self.ports["web"], timeout=10)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()


class Notice(NamedTuple):
    """One alert in one notification."""

    at: float  # time.monotonic()
    receiver: str  # the path that was posted to
    status: str  # firing, resolved
    labels: dict[str, str]
    annotations: dict[str, str]
    notification: int  # its number: alerts that came together have the same


class Receiver:
    """Keeps every alert that Alertmanager posts. A context manager."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        receiver, count = self, iter(range(1_000_000))

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                at, number = time.monotonic(), next(count)
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.notices += [
                    Notice(at, self.path, alert["status"], alert["labels"], alert["annotations"], number)
                    for alert in body["alerts"]
                ]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing: pytest's output is for failures."""

        self._server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def address(self) -> str:
        """host:port."""
        return f"{HOST}:{self._server.server_port}"

    def told(self, alert: str, status: str, since: float = 0.0, **labels: str) -> list[Notice]:
        """What has been said of this alert since then."""
        wanted = {"alertname": alert, **labels}.items()
        return [it for it in self.notices[:] if it.status == status and it.at >= since and wanted <= it.labels.items()]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
