"""Parts of the list that are read completely.

See docs/design/late-window.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import msgspec

from late_exporter.model import MINUTE_MS, ListedMinutes, LogPage


class Stretch(msgspec.Struct):
    """A part of the list that is read from its top to its bottom without skipping a row.

    It counts the logs of each minute. A minute is complete if the stretch has a row below it: every log that the API
    shows is among its rows, so that stored logs that are not have been deleted.

    Args:
        upper: Last minute that is not complete yet; later ones are, or began above the stretch.
        lowest: Creation time of its last row; None before the first row with a time.
        is_end: Whether it reaches the end of the list.
        rows: Hashes of key and status of the listed rows, as sets by minute up to ``upper``; logs without ids may share
            a key. A minute can have ten thousand rows, and two with one hash would make a deletion mark wrong by one.
    """

    upper: int
    lowest: int | None = None
    is_end: bool = False
    rows: dict[int, list[AbstractSet[int]]] = msgspec.field(default_factory=dict)

    def reaches(self, created: int) -> bool:
        """Return whether every log since a time has been read."""
        return self.is_end or (self.lowest is not None and self.lowest < created)

    def extend(self, page: LogPage, *, is_connected: bool, is_end: bool, since: int) -> ListedMinutes | None:
        """Add the next page; return the minutes that are complete by it, if any.

        Args:
            page: The page, whose rows by minute are kept with it: most polls read the same one again.
            is_connected: Whether no row can be between the page and the one before.
            is_end: Whether the list ends with the page.
            since: Creation time before which logs are never stored.
        """
        self.is_end = is_end
        times, is_sorted = page.times, page.is_sorted
        oldest = times[-1] if times and is_sorted else min(times, default=since)
        if oldest < since:
            page = LogPage(tuple(entry for entry in page.entries if entry.created is None or entry.created >= since))
        if times and not (is_connected and is_sorted):
            # Rows may be missing above the page, or, if it is not sorted, below it.
            self.rows.clear()
            self.upper = (times[0] if is_sorted else oldest) // MINUTE_MS - 1
        if times:
            self.lowest = times[-1]
        if self.lowest is None:
            return None
        first, last = self.lowest // MINUTE_MS + 1, self.upper
        counts = self._add_rows(page.rows_by_minute, first)
        if first > last:
            return None
        self.upper = first - 1
        return ListedMinutes(first, last, counts)

    def _add_rows(self, rows_by_minute: Mapping[int, AbstractSet[int]], first: int) -> Mapping[int, int]:
        """Add the rows of a page; return the numbers of rows of the minutes from ``first`` on, which are complete."""
        if not self.rows:  # as with the first page of each poll
            listed = {minute: rows for minute, rows in rows_by_minute.items() if minute <= self.upper}
            self.rows = {minute: [rows] for minute, rows in listed.items() if minute < first}
            return {minute: len(rows) for minute, rows in listed.items() if minute >= first}
        for minute, rows in rows_by_minute.items():
            if minute <= self.upper:
                self.rows.setdefault(minute, []).append(rows)
        complete_minutes = [minute for minute in self.rows if minute >= first]
        return {minute: len(frozenset().union(*self.rows.pop(minute))) for minute in complete_minutes}


class WindowCounter(msgspec.Struct):
    """How the API counts the logs of a time window.

    Args:
        margin: Milliseconds by which the bounds of a window are extended, because the API excludes them; None if
            unknown.
        retry_at: API time in milliseconds from which another attempt to find it may be made.
    """

    margin: int | None = None
    retry_at: int = 0
