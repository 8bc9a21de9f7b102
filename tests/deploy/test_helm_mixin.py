"""The Helm chart and the monitoring mixin understand the same settings in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from deploy.kubernetes.rule_templates import defaults
from tests.deploy.helm import render_release
from tests.deploy.manifests import Manifest
from tests.deploy.test_helm_rules import comparable
from tests.rules.mixin import EvaluateMixin, evaluate_mixin

__all__ = ["evaluate_mixin"]

pytestmark = [pytest.mark.helm, pytest.mark.e2e]


SETTINGS: dict[str, Any] = {
    "profile": "essential",
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


@pytest.mark.parametrize(
    "settings",
    [
        {},
        SETTINGS,
        SETTINGS | {"profile": "full"},
        {"selector": 'namespace="late", job=~"a|b"'},
        {"selector": 'job!="other"'},
    ],
    ids=["none", "all", "full", "jobs", "other-jobs"],
)
def test_same_settings_give_the_same_rules(settings: dict[str, Any], helm: str, evaluate_mixin: EvaluateMixin) -> None:
    """The same settings give the same rules in the chart and in the mixin."""
    values = {f"prometheusRule.{name}": value for name, value in settings.items()}
    resources = render_release(helm, "prometheusRule.enabled=true", values=values)
    numbers = {**defaults()["thresholds"], **settings.get("thresholds", {})}  # Helm merges them itself
    mixin = evaluate_mixin(**{"disabled": None, **settings, "thresholds": numbers})
    assert_same_rules(mixin, resources)


@pytest.mark.parametrize("monitor", ["serviceMonitor", "podMonitor", "vmServiceScrape", "podMonitoring"])
def test_rules_are_about_the_job_of_the_monitor(monitor: str, helm: str, evaluate_mixin: EvaluateMixin) -> None:
    """A release that makes its scrape has rules about itself, so that two releases do not write the same series."""
    resources = render_release(helm, "prometheusRule.enabled=true", f"{monitor}.enabled=true", name="social")
    assert_same_rules(evaluate_mixin(disabled=None, selector='job="late-social-late-exporter"'), resources)


def assert_same_rules(mixin: Mapping[str, Any], resources: Sequence[Manifest]) -> None:
    """Assert that rules of the mixin and of a release are the same."""
    resources = [each for each in resources if each["kind"] == "PrometheusRule"]
    for kind, names in (("rules", ["rules"]), ("alerts", ["essential", "further"])):
        specs = {each["metadata"]["name"].rpartition("-")[2]: each["spec"] for each in resources}
        groups = [group for name in names if name in specs for group in specs[name]["groups"]]
        assert comparable(mixin[kind]["groups"]) == comparable(groups)
