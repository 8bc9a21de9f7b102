"""Rate limiter of an API key that leaves to the other users of the key what they need.

The design is described in docs/design/shared-quota.md.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from late_exporter.api.headers import MINUTE
from late_exporter.status import Quota

INITIAL_RATE_LIMIT = 60
"""Requests per minute of the smallest tier, assumed until the API reports the limit."""

MAX_RESERVE = 0.1
"""Share of the limit that is never used, unless ``quota_share`` claims it."""

BURST_SHARE = 1 / 12
"""Share of the limit that may be sent at once."""

PACE = 2.0
"""Speed of further requests, as a multiple of the even distribution over a minute."""

MAX_NAP = 1.0
"""Seconds after which a waiting request considers what has been learnt about the quota meanwhile."""

MIN_NAP = 0.001

MAX_SLOTS = 64
"""Requests to one API that are in flight at a time; more responses at once would wait for the processor until they time
out. At 0.5 s per response, these are 128 requests per second."""

RESET_TOLERANCE = 2.0
"""Seconds by which a reset may be past, as it and the clock of the API are rounded to seconds."""


class Sample(NamedTuple):
    """Requests of other users that the API counts at a monotonic time.

    Args:
        requests: Their number, if the API counts no request in flight of this process yet.
        certain: Their number, if it counts all of these.
        expected: Their number when the API's window ends.
    """

    time: float
    requests: int
    certain: int
    expected: float


class CustomerUse:
    """Estimate of the requests per minute by all other users of a key.

    Other users are the customer's own software, and other processes of late-exporter.

    Attributes:
        highest: Highest number of requests within one of the last minutes.
    """

    RETENTION = 180.0
    """Seconds for which the highest use counts, because use fluctuates."""

    FORECAST_RETENTION = 70.0
    """Seconds for which an extrapolated use counts, until a response has shown the use of the same minute."""

    HORIZONS = (20.0, 8.0)
    """Seconds from which the use of a minute is extrapolated."""

    MIN_WINDOW_AGE = 40.0
    """Age in seconds from which a window is extrapolated to its end."""

    MIN_SPAN = 3.0
    """Shortest time in seconds that a growth is assumed to have taken."""

    DOUBT = 1.5
    """Standard errors that are added to the first sample of the use; they decrease to 0 during the retention."""

    RESOLUTION = 1.0
    """Seconds whose samples are merged."""

    def __init__(self) -> None:
        self.highest = 0.0
        self._samples: deque[Sample] = deque()
        self._first_sample_at = math.inf
        self._window_start = -math.inf

    def observe(self, now: float, requests: int, *, in_flight: int = 0, window_start: float) -> None:
        """Add a sample at a monotonic time.

        Args:
            now: Monotonic time.
            requests: Requests that the API counts, without the known ones of this process.
            in_flight: Further requests of this process, which the API may or may not have counted.
            window_start: Time of the oldest request that the API counts, or earlier.
        """
        samples, window_age = self._samples, now - window_start
        if not samples:
            self._first_sample_at = now
        self._window_start = window_start
        sample = Sample(now, requests, max(requests - in_flight, 0), requests)
        if samples and self.MIN_WINDOW_AGE <= window_age < MINUTE:
            # A fixed window shows the use of a whole minute only at its end, when no response may come.
            growth, seconds = self._growth(now - self.HORIZONS[0], sample)
            sample = sample._replace(expected=requests + growth / seconds * (MINUTE - window_age))
        if len(samples) > 1 and now - samples[-1].time < self.RESOLUTION:
            last = samples.pop()
            sample = Sample(
                last.time,
                max(last.requests, sample.requests),
                max(last.certain, sample.certain),
                max(last.expected, sample.expected),
            )
        samples.append(sample)
        while samples[0].time < now - self.RETENTION:
            samples.popleft()
        recent = samples[-1].time - self.FORECAST_RETENTION
        self.highest = max([each.expected if each.time > recent else each.requests for each in samples])

    def estimate(self, now: float) -> float:
        """Return the requests per minute to expect: the highest of the last minutes, or more if they are increasing."""
        if not self.highest:
            return 0.0
        # At first the observed requests are a small sample of a random process.
        doubt = self.DOUBT * max(1 - (now - self._first_sample_at) / self.RETENTION, 0.0)
        growths = [self._growth(now - horizon, self._samples[-1]) for horizon in self.HORIZONS]
        rates = [(growth + doubt * math.sqrt(growth)) / seconds * MINUTE for growth, seconds in growths]
        return max(self.highest + doubt * math.sqrt(self.highest), *rates)

    def _growth(self, start: float, last: Sample) -> tuple[int, float]:
        """Return how much the use has grown from a time to a sample, and the seconds that it took."""
        baseline = self._baseline(start)
        return max(last.certain - baseline.certain, 0), max(last.time - baseline.time, self.MIN_SPAN)

    def _baseline(self, time: float) -> Sample:
        """Return the last sample before a time, or the start of the window if that is later."""
        if self._window_start > time:
            return Sample(self._window_start, 0, 0, 0.0)
        return next((sample for sample in reversed(self._samples) if sample.time <= time), self._samples[0])


class Pace:
    """Spreads requests evenly, except for a burst after a time with few requests (a leaky bucket)."""

    def __init__(self) -> None:
        self._level = 0.0
        self._updated_at = -math.inf

    def delay(self, now: float, *, per_minute: float, burst: float) -> float:
        """Return the seconds until the next request; the pace may change at any time."""
        leaked = (now - self._updated_at) * per_minute / MINUTE
        self._level = min(max(self._level - leaked, 0.0), burst)
        self._updated_at = now
        # A rounding error must not delay a request.
        return max(self._level + 1.0 - burst - 1e-9, 0.0) * MINUTE / per_minute

    def count(self) -> None:
        """Add a request that is sent now."""
        self._level += 1.0


def left_by_others(limit: int, quota_share: float, others: float) -> float:
    """Return the requests per minute that a process may send in addition to the other users of its key.

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

    Within any 60 seconds it allows at most a share of the limit, and at most what the other users of the key leave;
    but one request per minute in any case, to notice when they need less.

    Args:
        quota_share: Share of the limit, from 0 to 1.
        slots: Limits the requests in flight of all keys; each key waits for one slot at a time, in order of arrival.
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
        self._monotonic = monotonic
        self._sleep = sleep
        self._slots = slots or asyncio.Semaphore(MAX_SLOTS)
        self._lock = asyncio.Lock()
        self._own = OwnUse()
        self._customer = CustomerUse()
        self._pace = Pace()
        self._paused_until = -math.inf
        self._probed_at = -math.inf

    @property
    def customer_requests(self) -> int:
        """Highest requests per minute by other users of the key within the last minutes."""
        return round(self._customer.highest)

    @property
    def max_requests(self) -> int:
        """Maximum number of requests within the 60 seconds that end now."""
        estimate = self._customer.estimate(self._monotonic())
        rest = left_by_others(self.rate_limit, self.quota_share, estimate)
        return max(1, math.floor(min(self.rate_limit * self.quota_share, rest)))

    def wait_for(self, requests: int) -> float:
        """Return the seconds until the last of some further requests may be sent, if no other user needs more."""
        now, budget = self._monotonic(), self.max_requests
        paced = (requests - 1 - budget * BURST_SHARE) * MINUTE / (PACE * budget)
        return max(self._delay(), paced, self._own.delay_of_last(now, budget, requests))

    async def acquire(self) -> float:
        """Wait until the next request may be sent, and return the monotonic time; callers are served in order.

        Call ``release`` when the request has ended.
        """
        async with self._lock:
            await self._wait_for_quota()
            while self._slots.locked():
                await self._slots.acquire()
                if self._delay() <= 0:
                    break
                self._slots.release()  # Others have used the quota meanwhile; no slot may be held while waiting for it.
                await self._wait_for_quota()
            else:
                await self._slots.acquire()
            now = self._monotonic()
            self._pace.count()
            self._own.start()
            if self._paused_until > self._probed_at:
                self._probed_at = now
            return now

    async def _wait_for_quota(self) -> None:
        while (delay := self._delay()) > 0:
            nap = min(max(delay, MIN_NAP), MAX_NAP)
            self.wait_seconds += nap
            await self._sleep(nap)

    def release(self) -> None:
        """Report that a request has ended, with or without a response."""
        self._slots.release()
        self._own.finish(self._monotonic())

    def update(self, quota: Quota, until_reset: float | None, *, sent_at: float | None = None) -> None:
        """Apply the quota reported by a response.

        Args:
            quota: Reported quota.
            until_reset: Seconds until the reported reset, negative if it is past; None if none is reported.
            sent_at: Time at which the request was sent; None if the API refused it and may not have counted it.
        """
        now = self._monotonic()
        self.rate_limit = quota.limit
        total = min(max(quota.limit - quota.remaining, 0), quota.limit)
        # The reset is when the oldest request leaves the window, or when the whole window ends.
        window_start = -math.inf
        if until_reset is not None and -RESET_TOLERANCE <= until_reset <= MINUTE + RESET_TOLERANCE:
            window_start = now + min(until_reset - MINUTE, 0.0)
        if sent_at is not None and self._own.count(sent_at):
            return  # A later request was answered first, so this response is out of date.
        own = self._own.count_since(max(window_start - RESET_TOLERANCE, now - MINUTE), total)
        in_flight = self._own.in_flight - 1
        self._customer.observe(now, total - own, in_flight=in_flight, window_start=window_start)

    def pause(self, seconds: float) -> float:
        """Block all requests for some seconds; return the monotonic time at which the pause ends."""
        self._paused_until = max(self._paused_until, self._monotonic() + seconds)
        return self._paused_until

    def _delay(self) -> float:
        now, budget = self._monotonic(), self.max_requests
        if self._paused_until > self._probed_at and now >= self._probed_at + MINUTE:
            return self._paused_until - now  # One request after a 429 shows whether others still use everything.
        burst = max(1.0, min(self.rate_limit * BURST_SHARE, budget))
        return max(
            self._paused_until - now,
            self._own.delay(now, budget),
            self._pace.delay(now, per_minute=PACE * budget, burst=burst),
        )


class OwnUse:
    """Requests of this process within the last 60 seconds.

    A request takes up a part of the quota from the moment it is sent until 60 seconds after its response, because it is
    unknown when the API counted it. It is among the requests that the API reports only if the API must have counted it.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self._end_times: deque[float] = deque()
        self._counted: list[float] = []
        self._last_counted = -math.inf

    def start(self) -> None:
        self.in_flight += 1

    def finish(self, now: float) -> None:
        self.in_flight -= 1
        self._end_times.append(now)

    def delay(self, now: float, budget: int) -> float:
        """Return the seconds until fewer requests than ``budget`` fall within 60 seconds."""
        while self._end_times and self._end_times[0] <= now - MINUTE:
            self._end_times.popleft()
        surplus = self.in_flight + len(self._end_times) - budget
        if surplus < 0:
            return 0.0
        # A request in flight ends now at the earliest.
        end_time = self._end_times[surplus] if surplus < len(self._end_times) else now
        return end_time + MINUTE - now

    def delay_of_last(self, now: float, budget: int, requests: int) -> float:
        """Return about how many seconds pass until the last of some further requests is sent."""
        busy = self.in_flight + len(self._end_times)
        minutes, slot = divmod(busy + requests - 1, budget)
        if not minutes:
            return 0.0
        # It is sent so many minutes after the request that has the same place among those of the first minute.
        if slot < len(self._end_times):
            return self._end_times[slot] + MINUTE * minutes - now
        return max(slot - busy - budget * BURST_SHARE, 0.0) * MINUTE / (PACE * budget) + MINUTE * minutes

    def count(self, sent_at: float) -> bool:
        """Add a request that the API has counted; return whether one that was sent later is already counted."""
        heapq.heappush(self._counted, sent_at)
        is_overtaken = sent_at < self._last_counted
        self._last_counted = max(self._last_counted, sent_at)
        return is_overtaken

    def count_since(self, start: float, total: int) -> int:
        """Return how many requests of this process are among the ``total`` that the API counts since a time."""
        while self._counted and self._counted[0] <= start:
            heapq.heappop(self._counted)
        # If the API counts clearly fewer than were sent, it has begun a new window, or does not count all of them.
        # Requests in flight can be counted in another order than they were sent.
        if len(self._counted) > total + self.in_flight + 1:
            self._counted = heapq.nlargest(total, self._counted)[::-1]
        return min(len(self._counted), total)
