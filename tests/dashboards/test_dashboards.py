"""The shipped dashboards pass the lint rules and refer to existing metrics, rules and dashboards."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml

from late_exporter import __url__
from tests.dashboards.dashboard_files import (
    DashboardFile,
    load_dashboards,
)
from tests.dashboards.lint import RULES

ROOT = Path(__file__).parents[2]
DASHBOARD_FILES = load_dashboards()


@pytest.fixture(params=DASHBOARD_FILES, ids=lambda dashboard: dashboard.uid)
def dashboard(request: pytest.FixtureRequest) -> DashboardFile:
    """Return each dashboard."""
    dashboard: DashboardFile = request.param
    return dashboard


@pytest.mark.parametrize("rule", RULES)
def test_dashboard_passes_lint_rule(dashboard: DashboardFile, rule: str) -> None:
    """Every dashboard passes every lint rule."""
    assert list(RULES[rule](dashboard)) == []


def test_links_point_to_shipped_dashboards() -> None:
    """Links point to shipped dashboards and set existing variables."""
    dashboards = {dashboard.uid: dashboard for dashboard in DASHBOARD_FILES}
    link_pairs = set()
    for dashboard in DASHBOARD_FILES:
        for url in dashboard.links:
            if url.startswith("https://"):
                continue
            uid, variables = _parse_link(url)
            assert variables <= dashboards[uid].variables.keys(), url
            link_pairs.add((dashboard.uid, uid))
    assert link_pairs == {
        ("late-overview", "late-overview"),
        ("late-overview", "late-platform"),
        ("late-overview", "late-accounts"),
        ("late-overview", "late-exporter"),
        ("late-platform", "late-accounts"),
        ("late-accounts", "late-platform"),
        ("late-exporter", "late-overview"),
    }


def test_alerts_link_to_their_runbooks() -> None:
    """The rows of the alert table link to runbooks of the repository, by a path that every alert has."""
    links = {url for dashboard in DASHBOARD_FILES for url in dashboard.links if url.startswith("https://")}
    (link,) = links
    pattern = link.removeprefix(f"{__url__}/blob/main/")
    names = re.findall(r"alert: (\w+)", (ROOT / "deploy/prometheus/late-exporter.alerts.yml").read_text("utf-8"))
    runbooks = [ROOT / pattern.replace("${__data.fields.alertname:percentencode}", name) for name in names]
    assert [runbook.name for runbook in runbooks if not runbook.is_file()] == []


def test_provisioning() -> None:
    """Provisioning sets up the data source and read-only dashboards."""
    folder = ROOT / "grafana" / "provisioning"
    source = yaml.safe_load((folder / "datasources" / "late-exporter.yml").read_text("utf-8"))
    provider = yaml.safe_load((folder / "dashboards" / "late-exporter.yml").read_text("utf-8"))
    assert [one["type"] for one in source["datasources"]] == ["prometheus"]
    (lead,) = source["datasources"][0]["jsonData"]["exemplarTraceIdDestinations"]
    assert ("post_id", f"{__url__}#when-an-alert-fired") == (lead["name"], lead["url"])
    assert "\n## When an alert fired\n" in (ROOT / "README.md").read_text("utf-8")
    assert [(one["type"], one["allowUiUpdates"]) for one in provider["providers"]] == [("file", False)]


def _parse_link(url: str) -> tuple[str, set[str]]:
    """Return the dashboard uid of a link and the variables that it sets."""
    query = re.sub(r"\$\{(\w+):queryparam\}", r"var-\1=x", urlsplit(url).query)
    names = {name.removeprefix("var-") for name, _ in parse_qsl(query) if name.startswith("var-")}
    return urlsplit(url).path.removeprefix("/d/"), names
