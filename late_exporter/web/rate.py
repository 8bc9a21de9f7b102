"""Token buckets, which limit requests and the log lines that clients cause."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from late_exporter.config.web import RequestRate

LOG_RATE = RequestRate(interval=60.0, burst=10)
"""Rate of the log lines of one kind that clients can cause."""


class TokenBucket:
    """Token bucket, full at first. ``rate`` has its capacity and the interval at which tokens are added."""

    def __init__(self, rate: RequestRate, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._monotonic = monotonic
        self._full_at = monotonic()

    def seconds_until_token(self) -> float:
        missing = max(0.0, self._full_at - self._monotonic())
        return max(0.0, missing - self.rate.interval * (self.rate.burst - 1))

    def take(self) -> None:
        self._full_at = max(self._full_at, self._monotonic()) + self.rate.interval


class LineLimiter(logging.Filter):
    """Limit log lines that anyone who can reach the server can cause; errors of the program are not limited."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._bucket = TokenBucket(LOG_RATE, monotonic)
        self._dropped = 0

    def take(self) -> int | None:
        """Return the number of lines dropped since the last one, or None if the next line must be dropped, too."""
        if self._bucket.seconds_until_token():
            self._dropped += 1
            return None
        self._bucket.take()
        dropped, self._dropped = self._dropped, 0
        return dropped

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno > logging.WARNING:
            return True
        dropped = self.take()
        if dropped:
            record.msg = f"{record.msg} ({dropped} similar lines not logged)"
        return dropped is not None
