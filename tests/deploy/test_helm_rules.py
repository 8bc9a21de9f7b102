"""The rules of the Helm chart are those of the monitoring mixin, also if values change them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from deploy.kubernetes.rule_templates import defaults
from tests.deploy.manifests import SECRET_SETTING, Manifest, helm_template, render_release
from tests.rules.mixin import EvaluateMixin, evaluate_mixin

__all__ = ["evaluate_mixin"]

pytestmark = [pytest.mark.helm, pytest.mark.e2e]

SETTINGS: dict[str, Any] = {
    "profile": "full",
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
        {"selector": 'namespace="late", job=~"a|b"', "disabled": [], "profile": "essential"},
        {"selector": 'job!="other"'},
    ],
    ids=["none", "all", "jobs", "other-jobs"],
)
def test_same_settings_give_the_same_rules(settings: dict[str, Any], helm: str, evaluate_mixin: EvaluateMixin) -> None:
    """The same settings give the same rules in the chart and in the mixin."""
    values = {f"prometheusRule.{name}": value for name, value in settings.items()}
    specs = specs_of(render_release(helm, "prometheusRule.enabled=true", values=values))
    numbers = {**defaults()["thresholds"], **settings.get("thresholds", {})}  # Helm merges them itself
    assert_same_rules(evaluate_mixin(**{"disabled": None, **settings, "thresholds": numbers}), specs)


@pytest.mark.parametrize("monitor", ["serviceMonitor", "podMonitor", "vmServiceScrape", "podMonitoring"])
def test_rules_are_about_the_job_of_the_monitor(monitor: str, helm: str, evaluate_mixin: EvaluateMixin) -> None:
    """A release that makes its scrape has rules about itself, so that two releases do not write the same series."""
    resources = render_release(helm, "prometheusRule.enabled=true", f"{monitor}.enabled=true", name="social")
    assert_same_rules(evaluate_mixin(disabled=None, selector='job="late-social-late-exporter"'), specs_of(resources))


def test_a_job_that_is_a_label(helm: str) -> None:
    """A monitor may take the job from a label of its target; the rules cannot know it, and are about all exporters."""
    for kind in ("serviceMonitor", "podMonitor"):
        settings = (f"{kind}.enabled=true", f"{kind}.jobLabel=team", f"{kind}.relabelings=null")
        resources = render_release(helm, "prometheusRule.enabled=true", *settings)
        (monitor,) = (each["spec"] for each in resources if each["kind"].endswith("Monitor"))
        (scrape,) = monitor.get("endpoints") or monitor["podMetricsEndpoints"]
        assert ("team", False) == (monitor["jobLabel"], "relabelings" in scrape)
        assert specs_of(resources) == specs_of(render_release(helm, "prometheusRule.enabled=true"))


def assert_same_rules(mixin: Mapping[str, Any], specs: Mapping[str, Any]) -> None:
    """Assert that rules of the mixin and of a release are the same."""
    for kind, names in (("rules", ["rules"]), ("alerts", ["essential", "further"])):
        groups = [group for name in names if name in specs for group in specs[name]["groups"]]
        assert comparable(mixin[kind]["groups"]) == comparable(groups)


def specs_of(resources: list[Manifest], kind: str = "PrometheusRule") -> dict[str, Any]:
    """Return the specs of the rules by the last word of their names."""
    return {each["metadata"]["name"].rpartition("-")[2]: each["spec"] for each in resources if each["kind"] == kind}


def test_rules_for_victoria_metrics(helm: str) -> None:
    """VMRules are the same as PrometheusRules."""
    resources = render_release(helm, "prometheusRule.enabled=true", "vmRule.enabled=true")
    assert specs_of(resources) == specs_of(resources, "VMRule") != {}


@pytest.mark.parametrize(("job", "jobs"), [("social", "social"), ("late-brand", "late|late-.*"), ("", "late|late-.*")])
def test_rules_know_the_job(helm: str, job: str, jobs: str) -> None:
    """A job of another name is known to the rules, too."""
    settings = (SECRET_SETTING, "prometheusRule.enabled=true", f"job={job}")
    text = helm_template(helm, f"--set={','.join(settings)}")
    assert {jobs} == set(re.findall(r'\bup\{job=~"([^"]+)"\}', text))


@pytest.mark.parametrize("objective", ["0.995", "0.9999"])
def test_objectives_may_be_texts(helm: str, objective: str) -> None:
    """Helm gives a decimal of the command line as a text."""
    texts = (f"prometheusRule.objective={objective}", "prometheusRule.thresholds.fastBurn=13.5")
    numbers = {"prometheusRule.objective": float(objective), "prometheusRule.thresholds": {"fastBurn": 13.5}}
    enabled = "prometheusRule.enabled=true"
    assert render_release(helm, enabled, *texts) == render_release(helm, enabled, values=numbers)


def comparable(rules: Any) -> str:
    """Return rules as text, with numbers of equal value written alike."""
    return re.sub(
        r"\d+(\.\d+)?(e[+-]\d+)?", lambda number: f"{float(number[0]):.10g}", json.dumps(rules, sort_keys=True)
    )


def test_own_alerts(helm: str) -> None:
    """Own alerts are added in every profile, with templates of the chart."""
    own = {
        "alert": "LateOwn",
        "expr": "late_up == 0",
        "annotations": {"summary": '{{ "{{ $value }}" }} {{ .Release.Name }}'},
    }
    resources = render_release(
        helm,
        "prometheusRule.enabled=true",
        "prometheusRule.profile=essential",
        values={"prometheusRule.rules": [own]},
    )
    rules = [rule for spec in specs_of(resources).values() for group in spec["groups"] for rule in group["rules"]]
    assert [own | {"annotations": {"summary": "{{ $value }} late"}}] == [
        rule for rule in rules if rule.get("alert") == "LateOwn"
    ]
