"""Tests of the whole of ``/metrics``: golden copies, and the linter of Prometheus."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.e2e.golden import FOLDER, FORMATS, mask_varying, render_golden_files
from tests.e2e.late import LateServer
from tests.e2e.program import ExporterProcess, wait_equal

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Return the current contents of the golden files."""
    return render_golden_files(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("name", FORMATS)
def test_golden(scraped: Mapping[str, str], name: str) -> None:
    """The output has not changed by accident; ``python -m tests.e2e.golden`` writes the copies."""
    assert (FOLDER / name).read_text("utf-8") == scraped[name]


def test_only_varying_values_are_masked() -> None:
    """Only values that depend on time are masked."""
    before = (
        'late_exporter_build_info{version="0.1.0",revision="x",python_version="3.11"} 1\n'
        'late_exporter_polls_total{feed="publishing"} 3\n'
        'late_publishing_last_log_timestamp_seconds{platform="a"} 1.7e+09\n'
        'late_publishing_duration_seconds_bucket{le="1"} 3 # {log_id="x"} 0.7 1795600000.5\n'
        "process_cpu_seconds_total 4\n"
        "# HELP python_info x\n"
    )
    assert (
        'late_exporter_build_info{version="VERSION",revision="REVISION",python_version="PYTHON"} 1\n'
        'late_exporter_polls_total{feed="publishing"} 3\n'
        'late_publishing_last_log_timestamp_seconds{platform="a"} VARIES\n'
        'late_publishing_duration_seconds_bucket{le="1"} 3 # {log_id="x"} 0.7 TIME\n'
    ) == mask_varying(before)


def test_promtool(
    late: LateServer, start_exporter: Callable[..., ExporterProcess], require_tool: Callable[[str], str], tmp_path: Path
) -> None:
    """The linter of Prometheus accepts a scrape without a warning."""
    promtool = require_tool("promtool")
    late.world.publish(20, over=60)
    late.world.add_connection()
    program = start_exporter(interval="1h").wait_ready()
    wait_equal(20.0, lambda: program.scrape().sum("late_publishing_logs_total"))
    scrape = tmp_path / "scrape"
    scrape.write_bytes(program.get("/metrics").body)
    with scrape.open("rb") as text:
        result = subprocess.run(
            [promtool, "check", "metrics"], stdin=text, capture_output=True, check=False, text=True, timeout=30
        )
    assert (0, "", "") == (result.returncode, result.stdout, result.stderr)
