"""Read-only view of a state in PostgreSQL that an exporter may be using."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Self

from late_exporter.errors import StoreError, StoreMissing, StoreOutdated
from late_exporter.model import FeedAccounting, FeedState, Scope
from late_exporter.series import Series, SeriesValue
from late_exporter.store.postgres import queries
from late_exporter.store.postgres.database import NO_RIGHT, Database, DeadlineConnection
from late_exporter.store.postgres.schema import MIGRATIONS, stored_version
from late_exporter.store.snapshot import RecordedStatus

ROWS_PER_FETCH = 5000

RIGHTS = (
    "SELECT current_schema(), has_schema_privilege(current_schema(), 'CREATE'),"
    " pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean"
)


class PostgresSnapshot:
    """A snapshot of a state, as of the time at which it was opened: one transaction, which writes nothing.

    Args:
        url: URL of the database.
        password_file: File with the password.

    Raises:
        StoreOutdated: The state has the schema of an earlier version.
        StoreMissing: There is no state.
        StoreError: It was written by a newer version, or it cannot be read.
    """

    def __init__(self, url: str, password_file: Path | None = None) -> None:
        self._database = Database(url, password_file, application_name="late-exporter command")
        self.name = self._database.name
        self.schema_version = len(MIGRATIONS)
        self._cursor_numbers = count()
        try:
            with self._database.store_errors():
                self._connection = self._database.connect()
                self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        with self._reading() as connection:
            version = stored_version(self._database, connection)
            if version is None:
                raise self._missing(connection)
            if version < len(MIGRATIONS):
                raise StoreOutdated(f"{self.name} was written by an earlier version; start this one to migrate it")
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            # Before the first query: a snapshot shows nothing of a table that was dropped since.
            connection.execute("LOCK TABLE late_observation IN ACCESS SHARE MODE")
            rows = connection.execute("SELECT id, workspace, feed FROM late_scope ORDER BY workspace, feed")
            self._scope_ids = {Scope(workspace, feed): number for number, workspace, feed in rows}

    def _missing(self, connection: DeadlineConnection) -> StoreError:
        """Return the error that there is no state, or that this user cannot create one."""
        schema, may_create, is_read_only = queries.one(connection, RIGHTS)
        if is_read_only:
            return StoreError(f"{self.name}: there is no state, and the server is read-only")
        if schema is None or not may_create:
            place = f"the schema {schema}" if schema else "any schema of the search_path"
            return StoreError(f"{self.name}: there is no state, and it cannot be created in {place}; {NO_RIGHT}")
        return StoreMissing(f"{self.name}: there is no state")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def _reading(self) -> Iterator[DeadlineConnection]:
        """Yield the connection; another one would see another state, so it is not replaced if it is lost."""
        with self._database.store_errors():
            self._connection.renew_deadline()
            yield self._connection

    @property
    def size(self) -> int:
        """The size in bytes of the tables and their indexes."""
        with self._reading() as connection:
            size, _ = queries.one(connection, queries.SIZE)
        return int(size)

    @property
    def scopes(self) -> Sequence[Scope]:
        return list(self._scope_ids)

    def series_values(self) -> Mapping[Series, SeriesValue]:
        with self._reading() as connection:
            return queries.load_series(connection)

    def feed_state(self, scope: Scope) -> FeedState:
        with self._reading() as connection:
            return queries.feed_state(connection, self._scope_ids[scope])

    def created_range(self, scope: Scope) -> tuple[int, int] | None:
        with self._reading() as connection:
            oldest, newest = queries.one(
                connection,
                "SELECT min(created), max(created) FROM late_observation WHERE scope = %s",
                (self._scope_ids.get(scope),),
            )
        return None if oldest is None else (oldest, newest)

    def recorded_statuses(self, scope: Scope) -> Iterator[RecordedStatus]:
        query = "SELECT key, status, created FROM late_observation WHERE scope = %s ORDER BY key, status"
        for key, status, created in self.rows(query, (self._scope_ids.get(scope),)):
            yield RecordedStatus(key.decode(), status.decode(), created)

    def rows(self, query: str, parameters: Any = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query, of which a part is in memory at a time."""
        with self._reading() as connection, connection.cursor(name=f"rows{next(self._cursor_numbers)}") as cursor:
            cursor.execute(query, parameters)
            while rows := cursor.fetchmany(ROWS_PER_FETCH):
                yield from rows
                connection.renew_deadline()  # The caller may have read pages of the API meanwhile.

    def lookup(self, scope: Scope, keys: Sequence[str]) -> Mapping[str, frozenset[str]]:
        with self._reading() as connection:
            return queries.stored_statuses(connection, self._scope_ids[scope], keys)

    def accounting(self, scope: Scope) -> FeedAccounting:
        with self._reading() as connection:
            return queries.accounting(connection, self._scope_ids[scope], scope.workspace)
