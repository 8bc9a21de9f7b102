"""Numbers by which the status page, the commands and the dashboards judge: those of the alerts.

A test compares them with ``deploy/prometheus/late-exporter.alerts.yml``.
"""

from __future__ import annotations

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR

SUCCESS_OBJECTIVE = 0.99
FAST_BURN = 14.4
"""Multiple of the allowed failures from which LateErrorBudgetBurningFast fires."""

PLATFORM_FAILED_SHARE = 0.5
PLATFORM_ATTEMPTS = 20
"""Failed share, and number of attempts, above which LatePlatformFailing fires."""

CONSECUTIVE_FAILURES = 5
"""Failed attempts of an account in a row from which LateAccountFailing fires."""

POST_STUCK_SECONDS = 2 * HOUR
"""Age of a pending log above which LatePostStuck fires."""

POSTS_OVERDUE_SECONDS = 15 * MINUTE
POSTS_OVERDUE_CRITICAL_SECONDS = HOUR
"""Seconds after its time at which a post that is still scheduled is a warning, and critical."""

TOKEN_LEFT_WARNING_SECONDS = 7 * DAY
"""Seconds until a token expires from which LateTokenExpiring fires."""

USAGE_RATIO = 0.9
"""Used share of a limit of the plan from which LatePlanLimitNear fires."""

CLOCK_OFFSET_SECONDS = 60
"""Seconds by which the clocks of host and API differ above which LateClockSkew fires."""
