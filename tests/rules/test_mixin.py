"""The monitoring mixin contains the same dashboards and rules as the files."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus"

KUBERNETES = """
local mixin = (import 'mixin.libsonnet') + {
  grafanaDashboards+:: { 'own.json': {} },
};
{
  dashboards: mixin.grafanaDashboards,
  rules: mixin.prometheusRules,
  alerts: mixin.prometheusAlerts,
  resource: {
    apiVersion: 'monitoring.coreos.com/v1',
    kind: 'PrometheusRule',
    spec: { groups: mixin.prometheusRules.groups + mixin.prometheusAlerts.groups },
  },
}
"""
"""Use the mixin as kube-prometheus does: hidden fields, extensible, rendered to a PrometheusRule."""


@pytest.fixture(scope="module")
def mixin(require_tool: Callable[[str], str]) -> dict[str, Any]:
    """Return the evaluated mixin."""
    command = [require_tool("jsonnet"), "--jpath", str(ROOT / "grafana"), "--exec", KUBERNETES]
    process = subprocess.run(command, check=False, capture_output=True, text=True)
    assert 0 == process.returncode, process.stderr
    result: dict[str, Any] = json.loads(process.stdout)
    return result


def test_dashboards_equal_the_files(mixin: dict[str, Any]) -> None:
    """The mixin has every dashboard under its file name, and dashboards can be added."""
    files = {file.name: json.loads(file.read_text("utf-8")) for file in (ROOT / "grafana/dashboards").glob("*.json")}
    assert 4 == len(files)
    assert {**files, "own.json": {}} == mixin["dashboards"]


@pytest.mark.parametrize("kind", ["rules", "alerts"])
def test_rules_equal_the_files(mixin: dict[str, Any], kind: str) -> None:
    """Recording rules and alerts equal those of the files."""
    assert yaml.safe_load((RULES / f"late-exporter.{kind}.yml").read_text("utf-8")) == mixin[kind]


def test_promtool_accepts_the_rules(mixin: dict[str, Any], require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """Promtool accepts the rules of the PrometheusRule built from the mixin."""
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps(mixin["resource"]["spec"]), "utf-8")
    command = [require_tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", str(file)]
    assert 0 == subprocess.run(command, check=False).returncode
