"""The Helm chart and the monitoring mixin understand the same settings in the same way."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.kubernetes.rule_templates import defaults
from tests.deploy.helm import render_release
from tests.deploy.test_helm_rules import comparable
from tests.rules.mixin import EvaluateMixin, evaluate_mixin

__all__ = ["evaluate_mixin"]

pytestmark = [pytest.mark.helm, pytest.mark.e2e]


SETTINGS: dict[str, Any] = {
    "thresholds": {"postsOverdueSeconds": 1800, "fastBurn": 13.5, "pausesPerLog": 0.25, "pendingSeconds": 7200},
    "objective": 0.995,
    "objectives": [{"workspace": "gold", "platform": "tiktok", "objective": 0.9}, {"platform": "x", "objective": 0.95}],
    "selector": 'namespace="late"',
    "clusterLabel": "region",
    "disabled": ["LateApiDrift"],
    "overrides": {"LateTokenExpiring": {"for": "2h", "keep_firing_for": None, "labels": {"severity": "info"}}},
    "alertLabels": {"team": "social"},
    "grafanaUrl": "https://grafana.example.org/",
    "runbookUrl": "https://wiki.example.org/%s",
}


@pytest.mark.parametrize("names", [[name] for name in SETTINGS] + [list(SETTINGS)], ids=lambda names: names[-1])
def test_same_settings_give_the_same_rules(names: list[str], helm: str, evaluate_mixin: EvaluateMixin) -> None:
    """Each setting, and all of them together, give the same rules in the chart and in the mixin."""
    assert_same_rules({name: SETTINGS[name] for name in names}, helm, evaluate_mixin)


@pytest.mark.parametrize("selector", ['namespace="jobs"', 'namespace="late", job=~"a|b"', 'job!="other"'])
def test_only_a_selector_of_jobs_replaces_their_names(selector: str, helm: str, evaluate_mixin: EvaluateMixin) -> None:
    """Targets are selected by the names of jobs as well, unless the selector does that itself."""
    assert_same_rules({"selector": selector}, helm, evaluate_mixin)


def assert_same_rules(settings: dict[str, Any], helm: str, evaluate_mixin: EvaluateMixin) -> None:
    """Assert that settings give the same rules in the chart and in the mixin."""
    values = {f"prometheusRule.{name}": value for name, value in settings.items()}
    resources = render_release(helm, "prometheusRule.enabled=true", values=values)
    settings["thresholds"] = {**defaults()["thresholds"], **settings.get("thresholds", {})}  # Helm merges them itself
    mixin = evaluate_mixin(**{"disabled": None, **settings})
    for kind in ("rules", "alerts"):
        (spec,) = (one["spec"] for one in resources if one["metadata"]["name"] == f"late-late-exporter-{kind}")
        assert comparable(mixin[kind]) == comparable(spec)
