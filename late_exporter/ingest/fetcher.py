"""Fetch pages of a log list, by several requests if one cannot deliver them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

from late_exporter.api.pages import fetch_page, fetch_post
from late_exporter.api.plausibility import check_readable, check_unmoved
from late_exporter.api.responses import ApiResponse
from late_exporter.errors import REQUEST_FAILURES, ApiError, ResponseTooLarge
from late_exporter.feeds.feed import Feed
from late_exporter.ingest.schedule import ApiClock, FeedConnection
from late_exporter.ingest.steps import FetchPost
from late_exporter.ingest.sweep import FetchPage
from late_exporter.model import PAGE_SIZE, LogEntry, LogPage

MAX_FAILURES = 60
"""Failed requests for one page, with which far too many of its rows are unreadable."""

MAX_TIME_LOGS = 10_000
"""Logs without ids of one time that are read together."""

MAX_TIME_READINGS = 4
"""Readings of these, of which two have to agree."""

FetchRows: TypeAlias = Callable[[int, int], Awaitable[LogPage]]
"""Request some rows of a page, given their offset and number."""

NumberEntries: TypeAlias = Callable[[Sequence[LogEntry]], Sequence[LogEntry]]
"""Number identical logs of several parts."""


class Fetcher:
    """Requests the pages of one feed.

    Args:
        report_skipped: Called with the numbers of rows that a page lacks because the API cannot
            deliver them, by the key of the log that follows them.

    Attributes:
        request_count: Number of requests sent.
    """

    def __init__(
        self,
        connection: FeedConnection,
        clock: ApiClock,
        report_skipped: Callable[[Mapping[str, int]], None],
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._report_skipped = report_skipped
        self.request_count = 0

    async def fetch(self, feed: Feed, request: FetchPage) -> LogPage:
        """Fetch a page; one that is too large is read in parts.

        Raises:
            ApiError: The request failed, or the response cannot be right.
        """

        async def fetch_rows(offset: int, limit: int) -> LogPage:
            filters: dict[str, str | int] = {"limit": limit}
            if request.status:
                filters["status"] = request.status
            requested = fetch_page(
                self._connection.client,
                feed,
                skip=request.place.skip + offset,
                filters=filters,
                created_after=request.after,
                created_before=request.place.before,
            )
            return await self._receive(requested)

        if request.whole_time and feed.number_entries is not None:
            return await _read_whole_time(fetch_rows, feed.number_entries)

        if not request.in_parts:
            try:
                return await fetch_rows(0, PAGE_SIZE)
            except ResponseTooLarge:
                pass  # It will be as large the next time, but the parts may be small enough.

        page, skipped = await _read_around_rows(fetch_rows, feed.number_entries)
        self._report_skipped(skipped)
        return page

    async def fetch_post(self, feed: Feed, request: FetchPost) -> LogPage:
        """Fetch the logs of a post; raises as ``fetch`` does."""
        return await self._receive(fetch_post(self._connection.client, feed, request.post_id))

    async def _receive(self, requested: Awaitable[tuple[LogPage, ApiResponse]]) -> LogPage:
        """Wait for a response, and return its page without the body, which may be large."""
        self.request_count += 1
        page, response = await requested
        self._clock.adjust(response.date)
        return page


async def _read_around_rows(
    fetch_rows: FetchRows, number_entries: NumberEntries | None
) -> tuple[LogPage, Mapping[str, int]]:
    """Read a page in ever smaller parts, to leave out only unreadable rows.

    Args:
        fetch_rows: Requests a part.
        number_entries: Given for logs without ids.

    Returns:
        The page, and the number of unreadable rows by the key of the log that follows them; the
        next page has those at the end.

    Raises:
        ApiError: The API rather than some rows is at fault: the first and the last row, or the
            larger part, fail. Or the list has moved, so that a row may be on two parts or on none.
    """
    ends = await _read_ends(fetch_rows)
    rows: list[LogEntry | None] = []  # None for each that is unreadable
    error: ApiError | None = None
    failure_count = 0
    total: int | None = None
    has_more = True

    # Each part that fails is halved, down to single rows; parts are read from the top.
    parts = [(PAGE_SIZE // 2, PAGE_SIZE // 2), (0, PAGE_SIZE // 2)]
    while parts and has_more:
        offset, size = parts.pop()
        try:
            part = await fetch_rows(offset, size)
        except REQUEST_FAILURES as exc:
            error = exc
            failure_count += 1
            if failure_count > MAX_FAILURES:
                raise
            if size == 1:
                rows.append(None)
            else:
                half = size // 2
                parts += [(offset + half, size - half), (offset, half)]
            continue
        count = len(part.entries)
        rows += part.entries
        total = part.total
        has_more = part.has_more is True or count >= size
        if 0 < count < size:  # The API returns fewer rows than requested.
            parts.append((offset + count, size - count))

    readable = [row for row in rows if row is not None]
    check_readable(len(readable), len(rows), error)
    check_unmoved(ends, await _read_ends(fetch_rows))
    page = LogPage(
        tuple(readable if number_entries is None else number_entries(readable)),
        total,
        has_more,
        without_ids=number_entries is not None,
        has_unreadable=len(readable) < len(rows),
    )
    return page, _count_skipped(rows)


def _count_skipped(rows: Sequence[LogEntry | None]) -> Mapping[str, int]:
    skipped: dict[str, int] = {}
    count = 0
    for row in rows:
        if row is None:
            count += 1
        elif count:
            skipped[row.key] = count
            count = 0
    return skipped


async def _read_ends(fetch_rows: FetchRows) -> list[object]:
    """Return what changes if rows are inserted or deleted.

    That is the total, and the first and the last row of the page.

    One of the two may be unreadable.
    """
    ends: list[object] = []
    error: ApiError | None = None
    for offset in (0, PAGE_SIZE - 1):
        try:
            page = await fetch_rows(offset, 1)
        except REQUEST_FAILURES as exc:
            if error is not None:
                raise
            error = exc
        else:
            ends.append(([entry.key for entry in page.entries], page.total))
    return ends


async def _read_whole_time(fetch_rows: FetchRows, number_entries: NumberEntries) -> LogPage:
    """Return a page and those below it, until all logs of its time are there.

    It is believed as soon as two readings agree.

    If the list keeps moving, it is the page alone: alike logs on two pages count as one until it is
    read again.
    """
    previous: list[LogEntry] | None = None
    reading_count = 0
    while True:
        first = await fetch_rows(0, PAGE_SIZE)
        page = first
        entries = list(first.entries)
        while _goes_on(page, first) and len(entries) < MAX_TIME_LOGS:
            page = await fetch_rows(len(entries), PAGE_SIZE)
            entries += page.entries

        if entries == previous:
            return LogPage(
                tuple(number_entries(entries)),
                first.total,
                page.has_more,
                without_ids=True,
                size=len(entries) - len(page.entries) + PAGE_SIZE,
            )
        previous = entries
        reading_count += 1
        if reading_count == MAX_TIME_READINGS:
            return first


def _goes_on(page: LogPage, first: LogPage) -> bool:
    """Return whether there may be logs of the time of the first page below another one."""
    return page.is_within_time and page.times[0] == first.times[0]
