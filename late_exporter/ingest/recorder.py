"""Keeps the books of one feed: entries become sightings, sightings become durable, and what is durable is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from late_exporter.errors import StoreError
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.labels import LabelLimiter
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.model import (
    Batch,
    CommitResult,
    Coverage,
    Feed,
    FeedAccounting,
    FeedState,
    IncCounter,
    Increment,
    KnownLogs,
    LogEntry,
    Observation,
    ObserveHistogram,
    PendingLog,
    Scope,
)
from late_exporter.store import Store

__all__ = ["FeedRecorder", "PendingBatch", "initial_zeros"]

RETENTION_MARGIN = 86_400_000
"""Ids are kept this much longer than the API keeps the logs."""

MAX_CLOCK_SKEW = 300_000
"""How far the API's clock may be ahead of its own logs' times."""

REJECTION_REASONS = ("no_id", "not_an_object")

LAG = "late_exporter_log_lag_seconds"
SCHEMA_DRIFT = "late_exporter_api_schema_drift_total"


class PendingBatch(msgspec.Struct):
    """What has been read and is not yet committed."""

    entries: list[tuple[LogEntry, bool]] = msgspec.field(default_factory=list)
    """With each entry, whether only a walk over known ground found it."""
    coverage: Coverage | None = None
    deleted_keys: list[str] = msgspec.field(default_factory=list)


class FeedRecorder:
    """The books of one feed of one workspace.

    Args:
        workspace: Its name.
        feed: The log list.
        state: What the store keeps of it.
        store: Shared by all feeds; used through ``offload`` only.
        offload: Runs a call in the store's thread.
        governor: Bounds the labels.
        board: Shows what is durable.
        backlog: What the workspace's feeds counted of the exporter itself and could not save yet.
        clock: Unix time in seconds.
        last_audit_at: When an audit last came to its end, a Unix time in seconds; 0 for never.

    Attributes:
        recorded_count: How many sightings have been counted since the start.
    """

    def __init__(
        self,
        workspace: str,
        feed: Feed,
        state: FeedState,
        *,
        store: Store,
        offload: Callable[..., Awaitable[Any]],
        label_limiter: LabelLimiter,
        registry: SeriesRegistry,
        backlog: list[Increment],
        clock: Callable[[], float],
        last_audit_at: float = 0.0,
    ) -> None:
        self._scope = Scope(workspace, feed.name)
        self._feed = feed
        self._store = store
        self._offload = offload
        self._label_limiter = label_limiter
        self._registry = registry
        self._backlog = backlog
        self._clock = clock
        self._pending_labels: set[tuple[str, str]] = set()
        self.last_audit_at = last_audit_at
        self.coverage = state.coverage
        self.pending_logs: Mapping[str, PendingLog] = state.pending_logs
        self.log_count = state.log_count
        self.last_lag: float | None = None
        self.recorded_count = 0
        self._update_gauges()

    @property
    def is_synced(self) -> bool:
        """Whether the first sync is complete."""
        return self.coverage is not None and self.coverage.is_synced

    async def lookup(self, entries: Sequence[LogEntry], *, since: int) -> KnownLogs:
        """What the state knows of the logs of a page; ``since`` bounds those that the API may still show."""
        known_logs: KnownLogs = await self._offload(
            self._store.lookup, self._scope, entries, feed=self._feed, since=since
        )
        if known_logs.pending_logs is not None:
            self.pending_logs = known_logs.pending_logs
        return known_logs

    async def switch_feed(self, feed: Feed) -> None:
        """Go on with the feed of another generation of the API; raises StoreError where that cannot be made durable."""
        if self.coverage is not None and self.coverage.generation != feed.generation:
            coverage = msgspec.structs.replace(self.coverage, generation=feed.generation)
            state: FeedState = await self._offload(self._begin_rekey, coverage)
            self.coverage, self.pending_logs = state.coverage, state.pending_logs
        self._feed = feed

    def _begin_rekey(self, coverage: Coverage) -> FeedState:
        self._store.begin_rekey(self._scope, coverage)
        return self._store.feed_state(self._scope)

    async def read_accounting(self) -> FeedAccounting:
        """What the books of the state itself say."""
        accounting: FeedAccounting = await self._offload(self._store.accounting, self._scope)
        return accounting

    async def commit(self, pending: PendingBatch, now: int, increments: Sequence[Increment] = ()) -> None:
        """Make a draft durable and show it.

        Args:
            pending: What was read.
            now: API time in milliseconds.
            increments: What the exporter counted of itself.

        Raises:
            StoreError: Nothing of the draft was counted, nor any of the increments.
        """
        backlog, self._backlog[:] = list(self._backlog), []
        try:
            batch = self._build_batch(pending, now, [*backlog, *increments])
            result, size = await self._offload(self._commit_batch, batch)
        except BaseException:
            self._backlog[:0] = backlog
            raise
        self._apply(result, batch.coverage)
        if size is not None:
            self._registry.set_gauge("late_exporter_state_logs", (self._scope.workspace,), size[0])
            self._registry.set_gauge("late_exporter_state_bytes", (self._scope.workspace,), size[1])

    def defer(self, increments: Sequence[Increment], provisional: Sequence[IncCounter] = ()) -> None:
        """Save what the exporter counted of itself with the next commit; ``provisional`` is to be seen before that."""
        self._backlog += [*increments, *provisional]
        self._registry.add_unsaved(provisional)

    def _commit_batch(self, batch: Batch) -> tuple[CommitResult, tuple[int, int] | None]:
        result = self._store.commit(self._scope, batch)
        try:
            return result, self._store.size(self._scope.workspace)
        except StoreError:  # what is durable is not to be kept and saved again
            return result, None

    def _build_batch(self, pending: PendingBatch, now: int, increments: Sequence[Increment]) -> Batch:
        coverage, prune_before = pending.coverage, None
        if coverage is not None and coverage.newest is not None:
            # The newest log bounds what a wrong clock may forget.
            newest = min(now, int(self._clock() * 1000), coverage.newest.created)
            prune_before = newest - self._feed.retention - RETENTION_MARGIN
            coverage = msgspec.structs.replace(coverage, retention_floor=max(coverage.retention_floor, prune_before))
        # What has been forgotten, or is about to be, would count twice.
        retention_floor = (
            max(known.retention_floor for known in (self.coverage, coverage) if known)
            if self.coverage or coverage
            else 0
        )
        is_history = not self.is_synced and bool(pending.entries)
        self._label_limiter.start_batch()
        return Batch(
            committed_at=(pending.coverage.complete_since / 1000 if is_history and pending.coverage else self._clock()),
            observations=[
                self._observation(entry, now, by_reconciliation=walked)
                for entry, walked in pending.entries
                if entry.created is None or entry.created >= retention_floor
            ],
            increments=increments,
            coverage=coverage,
            deleted_keys=pending.deleted_keys,
            prune_before=prune_before,
        )

    def _observation(self, entry: LogEntry, now: int, *, by_reconciliation: bool) -> Observation:
        return Observation(entry, tuple(self._increments(entry, now, by_reconciliation=by_reconciliation)))

    def _increments(self, entry: LogEntry, now: int, *, by_reconciliation: bool) -> Iterator[Increment]:
        labels = (self._scope.workspace, self._scope.feed)
        drift = (IncCounter(SCHEMA_DRIFT, (*labels, deviation.path, deviation.kind)) for deviation in entry.deviations)
        yield from self._label_limiter.apply(drift)
        if entry.rejection_reason:
            yield IncCounter("late_exporter_entries_rejected_total", (*labels, entry.rejection_reason))
            return
        if entry.created is not None and entry.created > now + MAX_CLOCK_SKEW:
            # A time to come would be the newest one for as long as it has not come.
            entry = msgspec.structs.replace(entry, created=now)
        yield from self._label_limiter.apply(self._feed.project(self._scope.workspace, entry))
        if entry.created is None or not self.is_synced:
            return
        lag = max(0, now - entry.created)
        yield ObserveHistogram(LAG, labels, once_per_log=True, micros=lag * 1000, bounds=CATALOGUE[LAG].buckets)
        if by_reconciliation:
            yield IncCounter("late_exporter_reconciled_logs_total", labels, once_per_log=True)

    def _apply(self, result: CommitResult, coverage: Coverage | None) -> None:
        was_synced = self.is_synced
        self.coverage = coverage or self.coverage
        self.log_count = result.log_count
        self.recorded_count += len(result.observations)
        self._label_limiter.restore(result.series_values)
        self._registry.update(result.series_values)
        if result.pending_logs is not None:
            self.pending_logs = result.pending_logs
        if was_synced:
            for sighting in result.observations:
                self._add_exemplars(sighting)
        self._update_gauges()

    def _add_exemplars(self, observation: Observation) -> None:
        for increment in observation.increments:
            if not isinstance(increment, ObserveHistogram):
                continue
            if increment.exemplar is not None:
                self._registry.add_exemplar(increment)
            if increment.family == LAG:
                self.last_lag = increment.micros / 1_000_000

    def _update_gauges(self) -> None:
        if self.coverage is None or not self.coverage.is_synced:
            return
        workspace, feed = self._scope.workspace, self._scope.feed
        self._registry.show_feed(workspace, feed)
        self._registry.set_gauge(
            "late_exporter_coverage_start_timestamp_seconds",
            (workspace, feed),
            self.complete_since(self.coverage) / 1000,
        )
        if self._feed.counter == "late_publishing_logs_total":
            self._update_pending_gauges(workspace)

    @staticmethod
    def complete_since(coverage: Coverage) -> int:
        """Since when the record is whole: below an open gap it is not."""
        return max([coverage.complete_since, *(gap.upper.created for gap in coverage.gaps)])

    def _update_pending_gauges(self, workspace: str) -> None:
        limit = self._label_limiter.limit_value
        logs = [
            (limit(workspace, "platform", log.platform), limit(workspace, "action", log.action), log.created)
            for log in self.pending_logs.values()
        ]
        counts = Counter((platform, action) for platform, action, _ in logs)
        self._pending_labels |= counts.keys() | {
            (platform, "publish") for platform in self._label_limiter.platforms(workspace)
        }
        for platform, action in self._pending_labels:
            self._registry.set_gauge(
                "late_publishing_pending_logs", (workspace, platform, action), counts[platform, action]
            )
        oldest: dict[str, int] = {}
        for platform, _, created in logs:
            if created:
                oldest[platform] = min(created, oldest.get(platform, created))
        for platform in {platform for platform, _ in self._pending_labels}:
            labels = (workspace, platform)
            if platform in oldest:
                self._registry.set_gauge(
                    "late_publishing_oldest_pending_timestamp_seconds", labels, oldest[platform] / 1000
                )
            else:
                self._registry.remove_gauge("late_publishing_oldest_pending_timestamp_seconds", labels)


def initial_zeros(workspace: str, feed: str, outcomes: Sequence[str]) -> list[IncCounter]:
    """The exporter's own counters of a feed at 0, so that their first increment is seen."""
    names = (workspace, feed)
    return [
        *(IncCounter("late_exporter_polls_total", (*names, outcome), amount=0) for outcome in outcomes),
        *(
            IncCounter("late_exporter_entries_rejected_total", (*names, reason), amount=0)
            for reason in REJECTION_REASONS
        ),
        IncCounter("late_exporter_reconciled_logs_total", names, amount=0),
        IncCounter("late_exporter_api_throttled_seconds_total", (workspace,), amount=0),
    ]
