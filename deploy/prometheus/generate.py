# ruff: noqa: INP001 - a script, not a module
"""Writes the rule files of Prometheus from rules.py; with --check, only tells whether they are up to date."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rules import ALERT_GROUPS, RECORDING_GROUPS, RUNBOOKS_URL, Alert, Group, Record

FOLDER = Path(__file__).parent
FILES: Mapping[str, Sequence[Group]] = {
    "late-exporter.rules.yml": RECORDING_GROUPS,
    "late-exporter.alerts.yml": ALERT_GROUPS,
}
HEADER = "# Written by generate.py from rules.py: change that one.\n"


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def _rule(rule: Record | Alert) -> dict[str, Any]:
    if isinstance(rule, Record):
        return {"record": rule.name, "expr": rule.expr}
    return {
        "alert": rule.name,
        "expr": rule.expr,
        "for": rule.hold,
        **({"keep_firing_for": rule.keep} if rule.keep else {}),
        "labels": {"severity": rule.severity, **rule.labels},
        "annotations": {
            "summary": rule.summary,
            "description": rule.description,
            "runbook_url": f"{RUNBOOKS_URL}/{rule.name}.md",
            "dashboard_url": rule.dashboard,
        },
    }


def _group(group: Group) -> dict[str, Any]:
    interval = {"interval": group.interval} if group.interval else {}
    return {"name": group.name, **interval, "rules": [_rule(rule) for rule in group.rules]}


def _written(groups: Sequence[Group]) -> str:
    document = {"groups": [_group(group) for group in groups]}
    return HEADER + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)


def main() -> None:
    """Bring the files up to date, or fail where they are not and that is all that was asked."""
    for name, groups in FILES.items():
        path, after = FOLDER / name, _written(groups)
        if "--check" not in sys.argv[1:]:
            path.write_text(after, "utf-8")
        elif not path.exists() or path.read_text("utf-8") != after:
            sys.exit(f"{name} is not up to date; run {Path(__file__).name}")


if __name__ == "__main__":
    main()
