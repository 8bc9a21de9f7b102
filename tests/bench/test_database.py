"""The measurements of a state in PostgreSQL give plausible numbers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bench.database import QUICK_DATABASE, measure_postgres
from tests.bench.processes import ProcessLauncher
from tests.bench.report import BenchReport
from tests.support.postgres import find_programs


@pytest.mark.e2e
@pytest.mark.skipif(sys.platform != "linux", reason="CPU clocks of processes are those of Linux")
@pytest.mark.usefixtures("postgres")
def test_costs_of_a_database_are_measured(tmp_path: Path) -> None:
    """Each section has its figures; a log takes more than its key, and a checkpoint makes the next commit larger."""
    assert find_programs() is not None
    report = BenchReport()
    measure_postgres(ProcessLauncher(tmp_path), QUICK_DATABASE, report)
    figures = {(section[1], each.name): each.exporter for section, rows in report.sections.items() for each in rows}
    assert set("lmnopqr") == {letter for letter, _ in figures}
    # Clocks of CPU tick every 10 ms, which few polls need not reach; a quiet poll need not write.
    measured = {name: value for (_, name), value in figures.items() if "CPU" not in name and "WAL" not in name}
    assert set() == {name for name, value in measured.items() if value <= 0}
    assert min(figures.values()) >= 0
    assert figures["l", "quiet poll: statements"] >= 5
    assert figures["o", "WAL per transaction"] > 1
    assert figures["n", "all tables, per log"] > 45
    assert figures["q", "WAL per feed"] > figures["m", "WAL per log"]
