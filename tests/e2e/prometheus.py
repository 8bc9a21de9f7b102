"""Prometheus as a process that ends with its test."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlencode

from tests.e2e.program import DEFAULT_TIMEOUT, http_get, start_process, wait_until

CONFIG = """\
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: late
    static_configs: [{targets: ["%s"]}]
"""

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
    file, log = folder / "prometheus.yml", folder / "prometheus.log"
    file.write_text(config)
    command = [
        binary,
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        "--web.listen-address=127.0.0.1:0",
        *arguments,
    ]
    with log.open("wb") as errors, start_process(command, stderr=errors, stdout=errors, cwd=folder) as process:
        try:
            yield PrometheusApi(wait_until(lambda: _find_url(log.read_text()), describe=log.read_text))
        finally:
            process.terminate()
            process.wait(DEFAULT_TIMEOUT)


def _find_url(log: str) -> str:
    """Return the URL in the log of a Prometheus that is ready, or an empty text."""
    match = re.search(r'msg="?Listening on"? .*?address=([\d.]+:\d+)', log)
    return f"http://{match[1]}" if match and "Server is ready" in log else ""
