"""Token buckets, which limit requests and the log lines that clients cause."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestRate:
    """A token bucket: ``burst`` requests at once, and one more after every ``interval`` seconds."""

    interval: float
    burst: int


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
