"""The alerts as a table for people."""

from __future__ import annotations

from deploy.prometheus.rules import ALERT_GROUPS, Alert

__all__ = ["alerts_markdown"]

RUNBOOKS = "deploy/prometheus/runbooks"


def alerts_markdown() -> str:
    """A row for each rule, with a link to its runbook, which says what to do first."""
    alerts = [rule for group in ALERT_GROUPS for rule in group.rules if isinstance(rule, Alert)]
    return "\n".join(("| alert | severity | fires when | for |", "|---|---|---|---|", *map(_row, alerts)))


def _row(alert: Alert) -> str:
    hold = "-" if alert.hold == "0m" else alert.hold
    return f"| [{alert.name}]({RUNBOOKS}/{alert.name}.md) | {alert.severity} | {alert.when} | {hold} |"
