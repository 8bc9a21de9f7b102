"""Read and write the rows of a state: feeds, statuses of logs, pending logs, and series.

Rows are checked for their types when they are read, because a damaged file may have others.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from operator import attrgetter
from typing import Any, TypeAlias

import msgspec

from late_exporter.health import Failure
from late_exporter.metrics.aggregation import decode_value, encode_value
from late_exporter.model import PENDING, Labels, Series, SeriesValue
from late_exporter.store.database import VALUES_PER_STATEMENT, Queries, Transaction, select_in
from late_exporter.store.records import (
    Coverage,
    FeedAccounting,
    FeedState,
    Observation,
    PendingLog,
    with_status,
)

STATUSES = "SELECT key, status FROM late_log WHERE feed = ? AND key IN {values}"
ANY_BETWEEN = "SELECT 1 FROM late_log WHERE feed = ? AND key BETWEEN ? AND ? LIMIT 1"
PENDING_LOGS = (
    "SELECT key, created, platform, action, post_id FROM late_pending WHERE feed = ?"
    " ORDER BY created, key"
)
ADD_LOG = "INSERT INTO late_log (feed, key, status, created) VALUES (?, ?, ?, ?)"
ADD_PENDING = (
    "INSERT INTO late_pending (feed, key, created, platform, action, post_id)"
    " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
END_PENDING = "DELETE FROM late_pending WHERE feed = ? AND key = ?"
ACCOUNTING = (
    "SELECT observations, pruned, (SELECT count(*) FROM late_log WHERE feed = late_feed.id)"
    " FROM late_feed WHERE id = ?"
)

PRUNE_SECONDS = 60.0
"""Seconds between two commits of a feed that look for expired logs."""

PRUNE_LOGS = 2_000
"""Number of rows in which such a commit looks for expired logs."""

PART = "SELECT key, created FROM late_log WHERE feed = ? AND key > ? ORDER BY key LIMIT ?"
LAST_KEY = f"SELECT max(key) FROM ({PART}) AS part"  # noqa: S608 - constants
EXPIRED = f"SELECT DISTINCT key FROM ({PART}) AS part WHERE created < ?"  # noqa: S608 - constants
DELETE = "DELETE FROM late_log WHERE feed = ? AND key IN {values} RETURNING key"

SERIES = "SELECT id, family, labels, value, created FROM late_series"
SERIES_BY_ID = f"{SERIES} WHERE workspace = ? AND id IN {{values}}"
SERIES_BY_FAMILY = f"{SERIES} WHERE workspace = ? AND family IN {{values}}"
OF_WORKSPACE = "WHERE workspace = (SELECT id FROM late_workspace WHERE name = ?)"
SERIES_OF_WORKSPACE = f"{SERIES} {OF_WORKSPACE}"
SERIES_PAGE = f"{SERIES_OF_WORKSPACE} AND id > ? ORDER BY id LIMIT ?"
WRITE_SERIES = (
    "INSERT INTO late_series (workspace, id, family, labels, value, created)"
    " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (workspace, id) DO UPDATE SET value = excluded.value"
)

NO_TIME = 253_402_300_799_999
"""Creation time of rows that have none: the end of the year 9999 in milliseconds."""

StateColumns: TypeAlias = tuple[int, str | None, str | None, str | None]
"""Columns of a feed: ``logs``, ``coverage``, ``progress`` and ``failures``."""

SeriesColumns: TypeAlias = tuple[str, str, str, str, float]


# Feeds


def decode_state(row: Sequence[Any], pending: Mapping[str, PendingLog]) -> FeedState:
    """Return the state of a feed from its StateColumns."""
    log_count, coverage, progress, failures = msgspec.convert(row, StateColumns)
    return FeedState(
        coverage=msgspec.json.decode(coverage, type=Coverage) if coverage else None,
        pending_logs=pending,
        log_count=log_count,
        progress=(progress or "").encode(),
        failures=msgspec.json.decode(failures, type=tuple[Failure, ...]) if failures else (),
    )


def load_accounting(queries: Queries, feed_id: int, workspace: str) -> FeedAccounting:
    counts = queries.execute(ACCOUNTING, (feed_id,)).fetchone()
    observation_count, pruned_count, stored_count = msgspec.convert(counts, tuple[int, int, int])
    return FeedAccounting(
        observation_count=observation_count,
        stored_count=stored_count,
        pruned_count=pruned_count,
        series_values=load_workspace_series(queries, workspace),
    )


# Logs


def select_statuses(
    queries: Queries, feed_id: int, keys: Sequence[str]
) -> Iterable[tuple[str, str]]:
    """Return keys and counted statuses of logs; those that are not stored are missing."""
    # None is stored of most batches of a catch-up.
    if len(keys) > VALUES_PER_STATEMENT and not _has_any(queries, feed_id, min(keys), max(keys)):
        return ()
    return select_in(queries, STATUSES, keys, feed_id)


def _has_any(queries: Queries, feed_id: int, first: str, last: str) -> bool:
    return queries.execute(ANY_BETWEEN, (feed_id, first, last)).fetchone() is not None


def load_statuses(queries: Queries, feed_id: int, keys: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return the counted statuses of logs by key."""
    return decode_statuses(select_statuses(queries, feed_id, keys))


def decode_statuses(rows: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    """Return the statuses of logs by key."""
    statuses: dict[str, frozenset[str]] = {}
    for key, status in rows:
        statuses[key] = with_status(statuses.get(key), status)
    return statuses


def add_logs(transaction: Transaction, feed_id: int, new: Sequence[Observation]) -> None:
    """Add observations.

    One without a time, which is rejected, never expires, as it does not in the API.
    """
    # In the order of the table: a list is read from new to old, which would split every page of the
    # index.
    entries = sorted((observation.entry for observation in new), key=attrgetter("key"))
    rows = [
        (feed_id, e.key, e.status, NO_TIME if e.created is None else e.created) for e in entries
    ]
    transaction.executemany(ADD_LOG, rows)


class LogPruner:
    """Walks over the logs of each feed, again and again, some rows with each commit.

    There is no index on their times. A million logs take eight hours, in which as many more expire
    as the API has added in eight hours of its week.
    """

    def __init__(self) -> None:
        self._places: dict[int, tuple[float, str]] = {}

    def prune(self, transaction: Transaction, feed_id: int, before: int | None) -> Sequence[str]:
        """Delete expired logs if that is due; return the key of each of their observations.

        Args:
            transaction: Transaction of a commit.
            feed_id: Id of the feed.
            before: Time in milliseconds before which logs have expired; None if it is unknown.
        """
        now = time.monotonic()
        pruned_at, after = self._places.get(feed_id, (now - PRUNE_SECONDS, ""))
        if before is None or now < pruned_at + PRUNE_SECONDS:
            return []
        part = (feed_id, after, PRUNE_LOGS)
        last_row = transaction.execute(LAST_KEY, part)
        expired_rows = transaction.execute(EXPIRED, (*part, before))
        (last_key,) = last_row.fetchone()
        keys = [key for (key,) in expired_rows]
        self._places[feed_id] = now, last_key or ""
        return [key for (key,) in select_in(transaction, DELETE, keys, feed_id)]


# Pending logs


def load_pending_logs(queries: Queries, feed_id: int) -> dict[str, PendingLog]:
    """Return the pending logs of a feed by key, oldest first."""
    pending: dict[str, PendingLog] = {}
    for row in queries.execute(PENDING_LOGS, (feed_id,)):
        log = PendingLog(*msgspec.convert(row, tuple[str, int, str, str, str | None]))
        pending[log.key] = log
    return pending


def update_pending_logs(
    transaction: Transaction,
    feed_id: int,
    new: Sequence[Observation],
    statuses: Mapping[str, frozenset[str]],
    ended_keys: Sequence[str],
    *,
    has_pending: bool,
) -> bool:
    """Add and delete pending logs; return whether one may have changed.

    Args:
        transaction: Transaction of a commit.
        feed_id: Id of the feed.
        new: Observations that the transaction adds.
        statuses: Statuses of their logs by key, with the new ones.
        ended_keys: Keys of logs that are gone.
        has_pending: Whether the feed had pending logs before.
    """
    # A log that has another status is final: an outdated response must not make it pending again.
    pending = [o.entry for o in new if statuses[o.entry.key] == {PENDING}]
    rows = [(feed_id, e.key, e.created or 0, e.platform, e.action, e.post_id) for e in pending]
    transaction.executemany(ADD_PENDING, rows)

    # Usually none is pending, and all logs of a catch-up are final.
    if not has_pending and not rows:
        return False
    final = [o.entry.key for o in new if o.entry.status != PENDING]
    transaction.executemany(END_PENDING, [(feed_id, key) for key in (*final, *ended_keys)])
    return True


# Series


def load_series(
    queries: Queries, workspace_id: int, series: Collection[Series]
) -> Mapping[Series, SeriesValue]:
    """Return the stored values of some series of a workspace."""
    ids = [series_id(each) for each in series]
    return _decode_series(select_in(queries, SERIES_BY_ID, ids, workspace_id))


def load_families(
    queries: Queries, workspace_id: int, families: Collection[str]
) -> Mapping[Series, SeriesValue]:
    """Return the stored values of some families of a workspace."""
    return _decode_series(select_in(queries, SERIES_BY_FAMILY, [*families], workspace_id))


def load_series_page(
    queries: Queries, workspace: str, after: str, limit: int
) -> tuple[Mapping[Series, SeriesValue], str]:
    """Return the values of the next series of a workspace, and the id of the last one."""
    rows = queries.execute(SERIES_PAGE, (workspace, after, limit)).fetchall()
    return _decode_series(rows), rows[-1][0] if rows else after


def load_workspace_series(queries: Queries, workspace: str) -> Mapping[Series, SeriesValue]:
    return _decode_series(queries.execute(SERIES_OF_WORKSPACE, (workspace,)))


def load_all_series(queries: Queries) -> Mapping[Series, SeriesValue]:
    return _decode_series(queries.execute(SERIES))


def write_series(
    transaction: Transaction, workspace_id: int, values: Mapping[Series, SeriesValue]
) -> None:
    rows = []
    for series, current in values.items():
        family, labels = series
        value = encode_value(current.value).decode()
        number = series_id(series)
        rows.append((workspace_id, number, family, encode_labels(labels), value, current.created))
    transaction.executemany(WRITE_SERIES, rows)


def series_id(series: Series) -> str:
    """Return the digest of family and labels that identifies a series.

    Labels may be too long for an index.
    """
    family, labels = series
    return blake2b(f"{family}\0{encode_labels(labels)}".encode(), digest_size=16).hexdigest()


def encode_labels(labels: Labels) -> str:
    return msgspec.json.encode(labels).decode()


def decode_labels(encoded: str) -> Labels:
    # Most label values are those of many series.
    return tuple(map(sys.intern, msgspec.json.decode(encoded, type=Labels)))


def _decode_series(rows: Iterable[Sequence[Any]]) -> dict[Series, SeriesValue]:
    values: dict[Series, SeriesValue] = {}
    for row in rows:
        _, family, encoded, text, created = msgspec.convert(row, SeriesColumns)
        labels = decode_labels(encoded)
        values[sys.intern(family), labels] = SeriesValue(decode_value(text), created)
    return values
