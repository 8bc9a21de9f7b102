"""Logs that appear late are counted within three polls, whatever else happens to the list."""

from __future__ import annotations

import pytest

from tests.ingest.conftest import OpenExporter
from tests.support.clock import HOUR, MINUTE
from tests.support.late_api import FakeLateApi
from tests.support.world import World

pytestmark = pytest.mark.exhaustive

MAX_POLLS = 3


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
    exporter = start(FakeLateApi(world, generation=generation), **options)
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
def test_deleted_logs_are_looked_for_once(generation: str, world: World, start: OpenExporter) -> None:
    """Once logs were deleted within the late window, a poll is one request again."""
    world.publish(1200, over=HOUR)
    exporter = start(FakeLateApi(world, generation=generation))
    exporter.poll()
    exporter.poll_repeatedly(4)
    world.delete(*world.ids[150:700:50], *world.ids[20:40])
    exporter.poll_repeatedly(6)
    request_count = len(exporter.requests)
    exporter.poll_repeatedly(5)
    assert len(exporter.requests) - request_count == 5
