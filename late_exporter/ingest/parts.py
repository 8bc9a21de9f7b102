"""Read a page that the API cannot deliver as a whole in ever smaller parts, to leave out only unreadable rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from late_exporter.api.pages import PageResponse
from late_exporter.errors import REQUEST_FAILURES, BadPayload
from late_exporter.model import PAGE_SIZE, LogEntry

MAX_FAILURES = 60
"""Failed requests for one page, with which far too many of its rows are unreadable."""


class PartialPage(NamedTuple):
    """The rows of a page that the API delivers.

    Args:
        total: Number of logs in the whole list; None if not reported.
        has_more: Whether the list continues after the page.
        skipped: Number of unreadable rows, by the key of the log that follows them.
        has_unreadable: Whether any row is unreadable.
    """

    entries: tuple[LogEntry, ...]
    total: int | None
    has_more: bool
    skipped: Mapping[str, int]
    has_unreadable: bool


async def read_in_parts(fetch_rows: Callable[[int, int], Awaitable[PageResponse]]) -> PartialPage:
    """Read a page by requests for some of its rows, given their offset and number.

    Raises:
        ApiError: The API rather than some rows is at fault: the first and the last row, or the larger part, fail. Or
            the list has moved, so that a row may be on two parts or on none.
    """
    rows: list[LogEntry | None] = []
    total, has_more, failure_count, error = None, True, 0, None

    async def read(offset: int, size: int) -> None:
        nonlocal total, has_more, failure_count, error
        try:
            page = (await fetch_rows(offset, size)).page
        except REQUEST_FAILURES as exc:
            failure_count, error = failure_count + 1, exc
            if failure_count > MAX_FAILURES:
                raise
            if size == 1:
                rows.append(None)
                return
            half = size // 2
            await read(offset, half)
            await read(offset + half, size - half)
            return
        rows.extend(page.entries)
        row_count = len(page.entries)
        total, has_more = page.total, page.has_more is True or row_count >= size
        if 0 < row_count < size and page.has_more:  # The API returns fewer rows than requested.
            await read(offset + row_count, size - row_count)

    offset, before = await _probe(fetch_rows)
    for start in (0, PAGE_SIZE // 2):
        await read(start, PAGE_SIZE // 2)
        if not has_more:
            break
    entries = tuple(row for row in rows if row is not None)
    if error is not None and len(entries) * 2 < len(rows):
        raise error
    if _identity(await fetch_rows(offset, 1)) != _identity(before):
        raise BadPayload("the list has moved while a page was read in parts")
    return PartialPage(entries, total, has_more, _skipped(rows), has_unreadable=len(entries) < len(rows))


async def _probe(fetch_rows: Callable[[int, int], Awaitable[PageResponse]]) -> tuple[int, PageResponse]:
    """Return the first row of the page and its offset, or the last one."""
    try:
        return 0, await fetch_rows(0, 1)
    except REQUEST_FAILURES:
        return PAGE_SIZE - 1, await fetch_rows(PAGE_SIZE - 1, 1)


def _identity(response: PageResponse) -> object:
    """Return what changes if rows are inserted above a row, or deleted: it may be on two parts then, or on none."""
    return [entry.key for entry in response.page.entries], response.page.total


def _skipped(rows: list[LogEntry | None]) -> Mapping[str, int]:
    """Return the number of unreadable rows by the key of the row after them; the next page has those at the end."""
    skipped: dict[str, int] = {}
    count = 0
    for row in rows:
        if row is None:
            count += 1
        elif count:
            skipped[row.key], count = count, 0
    return skipped
