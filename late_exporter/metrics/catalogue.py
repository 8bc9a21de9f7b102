"""Catalogue of all metric families.

A new metric is a row here and a projection where its value comes from. Help texts say what the number means, without
names of API fields, so that they hold for every generation of the API.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from late_exporter.exposition.family import Family, FamilyKind

__all__ = ["CATALOGUE", "DURATION_BUCKETS", "build_catalogue"]

DURATION_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
ATTEMPT_BUCKETS = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0)
REQUEST_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LAG_BUCKETS = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 86400.0)
WEBHOOK_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

PUBLISHING = ("publishing",)
CONNECTIONS = ("connections",)
ACTIVITIES = ("webhooks", "messaging", "workflow_event", "api_request")


def _family(
    name: str,
    kind: FamilyKind,
    labels: str,
    help: str,  # noqa: A002 - named like the field
    *,
    buckets: tuple[float, ...] = (),
    feeds: tuple[str, ...] = (),
    workspace: bool = True,
) -> Family:
    names = ("workspace", *labels.split()) if workspace else tuple(labels.split())
    return Family(name, kind, help, names, buckets, feeds)


_FAMILIES = (
    _family(
        "late_publishing_logs_total",
        "counter",
        "platform action status",
        "Publishing logs, counted once in each status they were seen in.",
        feeds=PUBLISHING,
    ),
    _family(
        "late_publishing_duration_seconds",
        "histogram",
        "platform action status",
        "Duration reported by publishing logs, in seconds.",
        buckets=DURATION_BUCKETS,
        feeds=PUBLISHING,
    ),
    _family(
        "late_publishing_failures_total",
        "counter",
        "platform action category status_code",
        "Failed publishing logs, by error category and HTTP status code.",
        feeds=PUBLISHING,
    ),
    _family(
        "late_publishing_retries_total",
        "counter",
        "platform status",
        "Retry attempts, counted once in each status they were seen in.",
        feeds=PUBLISHING,
    ),
    _family(
        "late_publishing_attempts",
        "histogram",
        "platform status",
        "Attempt number reported by publish and retry logs in a final status.",
        buckets=ATTEMPT_BUCKETS,
        feeds=PUBLISHING,
    ),
    _family(
        "late_publishing_rate_limit_pauses_total",
        "counter",
        "platform",
        "Pauses caused by the rate limit of a platform, counted once regardless of their status.",
        feeds=PUBLISHING,
    ),
    _family(
        "late_publishing_pending_logs",
        "gauge",
        "platform action",
        "Publishing logs that are pending now.",
        feeds=PUBLISHING,
    ),
    _family(
        "late_publishing_oldest_pending_timestamp_seconds",
        "gauge",
        "platform",
        "Creation time of the oldest publishing log that is pending now, in Unix seconds.",
        feeds=PUBLISHING,
    ),
    _family(
        "late_publishing_last_log_timestamp_seconds",
        "gauge",
        "platform action status",
        "Creation time of the newest counted publishing log, in Unix seconds.",
        feeds=PUBLISHING,
    ),
    _family(
        "late_connection_events_total",
        "counter",
        "platform event method",
        "Connection events, by event type and connection method.",
        feeds=CONNECTIONS,
    ),
    _family(
        "late_connection_failures_total",
        "counter",
        "platform event code",
        "Failed connection events, by error code.",
        feeds=CONNECTIONS,
    ),
    _family(
        "late_connection_duration_seconds",
        "histogram",
        "platform event",
        "Duration reported by connection logs, in seconds.",
        buckets=DURATION_BUCKETS,
        feeds=CONNECTIONS,
    ),
    _family(
        "late_connection_last_event_timestamp_seconds",
        "gauge",
        "platform event",
        "Creation time of the newest counted connection log, in Unix seconds.",
        feeds=CONNECTIONS,
    ),
    _family(
        "late_activity_logs_total",
        "counter",
        "type platform action status",
        "Webhook, messaging, workflow and API request logs, counted once in each status they were seen in.",
        feeds=ACTIVITIES,
    ),
    _family(
        "late_activity_duration_seconds",
        "histogram",
        "type platform action",
        "Duration reported by webhook, messaging, workflow and API request logs, in seconds.",
        buckets=DURATION_BUCKETS,
        feeds=ACTIVITIES,
    ),
    _family(
        "late_account_info",
        "gauge",
        "platform account_id username",
        "1 for each account seen in the logs, labelled with its newest user name.",
        feeds=PUBLISHING + CONNECTIONS,
    ),
    _family(
        "late_account_logs_total",
        "counter",
        "platform account_id status",
        "Publish and retry logs by account, counted once in each status they were seen in.",
        feeds=PUBLISHING,
    ),
    _family(
        "late_account_consecutive_failures",
        "gauge",
        "platform account_id",
        "Failed publish and retry logs of an account since its last success.",
        feeds=PUBLISHING,
    ),
    _family(
        "late_account_last_success_timestamp_seconds",
        "gauge",
        "platform account_id",
        "Creation time of the newest successful publish or retry log of an account, in Unix seconds.",
        feeds=PUBLISHING,
    ),
    _family(
        "late_account_connected",
        "gauge",
        "platform account_id",
        "1 if the newest connection event of an account left it connected, 0 otherwise.",
        feeds=CONNECTIONS,
    ),
    _family(
        "late_account_token_expiry_timestamp_seconds",
        "gauge",
        "platform account_id",
        "Expiry time of an account's access token as last reported by a connection log, in Unix seconds.",
        feeds=CONNECTIONS,
    ),
    _family("late_up", "gauge", "feed", "1 if the last poll of the feed succeeded, 0 otherwise."),
    _family(
        "late_exporter_build_info",
        "gauge",
        "version revision python_version",
        "1, labelled with the running version of late-exporter.",
        workspace=False,
    ),
    _family(
        "late_exporter_config_last_reload_successful",
        "gauge",
        "",
        "1 if the last configuration reload succeeded, 0 otherwise.",
        workspace=False,
    ),
    _family(
        "late_exporter_config_last_reload_success_timestamp_seconds",
        "gauge",
        "",
        "Time at which the current configuration was loaded, in Unix seconds.",
        workspace=False,
    ),
    _family("late_exporter_polls_total", "counter", "feed outcome", "Polls of a feed, by outcome."),
    _family(
        "late_exporter_last_poll_duration_seconds",
        "gauge",
        "feed",
        "Duration of the last poll of the feed, in seconds.",
    ),
    _family(
        "late_exporter_last_successful_poll_timestamp_seconds",
        "gauge",
        "feed",
        "Time of the last successful poll of the feed, in Unix seconds; metrics derived from its logs"
        " are current as of this time.",
    ),
    _family(
        "late_exporter_api_generation_info",
        "gauge",
        "generation",
        "1 for the generation of the API in use: late or zernio.",
    ),
    _family(
        "late_exporter_api_requests_total",
        "counter",
        "path code",
        "Requests to the Late API, by HTTP status code, or by kind of error if there was no response.",
    ),
    _family(
        "late_exporter_api_request_duration_seconds",
        "histogram",
        "path",
        "Duration of requests to the Late API, in seconds.",
        buckets=REQUEST_BUCKETS,
    ),
    _family(
        "late_exporter_api_quota_limit",
        "gauge",
        "",
        "Requests per minute that the API allows for the key (X-RateLimit-Limit).",
    ),
    _family(
        "late_exporter_api_quota_remaining",
        "gauge",
        "",
        "Requests left for the key until the API quota resets (X-RateLimit-Remaining).",
    ),
    _family(
        "late_exporter_api_quota_reset_timestamp_seconds",
        "gauge",
        "",
        "Time at which the API quota resets (X-RateLimit-Reset), in Unix seconds.",
    ),
    _family(
        "late_exporter_api_throttled_seconds_total",
        "counter",
        "",
        "Time that requests waited to stay within the exporter's share of the API quota, in seconds.",
    ),
    _family(
        "late_exporter_log_lag_seconds",
        "histogram",
        "feed",
        "Time from the creation of a log until it was counted, in seconds, excluding the first sync.",
        buckets=LAG_BUCKETS,
    ),
    _family(
        "late_exporter_entries_rejected_total",
        "counter",
        "feed reason",
        "Logs that could not be counted because they have no usable id, counted once each.",
    ),
    _family(
        "late_exporter_api_schema_drift_total",
        "counter",
        "feed field kind",
        "Logs with a field that is undocumented, missing or of an unexpected type, counted once in each"
        " status they were seen in.",
    ),
    _family(
        "late_exporter_label_overflow_total",
        "counter",
        "family label",
        "Label values overrides by other because the label reached its limit of values.",
    ),
    _family(
        "late_exporter_reconciled_logs_total",
        "counter",
        "feed",
        "Logs that polls had missed and a reconciliation scan found.",
    ),
    _family(
        "late_exporter_reconcile_last_completed_timestamp_seconds",
        "gauge",
        "feed",
        "Start time of the last completed reconciliation scan, in Unix seconds.",
    ),
    _family(
        "late_exporter_audit_missing_logs",
        "gauge",
        "feed",
        "Logs the last audit found in the API but not in the counters, although polls and a"
        " reconciliation scan had passed them.",
    ),
    _family(
        "late_exporter_audit_extra_logs",
        "gauge",
        "feed",
        "Logs the last audit found counted more than once, or stored but not counted, excluding logs"
        " deleted by the API.",
    ),
    _family(
        "late_exporter_audit_last_completed_timestamp_seconds",
        "gauge",
        "feed",
        "Time at which the last audit completed, in Unix seconds.",
    ),
    _family(
        "late_exporter_coverage_start_timestamp_seconds",
        "gauge",
        "feed",
        "Time since which every log of the feed has been counted without a gap, in Unix seconds.",
    ),
    _family("late_exporter_state_logs", "gauge", "", "Logs whose ids are stored in the state."),
    _family("late_exporter_state_bytes", "gauge", "", "Size of the state, in bytes."),
    _family(
        "late_exporter_webhooks_received_total",
        "counter",
        "event",
        "Webhooks received with a valid signature, by event; webhooks to the shared path count once per workspace.",
    ),
    _family(
        "late_exporter_webhooks_rejected_total",
        "counter",
        "reason",
        "Webhooks rejected, by reason; webhooks to the shared path count once per workspace.",
    ),
    _family(
        "late_exporter_webhook_lag_seconds",
        "histogram",
        "",
        "Time from the timestamp of a webhook until it was received, in seconds.",
        buckets=WEBHOOK_BUCKETS,
    ),
    _family(
        "late_exporter_webhook_last_received_timestamp_seconds",
        "gauge",
        "",
        "Time at which the last webhook with a valid signature was received, in Unix seconds.",
    ),
)

CATALOGUE: Mapping[str, Family] = MappingProxyType({family.name: family for family in _FAMILIES})


def build_catalogue(duration_buckets: tuple[float, ...] = DURATION_BUCKETS) -> Mapping[str, Family]:
    """Return the catalogue with other buckets for the ``late_*_duration_seconds`` of logs."""
    durations = (
        "late_publishing_duration_seconds",
        "late_connection_duration_seconds",
        "late_activity_duration_seconds",
    )
    overrides = {name: msgspec.structs.replace(CATALOGUE[name], buckets=duration_buckets) for name in durations}
    return MappingProxyType({**CATALOGUE, **overrides})
