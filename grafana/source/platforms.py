"""Dashboard late-platform: all publishing metrics of the selected platforms."""

from __future__ import annotations

from grafana.source import panels, thresholds
from grafana.source.layout import ACCOUNTS, PLATFORM, DashboardSpec, PanelRow, dashboard_url
from grafana.source.palette import ACTIONS, BAD, GOOD, MUTED, QUANTILES, WARNING
from grafana.source.panels import Column, PanelFrame
from grafana.source.queries import (
    ATTEMPTS,
    Query,
    account_increase,
    increase,
    or_zero,
    per_minute_nonzero,
    published_late,
    quantile,
    selector,
    success_ratio,
    sum_by,
    with_username,
)
from grafana.source.shared_panels import (
    NO_POSTS,
    OBJECTIVE,
    attempts_chart,
    failures_chart,
    late_stat,
    oldest_pending_stat,
    success_stats,
)
from late_exporter.thresholds import SUCCESS_OBJECTIVE

DURATION = "late_publishing_duration_seconds"
FINAL_ATTEMPTS = {"action": "~publish|retry", "status": "~success|failed"}
FAILURES = selector("late_publishing_failures_total")
PENDING = selector("late_publishing_pending_logs")
FAILED_BY_ACCOUNT = account_increase("late_account_logs_total", "24h", status="failed")
FAILURE_LABELS = ("category", "action", "status_code")


STATUS_ROW = PanelRow(
    100,
    "Current status: $platform",
    (
        *success_stats(101, thresholds.PLATFORM_SUCCESS),
        panels.stat_panel(
            PanelFrame(
                103, "Attempts, 24 h", "Publish attempts that finished in the last 24 hours.", 3, 4
            ),
            increase(ATTEMPTS, "24h"),
        ),
        late_stat(109, 4),
        panels.stat_panel(
            PanelFrame(
                105,
                "Duration, p95",
                "95 % of attempts in the last hour finished within this time.",
                4,
                4,
            ),
            quantile(0.95, DURATION, "1h", **FINAL_ATTEMPTS),
            unit=panels.DURATION_1,
            no_value=(NO_POSTS, MUTED),
        ),
        panels.stat_panel(
            PanelFrame(106, "Pending", "Logs that are pending now.", 3, 4), or_zero(sum_by(PENDING))
        ),
        oldest_pending_stat(107, 4),
    ),
)

ATTEMPTS_ROW = PanelRow(
    200,
    "Attempts and failures",
    (
        attempts_chart(201, 12, 8),
        panels.line_chart(
            PanelFrame(
                203,
                "Success ratio",
                "Share of attempts that succeeded in the preceding hour, and in the preceding"
                " ten minutes to show a recovery sooner. Dashed line: objective of"
                f" {OBJECTIVE}.",
                12,
                8,
            ),
            Query(success_ratio("10m"), "10 min"),
            Query(success_ratio("1h"), "1 h"),
            unit=panels.RATIO,
            colors={"10 min": "#94A3B8", "1 h": "#3B82F6"},
            threshold_lines=((None, "transparent"), (SUCCESS_OBJECTIVE, GOOD)),
            axis=panels.RATIO_AXIS,
            no_value=NO_POSTS,
        ),
        failures_chart(301, 12, 8),
        panels.table_panel(
            PanelFrame(
                303,
                "Failure details",
                "Failed logs in the last 24 hours and in the last hour.",
                12,
                8,
            ),
            Column("Category", label="category"),
            Column("Action", label="action", width=110),
            Column("Code", label="status_code", width=60),
            Column("24 h", expr=f"{increase(FAILURES, '24h', *FAILURE_LABELS)} > 0.5", width=60),
            Column(
                "1 h",
                expr=(
                    f"{increase(FAILURES, '1h', *FAILURE_LABELS)}"
                    f" and {increase(FAILURES, '24h', *FAILURE_LABELS)} > 0.5"
                ),
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
                "50, 95 and 99 % of attempts in the preceding ten minutes finished within"
                " this time. Dots are individual logs with their log and post ids, if"
                " Prometheus stores exemplars.",
                8,
                8,
            ),
            Query(quantile(0.5, DURATION, "10m", **FINAL_ATTEMPTS), "p50"),
            Query(quantile(0.95, DURATION, "10m", **FINAL_ATTEMPTS), "p95"),
            Query(quantile(0.99, DURATION, "10m", **FINAL_ATTEMPTS), "p99", exemplar=True),
            unit=panels.SECONDS,
            colors=QUANTILES,
            no_value=NO_POSTS,
        ),
        panels.line_chart(
            PanelFrame(
                404,
                "Delay of scheduled posts",
                "50 and 95 % of the scheduled posts of the preceding hour were published"
                " within this time after their schedule. Logarithmic scale.",
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
                "Share of the scheduled posts of the preceding hour that were published more"
                " than 5 minutes after their time, of at least"
                f" {thresholds.PUBLISHED_LATE_POSTS}. Dashed line: threshold of"
                " LatePublishedLate.",
                8,
                8,
            ),
            Query(published_late("1h"), "late"),
            unit=panels.RATIO,
            colors={"late": WARNING},
            threshold_lines=((None, "transparent"), (thresholds.PUBLISHED_LATE_SHARE, WARNING)),
            axis=panels.Axis(soft_max=2 * thresholds.PUBLISHED_LATE_SHARE),
            no_value="Few scheduled posts",
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
            unit=panels.PER_MINUTE,
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
                "Accounts with failures in the last 24 hours, or whose last attempt failed."
                " Click an account for details.",
                24,
                9,
            ),
            Column(
                "Account",
                label="username",
                link=dashboard_url(
                    ACCOUNTS,
                    platform="${__data.fields.platform:percentencode}",
                    account_id="${__data.fields.account_id:percentencode}",
                ),
            ),
            Column("Platform", label="platform"),
            Column("Workspace", label="workspace"),
            Column("Failed, 24 h", expr=f"{FAILED_BY_ACCOUNT} > 0.5"),
            Column(
                "Failures in a row",
                expr=f"{with_username(selector('late_account_consecutive_failures'))} > 0",
                steps=thresholds.FAILURE_STREAK,
                empty_text="0",
            ),
            Column("Account id", label="account_id"),
            sort="Failures in a row",
            no_value="No failures",
        ),
    ),
)

DASHBOARD = DashboardSpec(
    uid=PLATFORM,
    title="Late / Platform",
    description="All publishing metrics of the selected platforms. Select one for details.",
    rows=(STATUS_ROW, ATTEMPTS_ROW, DURATION_ROW, RETRY_ROW, ACCOUNTS_ROW),
)
