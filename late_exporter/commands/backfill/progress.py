"""How far it has come, on a terminal in one line that moves, elsewhere in a line for each thing that is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

__all__ = ["ProgressBar"]

WIDTH = 24
MINUTE, HOUR = 60, 3600
CLEAR = "\r\x1b[K"


class ProgressBar:
    """Tells a person how long it will take.

    Args:
        stream: Where to.
        monotonic: Time that only goes forward.
    """

    def __init__(self, stream: TextIO, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._moves = stream.isatty()
        self._monotonic = monotonic
        self._subject = ""
        self._began = 0.0

    def start(self, subject: str) -> None:
        """Begin with something."""
        self._subject, self._began = subject, self._monotonic()

    def update(self, done: int, total: int, words: str) -> None:
        """Tell how much of it is done."""
        if not self._moves:
            return
        share = min(1.0, done / total) if total > 0 else 1.0
        bar = "#" * int(share * WIDTH)
        left = (self._monotonic() - self._began) * (1 - share) / share if share else 0.0
        self._stream.write(f"{CLEAR}{self._subject} [{bar:<{WIDTH}}] {words}, {_span(left)} left")
        self._stream.flush()

    def finish(self, words: str) -> None:
        """Tell that it is done."""
        self._stream.write(f"{CLEAR if self._moves else ''}{self._subject}: {words}\n")
        self._stream.flush()

    def clear(self) -> None:
        """Leave no half of a line."""
        if self._moves:
            self._stream.write(CLEAR)
            self._stream.flush()


def _span(seconds: float) -> str:
    whole = round(seconds)
    if whole >= HOUR:
        return f"{whole // HOUR}h{whole % HOUR // MINUTE:02d}m"
    return f"{whole // MINUTE}m{whole % MINUTE:02d}s" if whole >= MINUTE else f"{whole}s"
