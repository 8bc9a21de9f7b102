"""New series start at zero, and show it until the state has the mark that it was served, across kills and restarts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from late_exporter.errors import StoreError
from tests.ingest.conftest import OpenExporter
from tests.support.clock import VirtualClock
from tests.support.exporter import ExporterHarness
from tests.support.late_api import FakeLateApi
from tests.support.profiles import example_count
from tests.support.samples import Samples
from tests.support.world import World

LOGS = "late_publishing_logs_total"
FAILURE: dict[str, Any] = {"platform": "tiktok", "status": "failed", "statusCode": None, "durationMs": 700}
VALUES = {
    LOGS: 2.0,
    "late_publishing_failures_total": 2.0,
    "late_publishing_duration_seconds_count": 2.0,
    "late_publishing_duration_seconds_sum": 1.4,
    "late_account_logs_total": 2.0,
}
"""Sums of the platform after two failures, by metric."""

Start: TypeAlias = Callable[..., ExporterHarness]


@pytest.fixture
def world() -> World:
    """Return a key with some logs."""
    world = World(VirtualClock())
    world.publish(3)
    return world


@pytest.fixture
def start(world: World, open_exporter: OpenExporter) -> Start:
    """Return a function that starts an exporter, which has exposed its history."""

    def start(**options: Any) -> ExporterHarness:
        exporter = open_exporter(FakeLateApi(world), **options)
        for feed in options.get("feeds", ("publishing",)):
            exporter.poll(feed=feed)
        exporter.scrape_once()
        world.clock.advance(30)
        return exporter

    return start


def new_platform(samples: Samples) -> dict[str, float]:
    """Return the sums of the new platform."""
    return {family: round(samples.sum(family, platform="tiktok"), 3) for family in VALUES}


ZEROS = dict.fromkeys(VALUES, 0.0)


def test_a_process_that_ends_before_the_mark_shows_zero_again(world: World, start: Start) -> None:
    """Counters and histograms show 0 after every restart until the state has the mark, and their values ever after."""
    exporter = start()
    world.publish(2, **FAILURE)
    exporter.poll()
    assert ZEROS == new_platform(exporter.scrape_unmarked())
    for _ in range(2):
        exporter.restart()
        assert ZEROS == new_platform(exporter.scrape_unmarked())
        exporter.poll()
        assert ZEROS == new_platform(exporter.scrape_unmarked())
    exporter.scrape_once()
    exporter.restart()
    assert VALUES == new_platform(exporter.scrape_unmarked())
    world.publish(2, **FAILURE)
    exporter.poll()
    assert {family: 2 * value for family, value in VALUES.items()} == new_platform(exporter.scrape_unmarked())


def test_a_series_that_was_not_scraped_shows_zero_after_a_restart(world: World, start: Start) -> None:
    """A series that is created and never scraped before the process ends is first seen at 0, whatever it has become."""
    exporter = start()
    world.publish(1, **FAILURE)
    exporter.poll()
    exporter.restart()
    world.publish(1, **FAILURE)
    exporter.poll()
    assert ZEROS == new_platform(exporter.scrape_once())
    assert VALUES == new_platform(exporter.scrape_once())


def test_history_needs_no_mark(start: Start) -> None:
    """What was counted in the first sync shows its values at once, also after a restart without any scrape."""
    exporter = start(feeds=("publishing", "connections"))
    exporter.restart()
    samples = exporter.scrape_unmarked()
    assert 3 == samples.sum(LOGS)
    assert 3 == samples.sum("late_publishing_duration_seconds_count")
    assert 1 == samples.sum("late_exporter_polls_total", feed="publishing", outcome="success")


def test_zero_is_shown_as_long_as_the_mark_cannot_be_written(world: World, start: Start) -> None:
    """Without a writable state nothing but 0 is shown of a new series; a later scrape repeats the mark."""
    exporter = start()
    world.publish(2, **FAILURE)
    exporter.poll()
    exporter.fill_disk()
    for _ in range(2):
        with pytest.raises(StoreError):
            exporter.scrape_once()
        assert ZEROS == new_platform(exporter.scrape_unmarked())
    exporter.free_disk()
    assert ZEROS == new_platform(exporter.scrape_once())
    assert VALUES == new_platform(exporter.scrape_once())


def test_a_scrape_without_new_series_writes_nothing(world: World, start: Start) -> None:
    """The state is written only after scrapes that showed the zero of a new series, once each."""
    exporter = start()
    exporter.fill_disk()
    exporter.scrape()
    world.publish(2)
    exporter.poll()
    exporter.free_disk()
    exporter.scrape()
    exporter.fill_disk()
    exporter.scrape()


STEPS = ("publish", "poll", "poll", "scrape", "scrape", "scrape and kill", "kill", "kill poll")
KINDS: tuple[dict[str, Any], ...] = (
    {"platform": "tiktok", "status": "failed", "statusCode": 500},
    {"platform": "x", "durationMs": None},
    {"platform": "x", "action": "retry", "attemptNumber": 2, "accountId": "acc2"},
    {"platform": "y", "status": "pending", "durationMs": None},
)


@pytest.mark.exhaustive
@pytest.mark.parametrize("generation", ["late", "zernio"])
@settings(max_examples=example_count(60, thorough=2000))
@given(data=st.data())
def test_any_order_of_kills_and_scrapes(generation: str, data: st.DataObject) -> None:
    """A scraper sees each new series at 0 first and none fall, so that the increases add up to the number of logs."""
    world = World(VirtualClock())
    world.publish(5)
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(
            ExporterHarness(FakeLateApi(world, generation=generation), Path(folder) / "a.db", generation=generation)
        ) as exporter,
    ):
        exporter.poll()
        history = exporter.scrape_once().counters
        latest = Samples(history)
        for step in [*data.draw(st.lists(st.sampled_from(STEPS), max_size=25)), "poll", "scrape", "scrape"]:
            world.clock.advance(5)
            samples = Samples()
            match step:
                case "publish":
                    world.publish(2, **data.draw(st.sampled_from(KINDS)))
                case "poll":
                    exporter.poll()
                case "scrape":
                    samples = exporter.scrape_once()
                case "scrape and kill":
                    samples = exporter.scrape_unmarked()
                    exporter.restart()
                case "kill":
                    exporter.restart()
                case "kill poll":
                    exporter.kill(data.draw(st.integers(1, 12)))
            for series, value in samples.counters.items():
                assert latest[series] <= value if series in latest else value == 0, (step, series, value)
                latest[series] = value
        increase = latest.sum(LOGS) - history.sum(LOGS)
        assert len(world.rows) - 5 == increase
