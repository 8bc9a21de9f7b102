"""Read-only view of a state that an exporter may have open."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from late_exporter.errors import StoreError
from late_exporter.model import FeedAccounting, FeedState, Scope
from late_exporter.series import Series, SeriesValue
from late_exporter.store import queries, series_rows
from late_exporter.store.copying import Row
from late_exporter.store.lockfile import require_database, state_exists, wal_size
from late_exporter.store.schema import require_schema


class RecordedStatus(NamedTuple):
    """A counted status of a log; ``created`` is None if the log has no time."""

    key: str
    status: str
    created: int | None


class SqliteSnapshot:
    """A snapshot of a SQLite state, as of the time at which it was opened.

    Neither takes the lock nor changes the file, so an exporter may have the state open.

    Raises:
        StoreError: The file does not exist, belongs to another program, is damaged, has another schema, or cannot be
            read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path)
        if not state_exists(path):
            raise StoreError(f"{path}: there is no state; start the exporter first, or name its state with --state.url")
        require_database(path, writable=False)
        with queries.store_errors(self._path):
            self._connection = queries.connect_readonly(path)
        try:
            with queries.store_errors(self._path):
                self._begin()
        except BaseException:
            self._connection.close()
            raise

    def _begin(self) -> None:
        execute = self._connection.execute
        execute("BEGIN")
        require_schema(self._connection, self._path)
        self._scope_ids = {
            Scope(workspace, feed): number
            for number, workspace, feed in execute("SELECT id, workspace, feed FROM scope ORDER BY workspace, feed")
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    @property
    def size(self) -> int:
        """The size on disk in bytes, with the write-ahead log."""
        return self._path.stat().st_size + wal_size(self._path)

    @property
    def scopes(self) -> Sequence[Scope]:
        return list(self._scope_ids)

    @property
    def workspaces(self) -> Sequence[str]:
        with queries.store_errors(self._path):
            return queries.workspace_names(self._connection)

    def rows(self, table: str, workspaces: Collection[str] | None = None) -> Iterator[Row]:
        with queries.store_errors(self._path):
            yield from queries.state_rows(self._connection, table, workspaces)

    def damage(self) -> Iterator[str]:
        """Check every page of the database; yield the problems."""
        with queries.store_errors(self._path):
            for (problem,) in self._connection.execute("PRAGMA integrity_check(20)"):
                if problem != "ok":
                    yield f"database: {problem}"

    def series_values(self) -> Mapping[Series, SeriesValue]:
        with queries.store_errors(self._path):
            return series_rows.load_all(self._connection)

    def feed_state(self, scope: Scope) -> FeedState:
        with queries.store_errors(self._path):
            return queries.feed_state(self._connection, self._scope_ids[scope])

    def created_range(self, scope: Scope) -> tuple[int, int] | None:
        with queries.store_errors(self._path):
            oldest, newest = self._connection.execute(
                "SELECT min(created), max(created) FROM observation WHERE scope = ?", (self._scope_ids.get(scope),)
            ).fetchone()
        return None if oldest is None else (oldest, newest)

    def recorded_statuses(self, scope: Scope) -> Iterator[RecordedStatus]:
        with queries.store_errors(self._path):
            rows = self._connection.execute(
                "SELECT key, status, created FROM observation WHERE scope = ? ORDER BY key, status",
                (self._scope_ids.get(scope),),
            )
            yield from map(RecordedStatus._make, rows)

    def lookup(self, scope: Scope, keys: Sequence[str]) -> Mapping[str, frozenset[str]]:
        with queries.store_errors(self._path):
            return queries.stored_statuses(self._connection, self._scope_ids[scope], keys)

    def accounting(self, scope: Scope) -> FeedAccounting:
        with queries.store_errors(self._path):
            return queries.accounting(self._connection, self._scope_ids[scope], scope.workspace)
