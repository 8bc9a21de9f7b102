"""Find the pages of a log list that moves while it is read.

Generators as in ``late_exporter.ingest.reader``: they yield steps and are sent the results. See
docs/design/page-seeking.md.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias, TypeVar

import msgspec

from late_exporter.errors import REQUEST_FAILURES, ApiError, BadPayload, BadRequest
from late_exporter.ingest.paging import PagePosition
from late_exporter.ingest.reader_state import PageCursor, PollContext
from late_exporter.ingest.request_queue import RequestKey
from late_exporter.ingest.steps import FetchedPage, FetchPage, ReaderStep, ReportFailure
from late_exporter.model import PAGE_OVERLAP, PAGE_SIZE, KnownLogs, ListPosition, LogPage

ResultT = TypeVar("ResultT")
StepsTo: TypeAlias = Generator[ReaderStep, FetchedPage | None, ResultT]
"""Generator of steps that returns a result."""

MAX_REPEATS = 3
"""Consecutive pages that may contain the same logs at another place of the list."""

MAX_VAIN_PAGES = 10
"""Times that a page may be found above its position until one leads further down, or to older logs, than all before.

A list may shrink while it is read.
"""

MAX_SEEK_READS = 40
"""Maximum number of reads to find the page that continues the last one on a list that moves."""

MAX_VAIN_BOUNDS = 2
"""Consecutive bounds that lead to nothing, though raised again and again, after which pages are not requested by time.

A list that was emptied meanwhile may cause one.
"""

MAX_PAGE_FAILURES = 3
"""Failed attempts to read a page after which it is read in parts."""


def report_failure(context: PollContext, request: RequestKey, error: ApiError) -> StepsTo[None]:
    """Report a request that failed, and let it wait longer each time."""
    context.state.queue.fail(request)
    yield ReportFailure(request[0], error.without_frames())


def fetch_page(position: PagePosition, status: str | None = None) -> StepsTo[FetchedPage]:
    """Fetch a page; retry once if it is the last one although ``total`` promises more rows."""
    step = FetchPage(position.skip, status, created_before=position.before)
    page = yield step
    if page is not None and page.is_last and (page.total or 0) > position.skip + len(page.entries):
        page = yield step
    if page is None:
        raise BadPayload("the API has no log list")
    return page


def seek(context: PollContext, cursor: PageCursor) -> StepsTo[tuple[FetchedPage, PagePosition]]:
    """Find the page that continues at ``cursor`` without skipping a row.

    Returns:
        The page and its position.

    Raises:
        BadRequest: The API rejects the page, and there is no other way to it.
        ApiError: The page cannot be read.
    """
    page, position = yield from _find_page(context, cursor)
    state = context.state
    if position.before is not None:
        state.vain_bound_count = 0
    elif cursor.position.before is not None and position.is_top and page.times:
        # No bound led to the cursor. One that hides everything would keep the reader at the top of the list.
        state.vain_bound_count += 1
        state.ignores_time_filter |= state.vain_bound_count >= MAX_VAIN_BOUNDS
    return page, position


def _find_page(context: PollContext, cursor: PageCursor) -> StepsTo[tuple[FetchedPage, PagePosition]]:
    """Fetch the page at which ``cursor`` continues; it may repeat rows, but never skips any.

    Returns:
        The page and its position.
    """
    # Rows inserted or deleted since the last read move the page. Gallop in growing steps until it is bracketed, then
    # bisect; the list may move again meanwhile, so a bound that a later read contradicts is dropped. A page that starts
    # too high (``high``) only repeats rows; one that starts too low (``low``) would skip some, so a page without times
    # counts as too low, and the fallback is the top of the list.
    # See docs/design/page-seeking.md and docs/decisions/0002-reader-as-a-pure-generator.md.
    position, step = cursor.position, PAGE_SIZE // 2
    high: int | None = None
    low: int | None = None
    high_keys = frozenset[str]()
    for _ in range(MAX_SEEK_READS):
        page, actual = yield from _fetch_at(context, cursor, position)
        if actual.before != position.before:
            high, low, step = None, None, PAGE_SIZE // 2
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
        if not page.times or is_below(page, cursor.created + (skip > 0)):
            if skip == 0:
                position = position.raised(cursor.created)
                high, low, step = None, None, PAGE_SIZE // 2
                continue
            low, high = skip, high if high is not None and high < skip else None
        elif skip == high or high_keys == (page_keys := frozenset(entry.key for entry in page.entries)):
            return page, position  # There is nothing in between, or the API does not skip more rows.
        else:
            high, low, high_keys = skip, low if low is not None and low > skip else None, page_keys
        step *= 2
        if low is None:
            skip += step
        elif high is not None:
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
            page = yield from fetch_readable(position, cursor.failure_count)
        except BadRequest as exc:
            if cursor.tail_start is not None and position.before is None:
                context.state.max_whole_skip = min(context.state.max_whole_skip, max(0, position.skip - PAGE_SIZE))
                return _UNREACHABLE, position
            position = _avoid_rejection(context, cursor, position, exc)
        except REQUEST_FAILURES as exc:
            if cursor.failure_count + 1 < MAX_PAGE_FAILURES:
                raise
            if position.before is not None:
                return (yield from _fetch_without_bound(context, position, exc))
            if cursor.tail_start is None:
                raise
            return _UNREACHABLE, position
        else:
            if not position.is_ignored(page.times):
                return page, position
            context.state.ignores_time_filter = True
            position = position.in_whole_list


def _fetch_without_bound(
    context: PollContext, position: PagePosition, error: ApiError
) -> StepsTo[tuple[FetchedPage, PagePosition]]:
    """Fetch a page that fails with a bound from the whole list; raise ``error`` if that fails, too."""
    try:
        page = yield from fetch_page(position.in_whole_list)
    except REQUEST_FAILURES:
        raise error from None
    try:
        yield from fetch_page(position)
    except REQUEST_FAILURES:
        # The API was not just down for all requests.
        context.state.ignores_time_filter = True
    return page, position.in_whole_list


def fetch_readable(position: PagePosition, failure_count: int) -> StepsTo[FetchedPage]:
    """Fetch a page; if that has failed too often before, without the rows that the API cannot deliver."""
    try:
        return (yield from fetch_page(position))
    except REQUEST_FAILURES as exc:
        if failure_count + 1 < MAX_PAGE_FAILURES:
            raise
        try:
            page = yield FetchPage(position.skip, created_before=position.before, in_parts=True)
        except REQUEST_FAILURES:
            raise exc from None
        if page is None:
            raise
        return page


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
    times = page.times
    # The top of a list that is bounded by time has all logs of the time at which the page before ended.
    if times and times[0] > cursor.created - is_top >= times[-1] - is_top:
        return True
    return any(entry.key in cursor.anchors for entry in page.entries)


def is_connected(page: FetchedPage, cursor: PageCursor, position: PagePosition) -> bool:
    """Return whether no row can be between a page and the one before, given where the page was found."""
    return not position.is_top and bool(cursor.page_keys) and _continues(page, cursor, is_top=position.skip == 0)


def advance_cursor(
    context: PollContext, position: PagePosition, page: FetchedPage, previous: PageCursor | None = None
) -> PageCursor:
    """Return the cursor after a page: it repeats the last rows, and all rows that share the time of the last one."""
    entries = page.entries
    if not entries:
        return PageCursor(position)
    ties, overlap = _overlap(page)
    page_keys = anchors = frozenset([entry.key for entry in entries])
    is_repeated = previous and page_keys == previous.page_keys and not page.page.may_share_keys(position.skip)
    repeat_count = previous.repeat_count + 1 if previous and is_repeated else 0
    if page.without_ids and overlap > ties:
        # The ordinals of the last rows restart if the next page begins among them, so their keys are no anchors.
        anchors = frozenset(entry.key for entry in entries[:-ties])
    times, row_count = page.times, len(entries) - overlap
    tail_start = previous.tail_start if previous else None
    if position.before is not None and page.is_last:
        # Logs without a time are in the whole list only, which also proves that this is its end.
        tail_start, next_position = min(times, default=0), PagePosition(position.depth + row_count)
    else:
        if tail_start is not None and min(times, default=tail_start) < tail_start:
            tail_start = None
        next_position = position.advance(times, row_count, context.max_skip if tail_start is None else None)
    created = oldest(page).created
    reach, vain_count = (next_position.depth, created), 0
    if previous is not None and previous.reach is not None and not position.is_top:
        deepest, lowest = previous.reach
        if next_position.depth <= deepest and created >= lowest:
            expected = previous.position
            is_back = position.skip < expected.skip or position.before != expected.before
            vain_count = previous.vain_count + is_back
        reach = max(next_position.depth, deepest), min(created, lowest)
    if position.before is not None and max(repeat_count, vain_count) > MAX_REPEATS:
        # However the API reads the bound, it leads no further.
        context.state.ignores_time_filter = True
        next_position, repeat_count, vain_count = next_position.in_whole_list, 0, 0
    return PageCursor(
        next_position, page_keys, created, repeat_count, anchors, tail_start, vain_count=vain_count, reach=reach
    )


def _overlap(page: FetchedPage) -> tuple[int, int]:
    """Return how many rows at the end of a page share a time, and how many rows the next page repeats."""
    entries = page.entries
    ties = next((n for n, entry in enumerate(reversed(entries)) if entry.created != entries[-1].created), len(entries))
    return ties, min(max(PAGE_OVERLAP, ties + page.without_ids), max(1, len(entries) // 2))


def splits_time(page: FetchedPage) -> bool:
    """Return whether the next page is not known to repeat all logs of the time at which a page ends."""
    ties, overlap = _overlap(page)
    return overlap <= ties and not page.is_last


def makes_no_progress(cursor: PageCursor, next_cursor: PageCursor) -> bool:
    """Return whether pages repeat the same logs, or lead back up: the end of a list that claims to have more.

    A single repetition, or one further up, may also be a list that has moved by exactly one page.

    Raises:
        BadPayload: The pages have more than the last rows of the list, so that others are out of reach.
    """
    if next_cursor.vain_count <= MAX_VAIN_PAGES:
        if cursor.page_keys != next_cursor.page_keys or next_cursor.position.depth < cursor.position.depth:
            return False
        if next_cursor.position != cursor.position and next_cursor.repeat_count <= MAX_REPEATS:
            return False
    if len(cursor.page_keys) > PAGE_OVERLAP and cursor.tail_start is None:
        raise BadPayload(f"the log list repeats the same page at skip={next_cursor.position.skip}")
    return True


def is_below(page: FetchedPage, limit: int) -> bool:
    """Return whether a page has logs with a time, and all of them are older than a limit."""
    times = page.times
    return bool(times) and max(times) < limit


def ends_list(context: PollContext, page: FetchedPage, position: PagePosition) -> bool:
    """Return whether no log follows; after the end of a list that is bounded by time, logs without a time may."""
    is_confirmed = position.before is None or position.depth > context.state.max_whole_skip
    return is_confirmed and page.is_last


def oldest(page: FetchedPage, default: ListPosition | None = None) -> ListPosition:
    """Return the position of the last log of a page that has a time."""
    for entry in reversed(page.entries):
        if entry.created is not None:
            return ListPosition(entry.created, entry.key)
    return default or ListPosition(0, "")
