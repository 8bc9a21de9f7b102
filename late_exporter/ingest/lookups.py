"""Results of look-ups that are still true, so that most pages need none."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from late_exporter.model import MINUTE_MS, Feed, KnownLogs, LogEntry, TimeRange
from late_exporter.store.rekey import number_new
from late_exporter.store.uncommitted import UncommittedLogs


class Lookup(NamedTuple):
    """A look-up of the known logs of a page.

    Args:
        entries: Logs of the page.
        since: Time in milliseconds from which on the API may still have logs; None if their number is not needed.
        uncommitted: Logs that were read but are not committed yet.
        partial_times: Creation times of which the page may lack logs.
    """

    feed: Feed
    entries: Sequence[LogEntry]
    since: int | None
    uncommitted: UncommittedLogs
    partial_times: AbstractSet[int]


class LookupCache:
    """What the look-ups of a feed have shown, as long as its stored logs do not change.

    Most polls read the same first page again. At the times of a gap nothing is stored, so its pages are new.
    """

    def __init__(self) -> None:
        self._first_page: tuple[object, KnownLogs] | None = None
        self._empty_range: TimeRange | None = None

    def find(self, lookup: Lookup) -> KnownLogs | None:
        """Return the result of a look-up, if it is known."""
        if lookup.since is None and self._is_empty_at(lookup.entries):
            has_ids = lookup.feed.number_entries is None
            entries = tuple(lookup.entries) if has_ids else number_new(lookup.entries, lookup.uncommitted)
            return KnownLogs({}, entries=entries)
        if self._first_page is not None and self._first_page[0] == _question(lookup):
            return self._first_page[1]
        return None

    def add(self, lookup: Lookup, known_logs: KnownLogs) -> None:
        """Keep what a look-up has shown."""
        if known_logs.pending_logs is not None:  # Logs have other keys now.
            self._first_page = None
        elif question := _question(lookup):
            self._first_page = (question, known_logs)
        self._empty_range = known_logs.empty_range or self._empty_range

    def _is_empty_at(self, entries: Sequence[LogEntry]) -> bool:
        if self._empty_range is None:
            return False
        first, end = self._empty_range
        return all(entry.created is not None and first <= entry.created < end for entry in entries)


def _question(lookup: Lookup) -> tuple[object, ...] | None:
    """Return what decides the result of the look-up of a first page; None if that cannot be said."""
    if lookup.since is None or not lookup.uncommitted.is_empty:
        return None
    # The numbers of logs depend on the minute in which the retention ends.
    return lookup.feed, lookup.entries, lookup.since // MINUTE_MS, lookup.partial_times
