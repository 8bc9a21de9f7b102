"""Show progress: a bar on a terminal, otherwise one line per finished step."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TextIO

from late_exporter.format import human_duration
from late_exporter.model import PAGE_OVERLAP, PAGE_SIZE
from late_exporter.protocols import Client
from late_exporter.status import MIN_QUOTA_WAIT

WIDTH = 24
CLEAR_LINE = "\r\x1b[K"
REFRESH_SECONDS = 0.5


class ProgressBar:
    """Shows the progress of one step after another, with the time left."""

    def __init__(self, stream: TextIO, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._monotonic = monotonic
        self._name, self._message = "", ""
        self._started_at = 0.0
        self._done = self._total = 0
        self._client: Client | None = None

    def start(self, name: str, client: Client | None = None) -> None:
        """Begin a step; with a client, it consists of requests for as many logs as there are."""
        self._name, self._message, self._client = name, "", client
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
        """Redraw the bar repeatedly, so that it shows waits while they last, and clear it at the end."""
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
        elapsed, wait = self._monotonic() - self._started_at, 0.0
        if self._client is not None:
            wait = self._client.quota_wait()
        bar, time_text = "", _duration(elapsed)
        if self._total and self._done:
            share = min(1.0, self._done / self._total)
            bar, seconds_left = f" [{'#' * int(share * WIDTH):<{WIDTH}}]", elapsed * (1 - share) / share
            if self._client is not None and self._done < self._total:
                pages = math.ceil((self._total - self._done) / (PAGE_SIZE - PAGE_OVERLAP))
                seconds_left = max(seconds_left, self._client.quota_wait(pages))
            time_text = f"{_duration(seconds_left)} left"
        waiting = f"waiting {_duration(wait)} for the quota" if wait >= MIN_QUOTA_WAIT else ""
        texts = ", ".join(filter(None, (self._message, waiting, time_text)))
        self._write(f"{CLEAR_LINE}{self._name}{bar} {texts}")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _duration(seconds: float) -> str:
    return human_duration(round(seconds)) if round(seconds) else "0 s"
