"""Create the database of a state: complete, or not at all."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from late_exporter.errors import StoreError
from late_exporter.store.queries import store_errors
from late_exporter.store.schema import migrate

ResultT = TypeVar("ResultT")


def create_schema(connection: sqlite3.Connection) -> None:
    """Create the tables of a state without logs."""
    connection.execute("BEGIN")
    migrate(connection, 0)
    connection.execute("COMMIT")


def create_database(path: Path, fill: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
    """Create a database under a unique name, fill it, and rename it; return the result of ``fill``.

    A process that dies meanwhile thus leaves no database that is empty or incomplete, but files named ``*.new``.

    Raises:
        StoreError: The database cannot be written; there is none.
    """
    try:
        fd, name = tempfile.mkstemp(".new", f"{path.name}.", path.parent)  # SQLite copies its mode to its other files.
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
