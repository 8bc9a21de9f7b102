"""What the parts of a poll share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from late_exporter.feeds.feed import Feed
from late_exporter.ingest.fetched_page import FetchedPage
from late_exporter.ingest.sweep import TimeFilter
from late_exporter.model import Coverage, LogEntry, PendingLog


class FeedView(Protocol):
    """A feed as far as it was read, also if that is not committed yet."""

    @property
    def feed(self) -> Feed: ...

    @property
    def coverage(self) -> Coverage | None: ...

    @property
    def pending_logs(self) -> Mapping[str, PendingLog]: ...

    @property
    def request_count(self) -> int: ...

    def now(self) -> int:
        """Return the API's time in milliseconds."""

    def monotonic(self) -> float: ...


class PollContext:
    """The feed, and what polls have read of it.

    Attributes:
        counted: Number of logs counted since the state was created.
        changes: Number of pages with new observations since the late window was last read.
        listed_pending: Keys of the pending logs that the poll has read.
    """

    def __init__(self, view: FeedView, counted: int) -> None:
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
