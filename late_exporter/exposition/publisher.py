"""Publishes: what the board draws becomes bodies that a scrape only has to send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

from prometheus_client.metrics_core import Metric

from late_exporter.exposition.exposition import Answer, Exposition
from late_exporter.model import Exemplar, Histogram, Labels

__all__ = ["Publisher"]

LARGE = 5000
"""Samples from which on a publication leaves the event loop alone."""

PULSE = 10.0
"""Seconds after which the process' own metrics are read anew, whatever else changes."""

PAUSE = 0.02
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
        self._waiting: list[asyncio.Future[None]] = []

    def put(
        self,
        family: str,
        labels: Labels,
        value: float | Histogram,
        *,
        created: float | None = None,
        newborn: bool = False,
    ) -> None:
        """Set a series; see Exposition."""
        self._exposition.put(family, labels, value, created=created, newborn=newborn)
        self._changed.set()

    def drop(self, family: str, labels: Labels) -> None:
        """Remove a series; see Exposition."""
        self._exposition.drop(family, labels)
        self._changed.set()

    def exemplar(self, family: str, labels: Labels, value: float, exemplar: Exemplar) -> None:
        """Attach an exemplar; see Exposition."""
        self._exposition.exemplar(family, labels, value, exemplar)
        self._changed.set()

    def answer(self, accept: str | None, accept_encoding: str | None, /) -> Answer:
        """The body for a request with these headers."""
        return self._exposition.answer(accept, accept_encoding)

    def served(self, version: int, /) -> None:
        """A body of this version was sent."""
        if self._exposition.served(version):
            self._changed.set()

    async def settled(self) -> None:
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
                async with asyncio.timeout(PULSE):
                    await self._changed.wait()
            await self.publish()
            await asyncio.sleep(PAUSE)

    async def publish(self) -> None:
        """Publish now."""
        self._changed.clear()
        waiting, self._waiting = self._waiting, []
        self._exposition.append(self._collect())
        if self._exposition.samples > LARGE:
            await asyncio.to_thread(self._exposition.publish)
        else:
            self._exposition.publish()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
