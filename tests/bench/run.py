"""Measures late-exporter side by side with the script that one writes in an afternoon: make bench.

It prints figures and aims, and fails for none of them. --quick measures little, --json prints for programs.
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
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, once each: whether the bench works")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    started, load = time.monotonic(), os.getloadavg()[0]
    report = BenchReport()
    # On a disk: a state in memory would be durable for nothing.
    with tempfile.TemporaryDirectory(prefix="late-exporter-bench-") as folder:
        Bench(ProcessLauncher(Path(folder)), QUICK_SIZES if arguments.quick else BenchSizes(), report).run()
    load_after, took = os.getloadavg()[0], time.monotonic() - started
    report.header_lines = [
        f"late-exporter against an afternoon's script, both under CPython {platform.python_version()}",
        f"{os.cpu_count()} CPUs, load {load:.1f} before and {load_after:.1f} after; took {took:.0f} s",
    ]
    if arguments.quick:
        report.header_lines.append("--quick: sizes are too small for the aims to mean much")
    sys.stdout.write(f"{report.json() if arguments.json else report.text()}\n")


if __name__ == "__main__":
    main()
