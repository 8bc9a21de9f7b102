"""Lock, permissions and identity of the files of a SQLite state."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from late_exporter.errors import StoreError, StoreInUse

DIRECTORY_MODE, FILE_MODE = 0o700, 0o600
"""Readable by the owner only, because the state contains account names."""

NOT_A_STATE = "is not a state of late-exporter, or is damaged; it was not changed: restore a backup, or name another file"


class StateLock:
    """Exclusive use of a state, by a lock of the file ``*.lock`` beside it, until it is closed or the process ends.

    The database is created empty if it does not exist, so that only its owner can read it.

    Raises:
        StoreInUse: Another process has the state open.
        StoreError: A file cannot be read or written, or the path is neither free nor that of a
            database.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
            # A symbolic link in a folder that others can write would have any file created.
            self._fd = os.open(
                _lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE
            )
        except OSError as exc:
            if exc.errno == errno.ELOOP:
                raise StoreError(
                    f"{path}: the state cannot be locked: {exc.filename} is a symbolic link; remove it"
                ) from exc
            raise StoreError(
                f"{path}: the state cannot be written: {exc.strerror}: {exc.filename}"
            ) from exc
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            require_database(path)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
        except BlockingIOError as exc:
            self.close()
            in_use = "is in use by another late-exporter; every process needs a state of its own"
            raise StoreInUse(f"{path} {in_use}") from exc
        except OSError as exc:
            self.close()
            raise StoreError(f"{path}: the state cannot be locked: {exc.strerror}") from exc
        except BaseException:
            self.close()
            raise

    @staticmethod
    def is_locked(path: Path) -> bool:
        """Return whether a process has the state open; raise StoreError if this user may not know."""
        try:
            fd = os.open(_lock_path(path), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise StoreError(
                f"{path}: the state cannot be written: {exc.strerror}: {exc.filename}"
            ) from exc
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def close(self) -> None:
        """Release the lock; the database must be closed before."""
        os.close(self._fd)


def _lock_path(path: Path) -> Path:
    path = path.resolve()  # Symbolic links to one state share one lock.
    return path.with_name(f"{path.name}.lock")


def file_identity(path: Path) -> tuple[int, int]:
    """Return device and inode of the file; raise StoreError if it does not exist."""
    try:
        stat = os.stat(path)  # noqa: PTH116 - each commit asks for it
    except OSError as exc:
        raise StoreError(
            f"{path}: the state file was removed: {exc.strerror}; restart to create a new one"
        ) from exc
    return stat.st_dev, stat.st_ino


def state_exists(path: Path) -> bool:
    """Return whether the file exists; raise StoreError if this user may not know."""
    try:
        path.stat()  # exists() differs between Python versions
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as exc:
        raise StoreError(f"{path}: the state cannot be read: {exc.strerror}") from exc
    return True


def require_database(path: Path, *, writable: bool = True) -> None:
    """Raise StoreError if the path is neither free nor that of a database, or if a file cannot be accessed.

    It is not free if the database is missing or empty, but its write-ahead log is left.
    """
    header = b""
    try:
        if path.exists():
            if (
                not path.is_file()
            ):  # Creating a state would replace a device; opening a pipe would wait.
                raise StoreError(
                    f"{path} is not a regular file; name a file, or use sqlite:// for a state in memory"
                )
            if writable and not os.access(path, os.W_OK):
                raise StoreError(f"{path}: the state cannot be written: it is read-only")
            with path.open("rb") as file:
                header = file.read(16)
        log_size = wal_size(path.resolve())
    except OSError as exc:
        raise StoreError(f"{path}: the state cannot be read: {exc.strerror}") from exc
    if header and not header.startswith(b"SQLite format 3\0"):
        raise StoreError(f"{path} {NOT_A_STATE}")
    if not header and log_size:
        raise StoreError(
            f"{path} is missing or empty, but an earlier run left {path.name}-wal; it was not changed: restore a"
            f" backup, or remove {path.name} and {path.name}-wal to begin a new state"
        )


def wal_size(path: Path) -> int:
    """Return the size in bytes of the write-ahead log of a database."""
    try:
        return os.stat(f"{path}-wal").st_size  # noqa: PTH116 - each commit asks for it
    except (FileNotFoundError, NotADirectoryError):
        return 0
