"""Threshold colors of the dashboards, at the thresholds of the alerts."""

from __future__ import annotations

from typing import TypeAlias

from grafana.source.palette import BAD, GOOD, MUTED, NEUTRAL, NOTICE, WARNING
from late_exporter.thresholds import (
    CONSECUTIVE_FAILURES,
    DAY,
    FAST_BURN,
    MINUTE,
    PLATFORM_ATTEMPTS,
    PLATFORM_FAILED_SHARE,
    POST_STUCK_SECONDS,
    POSTS_OVERDUE_CRITICAL_SECONDS,
    POSTS_OVERDUE_SECONDS,
    SUCCESS_OBJECTIVE,
    TOKEN_LEFT_WARNING_SECONDS,
    USAGE_RATIO,
)

# Further numbers of the alerts in deploy/prometheus/late-exporter.alerts.yml.
SLOW_BURN = 6
PUNCTUAL_DELAY = "300([.]0)?"
PUBLISHED_LATE_SHARE = 0.1
PUBLISHED_LATE_POSTS = 10
ACCOUNT_FAILURE_WINDOW = "3d"
ACCOUNT_RECENT_WINDOW = "3h"
DATA_AGE_WARNING_SECONDS = 5 * MINUTE
DATA_AGE_CRITICAL_SECONDS = 10 * MINUTE
QUOTA_LEFT_WARNING = 0.2

SHARE_ATTEMPTS = PLATFORM_ATTEMPTS
"""Attempts below which a share says less than the numbers: one failure of one would be 0 %."""

NOTHING_PUBLISHED_ATTEMPTS = 3
"""Failed attempts from which a success of 0 % is shown all the same, as on the status page."""

BUDGET_ATTEMPTS = 1000
"""Attempts in 30 days below which one failure takes more than a tenth of the error budget."""

Steps: TypeAlias = tuple[tuple[float | None, str], ...]
"""Color steps: each color applies from its value up; the first one applies below all others."""


def success_ratio_at(rate: float) -> float:
    """Return the success ratio that corresponds to a burn rate of the error budget."""
    return round(1 - rate * (1 - SUCCESS_OBJECTIVE), 6)


NEUTRAL_STEPS: Steps = ((None, NEUTRAL),)
"""Color of a value that is neither good nor bad."""

UP: Steps = ((None, BAD), (1, GOOD))
SUCCESS: Steps = (
    (None, BAD),
    (success_ratio_at(FAST_BURN), WARNING),
    (success_ratio_at(SLOW_BURN), NOTICE),
    (SUCCESS_OBJECTIVE, GOOD),
)
PLATFORM_SUCCESS: Steps = (
    (None, BAD),
    (1 - PLATFORM_FAILED_SHARE, WARNING),
    (success_ratio_at(SLOW_BURN), NOTICE),
    (SUCCESS_OBJECTIVE, GOOD),
)
"""Red as soon as the alert on a platform fires, which knows no error budget."""

DATA_AGE: Steps = (
    (None, GOOD),
    (DATA_AGE_WARNING_SECONDS, WARNING),
    (DATA_AGE_CRITICAL_SECONDS, BAD),
)
PENDING_AGE: Steps = ((None, GOOD), (POST_STUCK_SECONDS, WARNING))
APPROVAL_OVERDUE: Steps = ((None, GOOD), (1, WARNING))
POSTS_OVERDUE: Steps = (
    (None, GOOD),
    (POSTS_OVERDUE_SECONDS, WARNING),
    (POSTS_OVERDUE_CRITICAL_SECONDS, BAD),
)
PLAN_USED: Steps = ((None, GOOD), (USAGE_RATIO, WARNING), (1, BAD))
BALANCE: Steps = ((None, BAD), (0.01, GOOD))
PUBLISHED_LATE: Steps = ((None, GOOD), (PUBLISHED_LATE_SHARE, WARNING))
BUDGET_LEFT: Steps = ((None, BAD), (0, WARNING), (0.25, GOOD))
QUOTA_LEFT: Steps = ((None, WARNING), (QUOTA_LEFT_WARNING, GOOD))
FAILURE_STREAK: Steps = ((None, GOOD), (1, NOTICE), (CONSECUTIVE_FAILURES, WARNING))
TOKEN_DAYS_LEFT: Steps = ((None, BAD), (0, WARNING), (TOKEN_LEFT_WARNING_SECONDS / DAY, GOOD))
WARNING_ABOVE_ZERO: Steps = ((None, GOOD), (1, WARNING))
"""For counts that deserve attention above 0."""

NOTICE_ABOVE_ZERO: Steps = ((None, GOOD), (1, NOTICE))
"""For counts that are ordinary for a while."""

UNRATED_ABOVE_ZERO: Steps = ((None, GOOD), (1, MUTED))
"""For counts that are only good or bad as a share of something."""

BAD_ABOVE_ZERO: Steps = ((None, GOOD), (1, BAD))
"""For counts that must be 0."""
