from __future__ import annotations

import pytest

from late_exporter.errors import ApiUnavailable, RateLimited, StoreError
from late_exporter.ingest.schedule import PollConfig, PollResult, PollSchedule, Runtime
from late_exporter.ingest.webhooks import WebhookStats
from tests.support.clock import VirtualClock

SUCCESS = PollResult("success")
FAILURE = PollResult("unavailable", ApiUnavailable("502"))


def create_schedule(
    clock: VirtualClock, config: PollConfig, stats: WebhookStats | None = None, *, random: float = 0.5
) -> PollSchedule:
    """Return a schedule on a virtual clock."""
    runtime = Runtime(clock=clock.time, monotonic=clock.monotonic, sleep=clock.sleep, random=lambda: random)
    return PollSchedule(config, runtime, stats)


@pytest.mark.parametrize(
    ("result", "elapsed", "failure_count", "delay"),
    [
        (SUCCESS, 0.0, 0, 30.0),
        (SUCCESS, 7.0, 0, 23.0),
        (SUCCESS, 500.0, 0, 3.0),
        (PollResult("success", is_partial=True), 500.0, 0, 0.0),
        (FAILURE, 7.0, 1, 30.0),
        (FAILURE, 7.0, 2, 60.0),
        (FAILURE, 7.0, 50, 120.0),
        (PollResult("store_error", StoreError("no answer in time")), 7.0, 50, 30.0),
        (PollResult("rate_limited", RateLimited("429", until=45.0)), 7.0, 1, 45.0),
        (PollResult("rate_limited", RateLimited("429", until=10.0)), 7.0, 1, 23.0),
    ],
)
def test_delay(result: PollResult, elapsed: float, failure_count: int, delay: float) -> None:
    """The delay is the rest of the interval, a backoff after failures of the API, the reset after a 429, 0 in a gap."""
    clock = VirtualClock()
    schedule = create_schedule(clock, PollConfig(interval=30.0))
    schedule.plan_next(result, elapsed, failure_count=failure_count)
    assert clock.now + delay == schedule.next_poll_time


@pytest.mark.parametrize(("random", "delay"), [(0.0, 27.0), (1.0, 33.0)])
def test_jitter(random: float, delay: float) -> None:
    """The delay varies by a tenth."""
    clock = VirtualClock()
    schedule = create_schedule(clock, PollConfig(interval=30.0), random=random)
    schedule.plan_next(SUCCESS, 0.0, failure_count=0)
    assert pytest.approx(clock.now + delay) == schedule.next_poll_time
