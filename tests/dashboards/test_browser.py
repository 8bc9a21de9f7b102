"""A browser renders every dashboard over a day with incidents, and no panel fails or stays empty."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pytest

from grafana.source.palette import MUTED, STATUS_COLORS
from tests.dashboards.dashboard_files import Json, load_dashboards
from tests.dashboards.screenshots import DASHBOARDS, THEMES, draw_dashboards, simulated_day

pytestmark = [pytest.mark.e2e, pytest.mark.thorough]

MIN_CONTRAST = 4.5
"""Least contrast of text, by WCAG 2.2, level AA."""

EMPTY_QUERIES: Mapping[tuple[str, int, str], str] = {
    ("late-overview", 112, "A"): "the only workspace is large",
    ("late-accounts", 110, "A"): "the only workspace is large",
    ("late-platform", 502, "B"): "the platform that is down has made no post pause",
    ("late-exporter", 441, "A"): "no request has failed beside a poll that succeeded",
    ("late-exporter", 441, "B"): "no row is unreadable",
}
"""Queries without data in this day, by dashboard, panel and query letter, with the reason."""

DASHBOARD_FILES = {dashboard.uid: dashboard for dashboard in load_dashboards()}

each_dashboard = pytest.mark.parametrize("uid", DASHBOARDS)


@pytest.fixture(scope="module")
def pages(require_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Json]:
    """Return what the browser rendered, by dashboard and theme, with all rows open."""
    folder = tmp_path_factory.mktemp("day")
    with simulated_day(require_tool, folder) as database:
        return draw_dashboards(require_tool, database, None, rows="open")


@pytest.fixture
def panels(uid: str, pages: Mapping[str, Json]) -> Mapping[int, Json]:
    """Return the rendered panels of a dashboard by id."""
    return {int(panel["panel"]): panel for panel in pages[f"{uid}-dark"]["panels"]}


def test_no_script_or_request_fails(pages: Mapping[str, Json]) -> None:
    """No request and no script fails."""
    assert [error for page in pages.values() for error in page["errors"]] == []


@pytest.mark.parametrize("theme", THEMES)
def test_texts_can_be_read(theme: str, pages: Mapping[str, Json]) -> None:
    """The contrast of every text in a panel is at least 4.5:1, also on each color that means something."""
    contrasts = [one for uid in DASHBOARDS for one in pages[f"{uid}-{theme}"]["contrasts"]]
    assert [one for one in contrasts if one["ratio"] < MIN_CONTRAST] == []
    backgrounds = {one["background"] for one in contrasts}
    assert {color.lower() for color in STATUS_COLORS} - backgrounds <= {MUTED.lower()}, "every stat has a value"


@each_dashboard
def test_every_query_returns_data(uid: str, panels: Mapping[int, Json]) -> None:
    """Every panel is rendered without an error, and each of its queries has data, except for the listed ones."""
    assert {panel["id"] for panel in DASHBOARD_FILES[uid].panels} == panels.keys()
    assert {panel["title"]: panel["error"] for panel in panels.values() if panel["state"] == "error"} == {}
    empty = {(uid, number, ref) for number, panel in panels.items() for ref in panel.get("missing", "").split()}
    assert empty == {place for place in EMPTY_QUERIES if place[0] == uid}


@each_dashboard
def test_tables_show_every_column(uid: str, panels: Mapping[int, Json]) -> None:
    """Tables with data show every column, and no cell is cut off."""
    for panel in DASHBOARD_FILES[uid].panels:
        rendered = panels[panel["id"]]
        if panel["type"] == "table" and rendered["state"] == "done":
            titles = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
            assert titles - {*rendered["headings"]} == set(), panel["title"]
            assert rendered["truncated"] == [], panel["title"]


@each_dashboard
def test_link_variables_are_filled_in(uid: str, panels: Mapping[int, Json]) -> None:
    """Links have no unresolved variables."""
    links = [link for panel in panels.values() for link in panel["links"]]
    assert [link for link in links if "${" in link or "undefined" in link] == []
    has_runbook = any(link.endswith("/runbooks/LatePlatformFailing.md") for link in links)
    assert has_runbook == (uid == "late-overview")


@pytest.mark.parametrize(
    ("uid", "panel", "pattern"),
    [
        ("late-overview", 102, r"[5-8]\d\.\d ?%"),
        ("late-overview", 104, r"\d+ of \d{3}"),
        ("late-overview", 112, r"large [1-9]"),
        ("late-overview", 201, r"instagram .* Failing"),
        ("late-overview", 202, r"LateTokenExpiring warning default linkedin Acme Corp"),
        ("late-overview", 611, r"reconnect [1-9]"),
        ("late-platform", 301, r"platform_error"),
        ("late-accounts", 103, r"to reconnect 1 disconnected 0 cannot post 0 cooling down 1"),
        ("late-accounts", 201, r"Error No Needed"),
        ("late-accounts", 701, r"Acme Corp linkedin default 3\.4 days"),
        ("late-exporter", 480, r"Newsroom Switched off 20"),
    ],
)
def test_dashboards_show_the_simulated_trouble(panel: int, pattern: str, panels: Mapping[int, Json]) -> None:
    """The dashboards show the platform outage, the disconnected account and the expiring token."""
    assert re.search(rf"\b{pattern}", " ".join(panels[panel]["text"].split()))
