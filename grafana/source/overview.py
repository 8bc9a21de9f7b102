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
from grafana.source.palette import BAD, CATEGORIES, MUTED, POSTS, STATUSES, WARNING
from grafana.source.panels import Column, PanelFrame
from grafana.source.queries import (
    ACCOUNT_IS_FAILING,
    ALERTS_SINCE,
    ATTEMPTS,
    FAILED_ATTEMPTS,
    RULES_MARKER,
    RUNBOOK_LINK,
    Query,
    age,
    cannot_post,
    failing_accounts,
    firing_alerts,
    increase,
    or_zero,
    per_minute,
    per_minute_nonzero,
    platform_states,
    published_late,
    quantile,
    selector,
    success_ratio,
    with_username,
)

__all__ = ["DASHBOARD"]

OBJECTIVE = f"{100 * thresholds.SUCCESS_OBJECTIVE:g} %"
DURATION = "late_publishing_duration_seconds"
FINAL_ATTEMPTS = {"action": "~publish|retry", "status": "~success|failed"}
PLATFORM_LINK = dashboard_url(PLATFORM, platform="${__data.fields.platform:percentencode}")
CONSECUTIVE_FAILURES = selector("late_account_consecutive_failures")
OLDEST_SCHEDULED = selector("late_posts_oldest_scheduled_timestamp_seconds")
OLDEST_PENDING = selector("late_publishing_oldest_pending_timestamp_seconds")
LAST_POLL = selector("late_exporter_last_successful_poll_timestamp_seconds")
WORKSPACE_LINK = dashboard_url(OVERVIEW, workspace="${__value.raw:percentencode}")
UNKNOWN = ("Unknown", MUTED)


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
                " warnings during"
                " working hours. No rules: Prometheus has not loaded the rules shipped with the"
                " exporter.",
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
        panels.stat_panel(
            PanelFrame(
                102,
                "Success, 1 h",
                "Share of publish attempts in the last hour that succeeded. Objective:"
                f" {OBJECTIVE}.",
                3,
                4,
            ),
            success_ratio("1h"),
            unit="percentunit",
            decimals=1,
            steps=thresholds.SUCCESS,
            no_value=("No posts", MUTED),
        ),
        panels.stat_panel(
            PanelFrame(
                103,
                "Success, 24 h",
                "Share of publish attempts in the last 24 hours that succeeded. Objective:"
                f" {OBJECTIVE}.",
                3,
                4,
            ),
            success_ratio("24h"),
            unit="percentunit",
            decimals=2,
            steps=thresholds.SUCCESS,
            no_value=("No posts", MUTED),
        ),
        panels.stat_panel(
            PanelFrame(
                109,
                "Budget left, 30 d",
                f"Share of the failures that an objective of {OBJECTIVE} allows in 30 days and that"
                " have not happened yet; below 0 it is overspent.",
                3,
                4,
            ),
            f"1 - (1 - {success_ratio('30d')}) / {1 - thresholds.SUCCESS_OBJECTIVE:g}",
            unit="percentunit",
            decimals=0,
            steps=thresholds.BUDGET_LEFT,
            no_value=("No posts", MUTED),
        ),
        panels.stat_panel(
            PanelFrame(104, "Failed, 1 h", "Publish attempts that failed in the last hour.", 3, 4),
            increase(FAILED_ATTEMPTS, "1h"),
            decimals=0,
        ),
        panels.stat_panel(
            PanelFrame(
                110,
                "Late, 24 h",
                "Share of the scheduled posts of the last 24 hours that were published more than"
                " 5 minutes after their time.",
                3,
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
                106,
                "Failing accounts",
                ACCOUNT_IS_FAILING,
                3,
                4,
            ),
            or_zero(f"count({failing_accounts()})"),
            steps=thresholds.WARNING_ABOVE_ZERO,
            link=dashboard_url(ACCOUNTS),
        ),
        panels.stat_panel(
            PanelFrame(
                107,
                "Data age",
                "Time since the last successful poll of the most outdated feed. All other panels"
                " are as old"
                " as this: while it grows, green means nothing.",
                3,
                4,
            ),
            age(f"min({selector('late_exporter_last_successful_poll_timestamp_seconds')})"),
            unit="s",
            decimals=0,
            steps=thresholds.DATA_AGE,
            no_value=("Never polled", BAD),
            link=dashboard_url(EXPORTER),
        ),
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
                f"Good: {OBJECTIVE} or more of the attempts in the preceding hour succeeded, which"
                " is the objective."
                " Burning fast: so few that the monthly error budget burns at least"
                f" {thresholds.SLOW_BURN:g} times as"
                f" fast as it may. Failing: more than {100 * thresholds.PLATFORM_FAILED_SHARE:g} %"
                " of at least"
                f" {thresholds.PLATFORM_FINAL_LOGS} attempts in 30 minutes failed, for which"
                " LatePlatformFailing fires."
                " Blank: no posts.",
                11,
                17,
            ),
            Query(platform_states(), "{{platform}}"),
            mappings.SUCCESS_MAPPINGS,
        ),
        panels.table_panel(
            PanelFrame(
                202,
                "Alerts",
                "Firing late-exporter alerts; click one to open its runbook. About: the account,"
                " feed, webhook or"
                " exporter. Since: when the alert became pending.",
                13,
                10,
            ),
            Column(
                title="Alert", label="alertname", link=RUNBOOK_LINK, link_title="Open the runbook"
            ),
            Column(
                title="Severity", label="severity", mappings=mappings.SEVERITY_MAPPINGS, width=80
            ),
            Column(title="Workspace", label="workspace", width=115),
            Column(title="Platform", label="platform", width=110),
            Column(title="About", label="subject", width=160),
            Column(title="Since", expr=f"1000 * {ALERTS_SINCE}", unit="dateTimeFromNow", width=120),
            sort="Severity",
            descending=False,
            no_value="No alert is firing",
        ),
        panels.table_panel(
            PanelFrame(
                203,
                "Accounts with failures in a row",
                "The ten accounts with the most consecutive failures. Click an account for"
                " details.",
                13,
                7,
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
            Column(title="Platform", label="platform", width=100),
            Column(
                title="Failures",
                expr=f"topk(10, {with_username(CONSECUTIVE_FAILURES)} > 0)",
                decimals=0,
                steps=thresholds.FAILURE_STREAK,
                width=95,
            ),
            Column(title="Account id", label="account_id", width=210),
            sort="Failures",
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
                "Whether the plan of every selected workspace is active. Nothing is published while"
                " it"
                " is suspended.",
                4,
                4,
            ),
            f"min({selector('late_workspace_active')})",
            steps=thresholds.UP,
            mappings=mappings.PLAN_MAPPINGS,
            no_value=UNKNOWN,
        ),
        panels.stat_panel(
            PanelFrame(610, "Scheduled", "Posts that wait for their time.", 4, 4),
            f"sum(max by (workspace) ({selector('late_posts', status='scheduled')}))",
            decimals=0,
            no_value=UNKNOWN,
        ),
        panels.stat_panel(
            PanelFrame(
                602,
                "Overdue by",
                "How long ago the earliest scheduled post should have been started; 0 if it is due"
                " later. It grows until the next refresh of the status feed.",
                4,
                4,
            ),
            age(f"min({OLDEST_SCHEDULED})"),
            unit="s",
            decimals=0,
            steps=thresholds.POSTS_OVERDUE,
            no_value=("None scheduled", MUTED),
        ),
        panels.stat_panel(
            PanelFrame(
                609,
                "Approval late by",
                "How long ago the earliest post that waits for approval was due; 0 if it is due"
                " later."
                " It is not published before it is approved.",
                4,
                4,
            ),
            age(f"min({selector('late_posts_oldest_pending_approval_timestamp_seconds')})"),
            unit="s",
            decimals=0,
            steps=thresholds.APPROVAL_OVERDUE,
            no_value=("None waits", MUTED),
        ),
        panels.stat_panel(
            PanelFrame(
                105,
                "Oldest pending",
                "Age of the oldest pending publishing log. From an hour on, it may be stuck. One"
                " that"
                " never reaches a final status stays here until the API deletes it.",
                4,
                4,
            ),
            age(f"min({OLDEST_PENDING})"),
            unit="s",
            decimals=0,
            steps=thresholds.PENDING_AGE,
            no_value=("None", MUTED),
        ),
        panels.stat_panel(
            PanelFrame(
                604,
                "Cannot post",
                "Accounts to which the API cannot post, among them those that must be connected"
                " again."
                " The command late-exporter accounts says why.",
                4,
                4,
            ),
            cannot_post(),
            steps=thresholds.WARNING_ABOVE_ZERO,
            no_value=UNKNOWN,
            link=dashboard_url(ACCOUNTS),
        ),
        panels.line_chart(
            PanelFrame(
                607,
                "Posts in progress",
                "Posts that are being published or wait for approval.",
                8,
                8,
            ),
            Query(_posts("publishing|pending_approval"), "{{status}}"),
            unit="short",
            decimals=0,
            colors=POSTS,
            stepped=True,
            no_value="Unknown: the status feed posts is not read",
        ),
        panels.line_chart(
            PanelFrame(
                608,
                "Failed posts",
                "Posts that failed on all or on some of their platforms, until they are deleted or"
                " published again. The command late-exporter posts --failed lists them.",
                8,
                8,
            ),
            Query(_posts("failed|partial"), "{{status}}"),
            unit="short",
            decimals=0,
            colors=POSTS,
            stepped=True,
            no_value="Unknown: the status feed posts is not read",
        ),
        panels.table_panel(
            PanelFrame(
                606,
                "Use of the plan",
                "Share of the plan's uploads and profiles and of the spending limit for X that is"
                " used,"
                " and what pay-per-use can still spend. A dash: no limit, or the API does not say.",
                8,
                8,
            ),
            Column(title="Workspace", label="workspace"),
            *(
                Column(
                    title=title,
                    expr=f"max by (workspace) ({selector(family, kind=kind)})",
                    unit="percentunit",
                    decimals=0,
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
                title="Balance",
                expr=f"min by (workspace) ({selector('late_workspace_balance_cents')}) / 100",
                unit="currencyUSD",
                decimals=2,
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
        panels.bar_chart(
            PanelFrame(
                301,
                "Attempts per minute",
                "Finished attempts to publish. Logs are counted when they are read, so a spike"
                " follows"
                " an outage of the exporter or of the Zernio API.",
                8,
                9,
            ),
            Query(per_minute(ATTEMPTS, "status"), "{{status}}"),
            unit="short",
            decimals=1,
            colors=STATUSES,
        ),
        panels.bar_chart(
            PanelFrame(
                401,
                "Failures per minute, by category",
                "Failed logs by cause. auth_expired, account_issue: the account; user_content,"
                " user_abuse: the post; platform_rejected, platform_error, platform_rate_limit,"
                " quota_exhausted: the platform or its limits; system_error: the API.",
                8,
                9,
            ),
            Query(
                per_minute_nonzero(selector("late_publishing_failures_total"), "category"),
                "{{category}}",
            ),
            unit="short",
            decimals=1,
            colors=CATEGORIES,
            no_value="No failures",
        ),
        panels.heatmap_panel(
            PanelFrame(
                304,
                "Duration distribution",
                "Number of attempts by duration. A band that moves up means that a platform is"
                " getting"
                " slower.",
                8,
                9,
            ),
            Query(
                increase(selector(f"{DURATION}_bucket", **FINAL_ATTEMPTS), "$__interval", "le"),
                "{{le}}",
                exemplar=True,
            ),
            unit="s",
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
                "Current values by platform. Click a platform for details.",
                24,
                15,
            ),
            Column(title="Platform", label="platform", link=PLATFORM_LINK),
            Column(title="Attempts, 24 h", expr=increase(ATTEMPTS, "24h", "platform"), decimals=0),
            Column(
                title="Success, 24 h",
                expr=success_ratio("24h", "platform"),
                unit="percentunit",
                decimals=2,
                steps=thresholds.PLATFORM_SUCCESS,
            ),
            Column(
                title="Success, 1 h",
                expr=success_ratio("1h", "platform"),
                unit="percentunit",
                decimals=1,
                steps=thresholds.PLATFORM_SUCCESS,
            ),
            Column(
                title="Failed, 1 h", expr=increase(FAILED_ATTEMPTS, "1h", "platform"), decimals=0
            ),
            Column(
                title="p95, 1 h",
                expr=quantile(0.95, DURATION, "1h", "platform", **FINAL_ATTEMPTS),
                unit="s",
                decimals=1,
            ),
            Column(
                title="Late, 24 h",
                expr=published_late("24h", "platform"),
                unit="percentunit",
                decimals=1,
                steps=thresholds.PUBLISHED_LATE,
            ),
            Column(
                title="Pauses, 1 h",
                expr=increase(
                    selector("late_publishing_rate_limit_pauses_total"), "1h", "platform"
                ),
                decimals=0,
            ),
            Column(
                title="Pending",
                expr=f"sum by (platform) ({selector('late_publishing_pending_logs')})",
                decimals=0,
            ),
            Column(
                title="Oldest pending",
                expr=age(f"min by (platform) ({OLDEST_PENDING})"),
                unit="s",
                decimals=0,
                steps=thresholds.PENDING_AGE,
            ),
            sort="Failed, 1 h",
        ),
        panels.table_panel(
            PanelFrame(
                503,
                "Workspaces",
                "Current values by workspace, the one with the most failures first.",
                24,
                7,
            ),
            Column(title="Workspace", label="workspace", link=WORKSPACE_LINK),
            Column(title="Attempts, 24 h", expr=increase(ATTEMPTS, "24h", "workspace"), decimals=0),
            Column(
                title="Success, 24 h",
                expr=success_ratio("24h", "workspace"),
                unit="percentunit",
                decimals=2,
                steps=thresholds.PLATFORM_SUCCESS,
            ),
            Column(
                title="Failed, 1 h",
                expr=increase(FAILED_ATTEMPTS, "1h", "workspace"),
                decimals=0,
            ),
            Column(
                title="Overdue by",
                expr=age(f"min by (workspace) ({OLDEST_SCHEDULED})"),
                unit="s",
                decimals=0,
                steps=thresholds.POSTS_OVERDUE,
            ),
            Column(
                title="Cannot post",
                expr=cannot_post("workspace"),
                decimals=0,
                steps=thresholds.WARNING_ABOVE_ZERO,
            ),
            Column(
                title="Data age",
                expr=age(f"min by (workspace) ({LAST_POLL})"),
                unit="s",
                decimals=0,
                steps=thresholds.DATA_AGE,
            ),
            sort="Failed, 1 h",
        ),
    ),
)

DASHBOARD = DashboardSpec(
    uid=OVERVIEW,
    title="Late / Overview",
    description="Whether publishing through Zernio works, and if not, since when, where and why.",
    rows=(STATUS_ROW, TIMELINE_ROW, POSTS_ROW, ATTEMPTS_ROW, TABLE_ROW),
)
