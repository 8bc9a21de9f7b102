from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from late_exporter.exposition.exposition import Exposition
from late_exporter.exposition.family import Family
from late_exporter.exposition.publisher import (
    MAX_PAUSE_SECONDS,
    MIN_PAUSE_SECONDS,
    PAUSE_RATIO,
    REFRESH_SECONDS,
    Publisher,
)
from tests.support.clock import VirtualClock
from tests.support.exposition import read_body

UP = Family("up", "gauge", "Help.", ("workspace",), feeds=("publishing",))


class FakeClock(VirtualClock):
    """Clock that calls back at every sleep."""

    on_sleep: Callable[[], object] = staticmethod(lambda: None)

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        self.on_sleep()


class Harness(Collector):
    """Publisher with its clock, which counts the collections of process metrics."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.exposition = Exposition({"up": UP}, collectors=[self])
        self.collected = 0
        self.publisher = Publisher(self.exposition, monotonic=self.clock.monotonic, sleep=self.clock.sleep)

    def collect(self) -> Iterator[Metric]:
        """Yield a metric of the process."""
        self.collected += 1
        yield GaugeMetricFamily("process_number", "Help.", self.collected)

    def lines(self) -> list[str]:
        """Return the published samples."""
        return [line for line in read_body(self.exposition).splitlines() if not line.startswith("#")]


@pytest.fixture
def harness() -> Harness:
    """Return a publisher of an empty exposition."""
    return Harness()


async def test_process_metrics_are_collected_for_a_scrape(harness: Harness) -> None:
    """They are collected at a scrape after a publication, which follows after some seconds also if nothing changes."""
    await harness.publisher.publish()
    assert 0 == harness.collected
    for expected in ("1", "1", "2"):
        assert [f"process_number {expected}.0"] == harness.lines()
        harness.clock.advance(REFRESH_SECONDS / 2)
        await harness.publisher.publish()


async def test_changes_follow_at_leisure(harness: Harness) -> None:
    """Between two publications there is a pause of nine times the time to render a body, within limits."""
    costs = (0.0, 0.1, 0.5, 3.0)
    expected = [min(max(MIN_PAUSE_SECONDS, PAUSE_RATIO * cost), MAX_PAUSE_SECONDS) for cost in costs]
    task = asyncio.ensure_future(harness.publisher.run())
    harness.clock.on_sleep = lambda: harness.exposition.put("up", ("w",), len(harness.clock.sleeps))
    for cost in costs:
        harness.exposition.render_seconds = cost
        harness.exposition.put("up", ("w",), -cost)
        await harness.publisher.wait_published()
    await harness.publisher.wait_published()
    task.cancel()
    assert expected == [pytest.approx(pause) for pause in harness.clock.sleeps]
    assert [f'up{{workspace="w"}} {len(costs)}.0'] == harness.lines()[:1], "changes during a pause follow with it"


async def test_changes_that_belong_together_are_awaited(harness: Harness) -> None:
    """A publication waits until no more changes follow that are published together with the last ones."""
    harness.exposition.is_held = True
    harness.exposition.put("up", ("w",), 1)
    publication = asyncio.ensure_future(harness.publisher.publish())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not publication.done()
    harness.exposition.put("up", ("x",), 1)
    harness.exposition.is_held = False
    await publication
    assert ['up{workspace="w"} 1.0', 'up{workspace="x"} 1.0'] == harness.lines()[:2]
