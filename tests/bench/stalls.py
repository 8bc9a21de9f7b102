"""Longest time that one callback holds the event loop, in several states of the exporter."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

from tests.bench.measures import BenchSizes, print_progress, wait_for_poll
from tests.bench.naming import KEY
from tests.bench.processes import ApiProcess, MeasuredProcess, ProcessLauncher
from tests.bench.report import BenchReport, Goal, Measurement
from tests.bench.states import create_state_with_series

__all__ = ["StallBench"]

MAX_STALL_MS = 5.0


class StallBench:
    """Measurements of the event loop.

    Args:
        launcher: Launcher of the measured processes.
        sizes: Sizes of the measurements.
        report: Report that receives the results.
    """

    def __init__(self, launcher: ProcessLauncher, sizes: BenchSizes, report: BenchReport) -> None:
        self._launcher = launcher
        self._sizes = sizes
        self._report = report
        self._probe_file = launcher.folder / "probe.jsonl"

    def run(self) -> None:
        """Measure everything."""
        few, many, most = self._sizes.samples
        with self._launcher.api(0, self._sizes.large) as api:
            api.wait_serving()
            self._measure_steady(api, few)
            self._measure_catch_up(api, many)
            self._measure_large(api, most)

    def _measure_steady(self, api: ApiProcess, samples: int) -> None:
        print_progress("event loop: steady state")
        with self._start(api, 0, samples, interval="100ms") as exporter:
            exporter.wait_serving()
            time.sleep(self._sizes.settle_seconds)
            self._read_probe(exporter)
            time.sleep(self._sizes.window_seconds)
            self._record(exporter, f"steady polls, {samples:,} samples")
            exporter.stop()

    def _measure_catch_up(self, api: ApiProcess, samples: int) -> None:
        print_progress("event loop: catch-up")
        api.hold_requests()
        with self._start(api, self._sizes.large, samples) as exporter:
            exporter.wait_serving()
            api.wait_for_request()
            self._read_probe(exporter)
            end = api.request_count + self._sizes.large // 100 * 9 // 10
            api.send_command("release")
            while api.request_count < end:
                exporter.check_running()
                time.sleep(0.1)
            self._record(exporter, f"catch-up of {self._sizes.large:,} logs, {samples:,} samples")

    def _measure_large(self, api: ApiProcess, samples: int) -> None:
        print_progress(f"event loop: start, publication and reload at {samples:,} samples")
        config = self._launcher.folder / "stalls.yml"
        key = self._launcher.folder / "key"
        key.write_text(KEY, "ascii")
        _write_config(config, key, api.url(0), "default")
        with self._start(api, 0, samples, f"--config.file={config}", interval="100ms") as exporter:
            wait_for_poll(exporter)  # With the first request, some modules of the client are imported.
            self._record(exporter, f"start and first poll, {samples:,} samples")
            time.sleep(self._sizes.settle_seconds + self._sizes.window_seconds)
            self._record(exporter, f"polls and publications, {samples:,} samples")
            _write_config(config, key, api.url(0), "default", "other")
            exporter.send_signal(signal.SIGHUP)
            exporter.wait_for_log("reloaded")
            self._record(exporter, f"reload with a new workspace, {samples:,} samples")

    def _start(self, api: ApiProcess, logs: int, samples: int, *options: str, interval: str = "30s") -> MeasuredProcess:
        self._probe_file.unlink(missing_ok=True)
        state = self._launcher.folder / f"stalls{samples}.db"
        create_state_with_series(state, samples)
        return self._launcher.exporter(api, logs, state, *options, interval=interval, probe_file=self._probe_file)

    def _read_probe(self, exporter: MeasuredProcess) -> tuple[float, float, str]:
        """Return the CPU and wall time of the longest callback since the last reading, in ms, and its name."""
        lines = _count_lines(self._probe_file)
        exporter.send_signal(signal.SIGUSR2)
        while _count_lines(self._probe_file) == lines:
            exporter.check_running()
            time.sleep(0.01)
        record = json.loads(self._probe_file.read_text("utf-8").splitlines()[-1])
        return record["cpu"] * 1000, record["wall"] * 1000, record["name"]

    def _record(self, exporter: MeasuredProcess, situation: str) -> None:
        cpu, wall, name = self._read_probe(exporter)
        self._report.add(
            "(h) longest callback of the event loop",
            Measurement(situation, cpu, "ms", goal=Goal(f"<= {MAX_STALL_MS:g} ms", cpu <= MAX_STALL_MS)),
            Measurement(f"  by the clock, {name[:26]}", wall, "ms"),
        )


def _write_config(config: Path, key: Path, url: str, *workspaces: str) -> None:
    rows = [f"  - {{name: {name}, api_key_file: {key}, api_base_url: {url}}}" for name in workspaces]
    config.write_text("\n".join(["workspaces:", *rows, ""]), "ascii")


def _count_lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0
