"""Back up and check a state in SQLite, and write workspaces to it that are copied from another one."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from late_exporter.errors import StoreError, StoreInUse
from late_exporter.store import checks
from late_exporter.store.copying import TABLES, Row
from late_exporter.store.lockfile import StateLock, state_exists
from late_exporter.store.queries import connect_readonly, state_rows, store_errors, transaction, workspace_names
from late_exporter.store.schema import create_database, create_state
from late_exporter.store.snapshot import SqliteSnapshot


class SqliteAdmin(NamedTuple):
    """Administrative operations on the state in a file; all raise StoreError if it cannot be read or written."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def is_in_use(self) -> bool:
        try:
            with StateLock(self.path) as lock:
                lock.remove_new_file()
        except StoreInUse:
            return True
        return False

    def backup(self, target: Path) -> int:
        SqliteSnapshot(self.path).close()  # There must be a state.
        _require_absent(target)
        with (
            store_errors(self.path),
            closing(connect_readonly(self.path)) as source,
            create_database(target) as copy,
        ):
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        return target.stat().st_size

    def check(self) -> Iterator[str]:
        with SqliteSnapshot(self.path) as snapshot:
            yield from snapshot.damage()
            yield from checks.inconsistencies(snapshot)

    @contextmanager
    def writing(self) -> Iterator[SqliteTarget]:
        if not state_exists(self.path):
            _require_absent(self.path)
            with StateLock(self.path) as lock, create_state(lock) as connection, transaction(connection):
                yield SqliteTarget(connection, self.name)
            return
        SqliteSnapshot(self.path).close()
        with (
            StateLock(self.path),
            store_errors(self.path),
            closing(sqlite3.connect(self.path, isolation_level=None)) as connection,
        ):
            connection.execute("PRAGMA journal_mode = WAL")  # The source may be the same file.
            connection.execute("PRAGMA synchronous = FULL")
            with transaction(connection):
                yield SqliteTarget(connection, self.name)


class SqliteTarget(NamedTuple):
    """A state within a transaction that writes to it."""

    connection: sqlite3.Connection
    name: str

    @property
    def workspaces(self) -> Sequence[str]:
        return workspace_names(self.connection)

    def rows(self, table: str, workspaces: Collection[str] | None = None) -> Iterator[Row]:
        return state_rows(self.connection, table, workspaces)

    def last_id(self, table: str) -> int:
        (last_id,) = self.connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()  # noqa: S608 - a constant
        return int(last_id)

    def insert(self, table: str, rows: Iterable[Row]) -> None:
        columns = TABLES[table].columns
        names, placeholders = ", ".join(columns), ", ".join("?" * len(columns))
        self.connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({placeholders})", rows)  # noqa: S608 - constants


def _require_absent(path: Path) -> None:
    if os.path.lexists(path):  # a dangling symbolic link exists, too, and must not be followed
        raise StoreError(f"{path}: the file exists already and was not changed")
