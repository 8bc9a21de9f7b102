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

    def take(self) -> float:
        """Take a token, or return the seconds until there is one."""
        now = self._monotonic()
        missing_seconds = max(0.0, self._full_at - now)
        retry_after = max(0.0, missing_seconds - self.rate.interval * (self.rate.burst - 1))
        if not retry_after:
            self._full_at = now + missing_seconds + self.rate.interval
        return retry_after


class LineLimiter(logging.Filter):
    """Limit log lines that anyone who can reach the server can cause; errors of the program are not limited."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._bucket = TokenBucket(LOG_RATE, monotonic)

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.WARNING or not self._bucket.take()
