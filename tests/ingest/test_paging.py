"""Every log of a long list without ids counts exactly once, however the API limits skip and filters by time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import pytest

from tests.ingest.conftest import OpenExporter
from tests.support.clock import DAY, HOUR, MINUTE
from tests.support.exporter import NEVER, ExporterHarness
from tests.support.late_api import TIME_FILTERS, FakeLateApi, ListQuirks, unavailable
from tests.support.world import World

pytestmark = pytest.mark.exhaustive

Start: TypeAlias = Callable[..., ExporterHarness]

USABLE_FILTERS = tuple(name for name in TIME_FILTERS if name not in ("ignored", "rejected"))
REJECTION = "400: skip must be <= 500; logs below the newest"


@pytest.fixture
def start(open_exporter: OpenExporter) -> Start:
    """Return a function that starts an exporter of generation zernio over a world."""

    def start(
        world: World, *, reconcile: float = NEVER, commit_size: int | None = None, **quirks: Any
    ) -> ExporterHarness:
        api = FakeLateApi(world, quirks=ListQuirks(**quirks), generation="zernio")
        return open_exporter(api, commit_size=commit_size, reconcile_interval=reconcile)

    return start


def check(exporter: ExporterHarness, world: World) -> None:
    """Assert that every log of the world counts exactly once."""
    assert len(exporter.counted) == len(set(exporter.counted)) == len(world.rows)
    assert len(world.rows) == exporter.scrape().sum("late_publishing_logs_total")


@pytest.mark.parametrize("time_filter", USABLE_FILTERS)
@pytest.mark.parametrize("limit", [1, 400])
def test_any_limit_of_skip(limit: int, time_filter: str, world: World, start: Start) -> None:
    """First sync, catch-up and reconciliation read 800 logs with any limit, however bounds are read."""
    exporter = start(world, reconcile=10 * MINUTE, max_page_size=50, max_skip=limit, time_filter=time_filter)
    world.publish(500, over=3 * DAY)
    assert exporter.poll().outcome == "success"
    check(exporter, world)
    exporter.restart(downtime=6 * HOUR)
    world.publish(300)
    assert exporter.poll().outcome == "success"
    check(exporter, world)
    world.insert(world.clock.now - 2 * DAY)
    exporter.settle()
    check(exporter, world)


@pytest.mark.parametrize("time_filter", ["ignored", "rejected"])
def test_logs_out_of_reach_are_an_error_that_says_what_to_do(time_filter: str, world: World, start: Start) -> None:
    """If neither skip nor time leads to a log, the first sync fails with a message, and works once time does."""
    exporter = start(world, max_skip=500, time_filter=time_filter)
    world.publish(900, over=3 * DAY)
    for result in exporter.poll_repeatedly(3):
        assert result.outcome == "unavailable"
        assert REJECTION in str(result.error)
        assert "a shorter --poll.lookback" in str(result.error)
    assert exporter.scrape().family("late_publishing_logs_total") == {}
    exporter.api.quirks = ListQuirks(max_skip=500)
    exporter.poll()
    check(exporter, world)


@pytest.mark.parametrize(("latency", "page_count"), [(0.5, 4), (2.0, 1)])
def test_a_slow_catch_up_commits_after_two_seconds(latency: float, page_count: int, world: World, start: Start) -> None:
    """A crash loses only the pages of the last two seconds, however slow the API is."""
    exporter = start(world)
    world.publish(1000, over=DAY)
    exporter.api.latency = latency
    uncommitted_pages: list[int] = []

    def note_uncommitted(pages_read: int) -> None:
        uncommitted_pages.append(pages_read - len(exporter.counted) // 98)  # Pages may have two logs of the last one.

    for number in range(11):
        exporter.api.before_request(number, partial(note_uncommitted, number))
    exporter.poll()
    assert page_count >= max(uncommitted_pages)
    check(exporter, world)


def test_a_gap_is_resumed_where_it_was_left(world: World, start: Start) -> None:
    """After a restart, the logs that were read are not read again."""
    exporter = start(world, commit_size=100)
    world.publish(2000, over=3 * DAY)
    exporter.api.fail_request(15, unavailable)
    assert exporter.poll().outcome == "unavailable"
    exporter.restart(downtime=HOUR)
    world.publish(250)
    count = len(exporter.requests)
    exporter.poll()
    check(exporter, world)
    assert len(exporter.requests) - count <= 18


def test_a_gap_whose_logs_have_expired(world: World, start: Start) -> None:
    """After a long absence, what is left of the list is read, although ``skip`` does not lead to its end."""
    exporter = start(world, commit_size=100, max_skip=400)
    world.publish(300, over=3 * DAY)
    exporter.api.fail_request(2, unavailable)
    assert exporter.poll().outcome == "unavailable"
    before = len(exporter.counted)
    exporter.restart(downtime=8 * DAY)
    world.publish(800, over=HOUR)
    assert exporter.poll().outcome == "success"
    assert len(exporter.counted) == len(set(exporter.counted)) == before + 800


@pytest.mark.parametrize("over", [0.2, 5.0])
def test_each_poll_of_a_slow_catch_up_gets_further(over: float, world: World, start: Start) -> None:
    """A gap within a second is read to its end, although a poll is interrupted before it has read the second again."""
    exporter = start(world, max_page_size=10)
    world.publish(30, over=DAY)
    exporter.poll()
    world.clock.advance(HOUR)
    exporter.api.latency = 4.0
    world.publish(200, over=over)
    counts = [len(exporter.counted)]
    while exporter.poll().is_partial:
        counts.append(len(exporter.counted))
        assert counts[-2] < counts[-1]
    assert len(counts) > 2
    check(exporter, world)
