"""Synchronise one feed: read it, and commit what was read with the coverage and the progress that are true then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from late_exporter.api.client import LateClient
from late_exporter.api.generation import SWITCH_REMEDY
from late_exporter.errors import ApiError, LateError, StoreError, UnrecognisedLogs
from late_exporter.ingest.accounting import AUDIT_GAUGES, count_extra, count_missing
from late_exporter.ingest.fetcher import Fetcher
from late_exporter.ingest.reader import Budget, FeedReader, Progress
from late_exporter.ingest.scan import Scan, ScanSchedule
from late_exporter.ingest.schedule import PollConfig, PollResult
from late_exporter.ingest.shared_resources import SharedResources
from late_exporter.ingest.steps import FetchPost, Record, ReportFailure, Step, perform
from late_exporter.ingest.sweep import FetchPage
from late_exporter.metrics.catalogue import GENERATION_UNREAD, LAST_AUDIT, LAST_RECONCILE
from late_exporter.model import LATE, ZERNIO
from late_exporter.series import Increment, SetCurrent

COMMIT_SIZE = 10_000
COMMIT_SECONDS = 2.0
"""Logs that a catch-up commits in one transaction, and time after which it commits fewer, because pages are slow."""

MAX_UNCOMMITTED = 20_000
"""Uncommitted logs of all feeds, beyond which each feed commits what it has after every page.

They take about 20 MB.
"""

CHECK_TIMES = (LAST_RECONCILE, LAST_AUDIT)
"""Times of the last checks, which are those of the first sync until a check has completed."""

MAX_HIDDEN_SECONDS = 300.0
"""Seconds for which series are not shown because late or pending logs cannot be read; Prometheus bridges as much."""

MIN_CATCH_UP_SECONDS = 5.0
"""A catch-up is interrupted to read the newest logs after this time, or after a poll interval if that is longer."""

FIRST_SYNC_SECONDS = 300.0
"""The same for a first sync, before which nothing is shown that could be outdated."""

SCAN_SHARE = 0.05
URGENT_SHARE = 0.25
"""Shares of the rate limit for a feed's scan, and for late, pending or missing logs."""

MIN_SETTLEMENT_CHECKS = 10
"""Settlement checks allowed per poll, however low the rate limit is."""

MIN_URGENT_PAGES = 5


class FeedSync:
    """Synchronisation of one feed of one workspace.

    Attributes:
        completed_scan: Scan that the last poll completed, until ``finish_poll``.
        is_complete: Whether the next commit contains everything that has to be read before the
            logs of the feed are shown.
    """

    def __init__(
        self, fetcher: Fetcher, scan_schedule: ScanSchedule, shared: SharedResources
    ) -> None:
        self.fetcher = fetcher
        self.recorder = recorder = fetcher.recorder
        self._runtime = shared.runtime
        self._scan_schedule = scan_schedule
        self._uncommitted = shared.uncommitted
        progress = Progress()
        with suppress(msgspec.MsgspecError):
            progress = msgspec.json.decode(recorder.state.progress, type=Progress)
        self._committed, self._reader = progress, FeedReader(fetcher, progress)
        self.completed_scan: Scan | None = None
        self.is_complete = False
        self._batch_started_at = 0.0
        self._reads_since = math.inf

    @property
    def read_count(self) -> int:
        """Number of logs read so far, also if they are not committed yet."""
        return self.recorder.state.log_count + len(self.recorder.batch.observations)

    @property
    def has_unfinished_work(self) -> bool:
        """Whether something is left that later polls would read."""
        return self._reader.is_unfinished or self._is_scan_due

    @property
    def work_done(self) -> object:
        """Progress of that work, to compare before and after a poll."""
        return (
            self._reader.scans.scan,
            self._scan_schedule.last_start,
            len(self.recorder.state.pending_logs),
        )

    @property
    def has_audits(self) -> bool:
        return self.fetcher.config.audit_interval > 0

    def reconfigure(self, client: LateClient, config: PollConfig) -> None:
        """Use another client and other intervals; must not be called during a poll."""
        self.fetcher.client = client
        self.fetcher.config = self._scan_schedule.config = config

    def discard_uncommitted(self) -> None:
        """Drop logs that a cancelled poll has read but not committed; they are read again."""
        self._reader.restart(self._committed)
        self.recorder.start_batch()

    async def poll(self, deadline: float = math.inf) -> PollResult:
        """Read what is new; the last logs are left for ``commit``.

        ``deadline`` is the monotonic time from which no further page of a scan is read, for a poll
        that only finishes one, in larger steps.
        """
        error: LateError | None = None
        is_partial = False
        self.completed_scan = None
        self.is_complete = False
        try:
            if await self.fetcher.find_list():
                self._start_list()
            self._start_due_scan()
            is_partial = await self._read(self._budget(deadline))
            scans = self._reader.scans
            self.completed_scan = scans.completed
            if scans.is_abandoned:
                self._scan_schedule.postpone()
            if self.completed_scan is not None:
                await self._report_audit(self.completed_scan)
        except (ApiError, StoreError) as exc:
            error = exc.without_frames()
        if self.recorder.batch.coverage is not None and not self.recorder.is_synced:
            # The first sync commits its history before the poll's own counters, which belong to the
            # present.
            error = await self.commit() or error
        if error is not None:
            return PollResult(error.outcome, error)
        self.is_complete = not is_partial and self._has_read_enough()
        return PollResult("success", is_partial=is_partial)

    def _has_read_enough(self) -> bool:
        """Return whether what the poll has read may be shown: everything, or what could be read for some minutes."""
        now = self._runtime.monotonic()
        self._reads_since = min(self._reads_since, now)
        return self._reader.has_read_all or now >= self._reads_since + MAX_HIDDEN_SECONDS

    async def commit(self, increments: Sequence[Increment] = ()) -> StoreError | None:
        """Commit the logs read so far and some increments; return the error if that fails.

        Its outcome may be unknown then. The logs are read again, and those that were committed are
        known.
        """
        recorder = self.recorder
        coverage = self.recorder.batch.coverage
        progress = self._reader.progress
        if coverage is not None and coverage.is_synced and not recorder.is_synced:
            # Without a time, nothing would show that a check never completes.
            families, value = (
                CHECK_TIMES if self.has_audits else CHECK_TIMES[:1],
                coverage.published_at / 1000,
            )
            increments = [
                *increments,
                *(SetCurrent(each, recorder.scope, value=value) for each in families),
            ]
        encoded = msgspec.json.encode(progress) if progress != self._committed else None
        try:
            await recorder.commit(
                self.fetcher.now(), increments, progress=encoded, is_complete=self.is_complete
            )
        except StoreError as exc:
            self._reader.restart(self._committed)
            return exc.without_frames()
        finally:
            self.is_complete = False
        self._committed = progress
        return None

    def finish_poll(self, *, is_committed: bool) -> None:
        """Note that the results of a poll were committed; otherwise what it found is read again."""
        completed, self.completed_scan = self.completed_scan, None
        if not is_committed:
            self._reader.restart(self._committed)
        elif completed is not None:
            self._scan_schedule.finish(completed, self.fetcher.now())

    def _start_due_scan(self) -> None:
        if not self.recorder.is_synced:
            self._scan_schedule.postpone()  # The first sync reads the whole list.
        elif (
            self._is_scan_due and self._reader.scans.scan is None and not self._reader.is_first_poll
        ):
            self._reader.scans.scan = self._scan_schedule.next_scan(self.fetcher.now())

    @property
    def _is_scan_due(self) -> bool:
        return self.recorder.is_synced and self._scan_schedule.is_due

    def _start_list(self) -> None:
        """Read another list, to which places and totals of the former one do not apply."""
        self._committed = Progress()
        self._reader = FeedReader(self.fetcher, self._committed)
        self._show_unread(is_unread=False)

    async def _read(self, budget: Budget) -> bool:
        """Read what is new; if no log is recognised any more, go on as after a switch of the list."""
        try:
            return await perform(self._reader.poll(budget), self._perform)
        except UnrecognisedLogs as exc:
            self.fetcher.logger.warning("only newer logs count from now on", reason=str(exc))
        self.recorder.start_batch()
        await self.recorder.switch_list(self.fetcher.feed, self.fetcher.now())
        self._start_list()
        return await perform(self._reader.poll(budget), self._perform)

    async def _perform(self, step: Step) -> object:
        match step:
            case FetchPage():
                return await self.fetcher.fetch(step)
            case FetchPost():
                return await self.fetcher.fetch_post(step)
            case ReportFailure():
                self.fetcher.report_failure(step)
            case Record():
                await self._record(step)
        return None

    async def _record(self, record: Record) -> None:
        """Take logs that were read, and what is true once they are committed; commit them if they are many."""
        batch, now = self.recorder.batch, self._runtime.monotonic()
        if not batch.observations:
            self._batch_started_at = now
        self.recorder.record(record, self.fetcher.now())
        is_due = (
            self._uncommitted.total() > MAX_UNCOMMITTED
            or now >= self._batch_started_at + COMMIT_SECONDS
        )
        if len(batch.observations) >= COMMIT_SIZE or (batch.observations and is_due):
            error = await self.commit()
            if error is not None:
                raise error

    async def _report_audit(self, scan: Scan) -> None:
        """Report a scan of the whole list as the result of an audit."""
        if scan.until > self.fetcher.now() - self.fetcher.feed.retention:
            return
        await self._compare_lists()
        mismatches = await self.recorder.check_counters()
        missing, extra = count_missing(mismatches), count_extra(mismatches)
        self._scan_schedule.last_audit_at = self.fetcher.clock.time()
        warn = self.fetcher.logger.warning
        log = warn if missing or extra else self.fetcher.logger.info
        log("audit completed", found=scan.found, missing=missing, extra=extra)
        for mismatch in mismatches:
            metric = mismatch.family or "stored logs"
            warn("count is wrong", metric=metric, expected=mismatch.expected, found=mismatch.actual)
        if self.has_audits:
            gauges = zip(AUDIT_GAUGES, (missing, extra, self.fetcher.clock.time()), strict=True)
            self.recorder.defer(
                [SetCurrent(family, self.recorder.scope, value=value) for family, value in gauges]
            )

    async def _compare_lists(self) -> None:
        """Report whether a list of generation late gets no new logs any more, though it still answers."""
        if self.fetcher.feed.generation != LATE:
            return
        try:
            is_outdated = await self.fetcher.is_list_outdated()
        except ApiError as exc:
            self.fetcher.logger.info("the lists cannot be compared", error=str(exc))
            return
        self._show_unread(is_unread=is_outdated)
        if is_outdated:
            self.fetcher.logger.warning(
                "only the list of API generation zernio gets new logs", remedy=SWITCH_REMEDY
            )

    def _show_unread(self, *, is_unread: bool) -> None:
        labels = (*self.recorder.scope, ZERNIO)
        self.recorder.defer([SetCurrent(GENERATION_UNREAD, labels, value=int(is_unread))])

    def _budget(self, deadline: float) -> Budget:
        interval = self.fetcher.config.interval
        patience = MIN_CATCH_UP_SECONDS if self.recorder.is_synced else FIRST_SYNC_SECONDS
        interrupt_at = self._runtime.monotonic() + max(interval, patience)
        requests = self.fetcher.client.rate_limit * interval / 60
        urgent = int(requests * URGENT_SHARE)
        urgent_pages, checks = max(MIN_URGENT_PAGES, urgent), max(MIN_SETTLEMENT_CHECKS, urgent)
        pages = urgent_pages if deadline < math.inf else max(1, int(requests * SCAN_SHARE))
        return Budget(pages, urgent_pages, checks, interrupt_at, deadline)
