"""The poll loop of one feed, and how far it has come."""

from __future__ import annotations

import math

from late_exporter.api.client import LateClient
from late_exporter.health import FeedHealth, SyncProgress
from late_exporter.ingest.accounting import AUDIT_GAUGES
from late_exporter.ingest.recorder import FeedRecorder
from late_exporter.ingest.reporter import POLLS, PollReporter
from late_exporter.ingest.schedule import (
    ApiClock,
    FeedConnection,
    PollConfig,
    PollResult,
    Runtime,
    poll_delay,
)
from late_exporter.ingest.sync import FeedSync
from late_exporter.metrics.catalogue import LAST_POLL
from late_exporter.model import IncCounter, Increment, SetCurrent


class Poller:
    """Poll one feed of one workspace until cancelled.

    Attributes:
        recorder: Recorder of the feed.
        discard_uncommitted: Drop logs that a cancelled poll has read but not committed.
    """

    def __init__(
        self,
        connection: FeedConnection,
        clock: ApiClock,
        sync: FeedSync,
        recorder: FeedRecorder,
        reporter: PollReporter,
        runtime: Runtime,
    ) -> None:
        self.recorder = recorder
        self.discard_uncommitted = sync.discard_uncommitted
        self._connection = connection
        self._clock = clock
        self._sync = sync
        self._reporter = reporter
        self._runtime = runtime
        self._is_reading = False

    @property
    def health(self) -> FeedHealth:
        return self._reporter.health(self.measure())

    def measure(self) -> SyncProgress | None:
        """Return the progress of a first sync or a catch-up.

        None if there is none, or if its last poll failed.
        """
        coverage = self.recorder.coverage_read
        if not self._is_reading or (coverage is not None and coverage.is_caught_up):
            return None
        return SyncProgress(self.recorder.read_count, self._connection.client.quota_wait())

    def reconfigure(self, client: LateClient, config: PollConfig) -> None:
        """Use another client and other intervals; must not be called while ``run`` is running."""
        self._defer_requests()
        self._connection.client = client
        self._connection.config = config

    async def run(self) -> None:
        """Poll until cancelled; only unexpected errors are raised."""
        await self.start()
        while True:
            key = self._connection.client.key
            started_at = self._runtime.monotonic()
            result = await self.poll()
            delay = poll_delay(
                result,
                self._runtime.monotonic() - started_at,
                self._reporter.failure_count,
                interval=self._connection.config.interval,
                runtime=self._runtime,
            )
            self._reporter.next_poll = self._clock.time() + delay
            await self._wait(delay, key)

    async def _wait(self, seconds: float, key: str) -> None:
        """Wait for the next poll, or until a poll interval has passed and another key is there."""
        end = self._runtime.monotonic() + seconds
        while (rest := end - self._runtime.monotonic()) > 0:
            await self._runtime.sleep(min(rest, self._connection.config.interval))
            if self._connection.client.key != key:
                return

    async def catch_up(self) -> PollResult:
        """Poll until nothing is left to read or a poll fails; return the last result.

        Then finish, within a poll interval, a due scan; the next run continues what is not
        finished.
        """
        await self.start()
        result = await self.poll()
        while result.is_partial:
            result = await self.poll()

        deadline = self._runtime.monotonic() + self._connection.config.interval
        work_done: object = None
        while result.error is None and self._sync.has_unfinished_work:
            has_stopped = work_done == self._sync.work_done
            if has_stopped or self._runtime.monotonic() >= deadline:
                break
            work_done = self._sync.work_done
            result = await self.poll(deadline)

        if result.error is None:
            self._sync.is_complete = True  # No later poll reads what could not be read.
        return result

    async def commit_increments(self) -> None:
        """Commit what happened since the last poll, because no other follows; show it."""
        self._defer_requests()
        await self._sync.commit()
        self._reporter.update_pending()

    async def start(self) -> None:
        """Create the exporter's own counters of the feed at 0."""
        self._sync.discard_uncommitted()
        zeros = self._reporter.initial_zeros()
        if await self._sync.commit(zeros) is not None:
            self.recorder.defer((), provisional=zeros)
        if not self._sync.has_audits:
            # The results of the last audit would go stale.
            self.recorder.remove_gauges(AUDIT_GAUGES)

    async def poll(self, deadline: float = math.inf) -> PollResult:
        """Poll once and report the result; ``deadline`` is that of ``FeedSync.poll``."""
        start = self._runtime.monotonic()
        started_at = self._clock.time()
        self._is_reading = True
        result = await self._commit_poll(await self._sync.poll(deadline))
        self._is_reading = result.is_partial

        duration = self._runtime.monotonic() - start
        self._reporter.update_gauges(
            result,
            duration,
            quota=self._connection.client.quota,
            clock_offset=self._clock.host_offset,
        )
        self._reporter.report(result, started_at=started_at, duration=duration)
        return result

    async def _commit_poll(self, result: PollResult) -> PollResult:
        """Commit what a poll has read, and its own counters; return its final result."""
        now = self._clock.time()
        scope = self.recorder.scope
        self._defer_requests()
        increments: list[Increment] = [IncCounter(POLLS, (*scope, result.outcome))]
        if result.error is None:
            increments.append(SetCurrent(LAST_POLL, scope, value=now))
        self.recorder.correct_times(now)
        error = await self._sync.commit(increments)
        if error is None:
            return result
        # A poll that could not be committed is the one thing shown without being durable.
        self.recorder.defer((), provisional=[IncCounter(POLLS, (*scope, error.outcome))])
        return PollResult(error)

    def _defer_requests(self) -> None:
        """Leave the increments for the requests since the last call to the next commit."""
        requests, wait_seconds = self._connection.client.pop_request_log()
        self.recorder.defer(self._reporter.request_increments(requests, wait_seconds))
