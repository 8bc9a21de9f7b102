"""The status page, the commands and the dashboards judge by the numbers of the alerts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from late_exporter import thresholds

RULES = Path(__file__).parents[2] / "deploy" / "prometheus"


def expressions(name: str) -> str:
    """Return the expressions of an alert or a recording rule, each with its spaces collapsed."""
    files = [yaml.safe_load(path.read_text("utf-8")) for path in sorted(RULES.glob("late-exporter.*.yml"))]
    rules = [rule for file in files for group in file["groups"] for rule in group["rules"]]
    found = [rule["expr"] for rule in rules if name in (rule.get("alert"), rule.get("record"))]
    return "\n".join(" ".join(str(expr).split()) for expr in found)


@pytest.mark.parametrize(
    ("rule", "condition"),
    [
        ("slo:late_publishing_success:objective", f"vector({thresholds.SUCCESS_OBJECTIVE})"),
        ("LateErrorBudgetBurningFast", f"> {thresholds.FAST_BURN} * {1 - thresholds.SUCCESS_OBJECTIVE:.2g} "),
        ("LatePlatformFailing", f"increase30m > {100 * thresholds.PLATFORM_FAILED_SHARE:g} "),
        ("LatePlatformFailing", f"attempts:increase30m >= {thresholds.PLATFORM_ATTEMPTS} "),
        ("LateAccountFailing", f"(late_account_consecutive_failures) >= {thresholds.CONSECUTIVE_FAILURES} "),
        ("LatePostStuck", f"> {thresholds.POST_STUCK_SECONDS} "),
        ("LatePostsOverdue", f"> {thresholds.POSTS_OVERDUE_SECONDS} "),
        ("LatePostsOverdue", f"> {thresholds.POSTS_OVERDUE_CRITICAL_SECONDS} "),
        ("LateTokenExpiring", f"< {thresholds.TOKEN_LEFT_WARNING_SECONDS} "),
        ("LatePlanLimitNear", f">= {100 * thresholds.USAGE_RATIO:g} "),
        ("LateClockSkew", f"> {thresholds.CLOCK_OFFSET_SECONDS} "),
    ],
)
def test_alerts_have_the_same_numbers(rule: str, condition: str) -> None:
    """Each number of the package is the one of the rule that it belongs to."""
    assert condition in f"{expressions(rule)} "
