"""Show progress: a bar on a terminal, otherwise one line per finished step."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import NamedTuple, TextIO

from late_exporter.format import human_duration
from late_exporter.model import PAGE_OVERLAP, PAGE_SIZE
from late_exporter.protocols import Client
from late_exporter.status import MIN_QUOTA_WAIT

WIDTH = 24
CLEAR_LINE = "\r\x1b[K"
REFRESH_SECONDS = 0.5


class _Step(NamedTuple):
    """The step in progress: its name, when it began, and how far it has come; the total is 0 if unknown."""

    name: str = ""
    started_at: float = 0.0
    done: int = 0
    total: int = 0
    message: str = ""


class ProgressBar:
    """Shows the progress of one step after another, with the time left."""

    def __init__(self, stream: TextIO, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._monotonic = monotonic
        self._step = _Step()
        self._client: Client | None = None

    def start(self, step: str, client: Client | None = None) -> None:
        """Begin a step; with a client, it consists of requests for as many logs as there are."""
        self._step, self._client = _Step(step, self._monotonic()), client

    def update(self, done: int, total: int, message: str) -> None:
        self._step = self._step._replace(done=done, total=total, message=message)
        self.draw()

    def show(self, name: str, share: float | None, text: str) -> None:
        """Draw a bar with a text that has its own estimate; without a share there is only the text."""
        if self._is_terminal:
            bar = "" if share is None else f" [{'#' * int(share * WIDTH):<{WIDTH}}]"
            self._write(f"{CLEAR_LINE}{name}{bar} {text}")

    def draw(self) -> None:
        """Draw the bar again, with the time that has passed."""
        if not self._is_terminal or not self._step.name:
            return
        name, started_at, done, total, message = self._step
        elapsed = self._monotonic() - started_at
        share = min(1.0, done / total) if total > 0 else None
        left = f"{_duration(self._seconds_left(elapsed, share))} left" if share else _duration(elapsed)
        self.show(name, share, ", ".join([*([message] if message else []), *self._quota_wait(), left]))

    def finish(self, message: str) -> None:
        self._write(f"{CLEAR_LINE if self._is_terminal else ''}{self._step.name}: {message}\n")
        self._step = _Step()

    def clear(self) -> None:
        self._step = _Step()
        if self._is_terminal:
            self._write(CLEAR_LINE)

    @asynccontextmanager
    async def live(self) -> AsyncIterator[None]:
        """Redraw the bar repeatedly, so that it shows waits while they last."""
        task = asyncio.ensure_future(self._draw_repeatedly()) if self._is_terminal else None
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _draw_repeatedly(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            self.draw()

    @contextmanager
    def ticking(self, step: str) -> Iterator[None]:
        """Show how long a call takes that blocks this thread and does not report its progress."""
        self.start(step)
        if not self._is_terminal:
            yield
            return
        end = threading.Event()

        def tick() -> None:
            while not end.wait(REFRESH_SECONDS):
                self.draw()

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()
            self.clear()

    def _seconds_left(self, elapsed: float, share: float) -> float:
        seconds = elapsed * (1 - share) / share
        rest = self._step.total - self._step.done
        if self._client is None or rest <= 0:
            return seconds
        return max(seconds, self._client.quota_wait(math.ceil(rest / (PAGE_SIZE - PAGE_OVERLAP))))

    def _quota_wait(self) -> list[str]:
        seconds = 0.0 if self._client is None else self._client.quota_wait()
        return [f"waiting {_duration(seconds)} for the quota"] if seconds >= MIN_QUOTA_WAIT else []

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _duration(seconds: float) -> str:
    return human_duration(round(seconds)) if round(seconds) else "0 s"
