"""The delay of a scheduled post counts once, when it is published."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.ingest.conftest import OpenExporter
from tests.support.late_api import FakeLateApi
from tests.support.world import World, iso_time

DELAY = "late_publishing_delay_seconds"


@pytest.mark.parametrize("generation", ["late", "zernio"])
def test_a_delay_counts_once(world: World, open_exporter: OpenExporter, generation: str) -> None:
    """A post that is pending has no delay; published, it has one, in every later poll and after a restart."""
    exporter = open_exporter(FakeLateApi(world, generation=generation))
    world.publish(1)
    exporter.poll()
    request = {"scheduledFor": iso_time(world.clock.now - 600)}
    fields: dict[str, Any] = {"request": request, "zernio": {"request_body": json.dumps(request)}}
    (log_id,) = world.publish(1, over=1, status="pending", durationMs=None, **fields)
    exporter.poll()
    assert 0 == exporter.scrape().sum(f"{DELAY}_count")
    world.change(log_id, "success", durationMs=2000)
    for _ in range(2):
        exporter.poll()
        exporter.restart()
        exporter.poll()
        samples = exporter.scrape()
        assert (1, 602) == (samples.sum(f"{DELAY}_count"), samples.sum(f"{DELAY}_sum"))
        assert 0 == samples.sum(f"{DELAY}_bucket", le="600.0")
        assert 1 == samples.sum(f"{DELAY}_bucket", le="1800.0")
