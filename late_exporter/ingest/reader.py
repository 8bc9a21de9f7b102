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

from late_exporter.errors import REQUEST_FAILURES, UnrecognisedLogs
from late_exporter.ingest.leftovers import read_dense_time, read_undated
from late_exporter.ingest.paging import PagePosition, time_above
from late_exporter.ingest.pending import resolve_pending
from late_exporter.ingest.reader_state import PageCursor, PollContext
from late_exporter.ingest.reconcile import reconcile, start_scan_of_late_arrivals
from late_exporter.ingest.seeking import (
    StepsTo,
    advance_cursor,
    ends_list,
    fetch_readable,
    is_below,
    is_connected,
    makes_no_progress,
    oldest,
    seek,
)
from late_exporter.ingest.steps import FetchedPage, ReaderSteps, Record
from late_exporter.ingest.stretch import Stretch
from late_exporter.ingest.window_check import check_late_window
from late_exporter.model import MINUTE_MS, PAGE_OVERLAP, Coverage, Gap, ListPosition, creation_times

MIN_UNRECOGNISED = 3
"""Logs of a page that should be known from which it means something that none is; fewer may have appeared late."""


def poll(context: PollContext) -> ReaderSteps:
    """Poll a feed: read the newest logs and the gaps, resolve pending logs, look for late logs, and continue a scan.

    Only the newest logs and the gaps decide the outcome: any other request that fails is reported, and tried again in
    a later poll.
    """
    context.state.queue.start_poll(context.now)
    context.state.dense_time = None  # What the last poll has read of it may not have been saved.
    start_scan_of_late_arrivals(context)
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
    if coverage.is_synced:
        yield from check_late_window(context, coverage, head)
        yield from reconcile(context, coverage, head)


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
    _require_recognised(context, head)
    previous = context.coverage or _initial_coverage(context, head)
    lower = previous.newest.created if previous.newest else previous.retention_floor
    new_count = len(head.entries) - len(head.known_entries)
    shifted_gaps = tuple(msgspec.structs.replace(gap, depth=gap.depth + new_count) for gap in previous.gaps)
    # A single row with a wrong time must not move the high-water mark.
    coverage = msgspec.structs.replace(previous, newest=head.page.median or previous.newest, gaps=shifted_gaps)
    next_cursor, cursor = advance_cursor(context, PagePosition(), head), None
    # What is read later in this poll may have been written in this minute.
    context.stretch, context.cursor = Stretch(context.now // MINUTE_MS - 1), next_cursor
    is_end = head.is_last
    _note_list(context, previous, head, oldest(head) if is_end else None)
    listed = context.stretch.extend(head.page, is_connected=True, is_end=is_end, since=previous.retention_floor)
    if (
        is_end
        or _reaches_high_water_mark(head, lower)
        or (previous.newest and _crosses_retention(head, previous.retention_floor))
    ):
        coverage = _mark_caught_up(coverage, context, previous.caught_up_at, head)
    else:
        cursor = next_cursor
        gap = Gap(oldest(head), lower, cursor.position.depth, previous.caught_up_at)
        coverage = msgspec.structs.replace(coverage, gaps=(gap, *shifted_gaps))
    yield Record(context.new_entries(head, previous.retention_floor), coverage, listed_minutes=listed)
    if cursor is not None:
        yield from _record_dense_time(context, head, coverage, coverage.gaps[0])
    return coverage, cursor


def _require_recognised(context: PollContext, page: FetchedPage) -> None:
    """Raise UnrecognisedLogs if a page without ids has older logs than the mark and all gaps, and none is known.

    About half a page of known logs is right above the mark, so late logs below it are not taken for such ones.
    """
    coverage = context.coverage
    if coverage is None or coverage.newest is None or not page.without_ids or page.known_entries:
        return
    mark = min([coverage.newest.created, *(gap.lower for gap in coverage.gaps)])
    if sum(coverage.retention_floor <= created < mark for created in page.times) >= MIN_UNRECOGNISED:
        raise UnrecognisedLogs("none of the counted logs is recognised any more")


def _initial_coverage(context: PollContext, head: FetchedPage) -> Coverage:
    newest = max(head.times, default=None)
    now = _plausible_time(context, newest)
    retention_floor = now - min(context.lookback, context.retention)
    if newest is not None:
        # If the clock is ahead by more than the lookback, new logs would otherwise be taken for old ones.
        retention_floor = min(retention_floor, newest - min(context.lookback, context.late_window))
    return Coverage(retention_floor=retention_floor, complete_since=retention_floor, generation=context.generation)


def _fill_gap(context: PollContext, coverage: Coverage, gap: Gap, start: PageCursor | None) -> StepsTo[Coverage]:
    """Read a gap to its end; every recorded page that reaches the gap shrinks it in the coverage."""
    cursor = start or _resume_gap(context, gap)
    upper, is_reached = gap.upper, start is not None
    while gap in coverage.gaps:
        failure_count = gap.failure_count
        cursor = msgspec.structs.replace(cursor, failure_count=failure_count)
        try:
            page, position = yield from seek(context, cursor)
        except REQUEST_FAILURES:
            yield Record((), _set_failure_count(coverage, gap, failure_count + 1))
            raise
        _require_recognised(context, page)
        next_cursor = advance_cursor(context, position, page, cursor)
        no_progress = makes_no_progress(cursor, next_cursor)
        listed = None
        if start is not None:  # Otherwise the newest logs above the gap are not connected to it.
            listed = context.stretch.extend(
                page.page,
                is_connected=is_connected(page, cursor, position),
                is_end=page.is_last or no_progress,
                since=coverage.retention_floor,
            )
            context.cursor = next_cursor
        is_end = no_progress or ends_list(context, page, position)
        reaches_lower = _reaches_high_water_mark(page, gap.lower, strict=True)
        _note_list(context, coverage, page, oldest(page, gap.upper) if is_end and not reaches_lower else None)
        if is_end or reaches_lower:
            other_gaps = tuple(other for other in coverage.gaps if other != gap)
            coverage = msgspec.structs.replace(coverage, gaps=other_gaps)
            coverage = _mark_caught_up(coverage, context, gap.last_complete_at, page)
        else:
            is_reached = is_reached or _reaches_gap(page, upper)
            # A page above the gap, at which seeking may begin, must not extend it upwards.
            rest_upper = oldest(page, gap.upper) if is_reached else gap.upper
            rest = Gap(rest_upper, gap.lower, next_cursor.position.depth, gap.last_complete_at)
            if rest_upper.created >= gap.upper.created:  # It has not come below the place of the failures.
                rest = msgspec.structs.replace(rest, failure_count=gap.failure_count)
            gaps = tuple(rest if other == gap else other for other in coverage.gaps)
            coverage = msgspec.structs.replace(coverage, gaps=gaps)
            gap, cursor = rest, next_cursor
        yield Record(
            context.new_entries(page, coverage.retention_floor),
            coverage,
            listed_minutes=listed,
            shrinks_gap=gap.upper.created < upper.created,
        )
        if gap in coverage.gaps:
            yield from _record_dense_time(context, page, coverage, gap, failure_count)
    return coverage


def _record_dense_time(
    context: PollContext, page: FetchedPage, coverage: Coverage, rest: Gap, failure_count: int = 0
) -> StepsTo[None]:
    """Record all logs of the time at which a page of a gap ends, if the next page cannot repeat them.

    If that fails, the next poll reads the ``rest`` of the gap from above that time again.

    Raises:
        ApiError: The logs cannot be read, and fewer than three attempts have failed.
    """
    try:
        entries = yield from read_dense_time(context, page, coverage.retention_floor, failure_count=failure_count)
    except REQUEST_FAILURES:
        yield Record((), _set_failure_count(coverage, rest, failure_count + 1))
        raise
    if entries:
        yield Record(entries)


def _set_failure_count(coverage: Coverage, gap: Gap, failure_count: int) -> Coverage:
    """Store the failed attempts in the coverage, so that even runs of a single poll get past them in the end."""
    failed_gap = msgspec.structs.replace(gap, failure_count=failure_count)
    return msgspec.structs.replace(
        coverage, gaps=tuple(failed_gap if other == gap else other for other in coverage.gaps)
    )


def _resume_gap(context: PollContext, gap: Gap) -> PageCursor:
    """Return the cursor at the upper end of a gap that an earlier poll has left."""
    keys = frozenset((gap.upper.key,))
    anchors = frozenset[str]() if context.supports_time_filter else keys
    position = PagePosition(max(0, gap.depth - PAGE_OVERLAP))
    if context.max_skip is not None and position.skip > context.max_skip and gap.upper.created:
        position = PagePosition(0, time_above(gap.upper.created), position.skip)
    return PageCursor(position, keys, gap.upper.created, anchors=anchors)


def _note_list(context: PollContext, coverage: Coverage, page: FetchedPage, end: ListPosition | None) -> None:
    """Note during a first sync how many logs the API reports, and after which log the list seemed to end."""
    if coverage.is_synced:
        return
    context.state.largest_total = max(context.state.largest_total, page.total or 0)
    if end is not None and (not end.created or end.created >= coverage.retention_floor):
        context.list_end = end if context.list_end is None else max(end, context.list_end, key=lambda log: log.created)


def _complete_sync(context: PollContext, coverage: Coverage, head: FetchedPage) -> StepsTo[Coverage]:
    """Complete the first sync, if the API has reported as many logs as were read, or if it ends there a second time.

    An empty or a short page may have hidden the rest of the list.
    """
    is_short = False
    if context.list_end is not None and head.is_last:
        # No other page confirms the total of the only one.
        again = yield from _fetch_head(context)
        _note_list(context, coverage, again, oldest(again))
        yield Record(context.new_entries(again, coverage.retention_floor))
        is_short = not again.is_last
    confirmed_end = None
    while (end := context.list_end) is not None and end != confirmed_end:
        read_count = head.known_logs.stored_count + context.new_count
        if not is_short and read_count >= context.state.largest_total:
            break
        confirmed_end, context.list_end, is_short = end, None, False
        gap = Gap(end, coverage.retention_floor, read_count, coverage.caught_up_at)
        coverage = msgspec.structs.replace(coverage, gaps=(gap,))
        yield Record((), coverage)
        coverage = yield from _fill_gap(context, coverage, gap, None)
    undated = yield from read_undated(context, coverage, head)
    coverage = msgspec.structs.replace(coverage, is_synced=True, published_at=context.now)
    yield Record(tuple(undated), coverage)
    return coverage


def _reaches_gap(page: FetchedPage, upper: ListPosition) -> bool:
    """Return whether a page has the last log above a gap, or logs that may be below it."""
    times = page.times
    return not times or min(times) <= upper.created or any(entry.key == upper.key for entry in page.entries)


def _reaches_high_water_mark(page: FetchedPage, lower: int, *, strict: bool = False) -> bool:
    """Return whether a page has a known log older than ``lower``, or only logs older than ``lower``.

    Among the logs created at ``lower`` itself some may be new, and some may be known only because this gap is being
    read. A page of known logs that includes one of them is therefore enough only if not ``strict``.
    """
    known_entries = page.known_entries
    known_times = page.times if len(known_entries) == len(page.entries) else creation_times(known_entries)
    if min(known_times, default=lower) < lower or is_below(page, lower):
        return True
    return not strict and lower in known_times and len(known_entries) == len(page.entries)


def _crosses_retention(page: FetchedPage, retention_floor: int) -> bool:
    """Return whether a page that is sorted from new to old ends below the retention floor."""
    times = page.times
    return bool(times) and times[0] > times[-1] and times[-1] < retention_floor


def _plausible_time(context: PollContext, newest: int | None) -> int:
    """Return the API time, or that of the newest listed log: a clock by which even that one has expired is wrong."""
    return context.now if newest is None or newest > context.now - context.retention else newest


def _mark_caught_up(coverage: Coverage, context: PollContext, since: int, page: FetchedPage) -> Coverage:
    """Return the coverage after a gap was closed by a page; logs that expired unread since ``since`` are lost."""
    # A start after both the present and the newest log was set by a clock that was ahead.
    present = max(context.now, coverage.newest.created if coverage.newest else 0)
    complete_since = min(coverage.complete_since, present)
    newest = coverage.newest.created if coverage.newest and page.entries else None
    oldest_listed = _plausible_time(context, newest) - context.retention
    if since and since < oldest_listed:
        complete_since = max(complete_since, oldest_listed)
    caught_up_at = coverage.caught_up_at if coverage.gaps else context.now
    return msgspec.structs.replace(coverage, complete_since=complete_since, caught_up_at=caught_up_at)
