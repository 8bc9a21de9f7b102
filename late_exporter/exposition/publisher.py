"""Publication of changes: render them soon after they happen, so that a scrape only sends bytes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable

from prometheus_client.metrics_core import Metric

from late_exporter.exposition.exposition import Exposition

MAX_LOOP_CHANGES = 200
MAX_LOOP_LINES = 2000
"""Changes and lines up to which a publication runs on the event loop, about 1 and 3 ms, instead of in a thread."""

REFRESH_SECONDS = 15.0
"""Interval at which the process metrics are collected, whatever else changes: as often as most servers scrape."""

MIN_PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 1.0
"""Minimum and maximum pause between two publications."""

PAUSE_RATIO = 9.0
"""Length of a pause, as a multiple of the publication before it: publications take at most a tenth of the time."""


class Publisher:
    """Publish an exposition whenever it has changed, with the metrics of the process that ``collect`` returns."""

    def __init__(
        self,
        exposition: Exposition,
        collect: Callable[[], Iterable[Metric]],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._exposition = exposition
        self._collect = collect
        self._monotonic = monotonic
        self._sleep = sleep
        self._collected_at = -math.inf
        self._paused_until = -math.inf
        self._change_event = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []
        self._zero_timer: asyncio.TimerHandle | None = None
        exposition.on_change(self._change_event.set)

    async def wait_published(self) -> None:
        """Wait until all changes made so far are published; requires that ``run`` is running."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._change_event.set()
        await waiter

    async def run(self) -> None:
        """Publish at once and after every change, until cancelled."""
        self._change_event.set()
        while True:
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
        started = self._monotonic()
        if started - self._collected_at >= REFRESH_SECONDS:
            self._collected_at = started
            self._exposition.set_process_metrics(self._collect())
            asyncio.get_running_loop().call_later(REFRESH_SECONDS, self._change_event.set)
        if self._exposition.take_changes() > MAX_LOOP_CHANGES or self._exposition.apply_changes() > MAX_LOOP_LINES:
            await asyncio.to_thread(self._exposition.render)
        else:
            self._exposition.render()
        ended = self._monotonic()
        self._paused_until = ended + min(max(MIN_PAUSE_SECONDS, PAUSE_RATIO * (ended - started)), MAX_PAUSE_SECONDS)
        self._await_zeros()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _await_zeros(self) -> None:
        """Publish again once the next series that shows 0 is to show its value."""
        if self._zero_timer is not None:
            self._zero_timer.cancel()
        delay = self._exposition.next_zero_end()
        if delay is not None:
            self._zero_timer = asyncio.get_running_loop().call_later(max(delay, 0.0), self._change_event.set)
