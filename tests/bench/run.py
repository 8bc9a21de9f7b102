"""Print the tables of docs/development/performance.md: python -m tests.bench.run, or make bench."""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.growth import growth_table, measure_growth
from tests.bench.measurements import measure_commands, measure_costs
from tests.bench.processes import ProcessLauncher
from tests.bench.report import cost_table
from tests.e2e.program import ROOT


def main() -> None:
    """Measure everything, and print it."""
    commit = subprocess.check_output(["git", "describe", "--always", "--dirty"], cwd=ROOT, text=True).strip()
    _say(f"Commit {commit}, {datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        launcher = ProcessLauncher(Path(folder))
        costs = [
            *measure_costs(launcher, size=10_000, turns=3),
            *measure_costs(launcher, size=100_000, turns=3),
            *measure_commands(launcher),
        ]
        _say(cost_table(costs))
        _say(growth_table(measure_growth(launcher)))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
