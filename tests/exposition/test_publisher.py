from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable

import pytest
from prometheus_client.core import GaugeMetricFamily, Metric

from late_exporter.exposition.exposition import Exposition
from late_exporter.exposition.family import Family
from late_exporter.exposition.publisher import (
    MAX_LOOP_CHANGES,
    MAX_LOOP_LINES,
    MAX_PAUSE_SECONDS,
    MIN_PAUSE_SECONDS,
    PAUSE_RATIO,
    REFRESH_SECONDS,
    Publisher,
)

UP = Family("up", "gauge", "Help.", ("workspace",), feeds=("publishing",))


class SlowExposition(Exposition):
    """Exposition whose publications take some time of a clock.

    Attributes:
        cost: Seconds that a publication takes.
        threads: Threads of the publications.
    """

    def __init__(self, clock: FakeClock) -> None:
        super().__init__({"up": UP})
        self._clock = clock
        self.cost = 0.0
        self.threads: list[threading.Thread] = []

    def render(self) -> None:
        """Publish."""
        self.threads.append(threading.current_thread())
        self._clock.now += self.cost
        super().render()


class FakeClock:
    """Clock that only sleeping and publications advance.

    Attributes:
        on_sleep: Called at the start of every sleep.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []
        self.on_sleep: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Advance the clock."""
        self.sleeps.append(seconds)
        self.on_sleep()
        self.now += seconds


class Harness:
    """Publisher with its clock, which counts the collections of process metrics."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.exposition = SlowExposition(self.clock)
        self.collected = 0
        self.publisher = Publisher(
            self.exposition, self._collect, monotonic=self.clock.monotonic, sleep=self.clock.sleep
        )

    def _collect(self) -> list[Metric]:
        self.collected += 1
        return [GaugeMetricFamily("process_number", "Help.", self.collected)]

    def lines(self) -> list[str]:
        """Return the published samples."""
        text = self.exposition.get_body(None, None).body.decode()
        return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.fixture
def harness() -> Harness:
    """Return a publisher of an empty exposition."""
    return Harness()


async def test_process_metrics_are_collected_every_ten_seconds(harness: Harness) -> None:
    """However often series change, the process metrics are collected once in ten seconds."""
    for number in range(100):
        harness.exposition.put("up", ("w",), number)
        await harness.publisher.publish()
        harness.clock.now += REFRESH_SECONDS / 50
    assert 2 == harness.collected
    assert ['up{workspace="w"} 99.0', "process_number 2.0"] == harness.lines()


async def test_changes_follow_at_leisure(harness: Harness) -> None:
    """Between two publications there is a pause of nine times the duration of the first one, within limits."""
    costs = (0.0, 0.1, 0.5, 3.0)
    expected = [min(max(MIN_PAUSE_SECONDS, PAUSE_RATIO * cost), MAX_PAUSE_SECONDS) for cost in costs]
    task = asyncio.ensure_future(harness.publisher.run())
    harness.clock.on_sleep = lambda: harness.exposition.put("up", ("w",), len(harness.clock.sleeps))
    for cost in costs:
        harness.exposition.cost = cost
        harness.exposition.put("up", ("w",), -cost)
        await harness.publisher.wait_published()
    await harness.publisher.wait_published()
    task.cancel()
    assert expected == [pytest.approx(pause) for pause in harness.clock.sleeps]
    assert [f'up{{workspace="w"}} {len(costs)}.0'] == harness.lines()[:1], "changes during a pause follow with it"


async def test_a_change_after_the_pause_is_published_at_once(harness: Harness) -> None:
    """An exporter at rest publishes a change without a pause."""
    task = asyncio.ensure_future(harness.publisher.run())
    for number in range(3):
        harness.clock.now += MAX_PAUSE_SECONDS
        harness.exposition.put("up", ("w",), number)
        await harness.publisher.wait_published()
    task.cancel()
    assert [] == harness.clock.sleeps


async def test_changes_that_belong_together_are_awaited(harness: Harness) -> None:
    """A publication waits until no more changes follow that are published together with the last ones."""
    harness.exposition.hold(is_held=True)
    harness.exposition.put("up", ("w",), 1)
    publication = asyncio.ensure_future(harness.publisher.publish())
    for _ in range(5):
        await asyncio.sleep(0)
    assert [] == harness.lines()
    harness.exposition.put("up", ("x",), 1)
    harness.exposition.hold(is_held=False)
    await publication
    assert ['up{workspace="w"} 1.0', 'up{workspace="x"} 1.0'] == harness.lines()[:2]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("series", "changes", "in_thread"),
    [
        (MAX_LOOP_LINES + 1, MAX_LOOP_CHANGES // 2, False),
        (MAX_LOOP_LINES + 1, MAX_LOOP_CHANGES + 1, True),
        (60_000, MAX_LOOP_CHANGES // 2, True),
    ],
)
async def test_large_publications_leave_the_event_loop(
    harness: Harness, series: int, changes: int, *, in_thread: bool
) -> None:
    """Publications of many changes, or of a few changes in many blocks, run in a thread."""
    for number in range(series):
        harness.exposition.put("up", (f"w{number:05}",), 1)
    await harness.publisher.publish()
    assert harness.exposition.threads.pop() is not threading.current_thread()
    step = 1 if series < MAX_LOOP_LINES * 2 else series // changes
    for number in range(changes):
        harness.exposition.put("up", (f"w{number * step:05}",), 2)
    await harness.publisher.publish()
    assert in_thread == (harness.exposition.threads.pop() is not threading.current_thread())
    assert changes == sum(line.endswith(" 2.0") for line in harness.lines()) - ("process_number 2.0" in harness.lines())


async def test_first_publication_has_process_metrics(harness: Harness) -> None:
    """The first publication collects the process metrics, whatever the clock shows."""
    harness.clock.now = -math.pi
    await harness.publisher.publish()
    assert ["process_number 1.0"] == harness.lines()


async def test_process_metrics_change_at_rest(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """While no series changes, the process metrics are published at once, and then at their interval."""
    delays = list[float]()
    loop = asyncio.get_running_loop()

    def call_at_once(delay: float, call: Callable[[], None]) -> None:
        delays.append(delay)
        harness.clock.now += delay
        if len(delays) < 3:
            loop.call_soon(call)

    monkeypatch.setattr(loop, "call_later", call_at_once)
    task = asyncio.ensure_future(harness.publisher.run())
    for _ in range(100):
        await asyncio.sleep(0)
    task.cancel()
    assert [REFRESH_SECONDS] * 3 == delays
    assert ["process_number 3.0"] == harness.lines()


@pytest.mark.parametrize("ticks", range(6))
async def test_a_change_does_not_swallow_the_end(monkeypatch: pytest.MonkeyPatch, ticks: int) -> None:
    """The publisher ends if it is cancelled shortly after a change."""
    monkeypatch.setattr("late_exporter.exposition.publisher.MIN_PAUSE_SECONDS", 0)
    exposition = Exposition({"up": UP})
    publisher = Publisher(exposition, list)
    running = asyncio.ensure_future(publisher.run())
    await publisher.wait_published()
    for _ in range(5):
        await asyncio.sleep(0)
    exposition.put("up", ("default",), 1)
    for _ in range(ticks):
        await asyncio.sleep(0)
    running.cancel()
    tasks, _ = await asyncio.wait([running], timeout=5)
    assert {running} == tasks
    assert running.cancelled()
