"""Lock, permissions and identity of the state file."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from late_exporter.errors import StoreError, StoreInUse

DIRECTORY_MODE, FILE_MODE = 0o700, 0o600
"""Readable by the owner only, because the state contains account names."""


def lock(path: Path) -> IO[str]:
    """Lock the state by a file beside it; the operating system releases the lock when the process ends.

    Raises:
        StoreInUse: Another process holds the lock.
        StoreError: The lock file cannot be written.
    """
    try:
        path.parent.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
        target = path.resolve()  # symbolic links to one state share one lock
        lock_path = target.with_name(f"{target.name}.lock")
        lock_path.touch(FILE_MODE)
        holder = lock_path.open("a")
    except OSError as exc:
        raise StoreError(f"{path}: the state cannot be written: {exc.strerror}: {exc.filename}") from exc
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        holder.close()
        raise StoreInUse(f"{path} is in use by another late-exporter; every process needs a state of its own") from exc
    return holder


def file_identity(path: Path) -> tuple[int, int]:
    """Return device and inode of the file; raise StoreError if it does not exist."""
    try:
        stat = path.stat()
    except OSError as exc:
        raise StoreError(f"{path}: the state file was removed: {exc.strerror}; restart to create a new one") from exc
    return stat.st_dev, stat.st_ino


def require_database(path: Path, *, writable: bool = True) -> None:
    """Raise StoreError if the file exists but is not a SQLite database or cannot be accessed."""
    try:
        if writable and path.exists() and not os.access(path, os.W_OK):
            raise StoreError(f"{path}: the state cannot be written: it is read-only")
        header = b""
        if path.exists():
            with path.open("rb") as file:
                header = file.read(16)
    except OSError as exc:
        raise StoreError(f"{path}: the state cannot be read: {exc.strerror}") from exc
    if header and not header.startswith(b"SQLite format 3\0"):
        raise StoreError(f"{path} is not a state of late-exporter, or is damaged; it was not changed")


def create(path: Path) -> None:
    """Create an empty file if it does not exist; SQLite copies its mode to the WAL and shared memory files."""
    try:
        if not path.exists():
            path.touch(FILE_MODE)
    except OSError as exc:
        raise StoreError(f"{path}: the state cannot be written: {exc.strerror}") from exc


def wal_size(path: Path) -> int:
    """Return the size in bytes of the write-ahead log of a database."""
    wal = Path(f"{path}-wal")
    return wal.stat().st_size if wal.exists() else 0
