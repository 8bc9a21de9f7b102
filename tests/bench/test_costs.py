"""No cost has risen to more than twice the documented one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bench.measurements import measure_commands, measure_costs
from tests.bench.processes import ProcessLauncher
from tests.bench.report import cost_table, find_risen

ATTEMPTS = 2


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="CPU clocks of processes are those of Linux")
def test_no_cost_is_twice_the_documented_one(tmp_path: Path) -> None:
    """The exporter costs at most twice what docs/development/performance.md says, beside programs measured with it."""
    # A busy machine may disturb one measurement; a change that doubles a cost does so each time.
    problems: list[str] = []
    for attempt in range(ATTEMPTS):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        launcher = ProcessLauncher(folder)
        costs = [*measure_costs(launcher, size=10_000, turns=2), *measure_commands(launcher)]
        sys.stdout.write(f"{cost_table(costs)}\n")
        problems = list(find_risen(costs))
        if not problems:
            break
    assert problems == []
