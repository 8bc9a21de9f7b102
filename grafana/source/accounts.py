"""Dashboard late-accounts: failing accounts, and accounts that need to be reconnected."""

from __future__ import annotations

from grafana_foundation_sdk.models.common import BigValueTextMode

from grafana.source import mappings, panels, thresholds
from grafana.source.layout import ACCOUNTS, PLATFORM, DashboardSpec, PanelRow, dashboard_url
from grafana.source.palette import CONNECTION_CODES, CONNECTION_EVENTS, WARNING
from grafana.source.panels import Column, PanelFrame
from grafana.source.queries import (
    ACCOUNT,
    COOLING_DOWN,
    DISCONNECTED,
    NO_POSTING,
    TO_RECONNECT,
    Query,
    account_increase,
    account_states,
    increase,
    or_zero,
    posts_at_risk,
    selector,
    with_username,
)
from grafana.source.shared_panels import UNKNOWN, failed_posts_stat, failing_accounts_stat
from late_exporter.thresholds import CONSECUTIVE_FAILURES, DAY, TOKEN_LEFT_WARNING_SECONDS

ACCOUNT_MATCHER = {"account_id": "~$account_id"}
FAILURE_STREAK = selector("late_account_consecutive_failures", **ACCOUNT_MATCHER)
CONNECTED = selector("late_account_connected", **ACCOUNT_MATCHER)
NEEDS_RECONNECT = selector("late_account_needs_reconnect", **ACCOUNT_MATCHER)
CAN_POST = selector("late_account_can_post", **ACCOUNT_MATCHER)
COOLDOWN = selector("late_account_cooldown_until_timestamp_seconds", **ACCOUNT_MATCHER)
LAST_SUCCESS = selector("late_account_last_success_timestamp_seconds", **ACCOUNT_MATCHER)
FAILED_POSTS = selector("late_account_failed_posts", **ACCOUNT_MATCHER)
LAST_FAILED_POST = selector("late_account_last_failed_post_timestamp_seconds", **ACCOUNT_MATCHER)
TOKENS = selector("late_account_token_expiry_timestamp_seconds", **ACCOUNT_MATCHER)
STATES = account_states(**ACCOUNT_MATCHER)
TOKEN_EXPIRY = f"({TOKENS} unless {CONNECTED} == 0)"
"""Token expiry of connected accounts; a revoked token is worthless before it expires."""

EVENTS_TOTAL = selector("late_connection_events_total")
FAILURES = selector("late_connection_failures_total")
LOGS = "late_account_logs_total"
REFRESHES = "late_account_token_refreshes_total"
BAR_INTERVAL = "10m"
TOKEN_DAYS_SHOWN = 60
ACCOUNT_LEGEND = "{{username}} ({{platform}})"


def _max_by_account(selector: str) -> str:
    return f"max by ({', '.join(ACCOUNT)}) ({selector})"


def _health() -> str:
    """Return the health of the accounts as a number, for HEALTH_MAPPINGS."""
    numbers = {"healthy": 0, "warning": 1, "error": 2}
    states = (
        f"{number} * {selector('late_account_health', status=status, **ACCOUNT_MATCHER)}"
        for status, number in numbers.items()
    )
    return with_username(f"max by (job, instance, {', '.join(ACCOUNT)}) ({' or '.join(states)})")


def _accounts_in(state: int) -> str:
    """Return the number of accounts in a state of ``account_states``."""
    return or_zero(f"count({STATES} == {state})")


def _increase(family: str, window: str, status: str) -> str:
    return account_increase(family, window, status=status, **ACCOUNT_MATCHER)


def _token_refreshes(status: str) -> str:
    """Return the renewals of tokens whose expiry is known, 0 for a status that never occurred."""
    refreshes = _increase(REFRESHES, "7d", status)
    any_status = _increase(REFRESHES, "7d", "~.+")
    return f"({refreshes} or 0 * {any_status}) and on ({', '.join(ACCOUNT)}) {TOKEN_EXPIRY}"


STATUS_ROW = PanelRow(
    100,
    "Current status",
    (
        failed_posts_stat(110, 4, **ACCOUNT_MATCHER),
        failing_accounts_stat(102, 4, **ACCOUNT_MATCHER),
        panels.stat_panel(
            PanelFrame(
                103,
                "Accounts that cannot publish",
                "Each account once, by the first state that applies. To reconnect: the API wants"
                " it connected again. Disconnected: according to the API, or else to the newest"
                " connection log. Cannot post: blocked for another reason. Cooling down: a"
                " penalty of the API for failed posts, which ends. The command late-exporter"
                " accounts says why.",
                12,
                4,
            ),
            *(
                Query(_accounts_in(state), legend)
                for state, legend in (
                    (TO_RECONNECT, "to reconnect"),
                    (DISCONNECTED, "disconnected"),
                    (NO_POSTING, "cannot post"),
                    (COOLING_DOWN, "cooling down"),
                )
            ),
            steps_by_name={"cooling down": thresholds.NOTICE_ABOVE_ZERO},
            steps=thresholds.WARNING_ABOVE_ZERO,
            text_mode=BigValueTextMode.VALUE_AND_NAME,
            no_value=UNKNOWN,
        ),
        panels.stat_panel(
            PanelFrame(
                105,
                "Connect failures, 24 h",
                "Connection failures logged in the last 24 hours.",
                4,
                4,
            ),
            or_zero(increase(FAILURES, "24h")),
        ),
    ),
)

RENEWED = (
    f"changes({selector('late_account_token_expiry_timestamp_seconds', **ACCOUNT_MATCHER)}[1d]) > 0"
)
EXPIRING = f"({TOKEN_EXPIRY} - time() < {TOKEN_LEFT_WARNING_SECONDS} unless {RENEWED})"

ACCOUNTS_ROW = PanelRow(
    600,
    "Accounts",
    (
        panels.table_panel(
            PanelFrame(
                601,
                "Needs attention",
                "Accounts that cannot publish, had failed posts in the last 24 hours, keep"
                " failing, or have a token that expires within"
                f" {TOKEN_LEFT_WARNING_SECONDS // DAY} days and was not"
                " renewed in the last day. Only what is wrong is shown. Last failed: due time of"
                " the newest failed post.",
                24,
                7,
            ),
            Column("Account", label="username"),
            Column("Platform", label="platform", width=130),
            Column("Workspace", label="workspace", width=120),
            Column("State", expr=STATES, mappings=mappings.ACCOUNT_STATE_MAPPINGS, width=125),
            Column(
                "Failed posts, 24 h",
                expr=with_username(FAILED_POSTS),
                steps=thresholds.NOTICE_ABOVE_ZERO,
                width=160,
            ),
            Column(
                "Last failed",
                expr=f"1000 * {with_username(LAST_FAILED_POST)}",
                unit=panels.SINCE,
                width=125,
            ),
            Column(
                "Failures in a row",
                expr=f"{with_username(FAILURE_STREAK)} >= {CONSECUTIVE_FAILURES}",
                steps=thresholds.FAILURE_STREAK,
                width=140,
            ),
            Column(
                "Cooldown left",
                expr=f"{with_username(COOLDOWN)} - time() > 0",
                unit=panels.DURATION,
                width=125,
            ),
            Column(
                "Token left",
                expr=f"{with_username(EXPIRING)} / {DAY}",
                unit=panels.DAYS,
                steps=thresholds.TOKEN_DAYS_LEFT,
                width=110,
            ),
            Column("Account id", label="account_id", width=230),
            sort=("Failed posts, 24 h", "Failures in a row"),
            no_value="No account needs attention",
        ),
        panels.table_panel(
            PanelFrame(
                201,
                "Accounts",
                "Publish attempts of each account, and whether it can be published to as the"
                " API reports it. A dash means that the API does not say. Click a platform for"
                " details.",
                24,
                14,
            ),
            Column("Account", label="username"),
            Column(
                "Platform",
                label="platform",
                link=dashboard_url(PLATFORM, platform="${__value.raw:percentencode}"),
                width=120,
            ),
            Column("Workspace", label="workspace", width=110),
            Column("Health", expr=_health(), mappings=mappings.HEALTH_MAPPINGS, width=90),
            Column(
                "Can post", expr=with_username(CAN_POST), mappings=mappings.YES_MAPPINGS, width=90
            ),
            Column(
                "Reconnect",
                expr=with_username(NEEDS_RECONNECT),
                mappings=mappings.RECONNECT_MAPPINGS,
                width=100,
            ),
            Column(
                "Failures in a row",
                expr=with_username(FAILURE_STREAK),
                steps=thresholds.FAILURE_STREAK,
                width=145,
            ),
            Column(
                "Last success",
                expr=f"1000 * {with_username(LAST_SUCCESS)}",
                unit=panels.SINCE,
                empty_text="none seen",
                width=125,
            ),
            Column(
                "Succeeded, 24 h",
                expr=_increase(LOGS, "24h", "success"),
                width=130,
                empty_text="0",
            ),
            Column(
                "Failed, 24 h", expr=_increase(LOGS, "24h", "failed"), width=105, empty_text="0"
            ),
            Column("Account id", label="account_id", width=220),
            sort="Failures in a row",
            no_value="No accounts",
        ),
    ),
)

RISK_AND_TOKEN_ROW = PanelRow(
    700,
    "Posts at risk, and tokens",
    (
        panels.table_panel(
            PanelFrame(
                702,
                "Posts at risk, next 24 h",
                "Scheduled posts due within 24 hours that would fail now: their account must be"
                " connected again, is blocked, disconnected, or in cooldown. Not filtered by"
                " account: late-exporter posts --at-risk names the accounts.",
                9,
                9,
            ),
            Column("Platform", label="platform"),
            Column("Reason", label="reason", width=120),
            Column("Workspace", label="workspace", width=115),
            Column(
                "Posts",
                expr=posts_at_risk("workspace", "platform", "reason"),
                steps=thresholds.WARNING_ABOVE_ZERO,
                width=70,
            ),
            sort="Posts",
            no_value="Unknown: the status feed posts is not read",
        ),
        panels.table_panel(
            PanelFrame(
                701,
                "Days left of tokens",
                "Days until the known access tokens of connected accounts expire, the next one"
                " first, and how often Zernio has renewed them or failed to do so in 7 days. Watch"
                " those that stay close to 0.",
                15,
                9,
            ),
            Column("Account", label="username", width=190),
            Column("Platform", label="platform", width=120),
            Column("Workspace", label="workspace", width=115),
            Column(
                "Days left",
                expr=f"({with_username(TOKEN_EXPIRY)} - time()) / {DAY}",
                unit=panels.DAYS,
                steps=thresholds.TOKEN_DAYS_LEFT,
                gauge_max=TOKEN_DAYS_SHOWN,
            ),
            *(
                Column(title, expr=_token_refreshes(status), steps=steps, width=95)
                for title, status, steps in (
                    ("Renewed", "success", None),
                    ("Not renewed", "failed", thresholds.WARNING_ABOVE_ZERO),
                )
            ),
            sort="Days left",
            descending=False,
            no_value="No expiry is known",
        ),
    ),
)

HISTORY_ROW = PanelRow(
    300,
    "History",
    (
        panels.line_chart(
            PanelFrame(
                301,
                "Failures in a row",
                "Failed attempts since the last success, for accounts with at least two in"
                f" the selected time range. Dashed line: {CONSECUTIVE_FAILURES}, the"
                " alert threshold.",
                12,
                8,
            ),
            Query(
                f"{with_username(FAILURE_STREAK)} and on ({', '.join(ACCOUNT)})"
                f" {_max_by_account(f'max_over_time({FAILURE_STREAK}[$__range])')} > 1",
                ACCOUNT_LEGEND,
            ),
            colors={},
            threshold_lines=((None, "transparent"), (CONSECUTIVE_FAILURES, WARNING)),
            stepped=True,
            axis=panels.Axis(soft_max=CONSECUTIVE_FAILURES + 1),
            no_value="No account failed twice in a row",
        ),
        panels.state_timeline(
            PanelFrame(
                302,
                "Disconnected accounts",
                "Accounts that were disconnected at some point in the selected time range.",
                12,
                8,
            ),
            Query(
                f"{with_username(CONNECTED)} and on ({', '.join(ACCOUNT)})"
                f" min by ({', '.join(ACCOUNT)}) (min_over_time({CONNECTED}[$__range])) == 0",
                ACCOUNT_LEGEND,
            ),
            mappings.CONNECTED_MAPPINGS,
            row_height=0.4,
            no_value="No account was disconnected",
        ),
    ),
)

CONNECTIONS_ROW = PanelRow(
    400,
    "Connections",
    (
        panels.bar_chart(
            PanelFrame(
                401,
                "Connection events",
                "Connection logs per bar, by event. Not filtered by account.",
                12,
                8,
            ),
            Query(f"{increase(EVENTS_TOTAL, '$__interval', 'event')} > 0", "{{event}}"),
            interval=BAR_INTERVAL,
            colors=CONNECTION_EVENTS,
            no_value="No connection logs",
        ),
        panels.bar_chart(
            PanelFrame(
                402,
                "Connection failures",
                "Connection failures per bar, by API error code. oauth_denied: the user"
                " denied access.",
                12,
                8,
            ),
            Query(f"{increase(FAILURES, '$__interval', 'code')} > 0", "{{code}}"),
            interval=BAR_INTERVAL,
            colors=CONNECTION_CODES,
            no_value="No failures",
        ),
    ),
)

DASHBOARD = DashboardSpec(
    uid=ACCOUNTS,
    title="Late / Accounts",
    description="Failing accounts, and accounts that need to be reconnected.",
    rows=(STATUS_ROW, ACCOUNTS_ROW, RISK_AND_TOKEN_ROW, HISTORY_ROW, CONNECTIONS_ROW),
    has_account_variable=True,
)
