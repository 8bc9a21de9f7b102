"""Deliver log events from the outbox, at least once, without delaying what is counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from late_exporter.errors import DeliveryError, StoreError
from late_exporter.events.output import MAX_BATCH_EVENTS, Output
from late_exporter.events.report import DELIVERED, DROPPED, FAILURES, DeliveryReport
from late_exporter.protocols import Logger, Offload
from late_exporter.store.outbox import Outbox
from late_exporter.store.records import QueuedEvent

BATCH_SECONDS = 0.25
"""Time to wait after an event was queued, so that others are delivered with it."""

IDLE_SECONDS = 30.0
"""Time after which the outbox is read even if this process has queued nothing: another one may have."""

RETRY_SECONDS = 5.0
"""Time to wait after a failure."""

MAX_PENDING = 100_000  # events that wait, about 50 MB in the state
CHECK_SECONDS = 15.0
"""Time between two measurements of a backlog, which read all of it."""

STOP_SECONDS = 2.0
"""Time that a delivery in progress has to complete when the process is stopped."""


class EventDeliverer:
    """Delivers the events of the outbox in batches, oldest first, and deletes them after their delivery.

    Args:
        outbox: Events of the workspaces of this process.
        output: Where they are delivered to.
        offload: Runs a call in the thread of the store.
        report: Counts what happens.
        max_pending: Number of events that may wait; the oldest ones beyond it are dropped.
        monotonic: Returns the monotonic time.
    """

    def __init__(
        self,
        outbox: Outbox,
        output: Output,
        *,
        offload: Offload,
        report: DeliveryReport,
        logger: Logger,
        max_pending: int = MAX_PENDING,
        monotonic: Callable[[], float],
    ) -> None:
        self._outbox = outbox
        self._output = output
        self._offload = offload
        self._report = report
        self._logger = logger
        self._max_pending = max_pending
        self._monotonic = monotonic
        self._queued = asyncio.Event()
        self._unacknowledged: list[int] = []
        self._is_failing = False
        self._next_check = 0.0

    def wake(self) -> None:
        """Note that events were queued."""
        self._queued.set()

    async def run(self) -> None:
        """Deliver events until cancelled; a delivery in progress is completed if that takes little time."""
        while True:
            delivery = asyncio.ensure_future(self.deliver())
            try:
                delay = await asyncio.shield(delivery)
            except asyncio.CancelledError:
                await self._finish(delivery)
                raise
            if self._is_failing:
                await asyncio.sleep(delay)
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._queued.wait(), delay)
            await asyncio.sleep(BATCH_SECONDS)

    @staticmethod
    async def _finish(delivery: asyncio.Future[float]) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.wait((delivery,), timeout=STOP_SECONDS)
        delivery.cancel()
        await asyncio.gather(delivery, return_exceptions=True)

    async def deliver(self) -> float:
        """Deliver what is queued, and return the seconds until the next attempt."""
        self._queued.clear()
        try:
            await self._deliver_all()
        except (DeliveryError, StoreError) as exc:
            return await self._fail(exc)
        if self._is_failing:
            self._logger.info("events are delivered again", output=self._output.name)
        self._is_failing = False
        self._report.show_backlogs({})
        return IDLE_SECONDS

    async def _deliver_all(self) -> None:
        is_full = True
        while is_full or self._queued.is_set():
            self._queued.clear()
            await self._acknowledge()
            await self._check_backlog()
            events: Sequence[QueuedEvent] = await self._offload(self._outbox.read, MAX_BATCH_EVENTS)
            is_full = len(events) == MAX_BATCH_EVENTS
            if events:
                await self._deliver_batch(events)
        await self._acknowledge()

    async def _deliver_batch(self, batch: Sequence[QueuedEvent]) -> None:
        try:
            await self._output.deliver(batch)
        except DeliveryError:
            raise
        except Exception as exc:  # an output must never stop the counting
            raise DeliveryError(f"{self._output.name}: {type(exc).__name__}: {exc}") from exc
        self._report.count(DELIVERED, Counter([event.workspace for event in batch]))
        self._unacknowledged = [event.number for event in batch]

    async def _acknowledge(self) -> None:
        """Delete delivered events; if that fails, it is done before anything else is delivered."""
        if self._unacknowledged:
            await self._offload(self._outbox.delete, self._unacknowledged)
            self._unacknowledged = []

    async def _check_backlog(self) -> None:
        """Drop the oldest events beyond the limit and measure the others, from time to time."""
        now = self._monotonic()
        if now < self._next_check:
            return
        self._next_check = now + CHECK_SECONDS
        dropped = await self._offload(self._outbox.delete_oldest, self._max_pending)
        if dropped:
            self._logger.warning("events dropped", count=sum(dropped.values()))
            self._report.count(DROPPED, dropped)
        self._report.show_backlogs(await self._offload(self._outbox.backlogs))

    async def _fail(self, exc: DeliveryError | StoreError) -> float:
        log_failure = self._logger.debug if self._is_failing else self._logger.warning
        log_failure("events cannot be delivered", output=self._output.name, error=str(exc))
        self._is_failing = True
        if isinstance(exc, DeliveryError):
            with suppress(StoreError):
                backlogs = await self._offload(self._outbox.backlogs)
                self._report.show_backlogs(backlogs)
                self._report.count(FAILURES, dict.fromkeys(backlogs, 1))
        return RETRY_SECONDS
