"""What the parts of a poll share: the pages that were read, with the logs that are counted, and the feed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from late_exporter.ingest.sweep import TimeFilter
from late_exporter.model import LogEntry, LogPage

if TYPE_CHECKING:
    from late_exporter.ingest.fetcher import Fetcher


class FetchedPage(LogPage, frozen=True, kw_only=True):
    """A page of the list, of whose logs some are known.

    Args:
        statuses: Counted statuses by key; a missing key is a new log.
        has_unreadable: Whether rows are left out that the API cannot deliver.
    """

    statuses: Mapping[str, frozenset[str]]
    has_unreadable: bool = False

    def new_entries(self, retention_floor: int) -> tuple[LogEntry, ...]:
        """Return the observations that are not counted yet, except of logs that are left out or too old."""
        return tuple(
            [
                entry
                for entry in self.entries
                if entry.status not in self.statuses.get(entry.key, ())
                and not entry.is_own
                and (entry.created is None or entry.created >= retention_floor)
            ]
        )

    def reaches(self, mark: int) -> bool:
        """Return whether the page reaches what was read before: it has a counted log older than a time, or no other."""
        known = [entry.created for entry in self.entries if entry.created is not None and entry.key in self.statuses]
        return min(known, default=mark) < mark or max(self.times, default=mark) < mark


class PollContext:
    """The feed, and what polls have read of it.

    Attributes:
        view: The feed as far as it was read, also if that is not committed yet.
        counted: Number of logs counted since the state was created.
        changes: Number of pages with new observations since the late window was last read.
        listed_pending: Keys of the pending logs that the poll has read.
    """

    def __init__(self, view: Fetcher, counted: int) -> None:
        self.view = view
        self.time_filter = TimeFilter(is_supported=view.feed.supports_time_filter)
        self.counted = counted
        self.changes = 0
        self.listed_pending: set[str] = set()

    def start_poll(self) -> None:
        # Each poll tries the filter again, because a single request may be rejected for another reason.
        self.time_filter.is_usable = self.time_filter.is_supported
        self.listed_pending = set()

    def add(self, page: FetchedPage, new: tuple[LogEntry, ...]) -> None:
        """Count a page and its new observations."""
        self.changes += bool(new)
        self.counted += sum(entry.key not in page.statuses for entry in new)
        if self.view.pending_logs:
            self.listed_pending |= self.view.pending_logs.keys() & {entry.key for entry in page.entries}
