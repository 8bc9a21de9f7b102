"""Limit how many polls run at the same time, so that not all workspaces become ready at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice

MAX_POLLS = 64
"""Polls that run at the same time, besides long ones."""

LONG_SECONDS = 2.0
"""Seconds after which a poll is long: others need not wait for it, but read their pages between its pages."""


class PollLimiter:
    """Limits the number of polls of all workspaces; they start in order of arrival.

    Short polls never wait for the end of a long one, such as the first sync of a large workspace.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._started: dict[PollSlot, float] = {}
        self._order = asyncio.Lock()
        self._end_event = asyncio.Event()

    def slot(self) -> PollSlot:
        """Return a context that waits until a poll may start, and counts it as running until its end."""
        return PollSlot(self)

    async def start(self, slot: PollSlot) -> None:
        """Wait until a poll may start, and count it as running until ``finish``."""
        async with self._order:
            while (delay := self._seconds_until_free()) > 0:
                self._end_event.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._end_event.wait()
            self._started[slot] = self._monotonic()

    def finish(self, slot: PollSlot) -> None:
        del self._started[slot]
        self._end_event.set()

    def _seconds_until_free(self) -> float:
        newest = list(islice(reversed(self._started.values()), MAX_POLLS))
        return newest[-1] + LONG_SECONDS - self._monotonic() if len(newest) == MAX_POLLS else 0.0


class PollSlot:
    """One poll that a limiter counts as running within the context."""

    def __init__(self, limiter: PollLimiter) -> None:
        self._limiter = limiter

    async def __aenter__(self) -> None:
        await self._limiter.start(self)

    async def __aexit__(self, *_: object) -> None:
        self._limiter.finish(self)
