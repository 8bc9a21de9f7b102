"""The progress of first syncs and catch-ups, of all feeds together and in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from late_exporter import log
from late_exporter.ingest.poller import Poller
from late_exporter.status import SyncProgress

PROGRESS_INTERVAL = 10.0
"""Seconds between two log lines about a first sync or a catch-up."""

MAX_PROGRESS_LINES = 10
"""Number of feeds up to which each gets a line of its own; more of them share one."""


def total_progress(pollers: Iterable[Poller]) -> SyncProgress | None:
    """Return the progress of all first syncs and catch-ups together; None if nothing is left to read."""
    parts = [progress for poller in pollers if (progress := poller.measure()) is not None]
    if not parts:
        return None
    expected = [part.expected_count for part in parts if part.expected_count is not None]
    seconds_left = [part.seconds_left for part in parts if part.seconds_left is not None]
    is_known = len(expected) == len(seconds_left) == len(parts)
    return SyncProgress(
        log_count=sum(part.log_count for part in parts),
        expected_count=sum(expected) if is_known else None,
        elapsed=max(part.elapsed for part in parts),
        seconds_left=max(seconds_left) if is_known else None,
        quota_wait=min(part.quota_wait for part in parts),
    )


async def log_progress(pollers: Callable[[], Iterable[Poller]]) -> None:
    """Log every ten seconds how far first syncs and catch-ups have come, until cancelled."""
    while True:
        await asyncio.sleep(PROGRESS_INTERVAL)
        report_progress(pollers())


def report_progress(pollers: Iterable[Poller]) -> None:
    """Log how far first syncs and catch-ups have come, a line each or one for all."""
    syncing = [
        (poller, progress)
        for poller in pollers
        if (progress := poller.measure()) is not None and progress.elapsed >= PROGRESS_INTERVAL / 2
    ]
    if len(syncing) <= MAX_PROGRESS_LINES:
        for poller, progress in syncing:
            poller.log_progress(progress)
        return
    counts = [progress.log_count for _, progress in syncing]
    first_syncs = sum(not poller.recorder.is_synced for poller, _ in syncing)
    log.get_logger("late_exporter").info(
        "syncs in progress", first_syncs=first_syncs, catch_ups=len(syncing) - first_syncs, logs=sum(counts)
    )
