"""Ask the session of this process what it owns, once for all scrapes that wait for the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from late_exporter.errors import StoreError

ANSWER_SECONDS = 3.0
"""Seconds that a scrape waits for the session; without an answer it has no workspaces."""


class Confirmation:
    """Answers questions about what is owned. ``confirm`` asks the session, or raises StoreError."""

    def __init__(self, confirm: Callable[[], Awaitable[frozenset[str]]]) -> None:
        self._confirm = confirm
        self._lock = asyncio.Lock()
        self._next: asyncio.Task[frozenset[str]] | None = None

    async def owned(self) -> frozenset[str]:
        """Return what is owned after this call, by a question that calls before it begins share; none if unknown."""
        if self._next is None:
            self._next = asyncio.create_task(self._ask())
            self._next.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            return await asyncio.wait_for(asyncio.shield(self._next), ANSWER_SECONDS)
        except (StoreError, TimeoutError):
            return frozenset()

    async def _ask(self) -> frozenset[str]:
        async with self._lock:
            self._next = None  # What arrives from now on needs another answer.
            return await self._confirm()
