"""The state: keys and statuses of counted logs, series values, pending logs and coverage."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from late_exporter.errors import StoreError, StoreFenced
from late_exporter.feeds import GENERATIONS
from late_exporter.metrics.aggregation import apply_increments, count_logs
from late_exporter.metrics.subsets import complete_subsets
from late_exporter.model import Increment, Scope, Series, SeriesValue
from late_exporter.store import rows
from late_exporter.store.database import LONG_SECONDS, Database, Transaction
from late_exporter.store.records import (
    Batch,
    CommitResult,
    FeedAccounting,
    FeedState,
    Observation,
    with_status,
)

SIZE_SECONDS = 60.0
"""Seconds for which the size of the state is not queried again, unless it has grown."""

SIZE_GROWTH = 1.1
"""Growth of the number of logs after which it is."""

ADD_WORKSPACE = "INSERT INTO late_workspace (name) VALUES (?) ON CONFLICT DO NOTHING"
ADD_FEED = (
    "INSERT INTO late_feed (workspace, name) SELECT id, ? FROM late_workspace WHERE name = ?"
    " ON CONFLICT DO NOTHING"
)
# A write, so that what is read is replicated before it is shown: the commit of a session that was
# ended while it waited for a synchronous standby is not.
TAKE_FEED = (
    "UPDATE late_feed SET revision = revision + 1 WHERE name = ?"
    " AND workspace = (SELECT id FROM late_workspace WHERE name = ?)"
    " RETURNING id, workspace, revision, logs, coverage, progress, failures"
)
UPDATE_FEED = (
    "UPDATE late_feed SET revision = revision + 1, coverage = coalesce(?, coverage),"
    " progress = coalesce(?, progress), failures = coalesce(?, failures), logs = logs + ?,"
    " observations = observations + ?, pruned = pruned + ?"
    " WHERE id = ? AND revision = ? RETURNING logs"
)
NEWEST_TIME = (
    "SELECT max(created) FROM late_log WHERE feed = ? AND created <= ? AND status <> 'rejected'"
)


class FeedRow(msgspec.Struct):
    """One feed in the state, as this process left it.

    Args:
        id: Id of its row.
        workspace_id: Id of the row of its workspace.
        revision: Number of its last commit, which the next one requires.
        log_count: Number of stored logs.
        has_pending: Whether it has pending logs.
    """

    id: int
    workspace_id: int
    revision: int
    log_count: int
    has_pending: bool


class StateSize(NamedTuple):
    """Size of the state in bytes, and its number of logs, at a monotonic time."""

    at: float = -math.inf
    size: int = 0
    log_count: int = 0


class Store:
    """The state of all workspaces.

    Each method is one transaction, and leaves the state unchanged if it fails.

    If the connection to a database is lost during a commit, its outcome is unknown. The next
    session finds out by the revision of the feed, see ``late_exporter.store.ownership``; no other
    session can commit meanwhile.

    A store must be used by one thread at a time.

    Args:
        database: Database with a state of this version.

    Attributes:
        feeds: Feeds of this process by workspace and name.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.feeds: dict[str, dict[str, FeedRow]] = {}
        self._pruner = rows.LogPruner()
        self._size = StateSize()

    def close(self) -> None:
        """Close the state; the store cannot be used afterwards."""
        self.database.close()

    def feed_states(self, scopes: Sequence[Scope]) -> Mapping[Scope, FeedState]:
        """Return the state of some feeds, which this process owns.

        Those that are not in the state are added.
        """
        states: dict[Scope, FeedState] = {}
        feeds: dict[Scope, FeedRow] = {}
        workspaces = sorted({scope.workspace for scope in scopes})
        with self.database.transaction() as transaction:
            transaction.executemany(ADD_WORKSPACE, [(name,) for name in workspaces])
            transaction.executemany(ADD_FEED, [(scope.feed, scope.workspace) for scope in scopes])
            # One at a time: SQLite keeps 100 KiB for each open cursor.
            for scope in scopes:
                row = transaction.execute(TAKE_FEED, (scope.feed, scope.workspace)).fetchone()
                feed_id, workspace_id, revision = msgspec.convert(row[:3], tuple[int, int, int])
                pending = rows.load_pending_logs(transaction, feed_id)
                state = rows.decode_state(row[3:], pending)
                healed_counts = _complete_subsets(transaction, workspace_id, scope.feed, state)
                states[scope] = replace(state, healed_counts=healed_counts)
                feeds[scope] = FeedRow(
                    id=feed_id,
                    workspace_id=workspace_id,
                    revision=revision,
                    log_count=state.log_count,
                    has_pending=bool(pending),
                )
        for scope, feed in feeds.items():
            self.feeds.setdefault(scope.workspace, {})[scope.feed] = feed
        return states

    def feed_state(self, scope: Scope) -> FeedState:
        """Return the state of one feed."""
        return self.feed_states([scope])[scope]

    def series_page(
        self, workspace: str, after: str, limit: int
    ) -> tuple[Mapping[Series, SeriesValue], str]:
        """Return the values of the next series of a workspace, and the id of the last one.

        Args:
            workspace: Name of the workspace.
            after: Id with which the previous page ended, empty for the first page.
            limit: Number of series of a page; the last one has fewer.
        """
        with self.database.reading() as transaction:
            return rows.load_series_page(transaction, workspace, after, limit)

    def lookup(self, scope: Scope, keys: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """Return the counted statuses of logs by key; keys that are not stored are missing."""
        feed = self._feed(scope)
        with self.database.reading() as transaction:
            return rows.load_statuses(transaction, feed.id, keys)

    def newest_time(self, scope: Scope, *, until: int) -> int | None:
        """Return the creation time of the newest stored log of a feed up to a time.

        Rejected ones are left out; None if there is none. Reads all logs of the feed.
        """
        feed = self._feed(scope)
        with self.database.reading(seconds=LONG_SECONDS) as transaction:
            (newest,) = transaction.execute(NEWEST_TIME, (feed.id, until)).fetchone()
        return None if newest is None else int(newest)

    def accounting(self, scope: Scope) -> FeedAccounting:
        """Return the redundant counts of a feed; reads all of its observations."""
        feed = self._feed(scope)
        with self.database.reading(seconds=LONG_SECONDS) as transaction:
            return rows.load_accounting(transaction, feed.id, scope.workspace)

    def commit_all(self, batches: Sequence[Batch]) -> Sequence[CommitResult | StoreError]:
        """Store batches of several feeds durably, together if possible.

        Each batch is stored as a whole or not at all, whatever happens to the others.

        Returns:
            The result or the error of each; a batch with a result is durable.
        """
        try:
            return self._commit_group(batches)
        except StoreError as exc:
            if len(batches) == 1:
                return [exc]
        # The transaction was rolled back. One batch may be at fault, and the others must not wait
        # for it to go away.
        return [result for batch in batches for result in self.commit_all([batch])]

    def _commit_group(self, batches: Sequence[Batch]) -> Sequence[CommitResult]:
        feeds = [self._feed(batch.scope) for batch in batches]
        with self.database.transaction() as transaction:
            results = [
                self._commit(transaction, feed, batch)
                for feed, batch in zip(feeds, batches, strict=True)
            ]
        for feed, result in zip(feeds, results, strict=True):
            feed.revision += 1
            feed.log_count = result.log_count
            if result.pending_logs is not None:
                feed.has_pending = bool(result.pending_logs)
        return results

    def _commit(self, transaction: Transaction, feed: FeedRow, batch: Batch) -> CommitResult:
        # Both queries are sent before the first result is read.
        keys = [observation.entry.key for observation in batch.observations]
        status_rows = rows.select_statuses(transaction, feed.id, keys)
        stored_values = rows.load_series(transaction, feed.workspace_id, _series_of(batch))

        statuses = rows.decode_statuses(status_rows)
        new, first = _select_new(batch.observations, statuses)
        changes = _group_by_series(batch, new, first)
        series_values = _new_values(changes, stored_values, batch.series_created_at)
        rows.add_logs(transaction, feed.id, new)
        rows.write_series(transaction, feed.workspace_id, series_values)

        expired = self._pruner.prune(transaction, feed.id, batch.prune_before)
        ended_keys = [*batch.deleted_keys, *expired]
        pending_changed = rows.update_pending_logs(
            transaction, feed.id, new, statuses, ended_keys, has_pending=feed.has_pending
        )
        cursor = transaction.execute(
            UPDATE_FEED,
            (
                _encode(batch.coverage),
                None if batch.progress is None else batch.progress.decode(),
                _encode(batch.failures),
                len(first) - len({*expired}),
                len(new),
                len(expired),
                feed.id,
                feed.revision,
            ),
        )
        pending_logs = rows.load_pending_logs(transaction, feed.id) if pending_changed else None
        row = cursor.fetchone()
        if row is None:
            raise self._fenced("another process has changed it; stop one of the two, and restart")
        return CommitResult(
            observations=new,
            series_values=series_values,
            pending_logs=pending_logs,
            log_count=row[0],
        )

    def size(self, workspace: str) -> tuple[int, int]:
        """Return the number of stored logs of a workspace, and its share of the size in bytes."""
        log_count = sum(feed.log_count for feed in self.feeds.get(workspace, {}).values())
        now = time.monotonic()
        has_grown = log_count > SIZE_GROWTH * self._size.log_count
        if has_grown or now > self._size.at + SIZE_SECONDS:
            with self.database.reading() as transaction:
                query = "SELECT coalesce(sum(logs), 0) FROM late_feed"
                (total,) = transaction.execute(query).fetchone()
                self._size = StateSize(now, self.database.size(transaction), int(total))
        total = max(self._size.log_count, log_count, 1)
        return log_count, self._size.size * log_count // total

    def forget(self, workspace: str) -> None:
        """Do not use the feeds of a workspace any more."""
        self.feeds.pop(workspace, None)

    def _feed(self, scope: Scope) -> FeedRow:
        feed = self.feeds.get(scope.workspace, {}).get(scope.feed)
        if feed is None:
            raise self._fenced("this process does not own it")
        return feed

    def _fenced(self, reason: str) -> StoreFenced:
        return StoreFenced(f"{self.database.name}: nothing of the workspace was counted: {reason}")


def _complete_subsets(
    transaction: Transaction, workspace_id: int, name: str, state: FeedState
) -> Mapping[str, int]:
    """Derive what counters of subsets lack; return what they have missed, see Completion."""
    if state.coverage is None:
        return {}
    feed = GENERATIONS[state.coverage.generation].get(name)
    if feed is None or not feed.subset_counters:
        return {}
    families = {feed.counter, *feed.subset_counters}
    values = rows.load_families(transaction, workspace_id, families)
    completion = complete_subsets(feed, values)
    rows.write_series(transaction, workspace_id, completion.values)
    return completion.healed_counts


def _encode(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _series_of(batch: Batch) -> Collection[Series]:
    """Return the series that a batch may change."""
    kinds = {observation.increments for observation in batch.observations}
    return {(each.family, each.labels) for kind in (batch.increments, *kinds) for each in kind}


def _select_new(
    observations: Iterable[Observation], statuses: dict[str, frozenset[str]]
) -> tuple[list[Observation], dict[str, Observation]]:
    """Return the observations that are new, and by key those that are the first of their logs.

    Args:
        observations: Observations of a batch.
        statuses: Stored statuses by key; those of the new observations are added.
    """
    new: list[Observation] = []
    first: dict[str, Observation] = {}
    for observation in observations:
        key = observation.entry.key
        status = observation.entry.status
        stored = statuses.get(key)
        if stored is None:
            first[key] = observation
        elif status in stored:
            continue
        statuses[key] = with_status(stored, status)
        new.append(observation)
    return new, first


def _group_by_series(
    batch: Batch, new: Sequence[Observation], first: Mapping[str, Observation]
) -> Mapping[Series, Sequence[Increment]]:
    """Return the increments of a batch that apply, by series and in their order.

    Args:
        batch: Batch that is being committed.
        new: Its observations that are new.
        first: By key those of them that are the first of their logs, for which increments once per
            log apply.
    """
    changes: defaultdict[Series, list[Increment]] = defaultdict(list)
    for increment in batch.increments:
        changes[increment.family, increment.labels].append(increment)
    # Logs of a kind share their tuple of increments.
    by_kind = defaultdict[tuple[Increment, ...], list[Observation]](list)
    for observation in new:
        by_kind[observation.increments].append(observation)
    for increments, observations in by_kind.items():
        logs = [each.entry for each in observations]
        first_logs = [each.entry for each in observations if first.get(each.entry.key) is each]
        for increment in increments:
            counted = first_logs if increment.once_per_log else logs
            if counted:
                series = increment.family, increment.labels
                changes[series] += count_logs(increment, counted, batch.now)
    return changes


def _new_values(
    changes: Mapping[Series, Sequence[Increment]],
    stored: Mapping[Series, SeriesValue],
    created_at: float,
) -> dict[Series, SeriesValue]:
    """Return the values of series after some changes.

    Those that are not stored are created at a Unix time.
    """
    values: dict[Series, SeriesValue] = {}
    for series, increments in changes.items():
        current = stored.get(series)
        value = apply_increments(increments, current.value if current else None)
        values[series] = SeriesValue(value, current.created if current else created_at)
    return values
