"""Parts of the list that are read completely."""

from __future__ import annotations

from late_exporter.ingest.stretch import Stretch
from late_exporter.model import MINUTE_MS, ListedMinutes, LogEntry, LogPage

MINUTE = 29_000_000


def entry(key: str, minute: int, status: str = "success") -> LogEntry:
    """Return a log of a minute."""
    return LogEntry(key=key, status=status, created=minute * MINUTE_MS)


def test_rows_are_counted_once() -> None:
    """A row that two pages repeat counts once; logs that share a key and differ in their status are two."""
    stretch = Stretch(MINUTE)
    first = [entry("a", MINUTE), entry("b", MINUTE), entry("b", MINUTE, "failed")]
    assert stretch.extend(LogPage(tuple(first)), is_connected=True, is_end=False, since=0) is None
    rest = [entry("b", MINUTE, "failed"), entry("c", MINUTE), entry("d", MINUTE - 1)]
    listed = stretch.extend(LogPage(tuple(rest)), is_connected=True, is_end=False, since=0)
    assert ListedMinutes(MINUTE, MINUTE, {MINUTE: 4}) == listed


def test_only_logs_that_may_be_stored_are_counted() -> None:
    """Logs that are left out, have no time, or are too old are not counted, on this page or when it is read again."""
    own = LogEntry(key="o", status="success", created=MINUTE * MINUTE_MS, is_own=True)
    undated = LogEntry(key="u", status="success")
    page = LogPage(
        (entry("a", MINUTE), own, entry("b", MINUTE), entry("c", MINUTE - 1), entry("d", MINUTE - 2), undated)
    )
    for since, counts in ((0, {MINUTE: 2, MINUTE - 1: 1}), ((MINUTE - 1) * MINUTE_MS + 1, {MINUTE: 2})):
        for _ in range(2):
            listed = Stretch(MINUTE).extend(page, is_connected=True, is_end=True, since=since)
            assert ListedMinutes(MINUTE - 1, MINUTE, counts) == listed


def test_a_minute_is_complete_with_a_row_below_it() -> None:
    """Rows of a minute that is not over are not counted, and those of one that a page ends within by the next page."""
    stretch = Stretch(MINUTE)
    first = LogPage((entry("x", MINUTE + 1), entry("a", MINUTE), entry("b", MINUTE - 1)))
    assert ListedMinutes(MINUTE, MINUTE, {MINUTE: 1}) == stretch.extend(first, is_connected=True, is_end=False, since=0)
    assert {MINUTE - 1} == {*stretch.rows}
    second = LogPage((entry("b", MINUTE - 1), entry("c", MINUTE - 1), entry("d", MINUTE - 2)))
    listed = stretch.extend(second, is_connected=True, is_end=False, since=0)
    assert ListedMinutes(MINUTE - 1, MINUTE - 1, {MINUTE - 1: 2}) == listed
    assert {MINUTE - 2} == {*stretch.rows}


def test_rows_may_be_missing_around_a_page_that_is_not_sorted() -> None:
    """No minute is complete above the oldest row of a page that is not sorted."""
    stretch = Stretch(MINUTE)
    page = LogPage((entry("a", MINUTE), entry("b", MINUTE - 9), entry("c", MINUTE - 1), entry("d", MINUTE - 3)))
    assert stretch.extend(page, is_connected=True, is_end=False, since=0) is None
    assert MINUTE - 10 == stretch.upper


def test_old_rows_of_a_page_that_is_not_sorted_are_not_counted() -> None:
    """A row that is too old is left out wherever it is."""
    stretch, since = Stretch(MINUTE), (MINUTE - 1) * MINUTE_MS
    page = LogPage((entry("a", MINUTE), entry("b", MINUTE - 9), entry("c", MINUTE)))
    stretch.extend(page, is_connected=True, is_end=False, since=since)
    assert {*stretch.rows} == set()
