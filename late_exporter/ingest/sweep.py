"""Read a log list downward from any place: the only way in which lists are read.

A place is a number of rows below the newest row, or below the newest row that is not newer than a
time. In lists that can be filtered by time, every page below the first is requested by time: rows
that are inserted or deleted meanwhile shift nothing. Other lists are read by offset with an
overlap; a page that does not connect to the one before is looked for further up. Everything here is
pure: it yields requests, and is sent pages or errors.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import msgspec

from late_exporter.api.plausibility import check_repeats
from late_exporter.errors import REQUEST_FAILURES, BadPayload, BadRequest
from late_exporter.model import DAY_MS, PAGE_OVERLAP, PAGE_SIZE, LogPage

SECOND_MS = 1000

MAX_RAISE = 100 * DAY_MS
"""Milliseconds of the last raise of a bound: longer than any list keeps its logs."""

MAX_PAGE_FAILURES = 3
"""Failed attempts to read a page after which it is read without the rows that the API cannot
deliver."""


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """Start of a page.

    Args:
        skip: Number of rows to skip.
        before: Time in milliseconds beyond which newer rows do not count; None for all rows.
    """

    skip: int = 0
    before: int | None = None

    def is_ignored_by(self, page: LogPage) -> bool:
        """Return whether a page has too new a row, because the API ignores the bound."""
        if self.before is None:
            return False
        return max(page.times, default=0) > self.before + SECOND_MS


TOP = Place()


class FetchPage(msgspec.Struct, frozen=True, kw_only=True):
    """A request for a page.

    Args:
        after: Time in milliseconds, about which the oldest logs are to be created; None for all.
        status: Status of the logs; None for all.
        in_parts: Whether to leave out the rows that the API cannot deliver, and to go on while all
            logs without ids have one time.
    """

    place: Place = TOP
    after: int | None = None
    status: str | None = None
    in_parts: bool = False


class Cursor(msgspec.Struct, frozen=True, omit_defaults=True):
    """Place at which to read on, and the end of what was read above it.

    Args:
        depth: Number of rows above the place in the whole list, as far as known.
        created: Creation time of the last row above; 0 if unknown.
        keys: Keys of the last rows above; empty at the top of the list.
    """

    place: Place = TOP
    depth: int = 0
    created: int = 0
    keys: frozenset[str] = frozenset()

    def below(self, page: LogPage, *, by_time: bool) -> Cursor:
        """Return the cursor after a page.

        The next page repeats the last rows, and all rows of the time of the last one: in lists
        without ids, alike logs are numbered among those of their time.
        """
        if not page.entries:
            return self
        row_count = len(page.entries)
        last_time = page.entries[-1].created
        same_time_count = sum(entry.created == last_time for entry in page.entries)
        repeated = max(PAGE_OVERLAP, same_time_count)

        if page.is_last:
            rows = 0  # It is read again as a whole, to confirm the end.
        elif repeated < row_count:
            rows = row_count - repeated
        elif page.without_ids and not self.keys:
            rows = 0  # The first page is read again with all logs of its time.
        else:
            rows = row_count - row_count // 2

        created = page.times[-1] if page.times else self.created
        place = Place(self.place.skip + rows, self.place.before)
        depth = place.skip
        if place.before is not None:
            depth = self.depth + rows
        bound = second_above(created)
        if by_time and page.times and (place.before is None or bound < place.before):
            place = Place(0, bound)
        keys = frozenset(entry.key for entry in page.entries[-repeated:])
        return Cursor(place, depth, created, keys)

    def connects(self, page: LogPage) -> bool:
        """Return whether no row can be between the rows above and a page."""
        if not self.keys or self.place == TOP:
            return True
        if page.times and page.times[0] > self.created:
            return True
        return any(entry.key in self.keys for entry in page.entries)


def second_above(created: int) -> int:
    """Return the next whole second after a time.

    Rows of that time are below it, also if the API excludes the bound or cuts it to seconds.
    """
    return (created // SECOND_MS + 1) * SECOND_MS


def second_below(created: int) -> int:
    """Return the second before that of a time: rows of that time are above it in the same way."""
    return (created // SECOND_MS - 1) * SECOND_MS


class Sweep:
    """A way down a list from a cursor, page by page, to a lower bound.

    After the last page, the end is read again.

    Args:
        upper: Where to begin; the top of the list by default.
        lower: Creation time in milliseconds down to which to read.
        by_time: Whether the list can be filtered by time.
        failure_count: Earlier attempts to read the first page that failed.
        after: Lower bound of the requests, if the API is to leave out older logs.
        status: Status of the logs; None for all.

    Attributes:
        cursor: Where to read on.
        by_time: Whether pages are requested by time; no longer once the API has rejected or ignored
            a bound.
        is_end: Whether the last page was the end of the list.
        is_complete: Whether it was, or the lower bound was crossed.
    """

    def __init__(
        self,
        upper: Cursor | None = None,
        lower: int = 0,
        *,
        by_time: bool,
        failure_count: int = 0,
        after: int | None = None,
        status: str | None = None,
    ) -> None:
        self.cursor = upper or Cursor()
        self.by_time = by_time
        self.is_end = False
        self.is_complete = False
        self._lower = lower
        self._failure_count = failure_count
        self._request = FetchPage(after=after, status=status)
        self._next_raise = DAY_MS
        self._repeat_count = 0
        self._previous_keys = frozenset[str]()

    def read(self) -> Generator[FetchPage, Any, LogPage]:
        """Return the next page; no row is between it and the one before.

        Raises:
            BadPayload: The API shows the same page again and again.
            BadRequest: Neither an offset nor a time leads to the page.
            ApiError: The page cannot be read.
        """
        page = yield from self._fetch_connected()
        if page.without_ids and page.is_within_time and self.cursor.keys:
            try:
                page = yield self._request_at_cursor(in_parts=True)
            except REQUEST_FAILURES as exc:
                # If the list keeps moving, or after several failures, the page alone has to do:
                # alike logs on two pages are left to the next reading.
                is_moving = isinstance(exc, BadPayload)
                if not is_moving and self._failure_count + 1 < MAX_PAGE_FAILURES:
                    raise
        self._failure_count = 0

        keys = frozenset(entry.key for entry in page.entries)
        is_overlap = len(keys) <= PAGE_OVERLAP and keys <= self.cursor.keys
        self.is_end = page.is_last or is_overlap  # A total may announce more than there is.
        self.is_complete = self.is_end or crosses(page, self._lower)
        is_repeated = keys == self._previous_keys and not self.is_end
        self._repeat_count = self._repeat_count + 1 if is_repeated else 0
        self._previous_keys = keys
        check_repeats(self._repeat_count, self.cursor.place.skip)
        self.cursor = self.cursor.below(page, by_time=self.by_time)
        return page

    def _fetch_connected(self) -> Generator[FetchPage, Any, LogPage]:
        """Fetch the page at the cursor, or one further up that connects to the rows above."""
        while True:
            place = self.cursor.place
            try:
                page = yield from self._fetch()
            except BadRequest as exc:
                if place == TOP:
                    raise
                if place.before is None:
                    raise BadRequest(
                        f"{exc}; logs below the newest {place.skip:,} cannot be read, because the "
                        "API limits skip and a filter by time does not help; read less with a "
                        "shorter --poll.lookback and a new --state.url, or --since",
                        status=exc.status,
                    ) from exc
                self._read_by_offset()
                continue
            if place.is_ignored_by(page):
                self._read_by_offset()
            elif self.cursor.connects(page):
                return page
            else:
                self._go_up()

    def _fetch(self) -> Generator[FetchPage, Any, LogPage]:
        """Fetch a page; after several failures without rows that the API cannot deliver."""
        page: LogPage
        try:
            page = yield self._request_at_cursor()
        except REQUEST_FAILURES as exc:
            if self._failure_count + 1 < MAX_PAGE_FAILURES:
                raise
            try:
                page = yield self._request_at_cursor(in_parts=True)
            except REQUEST_FAILURES:
                raise exc from None
        return page

    def _request_at_cursor(self, *, in_parts: bool = False) -> FetchPage:
        place = self.cursor.place
        return msgspec.structs.replace(self._request, place=place, in_parts=in_parts)

    def _go_up(self) -> None:
        """Look ever further up for a page that connects: rows were deleted or have expired."""
        place = self.cursor.place
        if place.skip:
            place = Place(max(0, place.skip - PAGE_SIZE), place.before)
            self.cursor = msgspec.structs.replace(self.cursor, place=place)
        elif place.before is not None and self._next_raise <= MAX_RAISE:
            place = Place(0, place.before + self._next_raise)
            self._next_raise *= 10
            self.cursor = msgspec.structs.replace(self.cursor, place=place)
        else:
            self._read_by_offset()

    def _read_by_offset(self) -> None:
        self.by_time = False
        self.cursor = msgspec.structs.replace(self.cursor, place=Place(self.cursor.depth))


def crosses(page: LogPage, limit: int) -> bool:
    """Return whether a page ends below a time; a single row with a wrong time does not count."""
    times = sorted(page.times)
    return bool(times) and times[min(1, len(times) - 1)] < limit
