"""Prepared states: series by the store itself, ids by SQL."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from late_exporter.metrics.catalogue import DURATION_BUCKETS
from late_exporter.model import Batch, Coverage, Scope
from late_exporter.series import AttemptOutcome, IncCounter, Increment, ObserveHistogram, SetLatest
from late_exporter.store import open_store
from tests.bench.naming import ACTIONS, STATUSES, account_id, platform_name
from tests.support.store import commit_batch

__all__ = ["create_expiring_state", "create_state_with_ids", "create_state_with_series"]

DAY = 86_400
EXPIRY_DAYS = 8
"""Age at which the state forgets a log: the retention of the API and a day."""

SCOPE = Scope("default", "publishing")
SAMPLES_PER_PLATFORM = len(ACTIONS) * len(STATUSES) * (len(DURATION_BUCKETS) + 5)
"""Samples of a platform: counter, latest time and histogram, by action and status."""

SAMPLES_PER_ACCOUNT = len(STATUSES) + 3


def create_state_with_series(path: Path, samples: int) -> None:
    """Create a synced state with about a number of samples and no logs."""
    now = time.time()
    horizon = int((now - 7 * DAY) * 1000)
    platforms = max(1, round(samples / 2 / SAMPLES_PER_PLATFORM))
    accounts = max(1, (samples - platforms * SAMPLES_PER_PLATFORM) // SAMPLES_PER_ACCOUNT)
    store = open_store(f"sqlite:///{path}")
    increments = [*_platform_increments(platforms, now), *_account_increments(accounts, now)]
    coverage = Coverage(retention_floor=horizon, complete_since=horizon, is_synced=True)
    commit_batch(store, SCOPE, Batch(committed_at=now, increments=increments, coverage=coverage))
    store.close()


def _platform_increments(count: int, now: float) -> Iterator[Increment]:
    for number in range(count):
        for action in ACTIONS:
            for status in STATUSES:
                labels = ("default", platform_name(number), action, status)
                yield IncCounter("late_publishing_logs_total", labels)
                yield SetLatest("late_publishing_last_log_timestamp_seconds", labels, at=int(now), value=now - number)
                yield ObserveHistogram(
                    "late_publishing_duration_seconds", labels, micros=1_500_000 + number, bounds=DURATION_BUCKETS
                )


def _account_increments(count: int, now: float) -> Iterator[Increment]:
    for number in range(count):
        labels = ("default", platform_name(number % 13), account_id(number))
        yield SetLatest("late_account_info", labels, at=int(now), value=f"@bakery{number}")
        yield SetLatest("late_account_last_success_timestamp_seconds", labels, at=int(now), value=now - number)
        yield AttemptOutcome("late_account_consecutive_failures", labels, at=int(now), failed=True)
        for status in STATUSES:
            yield IncCounter("late_account_logs_total", (*labels, status))


def create_state_with_ids(source: Path, path: Path, ids: int) -> None:
    """Copy a state and add ids of logs of the last week that the API has deleted."""
    _copy_with_ids(source, path, ids, int((time.time() - 6.9 * DAY) * 1000), int(6.5 * DAY * 1000))


def _copy_with_ids(source: Path, path: Path, ids: int, start: int, milliseconds: int) -> None:
    """Copy a state and add ids of logs that were created evenly over some time."""
    with sqlite3.connect(source) as connection:
        connection.execute("VACUUM INTO ?", (str(path),))
    connection.close()
    with sqlite3.connect(path, isolation_level=None) as connection:
        execute = connection.execute
        execute("PRAGMA journal_mode = OFF")
        execute("PRAGMA synchronous = OFF")
        execute("PRAGMA cache_size = -200000")
        (feed,) = execute("SELECT id FROM late_feed WHERE name = 'publishing'").fetchone()
        execute("BEGIN")
        execute(
            "WITH RECURSIVE row(n, at) AS (SELECT 0, ?2 UNION ALL SELECT n + 1, ?2 + (n + 1) * ?3 / ?4 FROM row"
            " WHERE n + 1 < ?4)"
            " INSERT INTO late_log"
            " SELECT ?1, printf('%08x%016x', at / 1000, n + 1099511627776), 'success', at"
            " FROM row",
            (feed, start, milliseconds, ids),
        )
        execute("UPDATE late_feed SET logs = logs + ?1, observations = observations + ?1 WHERE id = ?2", (ids, feed))
        execute("COMMIT")
    connection.close()


def create_expiring_state(source: Path, path: Path, ids: int) -> None:
    """Copy a state and add ids that reach the end of their retention from now on, a hundred per second."""
    start = int((time.time() - EXPIRY_DAYS * DAY) * 1000) + 5000
    _copy_with_ids(source, path, ids, start, ids * 10)
