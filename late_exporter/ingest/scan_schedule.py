"""Decide when a reconciliation scan starts, and how far down it reads."""

from __future__ import annotations

import math

from late_exporter.ingest.scan import Scan
from late_exporter.ingest.schedule import ApiClock, PollConfig, Runtime
from late_exporter.model import DAY_MS, MAX_CLOCK_SKEW_MS

SCAN_INTERVALS = 24
"""Intervals between two scans down to which a scan reads that is not one of the whole list."""


class ScanSchedule:
    """Starts of the scans of one feed.

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
        config: PollConfig,
        runtime: Runtime,
        clock: ApiClock,
        last_scan_at: float,
        last_audit_at: float,
    ) -> None:
        self.config = config
        self._runtime = runtime
        self._clock = clock
        age = clock.time() - last_scan_at
        # A time in the future was set by a wrong clock.
        self.last_start = (
            runtime.monotonic() - age if age * 1000 > -MAX_CLOCK_SKEW_MS else -math.inf
        )
        self.last_audit_at = last_audit_at

    @property
    def is_due(self) -> bool:
        return self._runtime.monotonic() - self.last_start >= self.config.reconcile_interval

    def postpone(self) -> None:
        """Start the next scan an interval from now."""
        self.last_start = self._runtime.monotonic()

    def next_scan(self, now: int) -> Scan:
        """Return a scan of the whole list once per audit interval, and of its newest part in between.

        ``now`` is the API time in milliseconds.
        """
        interval = self.config.audit_interval or DAY_MS / 1000
        # A time in the future was set by a wrong clock.
        is_whole = (
            not -MAX_CLOCK_SKEW_MS / 1000 <= self._clock.time() - self.last_audit_at < interval
        )
        return Scan(
            now,
            0 if is_whole else now - int(self.config.reconcile_interval * SCAN_INTERVALS * 1000),
        )

    def finish(self, scan: Scan, now: int) -> None:
        """Note that a scan is complete; ``now`` is the API time in milliseconds."""
        self.last_start = self._runtime.monotonic() - (now - scan.started_at) / 1000
