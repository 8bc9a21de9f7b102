"""The shipped rules, and the part of them that a test needs: promtool evaluates all rules in every test."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
FILES = sorted(FOLDER.glob("late-exporter.*.yml"))

Json: TypeAlias = Mapping[str, Any]


def load_yaml(text: str) -> Any:
    """Return a YAML document."""
    return yaml.load(text, yaml.CSafeLoader)


def rule_name(rule: Json) -> str:
    """Return the name of an alert or a recorded series."""
    return str(rule.get("alert") or rule["record"])


def needed_groups(groups: Sequence[Json], text: str) -> list[Json]:
    """Return the groups with the rules whose name is in a text, or in the text of another such rule."""
    rules = [rule for group in groups for rule in group["rules"]]
    needed: list[Json] = []
    while new := [rule for rule in rules if rule_name(rule) in text and rule not in needed]:
        needed += new
        text += json.dumps(new)
    return [{**group, "rules": [rule for rule in group["rules"] if rule in needed]} for group in groups]
