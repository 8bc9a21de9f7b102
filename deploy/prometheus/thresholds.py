"""The numbers at which something is wrong: alerts begin at them, and dashboards change colour at them."""

from __future__ import annotations

MINUTE, HOUR, DAY = 60, 3600, 86_400

SUCCESS_OBJECTIVE = 0.99
"""Share of the final publish and retry logs that succeed, over PERIOD."""

PERIOD = "30d"
ERROR_BUDGET = round(1 - SUCCESS_OBJECTIVE, 10)

FAST_BURN = 14.4
"""Times its rate at which the error budget of 30 days is spent in two days: wake somebody."""

SLOW_BURN = 6
"""Times its rate at which it is spent in five days: wake somebody, if it lasts."""

TICKET_BURN = 3
LONG_TICKET_BURN = 1
"""Times its rate at which it is spent too early: tomorrow is soon enough."""

BUDGET_FINAL_LOGS = 50
BUDGET_FAILED_LOGS = 10
"""With fewer logs than these in the long window a burn rate says nothing."""

RETENTION = 7 * DAY
"""How long Late keeps a log."""

LATE_AFTER = "3600.0"
LATE_SHARE = 0.2
"""The exporter is catching up when a larger share of the logs it counts is older: what it reads is no longer so."""

PLATFORM_FAILED_SHARE = 0.5
PLATFORM_FINAL_LOGS = 20

QUIET_SHARE = 0.1
QUIET_EXPECTED_LOGS = 30

SLOW_FACTOR = 3
SLOW_SECONDS = 5
SLOW_LOGS = 30
SLOW_HISTORY_HOURS = 24

PAUSES = 20
PAUSES_PER_LOG = 0.2

PENDING_SECONDS = HOUR
PENDING_EXCESS = 10

CONSECUTIVE_FAILURES = 5
"""Attempts of an account that failed in a row."""

ACCOUNT_FAILED_WITHIN = "3d"
ACCOUNT_FAILED_LATELY = "3h"
ACCOUNT_USED_SECONDS = 7 * DAY

TOKEN_LEFT_WARNING_SECONDS = 7 * DAY
TOKEN_LEFT_CRITICAL_SECONDS = DAY
"""Until a token expires."""

CONNECT_FAILURES = 5
CONNECT_FAILED_SHARE = 0.5

DATA_AGE_WARNING_SECONDS = 5 * MINUTE
DATA_AGE_CRITICAL_SECONDS = 10 * MINUTE
"""Since the last poll of a feed that succeeded."""

RESTARTS = 4
ACROSS_RESTART = "10m"
"""What rests on gauges fires on for so long while they are away, so that a restart resolves nothing."""

QUOTA_LEFT_WARNING = 0.2
"""Share of a key's requests a minute that is left."""

AUDIT_AGE_SECONDS = 3 * DAY
"""Since the last audit that came to its end; one is due every day."""

WEBHOOKS_REFUSED_WITHIN = "15m"
"""Somebody's single try is no trouble; a secret that does not fit refuses all the time."""

COVERAGE_RISK_SECONDS = 5 * DAY
COVERAGE_STEP_SECONDS = 10 * MINUTE
