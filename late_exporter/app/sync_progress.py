"""The progress of first syncs and catch-ups, of all feeds together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from late_exporter import log
from late_exporter.ingest.poller import Poller
from late_exporter.status import SyncProgress

PROGRESS_INTERVAL = 10.0
"""Seconds between two log lines about first syncs and catch-ups."""


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
        progress = total_progress(pollers())
        if progress is not None and progress.elapsed >= PROGRESS_INTERVAL / 2:
            seconds_left = None if progress.seconds_left is None else round(progress.seconds_left)
            fields = {"logs": progress.log_count, "expected": progress.expected_count, "seconds_left": seconds_left}
            known = {name: value for name, value in fields.items() if value is not None}
            log.get_logger("late_exporter").info("reading logs", **known)
