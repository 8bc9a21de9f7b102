"""What the parts of a poll share: the feed, and which logs of a page are new."""

from __future__ import annotations

from typing import TYPE_CHECKING

from late_exporter.ingest.sweep import TimeFilter
from late_exporter.model import LogEntry, LogPage

if TYPE_CHECKING:
    from late_exporter.ingest.fetcher import Fetcher


class PollContext:
    """What polls have read of a feed.

    Attributes:
        fetcher: The coverage, the pending logs and the API time of the feed, also if they are not
            committed yet. Only read here: requests are steps.
        counted: Number of logs counted since the state was created.
        has_changes: Whether logs may have arrived since the late window was last read.
        read_pending: Keys of the pending logs that the poll has read.
    """

    def __init__(self, fetcher: Fetcher, counted: int) -> None:
        self.fetcher = fetcher
        self.time_filter = TimeFilter(is_supported=fetcher.feed.supports_time_filter)
        self.counted = counted
        self.has_changes = False
        self.read_pending: set[str] = set()

    def start_poll(self) -> None:
        # Each poll tries the filter again, because a single request may be rejected for another
        # reason.
        self.time_filter.is_usable = self.time_filter.is_supported
        self.read_pending = set()

    def add(self, page: LogPage, new: tuple[LogEntry, ...]) -> None:
        """Count a page and its new observations."""
        self.has_changes |= bool(new)
        self.counted += sum(entry.key not in page.statuses for entry in new)
        if self.fetcher.pending_logs:
            self.read_pending |= self.fetcher.pending_logs.keys() & {
                entry.key for entry in page.entries
            }


def new_entries(page: LogPage, retention_floor: int) -> tuple[LogEntry, ...]:
    """Return the observations of a page that are not counted yet, except of logs that are left out or too old."""
    return tuple(
        [
            entry
            for entry in page.entries
            if entry.status not in page.statuses.get(entry.key, ())
            and not entry.is_own
            and (entry.created is None or entry.created >= retention_floor)
        ]
    )


def reaches(page: LogPage, mark: int) -> bool:
    """Return whether a page reaches a high-water mark: it has a known log older than the mark, or only older logs."""
    known = [
        entry.created
        for entry in page.entries
        if entry.created is not None and entry.key in page.statuses
    ]
    return min(known, default=mark) < mark or max(page.times, default=mark) < mark
