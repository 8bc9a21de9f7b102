"""Dashboard late-overview: whether publishing works, and if not, since when, where and why."""

from __future__ import annotations

from grafana_foundation_sdk.models.common import BigValueTextMode

from grafana.source import mappings, panels, thresholds
from grafana.source.layout import (
    ACCOUNTS,
    EXPORTER,
    OVERVIEW,
    PLATFORM,
    DashboardSpec,
    PanelRow,
    dashboard_url,
)
from grafana.source.palette import MUTED, POSTS, WARNING
from grafana.source.panels import Column, PanelFrame
from grafana.source.queries import (
    ALERTS_SINCE,
    ATTEMPTS,
    RULES_MARKER,
    RUNBOOK_LINK,
    Query,
    age,
    cannot_post,
    firing_alerts,
    increase,
    platform_states,
    posts_at_risk,
    published_late,
    quantile,
    selector,
    success_ratio,
    sum_by,
    with_username,
)
from grafana.source.shared_panels import (
    FEW_POSTS,
    LAST_POLL,
    NO_POSTS,
    NO_SUCH_LOG,
    OBJECTIVE,
    UNKNOWN,
    attempt_columns,
    attempts_chart,
    cannot_post_stat,
    data_age_stat,
    failed_attempts_stat,
    failed_posts_stat,
    failing_accounts_stat,
    failures_chart,
    oldest_pending_stat,
    success_stats,
)
from late_exporter.thresholds import (
    CONSECUTIVE_FAILED_POSTS,
    PLATFORM_ATTEMPTS,
    PLATFORM_FAILED_SHARE,
    SUCCESS_OBJECTIVE,
)

DURATION = "late_publishing_duration_seconds"
FINAL_ATTEMPTS = {"action": "~publish|retry", "status": "~success|failed"}
PLATFORM_LINK = dashboard_url(PLATFORM, platform="${__data.fields.platform:percentencode}")
FAILURE_STREAK = with_username(selector("late_account_consecutive_failures"))
FAILED_POSTS = with_username(selector("late_account_failed_posts"))
LAST_FAILED_POST = with_username(selector("late_account_last_failed_post_timestamp_seconds"))
WORST_ACCOUNTS = f"topk(10, {FAILED_POSTS} or {FAILURE_STREAK} > 0)"
OLDEST_SCHEDULED = selector("late_posts_oldest_scheduled_timestamp_seconds")
OLDEST_PENDING = selector("late_publishing_oldest_pending_timestamp_seconds")
WORKSPACE_LINK = dashboard_url(OVERVIEW, workspace="${__value.raw:percentencode}")
PAUSES = selector("late_publishing_rate_limit_pauses_total")
PENDING = selector("late_publishing_pending_logs")
WITHOUT_LINK = selector("late_publishing_without_link_total")


def _posts(statuses: str) -> str:
    """Return the number of posts by status; exporters of the same workspace report the same."""
    posts = f"max by (workspace, status) ({selector('late_posts', status=f'~{statuses}')})"
    return f"sum by (status) ({posts})"


def _firing_count(severity: str) -> str:
    return f"count({firing_alerts(severity)}) or 0 * count({RULES_MARKER})"


STATUS_ROW = PanelRow(
    100,
    f"Current status (objective: {OBJECTIVE} of publish attempts succeed)",
    (
        panels.stat_panel(
            PanelFrame(
                101,
                "Alerts firing",
                "Firing late-exporter alerts, listed below. Critical alerts need action now,"
                " warnings during working hours. No rules: Prometheus has not loaded the rules"
                " shipped with the exporter.",
                3,
                4,
            ),
            Query(_firing_count("critical"), "critical"),
            Query(_firing_count("warning"), "warning"),
            steps_by_name={
                "critical": thresholds.BAD_ABOVE_ZERO,
                "warning": thresholds.WARNING_ABOVE_ZERO,
            },
            steps=thresholds.WARNING_ABOVE_ZERO,
            text_mode=BigValueTextMode.VALUE_AND_NAME,
            no_value=("No rules", WARNING),
        ),
        failed_posts_stat(112, 3, dashboard_url(ACCOUNTS)),
        *success_stats(102, thresholds.SUCCESS),
        failed_attempts_stat(104, 3),
        panels.stat_panel(
            PanelFrame(
                109,
                "Budget left, 30 d",
                f"Share of the failures that an objective of {OBJECTIVE} allows in 30 days and"
                " that have not happened yet; below 0 it is overspent. Unknown for fewer than"
                f" {thresholds.BUDGET_ATTEMPTS:,} attempts, of which each would be much of it.",
                3,
                4,
            ),
            f"1 - (1 - {success_ratio('30d')}) / {1 - SUCCESS_OBJECTIVE:g}"
            f" and {increase(ATTEMPTS, '30d')} >= {thresholds.BUDGET_ATTEMPTS}",
            unit=panels.PERCENT,
            steps=thresholds.BUDGET_LEFT,
            no_value=FEW_POSTS,
        ),
        failing_accounts_stat(106, 3, dashboard_url(ACCOUNTS)),
        data_age_stat(107, 3, dashboard_url(EXPORTER)),
    ),
)

TIMELINE_ROW = PanelRow(
    200,
    "Platforms, alerts and accounts",
    (
        panels.state_timeline(
            PanelFrame(
                201,
                "Platforms",
                f"Good: {OBJECTIVE} or more of the attempts in the preceding hour succeeded,"
                " which is the objective. Burning fast: so few that the monthly error budget"
                f" burns at least {thresholds.SLOW_BURN:g} times as fast as it may. Some failed:"
                f" the same with fewer than {thresholds.SHARE_ATTEMPTS} attempts. Failing: more"
                f" than {100 * PLATFORM_FAILED_SHARE:g} % of at least {PLATFORM_ATTEMPTS} attempts"
                " in 30 minutes failed, or at least"
                f" {CONSECUTIVE_FAILED_POSTS} posts and nothing was published"
                " since, for which LatePlatformFailing fires. Blank: no posts.",
                11,
                17,
            ),
            Query(platform_states(), "{{platform}}"),
            mappings.SUCCESS_MAPPINGS,
            no_value=NO_POSTS,
        ),
        panels.table_panel(
            PanelFrame(
                202,
                "Alerts",
                "Firing late-exporter alerts; click one to open its runbook. About: the"
                " account, feed, webhook or exporter. Since: when the alert became pending.",
                13,
                10,
            ),
            Column("Alert", label="alertname", link=RUNBOOK_LINK, link_title="Open the runbook"),
            Column("Severity", label="severity", mappings=mappings.SEVERITY_MAPPINGS, width=80),
            Column("Workspace", label="workspace", width=115),
            Column("Platform", label="platform", width=110),
            Column("About", label="subject", width=160),
            Column("Since", expr=f"1000 * {ALERTS_SINCE}", unit=panels.SINCE, width=120),
            sort="Severity",
            descending=False,
            no_value="No alert is firing",
        ),
        panels.table_panel(
            PanelFrame(
                203,
                "Accounts that fail",
                "The ten accounts with the most failed posts of the last 24 hours or, if they"
                " have none, attempts that failed in a row. Last failed: due time of the newest"
                " of these posts. Click an account for details.",
                13,
                7,
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
            Column("Platform", label="platform", width=100),
            Column("Failed posts", expr=f"{FAILED_POSTS} and {WORST_ACCOUNTS}", width=115),
            Column(
                "Last failed",
                expr=f"1000 * ({LAST_FAILED_POST} and {WORST_ACCOUNTS})",
                unit=panels.SINCE,
                width=120,
            ),
            Column(
                "In a row",
                expr=f"{FAILURE_STREAK} and {WORST_ACCOUNTS}",
                steps=thresholds.FAILURE_STREAK,
                width=85,
            ),
            Column("Account id", label="account_id", width=225),
            sort=("Failed posts", "In a row"),
            no_value="No failures",
        ),
    ),
)

POSTS_ROW = PanelRow(
    600,
    "Scheduled posts, accounts and plan, as reported by the API",
    (
        panels.stat_panel(
            PanelFrame(
                601,
                "Plan",
                "Whether the plan of every selected workspace is active, as of the last ten"
                " minutes. Nothing is published while it is suspended.",
                3,
                4,
            ),
            f"min({selector('late_workspace_active')})",
            steps=thresholds.UP,
            mappings=mappings.PLAN_MAPPINGS,
            no_value=UNKNOWN,
        ),
        panels.stat_panel(
            PanelFrame(610, "Scheduled", "Posts that wait for their time.", 3, 4),
            f"sum(max by (workspace) ({selector('late_posts', status='scheduled')}))",
            no_value=UNKNOWN,
        ),
        panels.stat_panel(
            PanelFrame(
                611,
                "At risk, next 24 h",
                "Scheduled posts due within 24 hours that would fail now: their account must be"
                " connected again, is blocked, disconnected, or in cooldown. The command"
                " late-exporter posts --at-risk lists them.",
                6,
                4,
            ),
            Query(posts_at_risk("reason"), "{{reason}}"),
            steps=thresholds.BAD_ABOVE_ZERO,
            steps_by_name={"cooldown": thresholds.WARNING_ABOVE_ZERO},
            text_mode=BigValueTextMode.VALUE_AND_NAME,
            no_value=UNKNOWN,
            link=dashboard_url(ACCOUNTS),
        ),
        panels.stat_panel(
            PanelFrame(
                602,
                "Overdue by",
                "How long ago the earliest scheduled post should have been started; 0 if it"
                " is due later. It grows until the next refresh of the status feed.",
                3,
                4,
            ),
            age(f"min({OLDEST_SCHEDULED})"),
            unit=panels.DURATION,
            steps=thresholds.POSTS_OVERDUE,
            no_value=("None scheduled", MUTED),
        ),
        panels.stat_panel(
            PanelFrame(
                609,
                "Approval late by",
                "How long ago the earliest post that waits for approval was due; 0 if it is"
                " due later. It is not published before it is approved.",
                3,
                4,
            ),
            age(f"min({selector('late_posts_oldest_pending_approval_timestamp_seconds')})"),
            unit=panels.DURATION,
            steps=thresholds.APPROVAL_OVERDUE,
            no_value=("None waits", MUTED),
        ),
        oldest_pending_stat(105, 3),
        cannot_post_stat(604, 3, dashboard_url(ACCOUNTS)),
        panels.line_chart(
            PanelFrame(
                607,
                "Posts in progress",
                "Posts that are being published or wait for approval.",
                8,
                8,
            ),
            Query(_posts("publishing|pending_approval"), "{{status}}"),
            colors=POSTS,
            stepped=True,
            no_value="Unknown: the status feed posts is not read",
        ),
        panels.line_chart(
            PanelFrame(
                608,
                "Failed posts",
                "Posts that failed on all or on some of their platforms, until they are"
                " deleted or published again. The command late-exporter posts --failed lists"
                " them.",
                8,
                8,
            ),
            Query(_posts("failed|partial"), "{{status}}"),
            colors=POSTS,
            stepped=True,
            no_value="Unknown: the status feed posts is not read",
        ),
        panels.table_panel(
            PanelFrame(
                606,
                "Use of the plan",
                "Share of the plan's uploads and profiles and of the spending limit for X"
                " that is used, and what pay-per-use can still spend. A dash: no limit, or the"
                " API does not say.",
                8,
                8,
            ),
            Column("Workspace", label="workspace"),
            *(
                Column(
                    title,
                    expr=f"max by (workspace) ({selector(family, kind=kind)})",
                    unit=panels.PERCENT,
                    steps=thresholds.PLAN_USED,
                    width=80,
                )
                for title, family, kind in (
                    ("Uploads", "late_workspace_usage_ratio", "uploads"),
                    ("Profiles", "late_workspace_usage_ratio", "profiles"),
                    ("X", "late_workspace_spend_ratio", "x"),
                )
            ),
            Column(
                "Balance",
                expr=f"min by (workspace) ({selector('late_workspace_balance_cents')}) / 100",
                unit=panels.DOLLARS,
                steps=thresholds.BALANCE,
                width=90,
            ),
            sort="Uploads",
            no_value="Unknown",
        ),
    ),
)

ATTEMPTS_ROW = PanelRow(
    300,
    "Attempts, failures and durations",
    (
        attempts_chart(301, 8, 9),
        failures_chart(401, 8, 9),
        panels.heatmap_panel(
            PanelFrame(
                304,
                "Duration distribution",
                "Number of attempts by duration. A band that moves up means that a platform"
                " is getting slower.",
                8,
                9,
            ),
            Query(
                increase(selector(f"{DURATION}_bucket", **FINAL_ATTEMPTS), "$__interval", "le"),
                "{{le}}",
                exemplar=True,
            ),
            unit=panels.DURATION,
            no_value="No attempt ended",
        ),
    ),
)

TABLE_ROW = PanelRow(
    500,
    "Platforms and workspaces",
    (
        panels.table_panel(
            PanelFrame(
                501,
                "Platforms",
                "Current values by platform. A dash: too few attempts for a share, or unknown."
                " Click a platform for details.",
                24,
                15,
            ),
            Column("Platform", label="platform", link=PLATFORM_LINK),
            *attempt_columns("platform"),
            Column(
                "p95, 1 h",
                expr=quantile(0.95, DURATION, "1h", "platform", **FINAL_ATTEMPTS),
                unit=panels.DURATION_1,
                width=95,
            ),
            Column(
                "Late, 24 h",
                expr=published_late("24h", "platform"),
                unit=panels.PERCENT_1,
                steps=thresholds.PUBLISHED_LATE,
                width=105,
            ),
            Column(
                "Without link, 24 h",
                expr=increase(WITHOUT_LINK, "24h", "platform"),
                width=145,
                empty_text="0",
            ),
            Column(
                "Pauses, 1 h", expr=increase(PAUSES, "1h", "platform"), width=110, empty_text="0"
            ),
            Column("Pending", expr=sum_by(PENDING, "platform"), width=90, empty_text="0"),
            Column(
                "Oldest pending",
                expr=age(f"min by (platform) ({OLDEST_PENDING})"),
                unit=panels.DURATION,
                steps=thresholds.PENDING_AGE,
                width=130,
            ),
            sort="Failed, 1 h",
            no_value=NO_SUCH_LOG,
        ),
        panels.table_panel(
            PanelFrame(
                503,
                "Workspaces",
                "Current values by workspace, the one with the most failed posts first. A dash:"
                " too few attempts for a share, or unknown.",
                24,
                5,
            ),
            Column("Workspace", label="workspace", link=WORKSPACE_LINK),
            *attempt_columns("workspace"),
            Column(
                "Overdue by",
                expr=age(f"min by (workspace) ({OLDEST_SCHEDULED})"),
                unit=panels.DURATION,
                steps=thresholds.POSTS_OVERDUE,
                width=110,
            ),
            Column(
                "Cannot post",
                expr=cannot_post("workspace"),
                steps=thresholds.WARNING_ABOVE_ZERO,
                width=115,
            ),
            Column(
                "Data age",
                expr=age(f"min by (workspace) ({LAST_POLL})"),
                unit=panels.DURATION,
                steps=thresholds.DATA_AGE,
                width=95,
            ),
            sort=("Failed posts, 24 h", "Failed, 1 h"),
            no_value="No workspace was scraped",
        ),
    ),
)

DASHBOARD = DashboardSpec(
    uid=OVERVIEW,
    title="Late / Overview",
    description="Whether publishing through Zernio works, and if not, since when, where and why.",
    rows=(STATUS_ROW, TIMELINE_ROW, POSTS_ROW, ATTEMPTS_ROW, TABLE_ROW),
)
