"""Publication of changes: render them soon after they happen, so that a scrape only sends bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

from prometheus_client.metrics_core import Metric

from late_exporter.exposition.exposition import Exposition

THREAD_SAMPLES = 5000
"""Number of samples from which on a publication runs in a thread instead of the event loop."""

REFRESH_SECONDS = 10.0
"""Interval at which the process metrics are collected, even if no series has changed."""

MIN_INTERVAL_SECONDS = 0.02
"""Minimum pause between two publications."""


class Publisher:
    """Publish an exposition whenever it has changed, with the metrics of the process that ``collect`` returns."""

    def __init__(self, exposition: Exposition, collect: Callable[[], Iterable[Metric]]) -> None:
        self._exposition = exposition
        self._collect = collect
        self._change_event = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []
        exposition.on_change(self._change_event.set)

    async def wait_published(self) -> None:
        """Wait until all changes made so far are published; requires that ``run`` is running."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._change_event.set()
        await waiter

    async def run(self) -> None:
        """Publish after every change, until cancelled."""
        while True:
            # Not wait_for: in Python 3.11 it loses a cancellation that coincides with a change.
            with suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_SECONDS):
                    await self._change_event.wait()
            await self.publish()
            await asyncio.sleep(MIN_INTERVAL_SECONDS)

    async def publish(self) -> None:
        self._change_event.clear()
        waiters, self._waiters = self._waiters, []
        self._exposition.set_process_metrics(self._collect())
        if self._exposition.sample_count > THREAD_SAMPLES:
            await asyncio.to_thread(self._exposition.publish)
        else:
            self._exposition.publish()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
