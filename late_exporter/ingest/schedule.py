"""Decide when a feed is polled: interval, jitter and backoff."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from late_exporter.api.client import LateClient
from late_exporter.errors import LateError, RateLimited, StoreError

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
    audit_interval: float = 86_400.0


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


def poll_delay(
    result: PollResult, elapsed: float, failure_count: int, *, interval: float, runtime: Runtime
) -> float:
    """Return the seconds until the next poll.

    Args:
        result: Result of the last poll.
        elapsed: Seconds that it took.
        failure_count: Number of consecutive polls that failed.
        interval: Configured seconds between two polls.
        runtime: Clock and randomness.
    """
    if result.is_partial:
        return 0.0
    jitter = 1 + JITTER * (2 * runtime.random() - 1)
    rest = interval * jitter - elapsed
    match result.error:
        case None:
            return max(rest, interval * JITTER)
        case RateLimited(until=until):
            return max(rest, until - runtime.monotonic())
        case StoreError():
            # That is no reason to spare the API, and polls should go on soon after it.
            return interval * jitter
    backoff = interval * 2.0 ** min(failure_count - 1, 20)
    return min(backoff, max(interval, MAX_BACKOFF)) * jitter
