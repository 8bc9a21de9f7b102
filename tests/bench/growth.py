"""Costs by the number of workspaces, each with its own key and the same list of logs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from tests.bench.processes import ProcessLauncher

LOGS = 100
POLL_SECONDS = 60.0
"""Two poll intervals."""


def growth_table(rows: Iterable[str]) -> str:
    """Return rows of measure_growth as a table."""
    head = "| workspaces | samples | ready after | CPU until then | CPU of a poll | memory after a scrape |"
    return "\n".join([head, "|---|---|---|---|---|---|", *rows])


def measure_growth(launcher: ProcessLauncher) -> Iterator[str]:
    """Measure exporters of 10, 100 and 1,000 workspaces; yield a row for each."""
    with launcher.api(LOGS) as api:
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
                poll_ms = poll_seconds / (last_polls - polls) * 1e3
                yield (
                    f"| {workspaces:,} | {len(exporter.scrape()):,} | {ready_seconds:.1f} s "
                    f"| {ready_cpu_seconds:.1f} s | {poll_ms:.1f} ms | {exporter.memory_mb():.0f} MB |"
                )
