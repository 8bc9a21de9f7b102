"""Access to the shipped dashboard files and their queries."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from late_exporter.metrics.catalogue import CATALOGUE
from tests.rules import promql
from tests.rules.promql import Selector

FOLDER = Path(__file__).parents[2] / "grafana" / "dashboards"

Json: TypeAlias = dict[str, Any]

MACROS = {"__rate_interval": "2m", "__interval": "1m", "__range": "6h"}
VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::\w+)?\})")

TARGET = {"job", "instance"}
UNTARGETED_SERIES = {
    "ALERTS": "an alert on an exporter lacks the workspace, one on a workspace the platform",
    "ALERTS_FOR_STATE": "as ALERTS",
    "slo:late_publishing_success:objective": "a constant that recording rules make, without labels",
}
"""Series that belong to no target, with the reason why variables cannot filter them."""

PROCESS_SERIES = re.compile(r"up|process_\w+|scrape_\w+")
"""Series that every target has."""


@dataclass(frozen=True)
class DashboardFile:
    """A dashboard file."""

    document: Json

    @property
    def uid(self) -> str:
        """Return the identifier used in links."""
        return str(self.document["uid"])

    @cached_property
    def rows(self) -> list[Json]:
        """Return the row panels."""
        return [panel for panel in self.document["panels"] if panel["type"] == "row"]

    @cached_property
    def panels(self) -> list[Json]:
        """Return all panels, including those in collapsed rows."""
        inner = [panel for row in self.rows for panel in row.get("panels", [])]
        return [panel for panel in self.document["panels"] if panel["type"] != "row"] + inner

    @cached_property
    def variables(self) -> dict[str, Json]:
        """Return the variables by name."""
        return {variable["name"]: variable for variable in self.document["templating"]["list"]}

    @property
    def expressions(self) -> Iterator[tuple[str, str]]:
        """Yield the PromQL of panels, annotations and variables, each with its location."""
        for panel in self.panels:
            if panel["type"] != "logs":
                yield from ((panel["title"], target["expr"]) for target in panel.get("targets", []))
        for annotation in self.document["annotations"]["list"]:
            yield f"annotation {annotation['name']}", annotation["expr"]
        for name, variable in self.variables.items():
            if variable["type"] == "query":
                match = re.fullmatch(r"query_result\((.+)\)|label_values\((.+), \w+\)", variable["query"])
                assert match, variable["query"]
                yield f"variable {name}", match[1] or match[2]

    @property
    def links(self) -> Iterator[str]:
        """Yield the URLs of all links, but for those that are the value itself."""
        urls = (match[1] for match in re.finditer(r'"url": "([^"]+)"', json.dumps(self.document)) if match[1])
        return (url for url in urls if url != "${__value.raw}")


def load_dashboards() -> list[DashboardFile]:
    """Return the shipped dashboards."""
    return [DashboardFile(json.loads(file.read_text("utf-8"))) for file in sorted(FOLDER.glob("*.json"))]


def expand_variables(expr: str) -> str:
    """Replace Grafana variables in PromQL: a macro by a duration, a variable by its name."""

    def replacement(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return MACROS.get(name, name)

    return VARIABLE.sub(replacement, expr)


def selectors(expr: str) -> list[Selector]:
    """Return the series selectors of a dashboard query."""
    return promql.selectors(expand_variables(expr))


def labels_of(name: str) -> set[str] | None:
    """Return the labels of a series, or None if it is unknown."""
    if PROCESS_SERIES.fullmatch(name):
        return TARGET
    if name in UNTARGETED_SERIES:
        return set()
    family = CATALOGUE.get(name)
    if family is not None and family.kind != "histogram":
        return {*family.labels, *TARGET}
    family = CATALOGUE.get(re.sub(r"_(bucket|count|sum)$", "", name))
    if family is None or family.kind != "histogram":
        return None
    return {*family.labels, *TARGET} | ({"le"} if name.endswith("_bucket") else set())
