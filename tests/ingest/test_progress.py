"""Progress of first syncs and catch-ups: what is read, and of how much."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from late_exporter.errors import ApiUnavailable
from late_exporter.health import SyncProgress
from tests.support.clock import DAY
from tests.support.inside import InsideHarness
from tests.support.late_api import FakeLateApi, refusal
from tests.support.world import World

LATENCY = 2.0  # the quota allows a request per second, so that it is not what limits the speed


@pytest.fixture
def exporter(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> Iterator[InsideHarness]:
    """Return an exporter whose requests take two seconds."""
    api, lookback = FakeLateApi(world, latency=LATENCY), getattr(request, "param", 7 * DAY)
    with closing(InsideHarness(api, tmp_path / "state.db", lookback=lookback)) as exporter:
        yield exporter


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


@pytest.mark.parametrize("exporter", [3.5 * DAY], indirect=True)
def test_first_sync(exporter: InsideHarness, world: World) -> None:
    """The share of a first sync is known early, also if it does not read the whole list."""
    count = 1500
    publish_evenly(world, 2 * count, 6.99)
    began_at = world.clock.time()
    progress = read_progress(exporter, count // 100)
    seconds = world.clock.time() - began_at
    assert progress[0] == SyncProgress(log_count=0, quota_wait=progress[0].quota_wait if progress[0] else 0)
    for number, part in enumerate(progress[5:], 5):
        assert part is not None
        assert 90 * number <= part.log_count <= 100 * number
        assert part.share == pytest.approx(part.log_count / count, abs=0.05)
    assert exporter.poller.measure() is None
    (fields,) = messages(exporter, "first sync complete")
    assert fields["seconds"] == pytest.approx(seconds, abs=3 * LATENCY), "all its polls"


def test_a_first_sync_that_is_continued(exporter: InsideHarness, world: World) -> None:
    """What an earlier process has read counts as read."""
    publish_evenly(world, 5000, 6.99)
    exporter.api.fail_request(30, refusal(ApiUnavailable("502: Bad Gateway")))
    exporter.poll()
    exporter.restart()
    stored = exporter.poller.recorder.state.log_count
    assert 0 < stored < 5000
    first, second, *_ = read_progress(exporter, 3)
    assert first is not None
    assert first.log_count == stored
    assert second is not None
    assert second.share == pytest.approx(second.log_count / 5000, abs=0.05)


def test_a_failed_poll_is_no_catch_up(exporter: InsideHarness, world: World) -> None:
    """However long it took, the log does not say that the feed has caught up."""
    publish_evenly(world, 10, 1)
    read_progress(exporter, 0)
    exporter.api.before_request(0, lambda: world.clock.advance(60))
    exporter.api.fail_request(0, refusal(ApiUnavailable("502: Bad Gateway")))
    assert exporter.poll().outcome == "unavailable"
    assert messages(exporter, "caught up") == []


def test_catch_up(exporter: InsideHarness, world: World) -> None:
    """The share of a catch-up counts from where it began."""
    publish_evenly(world, 500, 1)
    read_progress(exporter, 0)
    world.clock.advance(3 * DAY)
    publish_evenly(world, 1500, 2.99)
    progress = read_progress(exporter, 12)
    assert progress[0] is None, "nothing is known to be missing before the first page"
    for number, part in enumerate(progress[3:], 3):
        assert part is not None
        assert 500 + 90 * number <= part.log_count <= 500 + 100 * number
        assert part.share == pytest.approx((part.log_count - 500) / 1500, abs=0.05)
