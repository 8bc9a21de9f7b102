"""Which pages of a log list to read, and when to stop.

The reader knows neither network nor database nor clock. It is a generator: it yields a step, and is sent what came of
it. Closing it between two steps is always safe, because every Count carries the coverage that is true with it.

The list is read from its newest end. Known ground is what Coverage.head and the logs below it cover; the stretch
between what was just read and known ground is a gap, and a gap is remembered until it has been read to its end. So a
first sync, a catch-up after an outage and a catch-up that died half-way are one and the same thing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence

import msgspec

from late_exporter.errors import BadPayload
from late_exporter.ingest.steps import (
    FetchedPage,
    FetchPage,
    FetchPost,
    FetchWindow,
    PageCursor,
    PollContext,
    ReaderStep,
    ReaderSteps,
    ReconcileScan,
    Record,
)
from late_exporter.model import PAGE_SIZE, PENDING, Coverage, Gap, ListPosition, LogEntry, PendingLog

__all__ = ["LATE_ARRIVAL_WINDOW", "poll"]

LATE_ARRIVAL_WINDOW = 3_600_000
"""A log may appear this much later than its createdAt says: its row is written when the attempt ends."""

PAGE_OVERLAP = 2
"""Rows that two pages share at least, so that a shift between the two reads is noticed."""

TIME_FILTER_TOLERANCE = 1000
"""Milliseconds by which the logs of a time may be beside it."""

MAX_REPEATS = 3
"""Pages that may in a row hold the same logs as the one before, at another place."""

MAX_SEEK_READS = 40
"""How often a page is looked for that joins the one before, on a list that moves."""


def poll(context: PollContext) -> ReaderSteps:
    """One poll of a feed: the newest logs, the gaps, the pending ones, and a stretch of a walk."""
    if context.scan is None and context.first_poll and context.coverage and context.coverage.newest:
        # Begun before anything is read, so that it outlives a poll that fails.
        caught_up_at = context.coverage.caught_up_at
        context.scan = ReconcileScan(
            lower=min(context.coverage.newest.created, caught_up_at or context.now) - LATE_ARRIVAL_WINDOW,
            caught_up_at=caught_up_at,
        )
    head = yield from _fetch_page(0)
    coverage, cursor = yield from _record_head(context, head)
    for gap in coverage.gaps:
        coverage = yield from _fill_gap(context, coverage, gap, cursor)
        cursor = None
    if not coverage.is_synced:
        coverage = yield from _complete_sync(context, coverage)
    head_keys = {entry.key for entry in head.entries}
    yield from _resolve_pending(
        context, coverage, [log for key, log in context.pending_logs.items() if key not in head_keys]
    )
    yield from _reconcile(context, coverage, head)


def _record_head(
    context: PollContext, head: FetchedPage
) -> Generator[ReaderStep, FetchedPage | None, tuple[Coverage, PageCursor | None]]:
    """Count the first page; where it does not reach known ground, what lies between becomes a gap."""
    previous = context.coverage or _initial_coverage(context, head)
    lower = previous.newest.created if previous.newest else previous.retention_floor
    new_count = sum(entry.key not in head.known_logs.statuses for entry in head.entries)
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
        cursor = _next_cursor(0, head)
        gap = Gap(_oldest(head), lower, cursor.skip, previous.caught_up_at)
        coverage = msgspec.structs.replace(coverage, gaps=(gap, *shifted_gaps))
    yield Record(_new_entries(context, head, previous.retention_floor), coverage)
    return coverage, cursor


def _initial_coverage(context: PollContext, head: FetchedPage) -> Coverage:
    """The coverage before the first sync; a clock that puts the newest log beyond the retention is not believed."""
    newest = max(_timestamps(head.entries), default=context.now)
    now = context.now if newest > context.now - context.retention else newest
    retention_floor = now - min(context.lookback, context.retention)
    return Coverage(retention_floor=retention_floor, complete_since=retention_floor, generation=context.generation)


def _fill_gap(
    context: PollContext, coverage: Coverage, gap: Gap, start: PageCursor | None
) -> Generator[ReaderStep, FetchedPage | None, Coverage]:
    """Read a gap to its end; every page makes it smaller, and durably so."""
    upper = frozenset((gap.upper.key,))
    anchors = frozenset() if context.supports_time_filter else upper
    cursor = start or PageCursor(max(0, gap.depth - PAGE_OVERLAP), upper, gap.upper.created, anchors=anchors)
    while gap in coverage.gaps:
        page, skip = yield from _seek(cursor)
        next_cursor = _next_cursor(skip, page, cursor)
        no_progress = _no_progress(cursor, next_cursor)
        if no_progress and len(cursor.page_keys) >= PAGE_SIZE:
            raise BadPayload(f"the list of logs does not move on at skip={next_cursor.skip}")
        if no_progress or _is_last_page(page) or _reaches_high_water_mark(page, gap.lower, strict=True):
            other_gaps = tuple(other for other in coverage.gaps if other != gap)
            coverage = _mark_caught_up(
                msgspec.structs.replace(coverage, gaps=other_gaps), context, gap.last_complete_at
            )
        else:
            rest = Gap(_oldest(page, gap.upper), gap.lower, next_cursor.skip, gap.last_complete_at)
            gaps = tuple(rest if other == gap else other for other in coverage.gaps)
            coverage = msgspec.structs.replace(coverage, gaps=gaps)
            gap, cursor = rest, next_cursor
        yield Record(
            _new_entries(context, page, coverage.retention_floor),
            coverage,
            splits_timestamp=_has_single_timestamp(page),
        )
    return coverage


def _new_entries(context: PollContext, page: FetchedPage, retention_floor: int) -> tuple[LogEntry, ...]:
    entries = page.new_entries(retention_floor)
    context.new_keys.update(entry.key for entry in entries if entry.key not in page.known_logs.statuses)
    return entries


def _complete_sync(context: PollContext, coverage: Coverage) -> Generator[ReaderStep, FetchedPage | None, Coverage]:
    coverage = msgspec.structs.replace(coverage, is_synced=True, published_at=context.now)
    yield Record((), coverage)
    return coverage


def _resolve_pending(context: PollContext, coverage: Coverage, pending_logs: Sequence[PendingLog]) -> ReaderSteps:
    """Learn what became of pending logs that the first page did not show."""
    if not pending_logs:
        return
    unlisted = yield from _unlisted_pending(context, coverage, pending_logs)
    unresolvable = tuple(
        log.key for log in unlisted if not (log.created if context.supports_time_filter else log.post_id)
    )
    if unresolvable:
        yield Record((), deleted_keys=unresolvable)
    yield from (
        _resolve_by_time(context, coverage, unlisted)
        if context.supports_time_filter
        else _resolve_by_post(context, coverage, unlisted)
    )


def _resolve_by_post(context: PollContext, coverage: Coverage, pending_logs: Sequence[PendingLog]) -> ReaderSteps:
    """Ask the posts of some logs for what became of them."""
    by_post: dict[str, set[str]] = {}
    for log in pending_logs:
        if log.post_id:
            by_post.setdefault(log.post_id, set()).add(log.key)
    for post_id in list(by_post)[: context.lookup_budget]:
        page = yield FetchPost(post_id)
        entries = page.entries if page else ()
        deleted_keys = by_post[post_id] - {entry.key for entry in entries} if len(entries) < PAGE_SIZE else set()
        yield Record(
            page.new_entries(coverage.retention_floor) if page else (), deleted_keys=tuple(sorted(deleted_keys))
        )


def _resolve_by_time(context: PollContext, coverage: Coverage, pending_logs: Sequence[PendingLog]) -> ReaderSteps:
    """Look at the times of some logs for what became of them; a list that shows others too is left to the walks."""
    by_time: dict[int, set[str]] = {}
    for log in pending_logs:
        if log.created:
            by_time.setdefault(log.created, set()).add(log.key)
    for created in [] if context.pending_scan.window_unsupported else list(by_time)[: context.lookup_budget]:
        listed_keys: set[str] = set()
        at_end, skip = False, 0
        while not at_end:
            page = yield FetchWindow(created, skip)
            if page is None or any(abs(other - created) > TIME_FILTER_TOLERANCE for other in _timestamps(page.entries)):
                context.pending_scan.window_unsupported = True
                return
            yield Record(page.new_entries(coverage.retention_floor))
            if listed_keys.issuperset(entry.key for entry in page.entries) and not _is_last_page(page):
                return  # it does not move on, and has not shown all
            listed_keys.update(entry.key for entry in page.entries)
            at_end, skip = _is_last_page(page), skip + max(1, len(page.entries) - PAGE_OVERLAP)
        yield Record((), deleted_keys=tuple(sorted(by_time[created] - listed_keys)))


def _unlisted_pending(
    context: PollContext, coverage: Coverage, pending_logs: Sequence[PendingLog]
) -> Generator[ReaderStep, FetchedPage | None, Sequence[PendingLog]]:
    """The logs of ``pending_logs`` that the API no longer lists as pending."""
    scan = context.pending_scan
    page = yield from _fetch_page(scan.skip, PENDING)
    new_entries = page.new_entries(coverage.retention_floor)
    if new_entries:
        yield Record(new_entries)
    scan.listed_keys.update(entry.key for entry in page.entries if entry.status == PENDING)
    if not _is_last_page(page):
        scan.skip += max(1, len(page.entries) - PAGE_OVERLAP)
        return []
    listed_keys, scan.listed_keys, scan.skip = scan.listed_keys, set(), 0
    return [log for log in pending_logs if log.key not in listed_keys]


def _reconcile(context: PollContext, coverage: Coverage, head: FetchedPage) -> ReaderSteps:
    """Walk over known ground where that is due, and where the API shows more than is known."""
    missing_count = _missing_count(context, head)
    if context.scan is None and missing_count:
        context.scan = ReconcileScan(target_count=missing_count)
    if context.scan is None:
        return
    if _is_last_page(head):
        context.scan.is_complete = True
        return
    if not context.scan.cursor.page_keys:
        context.scan.cursor = _next_cursor(0, head)
    regular_pages, urgent_pages = context.page_budget
    yield from _scan(
        context,
        context.scan,
        coverage,
        regular_pages if context.scan.target_count is context.scan.lower is None else urgent_pages,
    )


def _missing_count(context: PollContext, head: FetchedPage) -> int:
    coverage = context.coverage
    if head.page.total is None or coverage is None or coverage.gaps or not coverage.is_synced:
        return 0
    lowest = head.page.total - head.known_logs.stored_count - len(context.new_keys)
    return context.surplus_detector.missing_count(context.now, lowest, lowest + head.known_logs.expiring_count)


def _scan(context: PollContext, scan: ReconcileScan, coverage: Coverage, page_budget: int) -> ReaderSteps:
    if not scan.caught_up_at and context.coverage:
        scan.caught_up_at = context.coverage.caught_up_at
    lower = coverage.retention_floor if scan.lower is None else scan.lower
    for _ in range(page_budget):
        page, skip = yield from _seek(scan.cursor)
        new_entries = page.new_entries(coverage.retention_floor)
        for entry in new_entries:
            yield Record(
                (entry,),
                by_reconciliation=entry.created is not None and entry.created < scan.caught_up_at - LATE_ARRIVAL_WINDOW,
            )
        if scan.target_count is not None:
            scan.target_count -= sum(
                entry.key not in context.new_keys | page.known_logs.statuses.keys() for entry in new_entries
            )
        next_cursor = _next_cursor(skip, page, scan.cursor)
        target_reached = scan.target_count is not None and scan.target_count <= 0
        scan.is_complete = (
            target_reached or _no_progress(scan.cursor, next_cursor) or _is_last_page(page) or _is_below(page, lower)
        )
        scan.cursor = next_cursor
        if scan.is_complete:
            return


def _fetch_page(skip: int, status: str | None = None) -> Generator[ReaderStep, FetchedPage | None, FetchedPage]:
    """A page; read once more where it ends the list while its ``total`` says that the list goes on."""
    page = yield FetchPage(skip, status)
    if page is not None and _is_last_page(page) and (page.page.total or 0) > skip + len(page.entries):
        page = yield FetchPage(skip, status)
    if page is None:
        raise BadPayload("the API does not know its own list of logs")
    return page


def _seek(cursor: PageCursor) -> Generator[ReaderStep, FetchedPage | None, tuple[FetchedPage, int]]:
    """The page that goes on at ``cursor`` without leaving out a row, and where it begins.

    Where the list has moved since, the page is sought by time: first in growing leaps, then in halves. A page that
    begins too high repeats rows, which is harmless; one that begins too low would leave some out. So a page that tells
    no time is taken for one that begins too low.
    """
    skip, step = cursor.skip, PAGE_SIZE // 2
    high, low = 0, None
    for _ in range(MAX_SEEK_READS):
        page = yield from _fetch_page(skip)
        if skip == 0 or not cursor.page_keys or _continues(page, cursor):
            return page, skip
        if not _timestamps(page.entries) or _is_below(page, cursor.created + 1):
            # The list may have moved up since a page was seen to begin high enough.
            low, high = skip, high if high < skip else 0
        elif skip == high:
            return page, skip
        else:
            high, low = skip, low if low is not None and low > skip else None
        step *= 2
        if low is None:
            skip += step
        elif high:
            skip = (high + low) // 2
        else:
            skip = max(0, skip - step)
    page = yield from _fetch_page(0)
    return page, 0


def _continues(page: FetchedPage, cursor: PageCursor) -> bool:
    times = _timestamps(page.entries)
    if times and times[0] > cursor.created >= times[-1]:
        return True
    return any(entry.key in cursor.anchors for entry in page.entries)


def _next_cursor(skip: int, page: FetchedPage, previous: PageCursor | None = None) -> PageCursor:
    """Where to go on after a page: on its last rows, and on all that share the time of the last one."""
    entries = page.entries
    if not entries:
        return PageCursor(skip)
    last_created = entries[-1].created
    ties = 0
    for entry in reversed(entries):
        if entry.created != last_created:
            break
        ties += 1
    overlap = min(max(PAGE_OVERLAP, ties + page.page.without_ids), max(1, len(entries) // 2))
    page_keys = anchors = frozenset(entry.key for entry in entries)
    repeat_count = previous.repeat_count + 1 if previous and page_keys == previous.page_keys else 0
    if page.page.without_ids and overlap > ties:
        # Logs that are told apart by number alone may be others of the same time.
        anchors = frozenset(entry.key for entry in entries[:-ties])
    return PageCursor(skip + len(entries) - overlap, page_keys, _oldest(page).created, repeat_count, anchors)


def _no_progress(cursor: PageCursor, next_cursor: PageCursor) -> bool:
    """Whether pages bring nothing but what the one before had: the end of a list that denies it.

    Once, or further up, it may be a list that has moved by just as much.
    """
    if cursor.page_keys != next_cursor.page_keys or next_cursor.skip < cursor.skip:
        return False
    return next_cursor.skip == cursor.skip or next_cursor.repeat_count > MAX_REPEATS


def _has_single_timestamp(page: FetchedPage) -> bool:
    """Whether a page of logs that are told apart by number alone has those of one time only."""
    times = {entry.created for entry in page.entries}
    return page.page.without_ids and len(times) == 1


def _reaches_high_water_mark(page: FetchedPage, lower: int, *, strict: bool = False) -> bool:
    """Known ground is reached by a known log below ``lower``, or where everything is below it.

    Of the logs at ``lower`` itself some may be new, and others known only since this gap is being read: where all of a
    page are known, that will do, unless ``strict`` asks for more.
    """
    known_entries = [entry for entry in page.entries if entry.key in page.known_logs.statuses]
    times = _timestamps(known_entries)
    if any(created < lower for created in times) or _is_below(page, lower):
        return True
    return not strict and lower in times and len(known_entries) == len(page.entries)


def _crosses_retention(page: FetchedPage, retention_floor: int) -> bool:
    """Whether a page that runs from new to old ends out of scope."""
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


def _timestamps(entries: Iterable[LogEntry]) -> list[int]:
    return [entry.created for entry in entries if entry.created is not None]


def _high_water_mark(head: FetchedPage) -> ListPosition | None:
    """The middle of the first page: one row with a wrong time must not move known ground."""
    positions = sorted((entry.created, entry.key) for entry in head.entries if entry.created is not None)
    return ListPosition(*positions[len(positions) // 2]) if positions else None


def _oldest(page: FetchedPage, default: ListPosition | None = None) -> ListPosition:
    for entry in reversed(page.entries):
        if entry.created is not None:
            return ListPosition(entry.created, entry.key)
    return default or ListPosition(0, "")


def _mark_caught_up(coverage: Coverage, context: PollContext, since: int) -> Coverage:
    """The coverage after known ground was reached; what expired unread since ``since`` is lost."""
    start = coverage.complete_since
    if since and since < context.now - context.retention:
        start = max(start, context.now - context.retention)
    return msgspec.structs.replace(
        coverage, complete_since=start, caught_up_at=coverage.caught_up_at if coverage.gaps else context.now
    )
