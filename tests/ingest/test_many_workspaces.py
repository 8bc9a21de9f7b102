"""Several workspaces that poll at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from late_exporter.ingest import uncommitted
from tests.support.clock import HOUR, VirtualClock
from tests.support.inside import InsideHarness
from tests.support.late_api import FakeLateApi
from tests.support.steps import Killed, drive_together
from tests.support.world import World

LOGS = "late_publishing_logs_total"
SIZES = {"acme": 730, "umbrella": 730, "initech": 20}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], InsideHarness]]:
    """Return a function that starts an exporter of workspaces of different sizes, with a state of its own."""
    started: list[InsideHarness] = []

    def start() -> InsideHarness:
        clock = VirtualClock()
        worlds = {name: World(clock) for name in SIZES}
        for name, world in worlds.items():
            world.publish(SIZES[name], over=HOUR)
        apis = {name: FakeLateApi(world) for name, world in worlds.items()}
        started.append(InsideHarness(apis, tmp_path / f"{len(started)}.db"))
        return started[-1]

    yield start
    for exporter in started:
        exporter.close()


def counts(exporter: InsideHarness) -> dict[str, float]:
    """Return the counted logs of each workspace."""
    samples = exporter.scrape()
    return {name: samples.sum(LOGS, workspace=name) for name in SIZES}


def poll_all(exporter: InsideHarness, steps: int | None = None) -> None:
    """Poll every workspace at the same time, up to a number of steps."""
    drive_together([poller.poll() for poller in exporter.pollers.values()], steps)


def test_small_workspaces_are_synced_while_large_ones_still_read(start: Callable[[], InsideHarness]) -> None:
    """Workspaces take turns: the smallest one is ready after its own pages."""
    exporter = start()
    with pytest.raises(Killed):
        poll_all(exporter, 45)
    synced = {scope.workspace: poller.recorder.is_synced for scope, poller in exporter.pollers.items()}
    assert {"acme": False, "umbrella": False, "initech": True} == synced


def test_logs_in_memory_do_not_grow_with_the_workspaces(
    start: Callable[[], InsideHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If all feeds together have read too many logs, each commits after every page."""
    monkeypatch.setattr(uncommitted, "MAX_LOGS", 250)
    exporter = start()
    poll_all(exporter)
    assert SIZES == counts(exporter)
    sizes = [len(batch.observations) for batch in exporter.store.batches if batch.observations]
    assert max(sizes) <= 300
