"""Durable state: keys and statuses of counted logs, series values, pending logs and coverage.

The URL of a state is ``sqlite:///relative/path``, ``sqlite:////absolute/path`` or ``sqlite://`` for memory. Any other
scheme raises ConfigError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Protocol

from late_exporter.errors import ConfigError, StoreError, StoreInUse
from late_exporter.model import (
    Batch,
    CommitResult,
    Coverage,
    Feed,
    FeedAccounting,
    FeedCommit,
    FeedState,
    KnownLogs,
    LogEntry,
    Scope,
    StoredLog,
)
from late_exporter.series import Series, SeriesValue
from late_exporter.store.lockfile import StateLock
from late_exporter.store.series_rows import FIRST_SERIES, SeriesCursor
from late_exporter.store.snapshot import LookupResult, RecordedStatus, StateSnapshot
from late_exporter.store.sqlite import SqliteStore

__all__ = [
    "FIRST_SERIES",
    "LookupResult",
    "RecordedStatus",
    "SeriesCursor",
    "StateSnapshot",
    "Store",
    "is_in_use",
    "open_snapshot",
    "open_store",
    "state_path",
]


class Store(Protocol):
    """The state of all workspaces; each method is one transaction.

    If a method raises StoreError, the state is unchanged. A store must be used by one thread at a time.
    """

    def series_values(self) -> Mapping[Series, SeriesValue]:
        """Return the value of every series of every workspace."""

    def series_page(self, after: SeriesCursor, *, limit: int) -> tuple[Mapping[Series, SeriesValue], SeriesCursor]:
        """Return the values of the next series of all workspaces, and the cursor after them; none at the end.

        ``after`` is FIRST_SERIES for the first page.
        """

    def feed_state(self, scope: Scope) -> FeedState:
        """Return the state of one feed."""

    def feed_states(self, scopes: Sequence[Scope]) -> Mapping[Scope, FeedState]:
        """Return the state of each of some feeds."""

    def lookup(
        self,
        scope: Scope,
        entries: Sequence[LogEntry],
        *,
        feed: Feed,
        since: int,
        uncommitted: Mapping[str, AbstractSet[str]] = ...,
        partial_times: AbstractSet[int] = ...,
    ) -> KnownLogs:
        """Return the counted statuses of the logs of a page, and re-key those that are stored under a former key.

        Args:
            scope: Feed of a workspace.
            entries: Logs of the page.
            feed: Feed that the page was read from.
            since: Creation time of the oldest logs that the API may still return.
            uncommitted: Statuses by key of logs that were read but are not committed yet.
            partial_times: Creation times of which the page may lack logs. If some of them are undecided, nothing is
                re-keyed.
        """

    def count_logs(self, scope: Scope, first: int, last: int) -> int:
        """Return the number of logs created in a time range that are not marked as deleted.

        Args:
            scope: Feed of a workspace, whose keys begin with the creation time.
            first: First millisecond of the range.
            last: Last millisecond of the range.
        """

    def newest_logs(self, scope: Scope, *, until: int, limit: int) -> Sequence[StoredLog]:
        """Return the newest stored logs of a feed until a creation time, newest first, except rejected ones.

        Reads all logs of the feed.
        """

    def begin_rekey(self, scope: Scope, coverage: Coverage) -> None:
        """Prepare the stored logs of a feed for the keys of another API generation, and store its coverage.

        Logs created before the coverage's retention floor are no longer pending.
        """

    def accounting(self, scope: Scope) -> FeedAccounting:
        """Return the redundant counts of a feed; reads all of its observations."""

    def commit(self, scope: Scope, batch: Batch) -> CommitResult:
        """Store a batch durably; apply the increments of observations that are new."""

    def commit_all(self, commits: Sequence[FeedCommit]) -> Sequence[CommitResult | StoreError]:
        """Store batches of several feeds durably, together if possible; return the result or the error of each.

        Each batch is stored as a whole or not at all, whatever happens to the others. One with a result is durable.
        """

    def mark_served(self, series: Sequence[Series]) -> Sequence[Series]:
        """Store durably that the initial zeros of series were served; return those of the series that are stored."""

    def size(self, workspace: str) -> tuple[int, int]:
        """Return the number of stored logs of a workspace, and its share of the size of the state in bytes."""

    def close(self) -> None:
        """Close the state; the store cannot be used afterwards."""


def open_store(url: str) -> Store:
    """Open the state at a URL; create it if it does not exist.

    Raises:
        StoreError: The state cannot be used; the message names the file and the reason.
    """
    return SqliteStore(_parse_url(url))


def open_snapshot(url: str) -> StateSnapshot:
    """Open the state at a URL for reading, while an exporter may write it; raise StoreError if it cannot be read."""
    return StateSnapshot(state_path(url))


def state_path(url: str) -> Path:
    """Return the path of the state at a URL, whether or not it exists; raise StoreError if the state is in memory."""
    path = _parse_url(url)
    if path is None:
        raise StoreError("a state in memory cannot be read by another process")
    return path


def is_in_use(url: str) -> bool:
    """Return whether another process has the state open; raise StoreError if the state cannot be written."""
    path = _parse_url(url)
    if path is None:
        return False
    try:
        with StateLock(path) as lock:
            lock.remove_new_file()
    except StoreInUse:
        return True
    return False


def _parse_url(url: str) -> Path | None:
    """Return the path of a state; None for memory."""
    scheme, _, path = url.partition("://")
    if scheme != "sqlite":
        raise ConfigError(f"--state.url {url!r}: not a state URL; write it like sqlite:///data/late-exporter.db")
    return Path(path.removeprefix("/")) if path else None
