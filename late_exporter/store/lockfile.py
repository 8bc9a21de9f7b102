"""Locks, permissions and identity of the files of a state, and the record of its last commit."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Self

from late_exporter.errors import StoreError, StoreInUse

DIRECTORY_MODE, FILE_MODE = 0o700, 0o600
"""Readable by the owner only, because the state contains account names."""

DATABASE_LOCK = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 2**62, 1, 0)
"""Lock of a byte of the database file: beyond its end, and none of those that SQLite locks."""

RECORD_LENGTH = 21
"""Bytes of a record: 20 digits and a line feed, so that a new one overwrites the previous one."""

CLOSED = -1
"""Descriptor of a file that is closed, which each call refuses."""

NOT_A_STATE = (
    "is not a state of late-exporter, or is damaged; it was not changed: restore a backup, or name another file"
)

EXCLUSIVE = fcntl.LOCK_EX | fcntl.LOCK_NB


class StateLock:
    """Exclusive use of the files of a state, until it is closed or the process ends.

    The file ``*.lock`` beside the database is locked before the database is opened or created. On Linux, a byte of the
    database is locked as well, so that another process is refused even if something has removed the lock file.

    The lock file records the number of the last commit: a state with a smaller number is an older copy.

    Raises:
        StoreInUse: Another process has the state open.
        StoreError: A file cannot be read or written, or the path is neither free nor that of a database.
    """

    def __init__(self, path: Path) -> None:
        self._name = path
        self._database_fd = CLOSED
        try:
            path.parent.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
            self.path = path.resolve()  # symbolic links to one state share one lock
            self._lock_path = self.path.with_name(f"{self.path.name}.lock")
            self._had_lock_file = self._lock_path.exists()
            self._lock_fd = _open(self._lock_path)
        except OSError as exc:
            if exc.errno == errno.ELOOP:
                raise StoreError(
                    f"{path}: the state cannot be locked: {exc.filename} is a symbolic link; remove it"
                ) from exc
            raise StoreError(f"{path}: the state cannot be written: {exc.strerror}: {exc.filename}") from exc
        try:
            fcntl.flock(self._lock_fd, EXCLUSIVE)
        except BlockingIOError as exc:
            self.close()
            raise self._in_use() from exc
        except OSError as exc:
            self.close()
            raise StoreError(f"{path}: the state cannot be locked: {exc.strerror}") from exc
        try:
            require_database(path)
            self.lock_database()
        except BaseException:
            self.remove_new_file()
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def last_commit(self) -> int:
        """Number of the last commit that was recorded; 0 if there is no record."""
        try:
            return int(os.pread(self._lock_fd, RECORD_LENGTH, 0))
        except (OSError, ValueError):
            return 0

    def record_commit(self, number: int) -> None:
        """Record the number of the last commit, in a new lock file if the previous one was removed.

        This neither waits for the disk nor fails: a record that is lost is too small, so that nothing is noticed.
        """
        with suppress(OSError):
            if not os.fstat(self._lock_fd).st_nlink:
                self._replace_lock_file()
            os.pwrite(self._lock_fd, f"{number:020}\n".encode(), 0)

    def lock_database(self) -> None:
        """Lock the database, if it exists; raise StoreInUse if another process has it open."""
        try:
            self._database_fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return  # Opening the database reports why it cannot be used.
        # A lock of the open file: SQLite drops all locks of the process when it unlocks the file.
        if operation := getattr(fcntl, "F_OFD_SETLK", None):  # only on Linux
            try:
                fcntl.fcntl(self._database_fd, operation, DATABASE_LOCK)
            except (BlockingIOError, PermissionError) as exc:
                raise self._in_use() from exc
            except OSError:
                return  # The file system has no such locks; the lock file remains.

    def remove_new_file(self) -> None:
        """Remove the lock file if this lock has created it."""
        if not self._had_lock_file:
            self._lock_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the locks; the database must be closed before."""
        for fd in (self._database_fd, self._lock_fd):
            if fd != CLOSED:
                os.close(fd)
        self._database_fd = self._lock_fd = CLOSED

    def _in_use(self) -> StoreInUse:
        return StoreInUse(f"{self._name} is in use by another late-exporter; every process needs a state of its own")

    def _replace_lock_file(self) -> None:
        fd = _open(self._lock_path)
        try:
            fcntl.flock(fd, EXCLUSIVE)
        except OSError:
            os.close(fd)  # A process that is about to be refused has it; the next commit tries again.
            raise
        os.close(self._lock_fd)
        self._lock_fd = fd


def _open(lock_path: Path) -> int:
    # A symbolic link in a folder that others can write would have the record written over any file.
    return os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)


def file_identity(path: Path) -> tuple[int, int]:
    """Return device and inode of the file; raise StoreError if it does not exist."""
    try:
        stat = os.stat(path)  # noqa: PTH116 - each commit asks for it
    except OSError as exc:
        raise StoreError(f"{path}: the state file was removed: {exc.strerror}; restart to create a new one") from exc
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

    It is not free if the database is missing, but its write-ahead log is left.
    """
    header = b""
    try:
        if exists := path.exists():
            if not path.is_file():  # Creating a state would replace a device; opening a pipe would wait.
                raise StoreError(f"{path} is not a regular file; name a file, or use sqlite:// for a state in memory")
            if writable and not os.access(path, os.W_OK):
                raise StoreError(f"{path}: the state cannot be written: it is read-only")
            with path.open("rb") as file:
                header = file.read(16)
        database = path.resolve()
        remains = [f"{database.name}-wal"] if wal_size(database) else []
    except OSError as exc:
        raise StoreError(f"{path}: the state cannot be read: {exc.strerror}") from exc
    if header and not header.startswith(b"SQLite format 3\0"):
        raise StoreError(f"{path} {NOT_A_STATE}")
    if not header and (exists or remains):
        damage = ", but an earlier run left ".join(["empty" if exists else "missing", *remains])
        files = " and ".join([database.name, *remains] if exists else remains)
        raise StoreError(
            f"{path} is {damage}; it was not changed: restore a backup, or remove {files} to begin a new state"
        )


def wal_size(path: Path) -> int:
    """Return the size in bytes of the write-ahead log of a database."""
    try:
        return os.stat(f"{path}-wal").st_size  # noqa: PTH116 - each commit asks for it
    except (FileNotFoundError, NotADirectoryError):
        return 0
