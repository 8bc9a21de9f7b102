"""The status page, ``status`` and ``check`` judge as the alerts do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import pytest

from late_exporter import thresholds
from late_exporter.web.findings import KINDS
from tests.rules.rule_files import FILES, Json, load_yaml, rule_name

NOT_JUDGED = {
    "LateExporterDown": "the page is down then",
    "LateExporterTwice": "an exporter does not know another one",
    "LateErrorBudgetBurningSlowly": "the page knows attempts of the last hour, not of days",
    "LateScheduleEmpty": "the page does not know the schedule of two weeks ago",
    "LatePublishingQuiet": "the page does not know the attempts of a week ago",
    "LatePublishedLate": "the page does not know delays",
    "LateRateLimited": "the page does not know pauses",
    "LateQuotaLow": "the page shows the quota of the moment, not the average",
    "LateCatchUpStuck": "the page shows gaps, not for how long they are open",
    "LateCoverageLost": "the page shows since when counts are complete, not since when before",
    "LateLogsNotCounted": "the page does not know what was rejected in the last hour",
    "LateAuditFailed": "the page does not know the result of the audit",
}
"""Alerts without a finding, with the reason."""

SEVERITIES = {"bad": "critical", "warn": "warning"}

RULES: Sequence[Json] = [
    rule for file in FILES for group in load_yaml(file.read_text("utf-8"))["groups"] for rule in group["rules"]
]


def alert_severities() -> Mapping[str, set[str]]:
    """Return the severities of each alert."""
    severities = defaultdict[str, set[str]](set)
    for rule in RULES:
        if "alert" in rule:
            severities[rule["alert"]].add(rule["labels"]["severity"])
    return severities


def kind_severities() -> Mapping[str, set[str]]:
    """Return the severities of the findings with the runbook of each alert."""
    severities = defaultdict[str, set[str]](set)
    for kind in KINDS.values():
        if kind.tone not in SEVERITIES:
            continue
        severities[kind.runbook].add(SEVERITIES[kind.tone])
        if kind.bad_after is not None:
            severities[kind.runbook].add("critical")
        if kind.runbook_of_many:
            severities[kind.runbook_of_many].add("critical")
    return severities


def test_each_finding_has_the_severity_of_its_alert() -> None:
    """A kind of findings names an alert, and is as severe."""
    alerts = alert_severities()
    expected = {name: alerts.get(name) for name in kind_severities()}
    assert kind_severities() == expected


def test_each_alert_has_a_finding_or_a_reason_for_none() -> None:
    """Nobody is told by an alert what the page could have said."""
    judged = {*kind_severities()}
    assert judged & NOT_JUDGED.keys() == set()
    assert judged | NOT_JUDGED.keys() == {*alert_severities()}


@pytest.mark.parametrize(
    ("name", "condition"),
    [
        ("slo:late_publishing_success:objective", f"vector({thresholds.SUCCESS_OBJECTIVE})"),
        ("LateErrorBudgetBurningFast", f"> {thresholds.FAST_BURN} * 0.01 "),
        ("LateErrorBudgetBurningFast", f"increase1h >= {thresholds.BUDGET_FAILURES} "),
        ("LatePlatformFailing", f"increase30m > {100 * thresholds.PLATFORM_FAILED_SHARE:g} "),
        ("LatePlatformFailing", f"attempts:increase30m >= {thresholds.PLATFORM_ATTEMPTS} "),
        ("LateNothingPublished", f"_failures) >= {thresholds.CONSECUTIVE_FAILED_POSTS} "),
        ("LatePlatformDown", f"increase30m > {thresholds.PLATFORM_FAILED_SHARE:g} "),
        ("LatePlatformDown", f") >= {thresholds.PLATFORM_DOWN_WORKSPACES} "),
        ("LatePlatformDown", f"increase30m) >= {thresholds.PLATFORM_ATTEMPTS} "),
        ("LateManyWorkspaces", f"{thresholds.MANY_WORKSPACES_SHARE} * count by "),
        ("LateManyWorkspaces", f">= {thresholds.MANY_WORKSPACES} "),
        ("LatePostFailed", f":increase1d > {thresholds.SMALL_WORKSPACE_ATTEMPTS} "),
        ("LateAccountFailing", f"_failures) >= {thresholds.CONSECUTIVE_FAILURES} "),
        ("LatePostStuck", f"> {thresholds.POST_STUCK_SECONDS} "),
        ("LatePostsOverdue", f"> {thresholds.POSTS_OVERDUE_SECONDS} "),
        ("LatePostsOverdue", f"> {thresholds.POSTS_OVERDUE_CRITICAL_SECONDS} "),
        ("LatePostsOverdue", f"> {thresholds.APPROVAL_OVERDUE_SECONDS} "),
        ("LateTokenExpiring", f"< {thresholds.TOKEN_LEFT_WARNING_SECONDS} "),
        ("LatePlanLimitNear", f">= {100 * thresholds.USAGE_RATIO:g} "),
        ("LatePlanStopsPosts", f'{{kind="uploads"}}) >= {thresholds.USED_UP_RATIO} '),
        ("LateWebhookFailing", f">= {thresholds.WEBHOOK_FAILURES} "),
        ("LateWebhookFailing", "late_webhook_consecutive_failures[1h]"),
        ("LateClockSkew", f"> {thresholds.CLOCK_OFFSET_SECONDS} "),
    ],
)
def test_findings_have_the_numbers_of_the_alerts(name: str, condition: str) -> None:
    """The status page, the commands and the dashboards judge by the numbers of the alerts."""
    expressions = [" ".join(str(rule["expr"]).split()) for rule in RULES if rule_name(rule) == name]
    assert condition in " ".join([*expressions, ""])
