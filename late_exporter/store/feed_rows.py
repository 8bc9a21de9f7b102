"""Read and write the rows of one feed: its state, the statuses of its logs, and its pending logs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from late_exporter.health import Failure
from late_exporter.model import PENDING
from late_exporter.store import series_rows
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
PENDING_LOGS = "SELECT key, created, platform, action, post_id FROM late_pending WHERE feed = ? ORDER BY created, key"
ADD_LOG = "INSERT INTO late_log (feed, key, status, created) VALUES (?, ?, ?, ?)"
ADD_PENDING = (
    "INSERT INTO late_pending (feed, key, created, platform, action, post_id) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO NOTHING"
)
END_PENDING = "DELETE FROM late_pending WHERE feed = ? AND key = ?"

NO_TIME = 253_402_300_799_999
"""Creation time of rows that have none: the end of the year 9999 in milliseconds."""


def decode_state(row: Sequence[Any], pending: Mapping[str, PendingLog]) -> FeedState:
    """Return the state of a feed from the columns ``logs``, ``coverage``, ``progress`` and ``failures`` of its row."""
    log_count, coverage, progress, failures = row
    return FeedState(
        coverage=msgspec.json.decode(coverage, type=Coverage) if coverage else None,
        pending_logs=pending,
        log_count=log_count,
        progress=(progress or "").encode(),
        failures=msgspec.json.decode(failures, type=tuple[Failure, ...]) if failures else (),
    )


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


def decode_statuses(rows: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    statuses: dict[str, frozenset[str]] = {}
    for key, status in rows:
        statuses[key] = with_status(statuses.get(key), status)
    return statuses


def pending_logs(queries: Queries, feed_id: int) -> dict[str, PendingLog]:
    """Return the pending logs of a feed by key, oldest first."""
    return {row[0]: PendingLog(*row) for row in queries.execute(PENDING_LOGS, (feed_id,))}


def add_logs(transaction: Transaction, feed_id: int, new: Sequence[Observation]) -> None:
    """Add observations; one without a time, which is rejected, never expires, as it does not in the API."""
    # In the order of the table: a list is read from new to old, which would split every page of the
    # index.
    entries = sorted((observation.entry for observation in new), key=attrgetter("key"))
    rows = [
        (feed_id, e.key, e.status, NO_TIME if e.created is None else e.created) for e in entries
    ]
    transaction.executemany(ADD_LOG, rows)


def update_pending(
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
    if (
        not has_pending and not rows
    ):  # Usually none is pending, and all logs of a catch-up are final.
        return False
    final = [o.entry.key for o in new if o.entry.status != PENDING]
    ended = [(feed_id, key) for key in (*final, *ended_keys)]
    transaction.executemany(END_PENDING, ended)
    return True


def accounting(queries: Queries, feed_id: int, workspace: str) -> FeedAccounting:
    counts: tuple[Any, ...] = queries.execute(
        "SELECT observations, pruned, (SELECT count(*) FROM late_log WHERE feed = late_feed.id) FROM late_feed"
        " WHERE id = ?",
        (feed_id,),
    ).fetchone()
    observation_count, pruned_count, stored_count = counts
    return FeedAccounting(
        observation_count=observation_count,
        stored_count=stored_count,
        pruned_count=pruned_count,
        series_values=series_rows.load_workspace(queries, workspace),
    )
