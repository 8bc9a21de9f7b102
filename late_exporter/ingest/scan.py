"""Read a part of a list in the background of polls, some pages per poll: a late window, or a reconciliation scan."""

from __future__ import annotations

import msgspec

from late_exporter.errors import REQUEST_FAILURES
from late_exporter.ingest.catch_up import Reading
from late_exporter.ingest.poll_context import PollContext, new_entries
from late_exporter.ingest.steps import Record, ReportFailure, StepsTo
from late_exporter.ingest.sweep import Cursor, Sweep, crosses
from late_exporter.model import MINUTE_MS, LogEntry, LogPage

MAX_FAILURES = 6
"""Failed attempts to read a page, also in parts, after which a scan ends until the next one is due."""

RECONCILED_AGE = 60 * MINUTE_MS
"""Age in milliseconds from which a log that only a scan has found was missed by polls."""


class Scan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A sweep that several polls read.

    Args:
        started_at: API time in milliseconds.
        until: Creation time down to which it reads; 0 for the whole list.
        cursor: Where it continues; None for the newest page.
        found: Number of logs that polls had missed.
        is_urgent: Whether the API has reported more logs than were read, so that it may use more
            requests.
    """

    started_at: int
    until: int = 0
    cursor: Cursor | None = None
    found: int = 0
    failure_count: int = 0
    is_urgent: bool = False


class ScanReader:
    """Reads one scan at a time; a request that fails is reported and tried again.

    Args:
        is_reconciliation: Whether old logs that it finds were missed.

    Attributes:
        scan: Scan in progress, as read; None if there is none.
        completed: Scan that the current poll has completed.
        is_abandoned: Whether the current poll has given up a scan.
    """

    def __init__(
        self, context: PollContext, scan: Scan | None = None, *, is_reconciliation: bool
    ) -> None:
        self._context = context
        self._fetcher = context.fetcher
        self._is_reconciliation = is_reconciliation
        self.scan = scan
        self.completed: Scan | None = None
        self.is_abandoned = False

    def advance(self, reading: Reading, page_count: int, deadline: float) -> StepsTo[None]:
        """Read some pages of the scan, none after a monotonic time."""
        scan = self.scan
        if scan is None:
            return
        lower = max(reading.coverage.retention_floor, scan.until)
        if reading.head.is_last or crosses(reading.head, lower):
            self.scan, self.completed = None, scan
            return
        sweep = Sweep(
            self._context.time_filter,
            scan.cursor or reading.below_head,
            lower,
            failure_count=scan.failure_count,
        )
        try:
            while page_count > 0 and self._fetcher.monotonic() < deadline:
                page = yield from sweep.read()
                scan = yield from self._record(
                    page, scan, sweep.cursor, reading.coverage.retention_floor
                )
                page_count -= 1
                if sweep.is_complete:
                    self.scan, self.completed = None, scan
                    return
        except REQUEST_FAILURES as exc:
            yield ReportFailure("scan", exc.without_frames())
            failure_count = scan.failure_count + 1
            self.is_abandoned = failure_count > MAX_FAILURES
            self.scan = (
                None
                if self.is_abandoned
                else msgspec.structs.replace(scan, failure_count=failure_count)
            )

    def _record(
        self, page: LogPage, scan: Scan, cursor: Cursor, retention_floor: int
    ) -> StepsTo[Scan]:
        new = new_entries(page, retention_floor)
        missed_before = self._fetcher.now() - RECONCILED_AGE if self._is_reconciliation else 0

        def is_missed(entry: LogEntry) -> bool:
            return entry.created is not None and entry.created < missed_before

        missed = tuple(entry for entry in new if is_missed(entry))
        self._context.add(page, new)
        yield Record(tuple(entry for entry in new if not is_missed(entry)))
        # A record may commit, so the cursor moves with the last one.
        found = scan.found + sum(entry.key not in page.statuses for entry in missed)
        self.scan = msgspec.structs.replace(scan, cursor=cursor, found=found, failure_count=0)
        yield Record(missed, by_reconciliation=True)
        return self.scan
