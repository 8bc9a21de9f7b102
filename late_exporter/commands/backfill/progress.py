"""Show progress: a bar on a terminal, otherwise one line per finished step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from late_exporter.format import human_duration

WIDTH = 24
CLEAR_LINE = "\r\x1b[K"


class ProgressBar:
    """Shows the progress of one step after another, with the time left."""

    def __init__(self, stream: TextIO, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._monotonic = monotonic
        self._step = ""
        self._started_at = 0.0

    def start(self, step: str) -> None:
        self._step, self._started_at = step, self._monotonic()

    def update(self, count: int, total: int, message: str) -> None:
        if not self._is_terminal:
            return
        share = min(1.0, count / total) if total > 0 else 1.0
        bar = "#" * int(share * WIDTH)
        elapsed = self._monotonic() - self._started_at
        seconds_left = round(elapsed * (1 - share) / share) if share else 0
        time_left = human_duration(seconds_left) if seconds_left else "0 s"
        self._stream.write(f"{CLEAR_LINE}{self._step} [{bar:<{WIDTH}}] {message}, {time_left} left")
        self._stream.flush()

    def finish(self, message: str) -> None:
        self._stream.write(f"{CLEAR_LINE if self._is_terminal else ''}{self._step}: {message}\n")
        self._stream.flush()

    def clear(self) -> None:
        if self._is_terminal:
            self._stream.write(CLEAR_LINE)
            self._stream.flush()
