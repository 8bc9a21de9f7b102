"""Tests of the whole of ``/metrics``: golden copies, and the linter of Prometheus."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from late_exporter.metrics.catalogue import OPTIONAL_FAMILIES
from tests.e2e.golden import FOLDER, FORMATS, render_golden_files
from tests.e2e.late import LateServer
from tests.e2e.program import Run, run_command, wait_equal


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Return the current contents of the golden files."""
    return render_golden_files(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("name", FORMATS)
def test_golden(scraped: Mapping[str, str], name: str) -> None:
    """The output has not changed by accident; ``python -m tests.e2e.golden`` writes the copies."""
    assert (FOLDER / name).read_text("utf-8") == scraped[name]


def test_metrics_of_the_process_can_be_disabled(start_exporter: Run) -> None:
    """``process_*`` and ``python_*`` name what the exporter does not count itself, each on its own."""
    program = start_exporter("--metrics.disable=process_*").wait_ready()
    names = {name for name, _ in program.scrape()}
    assert {name for name in names if name.startswith(("process_", "python_"))} == {"python_info"}


def test_promtool(late: LateServer, start_exporter: Run, require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """The linter of Prometheus accepts a scrape without a warning; what is off by default is not in it."""
    promtool = require_tool("promtool")
    late.world.publish(20, over=60)
    late.world.add_connection()
    program = start_exporter(interval="1h").wait_ready()
    wait_equal(20.0, lambda: program.scrape().sum("late_publishing_logs_total"))
    assert not [name for name, _ in program.scrape() for family in OPTIONAL_FAMILIES if name.startswith(family)]
    scrape = tmp_path / "scrape"
    scrape.write_bytes(program.get("/metrics").body)
    with scrape.open("rb") as text:
        assert run_command(promtool, "check", "metrics", stdin=text, stderr=subprocess.STDOUT) == ""
