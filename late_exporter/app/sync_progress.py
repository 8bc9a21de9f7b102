"""The progress of first syncs and catch-ups in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from late_exporter import log
from late_exporter.ingest.poller import Poller

PROGRESS_INTERVAL = 10.0
"""Seconds between two log lines about a first sync or a catch-up."""

MAX_PROGRESS_LINES = 10
"""Number of feeds up to which each gets a line of its own; more of them share one."""


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
    first_syncs = sum(not poller.is_synced for poller, _ in syncing)
    log.get_logger("late_exporter").info(
        "syncs in progress", first_syncs=first_syncs, catch_ups=len(syncing) - first_syncs, logs=sum(counts)
    )
