"""Read a part of a list in the background of polls: a late window, or a reconciliation scan."""

from __future__ import annotations

import msgspec

from late_exporter.errors import REQUEST_FAILURES
from late_exporter.ingest.catch_up import Reading
from late_exporter.ingest.feed_view import FeedView
from late_exporter.ingest.schedule import ApiClock, FeedConnection
from late_exporter.ingest.steps import Record, ReportFailure, StepsTo
from late_exporter.ingest.sweep import Cursor, Sweep, crosses
from late_exporter.model import DAY_MS, MAX_CLOCK_SKEW_MS, MINUTE_MS

MAX_FAILURES = 6
"""Failed attempts to read a page, also in parts, after which a scan ends until the next one is
due."""

RECONCILED_AGE = 60 * MINUTE_MS
"""Age in milliseconds from which a log that only a scan has found was missed by polls."""

SCAN_INTERVALS = 24
"""Intervals between two scans down to which a scan reads that is not one of the whole list."""


class Scan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A sweep that several polls read.

    Args:
        started_at: API time in milliseconds.
        until: Creation time down to which it reads; 0 for the whole list.
        cursor: Where it continues; None for the newest page.
    """

    started_at: int
    until: int = 0
    cursor: Cursor | None = None
    failure_count: int = 0


class ScanReader:
    """Reads one scan at a time; a request that fails is reported and tried again.

    Args:
        is_reconciliation: Whether old logs that it finds were missed.

    Attributes:
        scan: Scan in progress, as read; None if there is none.
        completed: Scan that the current poll has completed.
    """

    def __init__(
        self, view: FeedView, scan: Scan | None = None, *, is_reconciliation: bool
    ) -> None:
        self._view = view
        self._is_reconciliation = is_reconciliation
        self.scan = scan
        self.completed: Scan | None = None

    def advance(self, reading: Reading, page_count: int, deadline: float) -> StepsTo[None]:
        """Read some pages of the scan, none after a monotonic time."""
        scan = self.scan
        if scan is None:
            return
        floor = reading.coverage.retention_floor
        lower = max(floor, scan.until)
        if reading.head.is_last or crosses(reading.head, lower):
            self._complete(scan)
            return

        missed_before = 0
        if self._is_reconciliation:
            missed_before = self._view.now() - RECONCILED_AGE
        sweep = Sweep(
            scan.cursor or reading.below_head,
            lower,
            by_time=self._view.feed.supports_time_filter,
            failure_count=scan.failure_count,
        )
        try:
            while page_count > 0 and self._view.monotonic() < deadline:
                page = yield from sweep.read()
                entries = self._view.take(page, floor)
                # Recording may commit, and then the cursor has to be below the page.
                scan = msgspec.structs.replace(scan, cursor=sweep.cursor, failure_count=0)
                self.scan = scan
                yield Record(entries, missed_before=missed_before)
                page_count -= 1
                if sweep.is_complete:
                    self._complete(scan)
                    return
        except REQUEST_FAILURES as exc:
            yield ReportFailure("scan", exc.without_frames())
            self.scan = None
            if scan.failure_count < MAX_FAILURES:
                self.scan = msgspec.structs.replace(scan, failure_count=scan.failure_count + 1)

    def _complete(self, scan: Scan) -> None:
        self.scan = None
        self.completed = scan


class ScanSchedule:
    """Starts of the reconciliation scans of one feed, and how far down they read.

    Attributes:
        last_scan_at: Unix time in seconds at which the last scan started; 0 if there is none.
        last_audit_at: Unix time in seconds at which the last scan of the whole list was completed;
            0 if there is none.
    """

    def __init__(
        self,
        connection: FeedConnection,
        clock: ApiClock,
        last_scan_at: float,
        last_audit_at: float,
    ) -> None:
        self._connection = connection
        self._clock = clock
        self.last_scan_at = last_scan_at
        self.last_audit_at = last_audit_at

    @property
    def is_due(self) -> bool:
        return self._has_passed(self._connection.config.reconcile_interval, self.last_scan_at)

    def postpone(self) -> None:
        """Start the next scan an interval from now."""
        self.last_scan_at = self._clock.time()

    def start_scan(self) -> Scan:
        """Start a scan: of the whole list once per audit interval, else of its newest part."""
        self.postpone()
        now = self._clock.now()
        config = self._connection.config
        if self._has_passed(config.audit_interval or DAY_MS / 1000, self.last_audit_at):
            return Scan(now)
        return Scan(now, now - int(config.reconcile_interval * SCAN_INTERVALS * 1000))

    def _has_passed(self, interval: float, since: float) -> bool:
        """Return whether an interval has passed since a time, or a wrong clock set the time."""
        age = self._clock.time() - since
        return age >= interval or age * 1000 < -MAX_CLOCK_SKEW_MS
