"""Work that takes more than one poll, and that a later run continues.

A run may be shorter than a reconciliation scan or a pass over the pending logs: ``late-exporter textfile`` ends after a
poll interval, and a process may be restarted every few minutes.
"""

from __future__ import annotations

import math

import msgspec

from late_exporter.ingest.reader_state import PendingScan, ReconcileScan
from late_exporter.ingest.schedule import Runtime
from late_exporter.model import MAX_CLOCK_SKEW_MS

MAX_BYTES = 1_000_000
"""Size above which nothing is stored, for example because very many logs are pending."""

SAVE_INTERVAL = 60.0
"""Seconds of work that a process which is killed may have to repeat."""


class Progress(msgspec.Struct, omit_defaults=True):
    """Work in progress of one feed; a part is None if it is not in progress.

    Args:
        generation: API generation of the list, as positions differ in another one.
        missed_keys: Keys of pending logs that one pass has not found; those that a second one misses are gone.
    """

    generation: str
    scan: ReconcileScan | None = None
    pending_scan: PendingScan | None = None
    missed_keys: frozenset[str] = frozenset()


def encode_progress(progress: Progress) -> bytes:
    """Return the encoded progress; empty if nothing is in progress, or if it is too large."""
    if progress == Progress(progress.generation):
        return b""
    encoded = msgspec.json.encode(progress)
    return encoded if len(encoded) <= MAX_BYTES else b""


def decode_progress(encoded: bytes, generation: str) -> Progress:
    """Return the progress in the list of a generation; none if another version has encoded it."""
    try:
        progress = msgspec.json.decode(encoded, type=Progress)
    except msgspec.MsgspecError:
        return Progress(generation)
    return progress if progress.generation == generation else Progress(generation)


class ProgressSaver:
    """Decides when the progress is committed: rarely, because it comes with every poll and is large."""

    def __init__(self, saved: bytes, runtime: Runtime) -> None:
        self._saved = saved
        self._runtime = runtime
        self._saved_at = runtime.monotonic()

    def select(self, encoded: bytes, *, is_last: bool) -> bytes | None:
        """Return the progress to commit now; None if what is stored is good enough."""
        is_due = is_last or self._runtime.monotonic() - self._saved_at >= SAVE_INTERVAL
        return encoded if is_due and encoded != self._saved else None

    def confirm(self, saved: bytes) -> None:
        """Remember what was committed."""
        self._saved, self._saved_at = saved, self._runtime.monotonic()


SCAN_DEPTH = 24
"""Intervals between two scans that the most frequent scan reads: 4 hours at the default interval."""

DEPTH_GROWTH = 4
"""Each level of scans is 4 times rarer and 4 times deeper: the older a log is, the less often it is read again."""


def scan_depth(last: float, now: float, interval: float, retention: int) -> int | None:
    """Return the age in milliseconds down to which a scan reads the list; None for all of it.

    Args:
        last: Unix time in seconds at which the last completed scan started; 0 if none has completed.
        now: Present Unix time in seconds.
        interval: Seconds between two scans.
        retention: Milliseconds for which the API keeps a log.
    """
    # A multiple of a period that has passed since the last scan needs no memory of the scans before, which a process
    # that runs for a single poll does not have.
    period, depth = interval, interval * SCAN_DEPTH
    while depth * 1000 < retention:
        period *= DEPTH_GROWTH
        if last // period == now // period:
            return int(depth * 1000)
        depth *= DEPTH_GROWTH
    return None


class ScanSchedule:
    """Time and depth of the next reconciliation scan, also over restarts.

    Args:
        last_scan_at: Unix time in seconds at which the last completed scan started; 0 if none has completed.
        unfinished: Scan of an earlier run that is not complete.
    """

    def __init__(self, runtime: Runtime, *, last_scan_at: float, unfinished: ReconcileScan | None) -> None:
        self._runtime = runtime
        self._completed_at = last_scan_at
        self.unfinished = unfinished
        age = runtime.clock() - last_scan_at
        # A time in the future was set by a wrong clock.
        self.started_at = runtime.monotonic() - age if age * 1000 > -MAX_CLOCK_SKEW_MS else -math.inf

    def is_due(self, interval: float) -> bool:
        return self.unfinished is not None or self._runtime.monotonic() - self.started_at >= interval

    def postpone(self, now: int) -> None:
        """Count the interval from ``now``, because the first sync reads the whole list."""
        self.started_at, self._completed_at = self._runtime.monotonic(), now / 1000

    def start(self, now: int, interval: float, retention: int, *, is_whole: bool) -> ReconcileScan:
        """Return the unfinished scan, or a new one.

        Args:
            now: Time of the API in milliseconds.
            interval: Seconds between two scans.
            retention: Milliseconds for which the API keeps a log.
            is_whole: Whether a new scan reads the whole list in any case.
        """
        scan, self.unfinished = self.unfinished, None
        if scan is None:
            depth = None if is_whole else scan_depth(self._completed_at, now / 1000, interval, retention)
            scan = ReconcileScan(started_at=now, depth=depth)
        self.started_at = self._runtime.monotonic() - (now - scan.started_at) / 1000
        return scan

    def complete(self, scan: ReconcileScan) -> None:
        """Note that a scan was completed and committed."""
        self._completed_at = scan.started_at / 1000

    def discard(self) -> None:
        """Forget the unfinished scan, whose positions are those of another list."""
        self.unfinished = None
