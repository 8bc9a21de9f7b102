"""Joins of the dashboards find one series for each other, whatever the data source contains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.dashboards.dashboard_files import expand_variables, labels_of, load_dashboards, selectors
from tests.e2e.program import run_command


@pytest.mark.e2e
def test_clusters(require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """Queries succeed with exporters of one job and instance in two clusters."""
    exprs = [expand_variables(expr) for dashboard in load_dashboards() for _, expr in dashboard.expressions]
    joins = [expr for expr in exprs if "group_left" in expr and "ALERTS" not in expr]
    assert len(joins) > 10
    series = [
        {"series": f'{name}{{cluster="{cluster}", {labels}}}', "values": "1x10"}
        for name in sorted({selector.name for expr in joins for selector in selectors(expr)})
        # A label has the value that replaces its variable.
        for labels in [", ".join(f'{label}="{label}"' for label in sorted(labels_of(name)))]
        for cluster in ("eu", "us")
    ]
    result = [{"labels": "{}", "value": 0}]
    cases = [{"expr": f"0 * count({join}) or vector(0)", "eval_time": "5m", "exp_samples": result} for join in joins]
    test = {"interval": "1m", "input_series": series, "promql_expr_test": cases}
    (tmp_path / "test.yml").write_text(json.dumps({"tests": [test]}), "utf-8")
    run_command(require_tool("promtool"), "test", "rules", tmp_path / "test.yml")
