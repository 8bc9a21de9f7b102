"""Costs by the number of workspaces, each with its own key and the same list of logs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from tests.bench.processes import ProcessLauncher

LOGS = 100
POLL_SECONDS = 60.0
"""Two poll intervals."""


class Growth(NamedTuple):
    """Costs of an exporter of some workspaces."""

    workspaces: int
    samples: int
    ready_seconds: float
    ready_cpu_seconds: float
    poll_ms: float
    memory_mb: float

    def __str__(self) -> str:
        return (
            f"| {self.workspaces:,} | {self.samples:,} | {self.ready_seconds:.1f} s | {self.ready_cpu_seconds:.1f} s "
            f"| {self.poll_ms:.1f} ms | {self.memory_mb:.0f} MB |"
        )


def growth_table(growths: list[Growth]) -> str:
    """Return them as a table."""
    head = "| workspaces | samples | ready after | CPU until then | CPU of a poll | memory after a scrape |"
    return "\n".join([head, "|---|---|---|---|---|---|", *map(str, growths)])


def measure_growth(launcher: ProcessLauncher) -> Iterator[Growth]:
    """Measure exporters of 10, 100 and 1,000 workspaces."""
    with launcher.api(LOGS) as api:
        api.wait_serving()
        for workspaces in (10, 100, 1000):
            started_at = time.monotonic()
            with launcher.exporter_of_workspaces(api, workspaces) as exporter:
                exporter.wait_ready()
                ready_seconds = time.monotonic() - started_at
                ready_cpu_seconds = exporter.cpu_seconds()
                polls, _ = exporter.poll_and_request_counts()

                before = exporter.cpu_seconds()
                time.sleep(POLL_SECONDS)
                poll_seconds = exporter.cpu_seconds() - before
                last_polls, _ = exporter.poll_and_request_counts()
                yield Growth(
                    workspaces=workspaces,
                    samples=len(exporter.samples()),
                    ready_seconds=ready_seconds,
                    ready_cpu_seconds=ready_cpu_seconds,
                    poll_ms=poll_seconds / (last_polls - polls) * 1e3,
                    memory_mb=exporter.memory_mb(),
                )
