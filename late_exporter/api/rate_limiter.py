"""Rate limiter of an API key that leaves to the other users of the key what they need.

The design is described in docs/development/decisions.md.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable

from late_exporter.api.responses import MINUTE
from late_exporter.health import Quota

INITIAL_RATE_LIMIT = 60
"""Requests per minute of the smallest tier, assumed until the API reports the limit."""

MAX_RESERVE = 0.1
"""Share of the limit that is never used, unless ``quota_share`` claims it."""

BURST_SHARE = 1 / 12
"""Share of the limit that may be sent at once."""

MAX_NAP = 1.0
"""Seconds after which a waiting request considers what has been learnt about the quota
meanwhile."""

MAX_SLOTS = 64
"""Requests to one API that are in flight at a time; more responses at once would wait for the
processor until they time out. At 0.5 s per response, these are 128 requests per second."""

USE_SECONDS = 180.0
"""Seconds for which the highest use by others counts, because use fluctuates."""


GROWTH_SECONDS = 20.0
"""Seconds whose growth of the use by others is extrapolated to a minute, to notice a customer that
begins."""


def left_by_others(limit: int, quota_share: float, others: float) -> float:
    """Return the requests per minute that a process may send beside other users of its key.

    Args:
        limit: Requests per minute of the key.
        quota_share: Share of the limit that the process may use at most, from 0 to 1.
        others: Requests per minute by the others.
    """
    reserve = min(MAX_RESERVE, 1 - quota_share)
    # Processes that share a key each leave a part of the rest, so that their parts become equal.
    return max((1 - reserve) * limit - others, 0.0) * (1 - 2 * reserve)


class RateLimiter:
    """Rate limiter of one key.

    Within any 60 seconds it allows at most a share of the limit, and at most what the other users
    of the key leave; but one request per minute in any case, to notice when they need less. A
    request counts from the moment it is sent until 60 seconds after its response, because it is
    unknown when in between the API has counted it.

    Args:
        quota_share: Share of the limit, from 0 to 1.
        slots: Limits the requests in flight of all keys; each key waits for one slot at a time, in
            order of arrival.

    Attributes:
        wait_seconds: Seconds that requests have waited.
        customer_requests: Highest requests per minute by other users of the key within the last
            minutes.
    """

    def __init__(
        self,
        quota_share: float,
        *,
        slots: asyncio.Semaphore | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.quota_share = quota_share
        self.rate_limit = INITIAL_RATE_LIMIT
        self.wait_seconds = 0.0
        self.customer_requests = 0
        self._monotonic = monotonic
        self._sleep = sleep
        self._slots = slots or asyncio.Semaphore(MAX_SLOTS)
        self._lock = asyncio.Lock()
        self._in_flight = 0
        self._end_times = deque[float]()
        self._paced_until = self._paused_until = -math.inf
        self._use_by_others = deque[tuple[float, int]]()
        self._growth_per_minute = 0.0

    @property
    def max_requests(self) -> int:
        """Maximum number of requests within the 60 seconds that end now."""
        others = float(self.customer_requests)
        if self._use_by_others and self._monotonic() - self._use_by_others[-1][0] < MINUTE:
            others = max(others, self._growth_per_minute)
        rest = left_by_others(self.rate_limit, self.quota_share, others)
        return max(1, math.floor(min(self.rate_limit * self.quota_share, rest)))

    def delay(self) -> float:
        """Return the seconds until the next request may be sent, unless others wait for it."""
        now = self._monotonic()
        budget = self.max_requests
        self._forget(now)
        delay = max(self._paused_until, self._paced_until) - now
        surplus = self._in_flight + len(self._end_times) - budget
        if surplus >= 0:
            # A request in flight ends now at the earliest.
            end = self._end_times[surplus] if surplus < len(self._end_times) else now
            delay = max(delay, end + MINUTE - now)
        return max(delay, 0.0)

    async def acquire(self) -> None:
        """Wait until the next request may be sent; callers are served in order.

        Call ``release`` when the request has ended.
        """
        async with self._lock:
            while True:
                while (delay := self.delay()) > 0:
                    nap = min(max(delay, 0.001), MAX_NAP)
                    self.wait_seconds += nap
                    await self._sleep(nap)
                await self._slots.acquire()
                if self.delay() <= 0:
                    break
                # The quota was used meanwhile; no slot may be held while waiting for it.
                self._slots.release()
            interval = self._interval
            self._paced_until = (
                max(self._paced_until, self._monotonic() - self._burst * interval) + interval
            )
            self._in_flight += 1

    def release(self) -> None:
        """Report that a request has ended, with or without a response."""
        self._slots.release()
        self._in_flight -= 1
        self._end_times.append(self._monotonic())

    def update(self, quota: Quota) -> None:
        """Apply the quota reported by a response, before its request is released."""
        now = self._monotonic()
        self.rate_limit = quota.limit
        self._forget(now)
        total = min(max(quota.limit - quota.remaining, 0), quota.limit)
        # The highest sample counts, so that one of a response that others have overtaken changes
        # nothing.
        self._use_by_others.append((now, max(total - len(self._end_times) - self._in_flight, 0)))
        while self._use_by_others[0][0] < now - USE_SECONDS:
            self._use_by_others.popleft()
        self.customer_requests = max(requests for _, requests in self._use_by_others)
        recent = [
            requests for time, requests in self._use_by_others if time >= now - GROWTH_SECONDS
        ]
        self._growth_per_minute = (recent[-1] - recent[0]) * MINUTE / GROWTH_SECONDS

    def pause(self, seconds: float) -> float:
        """Block all requests for some seconds.

        Return the monotonic time at which the pause ends.
        """
        self._paused_until = max(self._paused_until, self._monotonic() + seconds)
        return self._paused_until

    def _forget(self, now: float) -> None:
        while self._end_times and self._end_times[0] <= now - MINUTE:
            self._end_times.popleft()

    @property
    def _interval(self) -> float:
        """Seconds between two requests that are spread evenly over a minute."""
        return MINUTE / self.max_requests

    @property
    def _burst(self) -> float:
        """Number of requests that may be sent at once, before those that are spread."""
        return max(1.0, min(self.rate_limit * BURST_SHARE, self.max_requests)) - 1
