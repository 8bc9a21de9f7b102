"""Read-only view of a state in PostgreSQL that an exporter may be using."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from late_exporter.errors import StoreError, StoreMissing
from late_exporter.model import FeedAccounting, FeedState, Scope
from late_exporter.series import Series, SeriesValue
from late_exporter.store.copying import Row
from late_exporter.store.postgres import queries
from late_exporter.store.postgres.database import INCOMPLETE, NO_RIGHT, Database, DeadlineConnection
from late_exporter.store.postgres.schema import has_state
from late_exporter.store.snapshot import RecordedStatus

RIGHTS = (
    "SELECT current_schema(), has_schema_privilege(current_schema(), 'CREATE'),"
    " pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean,"
    " to_regclass('late_scope') IS NOT NULL"
)


class PostgresSnapshot:
    """A snapshot of a state, as of the time at which it was opened: one transaction, which writes nothing.

    Args:
        url: URL of the database.
        password_file: File with the password.

    Raises:
        StoreMissing: There is no state.
        StoreError: It has another schema, or it cannot be read.
    """

    def __init__(self, url: str, password_file: Path | None = None) -> None:
        self._database = Database(url, password_file, application_name="late-exporter command")
        self.name = self._database.name
        try:
            with self._database.store_errors():
                self._connection = self._database.connect()
                self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        with self._reading() as connection:
            if not has_state(self._database, connection):
                raise self._missing(connection)
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            # Before the first query: a snapshot shows nothing of a table that was dropped since.
            connection.execute("LOCK TABLE late_observation IN ACCESS SHARE MODE")
            rows = connection.execute("SELECT id, workspace, feed FROM late_scope ORDER BY workspace, feed")
            self._scope_ids = {Scope(workspace, feed): number for number, workspace, feed in rows}

    def _missing(self, connection: DeadlineConnection) -> StoreError:
        """Return the error that there is no state, or that this user cannot create one."""
        schema, may_create, is_read_only, has_tables = queries.one(connection, RIGHTS)
        if has_tables:
            return StoreError(f"{self.name}: the table late_state is missing or empty; {INCOMPLETE}")
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
        with self._reading() as connection:
            for key, status, created in queries.fetch(connection, query, (self._scope_ids.get(scope),)):
                yield RecordedStatus(key.decode(), status.decode(), created)

    @property
    def workspaces(self) -> Sequence[str]:
        with self._reading() as connection:
            return queries.workspace_names(connection)

    def rows(self, table: str, workspaces: Collection[str] | None = None) -> Iterator[Row]:
        with self._reading() as connection:
            yield from queries.state_rows(connection, table, workspaces)

    def lookup(self, scope: Scope, keys: Sequence[str]) -> Mapping[str, frozenset[str]]:
        with self._reading() as connection:
            return queries.stored_statuses(connection, self._scope_ids[scope], keys)

    def accounting(self, scope: Scope) -> FeedAccounting:
        with self._reading() as connection:
            return queries.accounting(connection, self._scope_ids[scope], scope.workspace)
