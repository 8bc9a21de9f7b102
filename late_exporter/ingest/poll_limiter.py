"""Limit how many polls run at the same time, so that not all workspaces become ready at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
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
        self._started: dict[object, float] = {}
        self._order = asyncio.Lock()
        self._end_event = asyncio.Event()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait until a poll may start, and count it as running until the end of the context."""
        async with self._order:
            while len(self._started) >= MAX_POLLS:
                newest = list(islice(reversed(self._started.values()), MAX_POLLS))
                delay = newest[-1] + LONG_SECONDS - self._monotonic()
                if delay <= 0:
                    break
                self._end_event.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._end_event.wait()
            poll = object()
            self._started[poll] = self._monotonic()
        try:
            yield
        finally:
            del self._started[poll]
            self._end_event.set()
