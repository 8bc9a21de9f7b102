"""A browser renders every dashboard over a day with incidents, and no panel fails or stays empty."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from grafana.source.palette import MUTED, STATUS_COLORS
from tests.dashboards.dashboard_files import DashboardFile, Json, load_dashboards
from tests.dashboards.rendering import DASHBOARDS, THEMES, day_in_prometheus, draw_dashboards, simulate_day

pytestmark = pytest.mark.e2e

MIN_CONTRAST = 4.5
"""Least contrast of text, by WCAG 2.2, level AA."""

EXPECTED_EMPTY_QUERIES: Mapping[tuple[str, int, str], str] = {
    ("late-platform", 502, "B"): "the platform that is down has made no post pause",
    ("late-exporter", 441, "A"): "no request has failed beside a poll that succeeded",
    ("late-exporter", 441, "B"): "no row is unreadable",
}
"""Queries without data in this day, by dashboard, panel and query letter, with the reason."""

EXPECTED_MISSING_COLUMNS: Mapping[tuple[str, int, str], str] = {
    **{
        ("late-exporter", 441, title): "the table has no row, because nothing has failed beside the polls"
        for title in ("Workspace", "Feed", "Request", "Failed, 24 h", "Unreadable rows, 24 h")
    },
}
"""Columns without values in this day, by dashboard, panel and title, with the reason."""

DASHBOARD_FILES = {dashboard.uid: dashboard for dashboard in load_dashboards()}


@pytest.fixture(scope="module")
def day(require_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the simulated day."""
    folder = tmp_path_factory.mktemp("day")
    simulate_day(require_tool, folder)
    return folder


@pytest.fixture(scope="module")
def pages(day: Path, require_tool: Callable[[str], str]) -> Mapping[str, Json]:
    """Return what the browser rendered, by dashboard and theme, with all rows open."""
    with day_in_prometheus(require_tool, day) as database:
        return draw_dashboards(require_tool, database, day, rows="open")


@pytest.fixture(params=DASHBOARDS)
def dashboard(request: pytest.FixtureRequest) -> DashboardFile:
    """Return each dashboard."""
    return DASHBOARD_FILES[request.param]


@pytest.fixture
def panels(dashboard: DashboardFile, pages: Mapping[str, Json]) -> Mapping[int, Json]:
    """Return the rendered panels by id."""
    return {int(panel["panel"]): panel for panel in pages[f"{dashboard.uid}-dark"]["panels"]}


def test_the_day_is_simulated(day: Path) -> None:
    """The day ends with a scrape; a test of its own, because it takes a minute, and so does drawing it."""
    assert (day / "last.om").read_text("utf-8").endswith("# EOF\n")


def test_no_script_or_request_fails(dashboard: DashboardFile, pages: Mapping[str, Json]) -> None:
    """No request and no script fails."""
    assert [error for theme in THEMES for error in pages[f"{dashboard.uid}-{theme}"]["errors"]] == []


@pytest.mark.parametrize("theme", THEMES)
def test_texts_can_be_read(theme: str, pages: Mapping[str, Json]) -> None:
    """The contrast of every text in a panel is at least 4.5:1, also on each color that means something."""
    contrasts = [one for uid in DASHBOARDS for one in pages[f"{uid}-{theme}"]["contrasts"]]
    assert [one for one in contrasts if one["ratio"] < MIN_CONTRAST] == []
    backgrounds = {one["background"] for one in contrasts}
    assert {color.lower() for color in STATUS_COLORS} - backgrounds <= {MUTED.lower()}, "every stat has a value"


def test_every_panel_is_drawn(dashboard: DashboardFile, panels: Mapping[int, Json]) -> None:
    """Every panel is rendered without an error, and with data unless all of its queries are listed as empty."""
    empty = [
        panel["title"]
        for panel in dashboard.panels
        if panel.get("targets")
        and all((dashboard.uid, panel["id"], target["refId"]) in EXPECTED_EMPTY_QUERIES for target in panel["targets"])
    ]
    assert {panel["id"] for panel in dashboard.panels} == panels.keys()
    assert {panel["title"]: panel["error"] for panel in panels.values() if panel["state"] == "error"} == {}
    assert empty == [panel["title"] for panel in panels.values() if panel["state"] != "done"]


def test_every_query_returns_data(dashboard: DashboardFile, panels: Mapping[int, Json]) -> None:
    """Every query of a panel has data, except for the listed ones."""
    empty_queries = {
        (dashboard.uid, number, ref) for number, panel in panels.items() for ref in panel.get("missing", "").split()
    }
    assert {place for place in EXPECTED_EMPTY_QUERIES if place[0] == dashboard.uid} == empty_queries


def test_tables_show_every_column(dashboard: DashboardFile, panels: Mapping[int, Json]) -> None:
    """Tables show every column, and no cell is cut off."""
    for panel in dashboard.panels:
        if panel["type"] == "table":
            expected = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
            missing = expected - {*panels[panel["id"]]["headings"]}
            assert {
                title for *place, title in EXPECTED_MISSING_COLUMNS if place == [dashboard.uid, panel["id"]]
            } == missing
            assert panels[panel["id"]]["truncated"] == [], panel["title"]


def test_link_variables_are_filled_in(dashboard: DashboardFile, panels: Mapping[int, Json]) -> None:
    """Links have no unresolved variables."""
    links = [link for panel in panels.values() for link in panel["links"]]
    assert [link for link in links if "${" in link or "undefined" in link] == []
    runbooks = {link.rpartition("/")[2] for link in links if "/runbooks/" in link}
    assert ("LatePlatformFailing.md" in runbooks) == (dashboard.uid == "late-overview")
    assert bool(links) == any(
        "links" in str(panel["fieldConfig"]) for panel in dashboard.panels if panel["type"] == "table"
    )


def test_dashboards_show_the_simulated_trouble(pages: Mapping[str, Json]) -> None:
    """The dashboards show the platform outage, the disconnected account and the expiring token."""
    text_by_panel = {
        (uid, int(panel["panel"])): " ".join([f"{panel['title']}:", *panel["text"].split()])
        for uid in DASHBOARDS
        for panel in pages[f"{uid}-dark"]["panels"]
    }
    for place, pattern in (
        (("late-overview", 101), r"Alerts firing: .* critical [1-9]"),
        (("late-overview", 102), r"Success, 1 h: .* [5-8]\d\.\d ?%"),
        (("late-overview", 201), r"Platforms: .* instagram .* Failing"),
        (("late-overview", 202), r"Alerts: .* LatePlatformFailing critical default instagram"),
        (("late-overview", 202), r"Alerts: .* LateTokenExpiring warning default linkedin Acme Corp"),
        (("late-overview", 203), r"Accounts with failures in a row: .* Acme Corp facebook"),
        (("late-platform", 101), r"Success, 1 h: .* [1-4]?\d\.\d ?%"),
        (("late-overview", 604), r"Cannot post: .* [1-9]"),
        (("late-platform", 301), r"Failures per minute, by category: .* platform_error"),
        (("late-accounts", 104), r"Next token expiry: .* 3\.4 days"),
        (("late-accounts", 201), r"Accounts: .* Error No Needed"),
        (("late-exporter", 304), r"Status feeds: .* Up"),
        (("late-exporter", 480), r"Webhooks at the API: .* Newsroom Switched off 20"),
        (("late-exporter", 101), r"Scrape: .* Up"),
        (("late-exporter", 201), r"Feed status: .* Down"),
    ):
        assert re.match(pattern, text_by_panel[place]), text_by_panel[place]
