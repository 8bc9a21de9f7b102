"""The shipped dashboards follow the rules that keep them readable, and refer to what exists."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from late_exporter import __url__
from tests.dashboards.dashboard_files import (
    PROCESS_SERIES,
    DashboardFile,
    expand_variables,
    labels_of,
    load_dashboards,
    selectors,
)
from tests.dashboards.screenshots import PREVIEW
from tests.e2e.program import run_command
from tests.rules.promql import Matcher

ROOT = Path(__file__).parents[2]
DASHBOARDS = load_dashboards()
COLUMNS = 24
MAX_PANELS = 80
COUNTER_FUNCTIONS = {"rate", "increase", "resets"}
FILTERS = {"job": "job", "instance": "instance", "workspace": "workspace", "platform": "platform"}
EVERY_PLATFORM = Matcher("=~", ".+")
ALERT_MATCHERS = {
    "exporter": Matcher("=", "late"),
    "job": Matcher("=~", "job|"),
    "workspace": Matcher("=~", "workspace|"),
}

each_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)


def test_there_are_few_panels() -> None:
    """All dashboards together have at most 80 panels."""
    assert sum(len(dashboard.panels) for dashboard in DASHBOARDS) <= MAX_PANELS


@each_dashboard
def test_panels_leave_no_holes(dashboard: DashboardFile) -> None:
    """Panels fill the grid, also in collapsed rows; the generator lets none overlap."""
    sections = [(dashboard.document["panels"], 0)]
    sections += [(row["panels"], row["gridPos"]["y"] + 1) for row in dashboard.rows if row["collapsed"]]
    for panels, top in sections:
        places = [panel["gridPos"] for panel in panels]
        height = max(place["y"] + place["h"] for place in places) - top
        assert sum(place["w"] * place["h"] for place in places) == COLUMNS * height


@each_dashboard
def test_panels_say_what_they_show(dashboard: DashboardFile) -> None:
    """Every panel has a title, a description, a unit and a text for missing data, and every series a legend."""
    for panel in dashboard.panels:
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["title"]
        assert defaults["noValue"], panel["title"]
        assert re.fullmatch(r"[A-Z0-9].*[.?]", panel["description"]), panel["title"]
        if panel["type"] == "heatmap":
            assert panel["options"]["yAxis"]["unit"], panel["title"]
        else:
            assert defaults["unit"], panel["title"]
        if panel["type"] in {"timeseries", "state-timeline"}:
            assert panel["options"]["legend"]["showLegend"], panel["title"]
            for target in panel["targets"]:
                labels = {label for selector in selectors(target["expr"]) for label in labels_of(selector.name)}
                assert target["legendFormat"], panel["title"]
                assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels, panel["title"]


@each_dashboard
def test_variables_filter_every_query(dashboard: DashboardFile) -> None:
    """Every series is filtered by the variables of its labels, and series of all targets to those of exporters."""
    for place, selector in dashboard.selectors:
        expected = {name: Matcher("=~", FILTERS[name]) for name in FILTERS.keys() & labels_of(selector.name)}
        if expected.keys() >= {"instance", "workspace"}:
            # Scrapes may give families with a workspace a constant instance.
            expected["instance"] = Matcher("=~", "instance|late-exporter")
        if selector.matchers.get("platform") == EVERY_PLATFORM:
            # A workspace stays small or large, whatever platform is selected.
            expected["platform"] = EVERY_PLATFORM
        if selector.name in {"ALERTS", "ALERTS_FOR_STATE"}:
            expected = ALERT_MATCHERS
        assert {name: selector.matchers.get(name) for name in expected} == expected, place
    for place, expr in dashboard.expressions:
        names = {selector.name for selector in selectors(expr)}
        is_of_targets = any(PROCESS_SERIES.fullmatch(name) for name in names)
        assert not is_of_targets or "late_exporter_build_info" in names, place


@each_dashboard
def test_only_counters_are_rated(dashboard: DashboardFile) -> None:
    """Counters are shown as rates or increases, and nothing else is."""
    for place, selector in dashboard.selectors:
        is_counter = re.search(r"_(total|bucket|count|sum)$", selector.name) is not None
        assert is_counter == (selector.function in COUNTER_FUNCTIONS), (place, selector.name)


def test_links_point_to_shipped_dashboards_and_runbooks() -> None:
    """Links point to shipped dashboards and set their variables, or to runbooks, of which every alert has one."""
    variables = {
        dashboard.uid: {variable["name"] for variable in dashboard.document["templating"]["list"]}
        for dashboard in DASHBOARDS
    }
    urls = set(re.findall(r'"url": "([^"]+)"', json.dumps([dashboard.document for dashboard in DASHBOARDS])))
    runbook_urls = {url for url in urls if url.startswith("https://")}
    for url in urls - runbook_urls:
        query = re.sub(r"\$\{(\w+):queryparam\}", r"var-\1=x", urlsplit(url).query)
        names = {name.removeprefix("var-") for name, _ in parse_qsl(query) if name.startswith("var-")}
        assert names <= variables[urlsplit(url).path.removeprefix("/d/")], url
    (runbook_url,) = runbook_urls
    pattern = runbook_url.removeprefix(f"{__url__}/blob/main/")
    alerts = re.findall(r"alert: (\w+)", (ROOT / "deploy/prometheus/late-exporter.alerts.yml").read_text("utf-8"))
    runbooks = [pattern.replace("${__data.fields.alertname:percentencode}", name) for name in alerts]
    assert [path for path in runbooks if not (ROOT / path).is_file()] == []


@pytest.mark.e2e
def test_joins_keep_clusters_apart(require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """Queries succeed with exporters of one job and instance in two clusters."""
    exprs = [expand_variables(expr) for dashboard in DASHBOARDS for _, expr in dashboard.expressions]
    joins = [expr for expr in exprs if "group_left" in expr and "ALERTS" not in expr]
    assert len(joins) > 10
    series = [
        {"series": f'{name}{{cluster="{cluster}", {labels}}}', "values": "1x10"}
        for name in sorted({selector.name for expr in joins for selector in selectors(expr)})
        # A label has the value that replaces its variable.
        for labels in [", ".join(f'{label}="{label}"' for label in sorted(labels_of(name)))]
        for cluster in ("eu", "us")
    ]
    result = [{"labels": "{}", "value": 0}]
    cases = [{"expr": f"0 * count({join}) or vector(0)", "eval_time": "5m", "exp_samples": result} for join in joins]
    test = {"interval": "1m", "input_series": series, "promql_expr_test": cases}
    (tmp_path / "test.yml").write_text(json.dumps({"tests": [test]}), "utf-8")
    run_command(require_tool("promtool"), "test", "rules", tmp_path / "test.yml")


def test_dependencies_of_the_preview_are_pinned() -> None:
    """Dependencies are pinned, and the lock file has no registry URLs and no AGPL packages."""
    dependencies = json.loads((PREVIEW / "package.json").read_text("utf-8"))["dependencies"]
    lock_packages = json.loads((PREVIEW / "package-lock.json").read_text("utf-8"))["packages"]
    assert [name for name, version in dependencies.items() if not re.fullmatch(r"\d+\.\d+\.\d+", version)] == []
    assert [name for name, package in lock_packages.items() if "resolved" in package] == []
    assert [name for name, package in lock_packages.items() if "AGPL" in str(package.get("license"))] == []
