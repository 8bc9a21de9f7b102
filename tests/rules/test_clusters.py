"""The rules distinguish exporters of two clusters that have the same jobs, instances and workspaces."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.rules.promql import named_labels
from tests.rules.unit_tests import RULES, load_groups, load_unit_tests, run_unit_tests

FOLDER = Path(__file__).parent
CLUSTERS = ("east", "west")
AGGREGATION = re.compile(r"\b(?:count|sum|min|max|avg)\b")
"""Queries of unit tests that add up the clusters."""

UNIT_TESTS = ("accounts", "budget", "exporter", "publishing", "recording", "status")
"""Unit tests that take seconds; those over days and weeks use the same rules and take minutes."""


def test_every_list_of_labels_keeps_the_cluster() -> None:
    """Every aggregation and match of a rule by the job is also by the cluster."""
    rules = [
        rule for file in RULES.glob("late-exporter.*.yml") for group in load_groups(file) for rule in group["rules"]
    ]
    assert len(rules) > 100
    for rule in rules:
        names = named_labels(rule["expr"])
        assert "job" not in names or "cluster" in names, rule
        for labels in re.findall(r"\b(?:by|on|ignoring) \(([^)]*)\)", rule["expr"]):
            assert labels.startswith("cluster, job"), rule


@pytest.mark.e2e
@pytest.mark.parametrize("name", UNIT_TESTS)
def test_alerts_of_two_clusters(name: str, require_tool: Callable[[str], str], tmp_path: Path) -> None:
    """If two clusters have the series of a unit test, each has the results of that test."""
    document = load_unit_tests(FOLDER / f"{name}.yml")
    for test in document["tests"]:
        _double(test)
    run_unit_tests(require_tool("promtool"), document, tmp_path)


def _double(test: dict[str, Any]) -> None:
    """Change a unit test of promtool so that each cluster has its series, and is expected to have its results."""
    test["input_series"] = [
        {**series, "series": _with_cluster(series["series"], cluster)}
        for series in test["input_series"]
        for cluster in CLUSTERS
    ]
    for case in test.get("alert_rule_test", []):
        case["exp_alerts"] = [*_alerts(case.get("exp_alerts", []))]
    cases = [case for case in test.get("promql_expr_test", []) if not AGGREGATION.search(case["expr"])]
    test["promql_expr_test"] = [{**case, "exp_samples": [*_samples(case.get("exp_samples", []))]} for case in cases]


def _alerts(alerts: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for alert in alerts:
        if "job" not in alert["exp_labels"]:  # on what is absent everywhere
            yield alert
            continue
        for cluster in CLUSTERS:
            copy = deepcopy(alert)
            copy["exp_labels"]["cluster"] = cluster
            yield copy


def _samples(samples: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for sample in samples:
        # The objective is a constant, which no cluster has.
        for cluster in CLUSTERS if "{" in sample["labels"] else [""]:
            labels = _with_cluster(sample["labels"], cluster) if cluster else sample["labels"]
            yield {"labels": labels, "value": sample["value"]}


def _with_cluster(series: str, cluster: str) -> str:
    name, _, matchers = series.partition("{")
    return f'{name}{{cluster="{cluster}", {matchers}' if matchers else f'{name}{{cluster="{cluster}"}}'
