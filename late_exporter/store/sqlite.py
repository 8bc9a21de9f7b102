"""The state in a SQLite file, or in memory."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import msgspec

from late_exporter.errors import StoreError, StoreMissing
from late_exporter.store.database import SECONDS, Queries, Transaction
from late_exporter.store.lockfile import (
    FILE_MODE,
    StateLock,
    file_identity,
    require_database,
    state_exists,
    wal_size,
)

DAMAGE_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

# These share their code with errors that are no damage, such as a feature that an old version of
# SQLite lacks.
DAMAGE_MESSAGES = ("no such table", "no such column", "Could not decode to UTF-8")


PROTOTYPE_ID = 0x4C617465
"""The application id of states from before the first release, which cannot be upgraded."""


class SqliteDatabase:
    """A SQLite file, which one exporter uses at a time; it is created with its directories if missing.

    Args:
        path: Path of the file; None for memory.
    """

    types: Mapping[str, str] = {
        "id": "INTEGER PRIMARY KEY",
        "text": "TEXT",
        "without_rowid": "WITHOUT ROWID",
    }

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.name = str(path) if path else "the state in memory"
        self._lock: StateLock | None = None
        self._connection: sqlite3.Connection | None = None

    def connect(self) -> None:
        """Lock the file and open it.

        Raises:
            StoreInUse: Another process has it open.
            StoreError: It cannot be written, is damaged, or belongs to another program.
        """
        self._lock = StateLock(self._path) if self._path else None
        try:
            self.attach()
        except BaseException:
            self.close()
            raise

    def lock_state(self, *, is_shared: bool = False) -> None:
        """Do nothing: a file is locked before it is opened."""

    def end_other_sessions(self, transaction: Transaction) -> None:
        """Do nothing: there are no others."""

    def attach(self) -> None:
        with store_errors(self.name):
            connection = sqlite3.connect(
                self._path or ":memory:",
                isolation_level=None,
                check_same_thread=False,
                timeout=SECONDS,
            )
            self._connection = connection
            self.has_state(connection)  # before anything is changed
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        self._identity = file_identity(self._path) if self._path else None

    @contextmanager
    def transaction(self, *, seconds: float | None = None) -> Iterator[Transaction]:
        with self.reading(seconds=seconds) as connection:
            if self._path and file_identity(self._path) != self._identity:
                raise StoreError(
                    f"{self.name}: the state was replaced by another file; restart to use that one"
                )
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite itself rolls back if the disk is full.
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self, *, seconds: float | None = None) -> Iterator[sqlite3.Connection]:
        del seconds  # A file answers.
        if self._connection is None:
            raise StoreError(f"{self.name}: the state is closed")
        with store_errors(self.name):
            yield self._connection

    @contextmanager
    def snapshot(self) -> Iterator[Queries]:
        path = self.require_path()
        if not state_exists(path):
            start = "start the exporter first, or name its state with --state.url"
            raise StoreMissing(f"{path}: there is no state; {start}")
        require_database(path, writable=False)
        uri = f"file:{quote(str(path))}?mode=ro"
        with (
            store_errors(path),
            closing(
                sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            ) as connection,
        ):
            connection.execute("BEGIN")
            yield connection

    def require_path(self) -> Path:
        if self._path is None:
            raise StoreError("a state in memory cannot be read by another process")
        return self._path

    def has_state(self, queries: Queries) -> bool:
        tables = {
            name
            for (name,) in queries.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        }
        if tables and "late_state" not in tables:
            (application_id,) = queries.execute("PRAGMA application_id").fetchone()
            owner = (
                "a prototype of late-exporter"
                if application_id == PROTOTYPE_ID
                else "another program"
            )
            raise StoreError(f"{self.name} is the database of {owner}; it was not changed")
        return bool(tables)

    def size(self, queries: Queries) -> int:
        """Return the size on disk in bytes, with the write-ahead log."""
        query = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        (size,) = queries.execute(query).fetchone()
        return int(size) + (wal_size(self._path) if self._path else 0)

    def damage(self, queries: Queries) -> Iterator[str]:
        for (problem,) in queries.execute("PRAGMA integrity_check(20)"):
            if problem != "ok":
                yield f"database: {problem}"

    def is_in_use(self) -> bool:
        return StateLock.is_locked(self.require_path())

    def backup(self, target: Path) -> int:
        with self.snapshot():  # There must be a state.
            pass
        uri = f"file:{quote(str(self.require_path()))}?mode=ro"
        with store_errors(target):
            try:
                os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE))
            except FileExistsError:
                raise StoreError(f"{target}: the file exists already and was not changed") from None
            try:
                with (
                    closing(sqlite3.connect(uri, uri=True)) as source,
                    closing(sqlite3.connect(target)) as copy,
                ):
                    self.has_state(source)
                    source.backup(copy)
                    copy.execute("PRAGMA journal_mode = DELETE")
            except BaseException:
                target.unlink()
                raise
        return target.stat().st_size

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None


@contextmanager
def store_errors(name: object) -> Iterator[None]:
    """Raise the errors of reading and writing a state as StoreError, with the remedy if the state is damaged."""
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeDecodeError, msgspec.MsgspecError) as exc:
        remedy = (
            "; restore a backup, or remove the file to begin a new state" if _is_damage(exc) else ""
        )
        raise StoreError(f"{name}: {exc}{remedy}") from exc


def _is_damage(exc: Exception) -> bool:
    if isinstance(exc, sqlite3.Error):
        code = (
            getattr(exc, "sqlite_errorcode", 0) & 0xFF
        )  # An extended code has the primary one in its lowest byte.
        return code in DAMAGE_CODES or str(exc).startswith(DAMAGE_MESSAGES)
    return not isinstance(exc, OSError)
