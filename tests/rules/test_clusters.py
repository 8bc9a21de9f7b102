"""The rules distinguish exporters of two clusters that have the same jobs, instances and workspaces."""

from __future__ import annotations

import re

from tests.rules.promql import named_labels
from tests.rules.unit_tests import RULES, load_groups


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
