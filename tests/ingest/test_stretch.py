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
