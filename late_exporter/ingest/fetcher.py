"""Fetch pages of one log list, whichever generation of it the API has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from functools import partial

import msgspec

from late_exporter.api.clock import ApiClock
from late_exporter.api.generation import ApiGeneration, require_ids
from late_exporter.api.pages import PageResponse, fetch_page, fetch_post
from late_exporter.errors import (
    REQUEST_FAILURES,
    ApiError,
    BadPayload,
    ResponseTooLarge,
    UnreadableTime,
    UnrecognisedLogs,
)
from late_exporter.feeds.feed import Feed
from late_exporter.ingest.details import DetailReader
from late_exporter.ingest.failures import FailureReporter
from late_exporter.ingest.paging import time_above, time_below
from late_exporter.ingest.partial_times import find_partial_times, ignores_time_filter
from late_exporter.ingest.parts import read_all, read_in_parts
from late_exporter.ingest.recorder import FeedRecorder
from late_exporter.ingest.steps import FetchedPage, FetchPage, FetchPost, FetchTime
from late_exporter.model import PAGE_SIZE, VALUE_DEVIATION, KnownLogs, LogEntry, LogPage
from late_exporter.protocols import Client, Logger
from late_exporter.store.uncommitted import NO_UNCOMMITTED_LOGS, UncommittedLogs

MAX_DATE_REPEATS = 2
"""Repetitions of a request because of its date; of three dates two agree, unless two of them are wrong."""

MIN_UNDATED = 3
"""Newest logs that have to be without a time before that is taken for a change of the API."""

MAX_REPORTED = 100
"""Reports of deviations per feed beyond which undocumented values are counted but no longer logged."""


class Fetcher:
    """Executes the reader's fetch steps and looks up which of the logs are known."""

    def __init__(
        self,
        feed: Feed,
        *,
        client: Client,
        generation: ApiGeneration,
        recorder: FeedRecorder,
        logger: Logger,
        api_clock: ApiClock,
        details: DetailReader | None = None,
    ) -> None:
        self.feed = feed
        self.request_count = 0
        self.failure_reporter = FailureReporter(recorder, logger)
        self._client = client
        self._generation = generation
        self._recorder = recorder
        self._logger = logger
        self._api_clock = api_clock
        self._details = details
        self._reported: set[tuple[str, str, str]] = set()

    def reconfigure(self, client: Client, generation: ApiGeneration) -> None:
        self._client, self._generation = client, generation

    def now(self) -> int:
        """Return the API's time in milliseconds."""
        return int(self._api_clock.now() * 1000)

    @property
    def generation(self) -> ApiGeneration:
        return self._generation

    async def refresh_generation(self) -> bool:
        """Detect the API's generation if necessary; return whether the feed is another list from now on.

        Raises:
            ApiError: The generation cannot be detected, or does not fit the state.
            StoreError: The switch cannot be committed.
        """
        coverage, state_generation = self._recorder.coverage, self._recorder.state_generation
        try:
            feed = await self._generation.resolve_feed(self.feed.name, self._client, state_generation=state_generation)
            if feed is self.feed and (coverage is None or coverage.generation == feed.generation):
                return False
            await self._recorder.switch_feed(feed, self.now())
            if state_generation is not None:
                self._logger.warning(
                    "API generation changed, only newer logs count", before=state_generation, now=feed.generation
                )
            self.feed = feed
            return True
        finally:
            self._generation.report_use(self.feed)

    async def skip_counted(self, error: UnrecognisedLogs) -> None:
        """Go on as after a switch of the API generation, so that no log counts again; raises StoreError."""
        await self._recorder.skip_counted(self.feed.generation, self.now())
        self._logger.warning("only newer logs count from now on", reason=str(error))

    async def examine_generation(self) -> None:
        """Examine, if that is due, whether the list of the other API generation has newer logs."""
        state_generation = self._recorder.state_generation
        await self._generation.examine_if_due(self.feed, self._client, state_generation=state_generation)

    async def fetch_page(self, step: FetchPage, uncommitted: UncommittedLogs = NO_UNCOMMITTED_LOGS) -> FetchedPage:
        """Fetch a page of the list.

        Args:
            step: Selects the page.
            uncommitted: Logs that were read but are not committed yet.

        Raises:
            ApiError: The request failed.
            StoreError: The known logs of the page cannot be looked up.
        """
        is_list = step.status is None and step.created_after is None and step.created_before is None
        is_head = is_list and step.skip == 0
        is_first_page = is_head and not step.in_parts
        try:
            response, has_unreadable = await self._read_page(step)
        except ApiError as exc:
            if is_first_page:
                self._generation.report_answer(self.feed, exc)
            raise
        page = response.page
        if is_first_page:
            self._generation.report_answer(self.feed, None)
        if is_first_page or (is_list and page.total == 0):
            await self._generation.report_list(self.feed, self._client, is_empty=not page.entries)
        fetched = await self._look_up(response, uncommitted, find_partial_times(step, page), counts_logs=is_head)
        if is_head:
            self._require_times(fetched)
        return msgspec.structs.replace(fetched, has_unreadable=has_unreadable) if has_unreadable else fetched

    async def count_window(self, step: FetchPage, first: int, last: int) -> FetchedPage:
        """Count the logs of a time range in the list and in the store; raises as ``fetch_page`` does."""
        response = await self._request(step, limit=step.limit)
        # Its log is not looked up: the logs of its time may not all be on the page.
        return FetchedPage(response.page, KnownLogs({}, window_count=await self._recorder.count_logs(first, last)))

    async def _request(self, step: FetchPage, *, offset: int = 0, limit: int = PAGE_SIZE) -> PageResponse:
        filters: dict[str, str | int] = {} if step.status is None else {"status": step.status}
        return await self._receive(
            partial(
                fetch_page,
                self._client,
                self.feed,
                skip=step.skip + offset,
                filters={**filters, "limit": limit},
                created_after=step.created_after,
                created_before=step.created_before,
            )
        )

    async def _read_page(self, step: FetchPage) -> tuple[PageResponse, bool]:
        """Read a page, in parts if it is too large; return it, and whether rows are left out."""
        if not step.in_parts:
            try:
                return await self._request(step), False
            except ResponseTooLarge:
                pass  # It will be as large the next time, but the parts may be small enough.
        partial_page = await read_in_parts(lambda offset, limit: self._request(step, offset=offset, limit=limit))
        for key, row_count in partial_page.skipped.items():
            self.failure_reporter.report_unreadable(key, row_count)
        number_entries = self.feed.number_entries
        entries = tuple(number_entries(partial_page.entries)) if number_entries else partial_page.entries
        page = LogPage(entries, partial_page.total, partial_page.has_more, without_ids=number_entries is not None)
        return PageResponse(page, b"", None), partial_page.has_unreadable

    async def fetch_time(self, step: FetchTime, uncommitted: UncommittedLogs = NO_UNCOMMITTED_LOGS) -> FetchedPage:
        """Fetch all logs that were created at a time, as one page; raises as ``fetch_page`` does."""
        entries = await self._read_time(step.created)
        page = LogPage(entries, has_more=False, without_ids=self.feed.number_entries is not None)
        return await self._look_up(PageResponse(page, b"", None), uncommitted)

    async def _read_time(self, created: int) -> tuple[LogEntry, ...]:
        window = FetchPage(created_after=time_below(created), created_before=time_above(created))

        async def fetch_rows(offset: int, limit: int) -> PageResponse:
            response = await self._request(window, offset=offset, limit=limit)
            if ignores_time_filter(window, response.page):
                raise UnreadableTime("the API ignores the time filter")
            return response

        rows = await read_all(fetch_rows)
        entries = tuple(entry for entry in rows if entry.created == created)
        return tuple(self.feed.number_entries(entries)) if self.feed.number_entries is not None else entries

    async def fetch_post(
        self, step: FetchPost, uncommitted: UncommittedLogs = NO_UNCOMMITTED_LOGS
    ) -> FetchedPage | None:
        """Fetch the logs of a post, or None if it does not exist; raises as ``fetch_page`` does."""
        self.request_count += 1
        response = await fetch_post(self._client, self.feed, step.post_id)
        if response is None:
            return None
        response = self._without_body(response)
        return await self._look_up(response, uncommitted, find_partial_times(step, response.page))

    async def _receive(self, request: Callable[[], Awaitable[PageResponse]]) -> PageResponse:
        self.request_count += 1
        response, repeat_count = await request(), 0
        while not self._api_clock.update(response.date) and repeat_count < MAX_DATE_REPEATS:
            # The logs of this page would be judged by a wrong time. Further responses say which time is right.
            repeat_count += 1
            self.request_count += 1
            response = await request()
        require_ids(self.feed, response)
        return self._without_body(response)

    def _without_body(self, response: PageResponse) -> PageResponse:
        """Return a response without its body, which may be large and is not needed while the store is."""
        if self._details is not None:
            response = self._details.add(self.feed, response)
        return response._replace(body=b"")

    async def _look_up(
        self,
        response: PageResponse,
        uncommitted: UncommittedLogs,
        partial_times: AbstractSet[int] = frozenset(),
        *,
        counts_logs: bool = False,
    ) -> FetchedPage:
        """Look up the logs of a page; if that needs all logs of a time, read these first.

        Args:
            response: Page of logs.
            uncommitted: Logs that were read but are not committed yet.
            partial_times: Creation times of which the page may lack logs.
            counts_logs: Whether the numbers of stored logs are needed.
        """
        page, coverage = response.page, self._recorder.coverage
        self._log_deviations(page)
        self._log_own_requests(page)
        floor = coverage.retention_floor if coverage else 0  # Older logs are not counted, so they would stay undecided.
        times = {created for created in partial_times if created >= floor}
        since = self.now() - self.feed.retention if counts_logs else None
        lookup = partial(self._recorder.lookup, since=since, uncommitted=uncommitted)
        known_logs = await lookup(page, partial_times=times)
        undecided = known_logs.undecided_times
        if undecided:
            entries: list[LogEntry] = []
            for created in sorted(undecided):
                entries += await self._complete_time(created, page)
            whole = LogPage(tuple(entries))
            whole = FetchedPage.identified(whole, await lookup(whole)).page
            # The alike logs of the page are some of these.
            uncommitted = uncommitted.beside(whole.entries)
            known_logs = await lookup(page, partial_times=times - undecided, uncommitted=uncommitted)
        fetched = FetchedPage.identified(page, known_logs)
        if coverage is None or not coverage.is_switched:
            return fetched
        # One without a time may be one that was counted before the switch.
        undated = {entry.key: frozenset((entry.status,)) for entry in fetched.entries if entry.created is None}
        return FetchedPage(
            fetched.page, msgspec.structs.replace(known_logs, statuses={**known_logs.statuses, **undated})
        )

    def _require_times(self, head: FetchedPage) -> None:
        """Raise BadPayload if the API does not show the times any more by which logs without ids are recognised.

        Logs without a time are at the end of the list, so that the newest page has dated ones, or known ones.
        """
        coverage = self._recorder.coverage
        if (
            head.page.without_ids
            and len(head.entries) >= MIN_UNDATED
            and not head.times
            and not head.known_entries
            and coverage is not None
            and coverage.newest is not None
        ):
            raise BadPayload("none of the newest logs has a readable time, so all logs would count twice")

    async def _complete_time(self, created: int, page: LogPage) -> Sequence[LogEntry]:
        """Return all logs of a time, or those that are on the page if the others cannot be read."""
        listed = [entry for entry in page.entries if entry.created == created]
        try:
            entries = await self._read_time(created)
        except REQUEST_FAILURES as exc:
            self.failure_reporter.report_failure("window", exc.without_frames())
            return listed
        # The API may read the bounds in a way that hides logs of that time.
        return entries if len(entries) >= len(listed) else listed

    def _log_own_requests(self, page: LogPage) -> None:
        """Log once that requests of this program are left out."""
        if page.has_own and ("", "own", "") not in self._reported:
            self._reported.add(("", "own", ""))
            self._logger.info("requests of the exporter itself are left out", feed=self.feed.name)

    def _log_deviations(self, page: LogPage) -> None:
        """Log each field that differs from its documentation once, and each undocumented value up to a limit."""
        for deviation in page.deviations:
            is_value = deviation.kind == VALUE_DEVIATION
            reported = (deviation.path, deviation.kind, deviation.sample if is_value else "")
            if reported in self._reported or (is_value and len(self._reported) >= MAX_REPORTED):
                continue
            self._reported.add(reported)
            details = {"type": deviation.type, "sample": deviation.sample} if deviation.type else {}
            self._logger.warning("the API has changed", field=deviation.path, kind=deviation.kind, **details)
