"""The state: keys and statuses of counted logs, series values, pending logs and coverage."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from late_exporter.errors import StoreError, StoreFenced
from late_exporter.feeds import GENERATIONS
from late_exporter.metrics.aggregation import apply_increments, count_logs
from late_exporter.metrics.subsets import complete_subsets
from late_exporter.model import LogEntry, Scope
from late_exporter.series import Increment, Series, SeriesValue
from late_exporter.store import feed_rows, series_rows
from late_exporter.store.database import LONG_SECONDS, Database, Transaction
from late_exporter.store.pruning import LogPruner
from late_exporter.store.records import (
    Batch,
    CommitResult,
    FeedAccounting,
    FeedState,
    Observation,
    with_status,
)

SIZE_SECONDS = 60.0
"""Seconds for which the size of the state is not queried again."""

ADD_WORKSPACE = "INSERT INTO late_workspace (name) VALUES (?) ON CONFLICT DO NOTHING"
ADD_FEED = "INSERT INTO late_feed (workspace, name) SELECT id, ? FROM late_workspace WHERE name = ? ON CONFLICT DO NOTHING"
# A write, so that what is read is replicated before it is shown: the commit of a session that was
# ended while it waited for a synchronous standby is not.
TAKE_FEED = (
    "UPDATE late_feed SET revision = revision + 1 WHERE name = ? AND workspace = (SELECT id FROM late_workspace"
    " WHERE name = ?) RETURNING id, workspace, revision, logs, coverage, progress, failures"
)
UPDATE_FEED = (
    "UPDATE late_feed SET revision = revision + 1, coverage = coalesce(?, coverage), progress = coalesce(?, progress),"
    " failures = coalesce(?, failures), logs = logs + ?, observations = observations + ?, pruned = pruned + ?"
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


class Store:
    """The state of all workspaces; each method is one transaction, and leaves the state unchanged if it fails.

    If the connection to a database is lost during a commit, its outcome is unknown. The next
    session finds out by the revision of the feed, see ``late_exporter.store.ownership``; no other
    session can commit meanwhile.

    A store must be used by one thread at a time.

    Args:
        database: Database that is connected, with a state of this version.

    Attributes:
        feeds: Feeds of this process by workspace and name.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.feeds: dict[str, dict[str, FeedRow]] = {}
        self._pruner = LogPruner()
        self._size = (-SIZE_SECONDS, 0, 0)

    def close(self) -> None:
        """Close the state; the store cannot be used afterwards."""
        self.database.close()

    def feed_states(self, scopes: Sequence[Scope]) -> Mapping[Scope, FeedState]:
        """Return the state of some feeds, which this process owns; they are added if they are not in the state."""
        states: dict[Scope, FeedState] = {}
        feeds: dict[Scope, FeedRow] = {}
        with self.database.transaction() as transaction:
            transaction.executemany(
                ADD_WORKSPACE, [(name,) for name in sorted({scope.workspace for scope in scopes})]
            )
            transaction.executemany(ADD_FEED, [(scope.feed, scope.workspace) for scope in scopes])
            for scope in scopes:
                # One at a time: SQLite keeps 100 KiB for each open cursor.
                feed_id, workspace_id, revision, *row = transaction.execute(
                    TAKE_FEED, (scope.feed, scope.workspace)
                ).fetchone()
                pending = feed_rows.pending_logs(transaction, feed_id)
                feeds[scope] = FeedRow(feed_id, workspace_id, revision, row[0], bool(pending))
                state = feed_rows.decode_state(row, pending)
                healed_counts = _complete_subsets(transaction, workspace_id, scope.feed, state)
                states[scope] = replace(state, healed_counts=healed_counts)
        for scope, feed in feeds.items():
            self.feeds.setdefault(scope.workspace, {})[scope.feed] = feed
        return states

    def feed_state(self, scope: Scope) -> FeedState:
        """Return the state of one feed."""
        return self.feed_states([scope])[scope]

    def series_page(
        self, workspace: str, after: str, limit: int
    ) -> tuple[Mapping[Series, SeriesValue], str]:
        """Return the values of the next series of a workspace, and the id of the last one; none at the end.

        ``after`` is the id that the previous page has ended with, empty for the first page.
        """
        with self.database.reading() as transaction:
            return series_rows.load_page(transaction, workspace, after, limit)

    def lookup(self, scope: Scope, keys: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """Return the counted statuses of logs by key; keys that are not stored are missing."""
        with self.database.reading() as transaction:
            return feed_rows.decode_statuses(
                feed_rows.select_statuses(transaction, self._feed(scope).id, keys)
            )

    def newest_time(self, scope: Scope, *, until: int) -> int | None:
        """Return the creation time of the newest stored log of a feed up to a time, except rejected ones.

        None if there is none. Reads all logs of the feed.
        """
        with self.database.reading(seconds=LONG_SECONDS) as transaction:
            (newest,) = transaction.execute(NEWEST_TIME, (self._feed(scope).id, until)).fetchone()
        return None if newest is None else int(newest)

    def accounting(self, scope: Scope) -> FeedAccounting:
        """Return the redundant counts of a feed; reads all of its observations."""
        with self.database.reading(seconds=LONG_SECONDS) as transaction:
            return feed_rows.accounting(transaction, self._feed(scope).id, scope.workspace)

    def commit_all(self, batches: Sequence[Batch]) -> Sequence[CommitResult | StoreError]:
        """Store batches of several feeds durably, together if possible; return the result or the error of each.

        Each batch is stored as a whole or not at all, whatever happens to the others. One with a
        result is durable.
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
            committed = [
                self._commit(transaction, *each) for each in zip(feeds, batches, strict=True)
            ]
        for feed, result in zip(feeds, committed, strict=True):
            feed.revision += 1
            feed.log_count = result.log_count
            feed.has_pending = (
                feed.has_pending if result.pending_logs is None else bool(result.pending_logs)
            )
        return committed

    def _commit(self, transaction: Transaction, feed: FeedRow, batch: Batch) -> CommitResult:
        keys = [observation.entry.key for observation in batch.observations]
        status_rows = feed_rows.select_statuses(transaction, feed.id, keys)
        kinds = {
            id(each.increments): each.increments for each in batch.observations
        }  # shared by logs of one kind
        all_series = {
            (each.family, each.labels)
            for group in (batch.increments, *kinds.values())
            for each in group
        }
        stored_values = series_rows.load(transaction, feed.workspace_id, all_series)
        statuses = feed_rows.decode_statuses(status_rows)
        new, first = _select_new(batch.observations, statuses)
        series_values = _new_values(
            _group_by_series(batch, new, first), stored_values, batch.series_created_at
        )
        feed_rows.add_logs(transaction, feed.id, new)
        series_rows.write(transaction, feed.workspace_id, series_values)
        expired = self._pruner.prune(transaction, feed.id, batch.prune_before)
        ended_keys = [*batch.deleted_keys, *expired.keys]
        pending_changed = feed_rows.update_pending(
            transaction, feed.id, new, statuses, ended_keys, has_pending=feed.has_pending
        )
        cursor = transaction.execute(
            UPDATE_FEED,
            (
                msgspec.json.encode(batch.coverage).decode() if batch.coverage else None,
                batch.progress.decode() if batch.progress is not None else None,
                msgspec.json.encode(batch.failures).decode()
                if batch.failures is not None
                else None,
                len(first) - len(expired.keys),
                len(new),
                expired.observation_count,
                feed.id,
                feed.revision,
            ),
        )
        pending_logs = feed_rows.pending_logs(transaction, feed.id) if pending_changed else None
        if (row := cursor.fetchone()) is None:
            raise self._fenced("another process has changed it; stop one of the two, and restart")
        return CommitResult(
            observations=new,
            series_values=series_values,
            pending_logs=pending_logs,
            log_count=row[0],
        )

    def size(self, workspace: str) -> tuple[int, int]:
        """Return the number of stored logs of a workspace, and its share of the size of the state in bytes."""
        log_count = sum(feed.log_count for feed in self.feeds.get(workspace, {}).values())
        now = time.monotonic()
        if now > self._size[0] + SIZE_SECONDS:
            with self.database.reading() as transaction:
                (total,) = transaction.execute(
                    "SELECT coalesce(sum(logs), 0) FROM late_feed"
                ).fetchone()
                self._size = now, self.database.size(transaction), int(total)
        _, size, total = self._size
        total = max(total, log_count)
        return log_count, size * log_count // total if total else size

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
    values = series_rows.load_families(transaction, workspace_id, families)
    completion = complete_subsets(feed, values)
    series_rows.write(transaction, workspace_id, completion.values)
    return completion.healed_counts


def _select_new(
    observations: Iterable[Observation], statuses: dict[str, frozenset[str]]
) -> tuple[list[Observation], dict[str, Observation]]:
    """Return the observations that are new, and by key those of them that are the first of their logs.

    Args:
        observations: Observations of a batch.
        statuses: Stored statuses by key; those of the new observations are added.
    """
    new: list[Observation] = []
    first: dict[str, Observation] = {}
    for observation in observations:
        entry = observation.entry
        key, status = entry.key, entry.status
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
    for increment, logs in _logs_by_increment(new, first):
        if logs:
            changes[increment.family, increment.labels] += count_logs(increment, logs, batch.now)
    return changes


def _logs_by_increment(
    new: Sequence[Observation], first: Mapping[str, Observation]
) -> Iterable[tuple[Increment, list[LogEntry]]]:
    """Return each increment of observations, which those of one kind share, with the logs for which it applies."""
    by_kind: dict[int, list[Observation]] = {}
    for observation in new:
        by_kind.setdefault(id(observation.increments), []).append(observation)
    has_only_first = len(first) == len(new)
    by_increment: dict[int, tuple[Increment, list[LogEntry]]] = {}
    for observations in by_kind.values():
        logs = [observation.entry for observation in observations]
        first_logs = (
            logs
            if has_only_first
            else [o.entry for o in observations if first.get(o.entry.key) is o]
        )
        for increment in observations[0].increments:
            _, increment_logs = by_increment.setdefault(id(increment), (increment, []))
            increment_logs += first_logs if increment.once_per_log else logs
    return by_increment.values()


def _new_values(
    changes: Mapping[Series, Sequence[Increment]],
    stored: Mapping[Series, SeriesValue],
    created_at: float,
) -> dict[Series, SeriesValue]:
    """Return the values of series after some changes; those that are not stored are created at a Unix time."""
    values: dict[Series, SeriesValue] = {}
    for series, increments in changes.items():
        current = stored.get(series)
        value = apply_increments(increments, current.value if current else None)
        values[series] = SeriesValue(value, current.created if current else created_at)
    return values
