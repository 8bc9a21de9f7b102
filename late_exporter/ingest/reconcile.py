"""Scan a log list for logs that polls have missed, by reading it or by comparing the counts of time windows.

Generators as in ``late_exporter.ingest.reader``.
"""

from __future__ import annotations

import msgspec

from late_exporter.errors import REQUEST_FAILURES
from late_exporter.ingest.leftovers import read_undated, record_dense_time, start_reading
from late_exporter.ingest.paging import PagePosition
from late_exporter.ingest.reader_state import PollContext, ReconcileScan
from late_exporter.ingest.request_queue import RequestKey
from late_exporter.ingest.seeking import (
    MAX_PAGE_FAILURES,
    advance_cursor,
    ends_list,
    is_below,
    is_connected,
    makes_no_progress,
    report_failure,
    seek,
)
from late_exporter.ingest.steps import FetchedPage, ReaderSteps, Record
from late_exporter.ingest.stretch import Stretch
from late_exporter.ingest.window_check import (
    LATE_ARRIVAL_WINDOW,
    advance_comparison,
    count_undated,
    record_found,
    start_comparison,
)
from late_exporter.model import DAY_MS, MINUTE_MS, Coverage
from late_exporter.store.batches import EXPIRY_SLACK_MINUTES

SCAN: RequestKey = ("scan", 0)

FULL_SCAN_INTERVAL = DAY_MS
"""Milliseconds between two scans that read the whole list, if the others compare the counts of time windows."""

EXPIRY_SLACK = EXPIRY_SLACK_MINUTES * MINUTE_MS
"""Milliseconds above the end of the retention that are not compared, because the API may have deleted their logs."""

SCAN_GROWTH = 4
"""Factor by which the time windows of a scan get longer with age, as changes get rarer."""


def start_scan_of_late_arrivals(context: PollContext) -> None:
    """Start a scan for logs that arrived late while no process was polling.

    This happens before anything is read, so that the scan survives a poll that fails.
    """
    state, coverage = context.state, context.coverage
    if state.scan is None and state.is_first_poll and coverage and coverage.newest:
        caught_up_at = coverage.caught_up_at
        lower = min(coverage.newest.created, caught_up_at or context.now) - LATE_ARRIVAL_WINDOW
        state.scan = ReconcileScan(lower=lower, caught_up_at=caught_up_at)


def reconcile(context: PollContext, coverage: Coverage, head: FetchedPage) -> ReaderSteps:
    """Continue the reconciliation scan; start one if the API has more logs than the store.

    A page that cannot be read is tried again in later polls. If it cannot be read in parts either, the scan ends.
    """
    state, scan = context.state, _choose_scan(context, head)
    if scan is None:
        return
    if head.is_last or _is_below_scan(head, scan):
        scan.is_complete = True
        return
    regular_pages, urgent_pages = context.page_budget
    pages = regular_pages if scan.is_regular else urgent_pages
    if not pages or not state.queue.is_due(SCAN):
        return
    try:
        yield from _start_scan(context, scan, coverage, head)
        if scan.comparison is None:
            yield from _scan(context, scan, coverage, pages)
        else:
            caught_up_at = scan.caught_up_at
            yield from advance_comparison(context, coverage, scan.comparison, pages, caught_up_at=caught_up_at)
            scan.is_complete = scan.comparison.is_complete
        if scan.is_complete and scan.is_regular:
            undated = yield from read_undated(context, coverage, head)
            yield Record(tuple(undated))
    except REQUEST_FAILURES as exc:
        yield from report_failure(context, SCAN, exc)
        if state.queue.failure_count(SCAN) > MAX_PAGE_FAILURES:
            state.scan = None


def _choose_scan(context: PollContext, head: FetchedPage) -> ReconcileScan | None:
    """Return the scan in progress, or one for logs that are missing; if any are, it reads the whole list."""
    state, surplus = context.state, context.surplus(head)
    if surplus is not None:
        # Marks of deleted logs would raise the difference long after the deletion.
        lowest, highest = (difference - head.known_logs.deleted_count for difference in surplus)
        surplus = lowest, highest
        missing_count = state.surplus_detector.missing_count(context.now, lowest, highest)
        if state.scan is None and missing_count:
            state.scan = ReconcileScan(target_count=missing_count)
    if state.scan is not None and (surplus is None or surplus[0] > 0):
        state.scan.depth = None
    return state.scan


def _start_scan(context: PollContext, scan: ReconcileScan, coverage: Coverage, head: FetchedPage) -> ReaderSteps:
    """Prepare the first part of a scan; a regular one compares time windows if the API counts their logs."""
    state = context.state
    if scan.cursor.page_keys or scan.comparison is not None:
        return
    if not scan.caught_up_at and context.coverage:
        scan.caught_up_at = context.coverage.caught_up_at
    if scan.is_regular:
        undated_count = yield from count_undated(context, head)
        if undated_count is not None:
            scan.depth = None
        is_recent = state.last_full_scan > context.now - FULL_SCAN_INTERVAL
        if is_recent and undated_count is not None and undated_count <= state.undated_count:
            state.undated_count = undated_count  # The next ones must not be hidden by those that were deleted.
            lower = max(coverage.retention_floor, context.now - context.retention + EXPIRY_SLACK)
            comparison = yield from start_comparison(context, coverage, head, lower, growth=SCAN_GROWTH)
            if comparison.windows:
                scan.comparison = comparison
                return
        state.last_full_scan, state.undated_count = context.now, undated_count or 0
    scan.cursor, state.scan_stretch = advance_cursor(context, PagePosition(), head), None
    yield from start_reading(context, head, coverage.retention_floor)


def _is_below_scan(head: FetchedPage, scan: ReconcileScan) -> bool:
    """Return whether the first page reaches as far down as a scan; a single row with a wrong time does not."""
    times = sorted(head.times)
    return scan.depth is not None and bool(times) and times[len(times) // 2] < scan.started_at - scan.depth


def _scan(context: PollContext, scan: ReconcileScan, coverage: Coverage, page_budget: int) -> ReaderSteps:
    lower = coverage.retention_floor if scan.lower is None else scan.lower
    if scan.depth is not None:
        lower = max(lower, scan.started_at - scan.depth)
    stretch = context.state.scan_stretch or Stretch(-1)
    context.state.scan_stretch = stretch
    for _ in range(page_budget):
        failure_count = context.state.queue.failure_count(SCAN)
        scan.cursor = msgspec.structs.replace(scan.cursor, failure_count=failure_count)
        page, position = yield from seek(context, scan.cursor)
        context.state.queue.succeed(SCAN)
        next_cursor = advance_cursor(context, position, page, scan.cursor)
        is_end = makes_no_progress(scan.cursor, next_cursor) or ends_list(context, page, position)
        listed = stretch.extend(
            page.page,
            is_connected=stretch.lowest is not None and is_connected(page, scan.cursor, position),
            is_end=is_end,
            since=coverage.retention_floor,
        )
        new_count = context.new_count
        yield from record_found(context, coverage, page, listed, caught_up_at=scan.caught_up_at)
        yield from record_dense_time(context, page, coverage.retention_floor)
        if scan.target_count is not None:
            scan.target_count -= context.new_count - new_count
        scan.is_complete = is_end or is_below(page, lower) or (scan.target_count is not None and scan.target_count <= 0)
        scan.cursor = next_cursor
        if scan.is_complete:
            return
