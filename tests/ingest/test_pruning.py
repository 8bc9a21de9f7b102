"""Logs that the API still shows although it says that it drops them earlier, whose keys are pruned from the state."""

from __future__ import annotations

from pathlib import Path

import pytest

from late_exporter.store import rows
from tests.ingest.conftest import OpenExporter
from tests.support.clock import DAY, HOUR
from tests.support.exporter import ExporterHarness
from tests.support.late_api import FakeLateApi, ListQuirks
from tests.support.store import problems
from tests.support.world import World

SCAN_POLLS = 5
"""Polls after which a scan has read the newer part of the list."""


@pytest.fixture
def exporter(world: World, open_exporter: OpenExporter) -> ExporterHarness:
    """Return an exporter that was down for weeks in the middle of a scan, so that its first commit prunes."""
    api = FakeLateApi(world, generation="zernio", quirks=ListQuirks(never_expires=True, max_page_size=10))
    exporter = open_exporter(api, lookback=90 * DAY, reconcile_interval=600.0, interval=5.0)
    world.publish(120, over=80 * DAY)
    exporter.poll_repeatedly(3)
    world.clock.advance(DAY)
    exporter.poll_repeatedly(SCAN_POLLS, every=5.0)
    exporter.restart(25 * DAY)
    world.publish(20, over=HOUR)
    return exporter


def test_a_commit_that_prunes_counts_nothing_twice_if_its_outcome_is_unknown(exporter: ExporterHarness) -> None:
    """The keys of the logs that the scan reads again may be gone."""
    exporter.fail_commit(0, "after")
    assert exporter.poll().outcome == "store_error"
    exporter.poll_repeatedly(3)
    exporter.settle()
    assert len(exporter.observations) == len(exporter.counted)


def test_a_commit_leaves_no_log_pending_that_it_prunes(world: World, tmp_path: Path, exporter: ExporterHarness) -> None:
    """Logs that appear late, older than what the state keeps, are not counted, wherever the scan is."""
    for days in range(92, 110):
        world.insert(world.clock.now - days * DAY, status="pending")
    exporter.poll()
    exporter.settle()
    assert exporter.scrape().sum("late_publishing_pending_logs") == 0
    assert problems(f"sqlite:///{tmp_path / '0.db'}") == []


@pytest.mark.parametrize("generation", ["late", "zernio"])
def test_a_row_without_a_time_is_rejected_once_for_ever(
    generation: str, world: World, open_exporter: OpenExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API does not expire it, so that each scan finds it again, long after the logs of its time have expired."""
    monkeypatch.setattr(rows, "PRUNE_SECONDS", 0)
    exporter = open_exporter(FakeLateApi(world, generation=generation))
    world.publish(5, over=DAY)
    world.insert(None)
    for _ in range(3):
        exporter.settle()
        exporter.clock.advance(95 * DAY)
        world.publish(5, over=DAY)
    exporter.settle()
    assert exporter.scrape().sum("late_exporter_entries_rejected_total") == 1
