"""Create the database of a state: complete, or not at all."""

from __future__ import annotations

import glob
import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from late_exporter.errors import StoreError
from late_exporter.store.lockfile import StateLock
from late_exporter.store.queries import store_errors
from late_exporter.store.schema import migrate

INCOMPLETE = ".incomplete"
"""End of the name of a database that is being created."""

ResultT = TypeVar("ResultT")


def create_schema(connection: sqlite3.Connection) -> None:
    """Create the tables of a state without logs."""
    connection.execute("BEGIN")
    migrate(connection, 0)
    connection.execute("COMMIT")


def create_state(lock: StateLock, fill: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
    """Create the database of a locked state; if that fails, leave no lock file either.

    The lock excludes another creation, so that files of one are those of a process that died.
    """
    for file in lock.path.parent.glob(f"{glob.escape(lock.path.name)}.????????{INCOMPLETE}*"):
        with suppress(OSError):
            file.unlink()
    try:
        return create_database(lock.path, fill)
    except BaseException:
        lock.remove_new_file()
        raise


def create_database(path: Path, fill: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
    """Create a database under a unique name, fill it, and rename it; return the result of ``fill``.

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
                result = fill(connection)
            new.replace(path)
        except BaseException:
            for suffix in ("", "-journal", "-wal", "-shm"):
                Path(f"{new}{suffix}").unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)
    except OSError as exc:
        raise StoreError(f"{path}: cannot be written: {exc.strerror}") from exc
    return result


def _sync_directory(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
