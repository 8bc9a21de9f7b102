"""Logs that appear late are counted within three polls, whatever else happens to the list."""

from __future__ import annotations

from functools import partial

import pytest

from tests.ingest.conftest import OpenExporter
from tests.support.clock import HOUR, MINUTE
from tests.support.exporter import NEVER, ExporterHarness
from tests.support.late_api import Fault, rejected, unavailable
from tests.support.world import World

pytestmark = pytest.mark.exhaustive

MAX_POLLS = 3


@pytest.fixture
def start(start_generation: OpenExporter) -> OpenExporter:
    """Return a function that starts an exporter without scheduled reconciliation scans."""
    return partial(start_generation, reconcile_interval=NEVER)


def requests_of(exporter: ExporterHarness, polls: int, every: float = 30.0) -> list[int]:
    """Return the number of requests of each of several polls."""
    counts = []
    for _ in range(polls):
        before = len(exporter.api.requests)
        exporter.poll_repeatedly(1, every)
        counts.append(len(exporter.api.requests) - before)
    return counts


@pytest.mark.parametrize(
    ("minutes", "options"),
    [(8, {}), (14, {}), (50, {"late_window": HOUR})],
    ids=["8 minutes", "14 minutes", "with a longer window"],
)
@pytest.mark.parametrize("generation", ["late", "zernio"])
def test_a_late_log_is_counted_while_as_many_logs_are_deleted(
    generation: str, minutes: int, options: dict[str, float], world: World, start: OpenExporter
) -> None:
    """Even if a deletion hides a late log from the total, it counts within three polls."""
    world.publish(1200, over=HOUR)
    exporter = start(generation, **options)
    exporter.poll()
    for _ in range(2):
        world.publish(1)
        exporter.poll_repeatedly(4)
        late = world.insert(world.clock.now - minutes * MINUTE - 0.5)
        world.delete(world.ids[800])
        world.publish(1)
        exporter.poll_repeatedly(MAX_POLLS)
        assert late in exporter.counted_ids
    assert exporter.scrape().sum("late_exporter_reconciled_logs_total") == 0


@pytest.mark.parametrize("generation", ["late", "zernio"])
def test_a_late_log_of_a_quiet_list_is_counted(generation: str, world: World, start: OpenExporter) -> None:
    """The total of the list shows it: nothing else has changed."""
    world.publish(900, over=HOUR)
    exporter = start(generation)
    exporter.poll_repeatedly(8)
    late = world.insert(world.clock.now - 14 * MINUTE - 0.5)
    exporter.poll_repeatedly(MAX_POLLS)
    assert late in exporter.counted_ids


@pytest.mark.parametrize(("skew", "hours_ahead"), [(1200.0, None), (None, 3)])
@pytest.mark.parametrize("generation", ["late", "zernio"])
def test_a_time_ahead_does_not_move_the_late_window(
    generation: str, skew: float | None, hours_ahead: int | None, world: World, start: OpenExporter
) -> None:
    """A late log counts within three polls if the clock is ahead of all logs, or one log is ahead of the clock."""
    world.publish(900, over=HOUR)
    exporter = start(generation, skew=skew)
    exporter.poll_repeatedly(3)
    if hours_ahead is not None:
        world.insert(world.clock.now + hours_ahead * HOUR)
    late_id = world.insert(world.clock.now - 600)
    world.delete(world.ids[-5])
    for _ in range(MAX_POLLS):
        world.clock.advance(30)
        world.publish(40, over=20)
        exporter.poll()
    assert late_id in exporter.counted_ids


@pytest.mark.parametrize("generation", ["late", "zernio"])
def test_deleted_logs_are_looked_for_once(generation: str, world: World, start: OpenExporter) -> None:
    """Once logs were deleted within the late window, a poll is one request again."""
    world.publish(1200, over=HOUR)
    exporter = start(generation)
    exporter.poll()
    exporter.poll_repeatedly(4)
    world.delete(*world.ids[150:700:50], *world.ids[20:40])
    requests_of(exporter, 6)
    assert requests_of(exporter, 5) == [1] * 5


@pytest.mark.parametrize("fault", [unavailable, rejected])
@pytest.mark.parametrize("generation", ["late", "zernio"])
def test_a_check_that_fails_is_made_up_for(generation: str, fault: Fault, world: World, start: OpenExporter) -> None:
    """If a request of a check fails, a later check finds the late log."""
    world.publish(1200, over=HOUR)
    exporter = start(generation)
    exporter.poll()
    exporter.poll_repeatedly(4)
    late = world.insert(world.clock.now - 10 * MINUTE)
    world.delete(world.ids[-1])
    world.publish(1)
    exporter.api.fail_request(1, fault)
    exporter.poll_repeatedly(1)
    exporter.api.clear_events()
    exporter.poll_repeatedly(2 * MAX_POLLS)
    assert late in exporter.counted_ids
