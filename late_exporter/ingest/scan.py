"""Read a part of a list in the background of polls: a late window, or a reconciliation scan."""

from __future__ import annotations

import math

import msgspec

from late_exporter.errors import REQUEST_FAILURES
from late_exporter.ingest.catch_up import Reading
from late_exporter.ingest.feed_view import FeedView
from late_exporter.ingest.schedule import ApiClock, FeedConnection, Runtime
from late_exporter.ingest.steps import Record, ReportFailure, StepsTo
from late_exporter.ingest.sweep import Cursor, Sweep, crosses
from late_exporter.model import MAX_CLOCK_SKEW_MS, MINUTE_MS, LogEntry, LogPage

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
        found: Number of logs that polls had missed.
    """

    started_at: int
    until: int = 0
    cursor: Cursor | None = None
    found: int = 0
    failure_count: int = 0


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
        self, view: FeedView, scan: Scan | None = None, *, is_reconciliation: bool
    ) -> None:
        self._view = view
        self._is_reconciliation = is_reconciliation
        self.scan = scan
        self.completed: Scan | None = None
        self.is_abandoned = False

    def start_poll(self) -> None:
        """Forget what the last poll has completed or given up."""
        self.completed = None
        self.is_abandoned = False

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

        sweep = Sweep(
            scan.cursor or reading.below_head,
            lower,
            by_time=self._view.feed.supports_time_filter,
            failure_count=scan.failure_count,
        )
        try:
            while page_count > 0 and self._view.monotonic() < deadline:
                page = yield from sweep.read()
                scan = yield from self._record(page, scan, sweep.cursor, floor)
                page_count -= 1
                if sweep.is_complete:
                    self._complete(scan)
                    return
        except REQUEST_FAILURES as exc:
            yield ReportFailure("scan", exc.without_frames())
            self.is_abandoned = scan.failure_count >= MAX_FAILURES
            self.scan = msgspec.structs.replace(scan, failure_count=scan.failure_count + 1)
            if self.is_abandoned:
                self.scan = None

    def _complete(self, scan: Scan) -> None:
        self.scan = None
        self.completed = scan

    def _record(
        self, page: LogPage, scan: Scan, cursor: Cursor, retention_floor: int
    ) -> StepsTo[Scan]:
        """Record a page of a scan; return the scan after it."""
        missed_before = 0
        if self._is_reconciliation:
            missed_before = self._view.now() - RECONCILED_AGE

        prompt: list[LogEntry] = []
        missed: list[LogEntry] = []
        for entry in self._view.take(page, retention_floor):
            is_missed = entry.created is not None and entry.created < missed_before
            (missed if is_missed else prompt).append(entry)
        found = scan.found + sum(entry.key not in page.statuses for entry in missed)

        yield Record(tuple(prompt))
        # A record may commit, so the cursor moves with the last one.
        self.scan = msgspec.structs.replace(scan, cursor=cursor, found=found, failure_count=0)
        yield Record(tuple(missed), by_reconciliation=True)
        return self.scan


class ScanSchedule:
    """Starts of the reconciliation scans of one feed, and how far down they read.

    Args:
        last_scan_at: Unix time in seconds at which the last completed scan started; 0 if there is
            none.
        last_audit_at: Unix time in seconds at which the last scan of the whole list was completed;
            0 if there is none.

    Attributes:
        last_start: Monotonic time of the last scan.
    """

    def __init__(
        self,
        connection: FeedConnection,
        runtime: Runtime,
        clock: ApiClock,
        last_scan_at: float,
        last_audit_at: float,
    ) -> None:
        self._connection = connection
        self._runtime = runtime
        self._clock = clock
        self.last_audit_at = last_audit_at
        self.last_start = -math.inf
        age = clock.time() - last_scan_at
        # A time in the future was set by a wrong clock.
        if age * 1000 > -MAX_CLOCK_SKEW_MS:
            self.last_start = runtime.monotonic() - age

    @property
    def is_due(self) -> bool:
        elapsed = self._runtime.monotonic() - self.last_start
        return elapsed >= self._connection.config.reconcile_interval

    def postpone(self) -> None:
        """Start the next scan an interval from now."""
        self.last_start = self._runtime.monotonic()

    def next_scan(self, now: int) -> Scan:
        """Return a scan of the whole list per audit interval, of its newest part in between.

        ``now`` is the API time in milliseconds.
        """
        config = self._connection.config
        age = self._clock.time() - self.last_audit_at
        # A time in the future was set by a wrong clock.
        if not -MAX_CLOCK_SKEW_MS / 1000 <= age < config.audit_interval:
            return Scan(now)
        depth = config.reconcile_interval * SCAN_INTERVALS
        return Scan(now, now - int(depth * 1000))

    def finish(self, scan: Scan, now: int) -> None:
        """Note that a scan is complete; ``now`` is the API time in milliseconds."""
        self.last_start = self._runtime.monotonic() - (now - scan.started_at) / 1000
