"""Unit tests of promtool, run with the rules that they need: promtool evaluates all rules in every test."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.program import run_command

RULES = Path(__file__).parents[2] / "deploy" / "prometheus"


class _StringLoader(yaml.SafeLoader):
    """A loader that keeps scalars as strings, because 0x24 is a number in YAML and a series in promtool."""

    yaml_implicit_resolvers = {"<": yaml.SafeLoader.yaml_implicit_resolvers["<"]}  # noqa: RUF012 - not a ClassVar there


def load_unit_tests(file: Path) -> dict[str, Any]:
    """Return a file of unit tests; all scalars but the expected values are strings, and no object is in it twice."""
    document: dict[str, Any] = json.loads(json.dumps(_StringLoader(file.read_text("utf-8")).get_single_data()))
    document["rule_files"] = [str((file.parent / name).resolve()) for name in document["rule_files"]]
    for case in (case for test in document["tests"] for case in test.get("promql_expr_test", [])):
        for sample in case.get("exp_samples", []):
            sample["value"] = float(sample["value"])
    return document


def run_unit_tests(promtool: str, document: Mapping[str, Any], folder: Path) -> None:
    """Run unit tests in a folder, and assert that they pass."""
    groups = [group for name in document["rule_files"] for group in load_groups(Path(name))]
    cases = [test.get(kind, []) for test in document["tests"] for kind in ("alert_rule_test", "promql_expr_test")]
    (folder / "rules.yml").write_text(_dump({"groups": _needed_groups(groups, json.dumps(cases))}), "utf-8")
    (folder / "tests.yml").write_text(_dump({**document, "rule_files": ["rules.yml"]}), "utf-8")
    run_command(promtool, "test", "rules", "tests.yml", cwd=folder)


def load_groups(file: Path) -> list[dict[str, Any]]:
    """Return the groups of a rule file."""
    groups: list[dict[str, Any]] = yaml.load(file.read_text("utf-8"), yaml.CSafeLoader)["groups"]
    return groups


def _needed_groups(groups: Sequence[Mapping[str, Any]], text: str) -> list[Mapping[str, Any]]:
    """Return the groups with the rules whose name is in a text, or in the text of another such rule."""
    remaining = {id(rule): rule for group in groups for rule in group["rules"]}
    while needed := [key for key, rule in remaining.items() if (rule.get("alert") or rule["record"]) in text]:
        text += json.dumps([remaining.pop(key) for key in needed])
    return [
        {**group, "rules": rules}
        for group in groups
        if (rules := [rule for rule in group["rules"] if id(rule) not in remaining])
    ]


def _dump(document: Mapping[str, Any]) -> str:
    return yaml.safe_dump(document, width=10_000, sort_keys=False)
