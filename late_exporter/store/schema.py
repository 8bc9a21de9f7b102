"""Check the schema of a state in SQLite, and create its database: complete, or not at all."""

from __future__ import annotations

import glob
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from sqlite3 import Connection

from late_exporter.errors import StoreError
from late_exporter.store.lockfile import NOT_A_STATE, StateLock
from late_exporter.store.queries import store_errors, transaction

SCHEMA_VERSION = 1

APPLICATION_ID = 0x4C617465
"""Identifies a state of late-exporter; the ASCII codes of ``Late``."""

INCOMPLETE = ".incomplete"
"""End of the name of a database that is being created."""


def create_schema(connection: Connection) -> None:
    """Create the tables of a state without logs."""
    with transaction(connection):
        for statement in Path(__file__).with_name("schema.sql").read_text("utf-8").split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def require_schema(connection: Connection, name: object) -> None:
    """Raise StoreError if a database is no state, or one with another schema."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (table_count,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and (application or table_count):
        raise StoreError(f"{name} is the database of another program; it was not changed")
    if application != APPLICATION_ID or version < 1:
        raise StoreError(f"{name} {NOT_A_STATE}")
    require_version(version, name)


def require_version(version: int, name: object) -> None:
    """Raise StoreError if a state has another schema than that of this program."""
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{name} is a state of another version of late-exporter (schema {version}, this version uses"
            f" {SCHEMA_VERSION}); it was not changed: use that version, or name another state with --state.url"
        )


@contextmanager
def create_state(lock: StateLock) -> Iterator[Connection]:
    """Create the database of a locked state, with its tables; if that fails, leave no lock file either.

    The lock excludes another creation, so that files of one are those of a process that died.
    """
    for file in lock.path.parent.glob(f"{glob.escape(lock.path.name)}.????????{INCOMPLETE}*"):
        with suppress(OSError):
            file.unlink()
    try:
        with create_database(lock.path) as connection:
            create_schema(connection)
            yield connection
    except BaseException:
        lock.remove_new_file()
        raise


@contextmanager
def create_database(path: Path) -> Iterator[Connection]:
    """Yield a new database under a unique name, and rename it at the end of the block.

    A process that dies meanwhile thus leaves no database that is empty or incomplete, but files named ``*.incomplete``.

    Raises:
        StoreError: The database cannot be written; there is none.
    """
    try:
        # SQLite copies its mode to its other files.
        fd, name = tempfile.mkstemp(INCOMPLETE, f"{path.name}.", path.parent)
        os.close(fd)
        new = Path(name)
        try:
            with store_errors(path), closing(sqlite3.connect(new, isolation_level=None)) as connection:
                yield connection
            new.replace(path)
        except BaseException:
            for suffix in ("", "-journal", "-wal", "-shm"):
                Path(f"{new}{suffix}").unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)
    except OSError as exc:
        raise StoreError(f"{path}: cannot be written: {exc.strerror}") from exc


def _sync_directory(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
