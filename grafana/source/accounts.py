"""Dashboard late-accounts: failing accounts, and accounts that need to be reconnected."""

from __future__ import annotations

from grafana.source import mappings, panels, thresholds
from grafana.source.layout import ACCOUNTS, PLATFORM, DashboardSpec, PanelRow, dashboard_url
from grafana.source.palette import CONNECTION_CODES, CONNECTION_EVENTS, MUTED, WARNING
from grafana.source.panels import Column, PanelFrame
from grafana.source.queries import (
    ACCOUNT_IS_FAILING,
    Query,
    cannot_post,
    failing_accounts,
    increase,
    or_zero,
    selector,
    with_username,
)

__all__ = ["DASHBOARD"]

ACCOUNT = ("workspace", "platform", "account_id")
ACCOUNT_MATCHER = {"account_id": "~$account_id"}
CONSECUTIVE_FAILURES = selector("late_account_consecutive_failures", **ACCOUNT_MATCHER)
CONNECTED = selector("late_account_connected", **ACCOUNT_MATCHER)
NEEDS_RECONNECT = selector("late_account_needs_reconnect", **ACCOUNT_MATCHER)
CAN_POST = selector("late_account_can_post", **ACCOUNT_MATCHER)
COOLDOWN = selector("late_account_cooldown_until_timestamp_seconds", **ACCOUNT_MATCHER)
LAST_SUCCESS = selector("late_account_last_success_timestamp_seconds", **ACCOUNT_MATCHER)
TOKENS = selector("late_account_token_expiry_timestamp_seconds", **ACCOUNT_MATCHER)
TOKEN_EXPIRY = f"({TOKENS} unless {CONNECTED} == 0)"
"""Token expiry of connected accounts; a revoked token is worthless before it expires."""

EVENTS_TOTAL = selector("late_connection_events_total")
FAILURES = selector("late_connection_failures_total")
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


def _log_increase(window: str, status: str) -> str:
    logs_total = selector("late_account_logs_total", status=status, **ACCOUNT_MATCHER)
    return with_username(
        f"sum by (job, instance, {', '.join(ACCOUNT)}) (increase({logs_total}[{window}]))"
    )


STATUS_ROW = PanelRow(
    100,
    "Current status",
    (
        panels.stat_panel(
            PanelFrame(
                102,
                "Failing",
                ACCOUNT_IS_FAILING,
                3,
                4,
            ),
            or_zero(f"count({failing_accounts(**ACCOUNT_MATCHER)})"),
            steps=thresholds.WARNING_ABOVE_ZERO,
        ),
        panels.stat_panel(
            PanelFrame(
                103,
                "Disconnected",
                "Accounts that are disconnected according to the API, or else to their newest"
                " connection log.",
                3,
                4,
            ),
            f"sum({_max_by_account(CONNECTED)} == bool 0)",
            steps=thresholds.WARNING_ABOVE_ZERO,
        ),
        panels.stat_panel(
            PanelFrame(
                107,
                "To reconnect",
                "Accounts that must be connected again according to the API.",
                3,
                4,
            ),
            f"sum({_max_by_account(NEEDS_RECONNECT)})",
            steps=thresholds.WARNING_ABOVE_ZERO,
            no_value=("Unknown", MUTED),
        ),
        panels.stat_panel(
            PanelFrame(
                108,
                "Cooling down",
                "Accounts in cooldown, a penalty of the API for failed posts; what was scheduled"
                " for that time fails.",
                3,
                4,
            ),
            or_zero(f"sum({_max_by_account(COOLDOWN)} > bool time())"),
            steps=thresholds.NOTICE_ABOVE_ZERO,
        ),
        panels.stat_panel(
            PanelFrame(
                104,
                "Next token expiry",
                "Time until the first known access token of a connected account expires. Zernio"
                " renews many"
                " tokens itself; watch for tokens in the table below that stay close to 0.",
                4,
                4,
            ),
            f"min({TOKEN_EXPIRY} - time()) / {thresholds.DAY}",
            unit=panels.DAYS,
            decimals=1,
            steps=thresholds.TOKEN_DAYS_LEFT,
            no_value=("Unknown", MUTED),
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
            decimals=0,
        ),
        panels.stat_panel(
            PanelFrame(
                109,
                "Cannot post",
                "Accounts to which the API cannot post, among them those that must be connected"
                " again."
                " The command late-exporter accounts says why.",
                4,
                4,
            ),
            cannot_post(**ACCOUNT_MATCHER),
            steps=thresholds.WARNING_ABOVE_ZERO,
            no_value=("Unknown", MUTED),
        ),
    ),
)

RENEWED = (
    f"changes({selector('late_account_token_expiry_timestamp_seconds', **ACCOUNT_MATCHER)}[1d]) > 0"
)
EXPIRING = f"({TOKEN_EXPIRY} - time() < {thresholds.TOKEN_LEFT_WARNING_SECONDS} unless {RENEWED})"

ATTENTION_ROW = PanelRow(
    600,
    "Accounts that need attention",
    (
        panels.table_panel(
            PanelFrame(
                601,
                "Needs attention",
                "Accounts that must be connected again, cannot be posted to, are in cooldown, keep"
                " failing, or have a"
                " token that expires within"
                f" {thresholds.TOKEN_LEFT_WARNING_SECONDS // thresholds.DAY} days and was"
                " not renewed in the last day. Only what is wrong is shown.",
                24,
                7,
            ),
            Column(title="Account", label="username"),
            Column(title="Platform", label="platform", width=130),
            Column(title="Workspace", label="workspace", width=120),
            Column(
                title="Reconnect",
                expr=f"{with_username(NEEDS_RECONNECT)} == 1",
                mappings=mappings.RECONNECT_MAPPINGS,
                width=110,
            ),
            Column(
                title="Connected",
                expr=f"{with_username(CONNECTED)} == 0",
                mappings=mappings.CONNECTED_MAPPINGS,
                width=130,
            ),
            Column(
                title="Can post",
                expr=f"{with_username(CAN_POST)} == 0",
                mappings=mappings.YES_MAPPINGS,
                width=100,
            ),
            Column(
                title="Failures in a row",
                expr=f"{with_username(CONSECUTIVE_FAILURES)} >= {thresholds.CONSECUTIVE_FAILURES}",
                decimals=0,
                steps=thresholds.FAILURE_STREAK,
                width=140,
            ),
            Column(
                title="Cooldown left",
                expr=f"{with_username(COOLDOWN)} - time() > 0",
                unit="s",
                decimals=0,
                width=125,
            ),
            Column(
                title="Token left",
                expr=f"{with_username(EXPIRING)} / {thresholds.DAY}",
                unit=panels.DAYS,
                decimals=1,
                steps=thresholds.TOKEN_DAYS_LEFT,
                width=110,
            ),
            Column(title="Account id", label="account_id", width=230),
            sort="Failures in a row",
            no_value="No account needs attention",
        ),
    ),
)

TABLE_ROW = PanelRow(
    200,
    "Publishing by account",
    (
        panels.table_panel(
            PanelFrame(
                201,
                "Accounts",
                "Publish attempts of each account, and whether it can be published to as the API"
                " reports it. A dash"
                " means that the API does not say. Click a platform for details.",
                24,
                14,
            ),
            Column(title="Account", label="username"),
            Column(
                title="Platform",
                label="platform",
                link=dashboard_url(PLATFORM, platform="${__value.raw:percentencode}"),
                width=120,
            ),
            Column(title="Workspace", label="workspace", width=110),
            Column(title="Health", expr=_health(), mappings=mappings.HEALTH_MAPPINGS, width=90),
            Column(
                title="Can post",
                expr=with_username(CAN_POST),
                mappings=mappings.YES_MAPPINGS,
                width=90,
            ),
            Column(
                title="Reconnect",
                expr=with_username(NEEDS_RECONNECT),
                mappings=mappings.RECONNECT_MAPPINGS,
                width=100,
            ),
            Column(
                title="Failures in a row",
                expr=with_username(CONSECUTIVE_FAILURES),
                decimals=0,
                steps=thresholds.FAILURE_STREAK,
                width=145,
            ),
            Column(
                title="Last success",
                expr=f"1000 * {with_username(LAST_SUCCESS)}",
                unit="dateTimeFromNow",
                empty_text="none seen",
                width=125,
            ),
            Column(
                title="Succeeded, 24 h",
                expr=_log_increase("24h", "success"),
                decimals=0,
                width=130,
            ),
            Column(
                title="Failed, 24 h",
                expr=_log_increase("24h", "failed"),
                decimals=0,
                width=105,
            ),
            Column(title="Account id", label="account_id", width=220),
            sort="Failures in a row",
            no_value="No accounts",
        ),
    ),
)

TOKEN_ROW = PanelRow(
    700,
    "Tokens",
    (
        panels.table_panel(
            PanelFrame(
                701,
                "Days left of tokens",
                "Days until the known access tokens of connected accounts expire, the next one"
                " first."
                " Zernio renews many tokens itself; watch those that stay close to 0.",
                24,
                8,
            ),
            Column(title="Account", label="username", width=240),
            Column(title="Platform", label="platform", width=130),
            Column(title="Workspace", label="workspace", width=130),
            Column(
                title="Days left",
                expr=f"({with_username(TOKEN_EXPIRY)} - time()) / {thresholds.DAY}",
                unit=panels.DAYS,
                decimals=1,
                steps=thresholds.TOKEN_DAYS_LEFT,
                gauge_max=TOKEN_DAYS_SHOWN,
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
                "Failed attempts since the last success, for accounts with at least two in the"
                " selected time"
                f" range. Dashed line: {thresholds.CONSECUTIVE_FAILURES}, the alert threshold.",
                12,
                8,
            ),
            Query(
                f"{with_username(CONSECUTIVE_FAILURES)} and on ({', '.join(ACCOUNT)})"
                f" {_max_by_account(f'max_over_time({CONSECUTIVE_FAILURES}[$__range])')} > 1",
                ACCOUNT_LEGEND,
            ),
            unit="short",
            decimals=0,
            colors={},
            threshold_lines=((None, "transparent"), (thresholds.CONSECUTIVE_FAILURES, WARNING)),
            stepped=True,
            axis=panels.Axis(soft_max=thresholds.CONSECUTIVE_FAILURES + 1),
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
            unit="short",
            decimals=0,
            interval=BAR_INTERVAL,
            colors=CONNECTION_EVENTS,
            no_value="No connection logs",
        ),
        panels.bar_chart(
            PanelFrame(
                402,
                "Connection failures",
                "Connection failures per bar, by API error code. oauth_denied: the user denied"
                " access.",
                12,
                8,
            ),
            Query(f"{increase(FAILURES, '$__interval', 'code')} > 0", "{{code}}"),
            unit="short",
            decimals=0,
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
    rows=(
        STATUS_ROW,
        ATTENTION_ROW,
        TABLE_ROW,
        TOKEN_ROW,
        HISTORY_ROW,
        CONNECTIONS_ROW,
    ),
    has_account_variable=True,
)
