"""Compare the costs of late-exporter with those of a minimal script, and measure how they grow: make bench.

With --quick it only compares.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from pathlib import Path

from tests.bench.growth import measure_growth
from tests.bench.processes import ProcessLauncher
from tests.bench.ratios import find_problems
from tests.bench.report import BenchReport


def main() -> int:
    """Measure and print the report; return 1 if a ratio is below half of the documented one."""
    sys.stdout.write(f"CPython {platform.python_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}\n")
    # On a disk: durability is free in memory.
    with tempfile.TemporaryDirectory(prefix="late-exporter-bench-") as folder:
        problems = find_problems(Path(folder))
        if "--quick" not in sys.argv:
            report = BenchReport()
            measure_growth(ProcessLauncher(Path(folder)), report)
            sys.stdout.write(f"{report.text()}\n")
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
