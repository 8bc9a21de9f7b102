"""The rules of the Helm chart: complete, and changed by values."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kubernetes.rule_templates import render_rules
from tests.deploy.assertions import (
    assert_rules,
    check_rules,
)
from tests.deploy.helm import SECRET_SETTING, alerts_of, render_release
from tests.deploy.manifests import (
    helm_template,
    parse_documents,
)
from tests.rules.promql import selectors

pytestmark = [pytest.mark.helm, pytest.mark.e2e]


@pytest.mark.e2e
@pytest.mark.parametrize(("job", "jobs"), [("social", "social"), ("late-brand", "late|late-.*"), ("", "late|late-.*")])
def test_rules_know_the_job(helm: str, job: str, jobs: str) -> None:
    """A job of another name is known to the rules, too."""
    settings = (SECRET_SETTING, "prometheusRule.enabled=true", f"job={job}")
    text = helm_template(helm, f"--set={','.join(settings)}")
    assert {jobs} == set(re.findall(r'\bup\{job=~"([^"]+)"\}', text))


@pytest.mark.e2e
@pytest.mark.parametrize("setting", ["prometheusRule", "vmRule"])
def test_rules_are_complete(helm: str, setting: str, require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """The resources contain all rules and alerts as they are in the files, and link to the configured Grafana."""
    url = "https://grafana.example.com"
    text = helm_template(helm, f"--set={SECRET_SETTING},{setting}.enabled=true,prometheusRule.grafanaUrl={url}")
    kind = setting[:1].upper() + setting[1:] if setting != "vmRule" else "VMRule"
    assert_rules(parse_documents(text), require_tool("promtool"), tmp_path, kind=kind)
    assert f"dashboard_url: {url}/d/late-overview?" in text
    assert "localhost" not in text


@pytest.mark.e2e
@pytest.mark.parametrize("objective", ["0.995", "0.95", "0.9999"])
def test_rules_have_the_objective(helm: str, objective: str) -> None:
    """Another objective gives the rules that their source gives with it, to the last digit."""
    resources = render_release(helm, "prometheusRule.enabled=true", f"prometheusRule.objective={objective}")
    specs = {each["metadata"]["name"]: each["spec"] for each in resources if each["kind"] == "PrometheusRule"}
    for name, text in render_rules(float(objective)).items():
        expected = yaml.safe_load(text)
        assert objective in str(expected) + str(specs["late-late-exporter-rules"])
        assert comparable(expected) == comparable(specs[f"late-late-exporter-{name.split('.')[1]}"])


def comparable(rules: Any) -> str:
    """Return rules as text, with numbers of equal value written alike."""
    return re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.10g}", json.dumps(rules, sort_keys=True))


OBJECTIVES = [
    {"workspace": "gold", "platform": "tiktok", "objective": 0.9},
    {"workspace": "gold", "objective": 0.999},
    {"platform": "tiktok", "objective": 0.95},
]


@pytest.mark.e2e
def test_single_workspaces_have_objectives(helm: str, require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """The first objective that matches applies to a platform, and a workspace adds up what its platforms allow."""
    resources = render_release(helm, "prometheusRule.enabled=true", values={"prometheusRule.objectives": OBJECTIVES})
    check_rules(resources, require_tool("promtool"), tmp_path)
    budget, final = (
        "platform:late_publishing_failed_logs:increase5m",
        "platform:late_publishing_final_logs:increase5m",
    )
    series = [
        {"series": f'{name}{{job="late", workspace="{workspace}", platform="{platform}"}}', "values": values}
        for workspace, platform in (("gold", "tiktok"), ("gold", "x"), ("base", "tiktok"), ("base", "x"))
        for name, values in ((budget, "1x10"), (final, "100x10"))
    ]
    series += [
        {"series": f'{name.replace("platform", "workspace")}{{job="late", workspace="{workspace}"}}', "values": values}
        for workspace in ("gold", "base")
        for name, values in ((budget, "2x10"), (final, "200x10"))
    ]
    platforms = {("gold", "tiktok"): 0.1, ("gold", "x"): 10.0, ("base", "tiktok"): 0.2, ("base", "x"): 1.0}
    workspaces = {"gold": 2 / (100 * 0.1 + 100 * 0.001), "base": 2 / (100 * 0.05 + 100 * 0.01)}
    tests = {
        "platform": {f'workspace="{key[0]}", platform="{key[1]}"': value for key, value in platforms.items()},
        "workspace": {f'workspace="{key}"': value for key, value in workspaces.items()},
    }
    recorded = {
        rule["record"]: rule["expr"]
        for each in resources
        if each["kind"] == "PrometheusRule"
        for group in each["spec"]["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    cases = [
        {
            "expr": f"round({recorded[f'{level}:late_publishing_error_budget:burnrate5m']}, 0.001)",
            "eval_time": "1m",
            "exp_samples": [
                {"labels": f'{{job="late", {labels}}}', "value": round(value, 3)} for labels, value in expected.items()
            ],
        }
        for level, expected in tests.items()
    ]
    file = tmp_path / "test.yml"
    test = {"interval": "1m", "input_series": series, "promql_expr_test": cases}
    file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [test]}), "utf-8")
    command: list[str | Path] = [require_tool("promtool"), "test", "rules", file]
    process = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert 0 == process.returncode, process.stdout + process.stderr
    for alert in alerts_of(resources, "LateErrorBudgetBurningFast"):
        assert "its objective" in alert["annotations"]["description"]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("url", "runbook"),
    [
        ("https://wiki.example.com/late/", "https://wiki.example.com/late/LateApiDrift.md"),
        ("https://wiki.example.com/?page=%s", "https://wiki.example.com/?page=LateApiDrift"),
    ],
)
def test_links_of_alerts(helm: str, url: str, runbook: str) -> None:
    """The link to the runbook has the pattern of the values, and there is none to a Grafana that does not exist."""
    settings = ("prometheusRule.enabled=true", f"prometheusRule.runbookUrl={url}", "prometheusRule.grafanaUrl=")
    (drift,) = alerts_of(render_release(helm, *settings), "LateApiDrift")
    assert runbook == drift["annotations"]["runbook_url"]
    assert "dashboard_url" not in drift["annotations"]


@pytest.mark.e2e
def test_rules_select_the_exporters(helm: str, require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """A selector is in all series of the exporters, and in none that rules record."""
    selector = 'namespace="it\'s, late", env!~"a|b{2}"'
    values = {"prometheusRule.selector": selector}
    resources = render_release(helm, "prometheusRule.enabled=true", values=values)
    groups = [group for each in resources if each["kind"] == "PrometheusRule" for group in each["spec"]["groups"]]
    exprs = [rule["expr"] for group in groups for rule in group["rules"]]
    plain = [expr.replace(f"{selector}, ", "").replace(f"{{{selector}}}", "") for expr in exprs]
    defaults = render_release(helm, "prometheusRule.enabled=true")
    groups = [group for each in defaults if each["kind"] == "PrometheusRule" for group in each["spec"]["groups"]]
    assert [rule["expr"] for group in groups for rule in group["rules"]] == plain
    found = [(series.name, "namespace" in series.matchers) for expr in exprs for series in selectors(expr)]
    assert len(found) > 250
    own = re.compile("(?!.*:)(late_|up$|process_)")
    assert [] == [name for name, is_selected in found if bool(own.match(name)) != is_selected]
    check_rules(resources, require_tool("promtool"), tmp_path)


@pytest.mark.e2e
def test_alerts_can_be_changed(helm: str, require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """Alerts can be left out and changed one by one, all can get labels, and own ones be added."""
    override = {
        "for": "1h",
        "keep_firing_for": None,
        "labels": {"severity": "info"},
        "annotations": {"summary": "The API differs."},
    }
    own = {
        "alert": "LateOwn",
        "expr": "late_up == 0",
        "annotations": {"summary": '{{ "{{ $value }}" }} {{ .Release.Name }}'},
    }
    resources = render_release(
        helm,
        "prometheusRule.enabled=true",
        "prometheusRule.alertLabels.team=social",
        "prometheusRule.runbookUrl=https://wiki.example.com/late/",
        values={
            "prometheusRule.disabled": ["LateErrorBudgetBurningFast"],
            "prometheusRule.overrides": {"LateApiDrift": override},
            "prometheusRule.rules": [own],
        },
    )
    assert [] == alerts_of(resources, "LateErrorBudgetBurningFast")
    assert alerts_of(resources, "LateErrorBudgetBurningSlowly")
    (drift,) = alerts_of(resources, "LateApiDrift")
    assert ("1h", "info", "late", "social", "The API differs.") == (
        drift["for"],
        *(drift["labels"][name] for name in ("severity", "exporter", "team")),
        drift["annotations"]["summary"],
    )
    assert "https://wiki.example.com/late/LateApiDrift.md" == drift["annotations"]["runbook_url"]
    assert "{{ $value }} late" == alerts_of(resources, "LateOwn")[0]["annotations"]["summary"]
    check_rules(resources, require_tool("promtool"), tmp_path)
