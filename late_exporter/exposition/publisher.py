"""Publishes: what the board draws becomes bodies that a scrape only has to send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

from prometheus_client.metrics_core import Metric

from late_exporter.exposition.exposition import Exposition

__all__ = ["Publisher"]

THREAD_SAMPLES = 5000
"""Samples from which on a publication leaves the event loop alone."""

REFRESH_SECONDS = 10.0
"""Seconds after which the process' own metrics are read anew, whatever else changes."""

MIN_INTERVAL_SECONDS = 0.02
"""Seconds between two publications."""


class Publisher:
    """Stands between those who draw, the exposition, and those who send.

    Args:
        exposition: Renders.
        collect: The process' own metrics.
    """

    def __init__(self, exposition: Exposition, collect: Callable[[], Iterable[Metric]]) -> None:
        self._exposition = exposition
        self._collect = collect
        self._changed = asyncio.Event()
        exposition.on_change(self._changed.set)
        self._waiting: list[asyncio.Future[None]] = []

    async def wait_published(self) -> None:
        """Wait until all that has been drawn is published; ``run`` has to be running."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._changed.set()
        await waiter

    async def run(self) -> None:
        """Publish whenever something has changed, until cancelled."""
        while True:
            # Python 3.11's wait_for would lose a cancellation that comes together with a change.
            with suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_SECONDS):
                    await self._changed.wait()
            await self.publish()
            await asyncio.sleep(MIN_INTERVAL_SECONDS)

    async def publish(self) -> None:
        """Publish now."""
        self._changed.clear()
        waiting, self._waiting = self._waiting, []
        self._exposition.set_process_metrics(self._collect())
        if self._exposition.sample_count > THREAD_SAMPLES:
            await asyncio.to_thread(self._exposition.publish)
        else:
            self._exposition.publish()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
