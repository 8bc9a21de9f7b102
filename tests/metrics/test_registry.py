from __future__ import annotations

from typing import Any

import pytest

from late_exporter.health import AccountHealth, PlatformHealth
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.platforms import ATTEMPTS, failing_accounts, platform_health
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.model import (
    FailureStreak,
    IncCounter,
    LatestValue,
    Scope,
    Series,
    SeriesValue,
)
from tests.support.exposition import FakeExposition

LOGS = "late_publishing_logs_total"
POLLS = "late_exporter_polls_total"
INFO = "late_account_info"
SUCCESSFUL_POLLS: Series = (POLLS, ("acme", "publishing", "success"))


@pytest.fixture
def exposition() -> FakeExposition:
    """Return the exposition."""
    return FakeExposition()


@pytest.fixture
def registry(exposition: FakeExposition) -> SeriesRegistry:
    """Return a registry of one workspace with both feeds."""
    registry = SeriesRegistry(CATALOGUE, exposition)
    registry.add_workspace("acme")
    return registry


def show_logs(registry: SeriesRegistry) -> None:
    """Make the families of publishing logs visible."""
    registry.apply(Scope("acme", "publishing"), {}, now=0.0, is_synced=True)


def test_unknown_stored_series_are_ignored(registry: SeriesRegistry, exposition: FakeExposition) -> None:
    """Stored series of other workspaces and unknown families are ignored."""
    other_polls: Series = (POLLS, ("umbrella", "publishing", "success"))
    registry.restore(dict.fromkeys([other_polls, ("late_old_total", ("acme",)), SUCCESSFUL_POLLS], SeriesValue(1, 7.0)))
    assert set(exposition.values) == {SUCCESSFUL_POLLS}


def test_a_workspace_with_the_name_of_a_label_value(registry: SeriesRegistry, exposition: FakeExposition) -> None:
    """It has no part in series without the label ``workspace``."""
    build: Series = ("late_exporter_build_info", ("acme", "r", "3.13"))
    registry.set_gauge(*build, 1)
    registry.remove_workspace("acme")
    assert exposition.values[build] == 1


def test_uncommitted_counters(registry: SeriesRegistry, exposition: FakeExposition) -> None:
    """Uncommitted increments are added to the stored value, which never falls while they are committed."""
    registry.restore({SUCCESSFUL_POLLS: SeriesValue(10, 7.0)})
    requests: Series = ("late_exporter_api_requests_total", ("acme", "/v1/posts/logs", "200"))
    for _ in range(3):
        registry.add_uncommitted([IncCounter(*SUCCESSFUL_POLLS), IncCounter(*requests, amount=2)])
    assert exposition.values == {SUCCESSFUL_POLLS: 13, requests: 6}

    registry.restore({SUCCESSFUL_POLLS: SeriesValue(12, 7.0)})
    assert exposition.values == {SUCCESSFUL_POLLS: 13, requests: 6}
    registry.restore({SUCCESSFUL_POLLS: SeriesValue(14, 7.0), requests: SeriesValue(6, 8.0)})
    assert exposition.values == {SUCCESSFUL_POLLS: 14, requests: 6}
    registry.add_uncommitted([IncCounter(*SUCCESSFUL_POLLS)])
    assert exposition.values[SUCCESSFUL_POLLS] == 15


def update_rows(registry: SeriesRegistry, family: str, *rows: tuple[Any, ...]) -> None:
    """Update the series of a family from rows of labels, value and creation time."""
    for *labels, value, created in rows:
        registry.restore({(family, ("acme", *labels)): SeriesValue(value, created)})


def test_platform_health(registry: SeriesRegistry) -> None:
    """The visible publishing logs are summed up per platform, without platforms that have no logs."""
    update_rows(
        registry,
        LOGS,
        ("tiktok", "publish", "success", 5, 50.0),
        ("tiktok", "retry", "failed", 2, 40.0),
        ("tiktok", "publish", "skipped", 3, 60.0),
        ("tiktok", "publish", "pending", 9, 60.0),
        ("tiktok", "media_upload", "failed", 7, 60.0),
        ("reddit", "publish", "success", 0, 60.0),
    )
    update_rows(registry, ATTEMPTS, ("tiktok", "success", 5, 50.0), ("tiktok", "failed", 2, 40.0))
    last_log = ("tiktok", "publish", "failed", LatestValue(3, 0.003), 1.0)
    update_rows(registry, "late_publishing_last_log_timestamp_seconds", last_log)
    for action, count in (("publish", 2), ("retry", 1)):
        registry.set_gauge("late_publishing_pending_logs", ("acme", "tiktok", action), count)
    assert platform_health(registry, "acme") == (), "not before the first sync is complete"
    show_logs(registry)
    tiktok = PlatformHealth(
        name="tiktok", counted_since=40.0, failed=2, final=7, pending=3, last_log=0.003, last_failure=0.003
    )
    assert platform_health(registry, "acme") == (tiktok,)


def test_failing_accounts(registry: SeriesRegistry) -> None:
    """Accounts with at least five consecutive failures are sorted by their number."""
    show_logs(registry)
    update_rows(
        registry,
        "late_account_consecutive_failures",
        ("tiktok", "a1", FailureStreak(failures=(1, 2, 3, 4, 5)), 1.0),
        ("tiktok", "a2", FailureStreak(failures=(1, 2, 3, 4, 5, 6)), 1.0),
        ("reddit", "a3", FailureStreak(failures=(1, 2, 3, 4, 5)), 1.0),
        ("reddit", "a4", FailureStreak(failures=(1, 2, 3, 4)), 1.0),
    )
    update_rows(registry, INFO, ("tiktok", "a2", LatestValue(1, ("@acme", "p1")), 1.0))
    assert failing_accounts(registry, "acme") == (
        AccountHealth(platform="tiktok", account_id="a2", username="@acme", consecutive_failures=6),
        AccountHealth(platform="reddit", account_id="a3", username="", consecutive_failures=5),
        AccountHealth(platform="tiktok", account_id="a1", username="", consecutive_failures=5),
    )
