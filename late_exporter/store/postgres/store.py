"""A store in a PostgreSQL database."""

from __future__ import annotations

import math
import secrets
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from late_exporter.errors import StoreError, StoreFenced
from late_exporter.model import (
    DAY_MS,
    CommitResult,
    FeedAccounting,
    FeedCommit,
    FeedState,
    Scope,
)
from late_exporter.series import Series, SeriesValue
from late_exporter.store.postgres import database, queries, statements, transactions
from late_exporter.store.postgres.database import (
    BEGIN,
    EXPORTER_NAME,
    LONG_DEADLINE_SECONDS,
    SETTINGS,
    Database,
    DeadlineConnection,
)
from late_exporter.store.postgres.days import Partitions
from late_exporter.store.postgres.feed_rows import FeedRow, FeedWrite, UnconfirmedWrite, merge, without_applied
from late_exporter.store.postgres.members import require_no_replicas
from late_exporter.store.postgres.outbox import PostgresOutbox
from late_exporter.store.postgres.restored import end_regressed
from late_exporter.store.postgres.schema import create_schema
from late_exporter.store.series_rows import SeriesCursor

MAX_TRIES = 2
"""Times that a transaction is sent, if the connection is lost."""

ROWS_PER_SECOND = 1000.0
"""Number of rows for which a commit gets another second."""

PRUNE_RETRY_SECONDS = 3600.0
"""Seconds between two attempts to drop expired days, of which a long transaction, such as a backup, fails each."""

SIZE_INTERVAL = 60.0
"""Seconds for which the size of the database is not queried again."""

CLAIM = """
    WITH locked AS (SELECT id FROM late_scope ORDER BY id FOR UPDATE)
    UPDATE late_scope s SET token = %s FROM locked WHERE s.id = locked.id
    RETURNING s.id, s.workspace, s.feed, s.revision, s.logs
"""

ADD_SCOPE = (
    "INSERT INTO late_scope (workspace, feed, token) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
    " RETURNING id, revision, logs"
)
READ_SCOPE = "SELECT id, revision, logs FROM late_scope WHERE workspace = %s AND feed = %s"
READ_FENCE = "SELECT token, revision, last_write FROM late_scope WHERE id = %s FOR UPDATE"

FENCED = "another late-exporter has taken this state over, so nothing was counted; stop one of the two"
REMOVED = "the workspace was removed from the state; restart late-exporter to begin it again"


class PostgresStore:
    """A store in a PostgreSQL database.

    A start draws a fencing token into every feed of the state. Each transaction requires it, and the revision that the
    previous transaction of this process has left: a process that was replaced can change nothing.

    Args:
        url: URL of the database.
        password_file: File with the password.

    Raises:
        ConfigError: The URL is not usable.
        StoreError: The server cannot be reached or refuses what is needed, or the state has another schema.
    """

    session_name = EXPORTER_NAME
    fenced_message = FENCED

    def __init__(self, url: str, password_file: Path | None = None) -> None:
        self._database = Database(url, password_file, application_name=self.session_name)
        self._token = secrets.randbits(62)
        self.outbox = PostgresOutbox(self._database, self._used_tokens)
        self._rows: dict[Scope, FeedRow] = {}
        self._log_counts = Counter[str]()
        self._partitions = Partitions()
        self._pruned_day = 0
        self._prune_failed_at = -math.inf
        self._size: tuple[float, int, int] | None = None
        try:
            self._open()
        except BaseException:
            self._database.close()
            raise

    def _open(self) -> None:
        deadline = time.monotonic() + LONG_DEADLINE_SECONDS
        with self._database.store_errors(), self._database.connected(deadline) as connection:
            create_schema(self._database, connection)
            self._claim_all(connection)
            self._partitions.load(connection)

    def _claim_all(self, connection: DeadlineConnection) -> None:
        require_no_replicas(self._database, connection)
        for scope_id, workspace, feed, revision, log_count in connection.execute(CLAIM, (self._token,)):
            self._add_row(Scope(workspace, feed), FeedRow(self._token, scope_id, revision, log_count))

    def _add_row(self, scope: Scope, row: FeedRow) -> None:
        self._rows[scope] = row
        self._log_counts[scope.workspace] += row.log_count

    def close(self) -> None:
        self._database.close()

    def series_values(self) -> Mapping[Series, SeriesValue]:
        return self._database.run(queries.load_series, LONG_DEADLINE_SECONDS)

    def series_page(
        self, after: SeriesCursor, *, limit: int, workspaces: Collection[str]
    ) -> tuple[Mapping[Series, SeriesValue], SeriesCursor]:
        return self._database.run(lambda connection: queries.load_series_page(connection, after, limit, workspaces))

    def feed_state(self, scope: Scope) -> FeedState:
        return self.feed_states([scope])[scope]

    def feed_states(self, scopes: Sequence[Scope]) -> Mapping[Scope, FeedState]:
        ids = {scope: self._row(scope).scope_id for scope in scopes}
        states = self._database.run(lambda connection: queries.feed_states(connection, list(ids.values())))
        return {scope: states[scope_id] for scope, scope_id in ids.items()}

    def _row(self, scope: Scope) -> FeedRow:
        if scope not in self._rows:
            self._add_row(scope, self._create_row(scope))
        return self._rows[scope]

    def _create_row(self, scope: Scope) -> FeedRow:
        """Add a feed to the state, unless it is there, and return its row."""

        def add(connection: DeadlineConnection) -> FeedRow:
            names = (scope.workspace, scope.feed)
            row = connection.execute(ADD_SCOPE, (*names, self._token)).fetchone()
            return FeedRow(self._token, *(row or queries.one(connection, READ_SCOPE, names)))

        return self._database.run(add)

    def lookup(self, scope: Scope, keys: Sequence[str]) -> Mapping[str, frozenset[str]]:
        row = self._row(scope)
        return self._database.run(lambda connection: queries.stored_statuses(connection, row.scope_id, keys))

    def newest_time(self, scope: Scope, *, until: int) -> int | None:
        parameters = (self._row(scope).scope_id, until)
        (newest,) = self._database.run(
            lambda connection: queries.one(connection, queries.NEWEST_TIME, parameters), LONG_DEADLINE_SECONDS
        )
        return newest  # type: ignore[no-any-return]

    def accounting(self, scope: Scope) -> FeedAccounting:
        row = self._row(scope)
        return self._database.run(
            lambda connection: queries.accounting(connection, row.scope_id, scope.workspace), LONG_DEADLINE_SECONDS
        )

    def commit_all(self, commits: Sequence[FeedCommit]) -> Sequence[CommitResult | StoreError]:
        try:
            rows = [self._row(commit.scope) for commit in commits]
            return self._commit_group(commits, rows)
        except StoreError as exc:
            # One batch may be at fault, unless the server does not answer: then each would wait for it.
            if len(commits) == 1 or not self._database.is_connected:
                return [exc] * len(commits)
        return [result for commit in commits for result in self.commit_all([commit])]

    def _commit_group(self, commits: Sequence[FeedCommit], rows: Sequence[FeedRow]) -> Sequence[CommitResult]:
        """Commit batches of several feeds in one transaction; raise StoreError if it was rolled back."""
        for row in rows:
            self._settle(row)
        earlier = [row.durable for row in rows]
        requests = [
            transactions.FeedBatch(row.scope_id, without_applied(commit.batch, applied), row.unshown_series)
            for row, commit, applied in zip(rows, commits, earlier, strict=True)
        ]
        prepared = self._database.run(lambda connection: transactions.prepare(connection, requests))
        days = [day for each in prepared for day in each.days.values()]
        self._database.run(lambda connection: self._partitions.create(connection, days))
        results = [merge(applied, each.result) for applied, each in zip(earlier, prepared, strict=True)]
        parts = [
            FeedWrite(row, commit.batch.increments, result, partial(self._send_batch, row, each))
            for row, commit, result, each in zip(rows, commits, results, prepared, strict=True)
        ]
        row_count = sum(len(each.new) for each in prepared)
        answers = self._write(parts, database.DEADLINE_SECONDS + row_count / ROWS_PER_SECOND)
        for number, (commit, row, answer) in enumerate(zip(commits, rows, answers, strict=True)):
            if answer is None or earlier[number] is not None:
                state = self.feed_state(commit.scope)
                changes: dict[str, Any] = {"log_count": state.log_count, "pending_logs": state.pending_logs}
            else:
                changes = {
                    "log_count": answer.log_count,
                    "pending_logs": answer.pending_logs,
                    "keeps_logs": answer.keeps_logs,
                }
            results[number] = msgspec.structs.replace(results[number], **changes)
            row.durable = None
            self._set_log_count(commit.scope, row, changes["log_count"])
        if self._drop_expired(max((commit.batch.prune_before or 0 for commit in commits), default=0)):
            results = [msgspec.structs.replace(result, keeps_logs=False) for result in results]
        return results

    def _send_batch(
        self, row: FeedRow, prepared: transactions.PreparedBatch, connection: DeadlineConnection
    ) -> transactions.WrittenBatch:
        return transactions.write(connection, row.scope_id, prepared, self._partitions.place)

    def _write(self, parts: Sequence[FeedWrite], seconds: float) -> Sequence[Any]:
        """Write to feeds in one transaction and one round trip; return the answer for each, None if it was lost.

        If the connection is lost, the transaction is sent again: the fence fails it if the first one is durable.

        Raises:
            StoreError: Nothing was written, or it is not known; then the rows remember the transaction.
        """
        deadline = time.monotonic() + max(seconds, database.DEADLINE_SECONDS)
        writes = [
            UnconfirmedWrite(secrets.randbits(62), part.row.revision + 1, part.increments, part.result)
            for part in parts
        ]
        with self._database.store_errors():
            for attempt in range(MAX_TRIES):
                try:
                    answers = self._send(parts, writes, deadline)
                except (psycopg.errors.CheckViolation, psycopg.errors.DivisionByZero) as exc:
                    for part in parts:
                        self._settle(part.row, is_rejected=True)
                    if any(part.row.revision != write.revision for part, write in zip(parts, writes, strict=True)):
                        self._forget(parts, writes)
                        # Another process may have dropped the partition of an expired day.
                        self._database.run(self._partitions.load)
                        raise StoreError(f"{self._database.name}: {exc}") from exc
                    break
                except psycopg.Error as exc:
                    is_rolled_back = self._database.is_connected
                    if is_rolled_back and not attempt:
                        self._forget(parts, writes)
                    is_lost = isinstance(exc, psycopg.OperationalError) and not is_rolled_back
                    if not is_lost or attempt == MAX_TRIES - 1 or time.monotonic() > deadline:
                        raise
                else:
                    for part, write in zip(parts, writes, strict=True):
                        part.row.confirm(write)
                    return answers
        return [None] * len(parts)

    @staticmethod
    def _forget(parts: Sequence[FeedWrite], writes: Sequence[UnconfirmedWrite]) -> None:
        """Forget writes that the server has rolled back."""
        for part, write in zip(parts, writes, strict=True):
            part.row.unconfirmed = [each for each in part.row.unconfirmed if each is not write]

    def _send(self, parts: Sequence[FeedWrite], writes: Sequence[UnconfirmedWrite], deadline: float) -> Sequence[Any]:
        answers = []
        with self._database.connected(deadline) as connection:
            for part, write in zip(parts, writes, strict=True):
                if not any(each is write for each in part.row.unconfirmed):
                    part.row.unconfirmed.append(write)
            with connection.pipeline():
                connection.execute(BEGIN)
                connection.execute(SETTINGS)
                for part, write in zip(parts, writes, strict=True):
                    fence = {
                        "scope": part.row.scope_id,
                        "token": part.row.token,
                        "revision": write.revision - 1,
                        "number": write.number,
                    }
                    connection.execute(statements.FENCE, fence)
                    answers.append(part.send(connection))
                connection.execute("COMMIT")
        return answers

    def _settle(self, row: FeedRow, *, is_rejected: bool = False) -> None:
        """Find out which transactions without an answer are durable.

        Args:
            row: The feed.
            is_rejected: Whether a transaction was rejected by the fence, so that there must be a reason.

        Raises:
            StoreFenced: Another process has taken the state over.
            StoreRegressed: The server has lost commits.
            StoreError: The feed was removed, or the state cannot be read.
        """
        if not row.unconfirmed and not is_rejected:
            return
        found = self._database.run(lambda connection: connection.execute(READ_FENCE, (row.scope_id,)).fetchone())
        if found is None:
            raise StoreError(f"{self._database.name}: {REMOVED}")
        token, revision, number = found
        if revision < row.revision:  # Whatever the token is: the claim of this process may be lost, too.
            end_regressed(self._database)
        if token != row.token:
            raise StoreFenced(f"{self._database.name}: {self.fenced_message}")
        row.settle(number, revision)
        if revision != row.revision:
            end_regressed(self._database)

    def _set_log_count(self, scope: Scope, row: FeedRow, log_count: int) -> None:
        self._log_counts[scope.workspace] += log_count - row.log_count
        row.log_count = log_count

    def _drop_expired(self, prune_before: int) -> bool:
        """Drop partitions of expired days, once for each day; if that fails, a later commit tries again.

        Returns:
            Whether logs may have been dropped.
        """
        day, now = prune_before // DAY_MS, time.monotonic()
        if day <= self._pruned_day or now - self._prune_failed_at < PRUNE_RETRY_SECONDS:
            return False
        try:
            self._database.run(self._partitions.drop_expired, LONG_DEADLINE_SECONDS)
            log_counts = dict(
                self._database.run(lambda connection: connection.execute("SELECT id, logs FROM late_scope").fetchall())
            )
        except StoreError:  # The batch is committed, and must not be committed again.
            self._prune_failed_at = now
            return True
        self._pruned_day = day
        for scope, row in self._rows.items():
            self._set_log_count(scope, row, log_counts.get(row.scope_id, 0))
        return True

    def _used_tokens(self) -> AbstractSet[int]:
        """Return the fencing tokens of all feeds."""
        return {row.token for row in self._rows.values()}

    def size(self, workspace: str) -> tuple[int, int]:
        log_count, now = self._log_counts[workspace], time.monotonic()
        if self._size is None or now > self._size[0] + SIZE_INTERVAL:
            self._size = now, *self._database.run(lambda connection: queries.one(connection, queries.SIZE))
        _, size, total = self._size
        total = max(total, self._log_counts.total())
        return log_count, size * log_count // total if total else size
