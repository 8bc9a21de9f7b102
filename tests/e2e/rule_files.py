"""The shipped rule files, also for compressed time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.timescale import scale_duration, scale_expr

RULES = Path(__file__).parents[2] / "deploy" / "prometheus"


def render(speedup: int = 1) -> Mapping[str, str]:
    """Return the rule files by name; a speedup divides their windows, offsets, waits and ages."""
    files = {path.name: path.read_text("utf-8") for path in sorted(RULES.glob("late-exporter.*.yml"))}
    if speedup == 1:
        return files
    return {name: yaml.safe_dump(_scaled(yaml.safe_load(text), speedup)) for name, text in files.items()}


def _scaled(document: dict[str, Any], speedup: int) -> dict[str, Any]:
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        rule["expr"] = scale_expr(rule["expr"], speedup)
        for name in ("for", "keep_firing_for"):
            if name in rule:
                rule[name] = scale_duration(rule[name], speedup)
    return document
