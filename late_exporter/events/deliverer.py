"""Deliver log events from the outbox, at least once, without delaying what is counted."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from late_exporter.errors import DeliveryError, EventsRejected, LateError, StoreError
from late_exporter.events.output import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, Output
from late_exporter.events.report import OVERFLOW, DeliveryReport
from late_exporter.model import QueuedEvent
from late_exporter.protocols import Logger, Offload
from late_exporter.store import Outbox

BATCH_SECONDS = 0.25
"""Time to wait after an event was queued, so that others are delivered with it."""

IDLE_SECONDS = 30.0
"""Time after which the outbox is read even if this process has queued nothing: another one may have."""

CHECK_SECONDS = 15.0
"""Time between two measurements of a backlog, which read all of it."""

WARNING_SECONDS = 60.0
"""Time between two log lines about rejected events, because a receiver can reject any number."""

FIRST_BACKOFF, MAX_BACKOFF = 1.0, 60.0
"""Seconds to wait after the first of several failures, and the longest wait."""

MAX_RETRY_AFTER = 600.0
"""Longest wait in seconds that a receiver can ask for."""

STOP_SECONDS = 2.0
"""Time that a delivery in progress has to complete when the process is stopped."""


class EventDeliverer:
    """Delivers the events of the outbox in batches, oldest first, and deletes them after their delivery.

    A batch that the receiver rejects is divided until the event that it rejects is found and dropped.

    Args:
        outbox: Events of the workspaces of this process.
        output: Where they are delivered to.
        offload: Runs a call in the thread of the store.
        report: Counts what happens.
        max_pending: Number of events that may wait; the oldest ones beyond it are dropped.
        monotonic: Returns the monotonic time.
        random: Returns a number between 0 and 1, for the jitter of retries.
    """

    def __init__(
        self,
        outbox: Outbox,
        output: Output,
        *,
        offload: Offload,
        report: DeliveryReport,
        logger: Logger,
        max_pending: int,
        monotonic: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self.output = output
        self._outbox = outbox
        self._offload = offload
        self._report = report
        self._logger = logger
        self._max_pending = max_pending
        self._monotonic, self._random = monotonic, random
        self._queued = asyncio.Event()
        self._limit = MAX_BATCH_EVENTS
        self._unacknowledged: list[int] = []
        self._failure_count = 0
        self._next_check = 0.0
        self._rejections = _RejectionLog(logger, monotonic)

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
            if self._failure_count:
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
        if self._failure_count:
            self._logger.info("events are delivered again", output=self.output.name)
        self._failure_count = 0
        self._report.show_backlogs({})
        return IDLE_SECONDS

    async def _deliver_all(self) -> None:
        is_full = True
        while is_full or self._queued.is_set():
            self._queued.clear()
            await self._acknowledge()
            await self._check_backlog()
            events: Sequence[QueuedEvent] = await self._offload(self._outbox.read, self._limit)
            batch = _within_size(events)
            is_full = len(events) == self._limit or len(batch) < len(events)
            if batch:
                await self._deliver_batch(batch)
        await self._acknowledge()

    async def _deliver_batch(self, batch: Sequence[QueuedEvent]) -> None:
        try:
            rejected_count = await self.output.deliver(batch)
        except EventsRejected as exc:
            if len(batch) > 1:
                self._limit = len(batch) // 2
                self._queued.set()  # to go on at once
                return
            self._rejections.log(self.output.name, exc)
            self._report.count_dropped(Counter([batch[0].workspace]), exc.reason)
        except DeliveryError:
            raise
        except Exception as exc:  # an output must never stop the counting
            text = f"{self.output.name}: {type(exc).__name__}: {exc}"
            raise DeliveryError(text, reason="unexpected") from exc
        else:
            self._limit = min(MAX_BATCH_EVENTS, self._limit * 2)
            workspaces = [event.workspace for event in batch]
            # The receiver does not say which events it has rejected: the sum over all workspaces is right.
            accepted_count = len(batch) - rejected_count
            self._report.count_delivered(Counter(workspaces[:accepted_count]))
            self._report.count_dropped(Counter(workspaces[accepted_count:]), "rejected")
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
            self._logger.warning("events dropped", reason=OVERFLOW, count=sum(dropped.values()))
            self._report.count_dropped(dropped, OVERFLOW)
        self._report.show_backlogs(await self._offload(self._outbox.backlogs))

    async def _fail(self, exc: LateError) -> float:
        if not self._failure_count:
            self._logger.warning("events cannot be delivered", output=self.output.name, error=str(exc))
        else:
            self._logger.debug("events cannot be delivered", output=self.output.name, error=str(exc))
        longest = min(MAX_BACKOFF, FIRST_BACKOFF * float(2 ** min(self._failure_count, 10)))
        backoff = longest * (0.5 + self._random() / 2)
        self._failure_count += 1
        if not isinstance(exc, DeliveryError):
            return backoff
        with suppress(StoreError):
            backlogs = await self._offload(self._outbox.backlogs)
            self._report.show_backlogs(backlogs)
            self._report.count_failure(backlogs, exc.reason)
        return max(backoff, min(exc.retry_after, MAX_RETRY_AFTER))


class _RejectionLog:
    """Logs rejected events, at most one line per WARNING_SECONDS, with their number since the last line."""

    def __init__(self, logger: Logger, monotonic: Callable[[], float]) -> None:
        self._logger = logger
        self._monotonic = monotonic
        self._count = 0
        self._next_line = -math.inf

    def log(self, output: str, exc: EventsRejected) -> None:
        self._count += 1
        now = self._monotonic()
        if now < self._next_line:
            return
        self._logger.warning("events dropped", output=output, reason=exc.reason, error=str(exc), count=self._count)
        self._count, self._next_line = 0, now + WARNING_SECONDS


def _within_size(events: Sequence[QueuedEvent]) -> Sequence[QueuedEvent]:
    """Return the first events whose bodies are within MAX_BATCH_BYTES together, at least one if there is any."""
    size = 0
    for number, event in enumerate(events):
        size += len(event.body)
        if number and size > MAX_BATCH_BYTES:
            return events[:number]
    return events
