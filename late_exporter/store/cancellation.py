"""Tasks that must complete what they have begun."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable


class PostponedCancellation:
    """Postpone the cancellation of the current task, which takes effect at the first ``await`` after ``end``."""

    def __init__(self) -> None:
        self._is_cancelled = False

    async def wait(self, awaitable: Awaitable[object]) -> None:
        """Wait until something is done, or the task is cancelled."""
        try:
            await awaitable
        except asyncio.CancelledError:
            self._is_cancelled = True

    def end(self) -> None:
        """Cancel the task if that was requested meanwhile."""
        task = asyncio.current_task() if self._is_cancelled else None
        if task is not None:
            task.cancel()
