"""Rate limit of the simulated API: a sliding window of a minute per key."""

from __future__ import annotations

from collections import deque
from math import ceil

WINDOW_SECONDS = 60.0


class SlidingWindow:
    """Accepted requests of one key in the last 60 seconds, each of which takes one of ``limit`` slots."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._times: deque[float] = deque()

    def take_slot(self, now: float) -> bool:
        """Take a slot for a request; return False if none is free."""
        if self.count(now) >= self.limit:
            return False
        self._times.append(now)
        return True

    def count(self, now: float) -> int:
        """Return the number of taken slots."""
        while self._times and self._times[0] + WINDOW_SECONDS <= now:
            self._times.popleft()
        return len(self._times)

    def headers(self, now: float) -> dict[str, str]:
        """Return the headers of every response. The reset is the time at which the next slot frees."""
        remaining = max(0, self.limit - self.count(now))
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(remaining),
            "X-RateLimit-Reset": str(ceil(self._next_free_slot(now))),
        }

    def retry_after(self, now: float) -> int:
        """Return the seconds until the next slot frees, rounded up."""
        return ceil(self._next_free_slot(now) - now)

    def _next_free_slot(self, now: float) -> float:
        if not self._times:
            return now
        return self._times[max(0, len(self._times) - self.limit)] + WINDOW_SECONDS


class RateLimits:
    """Windows of the keys with requests in the last minute.

    Args:
        limit: Allowed requests per key and minute.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._windows: dict[str, SlidingWindow] = {}

    @property
    def limit(self) -> int:
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        for window in self._windows.values():
            window.limit = limit

    def window(self, key: str, now: float) -> SlidingWindow:
        """Return the window of a key. Windows without requests are dropped, so that many keys use no memory."""
        if key not in self._windows:
            self._windows = {name: window for name, window in self._windows.items() if window.count(now)}
            self._windows[key] = SlidingWindow(self._limit)
        return self._windows[key]

    def unused_window(self) -> SlidingWindow:
        """Return a window without requests, for a request without a valid key."""
        return SlidingWindow(self._limit)
