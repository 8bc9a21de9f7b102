"""Prometheus and Alertmanager as processes that end with their test."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlencode

from tests.e2e.program import DEFAULT_TIMEOUT, http_get, run_server

CONFIG = """\
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: late
    static_configs: [{targets: ["%s"]}]
"""

LISTENING = r'msg="?Listening on"? .*?address=([\d.]+:\d+)'
"""Log of a server of the Prometheus project that listens; the group is its address."""

ResultRow: TypeAlias = Mapping[str, Any]


class PrometheusApi:
    """HTTP API of a running Prometheus.

    Args:
        url: Base URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def call_api(self, path: str, **parameters: str) -> Any:
        """Return the data of an endpoint of its API."""
        response = json.loads(
            http_get(f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=DEFAULT_TIMEOUT).body
        )
        assert response["status"] == "success", response
        return response["data"]

    def query(self, expression: str) -> list[ResultRow]:
        """Return the rows of an instant query."""
        rows: list[ResultRow] = self.call_api("query", query=expression)["result"]
        return rows

    def value(self, expression: str) -> float | None:
        """Return the value of the first row of an instant query, or None."""
        rows = self.query(expression)
        return float(rows[0]["value"][1]) if rows else None


@contextmanager
def run_prometheus(binary: str, folder: Path, config: str, *arguments: str) -> Iterator[PrometheusApi]:
    """Run a Prometheus on a free port, with its database in ``folder/tsdb``."""
    file = folder / "prometheus.yml"
    file.write_text(config)
    command = [
        binary,
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        "--web.listen-address=127.0.0.1:0",
        *arguments,
    ]
    pattern = f"{LISTENING}.*Server is ready"
    with run_server(command, folder / "prometheus.log", pattern, cwd=folder) as address:
        yield PrometheusApi(f"http://{address}")


@contextmanager
def run_alertmanager(binary: str, folder: Path, config: str, *arguments: str) -> Iterator[str]:
    """Run an Alertmanager without peers on a free port and yield its URL."""
    file = folder / "alertmanager.yml"
    file.write_text(config)
    command = [
        binary,
        f"--config.file={file}",
        f"--storage.path={folder / 'alertmanager'}",
        "--web.listen-address=127.0.0.1:0",
        "--cluster.listen-address=",
        *arguments,
    ]
    # If it was unpacked rather than installed, it finds its own templates only from the folder above usr/bin.
    working_directory = Path(binary).resolve().parents[2]
    with run_server(command, folder / "alertmanager.log", LISTENING, cwd=working_directory) as address:
        yield f"http://{address}"
