"""Administrative operations on a state in PostgreSQL: check, export, import, rename and drop."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from late_exporter.errors import InvalidExport, StoreError, StoreInUse
from late_exporter.series import Labels
from late_exporter.store import exports
from late_exporter.store.checks import FeedCounts, count_wrong_minutes, require_workspace, undecodable_series
from late_exporter.store.exports import Digest
from late_exporter.store.postgres import queries
from late_exporter.store.postgres.database import (
    EXPORTER_NAME,
    LONG_DEADLINE_SECONDS,
    REPLICA_NAME,
    Database,
    DeadlineConnection,
)
from late_exporter.store.postgres.days import Partitions, observation_day
from late_exporter.store.postgres.schema import migrate
from late_exporter.store.postgres.snapshot import PostgresSnapshot
from late_exporter.store.schema import MIGRATIONS as EXPORT_MIGRATIONS

ROWS_PER_COPY = 5000

OF_WORKSPACES = "WHERE %(workspaces)s::text[] IS NULL OR workspace = ANY(%(workspaces)s)"
OF_SCOPES = f"WHERE %(workspaces)s::text[] IS NULL OR scope IN (SELECT id FROM late_scope {OF_WORKSPACES})"  # noqa: S608 - a constant

EXPRESSIONS = {"commits": "revision", "restored": "restored::integer", "served": "served::integer"}
"""Expressions of columns that are other columns, or of another type, in PostgreSQL."""


class ExportedTable(NamedTuple):
    """A table of an export, whose columns are those of the SQLite state, whatever the backend.

    Args:
        name: Name in PostgreSQL.
        condition: Condition for the rows of some workspaces.
        byte_columns: Columns that PostgreSQL has as bytes.
    """

    name: str
    columns: Sequence[str]
    condition: str
    order: str
    byte_columns: Sequence[str] = ()

    @property
    def query(self) -> str:
        expressions = ", ".join(EXPRESSIONS.get(column, column) for column in self.columns)
        return f"SELECT {expressions} FROM {self.name} {self.condition} ORDER BY {self.order}"  # noqa: S608 - constants


TABLES: Mapping[str, ExportedTable] = {
    "scope": ExportedTable(
        "late_scope",
        (
            *("id", "workspace", "feed", "coverage", "logs", "observations", "pruned", "progress", "commits"),
            "restored",
        ),
        OF_WORKSPACES,
        order="id",
        byte_columns=("coverage", "progress"),
    ),
    "observation": ExportedTable(
        "late_observation",
        ("scope", "key", "status", "created"),
        OF_SCOPES,
        order="scope, key, status",
        byte_columns=("key", "status"),
    ),
    "logs_per_minute": ExportedTable("late_minute", ("scope", "minute", "logs"), OF_SCOPES, order="scope, minute"),
    "pending": ExportedTable(
        "late_pending",
        ("scope", "key", "created", "platform", "action", "post_id"),
        OF_SCOPES,
        order="scope, key",
        byte_columns=("key", "platform", "action", "post_id"),
    ),
    "series": ExportedTable(
        "late_series",
        ("family", "labels", "value", "created", "served"),
        OF_WORKSPACES,
        order="family, labels",
        byte_columns=("value",),
    ),
    "event": ExportedTable(
        "late_event", ("id", "scope", "queued", "body"), OF_SCOPES, order="id", byte_columns=("body",)
    ),
}

SCOPE_TABLES = [table.name for table in TABLES.values() if "scope" in table.columns]
"""Tables with a foreign key ``scope``."""

COUNTS = """
    SELECT count(DISTINCT key),
        (SELECT count(*) FROM late_pending p LEFT JOIN (
            SELECT DISTINCT key FROM late_observation WHERE scope = %(scope)s AND status = 'pending'::bytea
        ) o ON o.key = p.key WHERE p.scope = %(scope)s AND o.key IS NULL)
    FROM late_observation WHERE scope = %(scope)s
"""

WORKSPACE_NAMES = "SELECT workspace FROM late_scope UNION SELECT workspace FROM late_series"

USERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"  # noqa: S608 - constants
    f" AND application_name IN ('{EXPORTER_NAME}', '{REPLICA_NAME}')"
)


class PostgresAdmin:
    """Administrative operations on the state in a database.

    An exporter that is running is refused, and one that starts meanwhile is fenced off.
    """

    def __init__(self, url: str, password_file: Path | None = None) -> None:
        self._url, self._password_file = url, password_file
        self.name = self._connect().name

    def _connect(self) -> Database:
        return Database(self._url, self._password_file, application_name="late-exporter command")

    def _snapshot(self) -> PostgresSnapshot:
        return PostgresSnapshot(self._url, self._password_file)

    def is_in_use(self) -> bool:
        """Return whether an exporter is connected; behind pgbouncer it may not be known."""
        with self._connect() as database:
            return bool(database.run(lambda connection: queries.one(connection, USERS)[0]))

    def backup(self, target: Path) -> int:
        raise StoreError(f"{self.name}: back up with pg_dump or as the server is, or use state export; not to {target}")

    def compact(self) -> tuple[int, int]:
        raise StoreError(f"{self.name}: PostgreSQL reuses free space by itself (autovacuum)")

    def check(self) -> Iterator[str]:
        """Check the state for inconsistencies; yield one message per problem."""
        with self._snapshot() as snapshot:
            scopes = list(snapshot.rows("SELECT id, workspace, feed, logs FROM late_scope ORDER BY id"))
            for scope_id, workspace, feed, log_count in scopes:
                ((stored, uncounted),) = snapshot.rows(COUNTS, {"scope": scope_id})
                counts = FeedCounts(
                    f"{workspace}/{feed}",
                    log_count,
                    stored,
                    uncounted,
                    self._wrong_minutes(snapshot, scope_id),
                )
                yield from counts.inconsistencies()
            known = {scope_id for scope_id, *_ in scopes}
            for table in SCOPE_TABLES:
                if {scope_id for (scope_id,) in snapshot.rows(f"SELECT DISTINCT scope FROM {table}")} - known:  # noqa: S608 - a constant
                    yield f"{table}: rows belong to no workspace"
            yield from undecodable_series(snapshot.rows("SELECT family, labels, value FROM late_series"))

    @staticmethod
    def _wrong_minutes(snapshot: PostgresSnapshot, scope_id: int) -> int:
        minutes = snapshot.rows("SELECT minute, logs FROM late_minute WHERE scope = %s AND logs <> 0", (scope_id,))
        counted = Counter(dict(minutes))
        times = (
            "SELECT min(created), max(created) FROM late_observation WHERE scope = %s AND created IS NOT NULL"
            " GROUP BY key"
        )
        rows = snapshot.rows(times, (scope_id,))
        return count_wrong_minutes(counted, ((first, last) for first, last in rows))

    def export_state(self, workspaces: AbstractSet[str] | None = None) -> Iterator[str]:
        """Return the state, or some of its workspaces, as lines of JSON, one per row, from one consistent snapshot."""
        names = None if workspaces is None else sorted(workspaces)
        with self._snapshot() as snapshot:
            yield exports.head(len(EXPORT_MIGRATIONS))
            for name, table in TABLES.items():
                for row in snapshot.rows(table.query, {"workspaces": names}):
                    yield exports.line(name, table.columns, row)
            yield exports.END

    def import_state(self, lines: Iterable[str]) -> Digest:
        """Add the workspaces of an export of this version, and create the state if there is none.

        Returns:
            The digest of the rows.

        Raises:
            StoreError: The state has one of the workspaces; nothing was changed.
            InvalidExport: The lines are not a complete export; nothing was changed.
        """
        with self._changing(may_be_new=True) as connection:
            digest = _Import(connection).run(iter(lines))
            for table in ("late_scope", "late_event"):
                connection.execute(
                    f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), greatest(1, max(id))) FROM {table}"  # noqa: S608 - a constant
                )
        return digest

    def rename_workspace(self, old: str, new: str) -> int:
        """Rename a workspace; return the number of its series.

        Raises:
            StoreError: The workspace does not exist, the new name is in use, or an exporter uses the state.
        """
        with self._changing() as connection:
            _require_workspace(connection, old)
            if connection.execute("SELECT 1 FROM late_scope WHERE workspace = %s", (new,)).fetchone():
                raise StoreError(f"{self.name}: there is a workspace {new} already")
            connection.execute("UPDATE late_scope SET workspace = %s WHERE workspace = %s", (new, old))
            connection.execute("DELETE FROM late_workspace WHERE workspace = %s", (old,))
            series = connection.execute(
                "SELECT id, family, labels FROM late_series WHERE workspace = %s", (old,)
            ).fetchall()
            for identity, family, labels in series:
                renamed = queries.encode_labels((new, *msgspec.json.decode(labels, type=Labels)[1:]))
                connection.execute(
                    "UPDATE late_series SET workspace = %s, id = %s, labels = %s WHERE workspace = %s AND id = %s",
                    (new, queries.series_id(family, renamed), renamed, old, identity),
                )
        return len(series)

    def drop_workspace(self, name: str) -> int:
        """Delete a workspace with all its counters; return the number of its logs.

        Raises:
            StoreError: The workspace does not exist, or an exporter uses the state.
        """
        with self._changing() as connection:
            _require_workspace(connection, name)
            scopes = connection.execute("SELECT id, logs FROM late_scope WHERE workspace = %s", (name,)).fetchall()
            for table in SCOPE_TABLES:
                connection.execute(f"DELETE FROM {table} WHERE scope = ANY(%s)", ([scope for scope, _ in scopes],))  # noqa: S608 - a constant
            connection.execute("DELETE FROM late_scope WHERE workspace = %s", (name,))
            connection.execute("DELETE FROM late_series WHERE workspace = %s", (name,))
            connection.execute("DELETE FROM late_workspace WHERE workspace = %s", (name,))
        return sum(log_count for _, log_count in scopes)

    @contextmanager
    def _changing(self, *, may_be_new: bool = False) -> Iterator[DeadlineConnection]:
        """Yield a connection within a transaction that no exporter can interrupt."""
        if not may_be_new:
            self._snapshot().close()  # There must be a state.
        deadline = time.monotonic() + LONG_DEADLINE_SECONDS
        with self._connect() as database, database.store_errors(), database.connected(deadline) as connection:
            migrate(database, connection)
            if queries.one(connection, USERS)[0]:
                raise StoreInUse(f"{self.name} is in use by an exporter")
            with connection.transaction():
                connection.execute("UPDATE late_scope SET token = %s", (secrets.randbits(62),))
                yield connection


def _require_workspace(connection: DeadlineConnection, name: str) -> None:
    require_workspace(name, {row[0] for row in connection.execute("SELECT DISTINCT workspace FROM late_scope")})


def _copied(value: object) -> object:
    """Return a value for COPY; psycopg escapes bytes twice if the session has standard_conforming_strings off."""
    return f"\\x{value.hex()}" if isinstance(value, bytes) else value


class _Import:
    """Copies the rows of an export, under ids of scopes and events above the last ones."""

    def __init__(self, connection: DeadlineConnection) -> None:
        self._connection = connection
        self._partitions = Partitions()
        self._partitions.load(connection)
        self._token = secrets.randbits(62)
        self._days: dict[str, int] = {}
        self._existing = {name for (name,) in connection.execute(WORKSPACE_NAMES)}
        (self._last_scope,) = queries.one(connection, "SELECT coalesce(max(id), 0) FROM late_scope")
        (self._last_event,) = queries.one(connection, "SELECT coalesce(max(id), 0) FROM late_event")

    def run(self, lines: Iterator[str]) -> Digest:
        """Copy all rows and return their digest."""
        if (version := exports.read_version(lines, len(EXPORT_MIGRATIONS))) != len(EXPORT_MIGRATIONS):
            raise InvalidExport(
                f"line 1: an export of an earlier version (schema {version}); import it into SQLite first"
            )
        digest, current = Digest(version), ""
        rows: list[dict[str, Any]] = []
        for table, row in exports.read_rows(lines, {name: {*table.columns} for name, table in TABLES.items()}):
            if rows and (table != current or len(rows) == ROWS_PER_COPY):
                self._copy(current, rows)
                rows = []
            current = table
            rows.append(row)
            digest.add(table, row)
        self._copy(current, rows)
        return digest

    def _copy(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        if not rows:
            return
        self._connection.renew_deadline()
        if table == "observation":
            days = [observation_day(row["key"], row["created"]) for row in rows]
            self._partitions.create(self._connection, days)
        converted = [self._convert(table, row) for row in rows]
        names = ", ".join(converted[0])
        with (
            self._connection.cursor() as cursor,
            cursor.copy(f"COPY {TABLES[table].name} ({names}) FROM STDIN") as copy,
        ):
            for row in converted:
                copy.write_row(tuple(map(_copied, row.values())))

    def _convert(self, table: str, row: dict[str, Any]) -> dict[str, Any]:
        """Return the columns of a row in PostgreSQL."""
        values = {
            name: queries.encode(value) if name in TABLES[table].byte_columns and value is not None else value
            for name, value in row.items()
        }
        if "scope" in row:
            values["scope"] += self._last_scope
        if table == "scope":
            exports.require_new(row["workspace"], self._existing)
            values |= {"token": self._token, "restored": bool(row["restored"]), "revision": values.pop("commits")}
            values["id"] += self._last_scope
        elif table == "event":
            values["id"] += self._last_event
        elif table == "observation":
            values["day"] = self._day(row)
        elif table == "series":
            workspace = exports.workspace_of(row["labels"])
            exports.require_new(workspace, self._existing)
            values |= {
                "workspace": workspace,
                "id": queries.series_id(row["family"], row["labels"]),
                "served": bool(row["served"]),
            }
        return values

    def _day(self, row: dict[str, Any]) -> int:
        """Return the day of an observation: all statuses of a log, which follow each other, are in one partition."""
        name = f"{row['scope']}/{row['key']}"
        if name not in self._days:
            self._days = {name: self._partitions.place(observation_day(row["key"], row["created"]))}
        return self._days[name]
