"""Lint rules for dashboards; each rule yields the problems of a dashboard."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from tests.dashboards.dashboard_files import (
    PROCESS_SERIES,
    UNTARGETED_SERIES,
    DashboardFile,
    expand_variables,
    labels_of,
    selectors,
)
from tests.rules.promql import Matcher, named_labels

Rule: TypeAlias = Callable[[DashboardFile], Iterator[str]]

COLUMNS = 24
MAX_VISIBLE_PANELS = 30
COUNTER_FUNCTIONS = {"rate", "irate", "increase", "resets"}
ALERT_LABELS = {"alertname", "alertstate", "exporter", "severity", "job", "workspace", "platform", "feed", "subject"}
ALERT_MATCHERS = {
    "exporter": Matcher("=", "late"),
    "job": Matcher("=~", "job|"),
    "workspace": Matcher("=~", "workspace|"),
}


def grid(dashboard: DashboardFile) -> Iterator[str]:
    """Require that panels leave no holes, also in collapsed rows; the generator lets none overlap."""
    sections = [(dashboard.document["panels"], 0)]
    sections += [(row["panels"], row["gridPos"]["y"] + 1) for row in dashboard.rows if row["collapsed"]]
    for panels, top in sections:
        places = [panel["gridPos"] for panel in panels]
        height = max(place["y"] + place["h"] for place in places) - top
        empty_cells = COLUMNS * height - sum(place["w"] * place["h"] for place in places)
        if empty_cells:
            yield f"{empty_cells} cells below {top} are empty"


def fold(dashboard: DashboardFile) -> Iterator[str]:
    """Require that a dashboard opens with few panels: open rows come first, and any others are collapsed."""
    collapsed = [bool(row["collapsed"]) for row in dashboard.rows]
    if collapsed != sorted(collapsed):
        yield "an open row is below a collapsed one"
    visible = [panel for panel in dashboard.document["panels"] if panel["type"] != "row"]
    if len(visible) > MAX_VISIBLE_PANELS:
        yield f"{len(visible)} panels are visible at first"


def descriptions(dashboard: DashboardFile) -> Iterator[str]:
    """Require a title, a description, a unit, and a text for missing data in every panel."""
    for panel in dashboard.panels:
        defaults = panel.get("fieldConfig", {}).get("defaults", {})
        if not panel.get("title") or not re.fullmatch(r"[A-Z0-9].*[.?]", panel.get("description", "")):
            yield f"{panel['title']}: no title or description"
        if panel["type"] != "heatmap" and not defaults.get("unit"):
            yield f"{panel['title']}: no unit"
        if panel["type"] != "heatmap" and not defaults.get("noValue"):
            yield f"{panel['title']}: no text for missing data"
        if panel["type"] == "heatmap" and not panel["options"]["yAxis"]["unit"]:
            yield f"{panel['title']}: no unit"
        if not panel.get("targets"):
            yield f"{panel['title']}: no queries"


def legends(dashboard: DashboardFile) -> Iterator[str]:
    """Require legends in time series, with existing labels."""
    for panel in dashboard.panels:
        if panel["type"] not in {"timeseries", "state-timeline"}:
            continue
        if not panel["options"]["legend"]["showLegend"]:
            yield f"{panel['title']}: no legend"
        for target in panel["targets"]:
            legend = target.get("legendFormat", "")
            if not legend:
                yield f"{panel['title']}: a series has no legend"
            for label in re.findall(r"\{\{(\w+)\}\}", legend):
                if not any(label in (labels_of(one.name) or ()) for one in selectors(target["expr"])):
                    yield f"{panel['title']}: no label {label}"


def promql(dashboard: DashboardFile) -> Iterator[str]:
    """Require valid PromQL with existing series and labels."""
    for place, expr in dashboard.expressions:
        try:
            panel_ids = selectors(expr)
        except ValueError as exc:
            yield f"{place}: {exc}"
            continue
        known_labels: set[str] = set()
        for selector in panel_ids:
            names = selector.name or selector.matchers["__name__"].value
            for name in names.split("|"):
                labels = labels_of(name)
                if labels is None:
                    yield f"{place}: unknown series {name}"
                elif name not in UNTARGETED_SERIES and (
                    unknown_labels := selector.matchers.keys() - labels - {"__name__"}
                ):
                    yield f"{place}: {name} has no labels {unknown_labels}"
                known_labels |= ALERT_LABELS if name in UNTARGETED_SERIES else labels or set()
        for label in named_labels(expand_variables(expr)):
            if label not in known_labels:
                yield f"{place}: no series has the label {label}"


def variable_matchers(dashboard: DashboardFile) -> Iterator[str]:
    """Require that every series is filtered by the dashboard variables."""
    for place, expr in dashboard.expressions:
        if place.startswith("variable"):
            continue
        for selector in selectors(expr):
            if selector.name in ("ALERTS", "ALERTS_FOR_STATE"):
                for name, matcher in ALERT_MATCHERS.items():
                    if selector.matchers.get(name) != matcher:
                        yield f"{place}: {selector.name} is not filtered by {name}"
            if selector.name in UNTARGETED_SERIES:
                continue
            labels = labels_of(selector.name) or set()
            for name in {"job", "instance", "workspace", "platform"} & labels:
                # Scrapes give families with a workspace a constant instance.
                value = "instance|late-exporter" if name == "instance" and "workspace" in labels else name
                if selector.matchers.get(name) != Matcher("=~", value):
                    yield f"{place}: {selector.name} is not filtered by {name}"


def counters(dashboard: DashboardFile) -> Iterator[str]:
    """Require rate or increase for counters, and $__rate_interval for rates."""
    for place, expr in dashboard.expressions:
        if place.startswith("variable"):
            continue
        for selector in selectors(expr):
            counter = re.search(r"_(total|bucket|count|sum)$", selector.name)
            if counter and selector.function not in COUNTER_FUNCTIONS:
                yield f"{place}: {selector.name} is a counter without rate or increase"
            if not counter and selector.function in COUNTER_FUNCTIONS:
                yield f"{place}: {selector.name} is not a counter"
        for window in re.findall(r"\bi?rate\([^\[]+\[([^\]]+)\]", re.sub(r'"[^"]*"', "", expr)):
            if window != "$__rate_interval":
                yield f"{place}: rate over {window}"


def process_series(dashboard: DashboardFile) -> Iterator[str]:
    """Require that series of every target are restricted to exporters, because All matches the targets of every job."""
    for place, expr in dashboard.expressions:
        names = {selector.name for selector in selectors(expr)}
        if any(PROCESS_SERIES.fullmatch(name) for name in names) and "late_exporter_build_info" not in names:
            yield f"{place}: not restricted to exporters"


RULES: Mapping[str, Rule] = {
    rule.__name__: rule
    for rule in (
        grid,
        fold,
        descriptions,
        legends,
        promql,
        variable_matchers,
        counters,
        process_series,
    )
}
