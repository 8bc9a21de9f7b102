"""Find the logs that reading a list from its top may not reach, as a part of the reader.

These are alike logs of one time that are on different pages, and logs without a time, which are at the end of the list.
"""

from __future__ import annotations

from collections.abc import Sequence

from late_exporter.errors import REQUEST_FAILURES, BadPayload
from late_exporter.ingest.reader_state import PollContext
from late_exporter.ingest.seeking import StepsTo, report_failure, splits_time
from late_exporter.ingest.steps import FetchedPage, FetchPage, FetchTime, Record
from late_exporter.ingest.turns import RequestKey
from late_exporter.model import PAGE_SIZE, Coverage, LogEntry

UNDATED: RequestKey = ("scan", "undated")

UNFILTERED = BadPayload("the API does not filter by time: alike logs on several pages may be counted as fewer")

MAX_UNDATED = 1000
"""New logs without a time that are read at once."""


def read_dense_time(context: PollContext, page: FetchedPage) -> StepsTo[FetchedPage | None]:
    """Fetch all logs of the last time of a page, if the next page cannot repeat all of them.

    Logs without ids that differ in nothing are told apart by their number, which is only right on a page that has all
    logs of their time. The logs of the page must be recorded before.

    Returns:
        The logs; None if there are no others, or they cannot be read.
    """
    created = page.entries[-1].created if page.entries else None
    if created is None or not page.without_ids or not splits_time(page) or not context.supports_time_filter:
        return None
    request: RequestKey = ("window", ("all", created))
    if created == context.state.dense_time or not context.state.queue.is_due(request):
        return None
    if context.max_skip is None:
        yield from report_failure(context, request, UNFILTERED)
        return None
    try:
        dense = yield FetchTime(created)
    except REQUEST_FAILURES as exc:
        yield from report_failure(context, request, exc)
        return None
    context.state.dense_time = created
    return dense


def read_undated(context: PollContext, coverage: Coverage, total: int | None) -> StepsTo[Sequence[LogEntry]]:
    """Fetch the logs without a time from the end of a list whose older logs are out of scope.

    Returns:
        Those that are new; none if the list is longer than the API can skip.
    """
    entries: list[LogEntry] = []
    is_end_in_scope = coverage.retention_floor <= context.now - context.retention
    if total is None or is_end_in_scope or not context.state.queue.is_due(UNDATED):
        return entries
    skip = max(0, total - PAGE_SIZE)
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
        skip = max(0, skip - PAGE_SIZE + 1)
    return entries


def start_reading(context: PollContext, head: FetchedPage, retention_floor: int) -> StepsTo[None]:
    """Record all logs of the time at which the first page ends, as ``record_dense_time`` does, before reading on.

    A time that was read as a whole before is read again, because others of its logs may have appeared.
    """
    context.state.dense_time = None
    yield from record_dense_time(context, head, retention_floor)


def record_dense_time(context: PollContext, page: FetchedPage, retention_floor: int) -> StepsTo[None]:
    """Record all logs of a time at which a page ends, if the next page cannot repeat all of them."""
    dense = yield from read_dense_time(context, page)
    if dense is not None:
        yield Record(context.new_entries(dense, retention_floor))
