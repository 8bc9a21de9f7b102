"""Read and maintain a state in another process than the exporter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, Self

from late_exporter.errors import StoreError
from late_exporter.model import FeedAccounting, FeedState, Scope
from late_exporter.series import Series, SeriesValue
from late_exporter.store import import_postgres, is_postgres, parse_url, queries
from late_exporter.store.admin import SqliteAdmin
from late_exporter.store.copying import RowSource, RowTarget
from late_exporter.store.snapshot import RecordedStatus, SqliteSnapshot


class StateSnapshot(RowSource, Protocol):
    """A snapshot of a state, as of the time at which it was opened; an exporter may have the state open."""

    @property
    def size(self) -> int:
        """Size in bytes."""

    @property
    def scopes(self) -> Sequence[Scope]:
        """Feeds in the state."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None:
        """End the snapshot."""

    def series_values(self) -> Mapping[Series, SeriesValue]:
        """Return the value of every series."""

    def feed_state(self, scope: Scope) -> FeedState:
        """Return the state of a feed; raise KeyError if it is not in the state."""

    def created_range(self, scope: Scope) -> tuple[int, int] | None:
        """Return the creation times of the oldest and the newest stored log; None if no stored log has a time."""

    def recorded_statuses(self, scope: Scope) -> Iterator[RecordedStatus]:
        """Yield every counted status of the stored logs, in the order of the keys."""

    def lookup(self, scope: Scope, keys: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """Return the counted statuses of logs by key; keys that are not stored are missing."""

    def accounting(self, scope: Scope) -> FeedAccounting:
        """Return the redundant counts of a feed; raise KeyError if it is not in the state."""


class StateAdmin(Protocol):
    """Administrative operations on a state; all raise StoreError if it cannot be read or written."""

    @property
    def name(self) -> str:
        """Path of the file, or URL of the database without its password."""

    def is_in_use(self) -> bool:
        """Return whether an exporter has the state open."""

    def backup(self, target: Path) -> int:
        """Copy the state to a new file; return its size in bytes."""

    def check(self) -> Iterator[str]:
        """Check the state for corruption and inconsistencies; yield one message per problem."""

    def writing(self) -> AbstractContextManager[RowTarget]:
        """Begin a transaction that writes to the state, which is created if there is none.

        It is committed at the end of the block, and rolled back if that raises an exception.

        Raises:
            StoreInUse: An exporter has the state open.
        """


def open_snapshot(url: str, password_file: Path | None = None) -> StateSnapshot:
    """Open the state at a URL for reading, while an exporter may write it; raise StoreError if it cannot be read."""
    if is_postgres(url):
        return import_postgres("snapshot").PostgresSnapshot(url, password_file)  # type: ignore[no-any-return]
    return SqliteSnapshot(state_path(url))


def open_admin(url: str, password_file: Path | None = None) -> StateAdmin:
    """Return the administrative operations on the state at a URL; raise StoreError if it is in memory."""
    if is_postgres(url):
        return import_postgres("admin").PostgresAdmin(url, password_file)  # type: ignore[no-any-return]
    return SqliteAdmin(state_path(url))


def state_path(url: str) -> Path:
    """Return the path of the state at a URL, whether or not it exists; raise StoreError if the state is in memory."""
    path = parse_url(url)
    if path is None:
        raise StoreError("a state in memory cannot be read by another process")
    return path


def require_writable(url: str, password_file: Path | None = None) -> None:
    """Write to the state at a URL and roll it back; raise StoreError if this user cannot, or if a table is missing."""
    if is_postgres(url):
        import_postgres("access").require_writable(url, password_file)
    else:
        queries.require_writable(state_path(url))
