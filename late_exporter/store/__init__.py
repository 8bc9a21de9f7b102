"""Where the exporter remembers what it has counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from late_exporter.errors import ConfigError, StoreError, StoreInUse
from late_exporter.model import (
    Batch,
    CommitResult,
    Coverage,
    FeedAccounting,
    FeedState,
    KnownLogs,
    LogEntry,
    Scope,
    Series,
    SeriesValue,
)
from late_exporter.store.lockfile import lock, require_database
from late_exporter.store.snapshot import LookupResult, RecordedStatus, StateSnapshot
from late_exporter.store.sqlite import SqliteStore

__all__ = [
    "LookupResult",
    "RecordedStatus",
    "StateSnapshot",
    "Store",
    "is_in_use",
    "open_snapshot",
    "open_store",
    "state_path",
]


class Store(Protocol):
    """Keys, totals, pending logs and coverage, moved together in one transaction.

    Every method may raise StoreError; after it, what the store holds is what it held before. A store is used by one
    thread at a time.
    """

    def series_values(self) -> Mapping[Series, SeriesValue]:
        """The total of every series of every workspace."""

    def feed_state(self, scope: Scope) -> FeedState:
        """What is kept of one feed."""

    def lookup(self, scope: Scope, keys: Sequence[str], *, since: int) -> KnownLogs:
        """The statuses in which logs were counted, and how many logs created from ``since`` on are held."""

    def begin_rekey(self, scope: Scope, coverage: Coverage) -> None:
        """Go on with another generation of the API: the logs that are held are to be recognized from now on."""

    def rekey(self, scope: Scope, entries: Sequence[LogEntry], *, has_pending: bool) -> bool:
        """Know the logs of a page that are held under other keys by the keys they are shown under; tells of any.

        ``has_pending``: logs may change their status.
        """

    def accounting(self, scope: Scope) -> FeedAccounting:
        """What the state's own books say of a feed; every sighting is looked at."""

    def commit(self, scope: Scope, batch: Batch) -> CommitResult:
        """Make a batch durable; its sightings count only where they are new."""

    def size(self, workspace: str) -> tuple[int, int]:
        """How many logs the state holds of a workspace, and the bytes of the state that fall to it."""

    def close(self) -> None:
        """Release the state; the store is not to be used again."""


def open_store(url: str) -> Store:
    """Open the state that a URL names, creating it where there is none.

    Args:
        url: ``sqlite:///relative/path``, ``sqlite:////absolute/path`` or ``sqlite://`` for memory.

    Raises:
        ConfigError: The URL is of no known kind.
        StoreError: The state cannot be used; the message names the file and says why.
    """
    return SqliteStore(_file(url))


def open_snapshot(url: str) -> StateSnapshot:
    """Open the state that a URL names, to read it while its own process may go on writing.

    Raises:
        ConfigError: The URL is of no known kind.
        StoreError: There is no state, or it cannot be read.
    """
    return StateSnapshot(state_path(url))


def state_path(url: str) -> Path:
    """The file of the state that a URL names, which need not be there.

    Raises:
        ConfigError: The URL is of no known kind.
        StoreError: The state is in memory.
    """
    path = _file(url)
    if path is None:
        raise StoreError("a state in memory cannot be read by another process")
    return path


def is_in_use(url: str) -> bool:
    """Whether another process works on the state; raises StoreError where it cannot be written to."""
    path = _file(url)
    if path is None:
        return False
    try:
        lock(path).close()
    except StoreInUse:
        return True
    require_database(path)
    return False


def _file(url: str) -> Path | None:
    """The file of a state; None is memory."""
    scheme, _, path = url.partition("://")
    if scheme != "sqlite":
        raise ConfigError(f"--state.url {url!r}: not a state; write it like sqlite:///data/late-exporter.db")
    return Path(path.removeprefix("/")) if path else None
