"""Growth of the cost with logs kept and series: make bench ARGS=--growth."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.bench.measures import PollCost, poll_and_request_counts, print_progress, time_first_scrape
from tests.bench.processes import ApiProcess, MeasuredProcess, ProcessLauncher
from tests.bench.report import BenchReport, Measurement
from tests.bench.states import create_state_with_ids, create_state_with_series

__all__ = ["QUICK_GROWTH", "GrowthBench", "GrowthSizes"]

BASE_LOGS = 100


@dataclass(frozen=True)
class GrowthSizes:
    """Sizes of the measurements, smallest first.

    Args:
        logs: Numbers of logs that the state keeps.
        samples: Numbers of samples.
        window_seconds: Duration of a measurement.
    """

    logs: tuple[int, ...] = (10_000, 100_000, 1_000_000, 5_000_000)
    samples: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    window_seconds: float = 10.0


QUICK_GROWTH = GrowthSizes(logs=(1_000, 20_000), samples=(1_000, 20_000), window_seconds=4.0)


class GrowthBench:
    """Measurements at growing sizes; the ratio of each compares its cost with that of the smallest.

    Args:
        launcher: Launcher of the measured processes.
        sizes: Sizes of the measurements.
        report: Report that receives the results.
    """

    def __init__(self, launcher: ProcessLauncher, sizes: GrowthSizes, report: BenchReport) -> None:
        self._launcher = launcher
        self._sizes = sizes
        self._report = report

    def run(self) -> None:
        """Measure everything."""
        with self._launcher.api(0, BASE_LOGS) as api:
            api.wait_serving()
            self.measure_logs(api)
            self.measure_samples(api)

    def measure_logs(self, api: ApiProcess) -> None:
        """Measure steady polls with many logs in the state."""
        base = self._launcher.folder / "base.db"
        with self._launcher.exporter(api, BASE_LOGS, base) as exporter:
            exporter.wait_for_log("first sync complete")
            exporter.stop()
        smallest = 0.0
        for logs in self._sizes.logs:
            print_progress(f"{logs:,} logs kept")
            state = self._launcher.folder / f"logs{logs}.db"
            create_state_with_ids(base, state, logs)
            with self._launcher.exporter(api, BASE_LOGS, state, interval="100ms") as exporter:
                exporter.wait_serving()
                time.sleep(1)
                cost = self._measure_polls(exporter).cpu_seconds * 1000
                exporter.stop()
            state.unlink()
            smallest = smallest or cost
            self._report.add("(i) CPU of a steady poll", Measurement(f"{logs:,} logs kept", cost, "ms", smallest))

    def measure_samples(self, api: ApiProcess) -> None:
        """Measure start, memory and steady polls with many samples."""
        for samples in self._sizes.samples:
            print_progress(f"{samples:,} samples")
            state = self._launcher.folder / f"growth{samples}.db"
            create_state_with_series(state, samples)
            with self._launcher.exporter(api, 0, state, interval="100ms") as exporter:
                first = time_first_scrape(exporter, None).wall_seconds
                time.sleep(1 + first)
                cost = self._measure_polls(exporter).cpu_seconds * 1000
                memory = exporter.memory_mb()
                exporter.stop()
            state.unlink()
            self._report.add(
                "(j) many samples",
                Measurement(f"{samples:,} samples: first scrape", first, "s"),
                Measurement(f"{samples:,} samples: CPU of a poll", cost, "ms"),
                Measurement(f"{samples:,} samples: RSS", memory, "MB"),
            )

    def _measure_polls(self, exporter: MeasuredProcess, window_seconds: float | None = None) -> PollCost:
        polls_before, requests_before = poll_and_request_counts(exporter)
        before = exporter.cpu_seconds()
        time.sleep(window_seconds or self._sizes.window_seconds)
        cpu = exporter.cpu_seconds() - before
        polls, requests = poll_and_request_counts(exporter)
        return PollCost(cpu / (polls - polls_before), (requests - requests_before) / (polls - polls_before))
