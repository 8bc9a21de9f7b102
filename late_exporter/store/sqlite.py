"""The state in a SQLite file, or in memory, and the lock and the permissions of its files."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
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

REMEDY = "restore a backup, or name another file"


def lock(path: Path, flags: int = 0) -> int:
    """Lock a state for this process by the file ``*.lock`` beside it.

    Args:
        path: Path of the state.
        flags: Further flags with which the lock file is opened.

    Returns:
        Descriptor of the lock file. The lock ends when it is closed, or the process ends.

    Raises:
        StoreInUse: Another process has the state open.
        StoreError: The lock file cannot be opened or locked.
    """
    with ExitStack() as stack, file_errors(path):
        descriptor = os.open(lock_path(path), os.O_RDWR | os.O_CLOEXEC | flags, FILE_MODE)
        stack.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        stack.pop_all()
    return descriptor


def lock_path(path: Path) -> Path:
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


def file_size(path: str) -> int | None:
    """Return the size of a file in bytes; None if there is none."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - each commit asks for it
    except (FileNotFoundError, NotADirectoryError):
        return None


def require_database(path: Path) -> bool:
    """Return whether the file exists; raise StoreError if it cannot be that of a database.

    A write-ahead log without a database is an error as well.
    """
    with file_errors(path):
        size = file_size(str(path))
        log_size = file_size(f"{path.resolve()}-wal")
    # Creating a state would replace a device; opening a pipe would wait.
    if size is not None and not path.is_file():
        raise StoreError(
            f"{path} is not a regular file; name a file, or use sqlite:// for a state in memory"
        )
    if not size and log_size:
        raise StoreError(
            f"{path} is missing or empty, but an earlier run left {path.name}-wal; it was not"
            f" changed: restore a backup, or remove {path.name} and {path.name}-wal to begin a new"
            " state"
        )
    return size is not None


def check_creation(path: Path) -> None:
    """Raise the StoreError of an exporter's start if a missing state cannot be created.

    What is created is removed again. The state and its lock are left alone: an exporter that
    starts meanwhile may create them.
    """
    folder = lock_path(path).parent
    with file_errors(path):
        missing = [each for each in path.absolute().parents if not each.exists()]
        try:
            path.parent.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
            try:
                TemporaryFile(dir=folder).close()
            except OSError as exc:
                raise OSError(exc.errno, exc.strerror, str(lock_path(path))) from exc
        finally:
            for each in missing:
                with suppress(OSError):  # It may be in use by now, or was not created.
                    each.rmdir()


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
        self._lock: int | None = None
        self._connection: sqlite3.Connection | None = None

    def connect(self) -> None:
        """Lock the file and open it.

        Raises:
            StoreInUse: Another process has it open.
            StoreError: It cannot be written, is damaged, or belongs to another program.
        """
        try:
            if self._path:
                self._create_files(self._path)
            self.attach()
        except BaseException:
            self.close()
            raise

    def _create_files(self, path: Path) -> None:
        """Lock the state, and create an empty file if there is none, which only its owner reads."""
        with file_errors(path):
            path.parent.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
        # A symbolic link in a folder that others can write would have any file created.
        self._lock = lock(path, os.O_CREAT | os.O_NOFOLLOW)
        require_database(path)
        with file_errors(path):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))

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
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        path = self.require_path()
        if not require_database(path):
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
        return int(size) + (file_size(f"{self._path}-wal") or 0)

    def damage(self, queries: Queries) -> Iterator[str]:
        for (problem,) in queries.execute("PRAGMA integrity_check(20)"):
            if problem != "ok":
                yield f"database: {problem}"

    def is_in_use(self) -> bool:
        path = self.require_path()
        if not lock_path(path).exists():
            return False
        try:
            os.close(lock(path))
        except StoreInUse:
            return True
        return False

    def backup(self, target: Path) -> int:
        with self.snapshot() as source, store_errors(target):
            try:
                os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE))
            except FileExistsError:
                raise StoreError(f"{target}: the file exists already and was not changed") from None
            try:
                with closing(sqlite3.connect(target)) as copy:
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
        if self._lock is not None:  # It ends after the database is closed.
            os.close(self._lock)
            self._lock = None


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Raise errors of the files of a state as StoreError, and that of a lock as StoreInUse."""
    try:
        yield
    except BlockingIOError as exc:
        in_use = "is in use by another late-exporter; every process needs a state of its own"
        raise StoreInUse(f"{path} {in_use}") from exc
    except OSError as exc:
        place = f": {exc.filename}" if exc.filename else ""
        raise StoreError(f"{path}: the state cannot be used: {exc.strerror}{place}") from exc


@contextmanager
def store_errors(name: object) -> Iterator[None]:
    """Raise the errors of reading and writing a state as StoreError.

    It has the remedy if the state is damaged.
    """
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeDecodeError, msgspec.MsgspecError) as exc:
        remedy = f"; {REMEDY}" if _is_damage(exc) else ""
        raise StoreError(f"{name}: {exc}{remedy}") from exc


def _is_damage(exc: Exception) -> bool:
    if not isinstance(exc, sqlite3.Error):
        return not isinstance(exc, OSError)
    # An extended code has the primary one in its lowest byte.
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
    return code in DAMAGE_CODES or str(exc).startswith(DAMAGE_MESSAGES)
