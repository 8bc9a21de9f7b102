"""The rules of the Helm chart: complete, and changed by values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.kubernetes.files import RULES
from tests.deploy.assertions import (
    assert_rules,
    check_rules,
)
from tests.deploy.helm import SECRET_SETTING, alerts_of, render_release
from tests.deploy.manifests import (
    helm_template,
    parse_documents,
)

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
    settings = f"{SECRET_SETTING},{setting}.enabled=true,prometheusRule.grafanaUrl={url}"
    text = helm_template(helm, f"--set={settings},prometheusRule.disabled=null")
    kind = setting[:1].upper() + setting[1:] if setting != "vmRule" else "VMRule"
    assert_rules(parse_documents(text), require_tool("promtool"), tmp_path, kind=kind)
    assert f"dashboard_url: {url}/d/late-overview?" in text
    assert "localhost" not in text
    essential = helm_template(helm, f"--set={settings},prometheusRule.profile=essential")
    assert set(re.findall(r"alert: (\w+)", RULES[0].read_text("utf-8"))) == _alert_names(essential)
    assert {"LateApiFailing", "LateApiThrottled"} == _alert_names(text) - _alert_names(
        helm_template(helm, f"--set={settings}")
    )


def _alert_names(text: str) -> set[str]:
    return set(re.findall(r"alert: (\w+)", text))


@pytest.mark.e2e
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


@pytest.mark.e2e
def test_own_alerts(helm: str, require_tool: Callable[[str], str], tmp_path: Path) -> None:
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
    assert "{{ $value }} late" == alerts_of(resources, "LateOwn")[0]["annotations"]["summary"]
    check_rules(resources, require_tool("promtool"), tmp_path)
