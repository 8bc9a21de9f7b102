"""What is known about the stored logs of a feed while they do not change, so that most polls need no look-up."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from late_exporter.feeds.feed import Feed
from late_exporter.model import MINUTE_MS, KnownLogs, ListedMinutes, LogPage, TimeRange
from late_exporter.store.known_logs import number_new
from late_exporter.store.uncommitted import UncommittedLogs


class Lookup(NamedTuple):
    """A look-up of the known logs of a page.

    Args:
        page: The page; a response that is as before is the same object, while its decoder caches it.
        since: Time in milliseconds since which the API may still have logs; None if their number is not needed.
        uncommitted: Logs that were read but are not committed yet.
        partial_times: Creation times of which the page may lack logs.
    """

    feed: Feed
    page: LogPage
    since: int | None
    uncommitted: UncommittedLogs
    partial_times: AbstractSet[int]


class LookupCache:
    """What the look-ups and commits of a feed have shown, while its stored logs do not change.

    Most polls read the same first page again. At the times of a gap nothing is stored, so its pages are new.
    """

    def __init__(self) -> None:
        self._first_page: weakref.ref[LogPage] | None = None
        self._question: tuple[object, ...] = ()
        self._result = KnownLogs({})
        self._empty_range: TimeRange | None = None
        self._marked_minutes: Sequence[ListedMinutes] = ()

    def find(self, lookup: Lookup) -> KnownLogs | None:
        """Return the result of a look-up, if it is known."""
        entries = lookup.page.entries
        if lookup.since is None and self._is_empty_at(lookup.page):
            has_ids = lookup.feed.number_entries is None
            numbered = entries if has_ids else number_new(entries, lookup.uncommitted, lookup.partial_times)
            if numbered is not None:
                return KnownLogs({}, entries=numbered)
        is_same_page = self._first_page is not None and self._first_page() is lookup.page
        return self._result if is_same_page and _question(lookup) == self._question else None

    def add(self, lookup: Lookup, known_logs: KnownLogs) -> None:
        """Keep what a look-up has shown."""
        if lookup.since is not None and lookup.uncommitted.is_empty:
            # With many workspaces no page is kept until the next poll, nor is its result.
            self._first_page = weakref.ref(lookup.page, self._forget)
            self._question, self._result = _question(lookup), known_logs
        self._empty_range = known_logs.empty_range or self._empty_range

    def unmarked(self, listed_minutes: Sequence[ListedMinutes]) -> Sequence[ListedMinutes]:
        """Return the listed minutes, except those whose deletion marks the last commit has found to be right."""
        return [listed for listed in listed_minutes if listed not in self._marked_minutes]

    def add_marked(self, listed_minutes: Sequence[ListedMinutes]) -> None:
        """Keep the listed minutes of a commit that has changed no mark."""
        self._marked_minutes = listed_minutes

    def _forget(self, _: object = None) -> None:
        self._first_page, self._result = None, KnownLogs({})

    def _is_empty_at(self, page: LogPage) -> bool:
        if self._empty_range is None or not page.entries:
            return False
        first, end = self._empty_range
        return len(page.times) == len(page.entries) and first <= min(page.times) and max(page.times) < end


def _question(lookup: Lookup) -> tuple[object, ...]:
    """Return what decides the result besides the page; the numbers of logs depend on when the retention ends."""
    minute = None if lookup.since is None else lookup.since // MINUTE_MS
    return lookup.feed, minute, lookup.partial_times, lookup.uncommitted.is_empty
