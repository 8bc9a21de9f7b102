"""Catalogue of all metric families.

A new metric is a row here and a projection where its value comes from. Help texts say what the
number means, without names of API fields, so that they hold for every generation of the API.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

import msgspec

from late_exporter.exposition.family import Family, FamilyKind
from late_exporter.feeds.zernio import ACTIVITIES

# Names that several modules use.
LOGS = "late_publishing_logs_total"
PENDING_LOGS = "late_publishing_pending_logs"
OLDEST_PENDING = "late_publishing_oldest_pending_timestamp_seconds"
ENTRIES_REJECTED = "late_exporter_entries_rejected_total"
LABEL_OVERFLOW = "late_exporter_label_overflow_total"
SCHEMA_DRIFT = "late_exporter_api_schema_drift_total"
LAST_POLL = "late_exporter_last_successful_poll_timestamp_seconds"
LAST_RECONCILE = "late_exporter_reconcile_last_completed_timestamp_seconds"
GENERATION_UNREAD = "late_exporter_api_generation_unread"
LAST_AUDIT = "late_exporter_audit_last_completed_timestamp_seconds"

DURATION_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
DELAY_BUCKETS = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 10800.0, 21600.0)
REQUEST_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LAG_BUCKETS = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 86400.0)

PUBLISHING = ("publishing",)
CONNECTIONS = ("connections",)
UNFORESEEN = (SCHEMA_DRIFT, LABEL_OVERFLOW)
"""Counters of the exporter itself whose labels are not known before their first increment.

Alerts wait for it, so they begin with 0 as those of logs do.
"""

OFF = "off"
EXPERIMENTAL = "experimental"


def _family(
    kind: FamilyKind,
    name: str,
    labels: str,
    help: str,  # noqa: A002 - named like the field
    *,
    buckets: tuple[float, ...] = (),
    feeds: tuple[str, ...] = (),
    workspace: bool = True,
    mark: str = "",
) -> Family:
    """Return a family; the mark says that it is ``off`` by default, or ``experimental``."""
    names = ("workspace", *labels.split()) if workspace else tuple(labels.split())
    starts_at_zero = kind != "gauge" and (bool(feeds) or name in UNFORESEEN)
    return Family(
        name, kind, help, names, buckets, feeds, starts_at_zero, mark == OFF, mark == EXPERIMENTAL
    )


_counter = partial(_family, "counter")
_gauge = partial(_family, "gauge")
_histogram = partial(_family, "histogram")

_FAMILIES = (
    _counter("late_publishing_logs_total", "platform action status", feeds=PUBLISHING,
        help="Publishing logs as of the last poll, counted once in each status they were seen in."),
    _histogram("late_publishing_duration_seconds", "platform action status", feeds=PUBLISHING,
        buckets=DURATION_BUCKETS,
        help="Duration reported by publishing logs, in seconds."),
    _histogram("late_publishing_delay_seconds", "platform", feeds=PUBLISHING, buckets=DELAY_BUCKETS,
        mark=EXPERIMENTAL,
        help="Time from the scheduled time of a post to the end of its successful attempt, in "
             "seconds."),
    _counter("late_publishing_failures_total", "platform action category status_code",
        feeds=PUBLISHING,
        help="Failed publishing logs, by error category and HTTP status code."),
    _counter("late_publishing_attempts_total", "platform status", feeds=PUBLISHING,
        help="Attempts to publish that have ended: publish and retry logs with status success or"
             " failed."),
    _counter("late_publishing_retries_total", "platform status", feeds=PUBLISHING,
        help="Retry attempts, counted once in each status they were seen in."),
    _counter("late_publishing_rate_limit_pauses_total", "platform", feeds=PUBLISHING,
        help="Pauses caused by the rate limit of a platform, counted once regardless of their "
             "status."),
    _counter("late_publishing_without_link_total", "platform", feeds=PUBLISHING, mark=EXPERIMENTAL,
        help="Successful publish and retry logs that say that the post has no link."),
    _gauge("late_publishing_pending_logs", "platform action", feeds=PUBLISHING,
        help="Publishing logs that were pending at the last poll."),
    _gauge("late_publishing_oldest_pending_timestamp_seconds", "platform", feeds=PUBLISHING,
        help="Creation time of the oldest publishing log that was pending at the last poll, in "
             "Unix seconds."),
    _gauge("late_publishing_consecutive_failures", "platform", feeds=PUBLISHING,
        help="Posts whose publish logs on a platform failed since its last success; failures "
             "within 5 minutes count as one post."),
    _gauge("late_workspace_consecutive_failures", "", feeds=PUBLISHING,
        help="Posts whose publish logs failed since the last success on any platform; failures "
             "within 5 minutes count as one post."),
    _gauge("late_publishing_last_log_timestamp_seconds", "platform action status", feeds=PUBLISHING,
        mark=OFF,
        help="Creation time of the newest counted publishing log, in Unix seconds."),
    _counter("late_connection_events_total", "platform event method", feeds=CONNECTIONS,
        help="Connection events as of the last poll, by event type and connection method."),
    _counter("late_connection_failures_total", "platform event code", feeds=CONNECTIONS,
        help="Failed connection events, by error code."),
    _histogram("late_connection_duration_seconds", "platform event", feeds=CONNECTIONS,
        buckets=DURATION_BUCKETS, mark=OFF,
        help="Duration reported by connection logs, in seconds."),
    _gauge("late_connection_last_event_timestamp_seconds", "platform event", feeds=CONNECTIONS,
        mark=OFF,
        help="Creation time of the newest counted connection log, in Unix seconds."),
    _counter("late_activity_logs_total", "type platform action status status_code",
        feeds=ACTIVITIES,
        help="Webhook, messaging, workflow and API request logs as of the last poll, by HTTP "
             "status code, counted once in each status they were seen in."),
    _histogram("late_activity_duration_seconds", "type platform action", feeds=ACTIVITIES,
        buckets=DURATION_BUCKETS,
        help="Duration reported by webhook, messaging, workflow and API request logs, in "
             "seconds."),
    _gauge("late_account_info", "platform account_id username profile_id",
        feeds=PUBLISHING + CONNECTIONS,
        help="1 for each known account, labelled with its newest user name and its profile."),
    _counter("late_account_logs_total", "platform account_id status", feeds=PUBLISHING,
        help="Publish and retry logs by account, counted once in each status they were seen in."),
    _counter("late_account_token_refreshes_total", "platform account_id status", feeds=PUBLISHING,
        mark=EXPERIMENTAL,
        help="Renewals of an account's access token, counted once in each status they were seen "
             "in."),
    _gauge("late_account_consecutive_failures", "platform account_id", feeds=PUBLISHING,
        help="Failed publish and retry logs of an account since its last success, at most 1,000."),
    _gauge("late_account_last_success_timestamp_seconds", "platform account_id", feeds=PUBLISHING,
        help="Creation time of the newest successful publish or retry log of an account, in Unix"
             " seconds."),
    _gauge("late_account_connected", "platform account_id", feeds=CONNECTIONS,
        help="1 if an account is connected, 0 otherwise."),
    _gauge("late_account_token_expiry_timestamp_seconds", "platform account_id", feeds=CONNECTIONS,
        help="Expiry time of an account's access token, in Unix seconds."),
    _gauge("late_account_health", "platform account_id status",
        help="1 for the health of an account as the API judges it: healthy, warning or error."),
    _gauge("late_account_can_post", "platform account_id",
        help="1 if an account can be posted to, 0 otherwise."),
    _gauge("late_account_needs_reconnect", "platform account_id",
        help="1 if an account must be connected again, 0 otherwise."),
    _gauge("late_account_cooldown_until_timestamp_seconds", "platform account_id",
        help="End of an account's cooldown after failed posts, in Unix seconds; absent without "
             "one."),
    _gauge("late_account_messaging_restricted", "platform account_id", mark=EXPERIMENTAL,
        help="1 if the platform restricts the messages that an account sends; absent otherwise."),
    _gauge("late_account_failed_posts", "platform account_id",
        help="Posts due within the last 24 hours that failed on an account, with or without a log, "
             "and were not published since, of the 500 in each status that were due last; absent "
             "if there are none."),
    _gauge("late_account_last_failed_post_timestamp_seconds", "platform account_id",
        help="Due time of the newest failed post of an account, in Unix seconds; absent if no post "
             "due within the last 24 hours failed."),
    _gauge("late_posts", "status", help="Posts in each status at the last refresh."),
    _gauge("late_posts_at_risk", "platform reason", mark=EXPERIMENTAL,
        help="Scheduled posts due within 24 hours whose account could not publish them at the "
             "last refresh, by reason, of the 500 that are due first; absent if there are none."),
    _gauge("late_posts_oldest_scheduled_timestamp_seconds", "",
        help="Due time of the earliest post that was scheduled at the last refresh, in Unix "
             "seconds."),
    _gauge("late_posts_oldest_publishing_timestamp_seconds", "",
        help="Due time of the earliest post that was being published at the last refresh, in Unix "
             "seconds."),
    _gauge("late_posts_oldest_pending_approval_timestamp_seconds", "", mark=EXPERIMENTAL,
        help="Due time of the earliest post that was not approved at the last refresh, in Unix "
             "seconds."),
    _gauge("late_webhook_active", "webhook",
        help="1 if the API delivers events to a webhook, 0 if the webhook is switched off."),
    _gauge("late_webhook_consecutive_failures", "webhook",
        help="Failed deliveries of a webhook since its last success."),
    _gauge("late_webhook_last_fired_timestamp_seconds", "webhook",
        help="Time of the last delivery to a webhook, to within minutes, in Unix seconds."),
    _gauge("late_workspace_active", "",
        help="1 if the plan of the workspace has access and is not suspended, 0 otherwise."),
    _gauge("late_workspace_spend_ratio", "kind", mark=EXPERIMENTAL,
        help="Money spent in this billing period as a fraction of its limit, by kind; absent "
             "without a limit."),
    _gauge("late_workspace_usage_ratio", "kind", mark=EXPERIMENTAL,
        help="Uploads and profiles in use as a fraction of what the plan includes; absent "
             "without a limit."),
    _gauge("late_workspace_balance_cents", "", mark=EXPERIMENTAL,
        help="What pay-per-use can still spend, in cents; it stops at 0 or less."),
    _gauge("late_up", "feed", help="1 if the last poll of the feed succeeded, 0 otherwise."),
    _gauge("late_exporter_build_info", "version revision python_version", workspace=False,
        help="1, labelled with the running version of late-exporter."),
    _gauge("late_exporter_config_last_reload_successful", "", workspace=False,
        help="1 if the last configuration reload succeeded, 0 otherwise."),
    _gauge("late_exporter_config_last_reload_success_timestamp_seconds", "", workspace=False,
        help="Time at which the current configuration was loaded, in Unix seconds."),
    _gauge("late_exporter_cluster_members", "", workspace=False,
        help="Replicas that share the state."),
    _gauge("late_exporter_cluster_owned_workspaces", "", workspace=False,
        help="Workspaces that this replica exposes."),
    _gauge("late_exporter_cluster_unowned_workspaces", "", workspace=False,
        help="Workspaces of the configuration that no replica owns."),
    _counter("late_exporter_polls_total", "feed outcome", help="Polls of a feed, by outcome."),
    _gauge("late_exporter_last_poll_duration_seconds", "feed",
        help="Duration of the last poll of the feed, in seconds."),
    _gauge("late_exporter_last_successful_poll_timestamp_seconds", "feed",
        help="Time of the last successful poll of the feed, in Unix seconds; metrics derived "
             "from its logs are current as of this time."),
    _gauge("late_exporter_api_generation_info", "generation",
        help="1 for each generation of the API in use: late or zernio."),
    _gauge("late_exporter_api_generation_unread", "feed generation",
        help="1 if the last daily read found newer logs in a generation of the API that is not "
             "read, 0 otherwise."),
    _gauge("late_exporter_clock_offset_seconds", "",
        help="Seconds by which the clock of the host is ahead of that of the API; negative if it is"
             " behind."),
    _counter("late_exporter_api_requests_total", "path code",
        help="Requests to the Zernio API, by HTTP status code or kind of error."),
    _counter("late_exporter_failed_requests_total", "feed request",
        help="Requests that failed without failing a poll, by kind."),
    _counter("late_exporter_unreadable_rows_total", "feed",
        help="Rows of a log list that were skipped because every request that includes them "
             "fails."),
    _histogram("late_exporter_api_request_duration_seconds", "path", buckets=REQUEST_BUCKETS,
        help="Duration of requests to the Zernio API, in seconds."),
    _gauge("late_exporter_api_quota_limit_per_minute", "",
        help="Requests per minute that the API allows for the key (X-RateLimit-Limit)."),
    _gauge("late_exporter_api_quota_remaining", "",
        help="Requests left for the key at the time of the last response (X-RateLimit-"
             "Remaining)."),
    _gauge("late_exporter_api_quota_reset_timestamp_seconds", "",
        help="Time at which the API frees the next request of the quota (X-RateLimit-Reset), in "
             "Unix seconds."),
    _gauge("late_exporter_api_quota_customer_requests_per_minute", "",
        help="Requests per minute by other users of the key, the highest of the last 3 minutes, "
             "estimated from the quota that the API reports."),
    _counter("late_exporter_api_throttled_seconds_total", "",
        help="Time that requests waited to stay within the quota share, in seconds."),
    _histogram("late_exporter_log_lag_seconds", "feed", buckets=LAG_BUCKETS,
        help="Time from the creation of a log until it was counted, in seconds, excluding the "
             "first sync."),
    _counter("late_exporter_entries_rejected_total", "feed reason",
        help="Logs that could not be counted because they have no usable id or time, counted "
             "once each."),
    _counter("late_exporter_api_schema_drift_total", "feed field kind",
        help="Logs with a field that is undocumented or missing, or has an undocumented type or "
             "value, counted once in each status they were seen in."),
    _counter("late_exporter_label_overflow_total", "family label",
        help="Label values replaced by other because the label reached its limit of values."),
    _counter("late_exporter_reconciled_logs_total", "feed",
        help="Logs that polls had missed and a reconciliation scan found."),
    _gauge("late_exporter_reconcile_last_completed_timestamp_seconds", "feed",
        help="Start time of the last completed reconciliation scan, or else the time of the first "
             "sync, in Unix seconds."),
    _gauge("late_exporter_audit_missing_logs", "feed",
        help="Logs the last audit found in the state but not in the counters."),
    _gauge("late_exporter_audit_extra_logs", "feed",
        help="Logs the last audit found counted more than once, or counted but not stored, or "
             "stored but not counted."),
    _gauge("late_exporter_audit_last_completed_timestamp_seconds", "feed",
        help="Time at which the last audit completed, or else the time of the first sync, in Unix "
             "seconds."),
    _gauge("late_exporter_coverage_start_timestamp_seconds", "feed",
        help="Time since which every log of the feed has been counted without a gap, in Unix "
             "seconds."),
    _gauge("late_exporter_retention_seconds", "feed",
        help="Time for which the API keeps a log of the feed, in seconds."),
    _gauge("late_exporter_state_logs", "", help="Logs stored in the state."),
    _gauge("late_exporter_state_bytes", "", help="Size of the state, in bytes."),
    _gauge("late_exporter_status_feed_up", "feed",
        help="1 if the last refresh of the status feed succeeded, 0 if it failed or the feed is "
             "switched off."),
    _gauge("late_exporter_status_feed_last_refresh_timestamp_seconds", "feed",
        help="Time of the last successful refresh of the status feed, in Unix seconds; metrics "
             "derived from it are current as of this time."),
    _gauge("late_exporter_status_feed_disabled", "feed reason",
        help="1 while a status feed is switched off because the API refuses it, by reason."),
)  # fmt: skip

CATALOGUE: Mapping[str, Family] = MappingProxyType({family.name: family for family in _FAMILIES})
OPTIONAL_FAMILIES = frozenset(family.name for family in _FAMILIES if family.is_optional)


def build_catalogue(buckets: Mapping[str, tuple[float, ...]]) -> Mapping[str, Family]:
    """Return the catalogue with other buckets of some histograms, by name."""
    families = dict(CATALOGUE)
    for name, bounds in buckets.items():
        families[name] = msgspec.structs.replace(families[name], buckets=bounds)
    return families
