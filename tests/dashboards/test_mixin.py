"""The dashboards of the monitoring mixin follow its configuration."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.dashboards.dashboard_files import DashboardFile, selectors
from tests.rules.mixin import EvaluateMixin, evaluate_mixin
from tests.rules.promql import Matcher

__all__ = ["evaluate_mixin"]

pytestmark = pytest.mark.e2e

IDS = {"overview": "social-o", "platform": "social-p", "accounts": "social-a", "exporter": "social-e"}


@pytest.fixture(scope="module")
def dashboards(evaluate_mixin: EvaluateMixin) -> list[DashboardFile]:
    """Return dashboards with other names, for several clusters."""
    mixin = evaluate_mixin(
        dashboards=True,
        showMultiCluster=True,
        clusterLabel="region",
        dashboardIds=IDS,
        dashboardTags=["social", "slo"],
        dashboardNamePrefix="Social media: ",
        runbookUrl="https://wiki.example.org/late/",
    )
    return [DashboardFile(document) for document in mixin["dashboards"].values()]


def test_names(dashboards: list[DashboardFile]) -> None:
    """Identifiers, titles and tags are those of the configuration, also in links and in the menu."""
    assert {*IDS.values()} == {dashboard.uid for dashboard in dashboards}
    for dashboard in dashboards:
        document: dict[str, Any] = dashboard.document
        assert re.fullmatch(r"Social media: (Overview|Platform|Accounts|Exporter)", document["title"])
        assert ["social", "slo"] == document["tags"] == document["links"][0]["tags"]
        paths = {url.partition("?")[0] for url in dashboard.links if url.startswith("/d/")}
        assert paths <= {f"/d/{uid}" for uid in IDS.values()}
        assert [] == re.findall(r"late-(?:overview|platform|accounts)|/d/late-", json.dumps(document))


def test_runbooks(dashboards: list[DashboardFile]) -> None:
    """The table of alerts links to the configured runbooks."""
    links = {url for dashboard in dashboards for url in dashboard.links if url.startswith("https://")}
    assert {"https://wiki.example.org/late/${__data.fields.alertname:percentencode}.md"} == links


def test_clusters(dashboards: list[DashboardFile]) -> None:
    """Every query and every link selects the cluster, by a variable on which the others depend."""
    for dashboard in dashboards:
        names = [*dashboard.variables]
        assert ["datasource", "cluster", "job"] == names[:3]
        assert "label_values(late_exporter_build_info, region)" == dashboard.variables["cluster"]["query"]
        for place, expr in dashboard.expressions:
            for one in selectors(expr):
                matcher = one.matchers.get("region")
                if place != "variable cluster" and "job" in {*one.matchers, place.removeprefix("variable ")}:
                    assert matcher in (Matcher("=~", "cluster"), Matcher("=~", "cluster|")), (place, expr)
        assert [] == [url for url in dashboard.links if "job:queryparam" in url and "cluster:queryparam" not in url]
        for labels in re.findall(r"\b(?:by|on) \((job[^)]*)\)", json.dumps(dashboard.document)):
            pytest.fail(f"{dashboard.uid}: {labels} lacks the cluster")
