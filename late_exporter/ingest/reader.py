"""Decide which pages of a log list to read, and when to stop.

The reader is a generator without network, database or clock: it yields a step and is sent the result. Closing it
between two steps is always safe, because every Record step carries the coverage that is true once it is recorded.

The list is read from its newest end down to the high-water mark: the newest log of the last poll, below which
everything has been read. If a page ends above the high-water mark, the stretch in between becomes a gap, and a gap is
part of the coverage until it has been read to its end. A first sync, a catch-up after an outage and a catch-up that
was killed half-way are therefore the same procedure.

See docs/decisions/0002-reader-as-a-pure-generator.md.
"""

from __future__ import annotations

import msgspec

from late_exporter.errors import REQUEST_FAILURES, BadPayload
from late_exporter.ingest.leftovers import read_dense_time, read_undated
from late_exporter.ingest.paging import PagePosition, time_above
from late_exporter.ingest.pending import resolve_pending
from late_exporter.ingest.seeking import (
    MAX_PAGE_FAILURES,
    PAGE_OVERLAP,
    StepsTo,
    advance_cursor,
    ends_list,
    fetch_readable,
    is_below,
    is_last_page,
    makes_no_progress,
    oldest,
    report_failure,
    seek,
    timestamps,
)
from late_exporter.ingest.steps import FetchedPage, PageCursor, PollContext, ReaderSteps, ReconcileScan, Record
from late_exporter.ingest.turns import RequestKey
from late_exporter.model import PAGE_SIZE, Coverage, Gap, ListPosition, LogEntry

SCAN: RequestKey = ("scan", 0)

LATE_ARRIVAL_WINDOW = 3_600_000
"""Milliseconds by which a log may appear later than its createdAt: its row is written when the attempt ends."""


def poll(context: PollContext) -> ReaderSteps:
    """Poll a feed: read the newest logs and the gaps, resolve pending logs, and continue the reconciliation scan.

    Only the newest logs and the gaps decide the outcome: any other request that fails is reported, and tried again in
    a later poll.
    """
    context.state.queue.start_poll(context.now)
    _start_scan_of_late_arrivals(context)
    head = yield from _fetch_head(context)
    coverage, cursor = yield from _record_head(context, head)
    for gap in coverage.gaps:
        coverage = yield from _fill_gap(context, coverage, gap, cursor)
        cursor = None
    if not coverage.is_synced:
        coverage = yield from _complete_sync(context, coverage, head)
    head_keys = {entry.key for entry in head.entries}
    pending_logs = [log for key, log in context.pending_logs.items() if key not in head_keys]
    yield from resolve_pending(context, coverage, pending_logs)
    yield from _reconcile(context, coverage, head)


def _start_scan_of_late_arrivals(context: PollContext) -> None:
    """Start a scan for logs that arrived late while no process was polling.

    This happens before anything is read, so that the scan survives a poll that fails.
    """
    state, coverage = context.state, context.coverage
    if state.scan is None and state.is_first_poll and coverage and coverage.newest:
        caught_up_at = coverage.caught_up_at
        lower = min(coverage.newest.created, caught_up_at or context.now) - LATE_ARRIVAL_WINDOW
        state.scan = ReconcileScan(lower=lower, caught_up_at=caught_up_at)


def _fetch_head(context: PollContext) -> StepsTo[FetchedPage]:
    state = context.state
    try:
        head = yield from fetch_readable(PagePosition(), state.head_failure_count)
    except REQUEST_FAILURES:
        state.head_failure_count += 1
        raise
    if not head.has_unreadable:  # Otherwise every poll has to read around the same row.
        state.head_failure_count = 0
    return head


def _record_head(context: PollContext, head: FetchedPage) -> StepsTo[tuple[Coverage, PageCursor | None]]:
    """Record the first page; if it does not reach the high-water mark, what lies between becomes a gap."""
    previous = context.coverage or _initial_coverage(context, head)
    lower = previous.newest.created if previous.newest else previous.retention_floor
    new_count = sum(not head.is_known(entry) for entry in head.entries)
    shifted_gaps = tuple(msgspec.structs.replace(gap, depth=gap.depth + new_count) for gap in previous.gaps)
    coverage = msgspec.structs.replace(previous, newest=_high_water_mark(head) or previous.newest, gaps=shifted_gaps)
    cursor = None
    if (
        is_last_page(head)
        or _reaches_high_water_mark(head, lower)
        or (previous.newest and _crosses_retention(head, previous.retention_floor))
    ):
        coverage = _mark_caught_up(coverage, context, previous.caught_up_at)
    else:
        cursor = advance_cursor(context, PagePosition(), head)
        gap = Gap(oldest(head), lower, cursor.position.depth, previous.caught_up_at)
        coverage = msgspec.structs.replace(coverage, gaps=(gap, *shifted_gaps))
    yield Record(_new_entries(context, head, previous.retention_floor), coverage)
    if cursor is not None:
        yield from _record_dense_time(context, head, previous.retention_floor)
    return coverage, cursor


def _record_dense_time(context: PollContext, page: FetchedPage, retention_floor: int) -> StepsTo[None]:
    dense = yield from read_dense_time(context, page)
    if dense is not None:
        yield Record(_new_entries(context, dense, retention_floor))


def _initial_coverage(context: PollContext, head: FetchedPage) -> Coverage:
    newest = max(timestamps(head.entries), default=context.now)
    # A clock by which even the newest log is past its retention is wrong.
    now = context.now if newest > context.now - context.retention else newest
    retention_floor = now - min(context.lookback, context.retention)
    return Coverage(retention_floor=retention_floor, complete_since=retention_floor, generation=context.generation)


def _fill_gap(context: PollContext, coverage: Coverage, gap: Gap, start: PageCursor | None) -> StepsTo[Coverage]:
    """Read a gap to its end; every recorded page shrinks the gap in the coverage."""
    cursor = start or _resume_gap(context, gap)
    while gap in coverage.gaps:
        try:
            page, position = yield from seek(context, cursor)
        except REQUEST_FAILURES:
            # Stored, so that a row that cannot be read does not block a process that runs for a single poll either.
            failed_gap = msgspec.structs.replace(gap, failure_count=gap.failure_count + 1)
            gaps = tuple(failed_gap if other == gap else other for other in coverage.gaps)
            yield Record((), msgspec.structs.replace(coverage, gaps=gaps))
            raise
        next_cursor = advance_cursor(context, position, page, cursor)
        no_progress = makes_no_progress(cursor, next_cursor)
        if no_progress and len(cursor.page_keys) >= PAGE_SIZE:
            raise BadPayload(f"the log list repeats the same page at skip={next_cursor.position.skip}")
        if no_progress or ends_list(context, page, position) or _reaches_high_water_mark(page, gap.lower, strict=True):
            other_gaps = tuple(other for other in coverage.gaps if other != gap)
            coverage = msgspec.structs.replace(coverage, gaps=other_gaps)
            coverage = _mark_caught_up(coverage, context, gap.last_complete_at)
        else:
            rest = Gap(oldest(page, gap.upper), gap.lower, next_cursor.position.depth, gap.last_complete_at)
            gaps = tuple(rest if other == gap else other for other in coverage.gaps)
            coverage = msgspec.structs.replace(coverage, gaps=gaps)
            gap, cursor = rest, next_cursor
        yield Record(
            _new_entries(context, page, coverage.retention_floor),
            coverage,
            splits_timestamp=_has_single_timestamp(page),
        )
        yield from _record_dense_time(context, page, coverage.retention_floor)
    return coverage


def _resume_gap(context: PollContext, gap: Gap) -> PageCursor:
    """Return the cursor at the upper end of a gap that an earlier poll has left."""
    keys = frozenset((gap.upper.key,))
    anchors = frozenset[str]() if context.supports_time_filter else keys
    position = PagePosition(max(0, gap.depth - PAGE_OVERLAP))
    if context.max_skip is not None and position.skip > context.max_skip and gap.upper.created:
        position = PagePosition(0, time_above(gap.upper.created), position.skip)
    return PageCursor(position, keys, gap.upper.created, anchors=anchors, failure_count=gap.failure_count)


def _new_entries(context: PollContext, page: FetchedPage, retention_floor: int) -> tuple[LogEntry, ...]:
    entries = page.new_entries(retention_floor)
    new_keys = {entry.key for entry in entries if not page.is_known(entry)} - context.uncommitted_keys
    context.new_count += len(new_keys)
    context.uncommitted_keys |= new_keys
    return entries


def _complete_sync(context: PollContext, coverage: Coverage, head: FetchedPage) -> StepsTo[Coverage]:
    undated = yield from read_undated(context, coverage, head.total)
    coverage = msgspec.structs.replace(coverage, is_synced=True, published_at=context.now)
    yield Record(tuple(undated), coverage)
    return coverage


def _reconcile(context: PollContext, coverage: Coverage, head: FetchedPage) -> ReaderSteps:
    """Continue the reconciliation scan; start one if the API has more logs than the store.

    A page that cannot be read is tried again in later polls. If it cannot be read in parts either, the scan ends.
    """
    state = context.state
    missing_count = _missing_count(context, head)
    if state.scan is None and missing_count:
        state.scan = ReconcileScan(target_count=missing_count)
    scan = state.scan
    if scan is None:
        return
    if is_last_page(head):
        scan.is_complete = True
        return
    if not scan.cursor.page_keys:
        scan.cursor = advance_cursor(context, PagePosition(), head)
    if not state.queue.is_due(SCAN):
        return
    regular_pages, urgent_pages = context.page_budget
    try:
        yield from _scan(context, scan, coverage, regular_pages if scan.is_regular else urgent_pages)
        if scan.is_complete and scan.is_regular:
            undated = yield from read_undated(context, coverage, head.total)
            yield Record(tuple(undated))
    except REQUEST_FAILURES as exc:
        yield from report_failure(context, SCAN, exc)
        if state.queue.failure_count(SCAN) > MAX_PAGE_FAILURES:
            state.scan = None


def _missing_count(context: PollContext, head: FetchedPage) -> int:
    coverage = context.coverage
    if head.total is None or coverage is None or coverage.gaps or not coverage.is_synced:
        return 0
    lowest = head.total - head.known_logs.stored_count - context.new_count
    highest = lowest + head.known_logs.expiring_count
    return context.state.surplus_detector.missing_count(context.now, lowest, highest)


def _scan(context: PollContext, scan: ReconcileScan, coverage: Coverage, page_budget: int) -> ReaderSteps:
    if not scan.caught_up_at and context.coverage:
        scan.caught_up_at = context.coverage.caught_up_at
    lower = coverage.retention_floor if scan.lower is None else scan.lower
    for _ in range(page_budget):
        failure_count = context.state.queue.failure_count(SCAN)
        scan.cursor = msgspec.structs.replace(scan.cursor, failure_count=failure_count)
        page, position = yield from seek(context, scan.cursor)
        context.state.queue.succeed(SCAN)
        new_entries = page.new_entries(coverage.retention_floor)
        for entry in new_entries:
            was_missed = entry.created is not None and entry.created < scan.caught_up_at - LATE_ARRIVAL_WINDOW
            yield Record((entry,), by_reconciliation=was_missed)
        yield from _record_dense_time(context, page, coverage.retention_floor)
        target_reached = False
        if scan.target_count is not None:
            scan.target_count -= sum(
                not page.is_known(entry) and entry.key not in context.uncommitted_keys for entry in new_entries
            )
            target_reached = scan.target_count <= 0
        next_cursor = advance_cursor(context, position, page, scan.cursor)
        scan.is_complete = (
            target_reached
            or makes_no_progress(scan.cursor, next_cursor)
            or ends_list(context, page, position)
            or is_below(page, lower)
        )
        scan.cursor = next_cursor
        if scan.is_complete:
            return


def _has_single_timestamp(page: FetchedPage) -> bool:
    """Return whether a page of logs without ids has only logs of the same time."""
    return page.without_ids and len({entry.created for entry in page.entries}) == 1


def _reaches_high_water_mark(page: FetchedPage, lower: int, *, strict: bool = False) -> bool:
    """Return whether a page has a known log older than ``lower``, or only logs older than ``lower``.

    Among the logs created at ``lower`` itself some may be new, and some may be known only because this gap is being
    read. A page of known logs that includes one of them is therefore enough only if not ``strict``.
    """
    known_entries = [entry for entry in page.entries if page.is_known(entry)]
    known_times = timestamps(known_entries)
    if any(created < lower for created in known_times) or is_below(page, lower):
        return True
    return not strict and lower in known_times and len(known_entries) == len(page.entries)


def _crosses_retention(page: FetchedPage, retention_floor: int) -> bool:
    """Return whether a page that is sorted from new to old ends below the retention floor."""
    times = timestamps(page.entries)
    return bool(times) and times[0] > times[-1] and times[-1] < retention_floor


def _high_water_mark(head: FetchedPage) -> ListPosition | None:
    """Return the median of the first page: a single row with a wrong time must not move the high-water mark."""
    positions = sorted((entry.created, entry.key) for entry in head.entries if entry.created is not None)
    return ListPosition(*positions[len(positions) // 2]) if positions else None


def _mark_caught_up(coverage: Coverage, context: PollContext, since: int) -> Coverage:
    """Return the coverage after a gap was closed; logs that expired unread since ``since`` are lost."""
    # A start after both the present and the newest log was set by a clock that was ahead.
    present = max(context.now, coverage.newest.created if coverage.newest else 0)
    complete_since = min(coverage.complete_since, present)
    if since and since < context.now - context.retention:
        complete_since = max(complete_since, context.now - context.retention)
    caught_up_at = coverage.caught_up_at if coverage.gaps else context.now
    return msgspec.structs.replace(coverage, complete_since=complete_since, caught_up_at=caught_up_at)
