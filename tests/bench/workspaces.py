"""Cost of many workspaces in one process, compared with that of ten in the same run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path

from tests.bench.measures import poll_and_request_counts, print_progress
from tests.bench.naming import KEY
from tests.bench.processes import LeanApiProcess, MeasuredProcess, ProcessLauncher
from tests.bench.report import BenchReport, Goal, Measurement
from tests.bench.scraping import Latencies, Scraper, count_samples

__all__ = ["QUICK_WORKSPACES", "WorkspaceBench", "WorkspaceSizes"]

READY_SECONDS = 900.0
SCRAPE_PAUSE = 0.25
LARGE = 1_000
"""Number of workspaces that the goals are about."""

LOGS_PER_WORKSPACE = 110
"""Publishing logs and connection events of the lists of tests.bench.lean."""


@dataclass(frozen=True)
class WorkspaceSizes:
    """Sizes of the measurements.

    Args:
        counts: Numbers of workspaces, smallest first.
        interval: Poll interval in seconds.
        window_seconds: Duration of a measurement.
    """

    counts: tuple[int, ...] = (10, 100, 250, LARGE)
    interval: int = 30
    window_seconds: float = 60.0


QUICK_WORKSPACES = WorkspaceSizes(counts=(10, 60), interval=4, window_seconds=8.0)


@dataclass(frozen=True)
class _Cost:
    """Cost of a number of workspaces.

    Args:
        ready: Seconds from the start of the process until all first syncs are complete.
        ready_cpu: CPU seconds until then.
        poll: CPU seconds of a poll, with the scrapes meanwhile.
        share: Share of one processor.
        bare_latencies: Latencies of a server that only sends as many bytes, in the same time.
    """

    ready: float
    ready_cpu: float
    poll: float
    share: float
    samples: int
    latencies: Latencies
    bare_latencies: Latencies
    memory: float


class WorkspaceBench:
    """Measurements of growing numbers of workspaces.

    Args:
        launcher: Launcher of the measured processes.
        sizes: Sizes of the measurements.
        report: Report that receives the results.
    """

    def __init__(self, launcher: ProcessLauncher, sizes: WorkspaceSizes, report: BenchReport) -> None:
        self._launcher = launcher
        self._sizes = sizes
        self._report = report

    def run(self) -> None:
        """Measure each number of workspaces."""
        smallest: tuple[int, _Cost] | None = None
        with self._launcher.lean_api(LOGS_PER_WORKSPACE * 10 // 11) as api:
            api.wait_serving()
            for count in self._sizes.counts:
                print_progress(f"{count:,} workspaces")
                cost = self._measure(api, count)
                smallest = smallest or (count, cost)
                self._add(count, cost, *smallest)

    def _measure(self, api: LeanApiProcess, count: int) -> _Cost:
        config = self._write_config(api, count)
        state = self._launcher.folder / f"workspaces{count}.db"
        options = (f"--config.file={config}", "--poll.feeds=publishing,connections")
        with self._launcher.exporter(api, 0, state, *options, interval=f"{self._sizes.interval}s") as exporter:
            exporter.wait_serving()
            ready = _seconds_until_ready(exporter)
            ready_cpu = exporter.cpu_seconds()
            time.sleep(1.2 * self._sizes.interval)
            body = _scrape_once(exporter)
            polls, _ = poll_and_request_counts(exporter)
            started, used = time.perf_counter(), exporter.cpu_seconds()
            with self._launcher.socket_server(len(body)) as bare:
                bare.wait_serving()
                latencies, bare_latencies = self._measure_scrapes(exporter, bare)
            seconds, used = time.perf_counter() - started, exporter.cpu_seconds() - used
            poll_count = poll_and_request_counts(exporter)[0] - polls
            memory = exporter.memory_mb()
            exporter.stop()
        state.unlink()
        return _Cost(
            ready, ready_cpu, used / poll_count, used / seconds, count_samples(body), latencies, bare_latencies, memory
        )

    def _measure_scrapes(self, *servers: MeasuredProcess) -> Sequence[Latencies]:
        """Scrape servers in turns, while the exporter among them polls."""
        scrapers = [Scraper(server.port) for server in servers]
        seconds: list[list[float]] = [[] for _ in servers]
        end = time.perf_counter() + self._sizes.window_seconds
        size = 0
        while time.perf_counter() < end:
            for scraper, latencies in zip(scrapers, seconds, strict=True):
                started = time.perf_counter()
                size = len(scraper.scrape())
                latencies.append(time.perf_counter() - started)
            time.sleep(SCRAPE_PAUSE)
        for scraper in scrapers:
            scraper.close()
        return [Latencies.of(latencies, size) for latencies in seconds]

    def _add(self, count: int, cost: _Cost, smallest_count: int, smallest: _Cost) -> None:
        is_smallest, is_large = count == smallest_count, count >= LARGE
        logs, smallest_logs = count * LOGS_PER_WORKSPACE, smallest_count * LOGS_PER_WORKSPACE
        self._report.add(
            f"(k) {count:,} workspaces, {cost.samples:,} samples, {self._sizes.interval} s interval",
            Measurement("ready after", cost.ready, "s"),
            Measurement(
                _beside("CPU until ready, per log", smallest_count, is_smallest),
                cost.ready_cpu / logs * 1e3,
                "ms",
                None if is_smallest else smallest.ready_cpu / smallest_logs * 1e3,
            ),
            Measurement(
                _beside("CPU of a poll and scrapes", smallest_count, is_smallest),
                cost.poll * 1e3,
                "ms",
                None if is_smallest else smallest.poll * 1e3,
                None if is_smallest else Goal("<= 1.3x more", cost.poll <= 1.3 * smallest.poll),
            ),
            Measurement("share of one processor", cost.share, "", goal=Goal("<= 0.5", cost.share <= 0.5)),
            Measurement("p50 of a scrape (a socket server)", cost.latencies.p50, "ms", cost.bare_latencies.p50),
            Measurement(
                "p99 of a scrape (a socket server)",
                cost.latencies.p99,
                "ms",
                cost.bare_latencies.p99,
                goal=Goal("<= 20 ms", cost.latencies.p99 <= 20) if is_large else None,
            ),
            Measurement("RSS", cost.memory, "MB", goal=Goal("<= 400 MB", cost.memory <= 400) if is_large else None),
        )

    def _write_config(self, api: LeanApiProcess, count: int) -> Path:
        """Write a configuration of workspaces with different keys."""
        folder = self._launcher.folder / f"keys{count}"
        folder.mkdir()
        rows = []
        for number in range(count):
            key = folder / str(number)
            key.write_text(f"{KEY[:-6]}{number:06}", "ascii")
            url = api.url(LOGS_PER_WORKSPACE * 10 // 11)
            rows.append(f"  - {{name: w{number}, api_key_file: {key}, api_base_url: {url}}}")
        config = folder / "config.yml"
        config.write_text("\n".join(["workspaces:", *rows, ""]), "ascii")
        return config


def _beside(name: str, count: int, is_smallest: bool) -> str:  # noqa: FBT001 - called by position
    return name if is_smallest else f"{name} (beside: {count})"


def _scrape_once(exporter: MeasuredProcess) -> bytes:
    scraper = Scraper(exporter.port)
    body = scraper.scrape()
    scraper.close()
    return body


def _seconds_until_ready(exporter: MeasuredProcess) -> float:
    """Return the time from the start of a process until all first syncs are complete."""
    while time.perf_counter() - exporter.started < READY_SECONDS:
        exporter.check_running()
        connection = HTTPConnection("127.0.0.1", exporter.port, timeout=60)
        connection.request("GET", "/-/ready")
        status = connection.getresponse().status
        connection.close()
        if status == HTTPStatus.OK:
            break
        time.sleep(0.1)
    return time.perf_counter() - exporter.started
