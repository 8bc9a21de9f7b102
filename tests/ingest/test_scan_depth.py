"""A list that is read to find missed logs is read the less often the older its logs are."""

from __future__ import annotations

from itertools import pairwise

import pytest

from late_exporter.ingest.progress import scan_depth
from late_exporter.ingest.schedule import PollConfig
from tests.ingest.conftest import OpenExporter
from tests.support.clock import DAY, HOUR, MINUTE
from tests.support.late_api import FakeLateApi
from tests.support.oracle import created_at
from tests.support.world import RETENTION, World

INTERVAL = 10 * MINUTE
RETENTION_MS = int(RETENTION * 1000)
WHOLE = 64 * INTERVAL


def depths(start: float, count: int, every: float = INTERVAL) -> list[float | None]:
    """Return the depths of scans, in hours; the first one follows a completed one."""
    times = [start + number * every for number in range(count + 1)]
    scans = [scan_depth(last, now, INTERVAL, RETENTION_MS) for last, now in pairwise(times)]
    return [depth and depth / 1000 / HOUR for depth in scans]


def test_depths() -> None:
    """Every fourth scan is four times as deep, and every 64th one reads the whole list."""
    found = depths(1_800_000_000.0, 640)
    assert {4: 480, 16: 120, 64: 30, None: 10} == {depth: found.count(depth) for depth in (4, 16, 64, None)}
    first = found.index(None)
    assert [4, 4, 4, 16] * 3 + [4, 4, 4, 64] == found[first + 1 : first + 17]


@pytest.mark.parametrize(("every", "lowest"), [(40 * MINUTE, 16), (160 * MINUTE, 64), (WHOLE, None), (30 * DAY, None)])
def test_scans_that_were_not_possible_are_made_up_for(every: float, lowest: float | None) -> None:
    """After a time without a scan, the next one is as deep as the deepest that was due."""
    found = depths(1_800_000_123.0, 50, every)
    assert all(depth is None or (lowest is not None and depth >= lowest) for depth in found)


def test_the_first_scan_reads_the_whole_list() -> None:
    """No scan before it is known."""
    assert scan_depth(0.0, 1_800_000_123.0, INTERVAL, RETENTION_MS) is None


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("age", "limit"), [(2 * HOUR, INTERVAL), (14 * HOUR, 4 * INTERVAL), (2 * DAY, 16 * INTERVAL), (6 * DAY, WHOLE)]
)
def test_a_log_in_place_of_a_deleted_one(age: float, limit: float, world: World, open_exporter: OpenExporter) -> None:
    """The list has as many logs as before, so only a scan finds it: the younger it is, the sooner."""
    config = PollConfig(reconcile_interval=INTERVAL, audit_interval=0)
    exporter = open_exporter(FakeLateApi(world), config=config)
    world.publish(1000, over=RETENTION - DAY)
    exporter.poll()
    exporter.settle()
    before = exporter.poller.recorder.log_count
    old = next(row for row in world.rows if created_at(row) < world.clock.now - age)
    world.delete(old["_id"])
    world.insert(world.clock.now - age)
    start = world.clock.now
    while exporter.poller.recorder.log_count == before:
        exporter.poll_repeatedly(1)
        assert world.clock.now - start <= limit + 15 * MINUTE


@pytest.mark.exhaustive
def test_requests_of_a_day(world: World, open_exporter: OpenExporter) -> None:
    """Scans of a day cost less than half a reading of the list per hour, in place of six."""
    exporter = open_exporter(FakeLateApi(world), config=PollConfig(reconcile_interval=INTERVAL, audit_interval=0))
    world.publish(2000, over=RETENTION - DAY)
    exporter.poll()
    exporter.settle()
    before = len(exporter.api.requests)
    polls = 24 * 12
    exporter.poll_repeatedly(polls, every=5 * MINUTE)
    assert len(exporter.api.requests) - before - polls < 24 * 0.5 * 2000 / 98
