"""Markdown tables of the alerts, for docs/alerts.md."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter

from deploy.prometheus.rules import ALERT_GROUPS, AlertingRule, RuleGroup

__all__ = ["alerts_markdown"]

CRITICAL = "**critical:** "
RUNBOOKS_PATH = "deploy/prometheus/runbooks"
TITLES = {
    "late-essential": "The essential ones",
    "late-budget": "Error budget",
    "late-publishing-alerts": "Publishing",
    "late-status": "Scheduled posts, plan, webhooks",
    "late-accounts": "Accounts",
    "late-api": "Requests of your programs to the API (off by default)",
    "late-exporter": "The exporter itself",
}
"""Headings by the name of the rule group."""


def alerts_markdown() -> str:
    """Return a table per group, with one row per alert and a link to its runbook."""
    return "\n\n".join("\n".join(_group_table(group)) for group in ALERT_GROUPS)


def _group_table(group: RuleGroup) -> Iterator[str]:
    yield f"### {TITLES[group.name]}\n\n| alert | fires when |\n|---|---|"
    alerts = [rule for rule in group.rules if isinstance(rule, AlertingRule)]
    for name, rules in groupby(alerts, key=attrgetter("name")):
        variants = sorted(rules, key=lambda rule: rule.severity == "critical")
        conditions = (f"{CRITICAL if rule.severity == 'critical' else ''}{rule.condition}" for rule in variants)
        yield f"| [{name}]({RUNBOOKS_PATH}/{name}.md) | {'; '.join(conditions)} |"
