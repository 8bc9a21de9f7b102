"""A state as others read it, while its own process goes on writing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import quote

import msgspec

from late_exporter.errors import StoreError, StoreOutdated
from late_exporter.model import FeedAccounting, FeedState, LogEntry, Scope, Series, SeriesValue
from late_exporter.store import queries
from late_exporter.store.lockfile import require_database
from late_exporter.store.schema import APPLICATION_ID, MIGRATIONS

__all__ = ["LookupResult", "RecordedStatus", "StateSnapshot"]


class RecordedStatus(NamedTuple):
    """A sighting that was counted; ``created`` is in milliseconds, None where the log has no time."""

    key: str
    status: str
    created: int | None


class LookupResult(NamedTuple):
    """What the state knows of the logs of a page.

    Args:
        statuses: Those in which each was counted; a log that is missing here is not known.
        former_keys: The keys under which the exporter has yet to recognize some of them, after a switch of generations.
    """

    statuses: Mapping[str, frozenset[str]]
    former_keys: frozenset[str]


class StateSnapshot:
    """A state in a SQLite file, read only: all that is read is of the moment at which it was opened.

    ``schema_version`` is the version of its tables.

    Neither the lock nor the file is touched, so it does not matter whether an exporter runs on it.

    Args:
        path: The file.

    Raises:
        StoreOutdated: An earlier version wrote it, and this one has not run on it yet.
        StoreError: There is no such file, it is not ours, is damaged, is of a newer version, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.schema_version = len(MIGRATIONS)
        if not path.exists():
            raise StoreError(f"{path}: there is no state")
        require_database(path, writable=False)
        with self._store_errors():
            self._connection = sqlite3.connect(
                f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
        try:
            with self._store_errors():
                self._begin()
        except BaseException:
            self._connection.close()
            raise

    def _begin(self) -> None:
        execute = self._connection.execute
        execute("BEGIN")
        (application,) = execute("PRAGMA application_id").fetchone()
        (version,) = execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise StoreError(f"{self._path} is the database of another program")
        if version < len(MIGRATIONS):
            raise StoreOutdated(f"{self._path} was written by an earlier late-exporter; start this one on it once")
        if version > len(MIGRATIONS):
            raise StoreError(f"{self._path} was written by a newer late-exporter; use that one")
        self._scope_ids = {
            Scope(workspace, feed): number
            for number, workspace, feed in execute("SELECT id, workspace, feed FROM scope ORDER BY workspace, feed")
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    @property
    def size(self) -> int:
        """Bytes on disk, with what is not yet in the file itself."""
        journal = Path(f"{self._path}-wal")
        return self._path.stat().st_size + (journal.stat().st_size if journal.exists() else 0)

    @property
    def scopes(self) -> Sequence[Scope]:
        """The feeds of which something is kept."""
        return list(self._scope_ids)

    def series_values(self) -> Mapping[Series, SeriesValue]:
        """The total of every series."""
        with self._store_errors():
            return queries.series_values(self._connection)

    def feed_state(self, scope: Scope) -> FeedState:
        """What is kept of a feed; raises KeyError where nothing is."""
        with self._store_errors():
            return queries.feed_state(self._connection, self._scope_ids[scope])

    def created_range(self, scope: Scope) -> tuple[int, int] | None:
        """When the oldest and the newest log that is held was created, in milliseconds; None where none has a time."""
        with self._store_errors():
            oldest, newest = self._connection.execute(
                "SELECT min(created), max(created) FROM sighting WHERE scope = ?", (self._scope_ids.get(scope),)
            ).fetchone()
        return None if oldest is None else (oldest, newest)

    def recorded_statuses(self, scope: Scope) -> Iterator[RecordedStatus]:
        """Every sighting of a feed that was counted and is not forgotten, by key; none where nothing is kept."""
        with self._store_errors():
            found = self._connection.execute(
                "SELECT key, status, created FROM sighting WHERE scope = ? ORDER BY key, status",
                (self._scope_ids.get(scope),),
            )
            yield from map(RecordedStatus._make, found)

    def lookup(self, scope: Scope, entries: Sequence[LogEntry], *, has_pending: bool) -> LookupResult:
        """What is known of the logs of a page, also of those that the exporter has yet to recognize.

        ``has_pending``: logs may change their status.
        """
        with self._store_errors():
            number = self._scope_ids[scope]
            found = queries.stored_statuses(self._connection, number, [entry.key for entry in entries])
            former = queries.match_page(self._connection, number, entries, has_pending=has_pending)
            held = queries.stored_statuses(self._connection, number, list(former))
            for key, entry in former.items():
                found.setdefault(entry.key, set()).update(held[key] if has_pending else {entry.status})
        return LookupResult({key: frozenset(statuses) for key, statuses in found.items()}, frozenset(former))

    def accounting(self, scope: Scope) -> FeedAccounting:
        """What the state's own books say of a feed; raises KeyError where nothing is kept."""
        with self._store_errors():
            return queries.accounting(self._connection, self._scope_ids[scope])

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, msgspec.MsgspecError) as exc:
            raise StoreError(f"{self._path}: {exc}") from exc
