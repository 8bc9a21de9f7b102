"""Create the database of a state: complete, or not at all."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from late_exporter.errors import StoreError
from late_exporter.store.lockfile import FILE_MODE
from late_exporter.store.queries import store_errors
from late_exporter.store.schema import migrate

ResultT = TypeVar("ResultT")


def create_schema(connection: sqlite3.Connection) -> None:
    """Create the tables of a state without logs."""
    connection.execute("BEGIN")
    migrate(connection, 0)
    connection.execute("COMMIT")


def create_database(path: Path, fill: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
    """Create a database under another name, fill it, and rename it; return the result of ``fill``.

    A process that dies meanwhile thus leaves no database that is empty or incomplete.

    Raises:
        StoreError: The database cannot be written; there is none.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        for suffix in ("", "-journal", "-wal", "-shm"):  # remains of an earlier attempt
            Path(f"{new}{suffix}").unlink(missing_ok=True)
        new.touch(FILE_MODE, exist_ok=False)  # SQLite copies the mode to its other files.
        try:
            with store_errors(path), closing(sqlite3.connect(new, isolation_level=None)) as connection:
                result = fill(connection)
            new.replace(path)
        except BaseException:
            new.unlink(missing_ok=True)
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
