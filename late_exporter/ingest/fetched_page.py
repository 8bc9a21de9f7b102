"""A page of a log list, and which of its logs are counted."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from late_exporter.model import LogEntry, LogPage

NO_STATUSES: frozenset[str] = frozenset()


class FetchedPage(msgspec.Struct, frozen=True):
    """A page of the list, and which of its logs are known.

    Args:
        statuses: Counted statuses by key; a missing key is a new log.
        has_unreadable: Whether rows are left out that the API cannot deliver.
    """

    page: LogPage
    statuses: Mapping[str, frozenset[str]]
    has_unreadable: bool = False

    @property
    def entries(self) -> tuple[LogEntry, ...]:
        return self.page.entries

    @property
    def times(self) -> tuple[int, ...]:
        return self.page.times

    @property
    def is_last(self) -> bool:
        return self.page.is_last

    def recorded_statuses(self, entry: LogEntry) -> frozenset[str]:
        """Return the counted statuses of a log of the page."""
        return self.statuses.get(entry.key, NO_STATUSES)

    def new_entries(self, retention_floor: int) -> tuple[LogEntry, ...]:
        """Return the observations that are not counted yet, except of logs that are left out or too old."""
        return tuple(
            [
                entry
                for entry in self.entries
                if entry.status not in self.statuses.get(entry.key, NO_STATUSES)
                and not entry.is_own
                and (entry.created is None or entry.created >= retention_floor)
            ]
        )

    def reaches(self, mark: int) -> bool:
        """Return whether the page reaches what was read before: it has a counted log older than a time, or no other."""
        known = [entry.created for entry in self.entries if entry.created is not None and entry.key in self.statuses]
        return min(known, default=mark) < mark or max(self.times, default=mark) < mark
