"""Read a page of a log list, by several requests if one cannot deliver it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

from late_exporter.api.plausibility import check_readable, check_unmoved
from late_exporter.errors import REQUEST_FAILURES, ApiError, ResponseTooLarge
from late_exporter.model import PAGE_SIZE, LogEntry, LogPage

PART_SIZE = PAGE_SIZE // 2
"""Rows of the first part of a page that is read in parts."""

MAX_FAILURES = 60
"""Failed requests for one page, with which far too many of its rows are unreadable."""

MAX_TIME_LOGS = 10_000
"""Logs without ids of one time that are read together."""

FetchRows: TypeAlias = Callable[[int, int], Awaitable[LogPage]]
"""Request some rows of a page, given their offset and number."""

NumberEntries: TypeAlias = Callable[[Sequence[LogEntry]], Sequence[LogEntry]]
"""Number identical logs of several parts."""


async def read_page(
    fetch_rows: FetchRows, number_entries: NumberEntries | None, *, in_parts: bool
) -> LogPage:
    """Read a page; one that is too large is read in parts.

    Args:
        fetch_rows: Requests some of its rows.
        number_entries: Given for logs without ids.
        in_parts: Whether to read it in parts in any case.

    Raises:
        ApiError: The request failed, or the response cannot be right.
    """
    if not in_parts:
        try:
            return await fetch_rows(0, PAGE_SIZE)
        except ResponseTooLarge:
            pass  # It will be as large the next time, but the parts may be small enough.
    return await _read_around_rows(fetch_rows, number_entries)


async def _read_around_rows(fetch_rows: FetchRows, number_entries: NumberEntries | None) -> LogPage:
    """Read a page in parts, to leave out only unreadable rows.

    A page of logs without ids goes on until their time ends, because their ordinals number alike
    logs of one time.

    Args:
        fetch_rows: Requests a part.
        number_entries: Given for logs without ids.

    Raises:
        ApiError: The API rather than some rows is at fault: the first and the last row, or the
            larger part of all rows, fail. Or the list moves during every reading, so that a row may
            be on two parts or on none.
    """
    before = await _read_ends(fetch_rows)
    move_count = 0
    while True:
        page = await _read_rows(fetch_rows, number_entries)
        after = await _read_ends(fetch_rows)
        if after == before:
            return page
        move_count += 1
        check_unmoved(move_count)
        before = after


async def _read_rows(fetch_rows: FetchRows, number_entries: NumberEntries | None) -> LogPage:
    """Read a page in parts, of a list that does not move."""
    rows: list[LogEntry | None] = []  # None for each that is unreadable
    error: ApiError | None = None
    failure_count = 0
    total: int | None = None
    has_more = True

    # A part that fails is halved, down to a single row; after that they grow again.
    size = PART_SIZE
    while has_more and (len(rows) < PAGE_SIZE or (number_entries and _have_one_time(rows))):
        try:
            part = await fetch_rows(len(rows), size)
        except REQUEST_FAILURES as exc:
            error = exc
            failure_count += 1
            if failure_count > MAX_FAILURES:
                raise
            if size == 1:
                rows.append(None)
            size = max(1, size // 2)
            continue
        rows += part.entries
        total = part.total
        # The API may return fewer rows than requested, or announce more at the end.
        row_count = len(part.entries)
        has_more = row_count > 0 and (part.has_more is True or row_count >= size)
        size = min(2 * size, PART_SIZE)

    readable = [row for row in rows if row is not None]
    check_readable(len(readable), len(rows), error)
    return LogPage(
        tuple(readable if number_entries is None else number_entries(readable)),
        total,
        has_more,
        without_ids=number_entries is not None,
        skipped=_count_skipped(rows),
    )


def _have_one_time(rows: Sequence[LogEntry | None]) -> bool:
    """Return whether all rows have one time, of which there may be more below."""
    return len(rows) < MAX_TIME_LOGS and len({row.created for row in rows if row is not None}) == 1


def _count_skipped(rows: Sequence[LogEntry | None]) -> Mapping[str, int]:
    skipped = Counter[str]()
    next_key = ""
    for row in reversed(rows):
        if row is None:
            skipped[next_key] += 1
        else:
            next_key = row.key
    return skipped


async def _read_ends(fetch_rows: FetchRows) -> list[object]:
    """Return what changes if rows are inserted or deleted.

    That is the total, and the first and the last row of the page.

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
