"""Synchronise one feed: run the reader, the reconciliation scan and the audit, and record what they find."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from late_exporter.api.generation import ApiGeneration
from late_exporter.errors import REQUEST_FAILURES, ApiError, LateError, StoreError, UnrecognisedLogs
from late_exporter.ingest import reader
from late_exporter.ingest.background_audit import BackgroundAuditor
from late_exporter.ingest.fetcher import Fetcher
from late_exporter.ingest.progress import Progress, ProgressSaver, ScanSchedule, decode_progress, encode_progress
from late_exporter.ingest.read_buffer import ReadBuffer
from late_exporter.ingest.reader_state import PendingScan, PollContext, ReaderState, ReconcileScan
from late_exporter.ingest.recorder import FeedRecorder, UncommittedBatch
from late_exporter.ingest.schedule import PollConfig, PollResult, Runtime
from late_exporter.ingest.steps import FetchedPage, FetchPage, FetchPost, FetchTime, ReaderStep, Record, ReportFailure
from late_exporter.ingest.sync_meter import ReadingState
from late_exporter.protocols import Client
from late_exporter.series import Increment

COMMIT_SIZE = 10_000
COMMIT_SECONDS = 2.0
"""Logs that a catch-up commits in one transaction, and time after which it commits fewer, because pages are slow.

Many feeds that catch up at the same time commit earlier, see ``ReadBuffer``.
"""

PAGES_PER_SLICE = 10  # of committed logs, which are freed in half a millisecond

MIN_CATCH_UP_SECONDS = 5.0
"""A catch-up is interrupted to read the newest logs after this time, or after a poll interval if that is longer."""

SCAN_SHARE = 0.05
URGENT_SHARE = 0.25
AUDIT_SHARE = 0.02
"""Shares of the rate limit for a feed's reconciliation scan, for pending or missing logs, and for its audit."""

MIN_SETTLEMENT_CHECKS = 10
"""Settlement checks allowed per poll, however low the rate limit is."""

MIN_URGENT_PAGES = 5


class FeedSync:
    """Synchronisation of one feed of one workspace.

    Args:
        read_buffer: Shared by all feeds.
        last_scan_at: Unix time in seconds at which the last completed reconciliation scan started; 0 if there is none.

    Attributes:
        completed_scan: Reconciliation scan that the last poll completed, until ``finish_poll``.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        auditor: BackgroundAuditor,
        recorder: FeedRecorder,
        *,
        client: Client,
        config: PollConfig,
        runtime: Runtime,
        read_buffer: ReadBuffer | None = None,
        last_scan_at: float = 0.0,
    ) -> None:
        self.recorder = recorder
        self._fetcher = fetcher
        self._auditor = auditor
        self._client = client
        self._config = config
        self._runtime = runtime
        progress = decode_progress(recorder.progress, fetcher.feed.generation)
        self._state = ReaderState(
            max_skip=config.max_skip,
            pending_scan=progress.pending_scan or PendingScan(),
            missed_keys=progress.missed_keys,
        )
        self._scans = ScanSchedule(runtime, last_scan_at=last_scan_at, unfinished=progress.scan)
        self._progress_saver = ProgressSaver(recorder.progress, runtime)
        self._batch = UncommittedBatch()
        self._batch_started_at = 0.0
        self._read_buffer = read_buffer or ReadBuffer()
        self._list_total = 0
        self.completed_scan: ReconcileScan | None = None

    @property
    def reading_state(self) -> ReadingState:
        """What was read so far, also if it is not committed yet."""
        batch, recorder = self._batch, self.recorder
        return ReadingState(
            recorder.log_count + batch.log_count,
            batch.coverage or recorder.coverage,
            self._list_total,
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
        """Whether a scan, a pass over the pending logs or an audit is due or in progress."""
        return (
            self._state.scan is not None
            or self._scans.is_due(self._config.reconcile_interval)
            or self._state.pending_scan.skip > 0
            or self._is_audit_due
        )

    @property
    def work_done(self) -> object:
        """Progress of that work, to compare before and after a poll."""
        scan = self._state.scan
        return (
            self._encode_progress(),
            scan and scan.cursor,
            self._scans.started_at,
            self._auditor.last_audit_at,
            self._auditor.next_step,
            len(self.recorder.pending_logs),
        )

    @property
    def has_audits(self) -> bool:
        return self._config.audit_interval > 0

    def reconfigure(self, client: Client, generation: ApiGeneration, config: PollConfig) -> None:
        """Use another client and other intervals; must not be called during a poll."""
        self._client = client
        self._fetcher.reconfigure(client, generation)
        self._config = config

    def discard_unsaved(self) -> None:
        """Drop logs that a cancelled poll has read but not committed; they are read again."""
        if self._batch.pages and self._state.scan is not None:
            self._state.scan.started_at = 0  # The scan is past its own logs among them.
        if self._batch.pages:
            self._state.late_window.discard()
            self._state.scan_stretch = None
        self._start_batch()

    def _start_batch(self) -> None:
        self._batch = UncommittedBatch()
        self._read_buffer.update(self, 0)

    async def poll(
        self, interval: float, *, request_allowance: int | None = None, deadline: float | None = None
    ) -> PollResult:
        """Read what is new; the last logs are left for ``commit``.

        Args:
            interval: Seconds between two polls, from which request budgets are computed.
            request_allowance: Requests that the poll may add to the necessary ones; None for a regular poll.
            deadline: Monotonic time from which no further page is read, for a poll that only finishes a scan and a
                pass over the pending logs, in larger steps; None for other polls.
        """
        error: LateError | None = None
        is_partial, self.completed_scan = False, None
        try:
            if await self._fetcher.refresh_generation():
                self._restart_reader()
            try:
                is_partial = await self._run_reader(interval, request_allowance, deadline)
            except UnrecognisedLogs as exc:
                self._start_batch()
                await self._fetcher.skip_counted(exc)
                self._restart_reader()
                is_partial = await self._run_reader(interval, request_allowance, deadline)
        except (ApiError, StoreError) as exc:
            error = exc.without_frames()
        if (self._batch.pages or self._batch.coverage) and not self.recorder.is_synced:
            # The first sync commits its history before the poll's own counters, which belong to the present.
            error = await self.commit() or error
        if error is not None:
            return PollResult(error.outcome, error)
        return PollResult("success", is_partial=is_partial)

    async def commit(self, increments: Sequence[Increment] = (), *, is_last: bool = False) -> StoreError | None:
        """Commit the logs read so far and some increments; return the error if that fails.

        ``is_last`` also saves how far a scan, a pass over the pending logs and an audit have come.
        """
        batch = self._batch
        self._read_buffer.update(self, 0)
        batch.progress = self._progress_saver.select(self._encode_progress(), is_last=is_last)
        try:
            await self.recorder.commit(batch, self._fetcher.now(), increments)
        except StoreError as exc:
            return exc.without_frames()
        finally:
            self._start_batch()
        if batch.progress is not None:
            self._progress_saver.confirm(batch.progress)
        return None

    def finish_poll(self, *, is_saved: bool) -> None:
        """Pass a completed scan to the auditor; discard what was found instead if it could not be saved."""
        completed, self.completed_scan = self.completed_scan, None
        if not is_saved:
            self._state.late_window.discard()
            self._state.scan_stretch = None
        for scan in (self._state.scan, completed):
            if scan is not None and not is_saved:
                scan.started_at = 0
        if completed is not None and completed.started_at:
            self._scans.complete(completed)
            self._auditor.report_scan(completed)

    async def audit(self, interval: float, *, deadline: float | None = None) -> None:
        """Audit some pages if an audit is due; the rest of an audit follows after later polls.

        With a ``deadline``, a monotonic time, pages are audited until then.
        """
        page_budget = max(1, int(self._requests_per(interval) * AUDIT_SHARE)) if deadline is None else 1
        while deadline is None or self._runtime.monotonic() < deadline:
            coverage = self.recorder.coverage
            if coverage is None or not self._is_audit_due:
                break
            work_done = self.work_done
            self.recorder.defer(
                await self._auditor.advance(
                    coverage,
                    page_budget=page_budget,
                    max_skip=self._config.max_skip if self._fetcher.feed.supports_time_filter else None,
                    now=self._runtime.clock(),
                )
            )
            if deadline is None or work_done == self.work_done:
                break

    async def examine_generation(self) -> None:
        """Examine, if that is due, whether the list of the other API generation has newer logs."""
        await self._fetcher.examine_generation()

    async def _run_reader(self, interval: float, request_allowance: int | None, deadline: float | None) -> bool:
        """Execute the reader's steps; return whether the poll was interrupted inside a gap."""
        self._start_scan_if_due()
        context = self._create_context(interval, request_allowance, is_finishing=deadline is not None)
        steps = reader.poll(context)
        start, max_seconds = self._runtime.monotonic(), max(self._config.interval, MIN_CATCH_UP_SECONDS)
        try:
            step = next(steps)
            while deadline is None or self._runtime.monotonic() < deadline or not _is_resumable(step):
                try:
                    page = await self._execute(step, context)
                except REQUEST_FAILURES as exc:
                    step = steps.throw(exc)  # The reader may go on without it, or know another way to the page.
                    continue
                if self._is_interruptible(step) and self._runtime.monotonic() - start > max_seconds:
                    return True
                step = steps.send(page)
        except StopIteration:
            self._state.is_first_poll = False
        finally:
            steps.close()
            if self._state.scan is not None and self._state.scan.is_complete:
                self._state.scan, self.completed_scan = None, self._state.scan
        return False

    def _restart_reader(self) -> None:
        """Forget cursors and totals, which are those of another list, or of one with other keys."""
        self._state = ReaderState(max_skip=self._config.max_skip)
        self._scans.discard()
        self._auditor.switch_feed(self._fetcher.feed)

    def _start_scan_if_due(self) -> None:
        state = self._state
        if not self.recorder.is_synced:
            self._scans.postpone(self._fetcher.now())
        elif state.scan is None and not state.is_first_poll and self._scans.is_due(self._config.reconcile_interval):
            # The first poll scans for logs that arrived while no process was polling.
            state.scan = self._scans.start(
                self._fetcher.now(),
                self._config.reconcile_interval,
                self._fetcher.feed.retention,
                is_whole=self._auditor.awaits_scan(self._runtime.clock(), self._config.audit_interval),
            )

    @property
    def _is_audit_due(self) -> bool:
        return self.recorder.is_synced and self._auditor.is_due(self._runtime.clock(), self._config.audit_interval)

    def _encode_progress(self) -> bytes:
        state, scan = self._state, self._state.scan
        if scan is None or not scan.is_regular:
            scan = self._scans.unfinished
        return encode_progress(
            Progress(
                self.generation,
                # A scan that has passed logs which could not be saved is worth nothing.
                scan=scan if scan is not None and scan.started_at else None,
                pending_scan=state.pending_scan if state.pending_scan.skip else None,
                missed_keys=state.missed_keys,
            )
        )

    def _create_context(self, interval: float, request_allowance: int | None, *, is_finishing: bool) -> PollContext:
        feed = self._fetcher.feed
        requests = self._requests_per(interval)
        urgent = int(requests * URGENT_SHARE)
        if request_allowance is None:
            settlement_budget = max(MIN_SETTLEMENT_CHECKS, urgent)
            urgent_pages = max(MIN_URGENT_PAGES, urgent)
            page_budget = (urgent_pages if is_finishing else max(1, int(requests * SCAN_SHARE)), urgent_pages)
        else:
            settlement_budget = min(MIN_SETTLEMENT_CHECKS, request_allowance)
            page_budget = (0, 0)
        return PollContext(
            now=self._fetcher.now(),
            retention=feed.retention,
            lookback=int(self._config.lookback * 1000),
            coverage=self.recorder.coverage,
            pending_logs=self.recorder.pending_logs,
            settlement_budget=settlement_budget,
            generation=feed.generation,
            supports_time_filter=feed.supports_time_filter,
            page_budget=page_budget,
            late_window=int(self._config.late_window * 1000),
            state=self._state,
        )

    def _requests_per(self, interval: float) -> float:
        return self._client.rate_limit * interval / 60

    async def _execute(self, step: ReaderStep, context: PollContext) -> FetchedPage | None:
        match step:
            case FetchPage(window=(first, last)):
                if self._batch.pages:  # They are counted, too.
                    await self._commit_read()
                    context.uncommitted_keys.clear()
                return await self._fetcher.count_window(step, first, last)
            case FetchPage():
                page = await self._fetcher.fetch_page(step, self._batch.uncommitted)
                context.now = self._fetcher.now()
                if step.status is None and step.created_after is None and step.created_before is None:
                    self._note_list(step, page)
                return page
            case FetchPost():
                return await self._fetcher.fetch_post(step, self._batch.uncommitted)
            case FetchTime():
                return await self._fetcher.fetch_time(step, self._batch.uncommitted)
            case ReportFailure():
                self._fetcher.failure_reporter.report_failure(step.request, step.error)
                return None
            case Record():
                await self._record(step)
                if not self._batch.pages:
                    context.uncommitted_keys.clear()
                return None

    def _note_list(self, step: FetchPage, page: FetchedPage) -> None:
        """Note what the status page shows of the list."""
        self._list_total = page.total or 0
        recent_attempts = self.recorder.recent_attempts
        if recent_attempts is not None and not step.skip:
            recent_attempts.add_counted(page, self._runtime.clock())

    async def _record(self, step: Record) -> None:
        batch, now = self._batch, self._runtime.monotonic()
        if not batch.pages:
            self._batch_started_at = now
        batch.add(step.entries, by_reconciliation=step.by_reconciliation)
        batch.coverage = step.coverage or batch.coverage
        batch.deleted_keys += step.deleted_keys
        if step.listed_minutes is not None:
            batch.listed_minutes.append(step.listed_minutes)
        self._read_buffer.update(self, batch.log_count)
        is_due = self._read_buffer.is_full or now - self._batch_started_at >= COMMIT_SECONDS
        if batch.log_count >= COMMIT_SIZE or (batch.pages and is_due):
            await self._commit_read()

    async def _commit_read(self) -> None:
        """Commit the logs read so far; raise StoreError if that fails."""
        pages = self._batch.pages
        error = await self.commit()
        if error is not None:
            raise error
        while pages:  # Freeing thousands of logs at once would hold the event loop for milliseconds.
            del pages[-PAGES_PER_SLICE:]
            await asyncio.sleep(0)

    def _is_interruptible(self, step: ReaderStep) -> bool:
        """Return whether a catch-up may be interrupted after a step, so that the next poll continues further down."""
        if not isinstance(step, Record) or not step.shrinks_gap or step.coverage is None:
            return False
        return bool(step.coverage.gaps)


def _is_resumable(step: ReaderStep) -> bool:
    """Return whether a later run can continue with a step; what a pass over the pending logs has found is not kept."""
    return isinstance(step, FetchPage) and step.created_after is None
