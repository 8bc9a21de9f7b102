"""Push all series periodically, in a thread of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from late_exporter.exposition.exposition import Exposition, SeriesCopy
from late_exporter.log import redact
from late_exporter.protocols import Logger

EXPORTS = "late_exporter_otlp_exports_total"
SCRAPE_TIMEOUT = 300.0
"""Seconds without a scrape after which pushes end the initial zeros."""

WARNING_INTERVAL = 600.0
"""Seconds between two warnings about pushes that fail."""

CLOSE_SECONDS = 2.0
"""Seconds that the last push may take, because a stopped exporter ends within five."""

MAX_MESSAGE_LENGTH = 300


class PushClient(Protocol):
    """Client of an endpoint; its methods block."""

    def export(self, series: SeriesCopy, now: float) -> str | None: ...

    def close(self) -> None: ...


class OtlpPusher:
    """Pushes an exposition at an interval in seconds, each time in a thread of its own."""

    def __init__(
        self,
        exposition: Exposition,
        client: PushClient,
        *,
        interval: float,
        logger: Logger,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._exposition = exposition
        self._client = client
        self._interval = interval
        self._logger = logger
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._scrapes = _ScrapeWatch(exposition, monotonic)
        self._counts = {"success": 0, "failure": 0}
        self._warned_at: float | None = None
        self._push_task: asyncio.Task[None] | None = None

    def collect(self) -> list[Metric]:
        """Return the counter of the pushes."""
        family = CounterMetricFamily(EXPORTS, "Pushes of all metrics by OTLP.", labels=["outcome"])
        for outcome, count in self._counts.items():
            family.add_metric([outcome], count)
        return [family]

    async def run(self) -> None:
        """Push at each interval, until cancelled; a push that takes longer delays only the next one."""
        due = self._monotonic()
        while True:
            due = max(due + self._interval, self._monotonic())
            await self._sleep(due - self._monotonic())
            self._push_task = asyncio.ensure_future(self.push())
            # A push in a thread cannot be cancelled: close() waits for it.
            await asyncio.shield(self._push_task)

    async def push(self) -> None:
        """Push all series once."""
        is_scraped = self._scrapes.is_scraped()
        version, reason = await asyncio.to_thread(self._export)
        self._counts["failure" if reason else "success"] += 1
        if reason:
            self._warn(reason)
            return
        if self._warned_at is not None:
            self._logger.info("otlp push recovered")
            self._warned_at = None
        # If Prometheus scrapes as well, it has to see the zeros: it knows no start times.
        if not is_scraped:
            self._exposition.mark_served(version)
            self._scrapes.ignore()

    async def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Push for the last time, if that is possible in time, and close the client."""
        try:
            async with asyncio.timeout(seconds):
                if self._push_task is not None:
                    await asyncio.wait([self._push_task])
                await asyncio.to_thread(self._exposition.publish)
                await self.push()
        except TimeoutError:
            self._logger.warning("the last otlp push was not complete in time", seconds=seconds)
        finally:
            self._client.close()

    def _export(self) -> tuple[int, str | None]:
        """Export all series; return the version of the exposition, and why it failed if it did."""
        series = self._exposition.copy_series()
        try:
            return series.version, self._client.export(series, self._clock())
        except Exception as exc:  # noqa: BLE001 - whatever the SDK raises, the next push tries again
            return series.version, f"{type(exc).__name__}: {exc}"

    def _warn(self, reason: str) -> None:
        now = self._monotonic()
        if self._warned_at is None or now - self._warned_at >= WARNING_INTERVAL:
            self._warned_at = now
            self._logger.warning("otlp push failed", error=redact(reason)[:MAX_MESSAGE_LENGTH])


class _ScrapeWatch:
    """Watches whether the exposition is scraped; after the start it may be."""

    def __init__(self, exposition: Exposition, monotonic: Callable[[], float]) -> None:
        self._exposition = exposition
        self._monotonic = monotonic
        self._count = exposition.served_count
        self._scraped_at = monotonic()

    def is_scraped(self) -> bool:
        """Return whether a body was sent within SCRAPE_TIMEOUT."""
        if self._exposition.served_count != self._count:
            self._count, self._scraped_at = self._exposition.served_count, self._monotonic()
        return self._monotonic() - self._scraped_at < SCRAPE_TIMEOUT

    def ignore(self) -> None:
        """Ignore what was served so far: it was a push."""
        self._count = self._exposition.served_count
