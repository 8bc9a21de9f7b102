"""The poll loop of one feed."""

from __future__ import annotations

import math

import msgspec

from late_exporter.api.client import LateClient
from late_exporter.errors import StoreError
from late_exporter.health import FeedHealth, SyncProgress
from late_exporter.ingest.accounting import AUDIT_GAUGES
from late_exporter.ingest.recorder import FeedRecorder
from late_exporter.ingest.reporter import POLLS, PollReporter
from late_exporter.ingest.schedule import PollConfig, PollResult, PollSchedule
from late_exporter.ingest.shared_resources import SharedResources
from late_exporter.ingest.sync import FeedSync
from late_exporter.ingest.sync_meter import SyncMeter
from late_exporter.series import IncCounter, Increment


class Poller:
    """Poll one feed of one workspace until cancelled.

    Attributes:
        discard_uncommitted: Drop logs that a cancelled poll has read but not committed.
    """

    def __init__(self, sync: FeedSync, shared: SharedResources) -> None:
        self.recorder: FeedRecorder = sync.recorder
        self._sync = sync
        self._fetcher = sync.fetcher
        self._schedule = PollSchedule(sync.fetcher.config, shared.runtime)
        self._reporter = PollReporter(
            sync.recorder,
            registry=shared.registry,
            label_limiter=shared.label_limiter,
            logger=sync.fetcher.logger,
        )
        self._runtime = shared.runtime
        self._clock = sync.fetcher.clock
        self._started_at = 0.0
        self._is_reading = False
        self._meter = SyncMeter(sync, shared.runtime)
        self.discard_uncommitted = sync.discard_uncommitted

    @property
    def health(self) -> FeedHealth:
        return msgspec.structs.replace(self._reporter.health, progress=self.measure())

    def measure(self) -> SyncProgress | None:
        """Return the progress of a first sync or a catch-up; None if there is none, or if its last poll failed."""
        return self._meter.progress(self._fetcher.client) if self._is_reading else None

    def reconfigure(self, client: LateClient, config: PollConfig) -> None:
        """Use another client and other intervals; must not be called while ``run`` is running."""
        self.recorder.defer(self._pop_increments())
        self._sync.reconfigure(client, config)
        self._schedule.config = config

    async def run(self) -> None:
        """Poll until cancelled; only unexpected errors are raised."""
        await self.start()
        while True:
            client = self._fetcher.client
            key_reload_count = client.key_reload_count
            result = await self.poll()
            elapsed = self._runtime.monotonic() - self._started_at
            self._schedule.plan_next(result, elapsed, failure_count=self._reporter.failure_count)
            self._reporter.next_poll = self._clock.time() + self._schedule.seconds_left
            await self._schedule.wait(result, client, key_reload_count)

    async def catch_up(self) -> PollResult:
        """Poll until nothing is left to read or a poll fails; return the last result.

        Then finish, within a poll interval, a due scan; the next run continues what is not
        finished.
        """
        await self.start()
        pending_count = len(self.recorder.state.pending_logs)
        while (result := await self.poll()).is_partial:
            pass
        deadline = self._runtime.monotonic() + self._fetcher.config.interval
        while result.error is None and self._runtime.monotonic() < deadline:
            is_settling = (
                len(self.recorder.state.pending_logs) < pending_count
            )  # Checks are limited per poll.
            if not (is_settling or self._sync.has_unfinished_work):
                break
            work_done, pending_count = self._sync.work_done, len(self.recorder.state.pending_logs)
            result = await self.poll(deadline)
            if work_done == self._sync.work_done:
                break
        if result.error is None:
            self._sync.is_complete = True  # No later poll reads what could not be read.
        return result

    async def commit_increments(self) -> None:
        """Commit what happened since the last poll, because no other poll follows, and show what was read."""
        increments = self._pop_increments()
        if await self._sync.commit(increments) is not None:
            self.recorder.defer(increments)

    async def start(self) -> None:
        """Create the exporter's own counters of the feed at 0."""
        self._sync.discard_uncommitted()
        zeros = self._reporter.initial_zeros()
        if await self._sync.commit(zeros) is not None:
            self.recorder.defer((), provisional=zeros)
        if not self._sync.has_audits:
            self.recorder.remove_gauges(
                AUDIT_GAUGES
            )  # The results of the last audit would go stale.
        self._reporter.update_retention()

    async def poll(self, deadline: float = math.inf) -> PollResult:
        """Poll once and report the result; ``deadline`` is that of ``FeedSync.poll``."""
        fetcher, monotonic = self._fetcher, self._runtime.monotonic
        self._started_at = monotonic()
        started_at = self._clock.time()
        self._meter.start_poll()
        self._is_reading = True
        result = await self._sync.poll(deadline)
        result = await self._commit_poll(result)
        self._is_reading = result.is_partial
        if self.recorder.failure_log is not None:
            self.recorder.failure_log.finish_poll()
        duration = monotonic() - self._started_at
        self._reporter.update_gauges(
            result, duration, quota=fetcher.client.quota, clock_offset=self._clock.host_offset
        )
        sync_seconds = self._meter.finish_poll(
            is_partial=result.is_partial or result.error is not None
        )
        self._reporter.report(
            result, started_at=started_at, duration=duration, sync_seconds=sync_seconds
        )
        return result

    async def _commit_poll(self, result: PollResult) -> PollResult:
        """Commit what a poll has read, and its own counters; return its final result."""
        increments = self._pop_increments()
        scan = self._sync.completed_scan
        now = self._clock.time()
        outcome_increments = self._reporter.outcome_increments(
            result.outcome, now=now, scan_started_at=scan.started_at if scan else 0
        )
        self.recorder.correct_times(now)
        error = await self._sync.commit([*increments, *outcome_increments])
        self._sync.finish_poll(is_committed=error is None and result.outcome != StoreError.outcome)
        if error is None:
            return result
        # A poll that could not be committed is the one thing shown without being durable.
        self.recorder.defer(
            increments, provisional=[IncCounter(POLLS, (*self.recorder.scope, error.outcome))]
        )
        return PollResult(error.outcome, error)

    def _pop_increments(self) -> list[Increment]:
        requests, wait_seconds = self._fetcher.client.pop_request_log()
        return self._reporter.request_increments(requests, wait_seconds)
