"""A store in a SQLite database."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from operator import attrgetter
from pathlib import Path

import msgspec

from late_exporter.errors import StoreError
from late_exporter.metrics.counting import effective_increments
from late_exporter.model import (
    PENDING,
    Batch,
    CommitResult,
    FeedAccounting,
    FeedCommit,
    FeedState,
    Observation,
    Scope,
)
from late_exporter.series import Series, SeriesValue
from late_exporter.store import queries, series_rows
from late_exporter.store.batches import select_new
from late_exporter.store.lockfile import StateLock, file_identity, wal_size
from late_exporter.store.outbox import SqliteOutbox, queue_events
from late_exporter.store.pruning import expired_logs
from late_exporter.store.restored import mark_restored
from late_exporter.store.schema import create_schema, create_state, require_schema
from late_exporter.store.series_rows import SeriesCursor

HAS_PENDING = "SELECT EXISTS (SELECT 1 FROM pending WHERE scope = ?)"
NEWEST_TIME = "SELECT max(created) FROM observation WHERE scope = ? AND created <= ? AND status <> 'rejected'"
SIZES = (  # one statement, because each commit asks for them
    "SELECT coalesce(sum(logs), 0), (SELECT page_count * page_size FROM pragma_page_count, pragma_page_size)"
    " FROM scope WHERE workspace = ?"
)


class SqliteStore:
    """A store in a SQLite file, or in memory.

    Args:
        path: Path of the file, which is created with its directories if missing; None for memory.

    Raises:
        StoreError: The file is in use by another process, belongs to another program, is damaged, has another schema,
            or cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._name = str(path) if path else "the state in memory"
        self._scope_ids: dict[Scope, int] = {}
        self._total_logs: int | None = None
        self._walk_cursors: dict[int, str] = {}
        self._lock = StateLock(path) if path else None
        try:
            self._open()
        except BaseException:
            if self._lock:
                self._lock.close()
            raise

    def _open(self) -> None:
        if self._lock and not self._lock.path.exists():
            with create_state(self._lock):
                pass
            self._lock.record_commit(0)
            self._lock.lock_database()
        with queries.store_errors(self._name):
            self._connection = sqlite3.connect(
                self._path or ":memory:", isolation_level=None, check_same_thread=False, timeout=5.0
            )
        try:
            with queries.store_errors(self._name):
                if self._path is None:
                    create_schema(self._connection)
                require_schema(self._connection, self._name)
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                self._commit_number = queries.last_commit(self._connection)
                if self._lock and self._commit_number < self._lock.last_commit:
                    self._commit_number = self._lock.last_commit
                    with self._transaction():
                        mark_restored(self._connection, self._commit_number)
            self._identity = file_identity(self._path) if self._path else None
            self.outbox = SqliteOutbox(self._connection, self._name)
        except BaseException:
            self._connection.close()
            raise

    def _transaction(self) -> AbstractContextManager[None]:
        return queries.transaction(self._connection)

    def series_values(self) -> Mapping[Series, SeriesValue]:
        with queries.store_errors(self._name):
            return series_rows.load_all(self._connection)

    def series_page(
        self, after: SeriesCursor, *, limit: int, workspaces: Collection[str]
    ) -> tuple[Mapping[Series, SeriesValue], SeriesCursor]:
        with queries.store_errors(self._name):
            return series_rows.load_page(self._connection, after, limit, workspaces)

    def feed_state(self, scope: Scope) -> FeedState:
        return self.feed_states([scope])[scope]

    def feed_states(self, scopes: Sequence[Scope]) -> Mapping[Scope, FeedState]:
        with queries.store_errors(self._name):
            with self._transaction():
                self._connection.executemany(
                    "INSERT OR IGNORE INTO scope (workspace, feed) VALUES (?, ?)",
                    [(scope.workspace, scope.feed) for scope in scopes],
                )
            return {scope: queries.feed_state(self._connection, self._scope_id(scope)) for scope in scopes}

    def _scope_id(self, scope: Scope) -> int:
        if scope not in self._scope_ids:
            names = (scope.workspace, scope.feed)
            self._connection.execute("INSERT OR IGNORE INTO scope (workspace, feed) VALUES (?, ?)", names)
            row = self._connection.execute("SELECT id FROM scope WHERE workspace = ? AND feed = ?", names).fetchone()
            self._scope_ids[scope] = row[0]
        return self._scope_ids[scope]

    def lookup(self, scope: Scope, keys: Sequence[str]) -> Mapping[str, frozenset[str]]:
        with queries.store_errors(self._name):
            return queries.stored_statuses(self._connection, self._scope_id(scope), keys)

    def newest_time(self, scope: Scope, *, until: int) -> int | None:
        with queries.store_errors(self._name):
            row: tuple[int | None] = self._connection.execute(NEWEST_TIME, (self._scope_id(scope), until)).fetchone()
            return row[0]

    def accounting(self, scope: Scope) -> FeedAccounting:
        with queries.store_errors(self._name):
            return queries.accounting(self._connection, self._scope_id(scope), scope.workspace)

    def commit_all(self, commits: Sequence[FeedCommit]) -> Sequence[CommitResult | StoreError]:
        try:
            with queries.store_errors(self._name):
                return self._commit_group(commits)
        except StoreError as exc:
            if len(commits) == 1:
                return [exc]
        # The transaction was rolled back. One batch may be at fault, and the others must not wait for it to go away.
        return [result for commit in commits for result in self.commit_all([commit])]

    def _commit_group(self, commits: Sequence[FeedCommit]) -> Sequence[CommitResult]:
        """Commit batches in one transaction; raise an error if it was rolled back."""
        self._require_same_file()
        scope_ids = [self._scope_id(commit.scope) for commit in commits]
        total_logs, results = self._total_log_count(), list[CommitResult]()
        with self._transaction():
            for scope_id, commit in zip(scope_ids, commits, strict=True):
                result, added_count = self._apply_batch(scope_id, commit.batch)
                total_logs += added_count
                results.append(result)
        self._total_logs = total_logs
        if results:  # otherwise the state has no such number
            self._commit_number += 1
            if self._lock:
                self._lock.record_commit(self._commit_number)
        return results

    def _apply_batch(self, scope_id: int, batch: Batch) -> tuple[CommitResult, int]:
        """Apply a batch within a transaction; return the result, and by how much the number of logs has grown."""
        new, first = self._insert(scope_id, batch.observations)
        increments = effective_increments(batch, new, first)
        series_values = series_rows.apply(self._connection, increments, batch)
        log_count = self._update_scope(scope_id, batch, log_count=len(first), observation_count=len(new))
        queue_events(self._connection, scope_id, new, batch.committed_at)
        pending_changed = self._update_pending(scope_id, new, batch.deleted_keys)
        expired: Collection[str] = ()
        if batch.prune_before is not None:
            expired = expired_logs(self._connection, scope_id, batch.prune_before, self._walk_cursors)
            pending_changed |= bool(expired) and self._delete_logs(scope_id, expired)
        # Read before COMMIT: a failure after it would have the batch committed twice.
        result = CommitResult(
            observations=new,
            series_values=series_values,
            pending_logs=queries.pending_logs(self._connection, scope_id) if pending_changed else None,
            log_count=log_count - len(expired),
            keeps_logs=not (new or expired),
        )
        return result, len(first) - len(expired)

    def _require_same_file(self) -> None:
        if self._path and file_identity(self._path) != self._identity:
            raise StoreError(f"{self._name}: the state was replaced by another file; restart to use that one")

    def _insert(
        self, scope_id: int, observations: Sequence[Observation]
    ) -> tuple[list[Observation], dict[str, Observation]]:
        """Insert the observations that are new.

        Returns:
            The new observations, and by key those of them that are the first of their logs.
        """
        if not observations:
            return [], {}
        keys = [observation.entry.key for observation in observations]
        statuses = queries.stored_statuses(self._connection, scope_id, keys)
        new, first = select_new(observations, statuses)
        self._connection.executemany(
            "INSERT INTO observation VALUES (?, ?, ?, ?)",
            (
                (scope_id, log.key, log.status, log.created)
                # In the order of the table: a list is read from new to old, which would split every page of the B-tree.
                for log in sorted([observation.entry for observation in new], key=attrgetter("key"))
            ),
        )
        return new, first

    def _update_scope(self, scope_id: int, batch: Batch, *, log_count: int, observation_count: int) -> int:
        """Add the numbers of a batch and store its coverage; return the number of stored logs."""
        coverage = msgspec.json.encode(batch.coverage) if batch.coverage else None
        is_caught_up = batch.coverage is not None and batch.coverage.is_caught_up
        ((stored_count,),) = self._connection.execute(
            "UPDATE scope SET logs = logs + ?, observations = observations + ?, coverage = coalesce(?, coverage),"
            " progress = coalesce(?, progress), commits = ?, restored = restored AND NOT ? WHERE id = ?"
            " RETURNING logs",
            (
                log_count,
                observation_count,
                coverage,
                batch.progress,
                self._commit_number + 1,
                is_caught_up,
                scope_id,
            ),
        )
        return int(stored_count)

    def _update_pending(self, scope_id: int, new: Sequence[Observation], deleted_keys: Sequence[str]) -> bool:
        """Return whether a pending log was added or removed."""
        if not new and not deleted_keys:
            return False
        pending = [
            (scope_id, o.entry.key, o.entry.created or 0, o.entry.platform, o.entry.action, o.entry.post_id)
            for o in new
            if o.entry.status == PENDING
        ]
        before = self._connection.total_changes
        self._connection.executemany(
            # A log that has another status is final: an outdated response must not make it pending again.
            "INSERT OR IGNORE INTO pending SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS"
            " (SELECT 1 FROM observation WHERE scope = ?1 AND key = ?2 AND status <> 'pending')",
            pending,
        )
        (has_pending,) = self._connection.execute(HAS_PENDING, (scope_id,)).fetchone()
        if has_pending:  # Usually none is, and all logs of a catch-up are final.
            final = [o.entry.key for o in new if o.entry.status != PENDING]
            self._connection.executemany(
                "DELETE FROM pending WHERE scope = ? AND key = ?", [(scope_id, key) for key in (*final, *deleted_keys)]
            )
        return self._connection.total_changes > before

    def _delete_logs(self, scope_id: int, expired: Collection[str]) -> bool:
        """Delete logs by their keys; return whether one of them was pending."""
        connection = self._connection
        keys = [(scope_id, key) for key in expired]
        observation_count = connection.executemany("DELETE FROM observation WHERE scope = ? AND key = ?", keys).rowcount
        pending_count = connection.executemany("DELETE FROM pending WHERE scope = ? AND key = ?", keys).rowcount
        connection.execute(
            "UPDATE scope SET logs = logs - ?, pruned = pruned + ? WHERE id = ?",
            (len(expired), max(0, observation_count), scope_id),
        )
        return pending_count > 0

    def size(self, workspace: str) -> tuple[int, int]:
        with queries.store_errors(self._name):
            log_count, size = self._connection.execute(SIZES, (workspace,)).fetchone()
            total = self._total_log_count()
        size += wal_size(self._path) if self._path else 0
        return log_count, size * log_count // total if total else size

    def _total_log_count(self) -> int:
        # Counted once and then kept up to date: each commit asks for it, however many workspaces there are.
        if self._total_logs is None:
            row: tuple[int] = self._connection.execute("SELECT coalesce(sum(logs), 0) FROM scope").fetchone()
            self._total_logs = row[0]
        return self._total_logs

    def close(self) -> None:
        self._connection.close()
        if self._lock:
            self._lock.close()
