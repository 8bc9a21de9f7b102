"""Thresholds shared by the alerts and by the colors of the dashboards."""

from __future__ import annotations

MINUTE, HOUR, DAY = 60, 3600, 86_400

SUCCESS_OBJECTIVE = 0.99
"""Target share of final publish and retry logs that succeed over PERIOD."""

PERIOD = "30d"
ERROR_BUDGET = round(1 - SUCCESS_OBJECTIVE, 10)

FAST_BURN = 14.4
"""Burn rate that spends the 30-day error budget in two days: page immediately."""

SLOW_BURN = 6
"""Burn rate that spends the error budget in five days: page if it lasts."""

TICKET_BURN = 3
LONG_TICKET_BURN = 1
"""Burn rates that exhaust the error budget before the period ends: open a ticket."""

BUDGET_FINAL_LOGS = 50
BUDGET_FAILED_LOGS = 10
"""Minimum logs in the long window for a burn rate to be meaningful."""

LATE_LOG_LAG = "3600([.]0)?"
"""Bound of a bucket as a regular expression: Prometheus stores 3600.0, an OpenTelemetry Collector writes 3600."""

CATCH_UP_RATIO = 0.2
"""The exporter is catching up if more than this share of the logs counted exceeds the lag above."""

PLATFORM_FAILED_SHARE = 0.5
PLATFORM_FINAL_LOGS = 20
PLATFORM_RECOVERED_SHARE = 0.75
"""Share of successful attempts in 5 minutes from which a platform is no longer failing."""

QUIET_SHARE = 0.1
QUIET_EXPECTED_LOGS = 30

SILENCE_WINDOW = "6h"
SILENCE_EXPECTED_LOGS = 10
"""A workspace with little traffic is silent for an hour now and then, but not for six hours that had ten attempts or
more on other days."""

NO_ATTEMPT_LOGS = 10
"""Logs without a single attempt among them: an upload or two may precede the first attempt, ten do not."""

USUAL_WEEKS_SHARE = 0.75
"""Share of the last four weeks in which something was scheduled at this time, from which that is usual."""

POSTS_OVERDUE_SECONDS = 15 * MINUTE
"""Age of a schedule from which a post is overdue; the API starts posts within minutes of their time."""

POSTS_STUCK_SECONDS = HOUR
"""Age of a schedule from which a post is stuck in publishing, or the scheduler has stopped; large videos and retries
take less."""

PUNCTUAL_DELAY = "300([.]0)?"
"""Bound of a bucket as LATE_LOG_LAG: a post that ends later after its schedule is published late."""

PUBLISHED_LATE_SHARE = 0.1
PUBLISHED_LATE_POSTS = 10
"""Share of the scheduled posts that may be late, and minimum of posts for it to be meaningful."""

SLOW_FACTOR = 3
SLOW_SECONDS = 5
SLOW_LOGS = 30
SLOW_HISTORY_HOURS = 24

MIN_PAUSES = 20
PAUSES_PER_LOG = 0.2

PENDING_SECONDS = HOUR
PENDING_EXCESS = 10

POST_STUCK_FACTOR = 10
POST_STUCK_SECONDS = HOUR
"""A log is stuck if it is pending for longer than this, and than the factor times the 99th percentile of durations."""

CONSECUTIVE_FAILURES = 5
"""Failed attempts of an account in a row."""

ACCOUNT_FAILURE_WINDOW = "3d"
ACCOUNT_RECENT_WINDOW = "3h"
ACCOUNT_ACTIVE_SECONDS = 7 * DAY

TOKEN_LEFT_WARNING_SECONDS = 7 * DAY
TOKEN_LEFT_CRITICAL_SECONDS = DAY
"""Time until an access token expires."""

CONNECT_FAILURES = 5
CONNECT_FAILED_SHARE = 0.5

COOLDOWN_STARTS = 3
"""Cooldowns of an account that start within a day: each lasts twice as long as the one before, the third 40 minutes."""

SPEND_RATIO = 0.9
"""Share of a spending limit, from which it should be raised before it stops posts."""

USAGE_RATIO = 0.9
"""Share of what the plan includes, from which it should be raised before posts are refused."""

API_ERROR_SHARE = 0.05
API_ERROR_REQUESTS = 20
API_THROTTLED = 50
"""Share of the customer's API requests that may fail with 5xx, minimum of requests for it to be meaningful, and number
of requests in five minutes that may be throttled."""

DATA_AGE_WARNING_SECONDS = 5 * MINUTE
DATA_AGE_CRITICAL_SECONDS = 10 * MINUTE
"""Time since the last successful poll of a feed."""

RESTARTS = 4
RESTART_GRACE = "10m"
"""``keep_firing_for`` of alerts based on gauges, so that a restart of the exporter does not resolve them."""

SHARE_GRACE = "10m"
"""``keep_firing_for`` of alerts on shares, so that they do not resolve and fire again while a share varies."""

QUOTA_LEFT_WARNING = 0.2
"""Share of the requests per minute left for an API key."""

SCAN_AGE_SECONDS = DAY
"""Time since the start of the last completed reconciliation scan: the default interval is ten minutes, but with a low
rate limit the scan of a long list takes hours."""

AUDIT_AGE_SECONDS = 3 * DAY
"""Time since the last completed audit; the default interval is one day."""

"""Duration that separates a wrong secret from a single forged request."""

EVENT_DELAY_SECONDS = 15 * MINUTE
"""Time for which a log event has waited for its delivery."""

COVERAGE_LEFT_CRITICAL_SECONDS = 2 * DAY
"""Time until the API deletes logs that have not been read."""

COVERAGE_AGE_WARNING_SECONDS = 5 * DAY
"""Time since a feed was last read without a gap."""

COVERAGE_STEP_SECONDS = 10 * MINUTE
