"""Measurements of commands that a user or a container engine waits for, against an interpreter that does nothing."""

from __future__ import annotations

from statistics import median

from tests.bench.processes import ApiProcess, ProcessLauncher
from tests.bench.report import BenchReport, Goal, Measurement

__all__ = ["measure_quick_commands"]

MIN_RATIOS = {"healthcheck": 0.33, "--version": 0.33, "--help": 0.16}
MS_PER_SECOND = 1e3

# As the console script of an installation does.
PROGRAM = ("-c", "import re, sys; from late_exporter.cli import main; sys.exit(main())")


def measure_quick_commands(launcher: ProcessLauncher, api: ApiProcess, report: BenchReport, count: int) -> None:
    """Measure the CPU time of each command ``count`` times, in turns."""
    with launcher.exporter(api, 0, launcher.folder / "quick.db") as exporter:
        exporter.wait_serving()
        commands = {
            "python -c pass": ("-c", "pass"),
            "healthcheck": (*PROGRAM, "healthcheck", f"--web.listen-address=:{exporter.port}"),
            "--version": (*PROGRAM, "--version"),
            "--help": (*PROGRAM, "--help"),
        }
        for arguments in commands.values():
            launcher.cpu_seconds_of(arguments)  # compiles modules
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(count):
            for name, arguments in commands.items():
                seconds[name].append(launcher.cpu_seconds_of(arguments))
        exporter.stop()
    medians = {name: median(times) for name, times in seconds.items()}
    floor = medians.pop("python -c pass")
    for name, used in medians.items():
        ratio, least = floor / used, MIN_RATIOS[name]
        report.add(
            "(f) CPU of short commands, beside python -c pass",
            Measurement(
                name, used * MS_PER_SECOND, "ms", floor * MS_PER_SECOND, Goal(f">= {least:g}x", ratio >= least)
            ),
        )
