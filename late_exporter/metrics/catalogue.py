"""Catalogue of all metric families.

A new metric is a row here and a projection where its value comes from. Help texts say what the number means, without
names of API fields, so that they hold for every generation of the API.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from late_exporter.exposition.family import Family, FamilyKind
from late_exporter.metrics.names import LABEL_OVERFLOW, SCHEMA_DRIFT

DURATION_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
ATTEMPT_BUCKETS = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0)
REQUEST_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LAG_BUCKETS = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 86400.0)
WEBHOOK_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

PUBLISHING = ("publishing",)
CONNECTIONS = ("connections",)
UNFORESEEN = (SCHEMA_DRIFT, LABEL_OVERFLOW)
"""Counters of the exporter itself whose labels are not known before their first increment, for which alerts wait."""

ACTIVITIES = ("webhooks", "messaging", "workflow_event", "api_request")


def _family(
    name: str,
    kind: FamilyKind,
    labels: str,
    *,
    help: str,  # noqa: A002 - named like the field
    buckets: tuple[float, ...] = (),
    feeds: tuple[str, ...] = (),
    workspace: bool = True,
) -> Family:
    names = ("workspace", *labels.split()) if workspace else tuple(labels.split())
    starts_at_zero = kind != "gauge" and (bool(feeds) or name in UNFORESEEN)
    return Family(name, kind, help, names, buckets, feeds, starts_at_zero)


_FAMILIES = (
    _family("late_publishing_logs_total", "counter", "platform action status", feeds=PUBLISHING,
            help="Publishing logs, counted once in each status they were seen in."),
    _family("late_publishing_duration_seconds", "histogram", "platform action status", feeds=PUBLISHING,
            buckets=DURATION_BUCKETS,
            help="Duration reported by publishing logs, in seconds."),
    _family("late_publishing_failures_total", "counter", "platform action category status_code", feeds=PUBLISHING,
            help="Failed publishing logs, by error category and HTTP status code."),
    _family("late_publishing_retries_total", "counter", "platform status", feeds=PUBLISHING,
            help="Retry attempts, counted once in each status they were seen in."),
    _family("late_publishing_attempts", "histogram", "platform status", feeds=PUBLISHING,
            buckets=ATTEMPT_BUCKETS,
            help="Attempt number reported by publish and retry logs in a final status."),
    _family("late_publishing_rate_limit_pauses_total", "counter", "platform", feeds=PUBLISHING,
            help="Pauses caused by the rate limit of a platform, counted once regardless of their status."),
    _family("late_publishing_pending_logs", "gauge", "platform action", feeds=PUBLISHING,
            help="Publishing logs that are pending now."),
    _family("late_publishing_oldest_pending_timestamp_seconds", "gauge", "platform", feeds=PUBLISHING,
            help="Creation time of the oldest publishing log that is pending now, in Unix seconds."),
    _family("late_publishing_last_log_timestamp_seconds", "gauge", "platform action status", feeds=PUBLISHING,
            help="Creation time of the newest counted publishing log, in Unix seconds."),
    _family("late_connection_events_total", "counter", "platform event method", feeds=CONNECTIONS,
            help="Connection events, by event type and connection method."),
    _family("late_connection_failures_total", "counter", "platform event code", feeds=CONNECTIONS,
            help="Failed connection events, by error code."),
    _family("late_connection_duration_seconds", "histogram", "platform event", feeds=CONNECTIONS,
            buckets=DURATION_BUCKETS,
            help="Duration reported by connection logs, in seconds."),
    _family("late_connection_last_event_timestamp_seconds", "gauge", "platform event", feeds=CONNECTIONS,
            help="Creation time of the newest counted connection log, in Unix seconds."),
    _family("late_activity_logs_total", "counter", "type platform action status", feeds=ACTIVITIES,
            help="Webhook, messaging, workflow and API request logs, counted once in each status they were seen in."),
    _family("late_activity_duration_seconds", "histogram", "type platform action", feeds=ACTIVITIES,
            buckets=DURATION_BUCKETS,
            help="Duration reported by webhook, messaging, workflow and API request logs, in seconds."),
    _family("late_account_info", "gauge", "platform account_id username", feeds=PUBLISHING + CONNECTIONS,
            help="1 for each account in the API's account health or in the logs, labelled with its newest user name."),
    _family("late_account_logs_total", "counter", "platform account_id status", feeds=PUBLISHING,
            help="Publish and retry logs by account, counted once in each status they were seen in."),
    _family("late_account_consecutive_failures", "gauge", "platform account_id", feeds=PUBLISHING,
            help="Failed publish and retry logs of an account since its last success."),
    _family("late_account_last_success_timestamp_seconds", "gauge", "platform account_id", feeds=PUBLISHING,
            help="Creation time of the newest successful publish or retry log of an account, in Unix seconds."),
    _family("late_account_connected", "gauge", "platform account_id", feeds=CONNECTIONS,
            help="1 if an account is connected, 0 otherwise, by the API's account health or else by its newest "
                 "connection event."),
    _family("late_account_token_expiry_timestamp_seconds", "gauge", "platform account_id", feeds=CONNECTIONS,
            help="Expiry time of an account's access token, by the API's account health or else by its newest "
                 "connection event, in Unix seconds."),
    _family("late_account_health", "gauge", "platform account_id status",
            help="1 for the health of an account as the API judges it: healthy, warning or error."),
    _family("late_account_can_post", "gauge", "platform account_id",
            help="1 if the API says that it can post to an account, 0 otherwise."),
    _family("late_account_needs_reconnect", "gauge", "platform account_id",
            help="1 if the API says that an account must be connected again, 0 otherwise."),
    _family("late_account_cooldown_until_timestamp_seconds", "gauge", "platform account_id",
            help="Time until which the platform rate limits an account, in Unix seconds; absent without a limit."),
    _family("late_posts", "gauge", "status",
            help="Posts that are in each status now."),
    _family("late_posts_oldest_scheduled_timestamp_seconds", "gauge", "",
            help="Time for which the earliest post that is still scheduled was planned, in Unix seconds; the post is "
                 "overdue if that is past."),
    _family("late_posts_oldest_publishing_timestamp_seconds", "gauge", "",
            help="Time for which the earliest post that is being published now was planned, or else when it was "
                 "created, in Unix seconds."),
    _family("late_webhook_active", "gauge", "webhook",
            help="1 if the API delivers events to a webhook, 0 if the webhook is switched off."),
    _family("late_webhook_consecutive_failures", "gauge", "webhook",
            help="Failed deliveries of a webhook since its last success, as the API reports them."),
    _family("late_webhook_last_fired_timestamp_seconds", "gauge", "webhook",
            help="Time at which the API last delivered an event to a webhook, to within minutes, in Unix seconds."),
    _family("late_workspace_active", "gauge", "",
            help="1 if the plan of the workspace has access and is not suspended, 0 otherwise."),
    _family("late_workspace_spend_ratio", "gauge", "kind",
            help="Money spent in this billing period as a fraction of the limit set for it, by kind; absent without a "
                 "limit."),
    _family("late_up", "gauge", "feed",
            help="1 if the last poll of the feed succeeded, 0 otherwise."),
    _family("late_exporter_build_info", "gauge", "version revision python_version", workspace=False,
            help="1, labelled with the running version of late-exporter."),
    _family("late_exporter_config_last_reload_successful", "gauge", "", workspace=False,
            help="1 if the last configuration reload succeeded, 0 otherwise."),
    _family("late_exporter_config_last_reload_success_timestamp_seconds", "gauge", "", workspace=False,
            help="Time at which the current configuration was loaded, in Unix seconds."),
    _family("late_exporter_total_shards", "gauge", "shard", workspace=False,
            help="Configured number of shards; the label shard is that of this process. Absent without sharding."),
    _family("late_exporter_cluster_members", "gauge", "", workspace=False,
            help="Replicas that share the state."),
    _family("late_exporter_cluster_owned_workspaces", "gauge", "", workspace=False,
            help="Workspaces that this replica owns, polls and exposes."),
    _family("late_exporter_cluster_unowned_workspaces", "gauge", "", workspace=False,
            help="Workspaces of the configuration that no replica owns."),
    _family("late_exporter_cluster_handovers_total", "counter", "kind", workspace=False,
            help="Workspaces that this replica has claimed, released, or lost with its database session."),
    _family("late_exporter_polls_total", "counter", "feed outcome",
            help="Polls of a feed, by outcome."),
    _family("late_exporter_last_poll_duration_seconds", "gauge", "feed",
            help="Duration of the last poll of the feed, in seconds."),
    _family("late_exporter_last_successful_poll_timestamp_seconds", "gauge", "feed",
            help="Time of the last successful poll of the feed, in Unix seconds; metrics derived from its logs are "
                 "current as of this time."),
    _family("late_exporter_api_generation_info", "gauge", "generation",
            help="1 for each generation of the API in use: late or zernio."),
    _family("late_exporter_api_generation_unread", "gauge", "generation",
            help="1 if that generation of the API has logs more than 10 minutes newer than those of the generation in "
                 "use, 0 otherwise."),
    _family("late_exporter_api_requests_total", "counter", "path code",
            help="Requests to the Zernio API, by HTTP status code, or by kind of error if there was no response."),
    _family("late_exporter_failed_requests_total", "counter", "feed request",
            help="Requests that failed without failing a poll, by kind: the logs of a post, the list of pending logs, "
                 "a range of times, or a page of a reconciliation scan."),
    _family("late_exporter_unreadable_rows_total", "counter", "feed",
            help="Rows of a log list that were skipped because every request that includes them fails, counted once "
                 "per run of the exporter."),
    _family("late_exporter_api_request_duration_seconds", "histogram", "path",
            buckets=REQUEST_BUCKETS,
            help="Duration of requests to the Zernio API, in seconds."),
    _family("late_exporter_api_quota_limit", "gauge", "",
            help="Requests per minute that the API allows for the key (X-RateLimit-Limit)."),
    _family("late_exporter_api_quota_remaining", "gauge", "",
            help="Requests left for the key at the time of the last response (X-RateLimit-Remaining)."),
    _family("late_exporter_api_quota_reset_timestamp_seconds", "gauge", "",
            help="Time at which the API frees the next request of the quota (X-RateLimit-Reset), in Unix seconds."),
    _family("late_exporter_api_quota_customer_requests", "gauge", "",
            help="Requests per minute by other users of the key, the highest of the last 3 minutes, estimated from the "
                 "quota that the API reports."),
    _family("late_exporter_api_throttled_seconds_total", "counter", "",
            help="Time that requests waited to stay within the part of the API quota that the exporter may use, in "
                 "seconds."),
    _family("late_exporter_log_lag_seconds", "histogram", "feed",
            buckets=LAG_BUCKETS,
            help="Time from the creation of a log until it was counted, in seconds, excluding the first sync."),
    _family("late_exporter_entries_rejected_total", "counter", "feed reason",
            help="Logs that could not be counted because they have no usable id, counted once each."),
    _family("late_exporter_api_schema_drift_total", "counter", "feed field kind",
            help="Logs with a field that is undocumented or missing, or has an undocumented type or value, counted "
                 "once in each status they were seen in."),
    _family("late_exporter_label_overflow_total", "counter", "family label",
            help="Label values replaced by other because the label reached its limit of values."),
    _family("late_exporter_reconciled_logs_total", "counter", "feed",
            help="Logs that polls had missed and a reconciliation scan found."),
    _family("late_exporter_reconcile_last_completed_timestamp_seconds", "gauge", "feed",
            help="Start time of the last completed reconciliation scan, or the time of the first sync if there was "
                 "none, in Unix seconds."),
    _family("late_exporter_audit_missing_logs", "gauge", "feed",
            help="Logs the last audit found in the state but not in the counters."),
    _family("late_exporter_audit_extra_logs", "gauge", "feed",
            help="Logs the last audit found counted more than once, or counted but not stored, or stored but not "
                 "counted."),
    _family("late_exporter_audit_last_completed_timestamp_seconds", "gauge", "feed",
            help="Time at which the last audit completed, or the time of the first sync if none did, in Unix seconds."),
    _family("late_exporter_coverage_start_timestamp_seconds", "gauge", "feed",
            help="Time since which every log of the feed has been counted without a gap, in Unix seconds."),
    _family("late_exporter_retention_seconds", "gauge", "feed",
            help="Time for which the API keeps a log of the feed, in seconds."),
    _family("late_exporter_state_logs", "gauge", "",
            help="Logs stored in the state."),
    _family("late_exporter_state_bytes", "gauge", "",
            help="Size of the state, in bytes."),
    _family("late_exporter_status_feed_up", "gauge", "feed",
            help="1 if the last refresh of the status feed succeeded, 0 if it failed or the feed is switched off."),
    _family("late_exporter_status_feed_last_refresh_timestamp_seconds", "gauge", "feed",
            help="Time of the last successful refresh of the status feed, in Unix seconds; metrics derived from it are "
                 "current as of this time."),
    _family("late_exporter_status_feed_disabled", "gauge", "feed reason",
            help="1 while a status feed is switched off because the API refuses it to the key or does not have it, by "
                 "reason."),
    _family("late_exporter_webhooks_received_total", "counter", "event",
            help="Webhooks received with a valid signature, by event; webhooks to the shared path count once per "
                 "workspace."),
    _family("late_exporter_webhooks_rejected_total", "counter", "reason",
            help="Webhooks rejected, by reason; webhooks to the shared path count once per workspace."),
    _family("late_exporter_webhook_lag_seconds", "histogram", "",
            buckets=WEBHOOK_BUCKETS,
            help="Time from the timestamp of a webhook until it was received, in seconds, excluding late retries."),
    _family("late_exporter_webhook_last_received_timestamp_seconds", "gauge", "",
            help="Time at which the last webhook with a valid signature was received, in Unix seconds."),
    _family("late_exporter_events_delivered_total", "counter", "",
            help="Log events delivered to the output."),
    _family("late_exporter_events_dropped_total", "counter", "",
            help="Log events that were dropped because too many were waiting for their delivery."),
    _family("late_exporter_event_delivery_failures_total", "counter", "",
            help="Failed attempts to deliver log events; the events are delivered later."),
    _family("late_exporter_events_pending", "gauge", "",
            help="Log events that wait for their delivery."),
    _family("late_exporter_events_oldest_pending_timestamp_seconds", "gauge", "",
            help="Time since which the oldest log event has been waiting for its delivery, in Unix seconds; absent if "
                 "none is."),
)  # fmt: skip

CATALOGUE: Mapping[str, Family] = MappingProxyType({family.name: family for family in _FAMILIES})


def build_catalogue(
    duration_buckets: tuple[float, ...] = DURATION_BUCKETS,
    buckets: Iterable[tuple[str, tuple[float, ...]]] = (),
) -> Mapping[str, Family]:
    """Return the catalogue with other buckets.

    Args:
        duration_buckets: Buckets of the ``late_*_duration_seconds`` of logs.
        buckets: Names of histograms, each with its own buckets.
    """
    names = [f"late_{logs}_duration_seconds" for logs in ("publishing", "connection", "activity")]
    overrides = dict.fromkeys(names, duration_buckets) | dict(buckets)
    families = {name: msgspec.structs.replace(CATALOGUE[name], buckets=bounds) for name, bounds in overrides.items()}
    return MappingProxyType({**CATALOGUE, **families})
