"""Show progress: a line that is drawn again on a terminal, otherwise one line per finished step."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TextIO

from late_exporter.format import human_duration
from late_exporter.model import PAGE_OVERLAP, PAGE_SIZE
from late_exporter.status import MIN_QUOTA_WAIT

CLEAR_LINE = "\r\x1b[K"
REFRESH_SECONDS = 0.5


class ProgressLine:
    """Shows the progress of one step after another, with the time left."""

    def __init__(self, stream: TextIO, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._monotonic = monotonic
        self._name, self._message = "", ""
        self._started_at = 0.0
        self._done = self._total = 0
        self._quota_wait: Callable[[int], float] = lambda _: 0.0

    def start(self, name: str, quota_wait: Callable[[int], float] = lambda _: 0.0) -> None:
        """Begin a step, of requests for as many logs as there are if it has the ``quota_wait`` of a client."""
        self._name, self._message, self._quota_wait = name, "", quota_wait
        self._started_at, self._done, self._total = self._monotonic(), 0, 0

    def update(self, done: int, total: int, message: str) -> None:
        """Draw how far the step is; the total is 0 if unknown."""
        self._done, self._total, self._message = done, total, message
        self._draw()

    def finish(self, message: str) -> None:
        self._write(f"{CLEAR_LINE if self._is_terminal else ''}{self._name}: {message}\n")
        self._name = ""

    def clear(self) -> None:
        self._name = ""
        if self._is_terminal:
            self._write(CLEAR_LINE)

    @asynccontextmanager
    async def live(self) -> AsyncIterator[None]:
        """Redraw the line repeatedly, so that it shows waits while they last, and clear it at the end."""
        task = asyncio.ensure_future(self._draw_repeatedly())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self.clear()

    async def _draw_repeatedly(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            self._draw()

    def _draw(self) -> None:
        if not self._name or not self._is_terminal:
            return
        texts, wait = [self._message], self._quota_wait(1)
        if wait >= MIN_QUOTA_WAIT:
            texts.append(f"waiting {_duration(wait)} for the quota")
        if 0 < self._done < self._total:
            rest, elapsed = self._total - self._done, self._monotonic() - self._started_at
            pages = math.ceil(rest / (PAGE_SIZE - PAGE_OVERLAP))
            texts.append(f"{_duration(max(elapsed * rest / self._done, self._quota_wait(pages)))} left")
        self._write(f"{CLEAR_LINE}{self._name}: {', '.join(filter(None, texts))}")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _duration(seconds: float) -> str:
    return human_duration(round(seconds)) if round(seconds) else "0 s"
