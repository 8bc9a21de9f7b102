"""A real Prometheus, which ends with the test that started it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlencode

from tests.e2e.program import DEFAULT_TIMEOUT, http_get, start_process, wait_until

__all__ = ["PrometheusApi", "ResultRow", "run_prometheus"]

ResultRow: TypeAlias = Mapping[str, Any]


class PrometheusApi:
    """A Prometheus that runs.

    Args:
        url: Where its own API is.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def call_api(self, path: str, **parameters: str) -> Any:
        """What an endpoint of its API says."""
        response = json.loads(
            http_get(f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=DEFAULT_TIMEOUT).body
        )
        assert "success" == response["status"], response
        return response["data"]

    def query(self, expression: str) -> list[ResultRow]:
        """The rows of an instant query."""
        rows: list[ResultRow] = self.call_api("query", query=expression)["result"]
        return rows

    def value(self, expression: str) -> float | None:
        """The value of an instant query that has one row."""
        rows = self.query(expression)
        return float(rows[0]["value"][1]) if rows else None


@contextmanager
def run_prometheus(binary: str, folder: Path, config: str, *arguments: str) -> Iterator[PrometheusApi]:
    """A Prometheus of its own, on a port of the system's choice, with its database in ``folder/tsdb``."""
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
    """Where a Prometheus that wrote such a log serves."""
    match = re.search(r'msg="?Listening on"? .*?address=([\d.]+:\d+)', log)
    return f"http://{match[1]}" if match and "Server is ready" in log else ""
