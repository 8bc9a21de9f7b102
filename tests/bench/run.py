"""Measure late-exporter side by side with a minimal script, in one run: make bench.

Prints values, ratios and goals. A missed goal is no failure. --quick measures little, --json prints JSON.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.measures import QUICK_SIZES, Bench, BenchSizes
from tests.bench.processes import ProcessLauncher
from tests.bench.report import BenchReport


def main() -> None:
    """Measure and print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, once each, to test the bench")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    started, load = time.monotonic(), os.getloadavg()[0]
    report = BenchReport()
    # On a disk: durability is free in memory.
    with tempfile.TemporaryDirectory(prefix="late-exporter-bench-") as folder:
        Bench(ProcessLauncher(Path(folder)), QUICK_SIZES if arguments.quick else BenchSizes(), report).run()
    load_after, seconds = os.getloadavg()[0], time.monotonic() - started
    report.header_lines = [
        f"late-exporter and a minimal script, both under CPython {platform.python_version()}",
        f"{os.cpu_count()} CPUs, load {load:.1f} before and {load_after:.1f} after; {seconds:.0f} s",
    ]
    if arguments.quick:
        report.header_lines.append("--quick: sizes are too small for the goals to be meaningful")
    sys.stdout.write(f"{report.json() if arguments.json else report.text()}\n")


if __name__ == "__main__":
    main()
