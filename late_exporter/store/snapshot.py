"""Read-only view of a state that an exporter may have open, for commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from late_exporter.format import plural
from late_exporter.model import Scope, Series, SeriesValue
from late_exporter.store import database_at, rows
from late_exporter.store.database import Database, Queries
from late_exporter.store.migrations import require_current
from late_exporter.store.records import FeedAccounting, FeedState

FEEDS = (
    "SELECT late_feed.id, late_workspace.name, late_feed.name FROM late_feed"
    " JOIN late_workspace ON late_workspace.id = late_feed.workspace"
    " ORDER BY late_workspace.name, late_feed.name"
)
FEED_STATE = "SELECT logs, coverage, progress, failures FROM late_feed WHERE id = ?"
LOGS = "SELECT key, status, created FROM late_log WHERE feed = ?"


@contextmanager
def open_snapshot(url: str, password_file: Path | None = None) -> Iterator[Snapshot]:
    """Open a snapshot of a state, as of now.

    Raises:
        StoreMissing: There is no state.
        StoreOutdated: An earlier version has written it.
        StoreError: A newer version has written it, it is damaged, or cannot be read.
    """
    database = database_at(url, password_file)
    with database.snapshot() as queries:
        require_current(database, queries)
        yield Snapshot(database, queries)


class Snapshot:
    """A state at one time."""

    def __init__(self, database: Database, queries: Queries) -> None:
        self.name = database.name
        self._database = database
        self._queries = queries
        feeds = msgspec.convert(queries.execute(FEEDS).fetchall(), list[tuple[int, str, str]])
        self._feed_ids = {Scope(workspace, feed): number for number, workspace, feed in feeds}

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self._database.size(self._queries)

    @property
    def scopes(self) -> Sequence[Scope]:
        """Feeds in the state."""
        return list(self._feed_ids)

    def damage(self) -> Iterator[str]:
        """Yield what the database itself finds damaged."""
        return self._database.damage(self._queries)

    def series_values(self) -> Mapping[Series, SeriesValue]:
        """Return the value of every series."""
        return rows.load_all_series(self._queries)

    def feed_state(self, scope: Scope) -> FeedState:
        """Return the state of a feed; raise KeyError if it is not in the state."""
        feed_id = self._feed_ids[scope]
        row = self._queries.execute(FEED_STATE, (feed_id,)).fetchone()
        return rows.decode_state(row, rows.load_pending_logs(self._queries, feed_id))

    def lookup(self, scope: Scope, keys: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """Return the counted statuses of logs by key; keys that are not stored are missing."""
        return rows.load_statuses(self._queries, self._feed_ids[scope], keys)

    def accounting(self, scope: Scope) -> FeedAccounting:
        """Return the redundant counts of a feed; raise KeyError if it is not in the state."""
        return rows.load_accounting(self._queries, self._feed_ids[scope], scope.workspace)

    def inconsistencies(self) -> Iterator[str]:
        """Compare the counts of every feed with the rows that they count; yield the problems.

        Every row is decoded as well.
        """
        yield from self.damage()
        self.series_values()
        for scope in self.scopes:
            feed = self.feed_state(scope)
            logs = self._queries.execute(LOGS, (self._feed_ids[scope],))
            keys = {msgspec.convert(row, tuple[str, str, int])[0] for row in logs}
            name = f"{scope.workspace}/{scope.feed}"
            count = len(keys)
            if count != feed.log_count:
                stored = plural(count, "log")
                yield f"{name}: the log count is {feed.log_count:,}, but the state stores {stored}"
            unknown = feed.pending_logs.keys() - keys
            if unknown:
                yield f"{name}: {plural(len(unknown), 'pending log')} not stored as counted"
