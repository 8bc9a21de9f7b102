"""Record the logs of one feed: collect what was read, commit it, and publish what was committed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

import msgspec

from late_exporter.errors import StoreError
from late_exporter.feeds.feed import Feed
from late_exporter.ingest.accounting import CounterMismatch, check_counters
from late_exporter.ingest.batch_builder import BatchBuilder
from late_exporter.ingest.failure_log import FailureLog
from late_exporter.ingest.recent_attempts import RecentAttempts, add_failures
from late_exporter.ingest.shared_resources import SharedResources
from late_exporter.ingest.steps import Record
from late_exporter.metrics.aggregation import lag_micros
from late_exporter.metrics.catalogue import LOGS
from late_exporter.model import MAX_CLOCK_SKEW_MS, IncCounter, Increment, LogPage, ObserveLog, Scope
from late_exporter.store.records import (
    Batch,
    CommitResult,
    Coverage,
    FeedState,
    ListPosition,
    Observation,
    with_status,
)

COVERAGE_START = "late_exporter_coverage_start_timestamp_seconds"
STATE_SIZE = ("late_exporter_state_logs", "late_exporter_state_bytes")

RETENTION_MARGIN = 86_400_000
"""Milliseconds for which keys are kept after the API has dropped the logs."""

MAX_INTERRUPTION = 3_600_000
"""Milliseconds after the last complete poll of an earlier process in which a new series is not
taken for history."""


class FeedRecorder:
    """Recorder of one feed of one workspace.

    Attributes:
        state: What is committed.
        batch: What was read since the last commit.
        deferred_increments: Increments that wait for the next commit, shared by the feeds of the
            workspace.
        failure_log: Writes lines about failed logs; None writes none.
        is_shown: Whether the logs of the feed are shown: since the first poll of this process that
            has read everything.
        last_lag: Seconds from creation to recording of the last live log.
        recent_attempts: Attempts of the last hour; None if the feed has no attempts to publish.
    """

    def __init__(
        self,
        scope: Scope,
        feed: Feed,
        state: FeedState,
        shared: SharedResources,
        deferred_increments: list[Increment],
        failure_log: FailureLog | None = None,
    ) -> None:
        self.scope = scope
        self.feed = feed
        self.state = state
        self.deferred_increments = deferred_increments
        self.failure_log = failure_log
        self.is_shown = False
        self.last_lag: float | None = None
        self._shared = shared
        self._uncommitted: dict[str, frozenset[str]] = {}
        self._last_caught_up_at = state.coverage.caught_up_at if state.coverage else 0
        self.recent_attempts: RecentAttempts | None = None
        if feed.counter == LOGS:
            self.recent_attempts = RecentAttempts(self._last_caught_up_at)
        self.start_batch()

    @property
    def coverage(self) -> Coverage | None:
        """Coverage last committed; None before the first sync."""
        return self.state.coverage

    @property
    def coverage_read(self) -> Coverage | None:
        """What was read, also if it is not committed yet."""
        return self.batch.coverage or self.coverage

    @property
    def read_count(self) -> int:
        """Number of logs read so far, also if they are not committed yet."""
        return self.state.log_count + len(self.batch.observations)

    @property
    def is_synced(self) -> bool:
        return self.coverage is not None and self.coverage.is_synced

    @property
    def complete_since(self) -> int | None:
        """Time in milliseconds since which every log is recorded.

        None before the first sync is complete.
        """
        coverage = self.coverage
        if coverage is None or not coverage.is_synced:
            return None
        return max([coverage.complete_since, *(gap.upper.created for gap in coverage.gaps)])

    async def switch_list(self, feed: Feed, now: int) -> None:
        """Switch to a list in which logs have other keys.

        Only those count that are newer than every counted one.

        Pending logs are dropped, because they cannot settle any more. If nothing was counted, a
        first sync begins.

        Args:
            feed: The list.
            now: API time in milliseconds.

        Raises:
            StoreError: That cannot be committed.
        """
        if self.coverage is not None:
            switched = await self._switched_coverage(self.coverage, feed, now)
            self.record(Record(coverage=switched, deleted_keys=tuple(self.state.pending_logs)))
            await self.commit(now, progress=b"")
        self.feed = feed
        self.start_batch()

    async def _switched_coverage(self, coverage: Coverage, feed: Feed, now: int) -> Coverage:
        """Return the coverage from which another list is read."""
        if not self.state.log_count:
            return Coverage(
                coverage.retention_floor, coverage.complete_since, generation=feed.generation
            )
        # A log dated in the future must not end the counting, and a clock that is behind must not
        # repeat it.
        plausible = max(
            now, coverage.caught_up_at, coverage.newest.created if coverage.newest else 0
        )
        newest: int | None = await self._shared.store_thread.offload(
            self._shared.store_thread.store.newest_time,
            self.scope,
            until=plausible + MAX_CLOCK_SKEW_MS,
        )
        # The list may have times in whole seconds.
        floor = max(((newest or 0) // 1000 + 1) * 1000, coverage.retention_floor)
        return msgspec.structs.replace(
            coverage,
            retention_floor=floor,
            complete_since=coverage.complete_since if coverage.is_caught_up else floor,
            newest=ListPosition(floor, ""),
            gaps=(),
            generation=feed.generation,
        )

    def start_batch(self) -> None:
        """Drop what was read and not committed."""
        self.batch = BatchBuilder(
            self.scope, self.feed, self._shared.label_limiter, is_synced=self.is_synced
        )
        self._uncommitted.clear()
        self._shared.uncommitted[self.scope] = 0

    def record(self, record: Record) -> None:
        """Take logs for the next commit, and what is true then."""
        if not self.batch.observations:
            self.batch.started_at = self._shared.runtime.monotonic()
        self.batch.add(record)
        for entry in record.entries:
            statuses = self._uncommitted.get(entry.key)
            self._uncommitted[entry.key] = with_status(statuses, entry.status)
        self._shared.uncommitted[self.scope] = len(self.batch.observations)

    async def mark_known(self, page: LogPage) -> LogPage:
        """Return a page with the statuses of those of its logs that are stored, or in the batch.

        Raises:
            StoreError: The state cannot be read.
        """
        keys = [entry.key for entry in page.entries]
        store = self._shared.store_thread.store
        statuses: dict[str, frozenset[str]] = dict(
            await self._shared.store_thread.offload(store.lookup, self.scope, keys)
        )
        for key in self._uncommitted.keys() & keys:
            statuses[key] = statuses.get(key, frozenset()) | self._uncommitted[key]
        return msgspec.structs.replace(page, statuses=statuses)

    async def check_counters(self) -> list[CounterMismatch]:
        """Compare the counters with the store's accounting, in its thread.

        The store has all series.
        """
        mismatches: list[CounterMismatch] = await self._shared.store_thread.offload(
            lambda: check_counters(
                self.scope, self.feed, self._shared.store_thread.store.accounting(self.scope)
            )
        )
        return mismatches

    async def commit(
        self,
        now: int,
        increments: Sequence[Increment] = (),
        *,
        progress: bytes | None = None,
        is_complete: bool = False,
    ) -> None:
        """Commit what was recorded, and publish it.

        Args:
            now: API time in milliseconds.
            increments: Increments beside those of the logs.
            progress: Work that a later run continues, encoded; None leaves what is stored.
            is_complete: Whether everything that the API has was read with it, so that it can be
                shown.

        Raises:
            StoreError: Nothing was recorded, neither logs nor increments.
        """
        deferred = list(self.deferred_increments)
        self.deferred_increments.clear()
        try:
            batch = self._build_batch(now, [*deferred, *increments], progress)
            result, sizes = await self._shared.store_thread.commit(batch, self._add_size)
        except BaseException:
            self.deferred_increments[:0] = deferred
            self.start_batch()
            raise
        self.is_shown |= is_complete
        for family, value in zip(STATE_SIZE, sizes, strict=False):
            self._shared.registry.set_gauge(family, self.scope[:1], value)
        self._apply(result, batch)

    def count(self, family: str, amount: int, *labels: str) -> None:
        """Increment one of the exporter's own counters of the feed, with the next commit."""
        self.defer([IncCounter(family, (*self.scope, *labels), amount=amount)])

    def defer(
        self, increments: Sequence[Increment], provisional: Sequence[IncCounter] = ()
    ) -> None:
        """Leave increments to the next commit, which publishes them.

        Provisional ones are published at once.
        """
        self.deferred_increments += [*increments, *provisional]
        self._shared.registry.add_uncommitted(provisional)

    def correct_times(self, now: float) -> None:
        """Show no time of the workspace that is ahead of the API's, in Unix seconds."""
        self.defer(self._shared.registry.correct_times(self.scope.workspace, now))

    def remove_gauges(self, families: Iterable[str]) -> None:
        for family in families:
            self._shared.registry.remove_gauge(family, self.scope)

    def _build_batch(
        self, now: int, increments: Sequence[Increment], progress: bytes | None
    ) -> Batch:
        coverage = self.batch.coverage
        prune_before = None
        retention_floor = self.coverage.retention_floor if self.coverage is not None else 0
        if coverage is not None and coverage.newest is not None:
            # The time of the newest log bounds what a wrong clock can prune.
            newest = min(now, int(self._shared.runtime.clock() * 1000), coverage.newest.created)
            prune_before = newest - self.feed.retention - RETENTION_MARGIN
            retention_floor = max(retention_floor, coverage.retention_floor, prune_before)
            coverage = msgspec.structs.replace(coverage, retention_floor=retention_floor)
        # A log that was pruned, or is about to be, would be counted twice.
        observations = [
            each
            for each in self.batch.observations
            if (each.entry.created or now) >= retention_floor
        ]
        failures = self.state.failures
        if self.recent_attempts is not None:
            failures = add_failures(
                failures, (each.entry for each in observations), retention_floor
            )
        return Batch(
            scope=self.scope,
            now=now,
            observations=observations,
            increments=[*increments, *self.batch.zeros],
            series_created_at=0.0 if self._is_history(now) else now / 1000,
            coverage=coverage,
            deleted_keys=self.batch.deleted_keys,
            prune_before=prune_before,
            progress=progress,
            failures=None if failures == self.state.failures else failures,
        )

    def _is_history(self, now: int) -> bool:
        """Return whether new series have no initial 0.

        That holds for a first sync, and after a long interruption.

        The state may have been restored from a backup, so that they were shown before.
        """
        is_continued = now < self._last_caught_up_at + MAX_INTERRUPTION
        return not self.is_synced or not (self.is_shown or is_continued)

    def _add_size(self, _: Batch, result: CommitResult) -> tuple[CommitResult, Sequence[int]]:
        with suppress(StoreError):  # The batch is committed and must not be committed again.
            return result, self._shared.store_thread.store.size(self.scope.workspace)
        return result, ()

    def _apply(self, result: CommitResult, batch: Batch) -> None:
        """Take over and show what was committed."""
        was_synced = self.is_synced
        entries = [observation.entry for observation in result.observations]
        state = self.state
        pending_logs = result.pending_logs
        self.state = msgspec.structs.replace(
            state,
            coverage=state.coverage if batch.coverage is None else batch.coverage,
            pending_logs=state.pending_logs if pending_logs is None else pending_logs,
            log_count=result.log_count,
            progress=state.progress if batch.progress is None else batch.progress,
            failures=state.failures if batch.failures is None else batch.failures,
        )
        self.start_batch()

        if self.recent_attempts is not None:
            self.recent_attempts.add(entries, batch.now / 1000)
        if self.failure_log is not None and was_synced:
            self.failure_log.add(entries)

        registry = self._shared.registry
        self._shared.label_limiter.restore(result.series_values)
        start = self.complete_since if self.is_shown else None
        registry.apply(
            self.scope, result.series_values, now=batch.now / 1000, is_synced=start is not None
        )
        if start is not None:
            registry.set_gauge(COVERAGE_START, self.scope, start / 1000)
        if was_synced:
            self._show_live(result.observations, batch.now)

    def _show_live(self, observations: Sequence[Observation], now: int) -> None:
        """Show the lag and the exemplars of logs that are no history."""
        for observation in observations:
            entry = observation.entry
            if entry.created is not None and not entry.rejection_reason:
                self.last_lag = lag_micros(entry, now) / 1_000_000
            for increment in observation.increments:
                if isinstance(increment, ObserveLog) and increment.has_exemplar:
                    self._shared.registry.add_exemplar(increment, entry, now)
