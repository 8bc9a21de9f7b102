"""The state's file before SQLite sees it: whose it is, and whether it may be used."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from late_exporter.errors import StoreError, StoreInUse

__all__ = ["create", "file_identity", "lock", "require_database"]

FOLDER, FILE = 0o700, 0o600
"""What is made here is for its owner alone: names of accounts are nobody else's business."""


def lock(path: Path) -> IO[str]:
    """Hold a lock beside the file; the system releases it whenever the process ends.

    Raises:
        StoreInUse: Another process holds it.
        StoreError: There can be no file.
    """
    try:
        path.parent.mkdir(FOLDER, parents=True, exist_ok=True)
        file = path.resolve()  # by whatever name, it is one state
        beside = file.with_name(f"{file.name}.lock")
        beside.touch(FILE)
        holder = beside.open("a")
    except OSError as exc:
        raise StoreError(f"{path}: the state cannot be written: {exc.strerror}: {exc.filename}") from exc
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        holder.close()
        raise StoreInUse(f"{path} is in use by another late-exporter; every process needs a state of its own") from exc
    return holder


def file_identity(path: Path) -> tuple[int, int]:
    """Which file it is, whatever its name; raises StoreError where there is none."""
    try:
        found = path.stat()
    except OSError as exc:
        raise StoreError(f"{path}: the state is gone: {exc.strerror}; restart to begin a new one") from exc
    return found.st_dev, found.st_ino


def require_database(path: Path, *, writable: bool = True) -> None:
    """Refuse a file that is not a SQLite database or cannot be written; none at all is fine."""
    try:
        if writable and path.exists() and not os.access(path, os.W_OK):
            raise StoreError(f"{path}: the state cannot be written: it is read-only")
        beginning = _beginning(path)
    except OSError as exc:
        raise StoreError(f"{path}: the state cannot be read: {exc.strerror}") from exc
    if beginning and not beginning.startswith(b"SQLite format 3\0"):
        raise StoreError(f"{path} is not a state of late-exporter, or is damaged; it is left as it is")


def create(path: Path) -> None:
    """Make an empty file where there is none; SQLite gives the files beside it the same mode."""
    try:
        if not path.exists():
            path.touch(FILE)
    except OSError as exc:
        raise StoreError(f"{path}: the state cannot be written: {exc.strerror}") from exc


def _beginning(path: Path) -> bytes:
    if not path.exists():
        return b""
    with path.open("rb") as file:
        return file.read(16)
