"""The state in one SQLite file."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from late_exporter.errors import StoreError
from late_exporter.metrics.aggregation import apply_increments, decode_value, encode_value
from late_exporter.model import (
    PENDING,
    Batch,
    CommitResult,
    Coverage,
    FeedAccounting,
    FeedState,
    Increment,
    KnownLogs,
    Labels,
    LogEntry,
    Observation,
    Scope,
    Series,
    SeriesValue,
    Value,
)
from late_exporter.store import queries
from late_exporter.store.lockfile import create, file_identity, lock, require_database
from late_exporter.store.schema import APPLICATION_ID, MIGRATIONS

__all__ = ["SqliteStore"]

MINUTE = 60_000
EXPIRY_SLACK_MINUTES = 2
"""Minutes by which the API's own expiry may be early or late."""

PRUNE_ROWS = 10_000
"""Rows looked at by one commit in search of logs to forget."""


# What identity.adopted says.
INTERIM_KEY = "printf('%013d-', coalesce(sighting.created, 0)) || coalesce(mark, '') || '@' || sighting.key"


class SqliteStore:
    """A store in a SQLite file of its own, or in memory.

    Args:
        path: The file, created with its folders where missing; None for memory.

    Raises:
        StoreError: The file is in use by another process, is not ours, is damaged, is newer than this version, or
            cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._name = str(path) if path else "the state in memory"
        self._scope_ids: dict[Scope, int] = {}
        self._prune_cursors: dict[int, str] = {}
        self._lock = lock(path) if path else None
        try:
            self._open()
        except BaseException:
            if self._lock:
                self._lock.close()
            raise

    def _open(self) -> None:
        if self._path:
            require_database(self._path)
            create(self._path)
        with self._store_errors():
            self._connection = sqlite3.connect(
                self._path or ":memory:", isolation_level=None, check_same_thread=False, timeout=5.0
            )
        try:
            with self._store_errors():
                self._migrate()
            self._identity = file_identity(self._path) if self._path else None
        except BaseException:
            self._connection.close()
            raise

    def _migrate(self) -> None:
        execute = self._connection.execute
        (application,) = execute("PRAGMA application_id").fetchone()
        (version,) = execute("PRAGMA user_version").fetchone()
        (tables,) = execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if application != APPLICATION_ID and (application or tables):
            raise StoreError(f"{self._name} is the database of another program; it is left as it is")
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self._name} was written by a newer late-exporter"
                f" (schema {version}, this one knows {len(MIGRATIONS)}); it is left as it is"
            )
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        with self._transaction():
            for step in MIGRATIONS[version:]:
                for statement in step.split(";"):
                    execute(statement)
            execute(f"PRAGMA application_id = {APPLICATION_ID}")
            execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, msgspec.MsgspecError) as exc:
            raise StoreError(f"{self._name}: {exc}") from exc

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
        """See Store."""
        with self._store_errors():
            return queries.series_values(self._connection)

    def feed_state(self, scope: Scope) -> FeedState:
        """See Store."""
        with self._store_errors():
            return queries.feed_state(self._connection, self._scope_id(scope))

    def _scope_id(self, scope: Scope) -> int:
        if scope not in self._scope_ids:
            names = (scope.workspace, scope.feed)
            self._connection.execute("INSERT OR IGNORE INTO scope (workspace, feed) VALUES (?, ?)", names)
            row = self._connection.execute("SELECT id FROM scope WHERE workspace = ? AND feed = ?", names).fetchone()
            self._scope_ids[scope] = row[0]
        return self._scope_ids[scope]

    def lookup(self, scope: Scope, keys: Sequence[str], *, since: int) -> KnownLogs:
        """See Store."""
        with self._store_errors():
            number = self._scope_id(scope)
            statuses = queries.stored_statuses(self._connection, number, keys)
            return KnownLogs(
                {key: frozenset(found) for key, found in statuses.items()}, *self._log_counts(number, since)
            )

    def begin_rekey(self, scope: Scope, coverage: Coverage) -> None:
        """See Store."""
        with self._store_errors():
            number = self._scope_id(scope)
            with self._transaction():
                self._connection.execute(
                    f"UPDATE pending SET key = (SELECT {INTERIM_KEY} FROM sighting"  # noqa: S608 - a constant
                    " WHERE sighting.scope = pending.scope AND sighting.key = pending.key LIMIT 1) WHERE scope = ?",
                    (number,),
                )
                self._connection.execute(
                    f"UPDATE sighting SET key = {INTERIM_KEY}, mark = NULL WHERE scope = ?",  # noqa: S608 - a constant
                    (number,),
                )
                self._connection.execute(
                    "UPDATE scope SET coverage = ? WHERE id = ?", (msgspec.json.encode(coverage), number)
                )
            self._prune_cursors.pop(number, None)

    def rekey(self, scope: Scope, entries: Sequence[LogEntry], *, has_pending: bool) -> bool:
        """See Store."""
        with self._store_errors():
            number = self._scope_id(scope)
            found = queries.match_page(self._connection, number, entries, has_pending=has_pending)
            if not found:
                return False
            with self._transaction():
                for key, entry in found.items():
                    self._rekey_log(number, key, entry, settles=has_pending)
            return True

    def _rekey_log(self, scope: int, key: str, entry: LogEntry, *, settles: bool) -> None:
        """Hold a log under the key of an entry; logs that are alike but for their status become one."""
        execute = self._connection.execute
        (merged,) = execute(
            "SELECT EXISTS (SELECT 1 FROM sighting WHERE scope = ? AND key = ?)", (scope, entry.key)
        ).fetchone()
        execute(
            "UPDATE OR IGNORE sighting SET key = ?1, status = coalesce(?2, status),"
            " detail = CASE WHEN detail = ?5 THEN detail END WHERE scope = ?3 AND key = ?4",
            (entry.key, None if settles else entry.status, scope, key, entry.status_fingerprint),
        )
        execute("UPDATE OR REPLACE pending SET key = ? WHERE scope = ? AND key = ?", (entry.key, scope, key))
        (left,) = execute("SELECT EXISTS (SELECT 1 FROM sighting WHERE scope = ? AND key = ?)", (scope, key)).fetchone()
        if merged and not left:
            execute("UPDATE scope SET logs = logs - 1 WHERE id = ?", (scope,))
            minute = None if entry.created is None else entry.created // MINUTE
            execute("UPDATE tally SET logs = logs - 1 WHERE scope = ? AND minute = ?", (scope, minute))

    def accounting(self, scope: Scope) -> FeedAccounting:
        """See Store."""
        with self._store_errors():
            return queries.accounting(self._connection, self._scope_id(scope))

    def _log_counts(self, scope: int, since: int) -> tuple[int, int]:
        earliest, latest = since // MINUTE - EXPIRY_SLACK_MINUTES, since // MINUTE + EXPIRY_SLACK_MINUTES
        held, fading = self._connection.execute(
            "SELECT logs - (SELECT coalesce(sum(logs), 0) FROM tally WHERE scope = id AND minute < ?1),"
            " (SELECT coalesce(sum(logs), 0) FROM tally WHERE scope = id AND minute BETWEEN ?1 AND ?2)"
            " FROM scope WHERE id = ?3",
            (earliest, latest, scope),
        ).fetchone()
        return held, fading

    def commit(self, scope: Scope, batch: Batch) -> CommitResult:
        """See Store."""
        if self._path and file_identity(self._path) != self._identity:
            raise StoreError(f"{self._name}: the state was replaced by another file; restart to use that one")
        with self._store_errors():
            number = self._scope_id(scope)
            with self._transaction():
                inserted, first = self._insert(number, batch.observations)
                totals = self._apply_increments(_effective_increments(batch, inserted, first), batch.committed_at)
                self._update_scope(number, batch, first.values(), counted=len(inserted))
                moved = self._update_pending(number, inserted, batch.deleted_keys)
                if batch.prune_before is not None:
                    moved |= self._prune(number, batch.prune_before)
                # Read before COMMIT: once it is done, nothing may fail.
                (logs,) = self._connection.execute("SELECT logs FROM scope WHERE id = ?", (number,)).fetchone()
                pendings = queries.pending_logs(self._connection, number) if moved else None
            return CommitResult(observations=inserted, series_values=totals, pending_logs=pendings, log_count=logs)

    def _insert(self, scope: int, sightings: Sequence[Observation]) -> tuple[list[Observation], dict[str, Observation]]:
        """Insert what is new; returns it, and by key the sightings that are the first ones of their logs."""
        statuses = queries.stored_statuses(self._connection, scope, [sighting.entry.key for sighting in sightings])
        inserted: list[Observation] = []
        first: dict[str, Observation] = {}
        for sighting in sightings:
            entry = sighting.entry
            found = statuses.setdefault(entry.key, set())
            if entry.status in found:
                continue
            if not found:
                first[entry.key] = sighting
            found.add(entry.status)
            inserted.append(sighting)
        self._connection.executemany(
            "INSERT INTO sighting VALUES (?, ?, ?, ?, ?, ?)",
            [(scope, s.entry.key, s.entry.status, s.entry.created, *_match_columns(s.entry)) for s in inserted],
        )
        return inserted, first

    def _apply_increments(self, increments: Iterable[Increment], at: float) -> dict[Series, SeriesValue]:
        accounts: dict[Series, list[Increment]] = {}
        for increment in increments:
            accounts.setdefault((increment.family, increment.labels), []).append(increment)
        totals = {}
        for series, entries in accounts.items():
            value, birth = self._load_series(series, at)
            totals[series] = SeriesValue(apply_increments(entries, value), birth)
        self._connection.executemany(
            "INSERT INTO series VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            [
                (family, _encode_labels(labels), encode_value(total.value), total.created)
                for (family, labels), total in totals.items()
            ],
        )
        return totals

    def _load_series(self, series: Series, at: float) -> tuple[Value | None, float]:
        family, labels = series
        row = self._connection.execute(
            "SELECT value, created FROM series WHERE family = ? AND labels = ?", (family, _encode_labels(labels))
        ).fetchone()
        return (decode_value(row[0]), row[1]) if row else (None, at)

    def _update_scope(self, scope: int, batch: Batch, first: Collection[Observation], *, counted: int) -> None:
        minutes = Counter(sighting.entry.created // MINUTE for sighting in first if sighting.entry.created is not None)
        self._connection.executemany(
            "INSERT INTO tally VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET logs = logs + excluded.logs",
            [(scope, minute, logs) for minute, logs in minutes.items()],
        )
        self._connection.execute(
            "UPDATE scope SET logs = logs + ?, counted = counted + ?, coverage = coalesce(?, coverage) WHERE id = ?",
            (len(first), counted, msgspec.json.encode(batch.coverage) if batch.coverage else None, scope),
        )

    def _update_pending(self, scope: int, inserted: Sequence[Observation], deleted_keys: Sequence[str]) -> bool:
        added = [
            (scope, s.entry.key, s.entry.created or 0, s.entry.platform, s.entry.action, s.entry.post_id)
            for s in inserted
            if s.entry.status == PENDING
        ]
        settled = [(scope, s.entry.key) for s in inserted if s.entry.status != PENDING]
        settled += [(scope, key) for key in deleted_keys]
        before = self._connection.total_changes
        self._connection.executemany(
            # A log known in another status has settled before: an old answer must not bring it back.
            "INSERT OR IGNORE INTO pending SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS"
            " (SELECT 1 FROM sighting WHERE scope = ?1 AND key = ?2 AND status <> 'pending')",
            added,
        )
        self._connection.executemany("DELETE FROM pending WHERE scope = ? AND key = ?", settled)
        return self._connection.total_changes > before

    def _prune(self, scope: int, before: int) -> bool:
        """Forget some of the logs that are due; tells whether a pending one was among them."""
        minute = before // MINUTE
        execute = self._connection.execute
        (due,) = execute("SELECT count(*) FROM tally WHERE scope = ? AND minute < ?", (scope, minute)).fetchone()
        if not due:
            return False
        found = execute(
            "SELECT key, created FROM sighting WHERE scope = ? AND key > ? ORDER BY key LIMIT ?",
            (scope, self._prune_cursors.get(scope, ""), PRUNE_ROWS),
        ).fetchall()
        self._prune_cursors[scope] = found[-1][0] if len(found) == PRUNE_ROWS else ""
        old = {key: created // MINUTE for key, created in found if created is not None and created < minute * MINUTE}
        return self._delete_logs(scope, old)

    def _delete_logs(self, scope: int, old: Mapping[str, int]) -> bool:
        connection = self._connection
        keys = [(scope, key) for key in old]
        forgotten = connection.executemany("DELETE FROM sighting WHERE scope = ? AND key = ?", keys).rowcount
        waiting = connection.executemany("DELETE FROM pending WHERE scope = ? AND key = ?", keys).rowcount
        connection.executemany(
            "UPDATE tally SET logs = logs - ? WHERE scope = ? AND minute = ?",
            [(logs, scope, minute) for minute, logs in Counter(old.values()).items()],
        )
        connection.execute("DELETE FROM tally WHERE scope = ? AND logs <= 0", (scope,))
        connection.execute(
            "UPDATE scope SET logs = logs - ?, forgotten = forgotten + ? WHERE id = ?",
            (len(old), max(0, forgotten), scope),
        )
        return waiting > 0

    def size(self, workspace: str) -> tuple[int, int]:
        """See Store."""
        with self._store_errors():
            own, every = self._connection.execute(
                "SELECT coalesce(sum(logs) FILTER (WHERE workspace = ?), 0), coalesce(sum(logs), 0) FROM scope",
                (workspace,),
            ).fetchone()
            (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
            (page,) = self._connection.execute("PRAGMA page_size").fetchone()
        journal = Path(f"{self._path}-wal") if self._path else None
        size = pages * page + (journal.stat().st_size if journal and journal.exists() else 0)
        return own, size * own // every if every else size

    def close(self) -> None:
        """See Store."""
        self._connection.close()
        if self._lock:
            self._lock.close()


def _match_columns(entry: LogEntry) -> tuple[str | None, str | None]:
    """By what a log will be recognized; one that has its mark in its key needs none."""
    return (entry.fingerprint, entry.status_fingerprint) if entry.fingerprint else (None, None)


def _effective_increments(
    batch: Batch, inserted: Sequence[Observation], first: Mapping[str, Observation]
) -> list[Increment]:
    """The increments that count; of those that count once a log, only a log's first ones."""
    increments = list(batch.increments)
    for sighting in inserted:
        once = first.get(sighting.entry.key) is sighting
        increments += [increment for increment in sighting.increments if once or not increment.once_per_log]
    return increments


def _encode_labels(labels: Labels) -> str:
    return msgspec.json.encode(labels).decode()
