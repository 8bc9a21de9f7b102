"""Numbers by which the status page, the commands and the dashboards judge: those of the alerts.

A test compares them with ``deploy/prometheus/late-exporter.alerts.yml``.
"""

from __future__ import annotations

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR

SUCCESS_OBJECTIVE = 0.99
FAST_BURN = 14.4
BUDGET_FAILURES = 20
"""Multiple of the allowed failures, and failures of an hour, from which LateErrorBudgetBurningFast
fires."""

PLATFORM_FAILED_SHARE = 0.5
PLATFORM_ATTEMPTS = 20
"""Failed share, and number of attempts, above which LatePlatformFailing fires."""

CONSECUTIVE_FAILED_POSTS = 3
"""Failed posts in a row, on a platform or on all, from which LateNothingPublished fires."""

PLATFORM_DOWN_WORKSPACES = 3
"""Workspaces with a failing platform from which LatePlatformDown fires."""

MANY_WORKSPACES = 3
MANY_WORKSPACES_SHARE = 0.1
"""Number of workspaces with one cause, and their share, from which LateManyWorkspaces fires."""

SMALL_WORKSPACE_ATTEMPTS = 50
"""Attempts a day up to which LatePostFailed fires for each post; shares decide above."""

CONSECUTIVE_FAILURES = 5
"""Failed attempts of an account in a row from which LateAccountFailing fires."""

POST_STUCK_SECONDS = 2 * HOUR
"""Age of a pending log above which LatePostStuck fires."""

POSTS_OVERDUE_SECONDS = 15 * MINUTE
POSTS_OVERDUE_CRITICAL_SECONDS = HOUR
"""Seconds after its time at which a post that is still scheduled is a warning, and critical."""

APPROVAL_OVERDUE_SECONDS = 0
"""Seconds after its time at which a post that is not approved is a warning."""

TOKEN_LEFT_WARNING_SECONDS = 7 * DAY
"""Seconds until a token expires from which LateTokenExpiring fires."""

USAGE_RATIO = 0.9
"""Used share of a limit of the plan from which LatePlanLimitNear fires."""

USED_UP_RATIO = 1
"""Used share of the uploads from which LatePlanStopsPosts fires."""

WEBHOOK_FAILURES = 3
WEBHOOK_FAILING_SECONDS = HOUR
"""Failed deliveries in a row, and the seconds for which they last, from which LateWebhookFailing
fires."""

CLOCK_OFFSET_SECONDS = 60
"""Seconds by which the clocks of host and API differ above which LateClockSkew fires."""
