"""Read-only view of a state that an exporter may have open, for commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

from late_exporter.errors import StoreMissing
from late_exporter.model import Scope
from late_exporter.series import Series, SeriesValue
from late_exporter.store import database_at, feed_rows, series_rows
from late_exporter.store.migrations import require_current, version_of
from late_exporter.store.records import FeedAccounting, FeedState


class RecordedStatus(NamedTuple):
    """A counted status of a log, and the creation time of the log."""

    key: str
    status: str
    created: int


class Snapshot:
    """A snapshot of a state, as of the time at which it was opened.

    Raises:
        StoreMissing: There is no state.
        StoreOutdated: An earlier version has written it.
        StoreError: A newer version has written it, it is damaged, or cannot be read.
    """

    def __init__(self, url: str, password_file: Path | None = None) -> None:
        self._database = database_at(url, password_file)
        self.name = self._database.name
        self._stack = ExitStack()
        self._transaction = self._stack.enter_context(self._database.snapshot())
        with self._stack.pop_all() as stack:
            if not require_current(self._database, self._transaction):
                raise StoreMissing(f"{self.name}: there is no state")
            query = (
                "SELECT late_feed.id, late_workspace.name, late_feed.name FROM late_feed JOIN late_workspace"
                " ON late_workspace.id = late_feed.workspace ORDER BY late_workspace.name, late_feed.name"
            )
            rows = self._transaction.execute(query)
            self._feed_ids = {Scope(workspace, feed): number for number, workspace, feed in rows}
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: Any) -> None:  # noqa: PYI036 - those of ExitStack
        self._stack.__exit__(*details)

    def close(self) -> None:
        """End the snapshot."""
        self._stack.close()

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self._database.size(self._transaction)

    @property
    def version(self) -> int:
        """Version of the schema."""
        return version_of(self._database, self._transaction)

    @property
    def scopes(self) -> Sequence[Scope]:
        """Feeds in the state."""
        return list(self._feed_ids)

    def damage(self) -> Iterator[str]:
        """Yield what the database itself finds damaged."""
        return self._database.damage(self._transaction)

    def series_values(self) -> Mapping[Series, SeriesValue]:
        """Return the value of every series."""
        return series_rows.load_all(self._transaction)

    def feed_state(self, scope: Scope) -> FeedState:
        """Return the state of a feed; raise KeyError if it is not in the state."""
        feed_id = self._feed_ids[scope]
        query = "SELECT logs, coverage, progress, failures FROM late_feed WHERE id = ?"
        row = self._transaction.execute(query, (feed_id,)).fetchone()
        return feed_rows.decode_state(row, feed_rows.pending_logs(self._transaction, feed_id))

    def created_range(self, scope: Scope) -> tuple[int, int] | None:
        """Return the creation times of the oldest and the newest stored log; None if there is none."""
        query = "SELECT min(created), max(created) FROM late_log WHERE feed = ? AND status <> 'rejected'"
        oldest, newest = self._transaction.execute(query, (self._feed_ids.get(scope),)).fetchone()
        return None if oldest is None else (oldest, newest)

    def recorded_statuses(self, scope: Scope) -> Iterator[RecordedStatus]:
        """Yield every counted status of the stored logs, in the order of the keys."""
        query = "SELECT key, status, created FROM late_log WHERE feed = ? ORDER BY key, status"
        yield from map(
            RecordedStatus._make, self._transaction.execute(query, (self._feed_ids.get(scope),))
        )

    def lookup(self, scope: Scope, keys: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """Return the counted statuses of logs by key; keys that are not stored are missing."""
        return feed_rows.decode_statuses(
            feed_rows.select_statuses(self._transaction, self._feed_ids[scope], keys)
        )

    def accounting(self, scope: Scope) -> FeedAccounting:
        """Return the redundant counts of a feed; raise KeyError if it is not in the state."""
        return feed_rows.accounting(self._transaction, self._feed_ids[scope], scope.workspace)
