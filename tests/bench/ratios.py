"""Ratios that hold on a busy machine as well, because both sides of each are measured in turns or at the same time.

They are of CPU time, requests and memory, never of time by the clock: make bench, and part of make thorough.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.bench.processes import MeasuredProcess, ProcessLauncher
from tests.bench.report import BenchReport, Measurement, too_low_ratios

LOGS = 10_000
TURNS = 2
"""Pairs of catch-ups, of which the one with the best ratio counts: what disturbs one of a pair makes it no better."""

MIN_POLLS = 40
SCRIPT_POLLS = 3
COMMAND_RUNS = 3
# As the console script of an installation does.
PROGRAM = ("-c", "import re, sys; from late_exporter.cli import main; sys.exit(main())")
MS_PER_SECOND, US_PER_SECOND = 1e3, 1e6


def find_problems(folder: Path) -> list[str]:
    """Measure the ratios and print them; return a message for each that is too low."""
    report = BenchReport()
    RatioBench(ProcessLauncher(folder), report).run()
    sys.stdout.write(f"{report.text()}\n")
    return list(too_low_ratios(report))


class CatchUpCost(NamedTuple):
    """Cost of reading a whole list for the first time."""

    cpu_seconds: float
    memory_mb: float


class RatioBench:
    """Measurements of the ratios.

    Args:
        launcher: Launcher of the measured processes.
        report: Report that receives the results.
    """

    def __init__(self, launcher: ProcessLauncher, report: BenchReport) -> None:
        self._launcher = launcher
        self._report = report
        self._api = launcher.api(LOGS)

    def run(self) -> None:
        """Measure everything."""
        with self._api:
            self._api.wait_serving()
            state = self.measure_catch_up()
            self.measure_polls(state)
            self.measure_commands()

    def measure_catch_up(self) -> Path:
        """Measure the first sync of a list; return the state."""
        pairs, states = [], [self._launcher.folder / f"ratios{turn}.db" for turn in range(TURNS)]
        for state in states:
            with self._launcher.exporter(self._api, state) as exporter:
                exporter_cost = self._catch_up(exporter, "first sync complete")
                exporter.stop()
            with self._launcher.script(self._api) as script:
                pairs.append((exporter_cost, self._catch_up(script, "polled,")))
        best, script_cost = min(pairs, key=lambda pair: pair[0].cpu_seconds / pair[1].cpu_seconds)
        per_log = US_PER_SECOND / LOGS
        self._report.add(
            f"(a) catch-up of {LOGS:,} logs",
            Measurement("CPU per log", best.cpu_seconds * per_log, "us", script_cost.cpu_seconds * per_log),
        )
        self._report.add("(e) memory", Measurement("RSS after a catch-up", best.memory_mb, "MB", script_cost.memory_mb))
        return states[0]

    def _catch_up(self, process: MeasuredProcess, log_message: str) -> CatchUpCost:
        self._api.hold_requests()
        process.wait_serving()
        self._api.wait_for_request()
        before = process.cpu_seconds()
        self._api.release_requests()
        process.wait_for_log(log_message)
        return CatchUpCost(process.cpu_seconds() - before, process.memory_mb())

    def measure_polls(self, state: Path) -> None:
        """Measure polls that find nothing new, beside polls of the script and requests of a bare client."""
        with (
            self._launcher.exporter(self._api, state, interval="100ms") as exporter,
            self._launcher.requester(self._api) as requester,
            self._launcher.script(self._api, interval=0.2) as script,
        ):
            exporter.wait_serving()
            requester.wait_for_log("requested")
            _wait_for_rest(exporter)
            done = script.count_in_log("polled,") + 1
            script.wait_for_log("polled,", done)
            before = _cpu_times(exporter, requester, script)
            polls_before, requests_before = exporter.poll_and_request_counts()
            bare_before = requester.count_in_log("requested")
            script.wait_for_log("polled,", done + SCRIPT_POLLS)
            while exporter.poll_and_request_counts()[0] < polls_before + MIN_POLLS:
                time.sleep(0.05)
            script.wait_for_log("polled,", script.count_in_log("polled,") + 1)
            exporter_cpu, bare_cpu, script_cpu = (
                now - then for now, then in zip(_cpu_times(exporter, requester, script), before, strict=True)
            )
            polls, requests = exporter.poll_and_request_counts()
            script_polls = script.count_in_log("polled,") - done
            bare_requests = requester.count_in_log("requested") - bare_before
            exporter.stop()
        poll_ms = exporter_cpu / (polls - polls_before) * MS_PER_SECOND
        script_ms, bare_ms = script_cpu / script_polls * MS_PER_SECOND, bare_cpu / bare_requests * MS_PER_SECOND
        self._report.add(
            f"(b) steady poll at {LOGS:,} logs",
            Measurement("requests", (requests - requests_before) / (polls - polls_before), "", LOGS / 100),
            Measurement("CPU", poll_ms, "ms", script_ms),
            Measurement("CPU (one request of httpx.AsyncClient)", poll_ms, "ms", bare_ms),
        )

    def measure_commands(self) -> None:
        """Measure commands that a user or a container engine waits for, beside an interpreter that does nothing."""
        with self._launcher.exporter(self._api, self._launcher.folder / "commands.db") as exporter:
            exporter.wait_serving()
            commands = {
                "python -c pass": ("-c", "pass"),
                "healthcheck": (*PROGRAM, "healthcheck", f"--web.listen-address=:{exporter.port}"),
                "--version": (*PROGRAM, "--version"),
                "--help": (*PROGRAM, "--help"),
            }
            # The first run, which compiles modules, does not count.
            runs = [
                {name: self._launcher.cpu_seconds_of(commands[name]) for name in commands}
                for _ in range(1 + COMMAND_RUNS)
            ]
            exporter.stop()
        floor, *medians = (median(run[name] for run in runs[1:]) * MS_PER_SECOND for name in commands)
        for name, used in zip([*commands][1:], medians, strict=True):
            self._report.add("(f) CPU of short commands", Measurement(name, used, "ms", floor))


def _cpu_times(*processes: MeasuredProcess) -> list[float]:
    return [process.cpu_seconds() for process in processes]


def _wait_for_rest(exporter: MeasuredProcess) -> None:
    """Wait until polls are one request each, because a scan follows the start."""
    counts, is_at_rest = exporter.poll_and_request_counts(), False
    while not is_at_rest:
        time.sleep(0.5)
        previous, counts = counts, exporter.poll_and_request_counts()
        polls, requests = (now - then for now, then in zip(counts, previous, strict=True))
        is_at_rest = 0 < requests <= polls
