from __future__ import annotations

import re
from itertools import pairwise

import pytest

from late_exporter.exposition.family import Family
from late_exporter.feeds import GENERATIONS, zernio
from late_exporter.metrics.catalogue import CATALOGUE, DURATION_BUCKETS, build_catalogue

DESIGN = """
late_publishing_logs_total                           counter   workspace platform action status
late_publishing_duration_seconds                     histogram workspace platform action status
late_publishing_failures_total                       counter   workspace platform action category status_code
late_publishing_retries_total                        counter   workspace platform status
late_publishing_attempts                             histogram workspace platform status
late_publishing_rate_limit_pauses_total              counter   workspace platform
late_publishing_pending_logs                         gauge     workspace platform action
late_publishing_oldest_pending_timestamp_seconds     gauge     workspace platform
late_publishing_last_log_timestamp_seconds           gauge     workspace platform action status
late_connection_events_total                         counter   workspace platform event method
late_connection_failures_total                       counter   workspace platform event code
late_connection_duration_seconds                     histogram workspace platform event
late_connection_last_event_timestamp_seconds         gauge     workspace platform event
late_activity_logs_total                             counter   workspace type platform action status
late_activity_duration_seconds                       histogram workspace type platform action
late_account_info                                    gauge     workspace platform account_id username
late_account_logs_total                              counter   workspace platform account_id status
late_account_consecutive_failures                    gauge     workspace platform account_id
late_account_last_success_timestamp_seconds          gauge     workspace platform account_id
late_account_connected                               gauge     workspace platform account_id
late_account_token_expiry_timestamp_seconds          gauge     workspace platform account_id
late_account_health                                  gauge     workspace platform account_id status
late_account_can_post                                gauge     workspace platform account_id
late_account_needs_reconnect                         gauge     workspace platform account_id
late_account_cooldown_until_timestamp_seconds        gauge     workspace platform account_id
late_posts                                           gauge     workspace status
late_posts_oldest_scheduled_timestamp_seconds        gauge     workspace
late_posts_oldest_publishing_timestamp_seconds       gauge     workspace
late_webhook_active                                  gauge     workspace webhook
late_webhook_consecutive_failures                    gauge     workspace webhook
late_webhook_last_fired_timestamp_seconds            gauge     workspace webhook
late_workspace_active                                gauge     workspace
late_workspace_spend_ratio                           gauge     workspace kind
late_up                                              gauge     workspace feed
late_exporter_build_info                             gauge     version revision python_version
late_exporter_config_last_reload_successful          gauge
late_exporter_config_last_reload_success_timestamp_seconds  gauge
late_exporter_total_shards                           gauge     shard
late_exporter_cluster_members                        gauge
late_exporter_cluster_owned_workspaces               gauge
late_exporter_cluster_unowned_workspaces             gauge
late_exporter_cluster_handovers_total                counter   kind
late_exporter_polls_total                            counter   workspace feed outcome
late_exporter_last_poll_duration_seconds             gauge     workspace feed
late_exporter_last_successful_poll_timestamp_seconds gauge     workspace feed
late_exporter_api_generation_info                    gauge     workspace generation
late_exporter_api_generation_unread                  gauge     workspace generation
late_exporter_api_requests_total                     counter   workspace path code
late_exporter_failed_requests_total                  counter   workspace feed request
late_exporter_unreadable_rows_total                  counter   workspace feed
late_exporter_api_request_duration_seconds           histogram workspace path
late_exporter_api_quota_limit                        gauge     workspace
late_exporter_api_quota_remaining                    gauge     workspace
late_exporter_api_quota_reset_timestamp_seconds      gauge     workspace
late_exporter_api_quota_customer_requests            gauge     workspace
late_exporter_api_throttled_seconds_total            counter   workspace
late_exporter_log_lag_seconds                        histogram workspace feed
late_exporter_entries_rejected_total                 counter   workspace feed reason
late_exporter_api_schema_drift_total               counter   workspace feed field kind
late_exporter_label_overflow_total                   counter   workspace family label
late_exporter_reconciled_logs_total                  counter   workspace feed
late_exporter_reconcile_last_completed_timestamp_seconds       gauge     workspace feed
late_exporter_audit_missing_logs                     gauge     workspace feed
late_exporter_audit_extra_logs                       gauge     workspace feed
late_exporter_audit_last_completed_timestamp_seconds           gauge     workspace feed
late_exporter_coverage_start_timestamp_seconds       gauge     workspace feed
late_exporter_retention_seconds                      gauge     workspace feed
late_exporter_state_logs                             gauge     workspace
late_exporter_state_bytes                            gauge     workspace
late_exporter_status_feed_up                         gauge     workspace feed
late_exporter_status_feed_last_refresh_timestamp_seconds gauge workspace feed
late_exporter_status_feed_disabled                   gauge     workspace feed reason
late_exporter_webhooks_received_total                counter   workspace event
late_exporter_webhooks_rejected_total                 counter   workspace reason
late_exporter_webhook_lag_seconds                    histogram workspace
late_exporter_webhook_last_received_timestamp_seconds gauge    workspace
late_exporter_events_delivered_total                  counter   workspace
late_exporter_events_dropped_total                    counter   workspace
late_exporter_event_delivery_failures_total           counter   workspace
late_exporter_events_pending                          gauge     workspace
late_exporter_events_oldest_pending_timestamp_seconds gauge     workspace
"""
"""The catalogue of the design, in its order."""

RESERVED = {"le", "quantile", "instance", "job", "__name__", "exported_instance", "exported_job"}
IDS = {"log_id", "post_id", "id", "key", "message", "error", "request_id"}


FIRST_LABELS = {
    "late_exporter_build_info": ("version",),
    "late_exporter_config_last_reload_successful": (),
    "late_exporter_config_last_reload_success_timestamp_seconds": (),
    "late_exporter_total_shards": ("shard",),
    "late_exporter_cluster_members": (),
    "late_exporter_cluster_owned_workspaces": (),
    "late_exporter_cluster_unowned_workspaces": (),
    "late_exporter_cluster_handovers_total": ("kind",),
    "late_exporter_cluster_fenced_commits_total": (),
    "late_exporter_cluster_lease_age_seconds": (),
}
"""First labels of the families without a workspace."""


def test_the_catalogue_is_the_design() -> None:
    """Names, kinds and labels are those of the design; a change breaks the queries of users."""
    expected = [tuple(line.split()) for line in DESIGN.split("\n") if line]
    actual = [(family.name, family.kind, *family.labels) for family in CATALOGUE.values()]
    assert expected == actual
    assert list(CATALOGUE) == [family.name for family in CATALOGUE.values()]


@pytest.mark.parametrize("family", CATALOGUE.values(), ids=CATALOGUE)
def test_family_follows_conventions(family: Family) -> None:
    """Every family follows the naming rules of Prometheus, and its help is one line of prose."""
    assert re.fullmatch(r"late_[a-z]+(_[a-z]+)*", family.name)
    assert (family.kind == "counter") == family.name.endswith("_total")
    assert not re.search(r"_(count|sum|bucket|created|ms|minutes|hours|milliseconds|kb)(_|$)", family.name)
    assert not family.name.endswith("_info") or family.help.startswith("1")
    assert re.fullmatch(r"[^\n\\]+\.", family.help)
    assert len(family.help) < 200
    assert family.help == family.help.strip()
    assert family.help[0].isupper() or family.help[0].isdigit()
    for label in family.labels:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", label)
    assert not {*family.labels} & (RESERVED | IDS)
    assert len(set(family.labels)) == len(family.labels)
    assert family.labels[:1] == FIRST_LABELS.get(family.name, ("workspace",))


@pytest.mark.parametrize("family", CATALOGUE.values(), ids=CATALOGUE)
def test_buckets(family: Family) -> None:
    """Only histograms have buckets, in ascending order and without +Inf."""
    assert (family.kind == "histogram") == bool(family.buckets)
    assert all(lower < upper for lower, upper in pairwise(family.buckets))
    assert all(0 < bound < float("inf") and isinstance(bound, float) for bound in family.buckets)


def test_default_buckets() -> None:
    """The default buckets are those of the design."""
    assert (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600) == DURATION_BUCKETS
    assert (1, 2, 3, 4, 5, 10) == CATALOGUE["late_publishing_attempts"].buckets


STATUS_FAMILIES = {
    f"late_account_{name}" for name in ("health", "can_post", "needs_reconnect", "cooldown_until_timestamp_seconds")
}
"""Families of accounts that no log fills."""


@pytest.mark.parametrize("family", CATALOGUE.values(), ids=CATALOGUE)
def test_feeds_of_a_family(family: Family) -> None:
    """Families filled from logs wait for the first sync of their feeds; those of the exporter itself do not."""
    prefixes = {
        "publishing": {"publishing"},
        "connection": {"connections"},
        "activity": {*zernio.ACTIVITIES},
        "account": {"publishing", "connections"},
    }
    allowed = set() if family.name in STATUS_FAMILIES else prefixes.get(family.name.split("_")[1], set())
    assert {*family.feeds} <= allowed
    assert bool(allowed) == bool(family.feeds)
    assert {*family.feeds} <= {*GENERATIONS["zernio"]}


@pytest.mark.parametrize("family", CATALOGUE.values(), ids=CATALOGUE)
def test_help_names_no_field_of_the_api(family: Family) -> None:
    """The help holds for every generation of the API: it names no field and no path."""
    text = re.sub(r" \(X-RateLimit-[A-Za-z]+\)", "", family.help)  # a header, the same in every generation
    assert not re.search(r"[a-z][A-Z]|/v1|\b[a-z]+\.[a-z]|_id\b|[a-z]_(?:ms|at)\b", text)


def test_configured_buckets() -> None:
    """Configured buckets replace those of log durations and change nothing else."""
    configured = build_catalogue((1.0, 2.0))
    durations = {f"late_{prefix}_duration_seconds" for prefix in ("publishing", "connection", "activity")}
    assert list(CATALOGUE) == list(configured)
    assert durations == {name for name, family in configured.items() if family != CATALOGUE[name]}
    assert {(1.0, 2.0)} == {configured[name].buckets for name in durations}
    assert dict(CATALOGUE) == dict(build_catalogue())


def test_catalogue_is_immutable() -> None:
    """Neither the catalogue nor a family can be changed at run time."""
    with pytest.raises(TypeError):
        CATALOGUE["late_more"] = CATALOGUE["late_up"]  # type: ignore[index]
    with pytest.raises(AttributeError):
        CATALOGUE["late_up"].help = "x"  # type: ignore[misc]
