"""Look for logs that appear late: with an older creation time than logs that were read before.

Generators as in ``late_exporter.ingest.reader``. See docs/design/late-window.md.
"""

from __future__ import annotations

import msgspec

from late_exporter.errors import REQUEST_FAILURES, BadRequest
from late_exporter.ingest.leftovers import record_dense_time, start_reading
from late_exporter.ingest.paging import SECOND_MS, PagePosition, time_above
from late_exporter.ingest.reader_state import PageCursor, PollContext, WindowComparison, WindowReading
from late_exporter.ingest.request_queue import RequestKey
from late_exporter.ingest.seeking import (
    MAX_PAGE_FAILURES,
    StepsTo,
    advance_cursor,
    is_connected,
    makes_no_progress,
    report_failure,
    seek,
)
from late_exporter.ingest.steps import FetchedPage, FetchPage, ReaderSteps, Record
from late_exporter.ingest.stretch import Stretch
from late_exporter.model import MINUTE_MS, PAGE_SIZE, Coverage, ListedMinutes, LogEntry

CHECK: RequestKey = ("window", "late")
"""Place of the check in the queue of requests."""

LATE_ARRIVAL_WINDOW = 3_600_000
"""Milliseconds by which a log may appear later than its createdAt: its row is written when the attempt ends."""

CHECK_POLLS = 3
"""Polls between two checks of the late window, while logs appear or disappear."""

OVERLAP_MS = 10_000
"""Milliseconds below the high-water mark of the last check that are read again: most late logs are seconds late."""

MARGINS = (0, 1, SECOND_MS)
"""Milliseconds by which a window has to be extended if the API includes or excludes bounds, or truncates them."""

END_OF_TIME = 4_102_444_800_000
"""The year 2100 in milliseconds, after the time of every log."""

WINDOW_MINUTES = 3
"""Length of the windows that are compared: if as many logs appear in a window as disappear, its number is the same."""

MAX_PAGES_READ = 3
"""Pages down to which it is as cheap to read as to compare."""

VERIFICATION_INTERVAL = 10 * MINUTE_MS
"""Milliseconds between two attempts to find out how the API counts the logs of a window."""

RESERVED_SHARE = 4
"""Part of the requests of a check, as a divisor, that is left for what is below the overlap."""


def check_late_window(context: PollContext, coverage: Coverage, head: FetchedPage) -> ReaderSteps:
    """Look for late logs in the late window, if logs have appeared or disappeared.

    A page that cannot be read is tried again in later polls. If it cannot be read in parts either, the check ends.
    """
    late = context.state.late_window
    previous = context.coverage
    was_synced = previous is not None and previous.is_synced
    if previous is not None and previous.newest is not None and not late.checked_until:
        late.checked_until = previous.newest.created
    late.observe(context.surplus(head), has_new=was_synced and context.new_count > 0)
    queue = context.state.queue
    if coverage.is_synced and not coverage.gaps and context.page_budget[1] and queue.is_due(CHECK):
        try:
            yield from _check(context, coverage, head)
        except REQUEST_FAILURES as exc:
            yield from report_failure(context, CHECK, exc)
            if queue.failure_count(CHECK) > MAX_PAGE_FAILURES:
                late.comparison = None


def _check(context: PollContext, coverage: Coverage, head: FetchedPage) -> ReaderSteps:
    late, page_budget = context.state.late_window, context.page_budget[1]
    # What the polls between two checks do not use is left for the next check.
    late.page_credit = min(late.page_credit + page_budget, CHECK_POLLS * page_budget)
    pages = max(1, page_budget // RESERVED_SHARE)
    if late.has_changed and late.poll_count >= CHECK_POLLS:
        newest = max(head.times, default=context.now)  # The clock of the API may be ahead of the times of its logs.
        lower = max(min(context.now, newest) - context.late_window, coverage.retention_floor)
        change_count = late.change_count
        late.poll_count = 0
        yield from start_reading(context, head, coverage.retention_floor)
        late.page_credit -= yield from _read_overlap(context, coverage, lower)
        pages = late.page_credit
        if late.comparison is None:
            if context.stretch.reaches(lower):
                late.complete(change_count)
            else:
                late.comparison_start = change_count
                late.comparison = yield from start_comparison(context, coverage, head, lower)
    if late.comparison is not None:
        late.page_credit -= yield from advance_comparison(context, coverage, late.comparison, pages)
        if late.comparison.is_complete:
            late.complete(late.comparison_start)


def _read_overlap(context: PollContext, coverage: Coverage, lower: int) -> StepsTo[int]:
    """Read on below the newest logs, to where the last check began; return the number of pages."""
    late = context.state.late_window
    overlap = WindowReading(context.stretch, context.cursor, max(lower, late.checked_until - OVERLAP_MS))
    pages = late.page_credit - max(1, late.page_credit // RESERVED_SHARE)
    page_count = yield from _read_down(context, coverage, overlap, pages)
    context.cursor = overlap.cursor
    if coverage.newest is not None:
        late.checked_until = coverage.newest.created
    return page_count


def start_comparison(
    context: PollContext, coverage: Coverage, head: FetchedPage, lower: int, *, growth: int = 1
) -> StepsTo[WindowComparison]:
    """Return the comparison of everything between a creation time and what this poll has read.

    If that is few pages, or if the API does not count the logs of a time window, all of it is to be read.

    Args:
        context: Input of the poll.
        coverage: Coverage of the feed.
        head: First page.
        lower: Creation time in milliseconds down to which logs are compared.
        growth: Factor by which each window is longer than the one above it.
    """
    stretch = context.stretch
    reading = WindowReading(stretch, context.cursor, lower)
    if stretch.lowest is None or (context.now - stretch.lowest) * MAX_PAGES_READ > context.now - lower:
        return WindowComparison(readings=[reading])
    if not (yield from can_count(context, head)):
        return WindowComparison(readings=[reading])
    first_minute = lower // MINUTE_MS + (lower // MINUTE_MS * MINUTE_MS < coverage.retention_floor)
    end, minutes = (stretch.lowest // SECOND_MS + 1) * SECOND_MS, WINDOW_MINUTES
    windows: list[tuple[int, int]] = []
    while end > first_minute * MINUTE_MS:
        first = max(first_minute, end // MINUTE_MS - minutes) * MINUTE_MS
        windows.insert(0, (first, end - 1))
        end, minutes = first, minutes * growth
    return WindowComparison(windows=windows)


def advance_comparison(
    context: PollContext, coverage: Coverage, comparison: WindowComparison, pages: int, *, caught_up_at: int = 0
) -> StepsTo[int]:
    """Compare windows and read those that differ, newest first; return the number of requested pages and counts.

    Args:
        context: Input of the poll.
        coverage: Coverage of the feed.
        comparison: Windows to compare and to read; updated.
        pages: Maximum number of pages and counts to request.
        caught_up_at: As in ReconcileScan; 0 if everything that is found is late, not missed.
    """
    page_count = 0
    while page_count < pages and not comparison.is_complete:
        if comparison.readings:
            reading = comparison.readings[0]
            page_count += yield from _read_down(
                context, coverage, reading, pages - page_count, caught_up_at=caught_up_at
            )
            if reading.stretch.reaches(reading.lower):
                comparison.readings.pop(0)
        else:
            page_count += 1
            yield from _compare(context, comparison)
    return page_count


def can_count(context: PollContext, head: FetchedPage) -> StepsTo[bool]:
    """Return whether the API counts the logs of a time window.

    That is verified with whole seconds that were read completely. Their first and last one have logs, which shows
    whether the API excludes the bounds.
    """
    counter, lowest = context.state.window_counter, context.stretch.lowest
    if not context.supports_time_filter or context.state.ignores_time_filter or lowest is None or head.total is None:
        return False
    if counter.margin is not None or context.now < counter.retry_at:
        return counter.margin is not None
    seconds = sorted({created // SECOND_MS for created in head.times})
    # A first page within two seconds belongs to a feed with logs in every second.
    complete = seconds[1:-1] or [second - 1 for second in seconds[-1:]]
    if not complete or complete[0] <= lowest // SECOND_MS:
        return False
    first, last = complete[0] * SECOND_MS, (complete[-1] + 1) * SECOND_MS - 1
    counter.retry_at = context.now + VERIFICATION_INTERVAL
    for margin in MARGINS:
        page = yield from _count(context, first, last, margin)
        if page is None:
            return False
        if page.total == page.known_logs.window_count > 0:
            counter.margin = margin
            return True
    return False


def count_undated(context: PollContext, head: FetchedPage) -> StepsTo[int | None]:
    """Return how many logs of the list have no time, which no time window contains; None if that cannot be counted."""
    if not (yield from can_count(context, head)):
        return None
    page = yield from _count(context, 0, END_OF_TIME, 0)
    if page is None or page.total is None or head.total is None:
        return None
    return max(0, head.total - page.total)


def _count(context: PollContext, first: int, last: int, margin: int) -> StepsTo[FetchedPage | None]:
    """Count the logs of a time window; return None if the API rejects that."""
    try:
        return (
            yield FetchPage(created_after=first - margin, created_before=last + margin, limit=1, window=(first, last))
        )
    except BadRequest:
        context.state.ignores_time_filter = True
        return None


def _compare(context: PollContext, comparison: WindowComparison) -> ReaderSteps:
    """Compare the newest window; one that differs is halved until a page has all its listed logs, which is read."""
    first, last = comparison.windows[-1]
    page = yield from _count(context, first, last, context.state.window_counter.margin or 0)
    listed = page.total if page is not None else None
    stored = page.known_logs.window_count if page is not None else 0
    comparison.windows.pop()
    if listed == stored:
        return
    minutes = last // MINUTE_MS - first // MINUTE_MS
    if minutes == 0 or listed is None or listed <= PAGE_SIZE:
        stretch = Stretch((last + 1) // MINUTE_MS - 1)
        position = PagePosition(0, None if listed is None else time_above(last))
        comparison.readings.append(WindowReading(stretch, PageCursor(position), first))
        context.state.dense_time = None  # Others of its logs may have appeared.
    else:
        middle = (first // MINUTE_MS + (minutes + 1) // 2) * MINUTE_MS
        comparison.windows += [(first, middle - 1), (middle, last)]


def _read_down(
    context: PollContext, coverage: Coverage, reading: WindowReading, pages: int, *, caught_up_at: int = 0
) -> StepsTo[int]:
    """Read on until a window is complete, or for a number of pages; return the number of pages."""
    stretch, page_count = reading.stretch, 0
    while page_count < pages and not stretch.reaches(reading.lower):
        page_count += 1
        cursor = msgspec.structs.replace(reading.cursor, failure_count=context.state.queue.failure_count(CHECK))
        page, position = yield from seek(context, cursor)
        context.state.queue.succeed(CHECK)
        reading.cursor = advance_cursor(context, position, page, cursor)
        listed = stretch.extend(
            page.page,
            # A window begins at its bound, which no row of it is above.
            is_connected=is_connected(page, cursor, position) or (not cursor.page_keys and position == cursor.position),
            is_end=page.is_last or makes_no_progress(cursor, reading.cursor),
            since=coverage.retention_floor,
        )
        yield from record_found(context, coverage, page, listed, caught_up_at=caught_up_at)
        yield from record_dense_time(context, page, coverage.retention_floor)
    return page_count


def record_found(
    context: PollContext,
    coverage: Coverage,
    page: FetchedPage,
    listed: ListedMinutes | None = None,
    *,
    caught_up_at: int = 0,
) -> ReaderSteps:
    """Record the new logs of a page; those that earlier polls should have seen count as reconciled.

    Args:
        context: Input of the poll.
        coverage: Coverage of the feed.
        page: The page.
        listed: Minutes that the page completes.
        caught_up_at: As in ReconcileScan; 0 if no log of the page was missed.
    """
    missed, others = list[LogEntry](), list[LogEntry]()
    for entry in context.new_entries(page, coverage.retention_floor):
        is_missed = entry.created is not None and entry.created < caught_up_at - LATE_ARRIVAL_WINDOW
        (missed if is_missed else others).append(entry)
    if missed:
        yield Record(tuple(missed), by_reconciliation=True)
    if others or listed is not None:
        yield Record(tuple(others), listed_minutes=listed)
