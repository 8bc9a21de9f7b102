"""The shipped dashboards pass the lint rules and refer to existing metrics, rules and dashboards."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml

from late_exporter import __url__
from late_exporter.metrics.catalogue import CATALOGUE
from tests.dashboards.dashboard_files import (
    FOLDER,
    DashboardFile,
    load_dashboards,
    selectors,
)
from tests.dashboards.lint import RULES

ROOT = Path(__file__).parents[2]
DASHBOARD_FILES = load_dashboards()

IDS: Mapping[str, str] = {
    "late-accounts": "101-105 107-109 201 301-302 401-403 501 601",
    "late-exporter": "101-108 201-206 301-306 401-408 431 441 451-454 480 491-493 501-506",
    "late-overview": "101-108 201-203 301-305 401 403-404 501-502 601-609 701",
    "late-platform": "101-108 201-203 301-303 401-405 502-503 601 701",
}
"""Panel ids by dashboard. Ids may be added and removed, but never reused, because people keep links to panels."""

METRICS_WITHOUT_PANEL = {
    "late_exporter_api_generation_unread",
    "late_exporter_clock_offset_seconds",
    "late_exporter_api_quota_reset_timestamp_seconds",
    "late_connection_last_event_timestamp_seconds",
    "late_exporter_cluster_members",
    "late_exporter_cluster_owned_workspaces",
    "late_exporter_cluster_unowned_workspaces",
    "late_exporter_cluster_handovers_total",
}
"""The quota resets every minute, connections are rare, and the rest is for alerts and the status page."""


@pytest.fixture(params=DASHBOARD_FILES, ids=lambda dashboard: dashboard.uid)
def dashboard(request: pytest.FixtureRequest) -> DashboardFile:
    """Return each dashboard."""
    dashboard: DashboardFile = request.param
    return dashboard


@pytest.mark.parametrize("rule", RULES)
def test_dashboard_passes_lint_rule(dashboard: DashboardFile, rule: str) -> None:
    """Every dashboard passes every lint rule."""
    assert list(RULES[rule](dashboard)) == []


def test_ids_do_not_change() -> None:
    """Uids and panel ids do not change."""
    assert {
        dashboard.uid: _format_ranges(sorted(panel["id"] for panel in dashboard.panels))
        for dashboard in DASHBOARD_FILES
    } == IDS
    assert [f"{dashboard.uid}.json" for dashboard in DASHBOARD_FILES] == [
        file.name for file in sorted(FOLDER.glob("*.json"))
    ]


def test_every_metric_has_a_panel() -> None:
    """Every metric is used in a panel, except for the listed ones."""
    query_names = {
        one.name for dashboard in DASHBOARD_FILES for _, expr in dashboard.expressions for one in selectors(expr)
    }
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in query_names} | query_names
    assert {*CATALOGUE} - families == METRICS_WITHOUT_PANEL


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


def _format_ranges(numbers: list[int]) -> str:
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][-1] == number - 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return " ".join(f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans)


def _parse_link(url: str) -> tuple[str, set[str]]:
    """Return the dashboard uid of a link and the variables that it sets."""
    query = re.sub(r"\$\{(\w+):queryparam\}", r"var-\1=x", urlsplit(url).query)
    names = {name.removeprefix("var-") for name, _ in parse_qsl(query) if name.startswith("var-")}
    return urlsplit(url).path.removeprefix("/d/"), names
