"""Fetch pages of one log list, whichever generation of it the API has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from late_exporter.api.client import LateClient
from late_exporter.api.generation import (
    SWITCH_HINT,
    examine_lists,
    find_feed,
    refuses_list,
    require_ids,
)
from late_exporter.api.pages import fetch_page, fetch_post
from late_exporter.errors import ApiError, BadPayload, ResponseTooLarge
from late_exporter.feeds.feed import Feed
from late_exporter.ingest.recorder import FeedRecorder
from late_exporter.ingest.schedule import ApiClock, PollConfig
from late_exporter.ingest.shared_resources import SharedResources
from late_exporter.ingest.steps import FetchPost, ReportFailure
from late_exporter.ingest.sweep import FetchPage
from late_exporter.ingest.unreadable_rows import read_around_rows
from late_exporter.model import DAY_MS, LATE, PAGE_SIZE, VALUE_DEVIATION, ZERNIO, LogEntry, LogPage
from late_exporter.protocols import ApiResponse, Logger
from late_exporter.store.records import Coverage, PendingLog

MAX_REPORTED = 1000
"""Deviations and unreadable rows that are remembered, so that each is logged once."""

MAX_VALUES = 100
"""Reports beyond which undocumented values are counted but no longer logged."""

MAX_TIME_LOGS = 10_000
MAX_TIME_READINGS = 4
"""Logs without ids of one time that are read together, and readings of which two in a row have to agree."""

MIN_UNDATED = 10
"""Logs of the newest page, none of which has a time, that show that the API writes times differently."""

FAILED_REQUESTS = "late_exporter_failed_requests_total"
UNREADABLE_ROWS = "late_exporter_unreadable_rows_total"


class Fetcher:
    """Requests pages and looks up which of their logs are known; what the reader sees of its feed.

    Attributes:
        list_total: Number of logs of the whole list as last reported by the API; 0 if unknown.
    """

    def __init__(
        self,
        recorder: FeedRecorder,
        shared: SharedResources,
        *,
        clock: ApiClock,
        client: LateClient,
        config: PollConfig,
        logger: Logger,
    ) -> None:
        self.config = config
        self.monotonic = shared.runtime.monotonic
        self.clock = clock
        self.client = client
        self.logger = logger
        self.request_count = 0
        self.list_total = 0
        self.recorder = recorder
        self._reported: set[object] = set()
        self._last_failures: dict[str, tuple[object, ...]] = {}

    @property
    def feed(self) -> Feed:
        return self.recorder.feed

    @property
    def coverage(self) -> Coverage | None:
        """What was read, also if it is not committed yet."""
        return self.recorder.batch.coverage or self.recorder.coverage

    @property
    def pending_logs(self) -> Mapping[str, PendingLog]:
        return self.recorder.state.pending_logs

    def now(self) -> int:
        """Return the API's time in milliseconds."""
        return int(self.clock.time() * 1000)

    async def find_list(self) -> bool:
        """Find the list that is read, at the first sync or if another one is configured; return whether it has changed.

        Raises:
            ApiError: It cannot be found or read, or does not fit the state.
            StoreError: The switch to it cannot be committed.
        """
        coverage = self.recorder.coverage
        recorded = coverage.generation if coverage is not None else None
        feed = await find_feed(self.feed.name, self.client, recorded=recorded)
        if feed is self.feed:
            return False
        if recorded is not None:
            # Nothing is left for a list that cannot be read. Its date shows which counted logs are
            # from the future.
            self._check_head(feed, await self._request(feed, fetch_page(self.client, feed)))
        await self.recorder.switch_list(feed, self.now())
        if recorded is not None:
            self.logger.warning("API generation changed", before=recorded, now=feed.generation)
        return True

    async def is_list_outdated(self) -> bool:
        """Request the newest log of both lists of the feed; return whether the other one gets the new logs.

        Raises:
            ApiError: Nothing can be said.
        """
        answers = await examine_lists(self.feed.name, self.client)
        return answers[ZERNIO].is_ahead_of(answers[LATE])

    async def fetch(self, request: FetchPage) -> LogPage:
        """Fetch a page.

        Raises:
            ApiError: The request failed.
            StoreError: The known logs of the page cannot be looked up.
        """
        is_head = request == FetchPage(in_parts=request.in_parts)
        try:
            page = await self._read_page(request)
            if is_head:
                self._check_head(self.feed, page)
        except ApiError as exc:
            if is_head and self.feed.generation == LATE and refuses_list(exc):
                exc.add_hint(SWITCH_HINT)
            raise
        fetched = await self._look_up(page)
        if is_head and self.recorder.recent_attempts is not None:
            self.recorder.recent_attempts.add_counted(fetched, self.clock.time())
        return fetched

    def _check_head(self, feed: Feed, page: LogPage) -> None:
        """Raise BadPayload if the newest page of a list cannot be true."""
        if not page.entries and self._is_loss(feed):
            raise BadPayload("the list is empty, but should have the newest counted log")
        if len(page.entries) >= MIN_UNDATED and not page.times:
            raise BadPayload("none of the newest logs has a readable creation time")
        self.list_total = page.total or 0

    def _is_loss(self, feed: Feed) -> bool:
        """Return whether a list that is empty has lost its logs, rather than that they have expired or were deleted."""
        coverage = self.coverage
        if coverage is None or coverage.newest is None:
            return False
        is_expired = self.now() > coverage.newest.created + feed.retention - DAY_MS
        # In generation zernio, which stays, logs that were deleted are no reason to fail if none
        # was left to read.
        return not is_expired and (feed.generation == LATE or not coverage.is_caught_up)

    async def fetch_post(self, request: FetchPost) -> LogPage:
        """Fetch the logs of a post; raises as ``fetch`` does."""
        return await self._look_up(
            await self._request(self.feed, fetch_post(self.client, self.feed, request.post_id))
        )

    def report_failure(self, failure: ReportFailure) -> None:
        """Count a request that failed without failing a poll; log it unless the last one of its kind failed alike."""
        self.recorder.count(FAILED_REQUESTS, 1, failure.kind)
        # Request ids, which are in the text of an error but not in its arguments, differ in every
        # request.
        if self._last_failures.get(failure.kind) != failure.error.args:
            self._last_failures[failure.kind] = failure.error.args
            self.logger.warning(
                "request failed, polls go on", request=failure.kind, error=str(failure.error)
            )

    async def _read_page(self, request: FetchPage) -> LogPage:
        """Read a page, in parts if it is too large."""

        async def fetch_rows(offset: int = 0, limit: int = PAGE_SIZE) -> LogPage:
            requested = fetch_page(
                self.client,
                self.feed,
                skip=request.place.skip + offset,
                filters={"limit": limit, **({"status": request.status} if request.status else {})},
                created_after=request.after,
                created_before=request.place.before,
            )
            return await self._request(self.feed, requested)

        if request.whole_time and self.feed.number_entries is not None:
            return await _read_whole_time(fetch_rows, self.feed.number_entries)
        if not request.in_parts:
            try:
                return await fetch_rows()
            except ResponseTooLarge:
                pass  # It will be as large the next time, but the parts may be small enough.
        page, skipped = await read_around_rows(fetch_rows, self.feed.number_entries)
        for key, row_count in skipped.items():
            if self._is_new_report(key):
                self.recorder.count(UNREADABLE_ROWS, row_count)
                self.logger.warning(
                    "rows skipped that the API cannot deliver", rows=row_count, next_log=key
                )
        return page

    async def _request(
        self, feed: Feed, requested: Awaitable[tuple[LogPage, ApiResponse]]
    ) -> LogPage:
        """Wait for a response and return its page; the body, which may be large, is dropped before the look-up."""
        self.request_count += 1
        page, response = await requested
        self.clock.adjust(response.date)
        require_ids(feed, page, response.body)
        return page

    async def _look_up(self, page: LogPage) -> LogPage:
        if any(entry.is_own for entry in page.entries) and self._is_new_report("own"):
            self.logger.info("requests of the exporter itself are left out", feed=self.feed.name)
        self._report_deviations(page)
        statuses = await self.recorder.known_logs.look_up(page)
        return msgspec.structs.replace(page, statuses=statuses)

    def _report_deviations(self, page: LogPage) -> None:
        for deviation in dict.fromkeys(
            deviation for entry in page.entries for deviation in entry.deviations
        ):
            is_value = deviation.kind == VALUE_DEVIATION
            if is_value and len(self._reported) >= MAX_VALUES:
                continue
            if self._is_new_report(
                (deviation.path, deviation.kind, deviation.sample if is_value else "")
            ):
                details = (
                    {"type": deviation.type, "sample": deviation.sample} if deviation.type else {}
                )
                self.logger.warning(
                    "the API has changed", field=deviation.path, kind=deviation.kind, **details
                )

    def _is_new_report(self, subject: object) -> bool:
        """Return whether something was not reported before, and remember it."""
        if subject in self._reported:
            return False
        if len(self._reported) >= MAX_REPORTED:
            self._reported.clear()
        self._reported.add(subject)
        return True


async def _read_whole_time(
    fetch_rows: Callable[[int], Awaitable[LogPage]],
    number_entries: Callable[[Sequence[LogEntry]], Sequence[LogEntry]],
) -> LogPage:
    """Return a page and those below it, until all logs of its time are there, as soon as two readings agree.

    If the list keeps moving, it is the page alone: alike logs on two pages count as one until it is
    read again.
    """
    readings: list[list[LogEntry]] = []
    while True:
        first = page = await fetch_rows(0)
        entries = list(first.entries)
        while (
            page.is_within_time and page.times[0] == first.times[0] and len(entries) < MAX_TIME_LOGS
        ):
            page = await fetch_rows(len(entries))
            entries += page.entries
        if entries in readings[-1:]:
            size = len(entries) - len(page.entries) + PAGE_SIZE
            return LogPage(
                tuple(number_entries(entries)),
                first.total,
                page.has_more,
                without_ids=True,
                size=size,
            )
        readings.append(entries)
        if len(readings) == MAX_TIME_READINGS:
            return first
