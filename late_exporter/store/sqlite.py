"""A store in a SQLite database."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path

import msgspec

from late_exporter.errors import StoreError
from late_exporter.metrics.counting import effective_increments
from late_exporter.model import (
    MINUTE_MS,
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
from late_exporter.store.batches import select_new, switched_coverage
from late_exporter.store.creation import create_schema, create_state
from late_exporter.store.lockfile import NOT_A_STATE, StateLock, file_identity, wal_size
from late_exporter.store.outbox import SqliteOutbox, queue_events
from late_exporter.store.pruning import expired_logs
from late_exporter.store.restored import mark_restored
from late_exporter.store.schema import APPLICATION_ID, MIGRATIONS, migrate
from late_exporter.store.series_rows import SeriesCursor

HAS_PENDING = "SELECT EXISTS (SELECT 1 FROM pending WHERE scope = ?)"
SIZES = (  # one statement, because each commit asks for them
    "SELECT coalesce(sum(logs), 0), (SELECT page_count * page_size FROM pragma_page_count, pragma_page_size)"
    " FROM scope WHERE workspace = ?"
)


class SqliteStore:
    """A store in a SQLite file, or in memory.

    Args:
        path: Path of the file, which is created with its directories if missing; None for memory.

    Raises:
        StoreError: The file is in use by another process, belongs to another program, is damaged, was written by a
            newer version, or cannot be written.
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
        if self._lock:
            self._create_if_missing(self._lock)
        with queries.store_errors(self._name):
            self._connection = sqlite3.connect(
                self._path or ":memory:", isolation_level=None, check_same_thread=False, timeout=5.0
            )
        try:
            with queries.store_errors(self._name):
                self._migrate()
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

    def _create_if_missing(self, lock: StateLock) -> None:
        if lock.path.exists():
            return
        create_state(lock, create_schema)
        lock.record_commit(0)
        lock.lock_database()

    def _migrate(self) -> None:
        execute = self._connection.execute
        (application,) = execute("PRAGMA application_id").fetchone()
        (version,) = execute("PRAGMA user_version").fetchone()
        (tables,) = execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if application != APPLICATION_ID and (application or tables):
            raise StoreError(f"{self._name} is the database of another program; it was not changed")
        if version < 0 or bool(version) != bool(application):  # A state has both numbers, a new database neither.
            raise StoreError(f"{self._name} {NOT_A_STATE}")
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self._name} was written by a newer late-exporter"
                f" (schema {version}, this version supports {len(MIGRATIONS)}); it was not changed"
            )
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        with self._transaction():
            migrate(self._connection, version)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

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

    def renew_identity(self, scope: Scope, generation: str) -> FeedState:
        with queries.store_errors(self._name):
            scope_id = self._scope_id(scope)
            with self._transaction():
                state = queries.feed_state(self._connection, scope_id)
                newest = queries.newest_created(self._connection, scope_id)
                coverage = msgspec.json.encode(switched_coverage(state.coverage, newest, generation))
                self._connection.execute("DELETE FROM pending WHERE scope = ?", (scope_id,))
                self._connection.execute("UPDATE scope SET coverage = ? WHERE id = ?", (coverage, scope_id))
            return queries.feed_state(self._connection, scope_id)

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
        log_count, pruned_count = self._update_scope(scope_id, batch, first.values(), observation_count=len(new)), 0
        has_changed = bool(new)
        queue_events(self._connection, scope_id, new, batch.committed_at)
        pending_changed = self._update_pending(scope_id, new, batch.deleted_keys)
        if batch.prune_before is not None:
            minutes = expired_logs(self._connection, scope_id, batch.prune_before, self._walk_cursors)
            has_changed |= bool(minutes)
            pruned_count = len(minutes)
            pending_changed |= bool(minutes) and self._delete_logs(scope_id, minutes)
        # Read before COMMIT: a failure after it would have the batch committed twice.
        result = CommitResult(
            observations=new,
            series_values=series_values,
            pending_logs=queries.pending_logs(self._connection, scope_id) if pending_changed else None,
            log_count=log_count - pruned_count,
            keeps_logs=not has_changed,
        )
        return result, len(first) - pruned_count

    def mark_served(self, series: Sequence[Series]) -> Sequence[Series]:
        self._require_same_file()
        with queries.store_errors(self._name), self._transaction():
            return series_rows.mark_served(self._connection, series)

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

    def _update_scope(
        self, scope_id: int, batch: Batch, first: Collection[Observation], *, observation_count: int
    ) -> int:
        """Count the logs of a batch and store its coverage; return the number of stored logs."""
        times = [observation.entry.created for observation in first]
        minutes = Counter(created // MINUTE_MS for created in times if created is not None)
        self._connection.executemany(
            "INSERT INTO logs_per_minute (scope, minute, logs) VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET logs = logs + excluded.logs",
            [(scope_id, minute, log_count) for minute, log_count in minutes.items()],
        )
        coverage = msgspec.json.encode(batch.coverage) if batch.coverage else None
        is_caught_up = batch.coverage is not None and batch.coverage.is_caught_up
        log_count: int
        ((log_count,),) = self._connection.execute(
            "UPDATE scope SET logs = logs + ?, observations = observations + ?, coverage = coalesce(?, coverage),"
            " progress = coalesce(?, progress), commits = ?, restored = restored AND NOT ? WHERE id = ?"
            " RETURNING logs",
            (
                len(first),
                observation_count,
                coverage,
                batch.progress,
                self._commit_number + 1,
                is_caught_up,
                scope_id,
            ),
        )
        return log_count

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

    def _delete_logs(self, scope_id: int, minutes: Mapping[str, int]) -> bool:
        """Delete logs, with their minutes by key; return whether one of them was pending."""
        connection = self._connection
        keys = [(scope_id, key) for key in minutes]
        observation_count = connection.executemany("DELETE FROM observation WHERE scope = ? AND key = ?", keys).rowcount
        pending_count = connection.executemany("DELETE FROM pending WHERE scope = ? AND key = ?", keys).rowcount
        connection.executemany(
            "UPDATE logs_per_minute SET logs = logs - ? WHERE scope = ? AND minute = ?",
            [(log_count, scope_id, minute) for minute, log_count in Counter(minutes.values()).items()],
        )
        connection.execute("DELETE FROM logs_per_minute WHERE scope = ? AND logs <= 0", (scope_id,))
        connection.execute(
            "UPDATE scope SET logs = logs - ?, pruned = pruned + ? WHERE id = ?",
            (len(minutes), max(0, observation_count), scope_id),
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
