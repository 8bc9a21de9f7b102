"""Find the final status of pending logs, as a part of the reader.

No request of this module decides the outcome of a poll. A log is given up only if a post or a time that was read to its
end does not have it, or if two scans of the list of pending logs missed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from late_exporter.errors import REQUEST_FAILURES, BadRequest
from late_exporter.ingest.paging import PagePosition, time_above, time_below
from late_exporter.ingest.partial_times import ignores_time_filter
from late_exporter.ingest.reader_state import PendingScan, PollContext, ReaderState
from late_exporter.ingest.request_queue import RequestKey
from late_exporter.ingest.seeking import StepsTo, fetch_page, report_failure
from late_exporter.ingest.steps import FetchedPage, FetchPage, FetchPost, FetchTime, ReaderSteps, Record
from late_exporter.model import PAGE_OVERLAP, PAGE_SIZE, PENDING, Coverage, PendingLog

PENDING_LIST: RequestKey = ("pending", 0)

MAX_FAILURES = 3
"""Settlement checks that may fail in one poll; if more do, the API is at fault, and each may take until its timeout."""

MAX_REJECTED_TIMES = 3
"""Rejected times, with no accepted one in between, after which the API is assumed not to filter by time."""


def resolve_pending(context: PollContext, coverage: Coverage, pending_logs: Sequence[PendingLog]) -> ReaderSteps:
    """Find the final status of pending logs that are not on the first page."""
    if not pending_logs:
        return
    unlisted = yield from _unlisted_pending(context, coverage, pending_logs)
    yield from (_resolve_by_time if context.supports_time_filter else _resolve_by_post)(context, coverage, unlisted)


def _resolve_by_post(context: PollContext, coverage: Coverage, pending_logs: Sequence[PendingLog]) -> ReaderSteps:
    queue = context.state.queue
    by_post: dict[str, set[str]] = {}
    for log in pending_logs:
        if log.post_id:
            by_post.setdefault(log.post_id, set()).add(log.key)
    failure_count = 0
    for post_id in queue.select("post", by_post, context.settlement_budget):
        try:
            page = yield FetchPost(post_id)
        except REQUEST_FAILURES as exc:
            yield from report_failure(context, ("post", post_id), exc)
            failure_count += 1
            if failure_count == MAX_FAILURES:
                return
            continue
        entries = page.entries if page else ()
        unlisted_keys = by_post[post_id] - {entry.key for entry in entries}
        is_complete = len(entries) < PAGE_SIZE
        if is_complete or not unlisted_keys:
            queue.succeed(("post", post_id))
        else:  # Another request would return the same logs; the reconciliation scan finds the others.
            queue.fail(("post", post_id))
        deleted_keys = unlisted_keys if is_complete else set()
        new_entries = page.new_entries(coverage.retention_floor) if page else ()
        yield Record(new_entries, deleted_keys=tuple(sorted(deleted_keys)))


def _resolve_by_time(context: PollContext, coverage: Coverage, pending_logs: Sequence[PendingLog]) -> ReaderSteps:
    """Request logs by their time; if the API ignores the time filter, they are left to the reconciliation scan."""
    queue = context.state.queue
    by_time: dict[int, set[str]] = {}
    for log in pending_logs:
        if log.created:
            by_time.setdefault(log.created, set()).add(log.key)
    failure_count = 0
    for created in queue.select("window", by_time, context.settlement_budget):
        if context.state.ignores_time_filter or failure_count == MAX_FAILURES:
            return
        try:
            window = yield from _read_window(context, coverage, created)
        except REQUEST_FAILURES as exc:
            yield from report_failure(context, ("window", created), exc)
            failure_count += 1
            if isinstance(exc, BadRequest):
                _note_rejection(context.state, created)
            continue
        queue.succeed(("window", created))
        context.state.rejected_times = frozenset()
        if window is None:
            continue
        if window.page_count == 1:
            yield Record((), deleted_keys=tuple(sorted(by_time[created] - window.listed_keys)))
        elif window.is_complete:
            yield from _give_up(context.state, by_time[created], window.listed_keys)


def _note_rejection(state: ReaderState, created: int) -> None:
    state.rejected_times |= {created}
    if len(state.rejected_times) == MAX_REJECTED_TIMES:
        state.ignores_time_filter, state.rejected_times = True, frozenset()


class _Window(NamedTuple):
    """The logs around a time.

    Args:
        total: Number of logs that the API reports; None if unknown.
    """

    listed_keys: AbstractSet[str]
    page_count: int
    total: int | None

    @property
    def is_complete(self) -> bool:
        """Return whether no log is missing; those of one time may be in another order on each page."""
        return self.total is None or len(self.listed_keys) >= self.total


def _read_window(context: PollContext, coverage: Coverage, created: int) -> StepsTo[_Window | None]:
    """Record the logs created at a time.

    Returns:
        Their keys; None if there may be more.

    Raises:
        ApiError: A request failed.
    """
    after, before = time_below(created), time_above(created)
    listed_keys: set[str] = set()
    skip, page_count, repeat_count = 0, 0, 0
    while True:
        step = FetchPage(skip, created_after=after, created_before=before)
        page = yield step
        page_count += 1
        if page is None or ignores_time_filter(step, page):
            context.state.ignores_time_filter = True
            return None
        yield Record(page.new_entries(coverage.retention_floor))
        if page.has_unreadable:  # The log may be among the rows that are left out.
            return None
        page_keys = {entry.key for entry in page.entries}
        is_repeated = page_keys <= listed_keys
        listed_keys |= page_keys
        if page.is_last:
            window = _Window(listed_keys, page_count - repeat_count - (not page.entries), page.total)
            if page.without_ids and window.page_count > 1 and not window.is_complete:
                # Each page numbers the alike logs that it has, so that some have the keys of others.
                return (yield from _read_time(coverage, created))
            return window
        # Only an empty page proves the end of a list that always announces more; one that repeats itself has none.
        repeat_count = repeat_count + 1 if is_repeated else 0
        if repeat_count > 1:
            return None
        skip += len(page.entries) if is_repeated else max(1, len(page.entries) - PAGE_OVERLAP)


def _read_time(coverage: Coverage, created: int) -> StepsTo[_Window | None]:
    """Record the logs of a time as one page; returns and raises as ``_read_window`` does."""
    page = yield FetchTime(created)
    if page is None:
        return None
    yield Record(page.new_entries(coverage.retention_floor))
    return _Window({entry.key for entry in page.entries}, 1, None)


def _unlisted_pending(
    context: PollContext, coverage: Coverage, pending_logs: Sequence[PendingLog]
) -> StepsTo[Sequence[PendingLog]]:
    """Read one page of the list of pending logs.

    Returns:
        The logs that a complete scan of that list did not find, thus no longer pending; none until it is complete. All
        logs if the list cannot be read, so that each is checked in its turn.
    """
    state = context.state
    if not state.queue.is_due(PENDING_LIST):
        return pending_logs
    scan = state.pending_scan
    if scan.skip == 0:
        scan.pending_keys = frozenset(context.pending_logs)
    try:
        page = yield from fetch_page(PagePosition(scan.skip), PENDING)
    except REQUEST_FAILURES as exc:
        if isinstance(exc, BadRequest):
            state.pending_scan = PendingScan()  # The list may be too long for the API.
        yield from report_failure(context, PENDING_LIST, exc)
        return pending_logs
    state.queue.succeed(PENDING_LIST)
    new_entries = page.new_entries(coverage.retention_floor)
    if new_entries:
        yield Record(new_entries)
    if not _ends_scan(scan, page):
        return []
    state.pending_scan = PendingScan()
    judged_logs = [log for log in pending_logs if log.key in scan.pending_keys]
    if not scan.has_moved:
        by_time = context.supports_time_filter
        unresolvable = {log.key for log in judged_logs if not (log.created if by_time else log.post_id)}
        yield from _give_up(state, unresolvable, scan.listed_keys)
    return [log for log in judged_logs if log.key not in scan.listed_keys]


def _ends_scan(scan: PendingScan, page: FetchedPage) -> bool:
    """Add a page to a scan of the list of pending logs; return whether it is the last one."""
    page_keys = frozenset(entry.key for entry in page.entries)
    is_short, reach = len(page.entries) < PAGE_SIZE, scan.skip + len(page.entries)
    # A list that always announces more ends with short pages of known logs, at the number of logs that it reports: one
    # whose pages are shorter than requested may also have moved by a page.
    is_past_total = page.total is None or reach >= page.total
    at_end = page.is_last or (scan.skip > 0 and is_short and is_past_total and page_keys <= scan.listed_keys)
    # An empty page after one that was not full only confirms that end, unless the list has become shorter.
    may_skip = bool(page_keys) or len(scan.page_keys) == PAGE_SIZE or page.total != scan.total
    scan.has_moved |= scan.skip > 0 and may_skip and page_keys.isdisjoint(scan.page_keys)
    scan.has_moved |= page.has_unreadable
    scan.listed_keys.update(entry.key for entry in page.entries if entry.status == PENDING)
    scan.skip, scan.page_keys = scan.skip + max(1, len(page.entries) - PAGE_OVERLAP), page_keys
    scan.total = page.total
    return at_end


def _give_up(state: ReaderState, judged_keys: AbstractSet[str], listed_keys: AbstractSet[str]) -> ReaderSteps:
    """Give up the logs that were not listed for the second time."""
    missed_keys = judged_keys - listed_keys
    gone_keys = missed_keys & state.missed_keys
    state.missed_keys = (state.missed_keys - judged_keys) | (missed_keys - gone_keys)
    if gone_keys:
        yield Record((), deleted_keys=tuple(sorted(gone_keys)))
