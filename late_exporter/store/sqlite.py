"""The state in a SQLite file, or in memory, and the lock and the permissions of its files."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import msgspec

from late_exporter.errors import StoreError, StoreInUse, StoreMissing
from late_exporter.store.database import SECONDS, Queries, Transaction

DAMAGE_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

# These share their code with errors that are no damage, such as a feature that an old version of
# SQLite lacks.
DAMAGE_MESSAGES = ("no such table", "no such column", "Could not decode to UTF-8")

# Readable by the owner only, because the state contains account names.
DIRECTORY_MODE = 0o700
FILE_MODE = 0o600

NOT_A_STATE = (
    "is not a state of late-exporter, or is damaged; it was not changed: restore a backup, or name"
    " another file"
)


class StateLock:
    """Exclusive use of a state, until it is closed or the process ends.

    It is a lock of the file ``*.lock`` beside it. The database is created empty if it does not
    exist, so that only its owner can read it.

    Raises:
        StoreInUse: Another process has the state open.
        StoreError: A file cannot be read or written, or the path is neither free nor that of a
            database.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
            # A symbolic link in a folder that others can write would have any file created.
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(_lock_path(path), flags, FILE_MODE)
        except OSError as exc:
            problem = f"the state cannot be written: {exc.strerror}: {exc.filename}"
            if exc.errno == errno.ELOOP:
                problem = (
                    f"the state cannot be locked: {exc.filename} is a symbolic link; remove it"
                )
            raise StoreError(f"{path}: {problem}") from exc
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
        """Return whether a process has the state open.

        Raises:
            StoreError: This user may not know.
        """
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
    # Symbolic links to one state share one lock.
    path = path.resolve()
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


def require_database(path: Path, *, writable: bool = True) -> bool:
    """Return whether the file exists; raise StoreError if it is not that of a database.

    A write-ahead log without a database is an error as well.
    """
    header = b""
    try:
        exists = _exists(path)
        if exists:
            # Creating a state would replace a device; opening a pipe would wait.
            if not path.is_file():
                raise StoreError(
                    f"{path} is not a regular file; name a file, or use sqlite:// for a state in"
                    " memory"
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
            f"{path} is missing or empty, but an earlier run left {path.name}-wal; it was not"
            f" changed: restore a backup, or remove {path.name} and {path.name}-wal to begin a new"
            " state"
        )
    return exists


def _exists(path: Path) -> bool:
    try:
        path.stat()  # exists() differs between Python versions
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def wal_size(path: Path) -> int:
    """Return the size in bytes of the write-ahead log of a database."""
    try:
        return os.stat(f"{path}-wal").st_size  # noqa: PTH116 - each commit asks for it
    except (FileNotFoundError, NotADirectoryError):
        return 0


class SqliteDatabase:
    """A SQLite file, which one exporter uses at a time.

    It is created with its directories if missing.

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
                # SQLite itself rolls back if the disk is full.
                if connection.in_transaction:
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
        if not require_database(path, writable=False):
            raise StoreMissing(
                f"{path}: there is no state; start the exporter first, or name its state with"
                " --state.url"
            )
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
            raise StoreError(f"{self.name} is the database of another program; it was not changed")
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
    """Raise the errors of reading and writing a state as StoreError.

    It has the remedy if the state is damaged.
    """
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeDecodeError, msgspec.MsgspecError) as exc:
        remedy = ""
        if _is_damage(exc):
            remedy = "; restore a backup, or remove the file to begin a new state"
        raise StoreError(f"{name}: {exc}{remedy}") from exc


def _is_damage(exc: Exception) -> bool:
    if not isinstance(exc, sqlite3.Error):
        return not isinstance(exc, OSError)
    # An extended code has the primary one in its lowest byte.
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
    return code in DAMAGE_CODES or str(exc).startswith(DAMAGE_MESSAGES)
