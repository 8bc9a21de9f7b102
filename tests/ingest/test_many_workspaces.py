"""Several workspaces that poll at the same time."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from late_exporter.ingest import sync
from tests.support.clock import HOUR, VirtualClock
from tests.support.inside import InsideHarness
from tests.support.late_api import FakeLateApi
from tests.support.world import World

SIZES = {"acme": 730, "umbrella": 730, "initech": 20}


def test_logs_in_memory_do_not_grow_with_the_workspaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If all feeds together have read too many logs, each commits after every page."""
    monkeypatch.setattr(sync, "MAX_UNCOMMITTED", 250)
    clock = VirtualClock()
    worlds = {name: World(clock) for name in SIZES}
    for name, world in worlds.items():
        world.publish(SIZES[name], over=HOUR)
    apis = {name: FakeLateApi(world) for name, world in worlds.items()}
    with closing(InsideHarness(apis, tmp_path / "state.db")) as exporter:
        exporter.poll_all()
        samples = exporter.scrape()
        assert {name: samples.sum("late_publishing_logs_total", workspace=name) for name in SIZES} == SIZES
        assert max(exporter.store.commit_sizes) <= 300
