"""Dashboard late-exporter: health of the exporter, and whether its data can be trusted."""

from __future__ import annotations

from grafana_foundation_sdk.models.common import BigValueTextMode

from grafana.source import mappings, panels, thresholds
from grafana.source.layout import EXPORTER, OVERVIEW, DashboardSpec, PanelRow, dashboard_url
from grafana.source.palette import (
    BAD,
    FEED_QUANTILES,
    FEEDS,
    MUTED,
    OUTCOMES,
    STATUS_CODES,
    WARNING,
)
from grafana.source.panels import Column, PanelFrame
from grafana.source.queries import (
    RATE,
    TARGET,
    Query,
    age,
    increase,
    per_minute_nonzero,
    process_metric,
    quantile,
    rate,
    restrict_to_exporters,
    selector,
    sum_by,
)
from grafana.source.shared_panels import LAST_POLL, UNKNOWN, data_age_stat
from late_exporter.thresholds import CLOCK_OFFSET_SECONDS

FEED = ("workspace", "feed")
FEED_LEGEND = "{{workspace}} / {{feed}}"
COVERAGE = selector("late_exporter_coverage_start_timestamp_seconds")
REQUESTS = selector("late_exporter_api_requests_total")
QUOTA_LIMIT = selector("late_exporter_api_quota_limit_per_minute")
QUOTA_REMAINING = selector("late_exporter_api_quota_remaining")
CUSTOMER_REQUESTS = selector("late_exporter_api_quota_customer_requests_per_minute")
THROTTLED_SECONDS = selector("late_exporter_api_throttled_seconds_total")
LAST_SCAN = selector("late_exporter_reconcile_last_completed_timestamp_seconds")
RETENTION = selector("late_exporter_retention_seconds")
FAILED_DELIVERIES = selector("late_webhook_consecutive_failures")
LAST_FIRED = selector("late_webhook_last_fired_timestamp_seconds")
LAST_AUDIT = selector("late_exporter_audit_last_completed_timestamp_seconds")
SCHEMA_DRIFT = selector("late_exporter_api_schema_drift_total")
FAILED_REQUESTS = selector("late_exporter_failed_requests_total")
UNREADABLE_ROWS = selector("late_exporter_unreadable_rows_total")
CLOCK_OFFSET = selector("late_exporter_clock_offset_seconds")
LAG = "late_exporter_log_lag_seconds"


def _data_age() -> str:
    """Return the highest age of each feed within a step; the sawtooth itself looks like a band."""
    polled = f"min by (workspace, feed) ({LAST_POLL})"
    return f"max_over_time({age(polled)}[$__interval:30s])"


def _disabled(reason: str) -> str:
    disabled = selector("late_exporter_status_feed_disabled", reason=reason)
    return f"(max by (workspace, feed) ({disabled}) == 1)"


STATUS_ROW = PanelRow(
    100,
    "Current status",
    (
        panels.stat_panel(
            PanelFrame(
                101, "Scrape", "Whether Prometheus can scrape every selected exporter.", 4, 4
            ),
            f"min({process_metric('up')})",
            steps=thresholds.UP,
            mappings=mappings.UP_MAPPINGS,
            no_value=("No target", BAD),
        ),
        panels.stat_panel(
            PanelFrame(102, "Feeds up", "Share of feeds whose last poll succeeded.", 4, 4),
            f"avg({selector('late_up')})",
            unit=panels.PERCENT,
            steps=thresholds.UP,
            no_value=("Never polled", BAD),
        ),
        data_age_stat(103, 4, dashboard_url(OVERVIEW)),
        panels.stat_panel(
            PanelFrame(
                105,
                "API quota left",
                "Share of the requests per minute left for the API key with the least.",
                4,
                4,
            ),
            f"min({QUOTA_REMAINING} / {QUOTA_LIMIT})",
            unit=panels.PERCENT,
            steps=thresholds.QUOTA_LEFT,
            no_value=UNKNOWN,
        ),
        panels.stat_panel(
            PanelFrame(
                106,
                "Coverage",
                "Time for which every log of every feed has been counted without a gap. A"
                " sudden drop means that logs were lost or that a gap is open.",
                4,
                4,
            ),
            age(f"max({COVERAGE})"),
            unit=panels.DURATION_1,
            no_value=("First sync", MUTED),
        ),
        panels.stat_panel(
            PanelFrame(108, "Version", "Version of the running exporter.", 4, 4),
            Query(f"max by (version) ({selector('late_exporter_build_info')})", "{{version}}"),
            text_mode=BigValueTextMode.NAME,
        ),
    ),
)

POLL_ROW = PanelRow(
    200,
    "Polls",
    (
        panels.state_timeline(
            PanelFrame(201, "Feed status", "Whether the last poll of each feed succeeded.", 12, 8),
            Query(f"min by (workspace, feed) ({selector('late_up')})", FEED_LEGEND),
            mappings.UP_MAPPINGS,
        ),
        panels.line_chart(
            PanelFrame(
                203,
                "Data age by feed",
                "Longest time since the last successful poll of each feed. Dashed lines:"
                " thresholds of colors and alert.",
                12,
                8,
            ),
            Query(_data_age(), FEED_LEGEND),
            unit=panels.SECONDS,
            colors=FEEDS,
            threshold_lines=(
                (None, "transparent"),
                (thresholds.DATA_AGE_WARNING_SECONDS, WARNING),
                (thresholds.DATA_AGE_CRITICAL_SECONDS, BAD),
            ),
        ),
    ),
)

POLL_DETAIL_ROW = PanelRow(
    210,
    "Polls in detail",
    (
        panels.bar_chart(
            PanelFrame(
                202,
                "Polls per minute, by outcome",
                "Outcomes: unauthorized: the API key; rate_limited, unavailable, bad_payload:"
                " the API; store_error: the state file.",
                12,
                8,
            ),
            Query(
                per_minute_nonzero(selector("late_exporter_polls_total"), "outcome"), "{{outcome}}"
            ),
            unit=panels.PER_MINUTE,
            colors=OUTCOMES,
        ),
        panels.line_chart(
            PanelFrame(
                205,
                "Log lag, p50 and p95",
                "Time from the creation of a log until it was counted, over the preceding"
                " hour. More than an hour means that the exporter is catching up after an"
                " outage.",
                12,
                8,
            ),
            Query(quantile(0.5, LAG, "1h", "feed"), "{{feed}} p50"),
            Query(quantile(0.95, LAG, "1h", "feed"), "{{feed}} p95"),
            unit=panels.SECONDS,
            colors=FEED_QUANTILES,
        ),
    ),
    collapsed=True,
)

API_ROW = PanelRow(
    300,
    "Zernio API",
    (
        panels.bar_chart(
            PanelFrame(
                301,
                "Requests per minute, by code",
                "By HTTP status, or by error kind if there was no response.",
                8,
                8,
            ),
            Query(per_minute_nonzero(REQUESTS, "code"), "{{code}}"),
            unit=panels.PER_MINUTE,
            colors=STATUS_CODES,
        ),
        panels.line_chart(
            PanelFrame(
                303,
                "Quota and throttling",
                "Share of the API key's requests per minute that is left, share that other"
                " users of the key take, and share of the time that requests of the exporter"
                " waited.",
                8,
                8,
            ),
            Query(f"min by (workspace) ({QUOTA_REMAINING} / {QUOTA_LIMIT})", "{{workspace}}: left"),
            Query(
                f"max by (workspace) ({CUSTOMER_REQUESTS} / {QUOTA_LIMIT})",
                "{{workspace}}: other users",
            ),
            Query(sum_by(rate(THROTTLED_SECONDS), "workspace"), "{{workspace}}: throttled"),
            unit=panels.RATIO,
            colors={
                "/: left$/": "#3B82F6",
                "/: other users$/": "#94A3B8",
                "/: throttled$/": "#EC4899",
            },
            threshold_lines=((None, "transparent"), (thresholds.QUOTA_LEFT_WARNING, WARNING)),
            axis=panels.Axis(hard_max=1),
        ),
        panels.state_timeline(
            PanelFrame(
                304,
                "Status feeds",
                "Whether the last refresh of each status feed succeeded. A feed is switched"
                " off if the key lacks the right to it (forbidden) or the API does not have it"
                " (not found), and tried again every few minutes.",
                8,
                8,
            ),
            Query(
                f"3 * {_disabled('not_found')} or 2 * {_disabled('forbidden')}"
                f" or min by (workspace, feed) ({selector('late_exporter_status_feed_up')})",
                FEED_LEGEND,
            ),
            mappings.STATUS_FEED_MAPPINGS,
            no_value="Status feeds are not read",
        ),
        panels.table_panel(
            PanelFrame(
                480,
                "Webhooks at the API",
                "Webhooks that are set up at the API, for this exporter or for others. One"
                " that keeps failing is switched off after three days.",
                24,
                6,
            ),
            Column("Workspace", label="workspace", width=160),
            Column("Webhook", label="webhook"),
            Column(
                "State",
                expr=f"max by (workspace, webhook) ({selector('late_webhook_active')})",
                mappings=mappings.WEBHOOK_MAPPINGS,
                width=130,
            ),
            Column(
                "Failed deliveries in a row",
                expr=f"max by (workspace, webhook) ({FAILED_DELIVERIES})",
                steps=thresholds.NOTICE_ABOVE_ZERO,
                width=200,
            ),
            Column(
                "Last event",
                expr=f"1000 * max by (workspace, webhook) ({LAST_FIRED})",
                unit=panels.SINCE,
                width=160,
            ),
            sort="Failed deliveries in a row",
            no_value="None, or the status feed webhooks is not read",
        ),
    ),
    collapsed=True,
)

COUNTING_ROW = PanelRow(
    400,
    "Exact counting",
    (
        panels.table_panel(
            PanelFrame(
                407,
                "Coverage by feed",
                "Start of gap-free coverage by feed, retention of its logs, and anomalies in"
                " the last 24 hours.",
                24,
                7,
            ),
            Column("Workspace", label="workspace"),
            Column("Feed", label="feed", width=105),
            Column(
                "Coverage start",
                expr=f"1000 * max by (workspace, feed) ({COVERAGE})",
                unit=panels.TIME,
                width=165,
            ),
            Column(
                "Retention",
                expr=f"max by (workspace, feed) ({RETENTION}) / 86400",
                unit=panels.Unit("suffix: days", 0),
                width=88,
            ),
            Column(
                "Last poll",
                expr=f"1000 * max by (workspace, feed) ({LAST_POLL})",
                unit=panels.SINCE,
                width=148,
            ),
            Column(
                "Rejected",
                expr=increase(selector("late_exporter_entries_rejected_total"), "24h", *FEED),
                empty_text="0",
                steps=thresholds.WARNING_ABOVE_ZERO,
                width=88,
            ),
            Column(
                "Reconciled",
                expr=increase(selector("late_exporter_reconciled_logs_total"), "24h", *FEED),
                empty_text="0",
                steps=thresholds.WARNING_ABOVE_ZERO,
                width=88,
            ),
        ),
        panels.table_panel(
            PanelFrame(
                454,
                "Audit results",
                "Result of the last audit of each feed, and start of its last completed"
                " reconciliation scan.",
                24,
                6,
            ),
            Column("Workspace", label="workspace"),
            Column("Feed", label="feed", width=105),
            Column(
                "Missing",
                expr=sum_by(selector("late_exporter_audit_missing_logs"), *FEED),
                steps=thresholds.BAD_ABOVE_ZERO,
                width=88,
            ),
            Column(
                "Extra",
                expr=sum_by(selector("late_exporter_audit_extra_logs"), *FEED),
                steps=thresholds.BAD_ABOVE_ZERO,
                width=88,
            ),
            Column(
                "Last audit",
                expr=f"1000 * max by (workspace, feed) ({LAST_AUDIT})",
                unit=panels.SINCE,
                width=148,
            ),
            Column(
                "Last scan",
                expr=f"1000 * max by (workspace, feed) ({LAST_SCAN})",
                unit=panels.SINCE,
                width=148,
            ),
        ),
        panels.table_panel(
            PanelFrame(
                431,
                "Fields that differ from the documentation",
                "Logs in the last 24 hours with an unknown or missing field, or with a field"
                " of another type or value than documented. Expected: none. The exporter logs"
                " a sample of each.",
                12,
                6,
            ),
            Column("Workspace", label="workspace"),
            Column("Feed", label="feed", width=105),
            Column("Field", label="field"),
            Column("Kind", label="kind", width=105),
            Column(
                "Logs, 24 h",
                expr=f"{increase(SCHEMA_DRIFT, '24h', *FEED, 'field', 'kind')} > 0",
                steps=thresholds.WARNING_ABOVE_ZERO,
                width=105,
            ),
            sort="Logs, 24 h",
            no_value="None",
        ),
        panels.table_panel(
            PanelFrame(
                441,
                "Failed requests and unreadable rows",
                "Requests in the last 24 hours that failed although the poll succeeded, by"
                " kind, and rows that were skipped because the API cannot deliver them."
                " Expected: none.",
                12,
                6,
            ),
            Column("Workspace", label="workspace"),
            Column("Feed", label="feed", width=105),
            Column("Request", label="request", width=105),
            Column(
                "Failed, 24 h",
                expr=f"{increase(FAILED_REQUESTS, '24h', *FEED, 'request')} > 0",
                steps=thresholds.WARNING_ABOVE_ZERO,
                width=105,
            ),
            Column(
                "Unreadable rows, 24 h",
                expr=f"{increase(UNREADABLE_ROWS, '24h', *FEED)} > 0",
                steps=thresholds.WARNING_ABOVE_ZERO,
                width=165,
            ),
            sort="Failed, 24 h",
            no_value="None",
        ),
    ),
    collapsed=True,
)

PROCESS_ROW = PanelRow(
    500,
    "Process",
    (
        panels.line_chart(
            PanelFrame(501, "CPU", "CPU usage as a share of one core.", 6, 7),
            Query(
                restrict_to_exporters(f"rate(process_cpu_seconds_total{{{TARGET}}}[{RATE}])"),
                "{{instance}}",
            ),
            unit=panels.RATIO,
        ),
        panels.line_chart(
            PanelFrame(502, "Memory", "Resident memory.", 6, 7),
            Query(process_metric("process_resident_memory_bytes"), "{{instance}}"),
            unit=panels.Unit("bytes"),
        ),
        panels.line_chart(
            PanelFrame(
                507,
                "Clock offset",
                "Seconds by which the clock of the host is ahead of that of the API. Dashed lines:"
                " threshold of LateClockSkew; a wrong clock makes ages and delays wrong.",
                6,
                7,
            ),
            Query(f"max by (workspace) ({CLOCK_OFFSET})", "{{workspace}}"),
            unit=panels.SECONDS,
            threshold_lines=(
                (None, WARNING),
                (-CLOCK_OFFSET_SECONDS, "transparent"),
                (CLOCK_OFFSET_SECONDS, WARNING),
            ),
            axis=panels.Axis(soft_min=-CLOCK_OFFSET_SECONDS, soft_max=CLOCK_OFFSET_SECONDS),
            no_value="Unknown",
        ),
        panels.stat_panel(
            PanelFrame(
                505,
                "Last reload",
                "Whether the last reload succeeded on every exporter. After a failed reload"
                " the previous configuration stays active.",
                3,
                7,
            ),
            f"min({selector('late_exporter_config_last_reload_successful')})",
            steps=thresholds.UP,
            mappings=mappings.RELOAD_MAPPINGS,
        ),
        panels.stat_panel(
            PanelFrame(405, "State size", "Size on disk, about 100 bytes per log.", 3, 7),
            sum_by(selector("late_exporter_state_bytes")),
            unit=panels.BYTES,
        ),
    ),
    collapsed=True,
)

DASHBOARD = DashboardSpec(
    uid=EXPORTER,
    title="Late / Exporter",
    description="Health of the exporter: whether it reads every log in time.",
    rows=(STATUS_ROW, POLL_ROW, POLL_DETAIL_ROW, API_ROW, COUNTING_ROW, PROCESS_ROW),
    show_platform_variable=False,
)
