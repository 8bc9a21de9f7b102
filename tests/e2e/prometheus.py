"""A real Prometheus, which ends with the test that started it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlencode

from tests.e2e.program import PATIENCE, eventually, get, spawned

__all__ = ["Prometheus", "Row", "prometheus"]

Row: TypeAlias = Mapping[str, Any]


class Prometheus:
    """A Prometheus that runs.

    Args:
        url: Where its own API is.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, endpoint: str, **parameters: str) -> Any:
        """What an endpoint of its API says."""
        answer = json.loads(get(f"{self.url}/api/v1/{endpoint}?{urlencode(parameters)}", timeout=PATIENCE).body)
        assert "success" == answer["status"], answer
        return answer["data"]

    def query(self, expression: str) -> list[Row]:
        """The rows of an instant query."""
        rows: list[Row] = self.ask("query", query=expression)["result"]
        return rows

    def value(self, expression: str) -> float | None:
        """The value of an instant query that has one row."""
        rows = self.query(expression)
        return float(rows[0]["value"][1]) if rows else None


@contextmanager
def prometheus(binary: str, folder: Path, config: str, *arguments: str) -> Iterator[Prometheus]:
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
    with log.open("wb") as errors, spawned(command, stderr=errors, stdout=errors, cwd=folder) as process:
        try:
            yield Prometheus(eventually(lambda: _listening(log.read_text()), hint=log.read_text))
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _listening(log: str) -> str:
    """Where a Prometheus that wrote such a log serves."""
    match = re.search(r'msg="?Listening on"? .*?address=([\d.]+:\d+)', log)
    return f"http://{match[1]}" if match and "Server is ready" in log else ""
