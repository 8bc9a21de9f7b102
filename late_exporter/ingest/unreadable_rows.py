"""Read a page that the API cannot deliver as a whole in ever smaller parts, to leave out only unreadable rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

from late_exporter.errors import REQUEST_FAILURES, ApiError, BadPayload
from late_exporter.model import PAGE_SIZE, LogEntry, LogPage

MAX_FAILURES = 60
"""Failed requests for one page, with which far too many of its rows are unreadable."""

FetchRows: TypeAlias = Callable[[int, int], Awaitable[LogPage]]
"""Request some rows of the page, given their offset and number."""

NumberEntries: TypeAlias = Callable[[Sequence[LogEntry]], Sequence[LogEntry]]
"""Number identical logs of several parts."""


async def read_around_rows(
    fetch_rows: FetchRows, number_entries: NumberEntries | None = None
) -> tuple[LogPage, Mapping[str, int]]:
    """Read a page without its unreadable rows; ``number_entries`` is given for logs without ids.

    Returns:
        The page, and the number of unreadable rows by the key of the log that follows them; the
        next page has those at the end.

    Raises:
        ApiError: The API rather than some rows is at fault: the first and the last row, or the
            larger part, fail. Or the list has moved, so that a row may be on two parts or on none.
    """
    ends = await _read_ends(fetch_rows)
    rows, total, has_more, error = await _read_parts(fetch_rows)
    readable = [row for row in rows if row is not None]
    if error is not None and len(readable) * 2 < len(rows):
        raise error
    if await _read_ends(fetch_rows) != ends:
        raise BadPayload("the list has moved while a page was read in parts")
    entries = readable if number_entries is None else number_entries(readable)
    has_unreadable = len(readable) < len(rows)
    without_ids = number_entries is not None
    page = LogPage(
        tuple(entries), total, has_more, without_ids=without_ids, has_unreadable=has_unreadable
    )
    return page, _count_skipped(rows)


async def _read_parts(
    fetch_rows: FetchRows,
) -> tuple[list[LogEntry | None], int | None, bool, ApiError | None]:
    """Return the rows, None for each that is unreadable; the total, whether there are more, and the last failure."""
    rows: list[LogEntry | None] = []
    error = None
    failure_count = 0
    total = None
    has_more = True
    parts = [(PAGE_SIZE // 2, PAGE_SIZE // 2), (0, PAGE_SIZE // 2)]
    while parts and has_more:
        offset, size = parts.pop()
        try:
            page = await fetch_rows(offset, size)
        except REQUEST_FAILURES as exc:
            error, failure_count = exc, failure_count + 1
            if failure_count > MAX_FAILURES:
                raise
            if size > 1:
                parts += [(offset + size // 2, size - size // 2), (offset, size // 2)]
            else:
                rows.append(None)
            continue
        rows += page.entries
        count = len(page.entries)
        total, has_more = page.total, page.has_more is True or count >= size
        if 0 < count < size:  # The API returns fewer rows than requested.
            parts.append((offset + count, size - count))
    return rows, total, has_more, error


def _count_skipped(rows: Sequence[LogEntry | None]) -> Mapping[str, int]:
    skipped, count = dict[str, int](), 0
    for row in rows:
        if row is None:
            count += 1
        elif count:
            skipped[row.key], count = count, 0
    return skipped


async def _read_ends(fetch_rows: FetchRows) -> list[object]:
    """Return what changes if rows are inserted or deleted: the total, and the first and the last row of the page.

    One of the two may be unreadable.
    """
    ends: list[object] = []
    error: ApiError | None = None
    for offset in (0, PAGE_SIZE - 1):
        try:
            page = await fetch_rows(offset, 1)
        except REQUEST_FAILURES as exc:
            if error is not None:
                raise
            error = exc
        else:
            ends.append(([entry.key for entry in page.entries], page.total))
    return ends
