"""Runs that end after a few seconds still scan the whole list, settle every pending log and audit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from tests.ingest.conftest import OpenExporter
from tests.support.clock import DAY, HOUR, MINUTE
from tests.support.exporter import ExporterHarness
from tests.support.late_api import FakeLateApi
from tests.support.world import World

pytestmark = pytest.mark.exhaustive

LAST_SCAN = "late_exporter_reconcile_last_completed_timestamp_seconds"
PENDING = "late_publishing_pending_logs"
GENERATIONS = ("late", "zernio")

Start: TypeAlias = Callable[..., "CronJob"]


class CronJob:
    """Runs of ``late-exporter run --once`` by cron, with one state."""

    def __init__(self, api: FakeLateApi, exporter: ExporterHarness) -> None:
        self.world, self.api, self.exporter = api.world, api, exporter

    def run(self, *, every: float = 5 * MINUTE, published: int = 5) -> int:
        """Let time pass and logs appear, start a process, catch up, and end it; return the number of requests."""
        self.world.publish(published)
        requests = len(self.api.requests)
        self.exporter.restart(every)
        assert self.exporter.run_once().error is None
        return len(self.api.requests) - requests

    def gauge(self, family: str) -> float:
        return self.exporter.scrape().sum(family)


@pytest.fixture
def start(world: World, open_exporter: OpenExporter) -> Start:
    """Return a function that prepares a cron job; a request takes ``latency`` seconds, as the quota makes it wait."""

    def start(generation: str, *, latency: float = 0.0, **config: Any) -> CronJob:
        api = FakeLateApi(world, generation=generation, latency=latency)
        return CronJob(api, open_exporter(api, **config))

    return start


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_scan_takes_several_runs(start: Start, generation: str) -> None:
    """A scan that does not fit into a run is continued by the next ones, each within a poll interval."""
    job = start(generation, latency=2.0)
    job.world.publish(3000, over=3 * DAY)
    job.run()
    job.run(every=MINUTE)
    synced_at = job.gauge(LAST_SCAN)
    job.world.insert(job.world.clock.now - 70 * HOUR, platform="tiktok")
    job.world.delete(job.world.ids[0])
    runs = 0
    while synced_at == job.gauge(LAST_SCAN):
        assert job.run(every=12 * MINUTE if runs else 12 * HOUR) <= 21, "a run that scans ends after a poll interval"
        runs += 1
        assert runs < 8
    assert runs >= 2
    assert job.exporter.scrape().sum("late_publishing_logs_total", platform="tiktok") == 1


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("limit", [60, 600])
def test_more_than_a_page_of_pending_logs_settles(start: Start, generation: str, limit: int) -> None:
    """All of 150 pending logs deep in the list settle, the oldest first, within a run or two."""
    job = start(generation, reconcile_interval=10 * DAY)
    job.api.rate_limit = limit
    pending = [job.world.insert(job.world.clock.now - HOUR + number, status="pending") for number in range(150)]
    job.world.publish(300, over=30 * MINUTE)
    job.run()
    assert job.gauge(PENDING) == 150
    for log_id in pending[:30]:
        job.world.change(log_id, "success")
    job.run()
    job.run()
    assert job.gauge(PENDING) == 120
    for log_id in pending[30:]:
        job.world.change(log_id, "failed", statusCode=500)
    for _ in range(3):
        job.run()
    assert job.gauge(PENDING) == 0
    assert job.exporter.scrape().sum("late_publishing_logs_total", status="failed") == 120


def test_a_run_with_nothing_to_do_is_short(start: Start) -> None:
    """A run between two scans is one request, and the first one does not read the list twice."""
    job = start("late")
    job.world.publish(950, over=DAY)
    assert job.run() <= 14
    assert [job.run(every=MINUTE), job.run(every=MINUTE)] == [1, 1]
