"""Publication of changes, soon after they happen."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from late_exporter.exposition.exposition import Exposition

REFRESH_SECONDS = 15.0
"""Interval at which the metrics of the process are collected: as often as most servers scrape."""

MIN_PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 1.0
"""Minimum and maximum pause between two publications."""

PAUSE_RATIO = 9.0
"""Length of a pause, as a multiple of the time to render a body: rendering takes at most a tenth of the time."""


class Publisher:
    """Publish an exposition whenever it has changed."""

    def __init__(
        self,
        exposition: Exposition,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._exposition = exposition
        self._monotonic = monotonic
        self._sleep = sleep
        self._refresh_at = self._paused_until = -math.inf
        self._change_event = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []
        exposition.on_change = self._change_event.set

    async def wait_published(self) -> None:
        """Wait until all changes made so far are published; requires that ``run`` is running."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._change_event.set()
        await waiter

    async def run(self) -> None:
        """Publish at once and after every change, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(self._refresh_at - self._monotonic(), 0)):
                    await self._change_event.wait()
            pause = self._paused_until - self._monotonic()
            if pause > 0:  # not after the publication: a change that comes later needs no pause
                await self._sleep(pause)
            await self.publish()

    async def publish(self) -> None:
        """Publish all changes made so far; those of one commit are in the same publication."""
        while self._exposition.is_held:  # noqa: ASYNC110 - for some turns of the event loop
            await asyncio.sleep(0)
        self._change_event.clear()
        waiters, self._waiters = self._waiters, []
        now = self._monotonic()
        is_due = now >= self._refresh_at
        if is_due:
            self._refresh_at = now + REFRESH_SECONDS
        self._exposition.publish(refresh=is_due)
        pause = min(max(MIN_PAUSE_SECONDS, PAUSE_RATIO * self._exposition.render_seconds), MAX_PAUSE_SECONDS)
        self._paused_until = now + pause
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
