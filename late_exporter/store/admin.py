"""Administrative operations on a state: back up, check, export, import, rename, drop and compact.

``backup``, ``check`` and ``export_state`` can run alongside an exporter; the others need exclusive access. All raise
StoreError if the state cannot be read or written.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from late_exporter.errors import InvalidExport, StoreError, StoreInUse
from late_exporter.store import exports, queries
from late_exporter.store.checks import FeedCounts, count_wrong_minutes, require_workspace, undecodable_series
from late_exporter.store.creation import create_database, create_state
from late_exporter.store.exports import Digest
from late_exporter.store.lockfile import StateLock, state_exists
from late_exporter.store.queries import connect_readonly, store_errors
from late_exporter.store.schema import MIGRATIONS, migrate
from late_exporter.store.snapshot import SqliteSnapshot

SCOPE_TABLES = ("observation", "logs_per_minute", "pending", "event")
"""Tables with a foreign key ``scope``."""

SCOPE_CONDITION = "scope IN (SELECT id FROM scope WHERE workspace IN (SELECT value FROM json_each(?1)))"
WORKSPACE_CONDITIONS = {
    "scope": "workspace IN (SELECT value FROM json_each(?1))",
    "series": "json_extract(labels, '$[0]') IN (SELECT value FROM json_each(?1))",
}
"""Conditions for the rows of some workspaces, given as a JSON array; those of all other tables have a scope."""

WORKSPACE_NAMES = "SELECT workspace FROM scope UNION SELECT json_extract(labels, '$[0]') FROM series"


class SqliteAdmin(NamedTuple):
    """Administrative operations on the state in a file."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def is_in_use(self) -> bool:
        """Return whether another process has the state open; raise StoreError if the state cannot be written."""
        try:
            with StateLock(self.path) as lock:
                lock.remove_new_file()
        except StoreInUse:
            return True
        return False

    def backup(self, target: Path) -> int:
        """Copy the state to a new file by SQLite's online backup; return its size in bytes.

        Raises:
            StoreError: The target exists, the state cannot be read, or the copy cannot be written.
        """
        _require_state(self.path)
        _require_absent(target)
        with store_errors(self.path), closing(connect_readonly(self.path)) as source:
            create_database(target, partial(_copy, source))
        return target.stat().st_size

    def compact(self) -> tuple[int, int]:
        """Return free space to the file system; return the file size before and after, in bytes."""
        before = self.path.stat().st_size if state_exists(self.path) else 0
        with _exclusive_connection(self.path) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return before, self.path.stat().st_size

    def check(self) -> Iterator[str]:
        """Check the state for corruption and inconsistencies; yield one message per problem."""
        with _read_transaction(self.path) as connection:
            problems = [row[0] for row in connection.execute("PRAGMA integrity_check(20)")]
            yield from (f"database: {problem}" for problem in problems if problem != "ok")
            yield from _inconsistencies(connection)
            yield from undecodable_series(connection.execute("SELECT family, labels, value FROM series"))

    def export_state(self, workspaces: AbstractSet[str] | None = None) -> Iterator[str]:
        """Return the state, or some of its workspaces, as lines of JSON, one per row, from one consistent snapshot."""
        names = None if workspaces is None else json.dumps(sorted(workspaces))
        with _read_transaction(self.path) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            yield exports.head(version)
            for table in _tables(connection):
                condition = WORKSPACE_CONDITIONS.get(table, SCOPE_CONDITION)
                cursor = connection.execute(f"SELECT * FROM {table} WHERE ?1 IS NULL OR {condition}", (names,))  # noqa: S608 - names of the schema
                columns = [column[0] for column in cursor.description]
                for row in cursor:
                    yield exports.line(table, columns, row)
            yield exports.END

    def import_state(self, lines: Iterable[str]) -> Digest:
        """Add the workspaces of an export to a state, or create it; return the digest of the rows.

        A new state takes exports of earlier schema versions, too.

        Raises:
            StoreError: The state has one of the workspaces; nothing was imported.
            InvalidExport: The lines are not a complete export; nothing was imported.
        """
        if state_exists(self.path):
            with _exclusive_transaction(self.path) as connection:
                existing = {name for (name,) in connection.execute(WORKSPACE_NAMES)}
                last_ids = {table: _last_id(connection, table) for table in ("scope", "event")}
                version = exports.read_version(rows := iter(lines), len(MIGRATIONS))
                if version != len(MIGRATIONS):
                    raise InvalidExport(
                        f"line 1: an export of an earlier version (schema {version}); import it into a new state"
                    )
                return _insert_rows(connection, rows, version, existing=existing, last_ids=last_ids)
        _require_absent(self.path)
        with StateLock(self.path) as lock:
            return create_state(lock, partial(_fill, iter(lines)))

    def rename_workspace(self, old: str, new: str) -> int:
        """Rename a workspace; return the number of its series.

        Raises:
            StoreError: The workspace does not exist, the new name is in use, or an exporter has the state open.
        """
        with _exclusive_transaction(self.path) as connection:
            _require_workspace(connection, old)
            if _scopes(connection, new):
                raise StoreError(f"{self.path}: there is a workspace {new} already")
            connection.execute("UPDATE scope SET workspace = ? WHERE workspace = ?", (new, old))
            updates = [
                (msgspec.json.encode((new, *labels[1:])).decode(), family, encoded)
                for family, encoded, labels in _series(connection, old)
            ]
            connection.executemany("UPDATE series SET labels = ? WHERE family = ? AND labels = ?", updates)
        return len(updates)

    def drop_workspace(self, name: str) -> int:
        """Delete a workspace with all its counters; return the number of its logs.

        Raises:
            StoreError: The workspace does not exist, or an exporter has the state open.
        """
        with _exclusive_transaction(self.path) as connection:
            _require_workspace(connection, name)
            scopes = _scopes(connection, name)
            for scope_id, _ in scopes:
                for table in SCOPE_TABLES:
                    connection.execute(f"DELETE FROM {table} WHERE scope = ?", (scope_id,))  # noqa: S608 - a constant
            connection.execute("DELETE FROM scope WHERE workspace = ?", (name,))
            series = [(family, encoded) for family, encoded, _ in _series(connection, name)]
            connection.executemany("DELETE FROM series WHERE family = ? AND labels = ?", series)
        return sum(log_count for _, log_count in scopes)


def _copy(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    source.backup(target)
    target.execute("PRAGMA journal_mode = DELETE")


def _inconsistencies(connection: sqlite3.Connection) -> Iterator[str]:
    scopes = connection.execute("SELECT id, workspace, feed, logs FROM scope ORDER BY id").fetchall()
    for scope_id, workspace, feed, log_count in scopes:
        name = f"{workspace}/{feed}"
        stored, uncounted = connection.execute(
            "SELECT count(DISTINCT key),"
            " (SELECT count(*) FROM pending WHERE scope = ?1 AND NOT EXISTS"
            " (SELECT 1 FROM observation WHERE observation.scope = ?1 AND observation.key = pending.key))"
            " FROM observation WHERE scope = ?1",
            (scope_id,),
        ).fetchone()
        wrong_minutes = _wrong_minutes(connection, scope_id)
        counts = FeedCounts(name, log_count, stored, uncounted, wrong_minutes)
        yield from counts.inconsistencies()
    scope_ids = {scope_id for scope_id, *_ in scopes}
    for table in SCOPE_TABLES:
        rows = connection.execute(f"SELECT DISTINCT scope FROM {table}")  # noqa: S608 - a constant
        if {scope_id for (scope_id,) in rows} - scope_ids:
            yield f"{table}: rows belong to no workspace"


def _wrong_minutes(connection: sqlite3.Connection, scope_id: int) -> int:
    """Return the number of minutes whose stored logs are not as many as counted."""
    counted = Counter(
        dict(connection.execute("SELECT minute, logs FROM logs_per_minute WHERE scope = ? AND logs", (scope_id,)))
    )
    rows = connection.execute(
        "SELECT min(created), max(created) FROM observation WHERE scope = ? AND created IS NOT NULL GROUP BY key",
        (scope_id,),
    )
    return count_wrong_minutes(counted, rows)


def _fill(lines: Iterator[str], connection: sqlite3.Connection) -> Digest:
    version = exports.read_version(lines, len(MIGRATIONS))
    connection.execute("BEGIN")
    migrate(connection, 0, version)
    digest = _insert_rows(connection, lines, version, existing=frozenset(), last_ids={})
    connection.execute("COMMIT")
    return digest


def _insert_rows(
    connection: sqlite3.Connection,
    lines: Iterator[str],
    version: int,
    *,
    existing: AbstractSet[str],
    last_ids: Mapping[str, int],
) -> Digest:
    """Insert rows under ids of scopes and events above the last ones."""
    digest = Digest(version)
    columns = {table: _columns(connection, table) for table in _tables(connection)}
    for table, row in exports.read_rows(lines, {table: kinds.keys() for table, kinds in columns.items()}):
        digest.add(table, row)
        if table in WORKSPACE_CONDITIONS:
            workspace = row["workspace"] if table == "scope" else exports.workspace_of(row["labels"])
            exports.require_new(workspace, existing)
        for column, referenced in (("id", table), ("scope", "scope")):
            if column in row:
                row[column] += last_ids.get(referenced, 0)
        _insert(connection, table, columns[table], row)
    return digest


def _last_id(connection: sqlite3.Connection, table: str) -> int:
    (last_id,) = connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()  # noqa: S608 - names of the schema
    return int(last_id)


def _insert(connection: sqlite3.Connection, table: str, kinds: dict[str, str], row: dict[str, Any]) -> None:
    values = [
        value.encode() if isinstance(value, str) and kinds[name] == "BLOB" else value for name, value in row.items()
    ]
    names, placeholders = ", ".join(row), ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({placeholders})", values)  # noqa: S608 - names of the schema


def _tables(connection: sqlite3.Connection) -> Sequence[str]:
    rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return [name for (name,) in rows]


def _columns(connection: sqlite3.Connection, table: str) -> dict[str, str]:
    return {row[1]: row[2] for row in connection.execute(f"PRAGMA table_info({table})")}


def _series(connection: sqlite3.Connection, workspace: str) -> list[tuple[str, str, list[str]]]:
    """Return the series of a workspace as family, encoded labels and labels."""
    rows = [
        (family, encoded, msgspec.json.decode(encoded, type=list[str]))
        for family, encoded in connection.execute("SELECT family, labels FROM series")
    ]
    return [row for row in rows if row[2][:1] == [workspace]]


def _scopes(connection: sqlite3.Connection, workspace: str) -> list[tuple[int, int]]:
    return connection.execute("SELECT id, logs FROM scope WHERE workspace = ?", (workspace,)).fetchall()


def _require_workspace(connection: sqlite3.Connection, name: str) -> None:
    require_workspace(name, {row[0] for row in connection.execute("SELECT workspace FROM scope")})


def _require_state(path: Path) -> None:
    SqliteSnapshot(path).close()


def _require_absent(path: Path) -> None:
    if os.path.lexists(path):  # a dangling symbolic link exists, too, and must not be followed
        raise StoreError(f"{path}: the file exists already and was not changed")


@contextmanager
def _exclusive_transaction(path: Path) -> Iterator[sqlite3.Connection]:
    with _exclusive_connection(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            if connection.in_transaction:  # SQLite itself rolls back if the disk is full
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


@contextmanager
def _exclusive_connection(path: Path) -> Iterator[sqlite3.Connection]:
    _require_state(path)
    with (
        StateLock(path) as lock,
        store_errors(path),
        closing(sqlite3.connect(path, isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA synchronous = FULL")
        yield connection
        lock.record_commit(queries.last_commit(connection))  # A dropped workspace may have had the last one.


@contextmanager
def _read_transaction(path: Path) -> Iterator[sqlite3.Connection]:
    _require_state(path)
    with store_errors(path), closing(connect_readonly(path)) as connection:
        connection.execute("BEGIN")
        yield connection
