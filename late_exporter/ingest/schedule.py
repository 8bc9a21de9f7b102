"""Decide when a feed is polled: interval, jitter and backoff."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from late_exporter.api.client import LateClient
from late_exporter.errors import LateError, RateLimited, StoreError, Unauthorized

MAX_BACKOFF = 120.0
JITTER = 0.1


class PollConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Intervals and depth of polling, in seconds.

    Args:
        interval: Time between two polls.
        lookback: Depth of the first sync.
        reconcile_interval: Time between the starts of two reconciliation scans.
        late_window: Age up to which logs that appear late are looked for in every few polls.
        audit_interval: Time between two audits; 0 disables them.
    """

    interval: float = 30.0
    lookback: float = 604_800.0
    reconcile_interval: float = 600.0
    late_window: float = 900.0
    audit_interval: float = 0.0


@dataclass
class FeedConnection:
    """What a reload may change of a feed while it is not polled; its parts share one object."""

    client: LateClient
    config: PollConfig


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """Time and randomness: Unix and monotonic time in seconds, and a random number from 0 to 1."""

    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random


class ApiClock:
    """The time of the API: that of the date of its last response, plus what has elapsed since.

    Until a response has a date, it is the time of the host.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._date_offset: float | None = None

    def adjust(self, date: float | None) -> None:
        """Take the date of a response, a Unix time in seconds; None leaves the clock."""
        if date is not None:
            self._date_offset = date - self._runtime.monotonic()

    def now(self) -> int:
        """Return the Unix time in milliseconds."""
        return int(self.time() * 1000)

    def time(self) -> float:
        """Return the Unix time in seconds."""
        if self._date_offset is None:
            return self._runtime.clock()
        return self._runtime.monotonic() + self._date_offset

    @property
    def host_offset(self) -> float | None:
        """Seconds by which the host's clock is ahead of the API's; None if that is unknown."""
        return None if self._date_offset is None else self._runtime.clock() - self.time()


class PollResult(msgspec.Struct, frozen=True):
    """Result of one poll.

    Args:
        error: Error that ended the poll.
        is_partial: Whether the poll ended inside a gap, to let the newest logs go first.
    """

    error: LateError | None = None
    is_partial: bool = False

    @property
    def outcome(self) -> str:
        """Value of the label ``outcome`` of ``late_exporter_polls_total``."""
        return "success" if self.error is None else self.error.outcome


class PollSchedule:
    """Time of the next poll of one feed."""

    def __init__(self, connection: FeedConnection, runtime: Runtime) -> None:
        self._connection = connection
        self._runtime = runtime
        self._next_poll_at = 0.0

    @property
    def seconds_left(self) -> float:
        """Seconds until the next poll."""
        return max(0.0, self._next_poll_at - self._runtime.monotonic())

    def plan_next(self, result: PollResult, elapsed: float, *, failure_count: int) -> None:
        """Set the time of the next poll.

        ``elapsed`` is the duration of the last one, in seconds.
        """
        self._next_poll_at = self._runtime.monotonic() + self._delay(result, elapsed, failure_count)

    async def wait(self, result: PollResult, key_reload_count: int) -> None:
        """Wait for the next poll; after a rejected key, another key ends the wait.

        ``key_reload_count`` is the count before the last poll.
        """
        while (remaining := self._next_poll_at - self._runtime.monotonic()) > 0:
            if isinstance(result.error, Unauthorized):
                if self._connection.client.key_reload_count != key_reload_count:
                    return
                remaining = min(remaining, self._connection.config.interval)
            await self._runtime.sleep(remaining)

    def _delay(self, result: PollResult, elapsed: float, failure_count: int) -> float:
        if result.is_partial:
            return 0.0
        interval = self._connection.config.interval
        jitter = 1 + JITTER * (2 * self._runtime.random() - 1)
        if isinstance(result.error, RateLimited):
            return max(result.error.until - self._runtime.monotonic(), interval * jitter - elapsed)
        if result.error is not None:
            # An error of the state is no reason to spare the API, and polls should go on soon after
            # it.
            exponent = 0 if isinstance(result.error, StoreError) else min(failure_count - 1, 20)
            return min(interval * 2.0**exponent, max(interval, MAX_BACKOFF)) * jitter
        return max(interval * jitter - elapsed, interval * JITTER)
