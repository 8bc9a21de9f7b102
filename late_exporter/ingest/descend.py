"""Read a log list downward from any place: the only way in which lists are read.

A place is a number of rows below the newest row, or below the newest row that is not newer than a time. In lists that
can be filtered by time, every page below the first is requested by time: rows that are inserted or deleted meanwhile
shift nothing. Other lists are read by offset with an overlap; a page that does not connect to the one before is looked
for further up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

import msgspec

from late_exporter.errors import BadPayload, BadRequest
from late_exporter.model import PAGE_OVERLAP, PAGE_SIZE, LogPage

SECOND_MS = 1000

RECHECK_MS = 60_000
"""Milliseconds by which a bound is raised once, to tell deleted rows from a filter that reads times in another way."""

MAX_REPEATS = 3
"""Consecutive pages with the same rows after which the API is taken to ignore the offset."""


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """Start of a page: rows to skip, among those not newer than ``before`` if that is given, in milliseconds."""

    skip: int = 0
    before: int | None = None


TOP = Place()


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
        entries, times, place = page.entries, page.times, self.place
        if not entries:
            return self
        last = entries[-1].created
        ties = next((count for count, entry in enumerate(reversed(entries)) if entry.created != last), len(entries))
        # The last page is read again as a whole, to confirm the end.
        overlap = len(entries) if page.is_last else min(max(PAGE_OVERLAP, ties), len(entries) // 2)
        keys = frozenset(entry.key for entry in entries[-max(PAGE_OVERLAP, ties) :])
        depth = (place.skip if place.before is None else self.depth) + len(entries) - overlap
        created = times[-1] if times else self.created
        bound = above(created)
        if by_time and times and (place.before is None or bound < place.before):
            return Cursor(Place(0, bound), depth, created, keys)
        return Cursor(Place(place.skip + len(entries) - overlap, place.before), depth, created, keys)

    def connects(self, page: LogPage) -> bool:
        """Return whether no row can be between the rows above and a page."""
        is_above = bool(page.times) and page.times[0] > self.created
        return not self.keys or self.place == TOP or is_above or any(entry.key in self.keys for entry in page.entries)


def above(created: int) -> int:
    """Return the next whole second after a time: rows of that time are below it, however the API reads a bound."""
    return (created // SECOND_MS + 1) * SECOND_MS


def below_second(created: int) -> int:
    """Return the second before that of a time: rows of that time are above it, however the API reads a bound."""
    return (created // SECOND_MS - 1) * SECOND_MS


class Page(Protocol):
    """What a request for a page results in."""

    @property
    def page(self) -> LogPage: ...


PageT = TypeVar("PageT", bound=Page)


class TimeFilter:
    """Whether a list can be filtered by time; that is found out once per process."""

    def __init__(self, *, is_usable: bool) -> None:
        self.is_usable = is_usable


class Descent(Generic[PageT]):
    """A way down a list, page by page; after the last page, the end of the list is read again.

    Attributes:
        cursor: Place below the last page.
        has_read: Whether a page was read.
        is_end: Whether the last page was the end of the list, also of one that always announces more.
    """

    def __init__(self, fetch: Callable[[Place], Awaitable[PageT]], cursor: Cursor, time_filter: TimeFilter) -> None:
        self._fetch = fetch
        self._time_filter = time_filter
        self._step = PAGE_SIZE // 2
        self._repeats = 0
        self._previous = frozenset[str]()
        self._is_rechecked = False
        self.cursor = cursor
        self.has_read = self.is_end = False

    async def read(self) -> PageT:
        """Return the next page; no row is between it and the one before.

        Raises:
            BadPayload: The API ignores the offset.
            ApiError: The page cannot be read.
        """
        while True:
            place = self.cursor.place
            try:
                fetched = await self._fetch(place)
                if fetched.page.is_last and (fetched.page.total or 0) > place.skip + len(fetched.page.entries):
                    fetched = await self._fetch(place)  # The total promises more.
            except BadRequest:
                if place.before is None:
                    raise
                self._distrust_filter()
                continue
            page = fetched.page
            if place.before is not None and any(created > place.before + SECOND_MS for created in page.times):
                self._distrust_filter()  # It is ignored.
            elif self.cursor.connects(page):
                break
            else:
                self._go_up()
        self._step, self._is_rechecked = PAGE_SIZE // 2, False
        keys = frozenset(entry.key for entry in page.entries)
        self.is_end = page.is_last or (len(keys) <= PAGE_OVERLAP and keys <= self.cursor.keys)
        # Pages of logs without ids that are all of one time have the same keys, as ordinals begin on each page.
        is_one_time = page.without_ids and len(set(page.times)) == 1
        is_repeated = keys == self._previous and not self.is_end and not is_one_time
        self._repeats, self._previous = self._repeats + 1 if is_repeated else 0, keys
        if self._repeats >= MAX_REPEATS:
            raise BadPayload(f"the log list repeats the same page at skip={place.skip}")
        self.cursor, self.has_read = self.cursor.below(page, by_time=self._time_filter.is_usable), True
        return fetched

    def _go_up(self) -> None:
        """Look further up for a page that connects: rows were deleted, or the API reads times in another way."""
        place = self.cursor.place
        if place.skip:
            place = Place(max(0, place.skip - self._step), place.before)
            self._step *= 2
        elif place.before is not None and not self._is_rechecked:
            place, self._is_rechecked = Place(0, place.before + RECHECK_MS), True
        else:  # Not even the rows of the last minute are there.
            self._distrust_filter()
            return
        self.cursor = msgspec.structs.replace(self.cursor, place=place)

    def _distrust_filter(self) -> None:
        self._time_filter.is_usable = False
        self.cursor = msgspec.structs.replace(self.cursor, place=Place(self.cursor.depth))
