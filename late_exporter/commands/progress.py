"""Show progress: a line that is drawn again on a terminal, otherwise one line per finished step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TextIO

from late_exporter.health import SyncProgress
from late_exporter.model import PAGE_OVERLAP, PAGE_SIZE
from late_exporter.web.verdicts import progress_text

CLEAR_LINE = "\r\x1b[K"


class ProgressLine:
    """Shows the progress of one step after another, with the time left."""

    def __init__(self, stream: TextIO, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._start = CLEAR_LINE if stream.isatty() else ""
        self._monotonic = monotonic
        self._name = ""
        self._started_at = 0.0
        self._quota_wait: Callable[[int], float] = lambda _: 0.0

    def start(self, name: str, quota_wait: Callable[[int], float] = lambda _: 0.0) -> None:
        """Begin a step, of requests for as many logs as there are if it has the ``quota_wait`` of a client."""
        self._name, self._started_at, self._quota_wait = name, self._monotonic(), quota_wait

    def update(self, done: int, total: int) -> None:
        """Draw how many logs of the step are read, and on what it waits next."""
        if not self._start:
            return
        seconds_left, rest = None, total - done
        if done and rest:
            pages = math.ceil(rest / (PAGE_SIZE - PAGE_OVERLAP))
            seconds_left = max(
                (self._monotonic() - self._started_at) * rest / done, self._quota_wait(pages)
            )
        progress = SyncProgress(
            done, total, seconds_left=seconds_left, quota_wait=self._quota_wait(1)
        )
        self._write(f"{self._start}{self._name}: {progress_text(progress)}")

    def finish(self, message: str) -> None:
        self._write(f"{self._start}{self._name}: {message}\n")

    def close(self) -> None:
        """Clear the line."""
        self._write(self._start)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
