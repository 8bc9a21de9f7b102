"""Progress of first syncs and catch-ups: what is read, of how much, and when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TypeAlias

import pytest

from late_exporter.status import SyncProgress
from tests.support.clock import DAY
from tests.support.inside import InsideHarness
from tests.support.late_api import FakeLateApi
from tests.support.world import World

LATENCY = 2.0  # the quota allows a request per second, so that it is not what limits the speed

Start: TypeAlias = Callable[..., InsideHarness]


@pytest.fixture
def start(world: World, tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts an exporter whose requests take two seconds."""

    def start(lookback: float = 7 * DAY) -> InsideHarness:
        api = FakeLateApi(world, latency=LATENCY)
        return stack.enter_context(closing(InsideHarness(api, tmp_path / "state.db", lookback=lookback)))

    with ExitStack() as stack:
        yield start


def publish_evenly(world: World, count: int, days: float) -> None:
    """Insert logs at equal distances in some last days."""
    for number in range(count):
        world.insert(world.clock.now - (number + 0.5) * days * DAY / count)


def read_progress(exporter: InsideHarness, requests: int) -> list[SyncProgress | None]:
    """Poll until the exporter has caught up; return the progress before each of the first so many requests."""
    progress: list[SyncProgress | None] = []
    for number in range(requests):
        exporter.api.before_request(number, lambda: progress.append(exporter.poller.measure()))
    while exporter.poll().is_partial or exporter.poller.measure() is not None:
        pass
    return progress


def messages(exporter: InsideHarness, event: str) -> list[dict[str, object]]:
    """Return the fields of the messages of an event."""
    return [fields for _, name, fields in exporter.log.records if name == event]


@pytest.mark.parametrize(("lookback", "count"), [(7 * DAY, 3000), (3.5 * DAY, 1500)])
def test_first_sync(start: Start, world: World, lookback: float, count: int) -> None:
    """The size of a first sync is known early, also if it does not read the whole list, and it ends when it says."""
    publish_evenly(world, 3000, 6.99)
    exporter = start(lookback=lookback)
    began_at = world.clock.time()
    progress = read_progress(exporter, count // 100)
    seconds = world.clock.time() - began_at
    assert progress[0] == SyncProgress(log_count=0, quota_wait=progress[0].quota_wait if progress[0] else 0)
    for number, part in enumerate(progress[5:], 5):
        assert part is not None
        assert 90 * number <= part.log_count <= 100 * number
        assert part.expected_count == pytest.approx(count, rel=0.05)
        assert part.seconds_left is not None
        assert LATENCY * number + part.seconds_left == pytest.approx(seconds, rel=0.3)
        assert part.elapsed == pytest.approx(LATENCY * number)
    assert exporter.poller.measure() is None
    (fields,) = messages(exporter, "first sync complete")
    assert fields["seconds"] == pytest.approx(seconds, abs=3 * LATENCY), "all its polls"


def test_a_first_sync_that_is_continued(start: Start, world: World) -> None:
    """What an earlier process has read counts as read, but not for the speed."""
    publish_evenly(world, 5000, 6.99)
    exporter = open_interrupted(start)
    stored = exporter.poller.recorder.state.log_count
    assert 0 < stored < 5000
    (first, second, *_) = read_progress(exporter, 3)
    assert first is not None
    assert first.log_count == stored
    assert second is not None
    assert second.expected_count == pytest.approx(5000, rel=0.05)


def open_interrupted(start: Start) -> InsideHarness:
    """Return an exporter that was killed after some commits of its first sync."""
    exporter = start()
    exporter.poll()
    exporter.restart()
    return exporter


def start_before_catch_up(start: Start, world: World) -> InsideHarness:
    """Return an exporter that has read 500 logs of a day, and misses 1500 of the three days after it."""
    publish_evenly(world, 500, 1)
    exporter = start()
    read_progress(exporter, 0)
    world.clock.advance(3 * DAY)
    publish_evenly(world, 1500, 2.99)
    return exporter


def test_catch_up(start: Start, world: World) -> None:
    """A catch-up counts from where it began; logs that were read before are no part of it."""
    exporter = start_before_catch_up(start, world)
    progress = read_progress(exporter, 12)
    assert progress[0] is None, "nothing is known to be missing before the first page"
    for number, part in enumerate(progress[3:], 3):
        assert part is not None
        assert 90 * number <= part.log_count <= 100 * number
        assert part.expected_count == pytest.approx(1500, rel=0.06)
