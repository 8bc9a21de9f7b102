"""The rule files as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from deploy.prometheus.pace import faster, sooner
from deploy.prometheus.rules import ALERT_GROUPS, RECORDING_GROUPS, RUNBOOKS_URL, Alert, Group, Record

__all__ = ["written"]

GROUPS: Mapping[str, Sequence[Group]] = {
    "late-exporter.rules.yml": RECORDING_GROUPS,
    "late-exporter.alerts.yml": ALERT_GROUPS,
}
HEADER = "# Written by python -m deploy.prometheus from rules.py: change that one.\n"


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def written(speed: int = 1) -> Mapping[str, str]:
    """The files by their names.

    Args:
        speed: How many times faster than ours the time runs that the rules are for.
    """
    return {name: _file([_group(group, speed) for group in groups]) for name, groups in GROUPS.items()}


def _file(groups: Sequence[Mapping[str, Any]]) -> str:
    document = yaml.dump({"groups": groups}, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)
    return f"{HEADER}{document}"


def _group(group: Group, speed: int) -> dict[str, Any]:
    interval = {"interval": _duration(group.interval, speed)} if group.interval else {}
    return {"name": group.name, **interval, "rules": [_rule(rule, speed) for rule in group.rules]}


def _rule(rule: Record | Alert, speed: int) -> dict[str, Any]:
    expr = rule.expr if speed == 1 else faster(rule.expr, speed)
    if isinstance(rule, Record):
        return {"record": rule.name, "expr": expr}
    return {
        "alert": rule.name,
        "expr": expr,
        "for": _duration(rule.hold, speed),
        **({"keep_firing_for": _duration(rule.keep, speed)} if rule.keep else {}),
        "labels": {"severity": rule.severity, **rule.labels},
        "annotations": {
            "summary": rule.summary,
            "description": rule.description,
            "runbook_url": f"{RUNBOOKS_URL}/{rule.name}.md",
            "dashboard_url": rule.dashboard,
        },
    }


def _duration(duration: str, speed: int) -> str:
    return duration if speed == 1 else sooner(duration, speed)
