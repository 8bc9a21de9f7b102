"""Texts on the colors that mean something can be read, and every status has one of these colors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from grafana.source.palette import STATUS_COLORS
from tests.dashboards.dashboard_files import DashboardFile, load_dashboards

WHITE, BLACK = "#F7F8FA", "#202226"
BRIGHT = 180
"""Brightness above which Grafana writes in black, in getTextColorForAlphaBackground of @grafana/ui 13.2.2."""

MIN_CONTRAST = 4.5


def _channels(color: str) -> list[int]:
    return [int(color[start : start + 2], 16) for start in (1, 3, 5)]


def _luminance(color: str) -> float:
    """Return the relative luminance as WCAG 2.2 defines it."""
    shares = [part / 255 for part in _channels(color)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _text_color(background: str) -> str:
    brightness = sum(weight * part for weight, part in zip((299, 587, 114), _channels(background), strict=True)) / 1000
    return BLACK if brightness > BRIGHT else WHITE


@pytest.mark.parametrize("color", STATUS_COLORS)
def test_grafana_writes_readable_text(color: str) -> None:
    """The text that Grafana writes on a status color has a contrast of at least 4.5:1."""
    assert _contrast(color, _text_color(color)) >= MIN_CONTRAST


@pytest.mark.parametrize(("color", "is_readable"), [("#73BF69", False), ("#FF9830", False), ("#FADE2A", True)])
def test_colors_of_grafana(color: str, *, is_readable: bool) -> None:
    """Green and orange of Grafana fail the measurement, its yellow as a background does not."""
    assert (_contrast(color, _text_color(color)) >= MIN_CONTRAST) == is_readable


@pytest.mark.parametrize("dashboard", load_dashboards(), ids=lambda dashboard: dashboard.uid)
def test_texts_are_never_colored_by_a_status(dashboard: DashboardFile) -> None:
    """Stats and tables color the background by a status, because no color of text can be read in both themes."""
    assert [] == [title for title, color in _text_colors(dashboard) if color not in ("blue", "text", "transparent")]
    assert {*STATUS_COLORS} >= {color for _, color in _background_colors(dashboard)}


def _panels(dashboard: DashboardFile) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield the stats and tables with the properties of their fields."""
    for panel in dashboard.panels:
        if panel["type"] in ("stat", "table"):
            overrides = panel["fieldConfig"].get("overrides", [])
            yield panel, [{one["id"]: one["value"] for one in override["properties"]} for override in overrides]


def _text_colors(dashboard: DashboardFile) -> Iterator[tuple[str, str]]:
    for panel, overrides in _panels(dashboard):
        defaults = panel["fieldConfig"]["defaults"]
        if panel["type"] == "table":
            colored = [field for field in overrides if field.get("custom.cellOptions", {}).get("type") == "color-text"]
        else:
            colored = [defaults] if panel["options"]["colorMode"] == "value" else []
        for field in colored:
            yield from ((panel["title"], color) for color in _colors(field))


def _background_colors(dashboard: DashboardFile) -> Iterator[tuple[str, str]]:
    for panel, overrides in _panels(dashboard):
        fields = [field for field in overrides if "custom.cellOptions" in field]
        if panel["type"] == "stat" and panel["options"]["colorMode"] != "value":
            fields = [panel["fieldConfig"]["defaults"], *overrides]
        for field in fields:
            yield from ((panel["title"], color) for color in _colors(field) if color != "transparent")


def _colors(field: dict[str, Any]) -> Iterator[str]:
    """Yield the colors of the steps and of the texts shown instead of values."""
    yield from (step["color"] for step in field.get("thresholds", {}).get("steps", []))
    for mapping in field.get("mappings", []):
        options = mapping["options"]
        results = [options["result"]] if "result" in options else list(options.values())
        yield from (result["color"] for result in results)
