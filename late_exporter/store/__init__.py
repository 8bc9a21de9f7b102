"""Durable state: keys and statuses of counted logs, series values, pending logs and coverage.

The URL of a state is ``sqlite:///relative/path``, ``sqlite:////absolute/path``, ``sqlite://`` for memory, or
``postgresql://user@host/database``. Any other scheme raises ConfigError.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from late_exporter.errors import ConfigError, StoreError
from late_exporter.model import (
    CommitResult,
    FeedAccounting,
    FeedCommit,
    FeedState,
    Scope,
)
from late_exporter.series import Series, SeriesValue
from late_exporter.store.outbox import Outbox
from late_exporter.store.series_rows import FIRST_SERIES, SeriesCursor
from late_exporter.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from late_exporter.store.membership import ClaimedFeed, Membership

__all__ = [
    "FIRST_SERIES",
    "Outbox",
    "SeriesCursor",
    "SharedStore",
    "Store",
    "import_postgres",
    "is_postgres",
    "open_membership",
    "open_shared_store",
    "open_store",
    "parse_url",
]


class Store(Protocol):
    """The state of all workspaces; each method is one transaction.

    If a method raises StoreError, the state is unchanged. A store must be used by one thread at a time.
    """

    @property
    def outbox(self) -> Outbox:
        """Log events that are not delivered yet, of the workspaces of this process."""

    def series_values(self) -> Mapping[Series, SeriesValue]:
        """Return the value of every series of every workspace."""

    def series_page(
        self, after: SeriesCursor, *, limit: int, workspaces: Collection[str]
    ) -> tuple[Mapping[Series, SeriesValue], SeriesCursor]:
        """Return the values of the next series of some workspaces, and the cursor after them; none at the end.

        ``after`` is FIRST_SERIES for the first page.
        """

    def feed_state(self, scope: Scope) -> FeedState:
        """Return the state of one feed."""

    def feed_states(self, scopes: Sequence[Scope]) -> Mapping[Scope, FeedState]:
        """Return the state of each of some feeds."""

    def lookup(self, scope: Scope, keys: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """Return the counted statuses of logs by key; keys that are not stored are missing."""

    def newest_time(self, scope: Scope, *, until: int) -> int | None:
        """Return the creation time of the newest stored log of a feed up to a time, except rejected ones.

        None if there is none. Reads all logs of the feed.
        """

    def accounting(self, scope: Scope) -> FeedAccounting:
        """Return the redundant counts of a feed; reads all of its observations."""

    def commit_all(self, commits: Sequence[FeedCommit]) -> Sequence[CommitResult | StoreError]:
        """Store batches of several feeds durably, together if possible; return the result or the error of each.

        Each batch is stored as a whole or not at all, whatever happens to the others. One with a result is durable.
        """

    def size(self, workspace: str) -> tuple[int, int]:
        """Return the number of stored logs of a workspace, and its share of the size of the state in bytes."""

    def close(self) -> None:
        """Close the state; the store cannot be used afterwards."""


class SharedStore(Store, Protocol):
    """The state as one of several replicas sees it, which can only write to the workspaces that it has claimed.

    Attributes:
        fenced_workspaces: Workspaces of commits that failed because another process owns them; the reader removes them.
    """

    fenced_workspaces: deque[str]

    def adopt(self, feeds: Sequence[ClaimedFeed]) -> None:
        """Use feeds that were claimed.

        Raises:
            StoreRegressed: The state has lost commits to one of them; its feeds are marked as restored.
        """

    def forget(self, workspaces: Collection[str]) -> None:
        """Do not use the feeds of workspaces any more."""


def open_store(url: str, password_file: Path | None = None) -> Store:
    """Open the state at a URL; create it if it does not exist.

    Args:
        url: URL of the state.
        password_file: File with the password of the database.

    Raises:
        StoreError: The state cannot be used; the message names it and the reason.
    """
    if is_postgres(url):
        return import_postgres("store").PostgresStore(url, password_file)  # type: ignore[no-any-return]
    return SqliteStore(parse_url(url))


def open_shared_store(url: str, password_file: Path | None = None) -> SharedStore:
    """Open the state in a database for one of several replicas, which owns no workspace at first.

    Raises:
        StoreError: The state cannot be used; the message names it and the reason.
    """
    return import_postgres("shared").SharedPostgresStore(url, password_file)  # type: ignore[no-any-return]


def open_membership(url: str, password_file: Path | None = None) -> Membership:
    """Return the members that share the state in a database."""
    return import_postgres("members").PostgresMembership(url, password_file)  # type: ignore[no-any-return]


def is_postgres(url: str) -> bool:
    return url.startswith("postgresql://")


def import_postgres(module: str) -> Any:
    """Return a module of the package for PostgreSQL, which is not needed otherwise and may not be installed."""
    try:
        return import_module(f"late_exporter.store.postgres.{module}")
    except ImportError as exc:
        if (exc.name or "").partition(".")[0] not in ("psycopg", "psycopg_binary"):
            raise
        raise ConfigError("--state.url: PostgreSQL needs the package psycopg; install late-exporter[postgres]") from exc


def parse_url(url: str) -> Path | None:
    """Return the path of a state; None for memory."""
    scheme, _, path = url.partition("://")
    if scheme != "sqlite":
        raise ConfigError(f"--state.url {url!r}: not a state URL; write it like sqlite:///data/late-exporter.db")
    return Path(path.removeprefix("/")) if path else None
