"""Find the logs that reading a list from its top may not reach, as a part of the reader.

These are alike logs of one time that are on different pages, and logs without a time, which are at the end of the list.
"""

from __future__ import annotations

from collections.abc import Sequence

from late_exporter.errors import REQUEST_FAILURES, BadRequest, UnreadableTime
from late_exporter.ingest.reader_state import PollContext
from late_exporter.ingest.request_queue import RequestKey
from late_exporter.ingest.seeking import MAX_PAGE_FAILURES, StepsTo, report_failure, splits_time
from late_exporter.ingest.steps import FetchedPage, FetchPage, FetchTime, Record
from late_exporter.model import Coverage, LogEntry

UNDATED: RequestKey = ("scan", "undated")

UNFILTERED = UnreadableTime("the API does not filter by time: alike logs on several pages may be counted as fewer")

MAX_UNDATED = 1000
"""New logs without a time that are read at once."""


def dense_time(context: PollContext, page: FetchedPage) -> int | None:
    """Return the last time of a page if all its logs are to be fetched, because the next page cannot repeat them.

    Logs without ids that differ in nothing are told apart by their number, which is only right on a page that has all
    logs of their time.
    """
    created = page.entries[-1].created if page.entries else None
    if created is None or not page.without_ids or not splits_time(page) or not context.supports_time_filter:
        return None
    is_due = created != context.state.dense_time and context.state.queue.is_due(_dense_request(created))
    return created if is_due else None


def read_dense_time(
    context: PollContext, page: FetchedPage, retention_floor: int, *, failure_count: int = MAX_PAGE_FAILURES
) -> StepsTo[tuple[LogEntry, ...]]:
    """Fetch all logs of the ``dense_time`` of a page, which must be recorded before.

    A failure is raised until ``failure_count``, the number of earlier ones, reaches the limit; then it is reported. A
    rejected filter by time, for example, is reported at once, because further attempts would not change it.

    Returns:
        The new observations; none if there is no such time.

    Raises:
        ApiError: The logs cannot be read.
    """
    created = dense_time(context, page)
    if created is None:
        return ()
    if context.max_skip is None:
        yield from report_failure(context, _dense_request(created), UNFILTERED)
        return ()
    try:
        dense = yield FetchTime(created)
    except REQUEST_FAILURES as exc:
        if failure_count + 1 < MAX_PAGE_FAILURES and not isinstance(exc, BadRequest | UnreadableTime):
            raise
        yield from report_failure(context, _dense_request(created), exc)
        return ()
    context.state.dense_time = created
    return () if dense is None else context.new_entries(dense, retention_floor)


def _dense_request(created: int) -> RequestKey:
    return "window", ("all", created)


def read_undated(context: PollContext, coverage: Coverage, head: FetchedPage) -> StepsTo[Sequence[LogEntry]]:
    """Fetch the logs without a time from the end of a list whose older logs are out of scope.

    Args:
        context: Context of the poll.
        coverage: Coverage of the list.
        head: First page of the list, which shows how many rows the API returns per page.

    Returns:
        Those that are new; none if the list is longer than the API can skip.
    """
    entries: list[LogEntry] = []
    is_end_in_scope = coverage.retention_floor <= context.now - context.retention
    if head.total is None or is_end_in_scope or not context.state.queue.is_due(UNDATED):
        return entries
    page_size = len(head.entries)
    skip = max(0, head.total - page_size)
    while 0 < skip <= context.state.max_whole_skip and len(entries) < MAX_UNDATED:
        try:
            page = yield FetchPage(skip)
        except REQUEST_FAILURES as exc:
            yield from report_failure(context, UNDATED, exc)
            break
        if page is None:
            break
        entries += [entry for entry in page.new_entries(0) if entry.created is None]
        if not page.entries or page.entries[0].created is not None:
            break
        skip = max(0, skip - max(page_size - 1, 1))
    return entries


def start_reading(context: PollContext, head: FetchedPage, retention_floor: int) -> StepsTo[None]:
    """Record all logs of the time at which the first page ends, as ``record_dense_time`` does, before reading on.

    A time that was read as a whole before is read again, because others of its logs may have appeared.
    """
    context.state.dense_time = None
    yield from record_dense_time(context, head, retention_floor)


def record_dense_time(context: PollContext, page: FetchedPage, retention_floor: int) -> StepsTo[None]:
    """Record all logs of a time at which a page ends, if the next page cannot repeat all of them."""
    entries = yield from read_dense_time(context, page, retention_floor)
    if entries:
        yield Record(entries)
