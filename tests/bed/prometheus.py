"""Prometheus: scrapes what it is told each second, evaluates rules, answers queries.

Rule: no proxy of the environment and no default of the machine comes between; the data dies with the directory.
"""

from __future__ import annotations

import http.client
import json
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .service import HOST, BedError, Service


class Prometheus(Service):
    """targets: {job: ["host:port"]}, may be changed until start(); rules: rule files; features: --enable-feature;
    alertmanager: host:port to which alerts go.

    The first scrape comes 5 to 7 s after the start, whatever the interval: 2.42 looks for targets each 5 s.
    """

    port_names = ("web",)

    def __init__(
        self, root: Path, targets: Mapping[str, Iterable[str]] | None = None, rules: Iterable[Path] = (),
        interval: str = "1s", features: str = "exemplar-storage", alertmanager: str = "",
    ) -> None:  # fmt: skip
        super().__init__(root)
        self.targets = dict(targets or {})
        self.rules, self.interval, self.features = [path.resolve() for path in rules], interval, features
        self.alertmanager = alertmanager

    @property
    def address(self) -> str:
        """host:port, also as a target for itself."""
        return f"{HOST}:{self.ports['web']}"

    def configure(self) -> None:
        config = {
            "global": {"scrape_interval": self.interval, "evaluation_interval": self.interval},
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": list(targets)}]}
                for job, targets in self.targets.items()
            ],
            "rule_files": [str(path) for path in self.rules],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [self.alertmanager]}]}]}
            if self.alertmanager
            else {},
        }
        (self.root / "prometheus.yml").write_text(json.dumps(config, indent=1))  # JSON is YAML

    def command(self) -> list[str]:
        return [
            "/usr/bin/prometheus", f"--config.file={self.root}/prometheus.yml", f"--storage.tsdb.path={self.root}/data",
            f"--web.listen-address={self.address}", f"--enable-feature={self.features}",
        ]  # fmt: skip

    def ready(self) -> bool:
        try:
            return self._get("/-/ready")[0] == 200
        except OSError:
            return False

    def query(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """The instant vector now, as (labels, value); a scalar has no labels. Raises BedError for a bad expression."""
        data = self.api("query", query=expr)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(sample["metric"], float(sample["value"][1])) for sample in data["result"]]

    def alerts(self) -> list[dict[str, Any]]:
        """The pending and firing alerts."""
        found: list[dict[str, Any]] = self.api("alerts")["alerts"]
        return found

    def api(self, endpoint: str, **arguments: str) -> Any:
        """The `data` of /api/v1/`endpoint`."""
        status, body = self._get(f"/api/v1/{endpoint}?{urllib.parse.urlencode(arguments)}")
        if status != 200:
            raise BedError(f"{endpoint} {arguments}: {status} {body.decode()}")
        return json.loads(body)["data"]

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, self.ports["web"], timeout=10)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()
