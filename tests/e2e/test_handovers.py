"""The program that runs replicas under faults for a long time: a short run passes, and problems are reported."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.handovers import SeriesHistory, find_differences, query_increase, read_histories
from tests.e2e.program import ROOT
from tests.e2e.prometheus import PrometheusApi, ResultRow
from tests.e2e.replicas import LOGS_SELECTOR, Totals
from tests.support.postgres import Cluster

pytestmark = pytest.mark.e2e

HANDOVERS = [sys.executable, "-m", "tests.soak.handovers", "--seed=1"]
SERIES = ("acme", "tiktok", "publish", "success")
METRIC = dict(zip(("workspace", "platform", "action", "status"), SERIES, strict=True), instance="late-exporter")


def run_handovers(duration: str, prometheus: str) -> subprocess.CompletedProcess[str]:
    environ = {
        **os.environ,
        "HANDOVERS": duration,
        "PATH": f"{Path(prometheus).parent}{os.pathsep}{os.environ['PATH']}",
    }
    return subprocess.run(HANDOVERS, cwd=ROOT, env=environ, capture_output=True, check=False, text=True, timeout=300)


def test_a_short_run(postgres: Cluster, require_tool: Callable[[str], str]) -> None:
    """Five seconds of faults end with every log counted once, and the report has what was compared."""
    del postgres  # It skips the test if PostgreSQL is missing.
    result = run_handovers("5s", require_tool("prometheus"))
    assert 0 == result.returncode, result.stdout + result.stderr
    assert "every log was counted exactly once, and no counter fell" in result.stdout
    (count,) = re.findall(r"^logs: ([0-9,]+) written", result.stdout, re.MULTILINE)
    assert f"the state: {count} counted, after" in result.stdout
    assert f"Prometheus: {count} counted, after" in result.stdout
    assert f"samples: increases of {count}, 0 resets\nincrease(): {count}\n" in result.stdout


def test_an_invalid_duration_is_rejected(postgres: Cluster, require_tool: Callable[[str], str]) -> None:
    """An invalid HANDOVERS is rejected with a message before anything is started."""
    del postgres
    result = run_handovers("1s", require_tool("prometheus"))
    assert (2, True) == (result.returncode, "HANDOVERS=1s: must be at least 5s and at most 30d" in result.stderr)


def test_differences_are_reported() -> None:
    """A series with a log too many or too few is reported, and one that is right is not."""
    assert [] == list(find_differences("the state", Totals({SERIES: 2}), Totals({SERIES: 2})))
    assert ["acme/tiktok/publish/success: there are 2 logs, the state has 3"] == list(
        find_differences("the state", Totals({SERIES: 2}), Totals({SERIES: 3}))
    )
    many = Totals({(*SERIES, str(number)): 1 for number in range(30)})
    assert "Prometheus: 10 more series are different" == list(find_differences("Prometheus", many, Totals()))[-1]


class FixedPrometheus(PrometheusApi):
    """Prometheus with the samples of one counter."""

    def __init__(self, *samples: tuple[float, str]) -> None:
        super().__init__("")
        self._samples = samples

    def query(self, expression: str) -> list[ResultRow]:
        """Return the samples, or the range and the time of an ``increase()`` in one number."""
        if expression.startswith("increase("):
            found = re.search(r"\[(\d+)ms\] @ ([\d.]+)\)", expression)
            assert found is not None
            return [{"value": [0, found[1]]}]
        assert f"{LOGS_SELECTOR}[60s]" == expression
        return [{"metric": METRIC, "values": self._samples}]


def test_a_reset_is_reported() -> None:
    """A counter that falls is a reset, and its new value is an increase, as for Prometheus."""
    (history,) = read_histories(FixedPrometheus((1.0, "5"), (2.0, "7"), (3.5, "3"), (4.0, "3")), 60)
    assert SeriesHistory(SERIES, first_time=1.0, last_time=4.0, increase=5, resets=1) == history
    assert 3001 == query_increase(FixedPrometheus(), history)
