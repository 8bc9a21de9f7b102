"""Compare a log list with the recorded logs, one by one.

The list moves while it is read, and the exporter goes on recording, so logs are compared only up to a time at which
everything should have been recorded. Logs without a time are not compared.
"""

from __future__ import annotations

import msgspec

from late_exporter.ingest.poll_context import FetchedPage
from late_exporter.model import PENDING, LogEntry
from late_exporter.store.records import Coverage

GRACE_POLLS = 3
MIN_GRACE_SECONDS = 60.0


class Difference(msgspec.Struct, frozen=True, gc=False):
    """A log that is not recorded in its current status, and the statuses in which it is recorded."""

    entry: LogEntry
    recorded_statuses: frozenset[str]


class Audit(msgspec.Struct, kw_only=True):
    """State and result of an audit of one log list.

    Args:
        coverage: Coverage last committed.
        cutoff: Creation time in milliseconds up to which logs are compared.
        since: Logs older than this are excluded, as are those below the coverage's retention floor.
        compares_pending: Whether a log that is recorded as pending is compared; without an exporter it may have settled
            since.
        listed_keys: Keys of all logs in scope.
        unrecorded: Logs that are not recorded in their current status, by key.
        too_recent: Keys of logs that no poll had time to record.
        in_gap: Keys of logs in gaps, which the exporter knows to be missing.
    """

    coverage: Coverage
    cutoff: int
    since: int = 0
    compares_pending: bool = True
    listed_keys: set[str] = msgspec.field(default_factory=set)
    unrecorded: dict[str, Difference] = msgspec.field(default_factory=dict)
    too_recent: set[str] = msgspec.field(default_factory=set)
    in_gap: set[str] = msgspec.field(default_factory=set)

    @property
    def differences(self) -> list[Difference]:
        return list(self.unrecorded.values())

    @property
    def lower(self) -> int:
        return max(self.coverage.retention_floor, self.since)

    def compare(self, page: FetchedPage) -> None:
        for entry in page.entries:
            if entry.is_own or (entry.created is not None and entry.created < self.lower):
                continue
            self.listed_keys.add(entry.key)
            if entry.created is None:
                continue
            recorded_statuses = page.recorded_statuses(entry)
            if entry.status in recorded_statuses:
                self.unrecorded.pop(entry.key, None)  # Pages overlap, and it was recorded in between.
            elif any(gap.lower <= entry.created <= gap.upper.created for gap in self.coverage.gaps):
                self.in_gap.add(entry.key)
            elif entry.created > self.cutoff or (PENDING in recorded_statuses and not self.compares_pending):
                self.too_recent.add(entry.key)
            else:
                self.unrecorded[entry.key] = Difference(entry, recorded_statuses)


def grace_period(interval: float) -> int:
    """Return the milliseconds before a poll within which a new log may not be recorded; ``interval`` is in seconds."""
    return int(max(GRACE_POLLS * interval, MIN_GRACE_SECONDS) * 1000)
