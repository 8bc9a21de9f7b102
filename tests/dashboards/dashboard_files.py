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
PROCESS_SERIES = re.compile(r"up|process_\w+")
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

    @property
    def expressions(self) -> Iterator[tuple[str, str]]:
        """Yield the PromQL of panels and annotations, each with its location."""
        for panel in self.panels:
            yield from ((panel["title"], target["expr"]) for target in panel["targets"])
        for annotation in self.document["annotations"]["list"]:
            yield f"annotation {annotation['name']}", annotation["expr"]

    @property
    def selectors(self) -> Iterator[tuple[str, Selector]]:
        """Yield the series selectors of panels and annotations, each with its location."""
        for place, expr in self.expressions:
            yield from ((place, selector) for selector in selectors(expr))


def load_dashboards() -> list[DashboardFile]:
    """Return the shipped dashboards."""
    return [DashboardFile(json.loads(file.read_text("utf-8"))) for file in sorted(FOLDER.glob("*.json"))]


def expand_variables(expr: str) -> str:
    """Replace Grafana variables in PromQL: a macro by a duration, a variable by its name."""
    return VARIABLE.sub(lambda match: MACROS.get(match[1] or match[2], match[1] or match[2]), expr)


def selectors(expr: str) -> list[Selector]:
    """Return the series selectors of a dashboard query."""
    return promql.selectors(expand_variables(expr))


def labels_of(name: str) -> set[str]:
    """Return the labels of a series; those of rules have none that every one of them has."""
    if PROCESS_SERIES.fullmatch(name):
        return TARGET
    family = CATALOGUE.get(name) or CATALOGUE.get(re.sub(r"_(bucket|count|sum)$", "", name))
    if family is None:
        return set()
    return {*family.labels, *TARGET, *(["le"] if name.endswith("_bucket") else [])}
