"""What tests do with a store: commit, count, and look at what is stored; and a store that fails on demand."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from late_exporter.errors import StoreError
from late_exporter.model import IncCounter, LogEntry, Scope, Series, SeriesValue
from late_exporter.store import Store, parse_url
from late_exporter.store.migrations import TABLES
from late_exporter.store.records import Batch, CommitResult, Observation
from late_exporter.store.snapshot import open_snapshot
from tests.support.exporter import ObservedStore

SCOPE = Scope("acme", "publishing")
OTHER = Scope("umbrella", "publishing")
LOGS = "late_publishing_logs_total"

NOW = 29_333_333 * 60_000
"""A minute in October 2025."""


def observation(
    key: str, status: str = "success", created: int | None = NOW, *, workspace: str = "acme", **facts: Any
) -> Observation:
    """Return an observation of a log with one increment."""
    entry = LogEntry(key=key, status=status, created=created, platform="tiktok", action="media_upload", **facts)
    return Observation(entry, (IncCounter(LOGS, (workspace, "tiktok", "media_upload", status)),))


def commit(
    store: Store, *observations: Observation, scope: Scope = SCOPE, at: float = 1.0, **rest: Any
) -> CommitResult:
    """Commit observations of a feed; raise the error if there is one."""
    batch = Batch(scope=scope, series_created_at=at, observations=observations, **rest)
    return commit_batch(store, batch)


def commit_batch(store: Store | ObservedStore, batch: Batch) -> CommitResult:
    """Commit a batch of a feed, which is loaded if it was not; raise the error if there is one."""
    if batch.scope.feed not in store.feeds.get(batch.scope.workspace, {}):
        store.feed_state(batch.scope)
    (result,) = store.commit_all([batch])
    if isinstance(result, StoreError):
        raise result
    return result


def stored_series(store: Store | ObservedStore, workspace: str = "acme") -> Mapping[Series, SeriesValue]:
    """Return the values of all series of a workspace."""
    return store.series_page(workspace, "", 1_000_000)[0]


def log_count(store: Store, status: str = "success", workspace: str = "acme") -> object:
    """Return the counter of the observations in a status."""
    found = stored_series(store, workspace).get((LOGS, (workspace, "tiktok", "media_upload", status)))
    return found.value if found else 0


def execute(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Execute statements in a state without the store; return the rows of the last one."""
    if (path := parse_url(url) if url.startswith("sqlite:") else None) is None:
        from tests.support.postgres import Cluster  # noqa: PLC0415 - most tests do not need psycopg

        return Cluster.execute(url, *statements)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows: list[tuple[Any, ...]] = []
        for statement in statements:
            rows = connection.execute(statement).fetchall()
    return rows


def all_rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of all tables of a state, as far as they do not depend on its ids."""
    of_feed = "JOIN late_feed AS f ON f.id = feed JOIN late_workspace AS w ON w.id = f.workspace"
    columns = {
        "late_workspace": "name FROM late_workspace",
        "late_feed": "w.name, f.name, coverage, progress, failures, logs, observations, pruned FROM late_feed AS f"
        " JOIN late_workspace AS w ON w.id = f.workspace",
        "late_log": f"w.name, f.name, key, status, created FROM late_log {of_feed}",
        "late_pending": f"w.name, f.name, key, created, platform, action, post_id FROM late_pending {of_feed}",
        "late_series": "w.name, s.id, family, labels, value, created FROM late_series AS s"
        " JOIN late_workspace AS w ON w.id = workspace",
    }
    assert [*columns] == [*TABLES]
    return {table: sorted(execute(url, f"SELECT {each}"), key=repr) for table, each in columns.items()}


def read_scopes(url: str) -> Sequence[Scope]:
    """Return the feeds of a state."""
    with open_snapshot(url) as snapshot:
        return snapshot.scopes


def problems(url: str) -> list[str]:
    """Return the inconsistencies of a state, or that it cannot be read."""
    try:
        with open_snapshot(url) as snapshot:
            return [*snapshot.inconsistencies()]
    except StoreError as exc:
        return [str(exc)]
