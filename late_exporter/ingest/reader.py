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

from collections.abc import Generator, Iterable, Sequence
from typing import TypeAlias, TypeVar

import msgspec

from late_exporter.errors import BadPayload, BadRequest
from late_exporter.ingest.paging import TIME_FILTER_TOLERANCE, PagePosition, time_above, time_below
from late_exporter.ingest.steps import (
    FetchedPage,
    FetchPage,
    FetchPost,
    PageCursor,
    PendingScan,
    PollContext,
    ReaderStep,
    ReaderSteps,
    ReconcileScan,
    Record,
)
from late_exporter.model import (
    PAGE_SIZE,
    PENDING,
    Coverage,
    Gap,
    KnownLogs,
    ListPosition,
    LogEntry,
    LogPage,
    PendingLog,
)

ResultT = TypeVar("ResultT")
StepsTo: TypeAlias = Generator[ReaderStep, FetchedPage | None, ResultT]
"""Generator of steps that returns a result."""

LATE_ARRIVAL_WINDOW = 3_600_000
"""Milliseconds by which a log may appear later than its createdAt: its row is written when the attempt ends."""

PAGE_OVERLAP = 2
"""Minimum number of rows that two pages share, so that a shift between the two reads is noticed."""

MAX_REPEATS = 3
"""Consecutive pages that may contain the same logs at another place of the list."""

MAX_SEEK_READS = 40
"""Maximum number of reads to find the page that continues the last one on a list that moves."""


def poll(context: PollContext) -> ReaderSteps:
    """Poll a feed: read the newest logs and the gaps, resolve pending logs, and continue the reconciliation scan."""
    _start_scan_of_late_arrivals(context)
    head = yield from _fetch_page(PagePosition())
    coverage, cursor = yield from _record_head(context, head)
    for gap in coverage.gaps:
        coverage = yield from _fill_gap(context, coverage, gap, cursor)
        cursor = None
    if not coverage.is_synced:
        coverage = yield from _complete_sync(context, coverage)
    head_keys = {entry.key for entry in head.entries}
    pending_logs = [log for key, log in context.pending_logs.items() if key not in head_keys]
    yield from _resolve_pending(context, coverage, pending_logs)
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


def _record_head(context: PollContext, head: FetchedPage) -> StepsTo[tuple[Coverage, PageCursor | None]]:
    """Record the first page; if it does not reach the high-water mark, what lies between becomes a gap."""
    previous = context.coverage or _initial_coverage(context, head)
    lower = previous.newest.created if previous.newest else previous.retention_floor
    new_count = sum(not head.is_known(entry) for entry in head.entries)
    shifted_gaps = tuple(msgspec.structs.replace(gap, depth=gap.depth + new_count) for gap in previous.gaps)
    coverage = msgspec.structs.replace(previous, newest=_high_water_mark(head) or previous.newest, gaps=shifted_gaps)
    cursor = None
    if (
        _is_last_page(head)
        or _reaches_high_water_mark(head, lower)
        or (previous.newest and _crosses_retention(head, previous.retention_floor))
    ):
        coverage = _mark_caught_up(coverage, context, previous.caught_up_at)
    else:
        cursor = _next_cursor(context, PagePosition(), head)
        gap = Gap(_oldest(head), lower, cursor.position.depth, previous.caught_up_at)
        coverage = msgspec.structs.replace(coverage, gaps=(gap, *shifted_gaps))
    yield Record(_new_entries(context, head, previous.retention_floor), coverage)
    return coverage, cursor


def _initial_coverage(context: PollContext, head: FetchedPage) -> Coverage:
    newest = max(_timestamps(head.entries), default=context.now)
    # A clock by which even the newest log is past its retention is wrong.
    now = context.now if newest > context.now - context.retention else newest
    retention_floor = now - min(context.lookback, context.retention)
    return Coverage(retention_floor=retention_floor, complete_since=retention_floor, generation=context.generation)


def _fill_gap(context: PollContext, coverage: Coverage, gap: Gap, start: PageCursor | None) -> StepsTo[Coverage]:
    """Read a gap to its end; every recorded page shrinks the gap in the coverage."""
    cursor = start or _resume_gap(context, gap)
    while gap in coverage.gaps:
        page, position = yield from _seek(context, cursor)
        next_cursor = _next_cursor(context, position, page, cursor)
        no_progress = _makes_no_progress(cursor, next_cursor)
        if no_progress and len(cursor.page_keys) >= PAGE_SIZE:
            raise BadPayload(f"the log list repeats the same page at skip={next_cursor.position.skip}")
        if no_progress or _ends_list(context, page, position) or _reaches_high_water_mark(page, gap.lower, strict=True):
            other_gaps = tuple(other for other in coverage.gaps if other != gap)
            coverage = msgspec.structs.replace(coverage, gaps=other_gaps)
            coverage = _mark_caught_up(coverage, context, gap.last_complete_at)
        else:
            rest = Gap(_oldest(page, gap.upper), gap.lower, next_cursor.position.depth, gap.last_complete_at)
            gaps = tuple(rest if other == gap else other for other in coverage.gaps)
            coverage = msgspec.structs.replace(coverage, gaps=gaps)
            gap, cursor = rest, next_cursor
        yield Record(
            _new_entries(context, page, coverage.retention_floor),
            coverage,
            splits_timestamp=_has_single_timestamp(page),
        )
    return coverage


def _resume_gap(context: PollContext, gap: Gap) -> PageCursor:
    """Return the cursor at the upper end of a gap that an earlier poll has left."""
    keys = frozenset((gap.upper.key,))
    anchors = frozenset[str]() if context.supports_time_filter else keys
    position = PagePosition(max(0, gap.depth - PAGE_OVERLAP))
    if context.max_skip is not None and position.skip > context.max_skip and gap.upper.created:
        position = PagePosition(0, time_above(gap.upper.created), position.skip)
    return PageCursor(position, keys, gap.upper.created, anchors=anchors)


def _new_entries(context: PollContext, page: FetchedPage, retention_floor: int) -> tuple[LogEntry, ...]:
    entries = page.new_entries(retention_floor)
    context.new_keys.update(entry.key for entry in entries if not page.is_known(entry))
    return entries


def _complete_sync(context: PollContext, coverage: Coverage) -> StepsTo[Coverage]:
    coverage = msgspec.structs.replace(coverage, is_synced=True, published_at=context.now)
    yield Record((), coverage)
    return coverage


def _resolve_pending(context: PollContext, coverage: Coverage, pending_logs: Sequence[PendingLog]) -> ReaderSteps:
    """Look up the final status of pending logs that are not on the first page."""
    if not pending_logs:
        return
    unlisted = yield from _unlisted_pending(context, coverage, pending_logs)
    by_time = context.supports_time_filter
    unresolvable = tuple(log.key for log in unlisted if not (log.created if by_time else log.post_id))
    if unresolvable:
        yield Record((), deleted_keys=unresolvable)
    yield from (_resolve_by_time if by_time else _resolve_by_post)(context, coverage, unlisted)


def _resolve_by_post(context: PollContext, coverage: Coverage, pending_logs: Sequence[PendingLog]) -> ReaderSteps:
    by_post: dict[str, set[str]] = {}
    for log in pending_logs:
        if log.post_id:
            by_post.setdefault(log.post_id, set()).add(log.key)
    for post_id in list(by_post)[: context.lookup_budget]:
        try:
            page = yield FetchPost(post_id)
        except BadRequest:
            continue  # It must not block the other posts.
        entries = page.entries if page else ()
        is_complete = len(entries) < PAGE_SIZE
        deleted_keys = by_post[post_id] - {entry.key for entry in entries} if is_complete else set()
        new_entries = page.new_entries(coverage.retention_floor) if page else ()
        yield Record(new_entries, deleted_keys=tuple(sorted(deleted_keys)))


def _resolve_by_time(context: PollContext, coverage: Coverage, pending_logs: Sequence[PendingLog]) -> ReaderSteps:
    """Look up logs by their time; an API that ignores the time filter leaves them to the reconciliation scan."""
    by_time: dict[int, set[str]] = {}
    for log in pending_logs:
        if log.created:
            by_time.setdefault(log.created, set()).add(log.key)
    for created in list(by_time)[: context.lookup_budget]:
        if context.state.ignores_time_filter:
            return
        listed_keys = yield from _list_keys_at(context, coverage, created)
        if listed_keys is not None:
            yield Record((), deleted_keys=tuple(sorted(by_time[created] - listed_keys)))


def _list_keys_at(context: PollContext, coverage: Coverage, created: int) -> StepsTo[set[str] | None]:
    """Record the logs created at a time.

    Returns:
        Their keys; None if there may be more.
    """
    after, before = time_below(created), time_above(created)
    listed_keys: set[str] = set()
    at_end, skip = False, 0
    while not at_end:
        try:
            page = yield FetchPage(skip, created_after=after, created_before=before)
        except BadRequest:
            context.state.ignores_time_filter = skip == 0
            return None
        if page is None or any(
            not after - TIME_FILTER_TOLERANCE <= time <= before + TIME_FILTER_TOLERANCE
            for time in _timestamps(page.entries)
        ):
            context.state.ignores_time_filter = True
            return None
        yield Record(page.new_entries(coverage.retention_floor))
        page_keys = {entry.key for entry in page.entries}
        at_end = _is_last_page(page)
        if page_keys <= listed_keys and not at_end:
            return None  # The list repeats itself, so logs that are not listed may still exist.
        listed_keys |= page_keys
        skip += max(1, len(page.entries) - PAGE_OVERLAP)
    return listed_keys


def _unlisted_pending(
    context: PollContext, coverage: Coverage, pending_logs: Sequence[PendingLog]
) -> StepsTo[Sequence[PendingLog]]:
    """Read one page of the list of pending logs.

    Returns:
        The logs that a complete scan of that list did not find, thus no longer pending; none until it is complete.
    """
    scan = context.state.pending_scan
    try:
        page = yield from _fetch_page(PagePosition(scan.skip), PENDING)
    except BadRequest:
        if scan.skip == 0:
            raise
        # The list is too long for the API; the reconciliation scan finds what is further down.
        context.state.pending_scan = PendingScan()
        return []
    new_entries = page.new_entries(coverage.retention_floor)
    if new_entries:
        yield Record(new_entries)
    scan.listed_keys.update(entry.key for entry in page.entries if entry.status == PENDING)
    page_keys = frozenset(entry.key for entry in page.entries)
    scan.has_moved |= scan.skip > 0 and page_keys.isdisjoint(scan.page_keys)
    if not _is_last_page(page):
        scan.skip, scan.page_keys = scan.skip + max(1, len(page.entries) - PAGE_OVERLAP), page_keys
        return []
    context.state.pending_scan = PendingScan()
    unlisted = [log for log in pending_logs if log.key not in scan.listed_keys]
    # What the scan may have missed can be looked up only by time or post.
    return [log for log in unlisted if not scan.has_moved or log.created or log.post_id]


def _reconcile(context: PollContext, coverage: Coverage, head: FetchedPage) -> ReaderSteps:
    """Continue the reconciliation scan; start one if the API has more logs than the store.

    A request that the API rejects ends the scan, not the poll.
    """
    state = context.state
    missing_count = _missing_count(context, head)
    if state.scan is None and missing_count:
        state.scan = ReconcileScan(target_count=missing_count)
    scan = state.scan
    if scan is None:
        return
    if _is_last_page(head):
        scan.is_complete = True
        return
    if not scan.cursor.page_keys:
        scan.cursor = _next_cursor(context, PagePosition(), head)
    regular_pages, urgent_pages = context.page_budget
    try:
        yield from _scan(context, scan, coverage, regular_pages if scan.is_regular else urgent_pages)
    except BadRequest as exc:
        state.scan, state.scan_error = None, exc


def _missing_count(context: PollContext, head: FetchedPage) -> int:
    coverage = context.coverage
    if head.total is None or coverage is None or coverage.gaps or not coverage.is_synced:
        return 0
    lowest = head.total - head.known_logs.stored_count - len(context.new_keys)
    highest = lowest + head.known_logs.expiring_count
    return context.state.surplus_detector.missing_count(context.now, lowest, highest)


def _scan(context: PollContext, scan: ReconcileScan, coverage: Coverage, page_budget: int) -> ReaderSteps:
    if not scan.caught_up_at and context.coverage:
        scan.caught_up_at = context.coverage.caught_up_at
    lower = coverage.retention_floor if scan.lower is None else scan.lower
    for _ in range(page_budget):
        page, position = yield from _seek(context, scan.cursor)
        new_entries = page.new_entries(coverage.retention_floor)
        for entry in new_entries:
            was_missed = entry.created is not None and entry.created < scan.caught_up_at - LATE_ARRIVAL_WINDOW
            yield Record((entry,), by_reconciliation=was_missed)
        target_reached = False
        if scan.target_count is not None:
            known_keys = context.new_keys | page.known_logs.statuses.keys()
            scan.target_count -= sum(entry.key not in known_keys for entry in new_entries)
            target_reached = scan.target_count <= 0
        next_cursor = _next_cursor(context, position, page, scan.cursor)
        scan.is_complete = (
            target_reached
            or _makes_no_progress(scan.cursor, next_cursor)
            or _ends_list(context, page, position)
            or _is_below(page, lower)
        )
        scan.cursor = next_cursor
        if scan.is_complete:
            return


def _fetch_page(position: PagePosition, status: str | None = None) -> StepsTo[FetchedPage]:
    """Fetch a page; retry once if it is the last one although ``total`` promises more rows."""
    step = FetchPage(position.skip, status, created_before=position.before)
    page = yield step
    if page is not None and _is_last_page(page) and (page.total or 0) > position.skip + len(page.entries):
        page = yield step
    if page is None:
        raise BadPayload("the API has no log list")
    return page


def _seek(context: PollContext, cursor: PageCursor) -> StepsTo[tuple[FetchedPage, PagePosition]]:
    """Find the page that continues at ``cursor`` without skipping a row.

    Returns:
        The page and its position.

    Raises:
        BadRequest: The API rejects the page, and there is no other way to it.
    """
    # Rows inserted or deleted since the last read move the page. Gallop in growing steps until it is bracketed, then
    # bisect; the list may move again meanwhile, so a bound that a later read contradicts is dropped. A page that starts
    # too high (``high``) only repeats rows; one that starts too low (``low``) would skip some, so a page without times
    # counts as too low, and the fallback is the top of the list.
    # See docs/design/page-seeking.md and docs/decisions/0002-reader-as-a-pure-generator.md.
    position, step = cursor.position, PAGE_SIZE // 2
    high, low = 0, None
    for _ in range(MAX_SEEK_READS):
        page, actual = yield from _fetch_at(context, cursor, position)
        if actual.before != position.before:
            high, low, step = 0, None, PAGE_SIZE // 2
        position, skip = actual, actual.skip
        if position.before is not None:
            # The bound may be far above the cursor, which is where it was expected in the whole list.
            position = msgspec.structs.replace(position, above=max(0, cursor.position.depth - skip))
        if (
            page is _UNREACHABLE
            or position.is_top
            or not cursor.page_keys
            or _continues(page, cursor, is_top=skip == 0)
        ):
            return page, position
        if not _timestamps(page.entries) or _is_below(page, cursor.created + (skip > 0)):
            if skip == 0:
                position = position.raised(cursor.created)
                high, low, step = 0, None, PAGE_SIZE // 2
                continue
            low, high = skip, high if high < skip else 0
        elif skip == high and (skip or low is not None):
            return page, position
        else:
            high, low = skip, low if low is not None and low > skip else None
        step *= 2
        if low is None:
            skip += step
        elif high:
            skip = (high + low) // 2
        else:
            skip = max(0, skip - step)
        position = msgspec.structs.replace(position, skip=skip)
    return (yield from _fetch_at(context, cursor, PagePosition()))


_UNREACHABLE = FetchedPage(LogPage(()), KnownLogs({}))
"""Page that the API does not show, and that need not be read: logs without a time may be on it."""


def _fetch_at(
    context: PollContext, cursor: PageCursor, position: PagePosition
) -> StepsTo[tuple[FetchedPage, PagePosition]]:
    """Fetch the page at a position, counted in another way if the API does not support this one."""
    while True:
        try:
            page = yield from _fetch_page(position)
        except BadRequest as exc:
            if cursor.tail_start is not None and position.before is None:
                context.state.max_whole_skip = min(context.state.max_whole_skip, max(0, position.skip - PAGE_SIZE))
                return _UNREACHABLE, position
            position = _avoid_rejection(context, cursor, position, exc)
        else:
            if not position.is_ignored(_timestamps(page.entries)):
                return page, position
            context.state.ignores_time_filter = True
            position = position.in_whole_list


def _avoid_rejection(
    context: PollContext, cursor: PageCursor, position: PagePosition, error: BadRequest
) -> PagePosition:
    """Return another position for a page that the API rejects; raise BadRequest if there is none."""
    state = context.state
    try:
        alternative = position.avoid(error, cursor.created, by_time=context.max_skip is not None)
    except BadRequest:
        # The next attempt tries the time filter again: whatever made the API ignore it may be over.
        state.ignores_time_filter = False
        raise
    if alternative.before is None:
        state.ignores_time_filter = True
    else:
        state.max_skip = min(state.max_skip, position.skip - 1)
    return alternative


def _continues(page: FetchedPage, cursor: PageCursor, *, is_top: bool) -> bool:
    times = _timestamps(page.entries)
    # The top of a list that is bounded by time has all logs of the time at which the page before ended.
    if times and times[0] > cursor.created - is_top >= times[-1] - is_top:
        return True
    return any(entry.key in cursor.anchors for entry in page.entries)


def _next_cursor(
    context: PollContext, position: PagePosition, page: FetchedPage, previous: PageCursor | None = None
) -> PageCursor:
    """Return the cursor after a page: it repeats the last rows, and all rows that share the time of the last one."""
    entries = page.entries
    if not entries:
        return PageCursor(position)
    last_created = entries[-1].created
    ties = 0
    for entry in reversed(entries):
        if entry.created != last_created:
            break
        ties += 1
    overlap = min(max(PAGE_OVERLAP, ties + page.without_ids), max(1, len(entries) // 2))
    page_keys = anchors = frozenset(entry.key for entry in entries)
    repeat_count = previous.repeat_count + 1 if previous and page_keys == previous.page_keys else 0
    if page.without_ids and overlap > ties:
        # The ordinals of the last rows restart if the next page begins among them, so their keys are no anchors.
        anchors = frozenset(entry.key for entry in entries[:-ties])
    times, row_count = _timestamps(entries), len(entries) - overlap
    tail_start = previous.tail_start if previous else None
    if position.before is not None and _is_last_page(page):
        # Logs without a time are in the whole list only, which also proves that this is its end.
        tail_start, next_position = min(times, default=0), PagePosition(position.depth + row_count)
    else:
        if tail_start is not None and min(times, default=tail_start) < tail_start:
            tail_start = None
        next_position = position.advance(times, row_count, context.max_skip if tail_start is None else None)
    if position.before is not None and repeat_count > MAX_REPEATS:
        # Whatever the API makes of the bound, it does not lead further.
        context.state.ignores_time_filter = True
        next_position, repeat_count = next_position.in_whole_list, 0
    return PageCursor(next_position, page_keys, _oldest(page).created, repeat_count, anchors, tail_start)


def _makes_no_progress(cursor: PageCursor, next_cursor: PageCursor) -> bool:
    """Return whether pages repeat the same logs: the end of a list that claims to have more.

    A single repetition, or one further up, may also be a list that has moved by exactly one page.
    """
    if cursor.page_keys != next_cursor.page_keys or next_cursor.position.depth < cursor.position.depth:
        return False
    return next_cursor.position == cursor.position or next_cursor.repeat_count > MAX_REPEATS


def _has_single_timestamp(page: FetchedPage) -> bool:
    """Return whether a page of logs without ids has only logs of the same time."""
    return page.without_ids and len({entry.created for entry in page.entries}) == 1


def _reaches_high_water_mark(page: FetchedPage, lower: int, *, strict: bool = False) -> bool:
    """Return whether a page has a known log older than ``lower``, or only logs older than ``lower``.

    Among the logs created at ``lower`` itself some may be new, and some may be known only because this gap is being
    read. A page of known logs that includes one of them is therefore enough only if not ``strict``.
    """
    known_entries = [entry for entry in page.entries if page.is_known(entry)]
    known_times = _timestamps(known_entries)
    if any(created < lower for created in known_times) or _is_below(page, lower):
        return True
    return not strict and lower in known_times and len(known_entries) == len(page.entries)


def _crosses_retention(page: FetchedPage, retention_floor: int) -> bool:
    """Return whether a page that is sorted from new to old ends below the retention floor."""
    times = _timestamps(page.entries)
    return bool(times) and times[0] > times[-1] and times[-1] < retention_floor


def _is_below(page: FetchedPage, limit: int) -> bool:
    times = _timestamps(page.entries)
    return bool(times) and max(times) < limit


def _is_last_page(page: FetchedPage) -> bool:
    row_count = len(page.entries)
    if row_count == 0:
        return True
    return row_count < PAGE_SIZE and page.page.has_more is not True


def _ends_list(context: PollContext, page: FetchedPage, position: PagePosition) -> bool:
    """Return whether no log follows; after the end of a list that is bounded by time, logs without a time may."""
    is_confirmed = position.before is None or position.depth > context.state.max_whole_skip
    return is_confirmed and _is_last_page(page)


def _timestamps(entries: Iterable[LogEntry]) -> list[int]:
    return [entry.created for entry in entries if entry.created is not None]


def _high_water_mark(head: FetchedPage) -> ListPosition | None:
    """Return the median of the first page: a single row with a wrong time must not move the high-water mark."""
    positions = sorted((entry.created, entry.key) for entry in head.entries if entry.created is not None)
    return ListPosition(*positions[len(positions) // 2]) if positions else None


def _oldest(page: FetchedPage, default: ListPosition | None = None) -> ListPosition:
    for entry in reversed(page.entries):
        if entry.created is not None:
            return ListPosition(entry.created, entry.key)
    return default or ListPosition(0, "")


def _mark_caught_up(coverage: Coverage, context: PollContext, since: int) -> Coverage:
    """Return the coverage after a gap was closed; logs that expired unread since ``since`` are lost."""
    complete_since = coverage.complete_since
    if since and since < context.now - context.retention:
        complete_since = max(complete_since, context.now - context.retention)
    caught_up_at = coverage.caught_up_at if coverage.gaps else context.now
    return msgspec.structs.replace(coverage, complete_since=complete_since, caught_up_at=caught_up_at)
