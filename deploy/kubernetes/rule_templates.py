"""The rules as templates of the Helm chart, with places for the objective and for a selector of the exporters.

The templates follow from the source of the rules: it is rendered with an objective that can be recognised, in a process
of its own, because the rules are made when they are imported.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml

from deploy.prometheus.thresholds import SUCCESS_OBJECTIVE

__all__ = ["OBJECTIVE_FILE", "objective_yaml", "render_rules", "render_templates"]

OBJECTIVE_FILE = "objective.yaml"
MARKED_OBJECTIVE = 0.98765
"""An objective whose digits occur nowhere else in the rules."""

MARKS = {"98.765 %": "@PERCENT@", "0.98765": "@OBJECTIVE@", "0.01235": "@BUDGET@"}
RAW_SERIES = re.compile(r"(?<![\w:@])(?:late_\w+|up|process_start_time_seconds)(?![\w:])\{?")
"""Series of the exporters, unlike those that rules record, with the brace of their matchers."""

RENDER = """
import json, sys
from deploy.prometheus import thresholds
thresholds.SUCCESS_OBJECTIVE = float(sys.argv[1])
thresholds.ERROR_BUDGET = round(1 - thresholds.SUCCESS_OBJECTIVE, 10)
from deploy.prometheus.files import render
json.dump(dict(render()), sys.stdout)
"""


def render_rules(objective: float) -> Mapping[str, str]:
    """Return the text of the rule files with another objective, by file name."""
    process = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", RENDER, str(objective)],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    )
    files: Mapping[str, str] = yaml.safe_load(process.stdout)
    return files


@cache
def render_templates() -> Mapping[str, str]:
    """Return the text of the rule templates by file name."""
    return {name: _mark(text) for name, text in render_rules(MARKED_OBJECTIVE).items()}


def objective_yaml() -> str:
    """Return the objective of the rule files, which the chart uses unless its values say otherwise."""
    return yaml.safe_dump({"objective": SUCCESS_OBJECTIVE})


def _mark(text: str) -> str:
    for number, mark in MARKS.items():
        text = text.replace(number, mark)
    document = yaml.safe_load(text)
    for group in document["groups"]:
        for rule in group["rules"]:
            rule["expr"] = RAW_SERIES.sub(_add_selector, rule["expr"])
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=10_000)


def _add_selector(series: re.Match[str]) -> str:
    return series[0] + ("@MATCHERS@" if series[0].endswith("{") else "@BRACES@")
