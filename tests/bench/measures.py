"""Measurements of the bench, one method per section. Both programs are measured in turns, and the median counts."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.bench.processes import ApiProcess, MeasuredProcess, ProcessLauncher
from tests.bench.quick import measure_quick_commands
from tests.bench.report import BenchReport, Goal, Measurement
from tests.bench.scraping import (
    LOGS_FAMILY,
    POLLS_FAMILY,
    REQUESTS_FAMILY,
    Latencies,
    Scraper,
    count_samples,
    sum_family,
)
from tests.bench.states import create_state_with_ids, create_state_with_series

__all__ = [
    "Bench",
    "BenchSizes",
    "PollCost",
    "TimeUsed",
    "cpu_of_catch_up",
    "poll_and_request_counts",
    "print_progress",
    "scrape_idle",
    "time_first_scrape",
    "wait_for_poll",
]

PAGE_SIZE = 100
MAX_SETTLE_ATTEMPTS = 20
MS_PER_SECOND, US_PER_SECOND = 1e3, 1e6


@dataclass(frozen=True)
class BenchSizes:
    """Sizes of the measurements.

    Args:
        small: Number of logs of the smaller list.
        large: Number of logs of the larger list.
        samples: Numbers of samples of a scrape: small, medium and large.
        id_count: Number of known ids of a large state.
        repeat_count: Number of measurements, of which the median counts.
        window_seconds: Duration of a measurement of steady polling.
        scrape_count: Number of measured scrapes of the exporter.
        settle_seconds: Idle time of a process before a measurement.
        idle_seconds: Duration of a measurement of a process at rest.
        hour_seconds: Duration of the measurement of an hour, whose intervals are shorter by ``time_scale``.
        time_scale: How many times faster time passes in it.
        expiring_logs: Number of logs that expire one after the other, a hundred per second.
    """

    small: int = 10_000
    large: int = 100_000
    samples: tuple[int, int, int] = (1_000, 50_000, 500_000)
    id_count: int = 5_000_000
    repeat_count: int = 3
    window_seconds: float = 4.0
    scrape_count: int = 500
    settle_seconds: float = 1.5
    idle_seconds: float = 20.0
    hour_seconds: float = 80.0
    time_scale: int = 30
    expiring_logs: int = 300_000


class TimeUsed(NamedTuple):
    """Used time in seconds."""

    wall_seconds: float
    cpu_seconds: float


class PollCost(NamedTuple):
    """Cost of one poll."""

    cpu_seconds: float
    request_count: float


class Bench:
    """One run of the bench.

    Args:
        launcher: Launcher of the measured processes.
        sizes: Sizes of the measurements.
        report: Report that receives the results.
    """

    def __init__(self, launcher: ProcessLauncher, sizes: BenchSizes, report: BenchReport) -> None:
        self._launcher = launcher
        self._sizes = sizes
        self._report = report
        self._api = launcher.api(0, sizes.small, sizes.large)
        self._first_sync_mb = 0.0

    def run(self) -> None:
        """Measure everything."""
        with self._api:
            print_progress(f"creating {self._sizes.large:,} logs")
            self._api.wait_serving()
            self.measure_catch_up()
            self.measure_steady_polls()
            self.measure_scrapes()
            self.measure_start()
            measure_quick_commands(self._launcher, self._api, self._report, 5 * self._sizes.repeat_count)

    def _state_path(self, name: str) -> Path:
        return self._launcher.folder / f"{name}.db"

    def measure_catch_up(self) -> None:
        """Measure reading a whole list for the first time."""
        logs = self._sizes.large
        exporter_times, zernio_times, script_times = [], [], []
        for turn in range(self._sizes.repeat_count):
            print_progress(f"catching up, {turn + 1} of {self._sizes.repeat_count}")
            exporter_times.append(self._time_first_sync(logs, self._state_path(f"large{turn}")))
            zernio_times.append(self._time_first_sync(logs, self._state_path(f"zernio{turn}"), "zernio"))
            with self._launcher.script(self._api, logs) as script:
                script_times.append(cpu_of_catch_up(self._api, script, "polled,"))
        exporter_rate, script_rate = (
            logs / median(used.wall_seconds for used in side) for side in (exporter_times, script_times)
        )
        state_bytes = self._state_path("large0").stat().st_size / logs
        exporter_cpu, zernio_cpu, script_cpu = (
            median(used.cpu_seconds for used in side) / logs * US_PER_SECOND
            for side in (exporter_times, zernio_times, script_times)
        )
        self._report.add(
            f"(a) catch-up of {logs:,} logs",
            Measurement(
                "logs per second (the script is not durable)",
                exporter_rate,
                "",
                script_rate,
                Goal(">= 0.65x", exporter_rate >= 0.65 * script_rate),
                is_rate=True,
            ),
            Measurement(
                "CPU per log", exporter_cpu, "us", script_cpu, Goal(">= 0.59x", exporter_cpu <= 1.7 * script_cpu)
            ),
            Measurement("CPU per log in generation zernio", zernio_cpu, "us", script_cpu),
            Measurement("state per log", state_bytes, "B", goal=Goal("<= 100 B", state_bytes <= 100)),
            Measurement("peak RSS", self._first_sync_mb, "MB"),
        )

    def _time_first_sync(self, logs: int, state: Path, generation: str = "late") -> TimeUsed:
        url = f"--api.base-url={self._api.url(logs, generation)}"
        with self._launcher.exporter(self._api, logs, state, url) as exporter:
            used = cpu_of_catch_up(self._api, exporter, "first sync complete")
            self._first_sync_mb = exporter.memory_mb("VmHWM")
            exporter.stop()
        return used

    def measure_steady_polls(self) -> None:
        """Measure polls without and with new logs."""
        self._time_first_sync(self._sizes.small, self._state_path("small"))
        self._compare_steady_polls(self._sizes.small, self._state_path("small"), 30)
        self._compare_steady_polls(self._sizes.large, self._state_path("large0"), 300)
        # Last, because this makes the list longer.
        with self._launcher.exporter(
            self._api, self._sizes.large, self._state_path("large0"), interval="100ms"
        ) as exporter:
            self._api.send_command("add")
            busy_poll = self._measure_exporter_poll(exporter)
            self._api.send_command("keep")
            exporter.stop()
        self._report.add(
            f"(b) steady poll at {self._sizes.large:,} logs",
            Measurement("CPU per poll with a new log", busy_poll.cpu_seconds * MS_PER_SECOND, "ms"),
        )

    def _compare_steady_polls(self, logs: int, state: Path, min_ratio: int) -> None:
        print_progress(f"polling steadily at {logs:,} logs")
        with self._launcher.exporter(self._api, logs, state, interval="100ms") as exporter:
            exporter_poll = self._measure_exporter_poll(exporter)
            exporter.stop()
        with self._launcher.requester(self._api, logs) as requester:
            request_cpu = self._measure_request(requester)
        with self._launcher.script(self._api, logs, interval=0.2) as script:
            script_poll = self._measure_script_poll(script)
        ratio = script_poll.cpu_seconds / exporter_poll.cpu_seconds
        self._report.add(
            f"(b) steady poll at {logs:,} logs",
            Measurement(
                "requests",
                exporter_poll.request_count,
                "",
                script_poll.request_count,
                Goal("1", exporter_poll.request_count <= 1.01),
            ),
            Measurement(
                "CPU",
                exporter_poll.cpu_seconds * MS_PER_SECOND,
                "ms",
                script_poll.cpu_seconds * MS_PER_SECOND,
                Goal(f">= {min_ratio:,}x", ratio >= min_ratio),
            ),
            Measurement(
                "CPU (one request of httpx.AsyncClient)",
                exporter_poll.cpu_seconds * MS_PER_SECOND,
                "ms",
                request_cpu * MS_PER_SECOND,
                Goal(">= 0.4x", request_cpu >= 0.4 * exporter_poll.cpu_seconds),
            ),
        )

    def _measure_exporter_poll(self, exporter: MeasuredProcess) -> PollCost:
        exporter.wait_serving()
        self._wait_for_rest(exporter)
        polls = []
        for _ in range(self._sizes.repeat_count):
            polls_before, requests_before = poll_and_request_counts(exporter)
            before = exporter.cpu_seconds()
            time.sleep(self._sizes.window_seconds)
            cpu = exporter.cpu_seconds() - before
            poll_count, requests = (
                now - then
                for now, then in zip(poll_and_request_counts(exporter), (polls_before, requests_before), strict=True)
            )
            polls.append(PollCost(cpu / poll_count, requests / poll_count))
        return PollCost(median(poll.cpu_seconds for poll in polls), median(poll.request_count for poll in polls))

    def _wait_for_rest(self, exporter: MeasuredProcess) -> None:
        """Wait until polls are one request each, because a scan may follow the start."""
        counts, is_steady, attempts = poll_and_request_counts(exporter), False, 0
        while not is_steady and attempts < MAX_SETTLE_ATTEMPTS:
            time.sleep(self._sizes.settle_seconds)
            previous, counts = counts, poll_and_request_counts(exporter)
            polls, requests = (now - then for now, then in zip(counts, previous, strict=True))
            is_steady, attempts = 0 < requests <= polls, attempts + 1

    def _measure_request(self, requester: MeasuredProcess) -> float:
        """Return the CPU seconds of a request of a bare client."""
        requester.wait_for_log("requested", 5)
        before, count = requester.cpu_seconds(), requester.count_in_log("requested")
        time.sleep(self._sizes.window_seconds)
        used = requester.cpu_seconds() - before
        return used / (requester.count_in_log("requested") - count)

    def _measure_script_poll(self, script: MeasuredProcess) -> PollCost:
        script.wait_for_log("polled,")
        polls = []
        for turn in range(self._sizes.repeat_count):
            before, requests_before = script.cpu_seconds(), self._api.request_count
            script.wait_for_log("polled,", turn + 2)
            polls.append(PollCost(script.cpu_seconds() - before, self._api.request_count - requests_before))
        return PollCost(median(poll.cpu_seconds for poll in polls), median(poll.request_count for poll in polls))

    def measure_scrapes(self) -> None:
        """Measure scrapes with few to many samples, idle and during a catch-up, and memory."""
        few, many, most = self._sizes.samples
        for samples in self._sizes.samples:
            print_progress(f"scraping {samples:,} samples")
            state = self._state_path(f"samples{samples}")
            create_state_with_series(state, samples)
            section = self._compare_idle_scrapes(
                samples, state, {few: 50, most: 135}.get(samples), has_goal=samples == many
            )
            if samples == many:
                self._measure_httptools(section, state)
            if samples != most:
                self._compare_busy_scrapes(section, samples, state, has_goal=samples == many)

    def _compare_idle_scrapes(self, samples: int, state: Path, memory_goal: int | None, *, has_goal: bool) -> str:
        with self._launcher.exporter(self._api, 0, state) as exporter:
            exporter_latencies, exporter_samples = scrape_idle(
                exporter, self._sizes.scrape_count, self._sizes.settle_seconds
            )
            memory_idle, memory_peak = exporter.memory_mb(), exporter.memory_mb("VmHWM")
            exporter.stop()
        with self._launcher.script(self._api, 0, samples=samples) as script:
            script_latencies, script_samples = scrape_idle(
                script, max(2, min(50, 500_000 // samples)), self._sizes.settle_seconds
            )
            script_memory, script_peak = script.memory_mb(), script.memory_mb("VmHWM")
        size = f"{exporter_latencies.size / 1000:,.0f} kB gzipped"
        section = f"(c) scrape of {exporter_samples:,} samples (script: {script_samples:,}), {size}"
        self._report.add(
            section,
            Measurement("p50 idle", exporter_latencies.p50, "ms", script_latencies.p50),
            Measurement(
                "p99 idle",
                exporter_latencies.p99,
                "ms",
                script_latencies.p99,
                Goal("<= 1 ms", exporter_latencies.p99 <= 1) if has_goal else None,
            ),
        )
        if has_goal:
            ratio = script_latencies.p99 / exporter_latencies.p99
            self._report.add(section, Measurement("p99 idle, ratio", ratio, "x", goal=Goal(">= 100x", ratio >= 100)))
            self._measure_socket_server(section, exporter_latencies.size)
        name, goal = (
            f"RSS at {samples:,} samples",
            memory_goal and Goal(f"<= {memory_goal} MB", memory_idle <= memory_goal),
        )
        self._report.add(
            "(e) memory",
            Measurement(name, memory_idle, "MB", script_memory, goal or None),
            Measurement(f"{name}, peak", memory_peak, "MB", script_peak),
        )
        return section

    def _measure_socket_server(self, section: str, size: int) -> None:
        """Measure a server that only sends as many bytes, as a lower bound."""
        with self._launcher.socket_server(size) as bare:
            bare.wait_serving()
            latencies = Scraper(bare.port).measure(self._sizes.scrape_count, pause=0.005)
        self._report.add(
            section,
            Measurement("p50 of a socket server, same bytes", latencies.p50, "ms"),
            Measurement("p99 of a socket server, same bytes", latencies.p99, "ms"),
        )

    def _measure_httptools(self, section: str, state: Path) -> None:
        if not find_spec("httptools"):
            return
        with self._launcher.exporter(self._api, 0, state, httptools=True) as exporter:
            latencies, _ = scrape_idle(exporter, self._sizes.scrape_count, self._sizes.settle_seconds)
            self._report.add(
                section,
                Measurement("p50 idle, with httptools", latencies.p50, "ms"),
                Measurement("p99 idle, with httptools", latencies.p99, "ms"),
                Measurement("RSS, with httptools", exporter.memory_mb(), "MB"),
            )
            exporter.stop()

    def _compare_busy_scrapes(self, section: str, samples: int, state: Path, *, has_goal: bool) -> None:
        # One catch-up has a few hundred scrapes, so that its p99 is that of the fourth slowest.
        repeats = self._sizes.repeat_count if has_goal else 1
        exporter_runs, socket_runs = [], []
        for _ in range(repeats):
            exporter_runs.append(self._scrape_busy_exporter(state))
            if has_goal:
                socket_runs.append(self._scrape_busy_exporter(state, socket_bytes=exporter_runs[-1].size))
        with self._launcher.script(self._api, self._sizes.large, samples=samples) as script:
            script_latencies = self._scrape_during_catch_up(script)
        p50, p99 = (median(getattr(run, name) for run in exporter_runs) for name in ("p50", "p99"))
        count = sum(run.scrapes for run in exporter_runs)
        self._report.add(
            section,
            Measurement(f"p50 during catch-up ({count:,} scrapes)", p50, "ms", script_latencies.p50),
            Measurement(
                "p99 during catch-up", p99, "ms", script_latencies.p99, Goal("<= 5 ms", p99 <= 5) if has_goal else None
            ),
        )
        if has_goal:
            socket_p99 = median(run.p99 for run in socket_runs)
            goal = Goal(">= 0.5x", socket_p99 >= 0.5 * p99)
            self._report.add(
                section, Measurement("p99 during catch-up (a socket server beside one)", p99, "ms", socket_p99, goal)
            )

    def _scrape_busy_exporter(self, state: Path, *, socket_bytes: int | None = None) -> Latencies:
        """Measure scrapes of an exporter during its catch-up, or of a socket server of so many bytes beside it."""
        busy_state = self._state_path("busy")
        for path in busy_state.parent.glob(f"{busy_state.name}*"):
            path.unlink()
        shutil.copy(state, busy_state)
        with ExitStack() as stack:
            socket_server = None
            if socket_bytes is not None:
                socket_server = stack.enter_context(self._launcher.socket_server(socket_bytes))
                socket_server.wait_serving()
            exporter = stack.enter_context(self._launcher.exporter(self._api, self._sizes.large, busy_state))
            return self._scrape_during_catch_up(exporter, scraped=socket_server)

    def _scrape_during_catch_up(self, process: MeasuredProcess, *, scraped: MeasuredProcess | None = None) -> Latencies:
        """Measure scrapes of a process, or of another one beside it, during its catch-up."""
        self._api.hold_requests()
        process.wait_serving()
        self._api.wait_for_request()
        scraper = Scraper((scraped or process).port)
        scraper.scrape()
        end = self._api.request_count + self._sizes.large // PAGE_SIZE * 9 // 10
        self._api.send_command("release")
        is_catching_up = _probe_every(10, lambda: self._api.request_count < end)
        latencies = scraper.measure(self._sizes.scrape_count, pause=0.005, keep_going=lambda: next(is_catching_up))
        scraper.close()
        return latencies

    def measure_start(self) -> None:
        """Measure the time from the start of a process to a scrape that shows every log."""
        print_progress(f"creating a state with {self._sizes.id_count:,} ids")
        create_state_with_ids(self._state_path("small"), self._state_path("ids"), self._sizes.id_count)
        states = {0: "none", self._sizes.small: "small", self._sizes.id_count: "ids"}
        exporter_times: dict[int, list[TimeUsed]] = {ids: [] for ids in states}
        script_seconds = []
        for turn in range(self._sizes.repeat_count * 2):
            print_progress(f"starting, {turn + 1} of {self._sizes.repeat_count * 2}")
            for ids, name in states.items():
                logs = self._sizes.small if ids else 0
                with self._launcher.exporter(self._api, logs, self._state_path(name)) as exporter:
                    exporter_times[ids].append(time_first_scrape(exporter, logs))
                    exporter.stop()
            with self._launcher.script(self._api, self._sizes.small) as script:
                script_seconds.append(time_first_scrape(script, self._sizes.small).wall_seconds)
        section = "(d) from process start to a complete /metrics"
        for ids, uses in exporter_times.items():
            wall, script_median = (
                median(used.wall_seconds for used in uses),
                median(script_seconds) if ids == self._sizes.small else None,
            )
            self._report.add(
                section,
                Measurement(f"{ids:,} known ids", wall, "s", script_median, Goal("< 0.6 s", wall < 0.6)),
                Measurement(f"{ids:,} known ids, CPU", median(used.cpu_seconds for used in uses), "s"),
            )
        many, none = (median(used.wall_seconds for used in exporter_times[ids]) for ids in (self._sizes.id_count, 0))
        goal = Goal("<= 1.2x", many / none <= 1.2)
        self._report.add(
            section, Measurement(f"{self._sizes.id_count:,} ids, ratio to none", many / none, "x", goal=goal)
        )


def cpu_of_catch_up(api: ApiProcess, process: MeasuredProcess, log_message: str) -> TimeUsed:
    """Return the time from the first request of a process to a log message."""
    api.hold_requests()
    process.wait_serving()
    api.wait_for_request()
    started, before = time.perf_counter(), process.cpu_seconds()
    api.send_command("release")
    process.wait_for_log(log_message)
    return TimeUsed(time.perf_counter() - started, process.cpu_seconds() - before)


def poll_and_request_counts(exporter: MeasuredProcess) -> tuple[int, int]:
    """Return the number of polls and requests, by the metrics of the exporter."""
    scraper = Scraper(exporter.port)
    body = scraper.scrape()
    scraper.close()
    return sum_family(body, POLLS_FAMILY), sum_family(body, REQUESTS_FAMILY)


def wait_for_poll(exporter: MeasuredProcess) -> None:
    """Wait until the first poll of an exporter is complete."""
    exporter.wait_serving()
    while not poll_and_request_counts(exporter)[0]:
        exporter.check_running()
        time.sleep(0.1)


def scrape_idle(process: MeasuredProcess, scrapes: int, settle_seconds: float) -> tuple[Latencies, int]:
    """Measure scrapes of an idle process, and return their number of samples."""
    process.wait_serving()
    scraper = Scraper(process.port)
    sample_count = count_samples(scraper.scrape())
    time.sleep(settle_seconds)
    latencies = scraper.measure(scrapes, pause=0.005)
    scraper.close()
    return latencies, sample_count


def time_first_scrape(process: MeasuredProcess, logs: int | None) -> TimeUsed:
    """Return the time from the start of a process to a scrape that shows a number of logs, or any at all if None."""
    scraper = Scraper(process.port)
    exposed_logs = -1
    while exposed_logs != logs and (logs is not None or exposed_logs < 0):
        process.check_running()
        # Once it responds, scrape less often, so that scrapes do not slow it down.
        time.sleep(0.001 if exposed_logs < 0 else 0.05)
        with suppress(ConnectionRefusedError):
            exposed_logs = sum_family(scraper.scrape(), LOGS_FAMILY)
    used = TimeUsed(time.perf_counter() - process.started, process.cpu_seconds())
    scraper.close()
    return used


def _probe_every(times: int, probe: Callable[[], bool]) -> Iterator[bool]:
    """Yield the result of a probe that is called only once every few times."""
    while True:
        yield from repeat(probe(), times)


def print_progress(message: str) -> None:
    sys.stderr.write(f"{message}\n")
