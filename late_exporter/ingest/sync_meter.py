"""Measure how far a first sync or a catch-up of a feed has come, and estimate when it ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from late_exporter.ingest.schedule import Runtime
from late_exporter.model import PAGE_OVERLAP, PAGE_SIZE, Coverage
from late_exporter.protocols import Client
from late_exporter.status import SyncProgress

MIN_SHARE = 0.01
"""Share of the time range from which the number of logs in the rest is estimated."""

WHOLE_LIST_TOLERANCE = 3_600_000
"""Milliseconds by which the oldest log to read may be younger than the retention if the whole list is read."""


class ReadingState(NamedTuple):
    """What is known about the reading of a feed.

    Args:
        read_count: Logs that are committed or about to be.
        coverage: What was read; None before the first page.
        list_total: Logs of the whole list as last reported by the API; 0 if unknown.
        retention: Milliseconds for which the API keeps a log.
    """

    read_count: int
    coverage: Coverage | None
    list_total: int
    retention: int


class _Start(msgspec.Struct):
    """Start of a sync.

    Args:
        time: Monotonic time.
        read_count: Logs read before.
        is_first: Whether it is the first sync.
        clock: Unix time in milliseconds.
        unread: Milliseconds of which the logs were unread.
        newest: High-water mark.
    """

    time: float
    read_count: int
    is_first: bool
    clock: int
    unread: int = 0
    newest: int = 0


class SyncMeter:
    """Progress of the first sync, and of later catch-ups, of one feed; ``read_state`` returns the current state."""

    def __init__(self, read_state: Callable[[], ReadingState], runtime: Runtime) -> None:
        self._read_state = read_state
        self._runtime = runtime
        self._start: _Start | None = None

    def start_poll(self) -> None:
        """Take the time, unless an earlier poll has begun to read what is left."""
        state = self._read_state()
        if self._start is None or self._start.read_count == state.read_count:
            clock = int(self._runtime.clock() * 1000)
            self._start = _Start(self._runtime.monotonic(), state.read_count, is_first=True, clock=clock)
            if state.coverage is not None and state.coverage.is_synced:
                self._start.is_first = False
                self._start.unread = _unread(state.coverage)
                self._start.newest = state.coverage.newest.created if state.coverage.newest is not None else 0

    def finish_poll(self, *, is_partial: bool) -> float | None:
        """Return the seconds since the start if a poll has completed the first sync or a catch-up; None if not."""
        coverage, start = self._read_state().coverage, self._start
        if start is None or is_partial or coverage is None or not coverage.is_synced:
            return None
        if coverage.gaps and not start.is_first:
            return None
        self._start = None
        return self._runtime.monotonic() - start.time

    def progress(self, client: Client) -> SyncProgress | None:
        """Return the progress; None if there is nothing left to read."""
        state, start = self._read_state(), self._start
        if start is None or (state.coverage is not None and state.coverage.is_caught_up):
            return None
        before = 0 if start.is_first else start.read_count
        rest = None if state.coverage is None else self._estimate_rest(state, state.coverage, start)
        elapsed = self._runtime.monotonic() - start.time
        read_now = state.read_count - start.read_count
        seconds_left = None
        if rest is not None:
            requests = math.ceil(rest / (PAGE_SIZE - PAGE_OVERLAP)) + 1
            seconds_left = max(elapsed * rest / read_now if read_now else 0.0, client.quota_wait(requests))
        return SyncProgress(
            log_count=state.read_count - before,
            expected_count=None if rest is None else state.read_count - before + rest,
            elapsed=elapsed,
            seconds_left=seconds_left,
            quota_wait=client.quota_wait(),
        )

    def _estimate_rest(self, state: ReadingState, coverage: Coverage, start: _Start) -> int | None:
        """Return the estimated number of unread logs, by the total of the API or by the times of the logs."""
        rest_of_list = max(state.list_total - state.read_count, 0) if state.list_total and start.is_first else math.inf
        whole_list_floor = self._runtime.clock() * 1000 - state.retention + WHOLE_LIST_TOLERANCE
        if math.isfinite(rest_of_list) and coverage.retention_floor <= whole_list_floor:
            return int(rest_of_list)
        # The high-water mark is not the newest log, so that the range ends at the present.
        whole_range = start.unread + start.clock - start.newest
        read_count = state.read_count - start.read_count
        if start.is_first:  # An earlier process may have begun it.
            whole_range, read_count = start.clock - coverage.retention_floor, state.read_count
        share = 1 - _unread(coverage) / whole_range if whole_range > 0 else 0.0
        if share < MIN_SHARE:
            return None
        return round(min(read_count * (1 - share) / share, rest_of_list))


def _unread(coverage: Coverage) -> int:
    """Return the milliseconds of which the logs are still to be read."""
    return sum(gap.upper.created - gap.lower for gap in coverage.gaps)
