"""Read a log list downward from any place: the only way in which lists are read.

A place is a number of rows below the newest row, or below the newest row that is not newer than a
time. In lists that can be filtered by time, every page below the first is requested by time: rows
that are inserted or deleted meanwhile shift nothing. Other lists are read by offset with an
overlap; a page that does not connect to the one before is looked for further up. Everything here is
pure: it yields requests, and is sent pages or errors.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

import msgspec

from late_exporter.errors import REQUEST_FAILURES, BadPayload, BadRequest
from late_exporter.model import DAY_MS, PAGE_OVERLAP, PAGE_SIZE, LogPage

SECOND_MS = 1000

FIRST_RAISE, RAISE_GROWTH, MAX_RAISE = 60_000, 8, 90 * DAY_MS
"""Milliseconds by which a bound is raised if no row above it is found: they may have been deleted, or have expired.

If none is found again, it is raised by a multiple of that, at last by more than the API keeps logs.
"""

MAX_REPEATS = 3
"""Consecutive pages with the same rows after which the API is taken to ignore the offset."""

MAX_SAME_TIME_REPEATS = 100
"""The same for alike logs of one time, which commands read page by page."""

MAX_PAGE_FAILURES = 3
"""Failed attempts to read a page after which it is read without the rows that the API cannot deliver."""


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """Start of a page: rows to skip, among those not newer than ``before`` if that is given, in milliseconds."""

    skip: int = 0
    before: int | None = None

    def is_ignored_by(self, page: LogPage) -> bool:
        """Return whether a page has a row that is newer than it should be, because the API ignores the bound."""
        return self.before is not None and any(
            created > self.before + SECOND_MS for created in page.times
        )


TOP = Place()


class FetchPage(msgspec.Struct, frozen=True, kw_only=True):
    """A request for a page.

    Args:
        after: Time in milliseconds, about which the oldest logs are to be created; None for all.
        status: Status of the logs; None for all.
        in_parts: Whether to leave out the rows that the API cannot deliver.
        whole_time: Whether to go on until all logs of the time of the first one are there.
    """

    place: Place = TOP
    after: int | None = None
    status: str | None = None
    in_parts: bool = False
    whole_time: bool = False


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
        """Return the cursor after a page: it repeats the last rows, and all rows of the time of the last."""
        if not page.entries:
            return self
        place, created = self.place, page.times[-1] if page.times else self.created
        repeated = max(
            PAGE_OVERLAP, sum(entry.created == page.entries[-1].created for entry in page.entries)
        )
        rows = self._rows_to_skip(page, repeated)
        depth = rows + (place.skip if place.before is None else self.depth)
        keys = frozenset(entry.key for entry in page.entries[-repeated:])
        bound = second_above(created)
        if by_time and page.times and (place.before is None or bound < place.before):
            return Cursor(Place(0, bound), depth, created, keys)
        return Cursor(Place(place.skip + rows, place.before), depth, created, keys)

    def _rows_to_skip(self, page: LogPage, repeated: int) -> int:
        if page.is_last:
            return 0  # It is read again as a whole, to confirm the end.
        rows = len(page.entries)
        if repeated < rows:
            return rows - repeated
        is_top = page.without_ids and not self.keys
        return (
            0 if is_top else rows - rows // 2
        )  # The first page is read again with all of its time.

    def connects(self, page: LogPage) -> bool:
        """Return whether no row can be between the rows above and a page."""
        is_above = bool(page.times) and page.times[0] > self.created
        return (
            not self.keys
            or self.place == TOP
            or is_above
            or any(entry.key in self.keys for entry in page.entries)
        )


def second_above(created: int) -> int:
    """Return the next whole second after a time: rows of that time are below it, however the API reads a bound.

    Bounds may be inclusive, exclusive or cut to seconds.
    """
    return (created // SECOND_MS + 1) * SECOND_MS


def second_below(created: int) -> int:
    """Return the second before that of a time: rows of that time are above it, however the API reads a bound."""
    return (created // SECOND_MS - 1) * SECOND_MS


class TimeFilter:
    """Whether a list can be filtered by time.

    Attributes:
        is_usable: Whether pages are requested by time; no longer once the API has rejected or
            ignored a bound.
    """

    def __init__(self, *, is_supported: bool) -> None:
        self.is_supported = self.is_usable = is_supported


class Sweep:
    """A way down a list from a cursor, page by page, to a lower bound; after the last page, the end is read again.

    Args:
        upper: Where to begin; the top of the list by default.
        lower: Creation time in milliseconds down to which to read.
        failure_count: Earlier attempts to read the first page that failed.
        after: Lower bound of the requests, if the API is to leave out older logs.
        status: Status of the logs; None for all.

    Attributes:
        cursor: Where to read on.
        is_end: Whether the last page was the end of the list, also of one that always announces
            more.
        is_complete: Whether it was, or the lower bound was crossed.
    """

    def __init__(
        self,
        time_filter: TimeFilter,
        upper: Cursor | None = None,
        lower: int = 0,
        *,
        failure_count: int = 0,
        after: int | None = None,
        status: str | None = None,
    ) -> None:
        self._time_filter = time_filter
        self._lower = lower
        self._failure_count = failure_count
        self._request = FetchPage(after=after, status=status)
        self._step = PAGE_SIZE // 2
        self._original_bound, self._raise = math.inf, 0
        self._repeat_count = 0
        self._previous_keys = frozenset[str]()
        self.cursor = upper or Cursor()
        self.is_end = self.is_complete = False

    def read(self) -> Generator[FetchPage, Any, LogPage]:
        """Return the next page; no row is between it and the one before.

        Raises:
            BadPayload: The API shows the same page again and again.
            BadRequest: Neither an offset nor a time leads to the page.
            ApiError: The page cannot be read.
        """
        page = yield from self._fetch_connected()
        if page.without_ids and page.is_within_time and self.cursor.keys:
            page = yield from self._fetch_time(page)
        self._step = PAGE_SIZE // 2
        self._raise = 0
        self._failure_count = 0
        keys = frozenset(entry.key for entry in page.entries)
        self.is_end = page.is_last or (len(keys) <= PAGE_OVERLAP and keys <= self.cursor.keys)
        self.is_complete = self.is_end or crosses(page, self._lower)
        self._count_repeats(page, keys)
        self.cursor = self.cursor.below(page, by_time=self._time_filter.is_usable)
        return page

    def _fetch_connected(self) -> Generator[FetchPage, Any, LogPage]:
        """Fetch the page at the cursor, or one further up, so that no row is between it and the rows above."""
        while True:
            place = self.cursor.place
            try:
                page = yield from self._fetch_complete()
            except BadRequest as exc:
                if place == TOP:
                    raise
                if place.before is None:
                    raise BadRequest(
                        f"{exc}; logs below the newest {place.skip:,} cannot be read, because the API limits skip and "
                        "a filter by time does not help; read less with a shorter --poll.lookback and a new "
                        "--state.url, or --since",
                        status=exc.status,
                    ) from exc
                self._read_by_offset()
                continue
            if place.is_ignored_by(page):
                self._read_by_offset()
            elif self.cursor.connects(page) or (page.entries and self._raise > DAY_MS):
                return page  # However the API reads a bound, no row is between one that is days higher and the page.
            else:
                self._go_up()

    def _fetch_complete(self) -> Generator[FetchPage, Any, LogPage]:
        """Fetch the page at the cursor; if it is shorter than the total promises, once more."""
        page = yield from self._fetch_once()
        if page.is_last and (page.total or 0) > self.cursor.place.skip + len(page.entries):
            page = yield from self._fetch_once()
        return page

    def _fetch_once(self) -> Generator[FetchPage, Any, LogPage]:
        """Fetch a page; if that has failed too often before, without the rows that the API cannot deliver."""
        request = msgspec.structs.replace(self._request, place=self.cursor.place)
        page: LogPage
        try:
            page = yield request
        except REQUEST_FAILURES as exc:
            if self._failure_count + 1 < MAX_PAGE_FAILURES:
                raise
            try:
                page = yield msgspec.structs.replace(request, in_parts=True)
            except REQUEST_FAILURES:
                raise exc from None
        return page

    def _fetch_time(self, page: LogPage) -> Generator[FetchPage, Any, LogPage]:
        """Fetch all logs of the time that fills a page, because ordinals count the alike logs of a time.

        If that has failed too often before, the page has to do.
        """
        try:
            page = yield msgspec.structs.replace(
                self._request, place=self.cursor.place, whole_time=True
            )
        except REQUEST_FAILURES:
            if self._failure_count + 1 < MAX_PAGE_FAILURES:
                raise
        return page

    def _count_repeats(self, page: LogPage, keys: frozenset[str]) -> None:
        is_repeated = keys == self._previous_keys and not self.is_end
        self._repeat_count, self._previous_keys = self._repeat_count + 1 if is_repeated else 0, keys
        is_within_time = page.without_ids and page.is_within_time
        if self._repeat_count >= (MAX_SAME_TIME_REPEATS if is_within_time else MAX_REPEATS):
            raise BadPayload(f"the log list repeats the same page at skip={self.cursor.place.skip}")

    def _go_up(self) -> None:
        """Look further up for a page that connects: rows were deleted, or the API reads times differently."""
        place = self.cursor.place
        if place.skip:
            place = Place(max(0, place.skip - self._step), place.before)
            self._step *= 2
        elif place.before is not None and (
            0 < self._raise < MAX_RAISE or (not self._raise and place.before < self._original_bound)
        ):
            bound = place.before - self._raise  # The place has the last raise already.
            self._original_bound, self._raise = bound, self._raise * RAISE_GROWTH or FIRST_RAISE
            place = Place(0, bound + self._raise)
        else:  # No row above is there, or they lead to the same bound again.
            self._read_by_offset()
            return
        self.cursor = msgspec.structs.replace(self.cursor, place=place)

    def _read_by_offset(self) -> None:
        self._time_filter.is_usable = False
        self.cursor = msgspec.structs.replace(self.cursor, place=Place(self.cursor.depth))


def crosses(page: LogPage, limit: int) -> bool:
    """Return whether a page ends below a time; a single row with a wrong time does not count."""
    times = sorted(page.times)
    return bool(times) and times[min(1, len(times) - 1)] < limit
