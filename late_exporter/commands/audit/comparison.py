"""Compare a log list with the recorded logs, one by one.

The list moves while it is read, and the exporter goes on recording. A mismatch on the first pass is therefore only a
suspect. It is reported if it persists after the exporter had time to catch up.
"""

from __future__ import annotations

import msgspec

from late_exporter.ingest.fetched_page import FetchedPage
from late_exporter.model import PENDING, Coverage, LogEntry

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
        since: Logs older than this are excluded, as are those below the coverage's retention floor.
        grace_period: Milliseconds before the last complete poll within which a new log may not be recorded yet.
        exporter_running: Whether an exporter polls meanwhile; if not, a log whose status changed is no difference.
        listed_keys: Keys of all logs in scope.
        suspects: Mismatches of the first pass, by key.
        too_recent: Keys of logs that no poll had time to record.
        in_gap: Keys of logs in gaps, which the exporter knows to be missing.
        differences: Confirmed mismatches.
    """

    coverage: Coverage
    since: int = 0
    grace_period: int = 0
    exporter_running: bool = True
    listed_keys: set[str] = msgspec.field(default_factory=set)
    suspects: dict[str, Difference] = msgspec.field(default_factory=dict)
    too_recent: set[str] = msgspec.field(default_factory=set)
    in_gap: set[str] = msgspec.field(default_factory=set)
    differences: list[Difference] = msgspec.field(default_factory=list)
    cutoff: int = 0

    def __post_init__(self) -> None:
        self.cutoff = self.coverage.caught_up_at - self.grace_period

    @property
    def lower(self) -> int:
        return max(self.coverage.retention_floor, self.since)

    def compare(self, page: FetchedPage) -> None:
        """Compare a page of the first pass."""
        for entry in page.entries:
            if entry.is_own or (entry.created is not None and entry.created < self.lower):
                continue
            self.listed_keys.add(entry.key)
            recorded_statuses = page.recorded_statuses(entry)
            if entry.status in recorded_statuses:
                continue
            if self._is_in_gap(entry):
                self.in_gap.add(entry.key)
            elif (entry.created is not None and entry.created > self.cutoff) or (
                not self.exporter_running and PENDING in recorded_statuses
            ):
                self.too_recent.add(entry.key)
            else:
                self.suspects[entry.key] = Difference(entry, recorded_statuses)

    def recheck(self, page: FetchedPage, unresolved: set[str]) -> None:
        """Confirm the suspects on a page of the second pass that still mismatch."""
        for entry in page.entries:
            if entry.key not in unresolved:
                continue
            unresolved.remove(entry.key)
            recorded_statuses = page.recorded_statuses(entry)
            if self._is_in_gap(entry):
                self.in_gap.add(entry.key)
            elif _persists(self.suspects[entry.key], entry, recorded_statuses):
                self.differences.append(Difference(entry, recorded_statuses))

    def _is_in_gap(self, entry: LogEntry) -> bool:
        gaps = self.coverage.gaps
        return any(entry.created is None or gap.lower <= entry.created <= gap.upper.created for gap in gaps)


def _persists(suspect: Difference, entry: LogEntry, recorded_statuses: frozenset[str]) -> bool:
    """Return whether both passes found the same mismatch: an unknown log, or the same status not recorded."""
    if not recorded_statuses:
        return not suspect.recorded_statuses
    return entry.status == suspect.entry.status and entry.status not in recorded_statuses


def grace_period(interval: float) -> int:
    """Return the milliseconds before a poll within which a new log may not be recorded; ``interval`` is in seconds."""
    return int(max(GRACE_POLLS * interval, MIN_GRACE_SECONDS) * 1000)
