"""Cost of an hour at the default intervals, everything included, and of polls while logs expire."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

from tests.bench.late import DAYS
from tests.bench.measures import BenchSizes, PollCost, poll_and_request_counts, print_progress, wait_for_poll
from tests.bench.processes import ApiProcess, MeasuredProcess, ProcessLauncher
from tests.bench.report import BenchReport, Goal, Measurement
from tests.bench.scraping import Scraper
from tests.bench.states import create_expiring_state

__all__ = ["HourBench"]

HOUR = 3600.0
POLLS_PER_HOUR = 120
SCRAPES_PER_HOUR = 240
RECONCILE_SECONDS = 600
IDLE_SETTLE_SECONDS = 3.0
QUOTA = 600
"""Requests per minute that the API allows."""


class HourBench:
    """Measurements over time.

    Args:
        launcher: Launcher of the measured processes.
        sizes: Sizes of the measurements.
        report: Report that receives the results.
    """

    def __init__(self, launcher: ProcessLauncher, sizes: BenchSizes, report: BenchReport) -> None:
        self._launcher = launcher
        self._sizes = sizes
        self._report = report
        self._state = launcher.folder / "hour.db"

    def run(self) -> None:
        """Measure everything."""
        scale = self._sizes.time_scale
        # Scans read the list down to ages that are multiples of the interval.
        with self._launcher.api(self._sizes.small, rate_limit=QUOTA * scale, days=DAYS / scale) as api:
            api.wait_serving()
            self.measure_hour(api)
        with self._launcher.api(self._sizes.small) as api:
            api.wait_serving()
            self.measure_expiry(api)

    def measure_hour(self, api: ApiProcess) -> None:
        """Measure CPU and requests per hour: at rest, and with intervals that are shorter by the time scale."""
        logs, scale = self._sizes.small, self._sizes.time_scale
        print_progress(f"an hour at {logs:,} logs")
        self._create_state(api)
        with self._launcher.exporter(api, logs, self._state, interval="24h") as exporter:
            wait_for_poll(exporter)
            time.sleep(IDLE_SETTLE_SECONDS)
            idle_rate = _cpu_rate(exporter, self._sizes.idle_seconds)
            exporter.stop()
        options = (f"--poll.reconcile-interval={RECONCILE_SECONDS // scale}s", "--poll.audit-interval=0s")
        interval = f"{int(HOUR / POLLS_PER_HOUR * 1000 / scale)}ms"
        with self._launcher.exporter(api, logs, self._state, *options, interval=interval) as exporter:
            exporter.wait_serving()
            time.sleep(self._sizes.settle_seconds)
            _, requests_before = poll_and_request_counts(exporter)
            busy_rate = _cpu_rate(exporter, self._sizes.hour_seconds, scrape_pause=HOUR / SCRAPES_PER_HOUR / scale)
            _, requests = poll_and_request_counts(exporter)
            exporter.stop()
        hours = self._sizes.hour_seconds * scale / HOUR
        script = self._measure_script(api)
        cpu = (idle_rate + (busy_rate - idle_rate) / scale) * HOUR
        script_cpu, script_requests = script.cpu_seconds * POLLS_PER_HOUR, script.request_count * POLLS_PER_HOUR
        requests_per_hour = (requests - requests_before) / hours
        self._report.add(
            f"(g) an hour at the defaults, {logs:,} logs",
            Measurement(
                "CPU, all but the daily audit (a script polls)",
                cpu,
                "s",
                script_cpu,
                Goal(">= 8x", script_cpu / cpu >= 8),
            ),
            Measurement("CPU at rest", idle_rate * HOUR, "s", goal=Goal("<= 1.5 s", idle_rate * HOUR <= 1.5)),
            Measurement(
                "requests, reconciliation scans included",
                requests_per_hour,
                "",
                script_requests,
                Goal(">= 20x", script_requests / requests_per_hour >= 20),
            ),
        )

    def measure_expiry(self, api: ApiProcess) -> None:
        """Compare polls with a new log while logs expire with those while none do."""
        print_progress("polling while logs expire")
        expiring_state = self._launcher.folder / "expiring.db"
        create_expiring_state(self._state, expiring_state, self._sizes.expiring_logs)
        api.send_command("add")
        quiet, expiring = (self._measure_polls(api, state) for state in (self._state, expiring_state))
        api.send_command("keep")
        ratio = expiring / quiet
        self._report.add(
            "(b) steady poll while logs expire",
            Measurement(
                "CPU with a new log (beside: none expires)",
                expiring * 1000,
                "ms",
                quiet * 1000,
                Goal("<= 1.5x more", ratio <= 1.5),
            ),
        )

    def _create_state(self, api: ApiProcess) -> None:
        with self._launcher.exporter(api, self._sizes.small, self._state) as exporter:
            exporter.wait_for_log("first sync complete")
            exporter.stop()

    def _measure_polls(self, api: ApiProcess, state: Path) -> float:
        with self._launcher.exporter(api, self._sizes.small, state, interval="100ms") as exporter:
            exporter.wait_serving()
            time.sleep(self._sizes.settle_seconds)
            costs = []
            for _ in range(self._sizes.repeat_count):
                polls_before, _ = poll_and_request_counts(exporter)
                before = exporter.cpu_seconds()
                time.sleep(self._sizes.window_seconds)
                cpu = exporter.cpu_seconds() - before
                polls, _ = poll_and_request_counts(exporter)
                costs.append(cpu / (polls - polls_before))
            exporter.stop()
        return median(costs)

    def _measure_script(self, api: ApiProcess) -> PollCost:
        with self._launcher.script(api, self._sizes.small, interval=0.2) as script:
            script.wait_for_log("polled,")
            before, requests_before = script.cpu_seconds(), api.request_count
            script.wait_for_log("polled,", 2 + self._sizes.repeat_count)
            count = self._sizes.repeat_count + 1
            cpu, requests = script.cpu_seconds() - before, api.request_count - requests_before
        return PollCost(cpu / count, requests / count)


def _cpu_rate(process: MeasuredProcess, seconds: float, *, scrape_pause: float | None = None) -> float:
    """Return the CPU time of a process per second, optionally while it is scraped."""
    before, started = process.cpu_seconds(), time.monotonic()
    if scrape_pause is None:
        time.sleep(seconds)
    else:
        scraper = Scraper(process.port)
        while time.monotonic() - started < seconds:
            scraper.scrape()
            time.sleep(scrape_pause)
        scraper.close()
    return (process.cpu_seconds() - before) / (time.monotonic() - started)
