"""Synchronise one feed: read it, and commit what was read with the coverage and the sweep that are true then."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence

import msgspec

from late_exporter.api.generation import ApiGeneration
from late_exporter.errors import ApiError, LateError, StoreError
from late_exporter.ingest.accounting import AUDIT_GAUGES, check_counters, count_extra, count_missing
from late_exporter.ingest.fetcher import Fetcher
from late_exporter.ingest.read_buffer import ReadBuffer
from late_exporter.ingest.reader import Budget, FeedReader, Progress, Sweep, UnrecognisedLogs
from late_exporter.ingest.recorder import FeedRecorder, UncommittedBatch
from late_exporter.ingest.schedule import PollConfig, PollResult, Runtime
from late_exporter.ingest.sync_meter import ReadingState
from late_exporter.model import MAX_CLOCK_SKEW_MS, Coverage, LogEntry, PendingLog, Scope
from late_exporter.protocols import Client, Logger
from late_exporter.series import Increment, SetCurrent

COMMIT_SIZE = 10_000
COMMIT_SECONDS = 2.0
"""Logs that a catch-up commits in one transaction, and time after which it commits fewer, because pages are slow.

Many feeds that catch up at the same time commit earlier, see ``ReadBuffer``.
"""

PAGES_PER_SLICE = 10  # of committed logs, which are freed in half a millisecond

MIN_CATCH_UP_SECONDS = 5.0
"""A catch-up is interrupted to read the newest logs after this time, or after a poll interval if that is longer."""

SWEEP_SHARE = 0.05
URGENT_SHARE = 0.25
"""Shares of the rate limit for a feed's sweep, and for late, pending or missing logs."""

SWEEP_INTERVALS = 24
"""Intervals between two sweeps down to which a sweep reads that is not one of the whole list."""

MIN_SETTLEMENT_CHECKS = 10
"""Settlement checks allowed per poll, however low the rate limit is."""

MIN_URGENT_PAGES = 5


class FeedSync:
    """Synchronisation of one feed of one workspace.

    Args:
        read_buffer: Shared by all feeds.
        last_sweep_at: Unix time in seconds at which the last completed sweep started; 0 if there is none.
        last_audit_at: Unix time in seconds at which the last sweep of the whole list was completed.

    Attributes:
        completed_sweep: Sweep that the last poll completed, until ``finish_poll``.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        recorder: FeedRecorder,
        *,
        client: Client,
        config: PollConfig,
        runtime: Runtime,
        logger: Logger,
        scope: Scope,
        read_buffer: ReadBuffer | None = None,
        last_sweep_at: float = 0.0,
        last_audit_at: float = 0.0,
    ) -> None:
        self.recorder = recorder
        self._fetcher = fetcher
        self._client = client
        self._config = config
        self._runtime = runtime
        self._logger = logger
        self._scope = scope
        self._committed = self._decode_progress(recorder.progress)
        self._reader = self._create_reader()
        self._last_audit_at = last_audit_at
        age = runtime.clock() - last_sweep_at
        # A time in the future was set by a wrong clock.
        self._last_sweep = runtime.monotonic() - age if age * 1000 > -MAX_CLOCK_SKEW_MS else -math.inf
        self._batch_started_at = 0.0
        self._read_buffer = read_buffer or ReadBuffer()
        self.completed_sweep: Sweep | None = None

    def _create_reader(self) -> FeedReader:
        return FeedReader(
            self._fetcher,
            self,
            monotonic=self._runtime.monotonic,
            lookback=int(self._config.lookback * 1000),
            late_window=int(self._config.late_window * 1000),
            progress=self._committed,
        )

    @property
    def _batch(self) -> UncommittedBatch:
        return self._fetcher.batch

    @property
    def reading_state(self) -> ReadingState:
        """What was read so far, also if it is not committed yet."""
        return ReadingState(
            self.recorder.log_count + self._batch.log_count,
            self.coverage,
            self._fetcher.list_total,
            self._fetcher.feed.retention,
        )

    @property
    def request_count(self) -> int:
        return self._fetcher.request_count

    @property
    def generation(self) -> str:
        return self._fetcher.feed.generation

    @property
    def api_generation(self) -> ApiGeneration:
        return self._fetcher.generation

    @property
    def has_unfinished_work(self) -> bool:
        """Whether a sweep is due or in progress."""
        return self._reader.has_unfinished_work or self._is_sweep_due

    @property
    def work_done(self) -> object:
        """Progress of that work, to compare before and after a poll."""
        return self._reader.sweep, self._last_sweep, len(self.recorder.pending_logs)

    @property
    def has_audits(self) -> bool:
        return self._config.audit_interval > 0

    def reconfigure(self, client: Client, generation: ApiGeneration, config: PollConfig) -> None:
        """Use another client and other intervals; must not be called during a poll."""
        self._client = client
        self._fetcher.reconfigure(client, generation)
        self._config = config
        self._reader.lookback, self._reader.late_window = int(config.lookback * 1000), int(config.late_window * 1000)

    def discard_unsaved(self) -> None:
        """Drop logs that a cancelled poll has read but not committed; they are read again."""
        self._reader.discard_unsaved(self._committed)
        self._start_batch()

    def _start_batch(self) -> None:
        self._fetcher.batch = UncommittedBatch()
        self._read_buffer.update(self, 0)

    async def poll(
        self, interval: float, *, request_allowance: int | None = None, deadline: float | None = None
    ) -> PollResult:
        """Read what is new; the last logs are left for ``commit``.

        Args:
            interval: Seconds between two polls, from which request budgets are computed.
            request_allowance: Requests that the poll may add to the necessary ones; None for a regular poll.
            deadline: Monotonic time from which no further page of a sweep is read, for a poll that only finishes one,
                in larger steps; None for other polls.
        """
        error: LateError | None = None
        is_partial, self.completed_sweep = False, None
        try:
            if await self._fetcher.refresh_generation():
                self._start_reader()
            if not self.recorder.is_synced:
                self._last_sweep = self._runtime.monotonic()  # The first sync reads the whole list.
            elif self._is_sweep_due and self._reader.sweep is None and not self._reader.is_first_poll:
                self._reader.sweep = self._start_sweep()
            budget = self._budget(interval, request_allowance, deadline)
            try:
                is_partial = await self._reader.poll(budget)
            except UnrecognisedLogs as exc:
                self._logger.warning("only newer logs count from now on", reason=str(exc))
                await self._renew_identity()
                is_partial = await self._reader.poll(budget)
            self.completed_sweep = self._reader.completed_sweep
            if self._reader.is_abandoned:
                self._last_sweep = self._runtime.monotonic()
            if self.completed_sweep is not None:
                await self._complete(self.completed_sweep)
        except (ApiError, StoreError) as exc:
            error = exc.without_frames()
        if (self._batch.pages or self._batch.coverage) and not self.recorder.is_synced:
            # The first sync commits its history before the poll's own counters, which belong to the present.
            error = await self.commit() or error
        if error is not None:
            return PollResult(error.outcome, error)
        return PollResult("success", is_partial=is_partial)

    async def _renew_identity(self) -> None:
        self._start_batch()
        await self.recorder.renew_identity(self.generation)
        self._start_reader()

    def _start_reader(self) -> None:
        """Start again with a list to which places and totals of the old one do not apply."""
        self._committed = Progress(self.generation)
        self._reader = self._create_reader()

    async def commit(self, increments: Sequence[Increment] = ()) -> StoreError | None:
        """Commit the logs read so far and some increments; return the error if that fails."""
        batch, progress = self._batch, self._reader.progress
        self._read_buffer.update(self, 0)
        if progress != self._committed:
            batch.progress = msgspec.json.encode(progress)
        try:
            await self.recorder.commit(batch, self._fetcher.now(), increments)
        except StoreError as exc:
            self._reader.discard_unsaved(self._committed)
            return exc.without_frames()
        finally:
            self._start_batch()
        self._committed = progress
        return None

    def finish_poll(self, *, is_saved: bool) -> None:
        """Note that the results of a poll were saved; otherwise what it found is read again."""
        completed, self.completed_sweep = self.completed_sweep, None
        if not is_saved:
            self._reader.discard_unsaved(self._committed)
        elif completed is not None:
            self._last_sweep = self._runtime.monotonic() - (self._fetcher.now() - completed.started_at) / 1000

    async def examine_generation(self) -> None:
        """Examine, if that is due, whether the list of the other API generation has newer logs."""
        await self._fetcher.examine_generation()

    @property
    def _is_sweep_due(self) -> bool:
        is_due = self._runtime.monotonic() - self._last_sweep >= self._config.reconcile_interval
        return self.recorder.is_synced and is_due

    def _start_sweep(self) -> Sweep:
        """Return a sweep of the whole list once per audit interval, and of its newest part in between."""
        now, interval = self._fetcher.now(), self._config.audit_interval or 86_400
        is_whole = self._runtime.clock() - self._last_audit_at >= interval
        until = 0 if is_whole else now - int(self._config.reconcile_interval * SWEEP_INTERVALS * 1000)
        return Sweep(now, until)

    async def _complete(self, sweep: Sweep) -> None:
        """Report a sweep of the whole list as the result of an audit."""
        if sweep.until and sweep.until > self._fetcher.now() - self._fetcher.feed.retention:
            return
        feed, scope = self._fetcher.feed, self._scope
        mismatches = await self.recorder.evaluate_accounting(lambda stored: check_counters(scope, feed, stored))
        missing, extra, now = count_missing(0, mismatches), count_extra(mismatches), self._runtime.clock()
        self._last_audit_at = now
        log = self._logger.warning if missing or extra else self._logger.info
        log("audit completed", found=sweep.found, missing=missing, extra=extra)
        for mismatch in mismatches:
            metric = mismatch.family or "stored logs"
            self._logger.warning("count is wrong", metric=metric, expected=mismatch.expected, found=mismatch.actual)
        if self.has_audits:
            labels, values = (scope.workspace, scope.feed), (missing, extra, now)
            gauges = zip(AUDIT_GAUGES, values, strict=True)
            self.recorder.defer([SetCurrent(family, labels, value=value) for family, value in gauges])

    def _budget(self, interval: float, request_allowance: int | None, deadline: float | None) -> Budget:
        requests = self._client.rate_limit * interval / 60
        interrupt_at = self._runtime.monotonic() + max(self._config.interval, MIN_CATCH_UP_SECONDS)
        if request_allowance is not None:
            checks = min(MIN_SETTLEMENT_CHECKS, request_allowance)
            return Budget(pages=0, urgent_pages=0, checks=checks, interrupt_at=interrupt_at)
        urgent = int(requests * URGENT_SHARE)
        urgent_pages = max(MIN_URGENT_PAGES, urgent)
        return Budget(
            pages=urgent_pages if deadline is not None else max(1, int(requests * SWEEP_SHARE)),
            urgent_pages=urgent_pages,
            checks=max(MIN_SETTLEMENT_CHECKS, urgent),
            interrupt_at=interrupt_at,
            deadline=deadline,
        )

    def _decode_progress(self, encoded: bytes) -> Progress:
        generation = self._fetcher.feed.generation
        try:
            progress = msgspec.json.decode(encoded, type=Progress)
        except msgspec.MsgspecError:
            return Progress(generation)
        return progress if progress.generation == generation else Progress(generation)

    # What the reader records.

    @property
    def coverage(self) -> Coverage | None:
        """What was read, also if it is not committed yet."""
        return self._batch.coverage or self.recorder.coverage

    @property
    def pending_logs(self) -> Mapping[str, PendingLog]:
        return self.recorder.pending_logs

    async def record(
        self,
        entries: tuple[LogEntry, ...],
        *,
        coverage: Coverage | None = None,
        sweep: Sweep | None = None,
        deleted_keys: tuple[str, ...] = (),
        by_reconciliation: bool = False,
    ) -> None:
        """Take logs that were read, and what is true once they are committed; commit them if they are many."""
        batch, now = self._batch, self._runtime.monotonic()
        if not batch.pages:
            self._batch_started_at = now
        batch.add(entries, by_reconciliation=by_reconciliation)
        batch.coverage = coverage or batch.coverage
        batch.deleted_keys += deleted_keys
        if sweep is not None:
            self._reader.sweep = sweep
        self._read_buffer.update(self, batch.log_count)
        is_due = self._read_buffer.is_full or now - self._batch_started_at >= COMMIT_SECONDS
        if batch.log_count >= COMMIT_SIZE or (batch.pages and is_due):
            pages = batch.pages
            error = await self.commit()
            if error is not None:
                raise error
            while pages:  # Freeing thousands of logs at once would hold the event loop for milliseconds.
                del pages[-PAGES_PER_SLICE:]
                await asyncio.sleep(0)
