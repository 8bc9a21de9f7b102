"""The mixin has the shipped rules and dashboards, less what its configuration leaves out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.e2e.program import run_command

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus"
MIXIN = """
local late = (import 'grafana/mixin.libsonnet') {
  _config+:: { exclude: ['LateScheduleEmpty'], labels: { team: 'social' } },
};
[late.prometheusRules, late.prometheusAlerts, late.grafanaDashboards]
"""


@pytest.mark.e2e
def test_mixin(require_tool: Callable[[str], str]) -> None:
    """Jsonnet yields the files as they are, but for the excluded alert and the label of the others."""
    rules, alerts, dashboards = json.loads(run_command(require_tool("jsonnet"), "-e", MIXIN, cwd=ROOT))
    expected = yaml.safe_load((RULES / "late-exporter.alerts.yml").read_text("utf-8"))
    for group in expected["groups"]:
        group["rules"] = [rule for rule in group["rules"] if rule["alert"] != "LateScheduleEmpty"]
        for rule in group["rules"]:
            rule["labels"]["team"] = "social"
    assert rules == yaml.safe_load((RULES / "late-exporter.rules.yml").read_text("utf-8"))
    assert alerts == expected
    files = (ROOT / "grafana" / "dashboards").iterdir()
    assert dashboards == {file.name: json.loads(file.read_text("utf-8")) for file in files}
