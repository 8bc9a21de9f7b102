"""The rules as templates of the Helm chart, with formulas of the values in place of numbers and selectors.

The templates follow from the source of the rules, as those of the mixin do: the thresholds are symbols when the rules
are imported. That replaces them for the whole process, so it happens in one of its own, which prints JSON.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from deploy.prometheus.symbols import marker, replace_thresholds, split_template
from grafana.source.mixin import rule_template

__all__ = ["DEFAULTS_FILE", "defaults", "render_templates"]

DEFAULTS_FILE = "defaults.yaml"
"""File of the chart with the objective and the thresholds of the rule files."""

OPERATORS = {ast.Add: "addf", ast.Sub: "subf", ast.Mult: "mulf", ast.Div: "divf"}


@cache
def _rendered() -> Mapping[str, Any]:
    process = subprocess.run(
        [sys.executable, "-m", "deploy.kubernetes.rule_templates"],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    )
    rendered: Mapping[str, Any] = json.loads(process.stdout)
    return rendered


def defaults() -> Mapping[str, Any]:
    """Return the objective and the thresholds, which the chart uses unless its values say otherwise."""
    found: Mapping[str, Any] = _rendered()["defaults"]
    return found


def render_templates() -> Mapping[str, str]:
    """Return the text of the rule templates by file name."""
    return {
        name: yaml.safe_dump({"groups": groups}, sort_keys=False, allow_unicode=True, width=10_000)
        for name, groups in _rendered()["files"].items()
    }


def _to_helm(value: Any) -> Any:
    """Return a value with the formulas of its texts in the language of Helm's templates."""
    if isinstance(value, dict):
        return {name: _to_helm(part) for name, part in value.items()}
    if isinstance(value, str):
        parts = split_template(value)
        return "".join(marker(_expression(part)) if is_formula else part for part, is_formula in parts)
    return value


def _expression(formula: str) -> str:
    """Return a formula, written in Jsonnet, as an expression of a template; both are simple enough for Python."""
    return _node(ast.parse(formula, mode="eval").body)


def _node(node: ast.expr) -> str:
    match node:
        case ast.BinOp(left, operator, right):
            return f"({OPERATORS[type(operator)]} {_node(left)} {_node(right)})"
        case ast.Call(ast.Name("num"), [argument]):
            return _node(argument)
        case ast.Call(ast.Name("round" as function) | ast.Attribute(ast.Name("std"), "floor" as function), arguments):
            return f"({' '.join([function, *map(_node, arguments)])})"
        case ast.Attribute(value, name):
            return f".{name}" if ast.unparse(value) == "c" else f"{_node(value)}.{name}"
        case ast.Constant(value):
            return f"{value!r}"
        case _:
            raise ValueError(f"no expression of a template for {ast.unparse(node)}")


def main() -> None:
    """Print defaults and templates as JSON."""
    thresholds = replace_thresholds()
    files, rules = import_module("deploy.prometheus.files"), import_module("deploy.prometheus.rules")
    objective = float(import_module("deploy.prometheus.thresholds").SUCCESS_OBJECTIVE)
    templates = {
        name: [
            {**group, "rules": [_to_helm(rule_template(rule, rules)) for rule in group["rules"]]}
            for group in (files.group_mapping(each, label="") for each in groups)
        ]
        for name, groups in files.FILE_GROUPS.items()
    }
    json.dump({"defaults": {"objective": objective, "thresholds": thresholds}, "files": templates}, sys.stdout)


if __name__ == "__main__":
    main()
