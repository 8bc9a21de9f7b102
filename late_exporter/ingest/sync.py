"""Synchronise one feed: fetch its pages, judge and record them, and commit what is true then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from late_exporter.api.generation import (
    SWITCH_HINT,
    SWITCH_REMEDY,
    examine_lists,
    find_feed,
    refuses_list,
)
from late_exporter.api.pages import fetch_page, fetch_post
from late_exporter.api.plausibility import check_dated, check_not_emptied
from late_exporter.errors import ApiError, LateError, StoreError, UnrecognisedLogs
from late_exporter.feeds.feed import Feed
from late_exporter.ingest.accounting import AUDIT_GAUGES, count_differences
from late_exporter.ingest.feed_view import FeedView
from late_exporter.ingest.pages_in_parts import read_page
from late_exporter.ingest.reader import Budget, FeedReader
from late_exporter.ingest.recorder import FeedRecorder
from late_exporter.ingest.reporter import PollReporter
from late_exporter.ingest.scan import Scan, ScanSchedule
from late_exporter.ingest.schedule import ApiClock, FeedConnection, PollResult
from late_exporter.ingest.shared_resources import SharedResources
from late_exporter.ingest.steps import FetchPost, Record, ReportFailure, Step, perform
from late_exporter.ingest.sweep import FetchPage
from late_exporter.log import Logger
from late_exporter.metrics.catalogue import GENERATION_UNREAD, LAST_AUDIT, LAST_RECONCILE
from late_exporter.model import LATE, ZERNIO, Increment, LogPage, SetCurrent

COMMIT_SIZE = 10_000
COMMIT_SECONDS = 2.0
"""Logs that a catch-up commits in one transaction, and time after which it commits fewer, because
pages are slow."""

MAX_UNCOMMITTED = 20_000
"""Uncommitted logs of all feeds, beyond which each feed commits what it has after every page.

They take about 20 MB.
"""

CHECK_TIMES = (LAST_RECONCILE, LAST_AUDIT)
"""Times of the last checks, which are those of the first sync until a check has completed."""

MAX_HIDDEN_SECONDS = 300.0
"""Seconds for which series are not shown because late or pending logs cannot be read; Prometheus
bridges as much."""

MIN_CATCH_UP_SECONDS = 5.0
"""A catch-up is interrupted to read the newest logs after this time, or after a poll interval if
that is longer."""

FIRST_SYNC_SECONDS = 300.0
"""The same for a first sync, before which nothing is shown that could be outdated."""

SCAN_SHARE = 0.05
REQUEST_SHARE = 0.25
"""Shares of the rate limit for a feed's scan, and for late or pending logs."""

MIN_REQUESTS = 10
"""Requests for late or pending logs per poll, however low the rate limit is."""


class FeedSync:
    """Synchronisation of one feed of one workspace.

    Attributes:
        is_complete: Whether the next commit contains everything that has to be read before the
            logs of the feed are shown.
    """

    def __init__(
        self,
        connection: FeedConnection,
        clock: ApiClock,
        recorder: FeedRecorder,
        reporter: PollReporter,
        scan_schedule: ScanSchedule,
        shared: SharedResources,
        logger: Logger,
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._recorder = recorder
        self._reporter = reporter
        self._scan_schedule = scan_schedule
        self._shared = shared
        self._logger = logger
        self._committed: Scan | None = None
        with suppress(msgspec.MsgspecError):
            self._committed = msgspec.json.decode(recorder.state.progress, type=Scan | None)
        self._reader = self._new_reader()
        self._reads_since = math.inf
        self.is_complete = False

    def _new_reader(self) -> FeedReader:
        view = FeedView(self._connection, self._clock, self._recorder, self._shared.runtime)
        return FeedReader(view, self._committed)

    @property
    def has_unfinished_work(self) -> bool:
        """Whether something is left that later polls would read."""
        return self._reader.is_unfinished or self._scan_schedule.is_due

    @property
    def work_done(self) -> object:
        """Progress of that work, to compare before and after a poll."""
        return (
            self._reader.scans.scan,
            self._scan_schedule.last_scan_at,
            len(self._recorder.state.pending_logs),
        )

    @property
    def has_audits(self) -> bool:
        return self._connection.config.audit_interval > 0

    def discard_uncommitted(self) -> None:
        """Drop logs that a cancelled poll has read but not committed; they are read again."""
        self._reader.restart(self._committed)
        self._recorder.start_batch()

    async def poll(self, deadline: float = math.inf) -> PollResult:
        """Read what is new; the last logs are left for ``commit``.

        ``deadline`` is the monotonic time from which no further page of a scan is read, for a poll
        that only finishes one, in larger steps.
        """
        error: LateError | None = None
        is_partial = False
        self.is_complete = False
        try:
            is_partial = await self._read(self._budget(deadline))
        except (ApiError, StoreError) as exc:
            error = exc.without_frames()

        if self._recorder.batch.coverage is not None and not self._recorder.is_synced:
            # The first sync commits its history before the poll's own counters, which belong to the
            # present.
            error = await self.commit() or error
        if error is not None:
            return PollResult(error)
        self.is_complete = not is_partial and self._has_read_enough()
        return PollResult(is_partial=is_partial)

    async def commit(self, increments: Sequence[Increment] = ()) -> StoreError | None:
        """Commit the logs read so far and some increments; return the error if that fails.

        Its outcome may be unknown then. The logs are read again, and those that were committed are
        known.
        """
        scan = self._reader.scans.scan
        encoded = msgspec.json.encode(scan) if scan != self._committed else None
        try:
            await self._recorder.commit(
                self._clock.now(),
                [*increments, *self._first_check_times()],
                progress=encoded,
                is_complete=self.is_complete,
            )
        except StoreError as exc:
            self._reader.restart(self._committed)
            return exc.without_frames()
        finally:
            self.is_complete = False
        self._committed = scan
        return None

    async def _read(self, budget: Budget) -> bool:
        """Read what is new; return whether the poll gave way to the newest logs within a gap."""
        await self._choose_list()
        self._start_due_scan()
        try:
            is_partial = await perform(self._reader.poll(budget), self._perform)
        except UnrecognisedLogs as exc:
            self._logger.warning("only newer logs count from now on", reason=str(exc))
            self._recorder.start_batch()
            await self._start_list(self._recorder.feed)
            is_partial = await perform(self._reader.poll(budget), self._perform)

        scan = self._reader.scans.completed
        if scan is not None:
            started_at = scan.started_at / 1000
            self._recorder.defer(
                [SetCurrent(LAST_RECONCILE, self._recorder.scope, value=started_at)]
            )
            await self._report_audit(scan)
        return is_partial

    async def _choose_list(self) -> None:
        """Find the list that is read, at the first sync or if another one is configured.

        Raises:
            ApiError: It cannot be found or read, or does not fit the state.
            StoreError: The switch to it cannot be committed.
        """
        current = self._recorder.feed
        coverage = self._recorder.coverage
        recorded = coverage.generation if coverage is not None else None
        feed = await find_feed(current.name, self._connection.client, recorded=recorded)
        if feed is current:
            return
        if recorded is None:
            await self._start_list(feed)
            return
        # Nothing is left for a list that cannot be read. Its date shows which counted logs are from
        # the future.
        self._judge_head(feed, await self._request_page(feed, FetchPage()))
        await self._start_list(feed)
        self._logger.warning("API generation changed", before=recorded, now=feed.generation)

    async def _start_list(self, feed: Feed) -> None:
        """Read another list, to which places and totals of the former one do not apply."""
        await self._recorder.switch_list(feed, self._clock.now())
        self._committed = None
        self._reader = self._new_reader()
        self._show_unread(is_unread=False)

    def _start_due_scan(self) -> None:
        if not self._recorder.is_synced:
            self._scan_schedule.postpone()  # The first sync reads the whole list.
            return
        scans = self._reader.scans
        is_due = self._scan_schedule.is_due and not self._reader.is_first_poll
        if is_due and scans.scan is None:
            scans.scan = self._scan_schedule.start_scan()

    async def _perform(self, step: Step) -> object:
        match step:
            case FetchPage():
                return await self._fetch(step)
            case FetchPost():
                client = self._connection.client
                page, response = await fetch_post(client, self._recorder.feed, step.post_id)
                self._clock.adjust(response.date)
                return await self._mark_known(page)
            case ReportFailure():
                self._reporter.report_failure(step)
            case Record():
                await self._record(step)
        return None

    async def _fetch(self, request: FetchPage) -> LogPage:
        """Fetch a page, judge it, and mark which of its logs are known.

        Raises:
            ApiError: The request failed, or the page cannot be true.
            StoreError: The known logs cannot be looked up.
        """
        feed = self._recorder.feed
        is_head = request == FetchPage(in_parts=request.in_parts)
        try:
            page = await self._request_page(feed, request)
            if is_head:
                self._judge_head(feed, page)
        except ApiError as exc:
            if is_head and feed.generation == LATE and refuses_list(exc):
                exc.add_hint(SWITCH_HINT)
            raise
        return await self._mark_known(page)

    async def _request_page(self, feed: Feed, request: FetchPage) -> LogPage:
        """Request a page, in several requests if one cannot deliver it.

        Raises:
            ApiError: It cannot be read.
        """

        async def fetch_rows(offset: int, limit: int) -> LogPage:
            filters: dict[str, str | int] = {"limit": limit}
            if request.status:
                filters["status"] = request.status
            page, response = await fetch_page(
                self._connection.client,
                feed,
                skip=request.place.skip + offset,
                filters=filters,
                created_after=request.after,
                created_before=request.place.before,
            )
            self._clock.adjust(response.date)
            return page

        return await read_page(fetch_rows, feed.number_entries, in_parts=request.in_parts)

    def _judge_head(self, feed: Feed, page: LogPage) -> None:
        """Raise BadPayload if the newest page of a list cannot be true."""
        coverage = self._recorder.coverage_read
        if coverage is not None:
            check_not_emptied(
                page,
                feed,
                newest=coverage.newest.created if coverage.newest else None,
                now=self._clock.now(),
                is_caught_up=coverage.is_caught_up,
            )
        check_dated(page)

    async def _mark_known(self, page: LogPage) -> LogPage:
        self._reporter.report_page(page)
        return await self._recorder.mark_known(page)

    async def _record(self, record: Record) -> None:
        """Take logs that were read, and what is true once they are committed.

        Commit them if they are many.
        """
        self._recorder.record(record)
        batch = self._recorder.batch
        is_due = (
            len(batch.observations) >= COMMIT_SIZE
            or self._shared.runtime.monotonic() >= batch.started_at + COMMIT_SECONDS
            or self._shared.uncommitted.total() > MAX_UNCOMMITTED
        )
        if batch.observations and is_due:
            error = await self.commit()
            if error is not None:
                raise error

    def _has_read_enough(self) -> bool:
        """Return whether what the poll has read may be shown.

        Everything, or what could be read for some minutes.
        """
        now = self._shared.runtime.monotonic()
        self._reads_since = min(self._reads_since, now)
        return self._reader.has_read_all or now >= self._reads_since + MAX_HIDDEN_SECONDS

    def _first_check_times(self) -> list[Increment]:
        """Return the times of checks once the first sync is complete.

        Without a time, nothing would show that a check never completes.
        """
        coverage = self._recorder.batch.coverage
        if coverage is None or not coverage.is_synced or self._recorder.is_synced:
            return []
        families = CHECK_TIMES if self.has_audits else (LAST_RECONCILE,)
        time = coverage.published_at / 1000
        return [SetCurrent(family, self._recorder.scope, value=time) for family in families]

    async def _report_audit(self, scan: Scan) -> None:
        """Report a scan of the whole list as the result of an audit."""
        if scan.until > self._clock.now() - self._recorder.feed.retention:
            return
        await self._compare_lists()
        mismatches = await self._recorder.check_counters()
        missing, extra = count_differences(mismatches)
        self._scan_schedule.last_audit_at = self._clock.time()

        log = self._logger.warning if missing or extra else self._logger.info
        log("audit completed", missing=missing, extra=extra)
        for mismatch in mismatches:
            self._logger.warning("count is wrong", found=str(mismatch))
        if self.has_audits:
            gauges = zip(AUDIT_GAUGES, (missing, extra, self._clock.time()), strict=True)
            scope = self._recorder.scope
            self._recorder.defer([SetCurrent(name, scope, value=value) for name, value in gauges])

    async def _compare_lists(self) -> None:
        """Report whether a list of generation late gets no new logs, though it answers."""
        feed = self._recorder.feed
        if feed.generation != LATE:
            return
        try:
            answers = await examine_lists(feed.name, self._connection.client)
        except ApiError as exc:
            self._logger.info("the lists cannot be compared", error=str(exc))
            return
        is_unread = answers[ZERNIO].is_ahead_of(answers[LATE])
        self._show_unread(is_unread=is_unread)
        if is_unread:
            self._logger.warning(
                "only the list of API generation zernio gets new logs", remedy=SWITCH_REMEDY
            )

    def _show_unread(self, *, is_unread: bool) -> None:
        labels = (*self._recorder.scope, ZERNIO)
        self._recorder.defer([SetCurrent(GENERATION_UNREAD, labels, value=int(is_unread))])

    def _budget(self, deadline: float) -> Budget:
        interval = self._connection.config.interval
        patience = MIN_CATCH_UP_SECONDS if self._recorder.is_synced else FIRST_SYNC_SECONDS
        allowed = self._connection.client.rate_limit * interval / 60
        requests = max(MIN_REQUESTS, int(allowed * REQUEST_SHARE))
        scan_pages = max(1, int(allowed * SCAN_SHARE))
        return Budget(
            scan_pages=requests if deadline < math.inf else scan_pages,
            requests=requests,
            interrupt_at=self._shared.runtime.monotonic() + max(interval, patience),
            deadline=deadline,
        )
