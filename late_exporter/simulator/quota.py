"""Quota of a key: requests in a sliding window of a minute, of the client and of the customer's own software."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import ceil

WINDOW_SECONDS = 60.0


class SlidingWindow:
    """Accepted requests of one key in the last 60 seconds, each of which takes one of ``limit`` slots."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def take_slot(self, limit: int, now: float) -> bool:
        """Take a slot for a request; return False if none is free."""
        if self._count(now) >= limit:
            return False
        self._times.append(now)
        return True

    def headers(self, limit: int, now: float) -> dict[str, str]:
        """Return the headers of every response. The reset is the time at which the next slot frees."""
        remaining = max(0, limit - self._count(now))
        return {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(remaining),
            "X-RateLimit-Reset": str(ceil(self.next_free_slot(limit, now))),
        }

    def next_free_slot(self, limit: int, now: float) -> float:
        """Return the Unix time at which the next slot frees."""
        return self._times[max(0, len(self._times) - limit)] + WINDOW_SECONDS if self._times else now

    def _count(self, now: float) -> int:
        while self._times and self._times[0] + WINDOW_SECONDS <= now:
            self._times.popleft()
        return len(self._times)


class CustomerTraffic:
    """Evenly spaced calls of the customer's own software, with every key that a client uses.

    The calls with a key begin a minute before the client's first request with it, at the earliest at ``start``.

    Args:
        rate: Calls per minute with each key; 0 for none.
        start: Unix time of the first call.
        make_call: Function that makes a call with a key at a Unix time, and returns False if it was refused.
    """

    def __init__(self, rate: int, start: float, make_call: Callable[[str, float], bool]) -> None:
        self.rate = rate
        self.call_count = 0
        self.refusal_count = 0
        self._start = start
        self._make_call = make_call
        self._next_calls: dict[str, float] = {}

    def run_until(self, now: float, new_key: str | None = None) -> None:
        """Make the calls that are due, from now on also with a new key."""
        if self.rate and new_key:
            self._next_calls.setdefault(new_key, max(self._start, now - WINDOW_SECONDS))
        for key in self._next_calls:
            while self._next_calls[key] <= now:
                self.call_count += 1
                self.refusal_count += not self._make_call(key, self._next_calls[key])
                self._next_calls[key] += WINDOW_SECONDS / self.rate
