"""Joins of the dashboards find one series for each other, whatever the data source contains."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.dashboards.dashboard_files import expand_variables, labels_of, load_dashboards, selectors
from tests.e2e.program import run_command

CLUSTERS = ("eu", "us")


def _series(name: str) -> Iterator[str]:
    """Yield the series of a family in both clusters, with the values that replace the variables."""
    labels = {label: label for label in sorted(labels_of(name) or ())}
    for cluster in CLUSTERS:
        matchers = ", ".join(f'{label}="{value}"' for label, value in {"cluster": cluster, **labels}.items())
        yield f"{name}{{{matchers}}}"


@pytest.mark.e2e
def test_clusters(require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """Queries succeed with exporters of one job and instance in two clusters."""
    joins = [
        expand_variables(expr)
        for dashboard in load_dashboards()
        for _, expr in dashboard.expressions
        if "group_left" in expr and "ALERTS" not in expr
    ]
    assert len(joins) > 10
    names = {selector.name for expr in joins for selector in selectors(expr)}
    series = [{"series": text, "values": "1x10"} for name in sorted(names) for text in _series(name)]
    cases = [
        {"expr": f"0 * count({expr}) or vector(0)", "eval_time": "5m", "exp_samples": [{"labels": "{}", "value": 0}]}
        for expr in joins
    ]
    file = tmp_path / "test.yml"
    file.write_text(
        json.dumps({"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": cases}]}), "utf-8"
    )
    run_command(require_tool("promtool"), "test", "rules", file)
