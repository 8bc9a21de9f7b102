"""Measure how far a first sync or a catch-up of a feed has come, and estimate when it ends."""

from __future__ import annotations

import math

import msgspec

from late_exporter.api.client import LateClient
from late_exporter.health import SyncProgress
from late_exporter.ingest.schedule import Runtime
from late_exporter.ingest.sync import FeedSync
from late_exporter.model import PAGE_OVERLAP, PAGE_SIZE
from late_exporter.store.records import Coverage

MIN_SHARE = 0.01
"""Share of the time range from which the number of logs in the rest is estimated."""


class _Start(msgspec.Struct):
    """Start of a sync.

    Args:
        time: Monotonic time.
        clock: Unix time in milliseconds.
        read_count: Logs read before.
        unread: Milliseconds of which a catch-up has to read the logs; None for a first sync.
    """

    time: float
    clock: int
    read_count: int
    unread: int | None


class SyncMeter:
    """Progress of the first sync, and of later catch-ups, of one feed."""

    def __init__(self, sync: FeedSync, runtime: Runtime) -> None:
        self._sync = sync
        self._runtime = runtime
        self._start: _Start | None = None

    def start_poll(self) -> None:
        """Take the time, unless an earlier poll has begun to read what is left."""
        coverage, read_count = self._sync.fetcher.coverage, self._sync.read_count
        if self._start is None or self._start.read_count == read_count:
            clock, unread = self._sync.fetcher.now(), None
            if coverage is not None and coverage.is_synced:
                # The high-water mark is not the newest log, so that the range ends at the present.
                unread = (
                    _unread(coverage) + clock - (coverage.newest.created if coverage.newest else 0)
                )
            self._start = _Start(self._runtime.monotonic(), clock, read_count, unread)

    def finish_poll(self, *, is_partial: bool) -> float | None:
        """Return the seconds since the start if a poll has completed the first sync or a catch-up; None if not."""
        coverage, start = self._sync.fetcher.coverage, self._start
        if start is None or is_partial or coverage is None or not coverage.is_synced:
            return None
        if coverage.gaps and start.unread is not None:
            return None
        self._start = None
        return self._runtime.monotonic() - start.time

    def progress(self, client: LateClient) -> SyncProgress | None:
        """Return the progress; None if there is nothing left to read."""
        coverage, start = self._sync.fetcher.coverage, self._start
        if start is None or (coverage is not None and coverage.is_caught_up):
            return None
        elapsed, read_now = (
            self._runtime.monotonic() - start.time,
            self._sync.read_count - start.read_count,
        )
        log_count = self._sync.read_count if start.unread is None else read_now
        rest = None if coverage is None else self._estimate_rest(coverage, start, log_count)
        expected, seconds_left = None, None
        if rest is not None:
            requests = math.ceil(rest / (PAGE_SIZE - PAGE_OVERLAP)) + 1
            seconds_left = max(
                elapsed * rest / read_now if read_now else 0.0, client.quota_wait(requests)
            )
            expected = log_count + rest
        return SyncProgress(log_count, expected, elapsed, seconds_left, client.quota_wait())

    def _estimate_rest(self, coverage: Coverage, start: _Start, log_count: int) -> int | None:
        """Return the estimated number of unread logs, by the total of the API or by the times of the logs."""
        total = self._sync.fetcher.list_total if start.unread is None else 0
        rest_of_list = max(total - self._sync.read_count, 0) if total else math.inf
        whole_range = (
            start.clock - coverage.retention_floor if start.unread is None else start.unread
        )
        share = 1 - _unread(coverage) / whole_range if whole_range > 0 else 0.0
        return (
            None if share < MIN_SHARE else round(min(log_count * (1 - share) / share, rest_of_list))
        )


def _unread(coverage: Coverage) -> int:
    """Return the milliseconds of which the logs are still to be read."""
    return sum(gap.upper.created - gap.lower for gap in coverage.gaps)
