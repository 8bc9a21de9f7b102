"""The monitoring mixin, evaluated with a configuration."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest

GRAFANA = Path(__file__).parents[2] / "grafana"

EvaluateMixin: TypeAlias = Callable[..., Mapping[str, Any]]
"""Returns ``rules``, ``alerts`` and, if asked for, ``dashboards``, for settings given as keyword arguments."""

PROGRAM = """
local mixin = (import 'mixin.libsonnet') + { _config+:: %(config)s };
{
  rules: mixin.prometheusRules,
  alerts: mixin.prometheusAlerts,
  [if %(dashboards)s then 'dashboards']: mixin.grafanaDashboards,
}
"""


def _run(jsonnet: str, config: Mapping[str, Any], *, dashboards: bool) -> subprocess.CompletedProcess[str]:
    program = PROGRAM % {"config": json.dumps(config), "dashboards": json.dumps(dashboards)}
    command = [jsonnet, "--jpath", str(GRAFANA), "--exec", program]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def _evaluate(
    jsonnet: str, *, dashboards: bool = False, disabled: Sequence[str] | None = (), **config: Any
) -> Mapping[str, Any]:
    """Evaluate the mixin with all alerts but the disabled ones; None leaves out those that are off by default."""
    if disabled is not None:
        config["disabled"] = disabled
    process = _run(jsonnet, config, dashboards=dashboards)
    assert 0 == process.returncode, process.stderr
    result: Mapping[str, Any] = json.loads(process.stdout)
    return result


@pytest.fixture(scope="session")
def evaluate_mixin(require_tool: Callable[[str], str]) -> EvaluateMixin:
    """Return the function that evaluates the mixin."""
    return partial(_evaluate, require_tool("jsonnet"))


def mixin_error(jsonnet: str, **config: Any) -> str:
    """Return the message with which the mixin rejects a configuration."""
    process = _run(jsonnet, config, dashboards=True)
    assert 0 != process.returncode
    return process.stderr.splitlines()[0]


def alerts_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the alerting rules of all groups."""
    return [rule for rule in rules_of(document) if "alert" in rule]


def rules_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rules of all groups."""
    return [rule for group in document["groups"] for rule in group["rules"]]
