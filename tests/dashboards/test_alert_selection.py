"""Dashboards select only the alerts of late-exporter that belong to the selected jobs and workspaces."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards.dashboard_files import load_dashboards

ALL = ".+"
ALERTS = (
    'alertname="LatencyTooHigh", job="shop"',
    'alertname="LateDelivery", job="late", workspace="acme"',
    'alertname="LatePlatformFailing", exporter="late", job="late", workspace="acme", platform="tiktok"',
    'alertname="LatePlatformFailing", exporter="late", job="late", workspace="agency", platform="tiktok"',
    'alertname="LatePlatformFailing", exporter="late", job="social", workspace="acme", platform="tiktok"',
    'alertname="LateExporterDown", exporter="late", job="social", instance="a:10077"',
    'alertname="LateExporterAbsent", exporter="late"',
)
"""Labels of firing critical alerts; the first two are of other rules."""


SELECTIONS = (
    {"job": ALL, "workspace": ALL},
    {"job": "late", "workspace": ALL},
    {"job": ALL, "workspace": "acme"},
    {"job": "(late|social)", "workspace": "(agency|other)"},
    {"job": "late", "workspace": "none"},
)
"""Values of the dashboard variables, as Grafana inserts them."""


def _queries() -> Iterator[Any]:
    """Yield the queries for critical alerts with the number of their series for each selection."""
    for dashboard in load_dashboards():
        (query,) = (
            annotation["expr"]
            for annotation in dashboard.document["annotations"]["list"]
            if annotation["name"] == "Critical alerts"
        )
        # One series per alert, workspace, platform and feed.
        yield pytest.param(f"count({query})", (4, 3, 3, 3, 1), id=f"{dashboard.uid}-annotation")
        if dashboard.uid == "late-overview":
            expressions = [target["expr"] for _, target in dashboard.queries if "ALERTS{" in target["expr"]]
            assert 3 == len(expressions)
            yield pytest.param(expressions[0].partition(" or ")[0], (5, 3, 4, 3, 1), id="stat")
            # One row per alert, workspace, platform and subject.
            yield pytest.param(f"count({expressions[2]})", (4, 3, 3, 3, 1), id="table")


@pytest.mark.e2e
@pytest.mark.parametrize(("query", "counts"), list(_queries()))
def test_only_alerts_of_the_selection_count(
    query: str, counts: Sequence[int], require_tool: Callable[[str], str], tmp_path: Path
) -> None:
    """Alerts of other rules, jobs and workspaces are left out; those without a job or a workspace always count."""
    for variables, count in zip(SELECTIONS, counts, strict=True):
        _check_count(query, variables, count, require_tool("promtool"), tmp_path)


def _check_count(query: str, variables: Mapping[str, str], expected: int, promtool: str, folder: Path) -> None:
    for name, value in variables.items():
        query = query.replace(f"${name}", value)
    series = [
        {"series": f'ALERTS{{{labels}, alertstate="firing", severity="critical"}}', "values": "1x10"}
        for labels in ALERTS
    ]
    series += [{"series": f'ALERTS_FOR_STATE{{{labels}, severity="critical"}}', "values": "60x10"} for labels in ALERTS]
    samples = [{"labels": "{}", "value": expected}]
    document = {
        "rule_files": [],
        "tests": [
            {
                "interval": "1m",
                "input_series": series,
                "promql_expr_test": [{"expr": query, "eval_time": "5m", "exp_samples": samples}],
            }
        ],
    }
    file = folder / "test.yml"
    file.write_text(json.dumps(document), "utf-8")
    process = subprocess.run([promtool, "test", "rules", str(file)], check=False, capture_output=True, text=True)
    assert 0 == process.returncode, process.stdout + process.stderr
