"""Markdown table of the alerts."""

from __future__ import annotations

from deploy.prometheus.rules import ALERT_GROUPS, AlertingRule

__all__ = ["alerts_markdown"]

RUNBOOKS_PATH = "deploy/prometheus/runbooks"


def alerts_markdown() -> str:
    """Return one row per alerting rule, with a link to its runbook."""
    alerts = [rule for group in ALERT_GROUPS for rule in group.rules if isinstance(rule, AlertingRule)]
    return "\n".join(("| alert | severity | fires when | for |", "|---|---|---|---|", *map(_table_row, alerts)))


def _table_row(alert: AlertingRule) -> str:
    for_ = "-" if alert.for_ == "0m" else alert.for_
    return f"| [{alert.name}]({RUNBOOKS_PATH}/{alert.name}.md) | {alert.severity} | {alert.condition} | {for_} |"
