"""Measure late-exporter side by side with a minimal script, in one run: make bench.

--quick only measures the ratios of docs/development/performance.md, and fails if one is below half of what it says.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from pathlib import Path

from tests.bench.growth import measure_growth
from tests.bench.processes import ProcessLauncher
from tests.bench.ratios import RatioBench
from tests.bench.report import BenchReport, too_low_ratios


def main() -> int:
    """Measure and print the report; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only compare the ratios with the documented ones")
    arguments = parser.parse_args()
    sys.stdout.write(f"CPython {platform.python_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}\n")
    report = BenchReport()
    # On a disk: durability is free in memory.
    with tempfile.TemporaryDirectory(prefix="late-exporter-bench-") as folder:
        launcher = ProcessLauncher(Path(folder))
        RatioBench(launcher, report).run()
        if not arguments.quick:
            measure_growth(launcher, report)
    sys.stdout.write(f"{report.text()}\n")
    problems = list(too_low_ratios(report)) if arguments.quick else []
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
