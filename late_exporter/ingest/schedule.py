"""Decide when a feed is polled: interval, jitter, backoff, and wake-ups by webhooks."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable

import msgspec

from late_exporter.api.client import LateClient
from late_exporter.errors import LateError, RateLimited, StoreError, Unauthorized
from late_exporter.ingest.webhooks import WebhookStats

MAX_BACKOFF = 120.0
JITTER = 0.1

DEBOUNCE = 1.0
RECHECK_DELAY = 2.0
"""Seconds between two polls triggered by webhooks, and before a poll that found nothing is repeated."""


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


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """Time and randomness: Unix and monotonic time in seconds, and a random number from 0 to 1."""

    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random


class PollResult(msgspec.Struct, frozen=True):
    """Result of one poll.

    Args:
        outcome: Value of the label ``outcome`` of ``late_exporter_polls_total``.
        error: Error that ended the poll.
        is_partial: Whether the poll ended inside a gap, to let the newest logs go first.
    """

    outcome: str
    error: LateError | None = None
    is_partial: bool = False


class PollSchedule:
    """Time of the next poll of one feed."""

    def __init__(self, config: PollConfig, runtime: Runtime, webhook_stats: WebhookStats | None = None) -> None:
        self.config = config
        self._runtime = runtime
        self._webhook_stats = webhook_stats
        self._wake_event = asyncio.Event()
        self._is_woken = self._is_responding = False
        self._responded_at, self._triggered_at = -math.inf, math.inf
        self._next_poll_at = 0.0

    @property
    def next_poll_time(self) -> float:
        """Unix time of the next poll, in seconds."""
        return self._runtime.clock() + max(0.0, self._next_poll_at - self._runtime.monotonic())

    def wake(self) -> None:
        """Poll soon, because a webhook reported an event of the feed."""
        self._is_woken = True
        self._triggered_at = min(self._triggered_at, self._responded_at + DEBOUNCE)
        self._wake_event.set()

    def start_poll(self) -> None:
        """Note that a poll, triggered or not, answers all wake-ups so far."""
        now = self._runtime.monotonic()
        self._is_responding, self._is_woken = self._is_woken, False
        if self._is_responding:
            self._responded_at = now
        if self._is_responding or self._triggered_at <= now:
            self._triggered_at = math.inf

    def finish_poll(self, *, has_new_logs: bool) -> None:
        """If a triggered poll has found nothing, poll once more: the log may be written after its webhook was sent."""
        if self._is_responding and not has_new_logs:
            self._triggered_at = min(self._triggered_at, self._runtime.monotonic() + RECHECK_DELAY)
        self._is_responding = False

    def plan_next(self, result: PollResult, elapsed: float, *, failure_count: int) -> None:
        """Set the time of the next poll; ``elapsed`` is the duration of the last one, in seconds."""
        self._next_poll_at = self._runtime.monotonic() + self._delay(result, elapsed, failure_count)

    async def wait(self, result: PollResult, client: LateClient, key_reload_count: int) -> bool:
        """Wait for the next poll; return whether a webhook triggers it.

        After a rejected key, another key ends the wait; ``key_reload_count`` is the count before the last poll.
        """
        while (remaining := self._next_poll_at - (now := self._runtime.monotonic())) > 0:
            if isinstance(result.error, Unauthorized):
                if client.key_reload_count != key_reload_count:
                    return False
                remaining = min(remaining, self.config.interval)
            if self._webhook_stats is None:
                await self._runtime.sleep(remaining)
                continue
            if result.error is None:
                if self._triggered_at <= now:
                    return True
                remaining = min(remaining, self._triggered_at - now)
            await self._sleep_until_woken(remaining)
        return False

    def _delay(self, result: PollResult, elapsed: float, failure_count: int) -> float:
        if result.is_partial:
            return 0.0
        interval = self.config.interval
        jitter = 1 + JITTER * (2 * self._runtime.random() - 1)
        if isinstance(result.error, RateLimited):
            return max(result.error.until - self._runtime.monotonic(), interval * jitter - elapsed)
        if result.error is not None:
            # An error of the state is no reason to spare the API, and polls should go on soon after it.
            exponent = 0 if isinstance(result.error, StoreError) else min(failure_count - 1, 20)
            return min(interval * 2.0**exponent, max(interval, MAX_BACKOFF)) * jitter
        return max(interval * jitter - elapsed, interval * JITTER)

    async def _sleep_until_woken(self, seconds: float) -> None:
        tasks = [asyncio.ensure_future(each) for each in (self._runtime.sleep(seconds), self._wake_event.wait())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        finally:
            for task in tasks:
                task.cancel()
        self._wake_event.clear()
