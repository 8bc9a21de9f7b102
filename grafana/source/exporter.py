"""Dashboard late-exporter: health of the exporter, and whether the other dashboards can be trusted."""

from __future__ import annotations

from grafana_foundation_sdk.models.common import BigValueTextMode

from grafana.source import panels, thresholds
from grafana.source.layout import EXPORTER, OVERVIEW, DashboardSpec, PanelRow, dashboard_url
from grafana.source.palette import (
    BAD,
    FEED_QUANTILES,
    FEEDS,
    MUTED,
    OUTCOMES,
    QUANTILES,
    REJECTION_REASONS,
    STATUS_CODES,
    WEBHOOK_EVENTS,
)
from grafana.source.panels import PER_MINUTE, Column, PanelFrame
from grafana.source.queries import (
    RATE,
    TARGET,
    Query,
    age,
    increase,
    or_zero,
    per_minute_nonzero,
    process_metric,
    quantile,
    rate,
    restrict_to_exporters,
    selector,
    sum_by,
)

__all__ = ["DASHBOARD"]

FEED = ("workspace", "feed")
FEED_LEGEND = "{{workspace}} / {{feed}}"
LAST_POLL = selector("late_exporter_last_successful_poll_timestamp_seconds")
COVERAGE = selector("late_exporter_coverage_start_timestamp_seconds")
REQUESTS = selector("late_exporter_api_requests_total")
QUOTA_LIMIT = selector("late_exporter_api_quota_limit")
QUOTA_REMAINING = selector("late_exporter_api_quota_remaining")
THROTTLED_SECONDS = selector("late_exporter_api_throttled_seconds_total")
LAST_AUDIT = selector("late_exporter_audit_last_completed_timestamp_seconds")
SCHEMA_DRIFT = selector("late_exporter_api_schema_drift_total")
LAG = "late_exporter_log_lag_seconds"
WEBHOOK_LAG = "late_exporter_webhook_lag_seconds"
NO_WEBHOOKS = "No webhooks"
REQUEST_DURATION = "late_exporter_api_request_duration_seconds"


STATUS_ROW = PanelRow(
    100,
    "Now",
    (
        panels.stat_panel(
            PanelFrame(101, "Scrape", "Whether Prometheus reaches every exporter chosen.", 3, 4),
            f"min({process_metric('up')})",
            steps=thresholds.UP,
            mappings=panels.UP_MAPPINGS,
            no_value=("No target", BAD),
        ),
        panels.stat_panel(
            PanelFrame(102, "Feeds up", "Feeds whose last poll succeeded, of all.", 3, 4),
            f"avg({selector('late_up')})",
            unit="percentunit",
            decimals=0,
            steps=thresholds.UP,
            no_value=("Never polled", BAD),
        ),
        panels.stat_panel(
            PanelFrame(
                103, "Age of the data", "Since the last successful poll of the feed that is furthest behind.", 3, 4
            ),
            age(f"min({LAST_POLL})"),
            unit="s",
            decimals=0,
            steps=thresholds.DATA_AGE,
            no_value=("Never polled", BAD),
            link=dashboard_url(OVERVIEW),
        ),
        panels.stat_panel(
            PanelFrame(104, "Polls failed, 1 h", "Polls of the last hour with another outcome than success.", 3, 4),
            increase(selector("late_exporter_polls_total", outcome="!success"), "1h"),
            decimals=0,
        ),
        panels.stat_panel(
            PanelFrame(105, "API quota left", "Share of the requests a minute left to the key that has least.", 3, 4),
            f"min({QUOTA_REMAINING} / {QUOTA_LIMIT})",
            unit="percentunit",
            decimals=0,
            steps=thresholds.QUOTA_LEFT,
            no_value=("Unknown", MUTED),
        ),
        panels.stat_panel(
            PanelFrame(
                106,
                "Complete for",
                "Since when every log of every feed is counted without a gap. It should stand still; where it jumps"
                " forward, logs were lost.",
                3,
                4,
            ),
            age(f"max({COVERAGE})"),
            unit="s",
            decimals=1,
            no_value=("First sync", MUTED),
        ),
        panels.stat_panel(
            PanelFrame(107, "Running for", "Since the exporter started that started last.", 3, 4),
            age(f"max({process_metric('process_start_time_seconds')})"),
            unit="s",
            decimals=1,
        ),
        panels.stat_panel(
            PanelFrame(108, "Version", "Of the running exporter.", 3, 4),
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
            PanelFrame(201, "Feeds", "Whether the last poll of each feed succeeded.", 8, 8),
            Query(f"min by (workspace, feed) ({selector('late_up')})", FEED_LEGEND),
            panels.UP_MAPPINGS,
        ),
        panels.bar_chart(
            PanelFrame(
                202,
                "Polls by outcome",
                "Polls a minute. unauthorized: the key; rate_limited, unavailable, bad_payload: the API; store_error:"
                " the state's disk.",
                8,
                8,
            ),
            Query(per_minute_nonzero(selector("late_exporter_polls_total"), "outcome"), "{{outcome}}"),
            unit=PER_MINUTE,
            colors=OUTCOMES,
        ),
        panels.line_chart(
            PanelFrame(
                203,
                "Age of the data",
                "Since the last successful poll of each feed. Dashed: from where on it is worth a look, and an alert.",
                8,
                8,
            ),
            Query(age(f"min by (workspace, feed) ({LAST_POLL})"), FEED_LEGEND),
            unit="s",
            colors=FEEDS,
            threshold_lines=(
                (None, "transparent"),
                (thresholds.DATA_AGE_WARNING_SECONDS, "orange"),
                (thresholds.DATA_AGE_CRITICAL_SECONDS, "red"),
            ),
        ),
        panels.line_chart(
            PanelFrame(204, "Poll duration", "How long the last poll of each feed took.", 8, 8),
            Query(f"max by (workspace, feed) ({selector('late_exporter_last_poll_duration_seconds')})", FEED_LEGEND),
            unit="s",
            colors=FEEDS,
        ),
        panels.line_chart(
            PanelFrame(
                205,
                "Lag, p50 and p95",
                "From the creation of a log to the moment it was counted, for the logs of the hour before."
                " An hour and more means that the exporter catches up after an outage.",
                8,
                8,
            ),
            Query(quantile(0.5, LAG, "1h", "feed"), "{{feed}} p50"),
            Query(quantile(0.95, LAG, "1h", "feed"), "{{feed}} p95"),
            unit="s",
            colors=FEED_QUANTILES,
        ),
        panels.heatmap_panel(
            PanelFrame(206, "Lag", "How many logs were counted how long after their creation.", 8, 8),
            Query(increase(selector(f"{LAG}_bucket"), RATE, "le"), "{{le}}"),
            unit="s",
        ),
    ),
)

API_ROW = PanelRow(
    300,
    "The Late API",
    (
        panels.bar_chart(
            PanelFrame(
                301,
                "Requests by code",
                "Requests a minute, by HTTP status, or by the kind of error where there was none.",
                8,
                8,
            ),
            Query(per_minute_nonzero(REQUESTS, "code"), "{{code}}"),
            unit=PER_MINUTE,
            colors=STATUS_CODES,
        ),
        panels.line_chart(
            PanelFrame(
                302,
                "Request duration",
                "50, 95 and 99 of 100 requests of the ten minutes before took no longer than this.",
                8,
                8,
            ),
            *(Query(quantile(number, REQUEST_DURATION, "10m"), f"p{100 * number:g}") for number in (0.5, 0.95, 0.99)),
            unit="s",
            colors=QUANTILES,
        ),
        panels.line_chart(
            PanelFrame(
                303,
                "Quota left",
                "Share of the key's requests a minute that is left, and of the time that requests waited for the"
                " exporter's own share of the quota.",
                8,
                8,
            ),
            Query(f"min by (workspace) ({QUOTA_REMAINING} / {QUOTA_LIMIT})", "{{workspace}}: left"),
            Query(sum_by(rate(THROTTLED_SECONDS), "workspace"), "{{workspace}}: waiting"),
            unit="percentunit",
            colors={"/: left$/": "#3B82F6", "/: waiting$/": "#EC4899"},
            threshold_lines=((None, "transparent"), (thresholds.QUOTA_LEFT_WARNING, "orange")),
            axis=panels.Axis(hard_max=1),
        ),
    ),
)

EXACTNESS_ROW = PanelRow(
    400,
    "Every log exactly once",
    (
        panels.stat_panel(
            PanelFrame(
                401,
                "Rejected, 24 h",
                "Logs without a usable id, which cannot be counted once. In a healthy world there are none.",
                4,
                4,
            ),
            or_zero(increase(selector("late_exporter_entries_rejected_total"), "24h")),
            decimals=0,
            steps=thresholds.WARNING_ABOVE_ZERO,
        ),
        panels.stat_panel(
            PanelFrame(
                402,
                "Reconciled, 24 h",
                "Logs that polls missed and the reconcile walk found. They are counted; many of them mean that the"
                " list is not in the order it is thought to be.",
                4,
                4,
            ),
            or_zero(increase(selector("late_exporter_reconciled_logs_total"), "24h")),
            decimals=0,
            steps=thresholds.WARNING_ABOVE_ZERO,
        ),
        panels.stat_panel(
            PanelFrame(
                403,
                "Folded into other, 24 h",
                "Label values counted as other because the label has too many. The sums stay right.",
                4,
                4,
            ),
            or_zero(increase(selector("late_exporter_label_overflow_total"), "24h")),
            decimals=0,
            steps=thresholds.WARNING_ABOVE_ZERO,
        ),
        panels.stat_panel(
            PanelFrame(
                404, "Logs in the state", "Logs whose ids the state holds, so that none is counted twice.", 4, 4
            ),
            sum_by(selector("late_exporter_state_logs")),
        ),
        panels.stat_panel(
            PanelFrame(405, "Size of the state", "On disk. About 100 bytes a log.", 4, 4),
            sum_by(selector("late_exporter_state_bytes")),
            unit="bytes",
            decimals=1,
        ),
        panels.stat_panel(
            PanelFrame(406, "Samples scraped", "Samples of the last scrape.", 4, 4),
            f"sum({process_metric('scrape_samples_scraped')})",
            decimals=0,
        ),
        panels.table_panel(
            PanelFrame(
                407, "Feeds", "Since when each feed is complete, and what was unusual in the last 24 hours.", 12, 8
            ),
            Column(title="Workspace", label="workspace"),
            Column(title="Feed", label="feed", width=105),
            Column(
                title="Complete since",
                expr=f"1000 * max by (workspace, feed) ({COVERAGE})",
                unit="dateTimeAsIso",
                width=165,
            ),
            Column(
                title="Last poll",
                expr=f"1000 * max by (workspace, feed) ({LAST_POLL})",
                unit="dateTimeFromNow",
                width=148,
            ),
            Column(
                title="Rejected",
                expr=increase(selector("late_exporter_entries_rejected_total"), "24h", *FEED),
                decimals=0,
                empty_text="0",
                steps=thresholds.WARNING_ABOVE_ZERO,
                width=88,
            ),
            Column(
                title="Reconciled",
                expr=increase(selector("late_exporter_reconciled_logs_total"), "24h", *FEED),
                decimals=0,
                empty_text="0",
                steps=thresholds.WARNING_ABOVE_ZERO,
                width=88,
            ),
        ),
        panels.line_chart(
            PanelFrame(
                408,
                "Logs in the state",
                "It grows with what is posted and forgets a log eight days after its creation.",
                12,
                8,
            ),
            Query(sum_by(selector("late_exporter_state_logs"), "workspace"), "{{workspace}}"),
            unit="short",
        ),
    ),
)

SCHEMA_DRIFT_ROW = PanelRow(
    430,
    "Changes of the API",
    (
        panels.table_panel(
            PanelFrame(
                431,
                "Fields not as documented",
                "Logs of the last 24 hours that came with a field unknown, missing, or of another type than documented."
                " In a healthy world there are none; the exporter's log has a sample of each.",
                24,
                6,
            ),
            Column(title="Workspace", label="workspace"),
            Column(title="Feed", label="feed", width=105),
            Column(title="Field", label="field"),
            Column(title="Kind", label="kind", width=105),
            Column(
                title="Logs, 24 h",
                expr=f"{increase(SCHEMA_DRIFT, '24h', *FEED, 'field', 'kind')} > 0",
                decimals=0,
                steps=thresholds.WARNING_ABOVE_ZERO,
                width=105,
            ),
            sort="Logs, 24 h",
            no_value="None",
        ),
    ),
)

AUDIT_ROW = PanelRow(
    450,
    "Audit",
    (
        panels.stat_panel(
            PanelFrame(
                451,
                "Missing",
                "Logs that the last audits found at the API and not in the counters, though polls and a reconcile walk"
                " had passed them. In a healthy world there are none.",
                4,
                5,
            ),
            sum_by(selector("late_exporter_audit_missing_logs")),
            decimals=0,
            steps=thresholds.BAD_ABOVE_ZERO,
            no_value=("No audit yet", MUTED),
        ),
        panels.stat_panel(
            PanelFrame(
                452,
                "Extra",
                "Logs that the last audits found counted twice, or on record without a count. Those that Late has"
                " deleted are none.",
                4,
                5,
            ),
            sum_by(selector("late_exporter_audit_extra_logs")),
            decimals=0,
            steps=thresholds.BAD_ABOVE_ZERO,
            no_value=("No audit yet", MUTED),
        ),
        panels.stat_panel(
            PanelFrame(453, "Oldest audit", "How long ago the audit ended of the feed that has waited longest.", 4, 5),
            age(f"min({LAST_AUDIT})"),
            unit="s",
            decimals=1,
            steps=thresholds.AUDIT_AGE,
            no_value=("No audit yet", MUTED),
        ),
        panels.table_panel(
            PanelFrame(
                454, "Audits", "What the last audit of each feed found, and when the last whole walk began.", 12, 5
            ),
            Column(title="Workspace", label="workspace"),
            Column(title="Feed", label="feed", width=105),
            Column(
                title="Missing",
                expr=sum_by(selector("late_exporter_audit_missing_logs"), *FEED),
                decimals=0,
                steps=thresholds.BAD_ABOVE_ZERO,
                width=88,
            ),
            Column(
                title="Extra",
                expr=sum_by(selector("late_exporter_audit_extra_logs"), *FEED),
                decimals=0,
                steps=thresholds.BAD_ABOVE_ZERO,
                width=88,
            ),
            Column(
                title="Last audit",
                expr=f"1000 * max by (workspace, feed) ({LAST_AUDIT})",
                unit="dateTimeFromNow",
                width=148,
            ),
            Column(
                title="Last walk",
                expr=f"1000 * max by (workspace, feed) ({selector('late_exporter_reconcile_last_completed_timestamp_seconds')})",
                unit="dateTimeFromNow",
                width=148,
            ),
        ),
    ),
)

WEBHOOK_ROW = PanelRow(
    475,
    "Webhooks",
    (
        panels.stat_panel(
            PanelFrame(476, "Last webhook", "Since the last genuine one, of any workspace.", 3, 8),
            age(f"max({selector('late_exporter_webhook_last_received_timestamp_seconds')})"),
            unit="s",
            decimals=1,
            no_value=(NO_WEBHOOKS, MUTED),
        ),
        panels.bar_chart(
            PanelFrame(477, "Received by event", "Genuine webhooks a minute. other: events that bring no log.", 7, 8),
            Query(per_minute_nonzero(selector("late_exporter_webhooks_received_total"), "event"), "{{event}}"),
            unit=PER_MINUTE,
            colors=WEBHOOK_EVENTS,
            no_value=NO_WEBHOOKS,
        ),
        panels.bar_chart(
            PanelFrame(
                478,
                "Refused by reason",
                "Webhooks a minute. signature: the secret is another one, or somebody tries. expired: a clock is wrong,"
                " or a retry came late. replay: it came before, which a retry does too.",
                7,
                8,
            ),
            Query(per_minute_nonzero(selector("late_exporter_webhooks_rejected_total"), "reason"), "{{reason}}"),
            unit=PER_MINUTE,
            colors=REJECTION_REASONS,
            no_value="None refused",
        ),
        panels.line_chart(
            PanelFrame(
                479,
                "Webhook lag, p50 and p95",
                "From the time that webhooks of the hour before tell to when they were received.",
                7,
                8,
            ),
            *(Query(quantile(number, WEBHOOK_LAG, "1h"), f"p{100 * number:g}") for number in (0.5, 0.95)),
            unit="s",
            colors=QUANTILES,
            no_value=NO_WEBHOOKS,
        ),
    ),
)

PROCESS_ROW = PanelRow(
    500,
    "Process",
    (
        panels.line_chart(
            PanelFrame(501, "CPU", "In use, of one core.", 5, 7),
            Query(restrict_to_exporters(f"rate(process_cpu_seconds_total{{{TARGET}}}[{RATE}])"), "{{instance}}"),
            unit="percentunit",
        ),
        panels.line_chart(
            PanelFrame(502, "Memory", "Resident memory.", 5, 7),
            Query(process_metric("process_resident_memory_bytes"), "{{instance}}"),
            unit="bytes",
        ),
        panels.line_chart(
            PanelFrame(503, "File descriptors", "Open file descriptors as a share of those allowed.", 5, 7),
            Query(restrict_to_exporters(f"process_open_fds{{{TARGET}}} / process_max_fds{{{TARGET}}}"), "{{instance}}"),
            unit="percentunit",
        ),
        panels.line_chart(
            PanelFrame(504, "Scrape duration", "How long Prometheus' scrapes take.", 5, 7),
            Query(process_metric("scrape_duration_seconds"), "{{instance}}"),
            unit="s",
        ),
        panels.stat_panel(
            PanelFrame(
                505,
                "Configuration",
                "Whether every exporter took over its last change; where it was refused, the one before is in force.",
                4,
                4,
            ),
            f"min({selector('late_exporter_config_last_reload_successful')})",
            steps=thresholds.UP,
            mappings=panels.RELOAD_MAPPINGS,
        ),
        panels.stat_panel(
            PanelFrame(506, "In force for", "Since the configuration was taken over last.", 4, 3),
            age(f"max({selector('late_exporter_config_last_reload_success_timestamp_seconds')})"),
            unit="s",
            decimals=1,
        ),
    ),
)

DASHBOARD = DashboardSpec(
    uid=EXPORTER,
    title="Late / Exporter",
    description="The exporter itself: whether it reads everything, in time, and is well. Can the others be believed?",
    rows=(STATUS_ROW, POLL_ROW, API_ROW, EXACTNESS_ROW, SCHEMA_DRIFT_ROW, AUDIT_ROW, WEBHOOK_ROW, PROCESS_ROW),
    show_platform_variable=False,
)
