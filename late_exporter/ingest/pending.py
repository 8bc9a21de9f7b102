"""Look up the final status of pending logs, as a part of the reader."""

from __future__ import annotations

from collections.abc import Sequence

from late_exporter.errors import BadRequest
from late_exporter.ingest.paging import TIME_FILTER_TOLERANCE, PagePosition, time_above, time_below
from late_exporter.ingest.seeking import PAGE_OVERLAP, StepsTo, fetch_page, is_last_page, timestamps
from late_exporter.ingest.steps import FetchPage, FetchPost, PendingScan, PollContext, ReaderSteps, Record
from late_exporter.model import PAGE_SIZE, PENDING, Coverage, PendingLog


def resolve_pending(context: PollContext, coverage: Coverage, pending_logs: Sequence[PendingLog]) -> ReaderSteps:
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
            for time in timestamps(page.entries)
        ):
            context.state.ignores_time_filter = True
            return None
        yield Record(page.new_entries(coverage.retention_floor))
        page_keys = {entry.key for entry in page.entries}
        at_end = is_last_page(page)
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
        page = yield from fetch_page(PagePosition(scan.skip), PENDING)
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
    if not is_last_page(page):
        scan.skip, scan.page_keys = scan.skip + max(1, len(page.entries) - PAGE_OVERLAP), page_keys
        return []
    context.state.pending_scan = PendingScan()
    unlisted = [log for log in pending_logs if log.key not in scan.listed_keys]
    # What the scan may have missed can be looked up only by time or post.
    return [log for log in unlisted if not scan.has_moved or log.created or log.post_id]
