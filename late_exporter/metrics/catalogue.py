"""The catalogue of every metric family."""

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
    help: str,  # noqa: A002 - the field's own word
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
        "Publishing logs of /v1/posts/logs, counted once in each status they were seen in.",
        feeds=PUBLISHING,
    ),
    _family(
        "late_publishing_duration_seconds",
        "histogram",
        "platform action status",
        "durationMs of publishing logs, in seconds.",
        buckets=DURATION_BUCKETS,
        feeds=PUBLISHING,
    ),
    _family(
        "late_publishing_failures_total",
        "counter",
        "platform action category status_code",
        "Publishing logs with status failed; category from statusCode, response.errorCode and action.",
        feeds=PUBLISHING,
    ),
    _family(
        "late_publishing_retries_total",
        "counter",
        "platform status",
        "Publishing logs with action retry, counted once in each status.",
        feeds=PUBLISHING,
    ),
    _family(
        "late_publishing_attempts",
        "histogram",
        "platform status",
        "attemptNumber of publish and retry logs in a final status.",
        buckets=ATTEMPT_BUCKETS,
        feeds=PUBLISHING,
    ),
    _family(
        "late_publishing_rate_limit_pauses_total",
        "counter",
        "platform",
        "Publishing logs with action rate_limit_pause, counted once a log whatever its status.",
        feeds=PUBLISHING,
    ),
    _family(
        "late_publishing_pending_logs",
        "gauge",
        "platform action",
        "Publishing logs whose status is pending now.",
        feeds=PUBLISHING,
    ),
    _family(
        "late_publishing_oldest_pending_timestamp_seconds",
        "gauge",
        "platform",
        "createdAt of the oldest publishing log that is pending now.",
        feeds=PUBLISHING,
    ),
    _family(
        "late_publishing_last_log_timestamp_seconds",
        "gauge",
        "platform action status",
        "Newest createdAt of the publishing logs counted.",
        feeds=PUBLISHING,
    ),
    _family(
        "late_connection_events_total",
        "counter",
        "platform event method",
        "Connection logs of /v1/connections/logs by eventType and connectionMethod.",
        feeds=CONNECTIONS,
    ),
    _family(
        "late_connection_failures_total",
        "counter",
        "platform event code",
        "Connection logs whose eventType is a failure, by error.code.",
        feeds=CONNECTIONS,
    ),
    _family(
        "late_connection_duration_seconds",
        "histogram",
        "platform event",
        "durationMs of connection logs, in seconds.",
        buckets=DURATION_BUCKETS,
        feeds=CONNECTIONS,
    ),
    _family(
        "late_connection_last_event_timestamp_seconds",
        "gauge",
        "platform event",
        "Newest createdAt of the connection logs counted.",
        feeds=CONNECTIONS,
    ),
    _family(
        "late_activity_logs_total",
        "counter",
        "type platform action status",
        "Logs of /v1/logs of the further types, counted once in each status they were seen in.",
        feeds=ACTIVITIES,
    ),
    _family(
        "late_activity_duration_seconds",
        "histogram",
        "type platform action",
        "How long what the logs of the further types tell of took, from duration_ms.",
        buckets=DURATION_BUCKETS,
        feeds=ACTIVITIES,
    ),
    _family(
        "late_account_info",
        "gauge",
        "platform account_id username",
        "1 for each account seen; username from accountUsername or success.username.",
        feeds=PUBLISHING + CONNECTIONS,
    ),
    _family(
        "late_account_logs_total",
        "counter",
        "platform account_id status",
        "Publish and retry logs by accountId, counted once in each status.",
        feeds=PUBLISHING,
    ),
    _family(
        "late_account_consecutive_failures",
        "gauge",
        "platform account_id",
        "Failed publish and retry logs of an accountId since its last success, by createdAt.",
        feeds=PUBLISHING,
    ),
    _family(
        "late_account_last_success_timestamp_seconds",
        "gauge",
        "platform account_id",
        "createdAt of the newest successful publish or retry log of an accountId.",
        feeds=PUBLISHING,
    ),
    _family(
        "late_account_connected",
        "gauge",
        "platform account_id",
        "Whether the newest connection log of an accountId left it connected, from eventType.",
        feeds=CONNECTIONS,
    ),
    _family(
        "late_account_token_expiry_timestamp_seconds",
        "gauge",
        "platform account_id",
        "success.tokenExpiresAt of the newest connection log of an accountId that has one.",
        feeds=CONNECTIONS,
    ),
    _family("late_up", "gauge", "feed", "Whether the last poll of the feed succeeded."),
    _family(
        "late_exporter_build_info",
        "gauge",
        "version revision python_version",
        "1; the running version of late-exporter.",
        workspace=False,
    ),
    _family(
        "late_exporter_config_last_reload_successful",
        "gauge",
        "",
        "Whether the last attempt to take over a changed configuration succeeded.",
        workspace=False,
    ),
    _family(
        "late_exporter_config_last_reload_success_timestamp_seconds",
        "gauge",
        "",
        "When the configuration now in force was taken over.",
        workspace=False,
    ),
    _family("late_exporter_polls_total", "counter", "feed outcome", "Polls of a feed by outcome."),
    _family("late_exporter_last_poll_duration_seconds", "gauge", "feed", "How long the last poll of the feed took."),
    _family(
        "late_exporter_last_successful_poll_timestamp_seconds",
        "gauge",
        "feed",
        "When a poll of the feed last succeeded; all late_publishing_, late_connection_ and late_account_ metrics"
        " are as old as this.",
    ),
    _family(
        "late_exporter_api_generation_info",
        "gauge",
        "generation",
        "1 for the generation of the API that is read: late or zernio.",
    ),
    _family(
        "late_exporter_api_requests_total",
        "counter",
        "path code",
        "Requests to the Late API by HTTP status, or by the kind of error where there was none.",
    ),
    _family(
        "late_exporter_api_request_duration_seconds",
        "histogram",
        "path",
        "How long requests to the Late API took.",
        buckets=REQUEST_BUCKETS,
    ),
    _family("late_exporter_api_quota_limit", "gauge", "", "X-RateLimit-Limit: requests a minute allowed to the key."),
    _family("late_exporter_api_quota_remaining", "gauge", "", "X-RateLimit-Remaining: requests left to the key."),
    _family(
        "late_exporter_api_quota_reset_timestamp_seconds",
        "gauge",
        "",
        "X-RateLimit-Reset: when the quota is whole again.",
    ),
    _family(
        "late_exporter_api_throttled_seconds_total",
        "counter",
        "",
        "Time that requests waited for the exporter's share of the quota.",
    ),
    _family(
        "late_exporter_log_lag_seconds",
        "histogram",
        "feed",
        "From createdAt of a log to the moment it was counted; the first sync left out.",
        buckets=LAG_BUCKETS,
    ),
    _family(
        "late_exporter_entries_rejected_total",
        "counter",
        "feed reason",
        "Logs that could not be counted, once each: they have no usable _id.",
    ),
    _family(
        "late_exporter_api_schema_drift_total",
        "counter",
        "feed field kind",
        "Logs that came with a field unknown, missing, or of another type than documented, once in each status.",
    ),
    _family(
        "late_exporter_label_overflow_total",
        "counter",
        "family label",
        "Label values folded into other because the label has too many values.",
    ),
    _family(
        "late_exporter_reconciled_logs_total",
        "counter",
        "feed",
        "Logs that only the reconcile walk found.",
    ),
    _family(
        "late_exporter_reconcile_last_completed_timestamp_seconds",
        "gauge",
        "feed",
        "When the last reconcile walk that came to its end had begun.",
    ),
    _family(
        "late_exporter_audit_missing_logs",
        "gauge",
        "feed",
        "Logs that the last audit found at the API and not in the counters in the status they had, though polls and a"
        " reconcile walk had passed them.",
    ),
    _family(
        "late_exporter_audit_extra_logs",
        "gauge",
        "feed",
        "Logs that the last audit found counted twice, or on record without a count; those that the API has deleted"
        " are none.",
    ),
    _family(
        "late_exporter_audit_last_completed_timestamp_seconds",
        "gauge",
        "feed",
        "When an audit last came to its end.",
    ),
    _family(
        "late_exporter_coverage_start_timestamp_seconds",
        "gauge",
        "feed",
        "Since when every log of the feed is counted without a gap.",
    ),
    _family("late_exporter_state_logs", "gauge", "", "Logs whose ids the state holds."),
    _family("late_exporter_state_bytes", "gauge", "", "Size of the state."),
    _family(
        "late_exporter_webhooks_received_total",
        "counter",
        "event",
        "Webhooks that were genuine, by event; one that is for every workspace counts in each.",
    ),
    _family(
        "late_exporter_webhooks_rejected_total",
        "counter",
        "reason",
        "Webhooks that were refused; one that is for every workspace counts in each.",
    ),
    _family(
        "late_exporter_webhook_lag_seconds",
        "histogram",
        "",
        "From timestamp of a webhook to the moment it was received.",
        buckets=WEBHOOK_BUCKETS,
    ),
    _family(
        "late_exporter_webhook_last_received_timestamp_seconds",
        "gauge",
        "",
        "When the last genuine webhook was received.",
    ),
)

CATALOGUE: Mapping[str, Family] = MappingProxyType({family.name: family for family in _FAMILIES})


def build_catalogue(duration_buckets: tuple[float, ...] = DURATION_BUCKETS) -> Mapping[str, Family]:
    """The catalogue with other bounds for the ``late_*_duration_seconds`` of logs."""
    durations = (
        "late_publishing_duration_seconds",
        "late_connection_duration_seconds",
        "late_activity_duration_seconds",
    )
    changed = {name: msgspec.structs.replace(CATALOGUE[name], buckets=duration_buckets) for name in durations}
    return MappingProxyType({**CATALOGUE, **changed})
