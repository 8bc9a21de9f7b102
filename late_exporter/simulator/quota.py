"""Quota of a key: requests of a minute, of the client and of the customer's software."""

from __future__ import annotations

from collections import deque
from math import ceil

WINDOW_SECONDS = 60.0


class KeyQuota:
    """Accepted requests of a key in the last 60 seconds, each of which takes a slot.

    Args:
        next_call: Unix time of the next call of the customer's own software, which uses the same
            key.
    """

    def __init__(self, next_call: float) -> None:
        self.next_call = next_call
        self._times = deque[float]()

    def take_slot(self, limit: int, now: float) -> bool:
        """Take a slot for a request; return False if none is free."""
        is_free = self._count(now) < limit
        if is_free:
            self._times.append(now)
        return is_free

    def headers(self, limit: int, now: float) -> dict[str, str]:
        """Return the headers of every response."""
        headers = {
            "Limit": limit,
            "Remaining": max(0, limit - self._count(now)),
            "Reset": ceil(self.reset(limit, now)),
        }
        return {f"X-RateLimit-{name}": str(value) for name, value in headers.items()}

    def reset(self, limit: int, now: float) -> float:
        """Return the Unix time at which the next slot frees."""
        return (
            self._times[max(0, len(self._times) - limit)] + WINDOW_SECONDS if self._times else now
        )

    def _count(self, now: float) -> int:
        while self._times and self._times[0] + WINDOW_SECONDS <= now:
            self._times.popleft()
        return len(self._times)
