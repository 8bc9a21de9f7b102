from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from late_exporter.api.client import LateClient
from late_exporter.api.rate_limiter import RateLimiter
from late_exporter.health import Quota
from tests.support.clock import LoopClock
from tests.support.profiles import example_count, exhaustive
from tests.support.shared_quota import SharedQuota, run_for, send_forever

Schedule = Callable[[int, float, float], Sequence[float]]

MINUTE = 60.0
DURATION = 4 * MINUTE


def evenly(rate: int, start: float, end: float) -> Sequence[float]:
    """Return times of calls at equal intervals."""
    return [start + number * MINUTE / rate for number in range(int((end - start) * rate / MINUTE))]


def in_bursts(rate: int, start: float, end: float) -> Sequence[float]:
    """Return times of calls that are made as fast as possible at the start of each minute."""
    minutes = range(int((end - start) / MINUTE))
    return [start + minute * MINUTE + number * 0.01 for minute in minutes for number in range(rate)]


def at_random(rate: int, start: float, end: float) -> Sequence[float]:
    """Return random times of calls."""
    generator = random.Random(3)
    return sorted(generator.uniform(start, end) for _ in range(int((end - start) * rate / MINUTE)))


# A quota that is shared with the customer's own software.


def simulate(
    quota: SharedQuota,
    calls: Sequence[float] = (),
    *,
    start: float = 0.0,
    exporters: int = 1,
    seconds: float = DURATION,
) -> Sequence[LateClient]:
    """Run exporters without end of work from a time on, each with two feeds, beside the customer's calls."""
    clients: list[LateClient] = []

    async def run_exporter() -> None:
        await asyncio.sleep(start)
        client = quota.connect()
        clients.append(client)
        await asyncio.gather(send_forever(client), send_forever(client))

    run_for(start + seconds, quota.call_at(calls), *(run_exporter() for _ in range(exporters)))
    return clients


def count_per_minute(quota: SharedQuota) -> Sequence[int]:
    """Return how many requests the first exporter sent in each minute."""
    times = quota.exporter_times[0]
    return [sum(minute * MINUTE <= time < (minute + 1) * MINUTE for time in times) for minute in range(4)]


@pytest.mark.parametrize(("limit", "rate"), [(60, 40), *exhaustive((600, 400))])
@pytest.mark.parametrize("schedule", [evenly, in_bursts, at_random])
def test_a_first_sync_refuses_no_call(limit: int, rate: int, schedule: Schedule) -> None:
    """An exporter that starts together with the customer's software takes no request from it."""
    quota = SharedQuota(limit)
    simulate(quota, schedule(rate, 0.0, DURATION))

    assert quota.refused_customer_calls == []
    assert all(requests >= limit / 30 for requests in count_per_minute(quota)), "the exporter advances"


@pytest.mark.parametrize(("limit", "rate"), [(60, 40), *exhaustive((600, 400), (600, 500))])
def test_a_customer_that_begins_during_a_first_sync(limit: int, rate: int) -> None:
    """An exporter that uses its whole share makes room for the customer in time."""
    quota, start = SharedQuota(limit), 95.0
    simulate(quota, evenly(rate, start, start + DURATION), seconds=start + DURATION)

    assert quota.refused_customer_calls == []
    before, *_, after = count_per_minute(quota)
    assert limit // 2 == before
    assert 0 < after < limit - rate


@pytest.mark.parametrize("limit", [60, *exhaustive(600, 1200)])
def test_an_idle_customer_costs_no_speed(limit: int) -> None:
    """Without other users of the key the exporter uses its share in every minute, and begins with a burst."""
    quota = SharedQuota(limit)
    (client,) = simulate(quota)

    assert all(0.95 * limit / 2 <= requests <= limit / 2 + 1 for requests in count_per_minute(quota))
    assert limit / 12 <= sum(time < limit / 100 for time in quota.exporter_times[0])
    assert client.quota is not None
    assert client.quota.customer_requests <= 3, "requests in flight"


def test_a_used_up_quota() -> None:
    """Beside a customer that uses everything the exporter sends a request a minute, and recovers when that ends."""
    quota = SharedQuota(60)
    end = 6 * MINUTE
    simulate(quota, evenly(75, 0.0, end), start=MINUTE, seconds=end + 4 * MINUTE)

    (times,) = quota.exporter_times.values()
    requests = sorted([*times, *quota.refused_exporter_requests])
    assert all(len([time for time in requests if minute <= time / MINUTE < minute + 1]) <= 2 for minute in range(2, 6))
    assert max(after - before for before, after in pairwise(requests)) < 2 * MINUTE
    assert 28 <= sum(end + 4 * MINUTE <= time < end + 5 * MINUTE for time in times) <= 31


@pytest.mark.parametrize("exporters", [2, 3])
def test_several_processes_share_what_is_left(exporters: int) -> None:
    """Processes that do not know each other make room for the customer within a minute, and none of them starves."""
    quota = SharedQuota(60)
    simulate(quota, evenly(40, 0.0, 12 * MINUTE), exporters=exporters, seconds=12 * MINUTE)

    assert len(quota.refused_customer_calls) <= (0 if exporters == 2 else 5)
    assert all(time < MINUTE for time in quota.refused_customer_calls)
    parts = [sum(time >= 6 * MINUTE for time in times) / 6 for times in quota.exporter_times.values()]
    assert exporters == len(parts)
    assert 8 <= sum(parts) <= 20
    assert min(parts) >= 2


# The rate limiter.


class LimiterHarness:
    """A rate limiter on a clock that moves only if a request waits or a test moves it."""

    def __init__(self, share: float) -> None:
        self.clock = LoopClock(elapsed=1000.0)
        self.limiter = RateLimiter(share, monotonic=self.clock.monotonic, sleep=self.clock.sleep)

    async def send(self, limit: int, remaining: int) -> float:
        """Send a request, and apply the quota of its response; return when it was sent."""
        await self.limiter.acquire()
        sent_at = self.clock.monotonic()
        self.limiter.update(Quota(limit, remaining, 0.0))
        self.limiter.release()
        return sent_at - 1000.0


@pytest.mark.parametrize(
    ("share", "remaining", "wait"), [(0.5, 12, 60.0), (0.5, -1, 60.0), (0.95, 6, 60.0), (1.0, 0, 60.0), (0.5, 80, 0.0)]
)
async def test_the_last_tenth_is_left_to_others(share: float, remaining: int, wait: float) -> None:
    """If others use nine tenths of the limit, or what the share leaves, a reset soon does not matter."""
    harness = LimiterHarness(share)
    assert await harness.send(120, remaining) == 0.0
    assert await harness.send(120, remaining) == wait


@given(
    share=st.floats(0.01, 1.0),
    limits=st.lists(st.sampled_from([1, 7, 60, 120, 600, 1200]), min_size=1, max_size=4),
    pauses=st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.1, 3.3, 59.9, 60.0, 61.0]), min_size=1, max_size=60),
    duration=st.sampled_from([0.0, 0.1, 5.0]),
)
@settings(max_examples=example_count(60, thorough=1000), deadline=None)
async def test_the_share_holds_in_any_minute(
    share: float, limits: list[int], pauses: list[float], duration: float
) -> None:
    """Whenever the API counts them, at most the share of the last limit is sent in 60 seconds, but at least one."""
    harness = LimiterHarness(share)
    clock, limiter = harness.clock, harness.limiter
    for limit in limits:
        limiter.update(Quota(limit, limit, 0.0))
        spans: list[tuple[float, float]] = []
        for pause in pauses * 3:
            clock.advance(pause)
            await limiter.acquire()
            start = clock.elapsed
            clock.advance(duration)
            limiter.release()
            spans.append((start, clock.elapsed))
        most = max(1, int(limit * share))
        for number, (_, end) in enumerate(spans):
            assert most >= sum(start < end + 59.999 for start, _ in spans[number:])


# Requests in flight of all keys.


async def test_slots_are_given_in_turn() -> None:
    """Each key waits for one slot at a time, in order of arrival: one with many requests lets the others go first."""
    slots, order = asyncio.Semaphore(1), list[str]()
    busy, small = (RateLimiter(1.0, monotonic=lambda: 5.0, slots=slots) for _ in range(2))
    await busy.acquire()

    async def request(name: str, limiter: RateLimiter) -> None:
        await limiter.acquire()
        order.append(name)
        limiter.release()

    tasks = [asyncio.ensure_future(request("busy", busy)) for _ in range(4)]
    await asyncio.sleep(0)
    tasks.append(asyncio.ensure_future(request("small", small)))
    await asyncio.sleep(0)
    assert order == []
    busy.release()
    await asyncio.gather(*tasks)
    assert order == ["busy", "small", "busy", "busy", "busy"]


async def test_a_slot_does_not_wait_for_the_quota() -> None:
    """A key that must wait when its slot is free lets others have the slot, and waits for its quota first."""
    clock = LoopClock(elapsed=0.0)
    slots = asyncio.Semaphore(1)
    paused = RateLimiter(1.0, monotonic=clock.monotonic, sleep=clock.sleep, slots=slots)
    other = RateLimiter(1.0, monotonic=clock.monotonic, sleep=clock.sleep, slots=slots)
    await other.acquire()
    waiting = asyncio.ensure_future(paused.acquire())
    await asyncio.sleep(0)
    until = paused.pause(50.0)
    other.release()
    await waiting
    assert until <= clock.monotonic()
    assert slots.locked()
    paused.release()
    assert not slots.locked()
