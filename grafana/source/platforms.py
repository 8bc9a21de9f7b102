"""Dashboard late-platform: all publishing metrics of the selected platforms."""

from __future__ import annotations

from grafana.source import panels, thresholds
from grafana.source.layout import ACCOUNTS, PLATFORM, DashboardSpec, PanelRow, dashboard_url
from grafana.source.palette import (
    ACTIONS,
    BAD,
    CATEGORIES,
    GOOD,
    MUTED,
    QUANTILES,
    STATUSES,
    WARNING,
)
from grafana.source.panels import Column, PanelFrame
from grafana.source.queries import (
    ATTEMPTS,
    Query,
    age,
    increase,
    or_zero,
    per_minute,
    per_minute_nonzero,
    published_late,
    quantile,
    selector,
    success_ratio,
    sum_by,
    with_username,
)

__all__ = ["DASHBOARD"]

OBJECTIVE = f"{100 * thresholds.SUCCESS_OBJECTIVE:g} %"
DURATION = "late_publishing_duration_seconds"
FINAL_ATTEMPTS = {"action": "~publish|retry", "status": "~success|failed"}
LOGS = selector("late_publishing_logs_total")
FAILURES = selector("late_publishing_failures_total")
PENDING = selector("late_publishing_pending_logs")
OLDEST_PENDING = selector("late_publishing_oldest_pending_timestamp_seconds")
FAILURE_LABELS = ("category", "action", "status_code")
ACCOUNT = ("workspace", "platform", "account_id")


def _account_logs(status: str) -> str:
    logs_increase = f"increase({selector('late_account_logs_total', status=status)}[24h])"
    return with_username(f"sum by (job, instance, {', '.join(ACCOUNT)}) ({logs_increase})")


STATUS_ROW = PanelRow(
    100,
    "Current status: $platform",
    (
        panels.stat_panel(
            PanelFrame(
                101,
                "Success, 1 h",
                f"Share of attempts in the last hour that succeeded. Objective: {OBJECTIVE}.",
                3,
                4,
            ),
            success_ratio("1h"),
            unit="percentunit",
            decimals=1,
            steps=thresholds.PLATFORM_SUCCESS,
            no_value=("No posts", MUTED),
        ),
        panels.stat_panel(
            PanelFrame(
                102,
                "Success, 24 h",
                f"Share of attempts in the last 24 hours that succeeded. Objective: {OBJECTIVE}.",
                3,
                4,
            ),
            success_ratio("24h"),
            unit="percentunit",
            decimals=2,
            steps=thresholds.PLATFORM_SUCCESS,
            no_value=("No posts", MUTED),
        ),
        panels.stat_panel(
            PanelFrame(
                103, "Attempts, 24 h", "Publish attempts that finished in the last 24 hours.", 3, 4
            ),
            increase(ATTEMPTS, "24h"),
            decimals=0,
        ),
        panels.stat_panel(
            PanelFrame(
                109,
                "Late, 24 h",
                "Share of the scheduled posts of the last 24 hours that were published more than"
                " 5 minutes after their time.",
                4,
                4,
            ),
            published_late("24h"),
            unit="percentunit",
            decimals=1,
            steps=thresholds.PUBLISHED_LATE,
            no_value=("None scheduled", MUTED),
        ),
        panels.stat_panel(
            PanelFrame(
                105,
                "Duration, p95",
                "95 % of attempts in the last hour finished within this time.",
                4,
                4,
            ),
            quantile(0.95, DURATION, "1h", **FINAL_ATTEMPTS),
            unit="s",
            decimals=1,
            no_value=("No posts", MUTED),
        ),
        panels.stat_panel(
            PanelFrame(106, "Pending", "Logs that are pending now.", 3, 4),
            or_zero(sum_by(PENDING)),
            decimals=0,
        ),
        panels.stat_panel(
            PanelFrame(
                107,
                "Oldest pending",
                "Age of the oldest pending log. From an hour on, it may be stuck.",
                4,
                4,
            ),
            age(f"min({OLDEST_PENDING})"),
            unit="s",
            decimals=0,
            steps=thresholds.PENDING_AGE,
            no_value=("None", MUTED),
        ),
    ),
)

ATTEMPTS_ROW = PanelRow(
    200,
    "Attempts and failures",
    (
        panels.bar_chart(
            PanelFrame(201, "Attempts per minute", "Finished attempts to publish.", 12, 8),
            Query(per_minute(ATTEMPTS, "status"), "{{status}}"),
            unit="short",
            decimals=1,
            colors=STATUSES,
        ),
        panels.line_chart(
            PanelFrame(
                203,
                "Success ratio",
                "Share of attempts that succeeded in the preceding hour, and in the preceding ten"
                " minutes to"
                f" show a recovery sooner. Dashed line: objective of {OBJECTIVE}.",
                12,
                8,
            ),
            Query(success_ratio("10m"), "10 min"),
            Query(success_ratio("1h"), "1 h"),
            unit="percentunit",
            colors={"10 min": "#94A3B8", "1 h": "#3B82F6"},
            threshold_lines=((None, "transparent"), (thresholds.SUCCESS_OBJECTIVE, GOOD)),
            axis=panels.RATIO_AXIS,
        ),
        panels.bar_chart(
            PanelFrame(
                301,
                "Failures per minute, by category",
                "Failed logs by cause. auth_expired, account_issue: the account; user_content,"
                " user_abuse: the post; platform_rejected, platform_error, platform_rate_limit,"
                " quota_exhausted: the platform or its limits; system_error: the API.",
                12,
                8,
            ),
            Query(per_minute_nonzero(FAILURES, "category"), "{{category}}"),
            unit="short",
            decimals=1,
            colors=CATEGORIES,
            no_value="No failures",
        ),
        panels.table_panel(
            PanelFrame(
                303,
                "Failure details",
                "Failed logs in the last 24 hours and in the last hour.",
                12,
                8,
            ),
            Column(title="Category", label="category"),
            Column(title="Action", label="action", width=110),
            Column(title="Code", label="status_code", width=60),
            Column(
                title="24 h",
                expr=f"{increase(FAILURES, '24h', *FAILURE_LABELS)} > 0.5",
                decimals=0,
                width=60,
            ),
            Column(
                title="1 h",
                expr=(
                    f"{increase(FAILURES, '1h', *FAILURE_LABELS)}"
                    f" and {increase(FAILURES, '24h', *FAILURE_LABELS)} > 0.5"
                ),
                decimals=0,
                width=60,
            ),
            sort="24 h",
            no_value="No failures",
        ),
    ),
)

DURATION_ROW = PanelRow(
    400,
    "Durations and delays",
    (
        panels.line_chart(
            PanelFrame(
                401,
                "Duration percentiles",
                "50, 95 and 99 % of attempts in the preceding ten minutes finished within this"
                " time. Dots are"
                " individual logs with their log and post ids, if Prometheus stores exemplars.",
                8,
                8,
            ),
            Query(quantile(0.5, DURATION, "10m", **FINAL_ATTEMPTS), "p50"),
            Query(quantile(0.95, DURATION, "10m", **FINAL_ATTEMPTS), "p95"),
            Query(quantile(0.99, DURATION, "10m", **FINAL_ATTEMPTS), "p99", exemplar=True),
            unit=panels.SECONDS,
            colors=QUANTILES,
        ),
        panels.line_chart(
            PanelFrame(
                404,
                "Delay of scheduled posts",
                "50 and 95 % of the scheduled posts of the preceding hour were published within"
                " this time after their"
                " schedule. Logarithmic scale.",
                8,
                8,
            ),
            Query(quantile(0.5, "late_publishing_delay_seconds", "1h"), "p50"),
            Query(quantile(0.95, "late_publishing_delay_seconds", "1h"), "p95"),
            unit=panels.SECONDS,
            colors=QUANTILES,
            axis=panels.LOGARITHMIC_AXIS,
            no_value="No scheduled posts",
        ),
        panels.line_chart(
            PanelFrame(
                405,
                "Published late",
                "Share of the scheduled posts of the preceding hour that were published more than 5"
                " minutes after their"
                " time. Dashed line: threshold of LatePublishedLate.",
                8,
                8,
            ),
            Query(published_late("1h"), "late"),
            unit="percentunit",
            colors={"late": WARNING},
            threshold_lines=((None, "transparent"), (thresholds.PUBLISHED_LATE_SHARE, WARNING)),
            axis=panels.Axis(soft_max=2 * thresholds.PUBLISHED_LATE_SHARE),
            no_value="No scheduled posts",
        ),
    ),
)

RETRY_ROW = PanelRow(
    500,
    "Retries and pending logs",
    (
        panels.bar_chart(
            PanelFrame(
                502,
                "Retries and pauses per minute",
                "Finished retries and rate-limit pauses.",
                12,
                8,
            ),
            Query(
                per_minute_nonzero(
                    selector("late_publishing_retries_total", status="~success|failed"), "status"
                ),
                "retry: {{status}}",
            ),
            Query(per_minute_nonzero(selector("late_publishing_rate_limit_pauses_total")), "pause"),
            unit="short",
            decimals=1,
            colors={
                "retry: success": GOOD,
                "retry: failed": BAD,
                "pause": ACTIONS["rate_limit_pause"],
            },
            no_value="No retries",
        ),
        panels.line_chart(
            PanelFrame(503, "Pending logs", "Pending logs by action.", 12, 8),
            Query(sum_by(PENDING, "action"), "{{action}}"),
            unit="short",
            decimals=0,
            colors=ACTIONS,
            stepped=True,
            stacked=True,
            no_value="No pending logs",
        ),
    ),
)

ACCOUNTS_ROW = PanelRow(
    600,
    "Accounts",
    (
        panels.table_panel(
            PanelFrame(
                601,
                "Accounts with failures",
                "Accounts with failures in the last 24 hours, or whose last attempt failed. Click"
                " an account"
                " for details.",
                24,
                9,
            ),
            Column(
                title="Account",
                label="username",
                link=dashboard_url(
                    ACCOUNTS,
                    platform="${__data.fields.platform:percentencode}",
                    account_id="${__data.fields.account_id:percentencode}",
                ),
            ),
            Column(title="Platform", label="platform"),
            Column(title="Workspace", label="workspace"),
            Column(title="Failed, 24 h", expr=f"{_account_logs('failed')} > 0.5", decimals=0),
            Column(
                title="Failures in a row",
                expr=f"{with_username(selector('late_account_consecutive_failures'))} > 0",
                decimals=0,
                steps=thresholds.FAILURE_STREAK,
                empty_text="0",
            ),
            Column(title="Account id", label="account_id"),
            sort="Failures in a row",
            no_value="No failures",
        ),
    ),
)

DASHBOARD = DashboardSpec(
    uid=PLATFORM,
    title="Late / Platform",
    description="All publishing metrics of the selected platforms. Select one for details.",
    rows=(
        STATUS_ROW,
        ATTEMPTS_ROW,
        DURATION_ROW,
        RETRY_ROW,
        ACCOUNTS_ROW,
    ),
)
