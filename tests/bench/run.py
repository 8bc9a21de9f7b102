"""Measure late-exporter side by side with a minimal script, in one run: make bench.

Prints values, ratios and goals; a missed goal is no failure. --quick only measures some ratios, and fails if one falls
below half of its value in docs/performance.md. --growth measures how cost grows instead. --json prints JSON.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.documented import DOCUMENT, too_low_ratios
from tests.bench.growth import QUICK_GROWTH, GrowthBench, GrowthSizes
from tests.bench.hours import HourBench
from tests.bench.measures import Bench, BenchSizes
from tests.bench.processes import ProcessLauncher
from tests.bench.ratios import RatioBench
from tests.bench.report import BenchReport
from tests.bench.workspaces import LARGE, QUICK_WORKSPACES, WorkspaceBench, WorkspaceSizes


def main() -> int:
    """Measure and print the report; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="compare some ratios with the documented ones")
    parser.add_argument("--growth", action="store_true", help="measure growth with logs, samples and workspaces")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    started, load = time.monotonic(), os.getloadavg()[0]
    report = BenchReport()
    # On a disk: durability is free in memory.
    with tempfile.TemporaryDirectory(prefix="late-exporter-bench-") as folder:
        launcher = ProcessLauncher(Path(folder))
        if arguments.growth:
            GrowthBench(launcher, QUICK_GROWTH if arguments.quick else GrowthSizes(), report).run()
            WorkspaceBench(launcher, QUICK_WORKSPACES if arguments.quick else WorkspaceSizes(), report).run()
        elif arguments.quick:
            RatioBench(launcher, report).run()
        else:
            for bench in (Bench, HourBench):
                bench(launcher, BenchSizes(), report).run()
            WorkspaceBench(launcher, WorkspaceSizes(counts=(10, LARGE)), report).run()
    load_after, seconds = os.getloadavg()[0], time.monotonic() - started
    report.header_lines = [
        f"late-exporter and a minimal script, both under CPython {platform.python_version()}",
        f"{os.cpu_count()} CPUs, load {load:.1f} before and {load_after:.1f} after; {seconds:.0f} s",
    ]
    sys.stdout.write(f"{report.json() if arguments.json else report.text()}\n")
    if not arguments.quick or arguments.growth:
        return 0
    problems = list(too_low_ratios(report, DOCUMENT.read_text("utf-8")))
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
