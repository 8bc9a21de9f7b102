"""The monitoring mixin equals the shipped files, and follows its configuration as the sources would."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.prometheus import thresholds
from tests.e2e.program import run_command
from tests.rules.mixin import GRAFANA, EvaluateMixin, alerts_of, evaluate_mixin, mixin_error, rules_of
from tests.rules.promql import named_labels, selectors
from tests.support.documents import blocks, document

__all__ = ["evaluate_mixin"]

pytestmark = pytest.mark.e2e

ROOT = GRAFANA.parent
RULES = ROOT / "deploy" / "prometheus"
NAMES = [name for name in vars(thresholds) if name.isupper()]


def _dashboards(folder: Path) -> dict[str, Any]:
    return {file.name: json.loads(file.read_text("utf-8")) for file in (folder / "dashboards").glob("*.json")}


def _shipped(kind: str, folder: Path = RULES) -> Any:
    """Return the recording rules, or the essential and the further alerts as one document."""
    names = ("essential", "further") if kind == "alerts" else (kind,)
    documents = [yaml.safe_load((folder / f"late-exporter.{name}.yml").read_text("utf-8")) for name in names]
    return {"groups": [group for each in documents for group in each["groups"]]}


def test_rules_and_dashboards_equal_the_files(evaluate_mixin: EvaluateMixin) -> None:
    """Without a configuration, rules, alerts and dashboards equal those of the files."""
    mixin = evaluate_mixin(dashboards=True)
    assert 4 == len(_dashboards(GRAFANA))
    assert {name: _shipped(name) for name in ("rules", "alerts")} | {"dashboards": _dashboards(GRAFANA)} == mixin


def test_alerts_that_are_off_by_default(evaluate_mixin: EvaluateMixin) -> None:
    """Alerts on requests of the customer's programs are left out unless the configuration names other alerts."""
    names = {rule["alert"] for rule in alerts_of(evaluate_mixin(disabled=None)["alerts"])}
    assert {"LateApiFailing", "LateApiThrottled"} == {rule["alert"] for rule in alerts_of(_shipped("alerts"))} - names


def test_profile_of_the_essential_alerts(evaluate_mixin: EvaluateMixin, require_tool: Callable[[str], str]) -> None:
    """The profile has the alerts of the README and those on the death of the exporter, which need no others."""
    essential = evaluate_mixin(profile="essential", disabled=None)
    assert yaml.safe_load((RULES / "late-exporter.essential.yml").read_text("utf-8")) == essential["alerts"]
    names = {rule["alert"] for rule in alerts_of(essential["alerts"])}
    table = document("README.md").partition("\n## Alerts\n")[2].partition("\n## ")[0]
    assert names == {*re.findall(r"^\| \[(Late\w+)\]", table, re.MULTILINE), "LateExporterDown", "LateExporterAbsent"}
    assert "unknown profile none; there are essential, full" in mixin_error(require_tool("jsonnet"), profile="none")


def _check_rules(promtool: str, folder: Path, groups: list[Any]) -> None:
    file = folder / "rules.yml"
    file.write_text(json.dumps({"groups": groups}), "utf-8")
    run_command(promtool, "check", "rules", "--lint=all", "--lint-fatal", file)


@pytest.fixture
def vendor(tmp_path: Path) -> Path:
    """Return a folder in which the mixin is installed as by jsonnet-bundler: without what is beside its folder."""
    folder = tmp_path / "vendor" / "github.com" / "late-exporter" / "late-exporter" / "grafana"
    shutil.copytree(GRAFANA, folder, ignore=shutil.ignore_patterns("node_modules", "preview", "screenshots", "source"))
    return tmp_path / "vendor"


def test_documented_example(vendor: Path, require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """The example of the documentation has the changes that it asks for, and promtool accepts its rules."""
    (example,) = blocks(document("docs/alerts.md"), "jsonnet")
    files = json.loads(run_command(require_tool("jsonnet"), "--jpath", vendor, "--exec", example))
    alerts = {rule["alert"]: rule for rule in alerts_of(files["late-exporter.alerts.json"])}
    assert "LateApiDrift" not in alerts
    assert ("10m", "social") == (
        alerts["LatePlatformFailing"]["for"],
        alerts["LatePlatformFailing"]["labels"]["team"],
    )
    assert ">= 3\n" in alerts["LateAccountFailing"]["expr"]
    groups = [group for kind in ("rules", "alerts") for group in files[f"late-exporter.{kind}.json"]["groups"]]
    assert '{job="social-media", action=~"publish|retry"' in json.dumps(groups).replace('\\"', '"')
    _check_rules(require_tool("promtool"), tmp_path, groups)


def test_every_setting_is_documented() -> None:
    """The table of the documentation has every setting, and no other."""
    config = (GRAFANA / "config.libsonnet").read_text("utf-8")
    settings = re.findall(r"^    (\w+):", config, re.MULTILINE)
    section = document("docs/alerts.md").partition("\n## Settings\n")[2].partition("\n## ")[0]
    table = "".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE))
    assert sorted(settings) == sorted(re.findall(r"`(\w+)`", table))


def test_all_numbers_at_once(evaluate_mixin: EvaluateMixin, tmp_path: Path) -> None:
    """If every number is another one, the mixin is what the sources write with the same numbers."""
    pytest.importorskip("grafana_foundation_sdk")
    numbers = {name: value for name in NAMES if isinstance(value := getattr(thresholds, name), int | float)}
    for name in ("MINUTE", "HOUR", "DAY", "ERROR_BUDGET", "SUCCESS_OBJECTIVE"):
        del numbers[name]
    changed = {name: value / 2 if value < 1 else 2 * value for name, value in numbers.items()}
    for source in ("deploy", "grafana/source"):
        shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "grafana" / "dashboards").mkdir()
    changed["SUCCESS_OBJECTIVE"] = 0.995
    changed["ERROR_BUDGET"] = 0.005
    with (tmp_path / "deploy" / "prometheus" / "thresholds.py").open("a", encoding="utf-8") as module:
        module.writelines(f"{name} = {value!r}\n" for name, value in changed.items())
    for package in ("deploy.prometheus", "grafana.source"):
        run_command(sys.executable, "-W", "ignore", "-m", package, cwd=tmp_path)
    settings = {_camel(name): changed[name] for name in numbers}
    mixin = evaluate_mixin(dashboards=True, objective=0.995, thresholds=settings)
    for kind in ("rules", "alerts"):
        assert _shipped(kind, tmp_path / "deploy" / "prometheus") == mixin[kind]
    assert _dashboards(tmp_path / "grafana") == mixin["dashboards"]
    assert _shipped("alerts") != mixin["alerts"]


def _camel(name: str) -> str:
    first, *others = name.lower().split("_")
    return first + "".join(word.capitalize() for word in others)


@pytest.mark.parametrize(
    ("selector", "exporters"),
    [
        ('job="social"', {"job": ("=", "social")}),
        ('env="prod", job=~"social-.*"', {"env": ("=", "prod"), "job": ("=~", "social-.*")}),
        ('env="prod"', {"env": ("=", "prod"), "job": ("=~", "late|late-.*")}),
    ],
)
def test_selector_is_in_every_expression(
    selector: str,
    exporters: Mapping[str, tuple[str, str]],
    evaluate_mixin: EvaluateMixin,
    require_tool: Callable[[str], str],
    tmp_path: Path,
) -> None:
    """Every series of an exporter has the matchers; a target that was never scraped is known by its job in any case."""
    mixin = evaluate_mixin(selector=selector)
    rules = rules_of(mixin["rules"]) + rules_of(mixin["alerts"])
    assert len(rules) == len(rules_of(_shipped("rules"))) + len(rules_of(_shipped("alerts")))
    added = {name: exporters[name] for name in exporters if f"{name}=" in selector}
    raw = [one for rule in rules for one in selectors(rule["expr"]) if ":" not in one.name and one.name != "ALERTS"]
    assert [] == [one for one in raw if not added.items() <= one.matchers.items()]
    assert exporters in [one.matchers for one in raw if one.name == "up"]
    _check_rules(require_tool("promtool"), tmp_path, [*mixin["rules"]["groups"], *mixin["alerts"]["groups"]])


@pytest.mark.parametrize("label", ["region", ""])
def test_label_of_the_cluster(label: str, evaluate_mixin: EvaluateMixin) -> None:
    """Aggregations keep the configured label of the cluster, or none; texts of alerts query it by the same name."""
    mixin = evaluate_mixin(clusterLabel=label)
    texts = " ".join(text for alert in rules_of(mixin["alerts"]) for text in alert.get("annotations", {}).values())
    assert f"{{{label or 'cluster'}=%q, " in texts
    assert f"$labels.{label or 'cluster'} " in texts
    assert not label or "cluster=%q" not in texts
    for rule in rules_of(mixin["rules"]) + rules_of(mixin["alerts"]):
        labels = {*named_labels(rule["expr"])}
        assert "cluster" not in labels
        assert not label or "job" not in labels or label in labels


def test_alerts_are_removed_and_changed(evaluate_mixin: EvaluateMixin) -> None:
    """Alerts are left out or changed by name, every alert of that name, and all get the further labels."""
    mixin = evaluate_mixin(
        disabled=["LateApiDrift", "LateErrorBudgetBurningFast", "LateErrorBudgetBurningSlowly"],
        overrides={
            "LateTokenExpiring": {"for": "2h", "keep_firing_for": None, "labels": {"team": "social"}},
            "LateAuditFailed": {"labels": {"severity": "critical"}, "annotations": {"summary": "Wrong."}},
        },
        alertLabels={"tenant": "a"},
    )
    expected = []
    for rule in alerts_of(_shipped("alerts")):
        rule["labels"]["tenant"] = "a"
        if rule["alert"] == "LateTokenExpiring":
            rule["for"] = "2h"
            del rule["keep_firing_for"]
            rule["labels"]["team"] = "social"
        if rule["alert"] == "LateAuditFailed":
            rule["labels"]["severity"] = "critical"
            rule["annotations"]["summary"] = "Wrong."
        if rule["alert"] not in ("LateApiDrift", "LateErrorBudgetBurningFast", "LateErrorBudgetBurningSlowly"):
            expected.append(rule)
    assert expected == alerts_of(mixin["alerts"])
    assert all(group["rules"] for group in mixin["alerts"]["groups"]), "a group without rules is an error"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"threshold": {}}, "unknown keys of _config: threshold; there are alertLabels, clusterLabel"),
        ({"disabled": ["LateApiDrft"]}, "unknown alerts in disabled: LateApiDrft; there are LateAccount"),
        ({"overrides": {"LatePost": {}}}, "unknown alerts in overrides: LatePost; there are"),
        ({"thresholds": {"fastBurns": 3}}, "unknown thresholds fastBurns; there are"),
        ({"dashboardIds": {"home": "x"}}, "unknown dashboards in dashboardIds: home; there are accounts, exporter"),
        ({"objective": 99}, "an objective is a number between 0 and 1: 99"),
        ({"objectives": [{"objective": 0.9}]}, "objectives need a workspace or a platform"),
        ({"objectives": [{"objective": 0.9, "team": "a"}]}, "objectives need a workspace or a platform"),
        ({"objectives": [{"objective": 0.9, "workspace": "a", "job": "b"}]}, "unknown fields of objectives: job;"),
        ({"selector": '{job="late"}'}, 'selector has no braces: {job="late"}'),
        ({"showMultiCluster": True, "clusterLabel": ""}, "showMultiCluster needs clusterLabel"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_mistakes_are_named(config: Mapping[str, Any], message: str, require_tool: Callable[[str], str]) -> None:
    """A mistake in the configuration stops the evaluation with a message that names it."""
    assert message in mixin_error(require_tool("jsonnet"), **config)


def test_addresses(evaluate_mixin: EvaluateMixin) -> None:
    """Alerts link to the configured Grafana, dashboards and runbooks, or to no dashboard."""
    ids = {"overview": "o1", "platform": "p1", "accounts": "a1", "exporter": "e1"}
    mixin = evaluate_mixin(
        grafanaUrl="https://grafana.example.org/base/",
        dashboardIds=ids,
        runbookUrl="https://wiki.example.org/runbooks/",
    )
    for shipped, rule in zip(alerts_of(_shipped("alerts")), alerts_of(mixin["alerts"]), strict=True):
        before, after = shipped["annotations"], rule["annotations"]
        path = re.sub(r"/d/late-(\w)\w+", r"/d/\g<1>1", before["dashboard_path"])
        assert "dashboard_path" not in after
        assert f"https://grafana.example.org/base{path}" == after["dashboard_url"]
        assert f"https://wiki.example.org/runbooks/{rule['alert']}.md" == after["runbook_url"]
    mixin = evaluate_mixin(grafanaUrl="", runbookUrl="https://wiki.example.org/?page=%s")
    for rule in alerts_of(mixin["alerts"]):
        assert "dashboard_url" not in rule["annotations"]
        assert f"https://wiki.example.org/?page={rule['alert']}" == rule["annotations"]["runbook_url"]


OBJECTIVES = (
    {"workspace": "gold", "platform": "reddit", "objective": 0.9},
    {"workspace": "gold", "objective": 0.999},
    {"platform": "reddit", "objective": 0.95},
)


def _series(workspace: str, platform: str, failed: int) -> list[dict[str, str]]:
    """Return attempts of which some of 100 per minute fail."""
    labels = f'job="late", instance="a", workspace="{workspace}", platform="{platform}", action="publish"'
    return [
        {"series": f'late_publishing_logs_total{{{labels}, status="success"}}', "values": f"0+{100 - failed}x120"},
        {"series": f'late_publishing_logs_total{{{labels}, status="failed"}}', "values": f"0+{failed}x120"},
    ]


def test_budgets_follow_the_objectives(
    evaluate_mixin: EvaluateMixin, require_tool: Callable[[str], str], tmp_path: Path
) -> None:
    """The first objective that matches applies, and a workspace may fail what its platforms may fail together."""
    mixin = evaluate_mixin(objective=0.99, objectives=list(OBJECTIVES))
    test = {
        "interval": "1m",
        "input_series": [
            *_series("gold", "tiktok", 2),  # 0.1 % may fail
            *_series("gold", "reddit", 2),  # 10 %
            *_series("other", "tiktok", 2),  # 1 %
            *_series("other", "reddit", 2),  # 5 %
        ],
        "promql_expr_test": [
            {
                "expr": "round(platform:late_publishing_error_budget:burnrate1h, 0.0001)",
                "eval_time": "2h",
                "exp_samples": [
                    {"labels": '{job="late", workspace="gold", platform="tiktok"}', "value": 20},
                    {"labels": '{job="late", workspace="gold", platform="reddit"}', "value": 0.2},
                    {"labels": '{job="late", workspace="other", platform="tiktok"}', "value": 2},
                    {"labels": '{job="late", workspace="other", platform="reddit"}', "value": 0.4},
                ],
            },
            {
                "expr": "round(workspace:late_publishing_error_budget:burnrate1h, 0.0001)",
                "eval_time": "2h",
                "exp_samples": [
                    {"labels": '{job="late", workspace="gold"}', "value": round(4 / 10.1, 4)},
                    {"labels": '{job="late", workspace="other"}', "value": round(4 / 6, 4)},
                ],
            },
            {
                "expr": "slo:late_publishing_success:objective",
                "eval_time": "2h",
                "exp_samples": [
                    {"labels": "slo:late_publishing_success:objective", "value": 0.99},
                    {
                        "labels": 'slo:late_publishing_success:objective{workspace="gold", platform="reddit"}',
                        "value": 0.9,
                    },
                    {"labels": 'slo:late_publishing_success:objective{workspace="gold"}', "value": 0.999},
                    {"labels": 'slo:late_publishing_success:objective{platform="reddit"}', "value": 0.95},
                ],
            },
        ],
    }
    for kind in ("rules", "alerts"):
        (tmp_path / f"{kind}.yml").write_text(json.dumps(mixin[kind]), "utf-8")
    document = {"rule_files": ["rules.yml", "alerts.yml"], "evaluation_interval": "5m", "tests": [test]}
    (tmp_path / "test.yml").write_text(json.dumps(document), "utf-8")
    run_command(require_tool("promtool"), "test", "rules", "test.yml", cwd=tmp_path)
