"""Read some rows of a log list by several requests, as if they were on one page.

A page that the API cannot deliver as a whole is read in ever smaller parts, to leave out only unreadable rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TypeAlias

from late_exporter.api.pages import PageResponse
from late_exporter.errors import REQUEST_FAILURES, BadPayload, UnreadableTime
from late_exporter.model import PAGE_SIZE, LogEntry
from late_exporter.store.ordinals import without_ordinal

FetchRows: TypeAlias = Callable[[int, int], Awaitable[PageResponse]]
"""Fetches some rows of a page, given their offset in the page and their number."""

MAX_REQUESTS = 100
"""Requests for one page; with more, far too many of its rows are unreadable."""


MAX_READINGS = 4
"""Readings of a part of the list of which two have to agree; a log may be written in between."""

MAX_ROWS = 5000
"""Rows of a part of the list that is read as a whole."""


async def read_all(fetch_rows: FetchRows) -> tuple[LogEntry, ...]:
    """Read all rows of a part of the list; ordinals are those within a page.

    If they are on several pages, they are read until they are the same twice.

    Raises:
        UnreadableTime: Their order differs from one request to the next, so that one may be on two pages and another
            on none.
        ApiError: A request failed, or there are too many rows.
    """
    rows, page_count = await _read_once(fetch_rows)
    for _ in range(MAX_READINGS - 1):
        if page_count == 1:
            return rows
        previous = rows
        rows, page_count = await _read_once(fetch_rows)
        if [(entry.key, entry.status) for entry in previous] == [(entry.key, entry.status) for entry in rows]:
            return rows
    raise UnreadableTime("the API lists the logs of one time in another order each time")


async def _read_once(fetch_rows: FetchRows) -> tuple[tuple[LogEntry, ...], int]:
    """Return the rows and the number of pages."""
    entries: list[LogEntry] = []
    page_count = 0
    while len(entries) < MAX_ROWS:
        page = (await fetch_rows(len(entries), PAGE_SIZE)).page
        page_count += 1
        entries += page.entries
        if page.is_last:
            return tuple(entries), page_count
    raise BadPayload(f"more than {MAX_ROWS:,} logs have the same time")


class _Part(NamedTuple):
    offset: int
    size: int

    def halve(self) -> tuple[_Part, _Part]:
        half = self.size // 2
        return _Part(self.offset, half), _Part(self.offset + half, self.size - half)


class PartialPage(NamedTuple):
    """The rows of a page that the API delivers.

    Args:
        entries: Logs in the order of the list; ordinals are those within a part.
        total: Number of logs in the whole list; None if not reported.
        has_more: Whether the list continues after the page.
        skipped: Number of unreadable rows, by the key of the log that follows them. Unreadable rows at the end of the
            page are not among them, because the next page begins above them.
        has_unreadable: Whether any row is unreadable.
    """

    entries: tuple[LogEntry, ...]
    total: int | None
    has_more: bool
    skipped: Mapping[str, int]
    has_unreadable: bool


async def read_in_parts(fetch_rows: FetchRows) -> PartialPage:
    """Read a page that the API fails to deliver as a whole.

    Raises:
        ApiError: The API rather than some rows is at fault: neither the first nor the last row, or only the smaller
            part of the rows can be read. Or the list has moved meanwhile, so that rows may be missing between parts.
    """
    await _require_any_row(fetch_rows)
    responses: dict[_Part, PageResponse] = {}
    waiting, unreadable_offsets = deque(_Part(0, PAGE_SIZE).halve()), []
    request_count, error = 0, None
    while waiting:
        if error is not None and request_count > MAX_REQUESTS:
            raise error
        part = waiting.popleft()
        request_count += 1
        try:
            response = await fetch_rows(*part)
        except REQUEST_FAILURES as exc:
            error = exc
            if part.size == 1:
                unreadable_offsets.append(part.offset)
            else:
                waiting += part.halve()
            continue
        row_count = len(response.page.entries)
        if 0 < row_count < part.size and response.page.has_more:
            # The API returns fewer rows than requested, whatever the limit.
            waiting.append(_Part(part.offset + row_count, part.size - row_count))
            part = _Part(part.offset, row_count)
        responses[part] = response
    entries = {
        part.offset + index: entry
        for part, response in responses.items()
        for index, entry in enumerate(response.page.entries)
    }
    if error is not None and len(unreadable_offsets) > len(entries):
        raise error
    total = await _require_same_rows(fetch_rows, entries, responses)
    return PartialPage(
        entries=tuple(entries[offset] for offset in sorted(entries)),
        total=total,
        has_more=_has_more(responses),
        skipped=_skipped(entries, unreadable_offsets),
        has_unreadable=bool(unreadable_offsets),
    )


async def _require_any_row(fetch_rows: FetchRows) -> None:
    """Raise ApiError if neither the first nor the last row of a page can be read."""
    try:
        await fetch_rows(0, 1)
    except REQUEST_FAILURES:
        await fetch_rows(PAGE_SIZE - 1, 1)


async def _require_same_rows(
    fetch_rows: FetchRows, entries: Mapping[int, LogEntry], responses: Mapping[_Part, PageResponse]
) -> int | None:
    """Raise BadPayload unless the last row of each part is still where it was; return the total.

    The totals show no movement if the API reports none, or always the same one.
    """
    total = None
    row_counts = {part: len(response.page.entries) for part, response in responses.items()}
    for offset in sorted(part.offset + count - 1 for part, count in row_counts.items() if count) or (0,):
        page = (await fetch_rows(offset, 1)).page
        keys = [without_ordinal(entry.key) for entry in page.entries[:1]]
        expected_keys = [without_ordinal(entries[offset].key)] if entries else []
        if keys != expected_keys:
            raise BadPayload("the log list moved while a page was read in parts")
        total = page.total
    return total


def _has_more(responses: Mapping[_Part, PageResponse]) -> bool:
    last = max(responses)
    page = responses[last].page
    # If the last rows are unreadable, others may follow.
    if last.offset + last.size < PAGE_SIZE:
        return True
    return len(page.entries) == last.size if page.has_more is None else page.has_more


def _skipped(entries: Mapping[int, LogEntry], unreadable_offsets: list[int]) -> Mapping[str, int]:
    skipped: dict[str, int] = {}
    for offset in unreadable_offsets:
        following = min((other for other in entries if other > offset), default=None)
        if following is not None:
            skipped[entries[following].key] = skipped.get(entries[following].key, 0) + 1
    return skipped
