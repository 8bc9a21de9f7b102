"""A series that is created after the first sync shows 0 until it is 75 seconds old, across kills and restarts."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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

HOLD = 75.0
ZEROS = dict.fromkeys(VALUES, 0.0)


@pytest.fixture
def world() -> World:
    """Return a key with some logs."""
    world = World(VirtualClock())
    world.publish(3)
    return world


@pytest.fixture
def exporter(world: World, open_exporter: OpenExporter) -> ExporterHarness:
    """Return an exporter that has counted its history."""
    exporter = open_exporter(FakeLateApi(world), zero_hold=HOLD)
    exporter.poll()
    world.clock.advance(30)
    return exporter


def new_platform(samples: Samples) -> dict[str, float]:
    """Return the sums of the new platform."""
    return {family: round(samples.sum(family, platform="tiktok"), 3) for family in VALUES}


def values(samples: Samples, family: str, **labels: str) -> list[float]:
    """Return the values of the series of a family with some labels."""
    return [
        value for (name, pairs), value in samples.items() if name == family and labels.items() <= dict(pairs).items()
    ]


def test_a_new_series_shows_zero_for_some_time(world: World, exporter: ExporterHarness) -> None:
    """It shows 0 to every scrape until it is 75 seconds old, and then its value, although no poll follows.

    Gauges, and the exporter's own metrics, show their values at once.
    """
    world.publish(2, **FAILURE)
    exporter.poll()
    samples = exporter.scrape()
    assert len(values(samples, LOGS, platform="tiktok")) > 10, "also actions and statuses without a log"
    assert samples.sum("late_publishing_last_log_timestamp_seconds", platform="tiktok") > 0
    assert samples.sum("late_account_consecutive_failures", platform="tiktok") / 2 == 1
    assert samples.sum("late_exporter_polls_total", outcome="success") == 2
    assert samples.sum("late_exporter_log_lag_seconds_count") == 2
    for seconds in (0, 30, 44.9):
        world.clock.advance(seconds)
        assert new_platform(exporter.scrape()) == ZEROS
        assert new_platform(exporter.scrape()) == ZEROS
    world.clock.advance(0.1)
    assert new_platform(exporter.scrape()) == VALUES
    world.publish(2, **FAILURE)
    exporter.poll()
    assert {family: 2 * value for family, value in VALUES.items()} == new_platform(exporter.scrape())


def test_own_counters_that_nobody_can_foresee_begin_with_zero(world: World, exporter: ExporterHarness) -> None:
    """An alert sees the first increment of a counter whose labels are not known before."""
    drift = "late_exporter_api_schema_drift_total"
    world.publish(1, status="abandoned")
    exporter.poll()
    assert values(exporter.scrape(), drift, field="status") == [0.0]
    world.clock.advance(HOLD)
    assert values(exporter.scrape(), drift, field="status") == [1.0]


@pytest.mark.parametrize(("downtime", "shown"), [(1800, ZEROS), (7200, VALUES)])
def test_after_an_interruption(
    world: World, exporter: ExporterHarness, downtime: float, shown: Mapping[str, float]
) -> None:
    """New series begin with 0, but not after hours: the state may be a restored one, so that a value would fall."""
    exporter.restart(downtime)
    world.publish(2, **FAILURE)
    exporter.poll()
    assert shown == new_platform(exporter.scrape())


@pytest.mark.parametrize("skew", [-5000.0, -60.0, -1.0, 60.0, 5000.0])
def test_another_clock_changes_nothing(world: World, exporter: ExporterHarness, skew: float) -> None:
    """The clock of the API decides: a process on another machine holds a series as long as the one before."""
    world.publish(2, **FAILURE)
    exporter.poll()
    exporter.skew = skew
    exporter.poll()
    assert new_platform(exporter.scrape()) == ZEROS
    exporter.restart(30)
    exporter.poll()
    assert new_platform(exporter.scrape()) == ZEROS
    world.clock.advance(45)
    assert new_platform(exporter.scrape()) == VALUES
    exporter.restart()
    exporter.poll()
    assert new_platform(exporter.scrape()) == VALUES


STEPS = ("publish", "poll", "poll", "scrape", "scrape", "wait", "kill", "kill poll")
KINDS: tuple[dict[str, Any], ...] = (
    {"platform": "tiktok", "status": "failed", "statusCode": 500},
    {"platform": "x", "durationMs": None},
    {"platform": "x", "action": "retry", "attemptNumber": 2, "accountId": "acc2"},
    {"platform": "y", "status": "pending", "durationMs": None},
)


@pytest.mark.exhaustive
@pytest.mark.parametrize("generation", ["late", "zernio"])
@settings(max_examples=example_count(20, thorough=2000))
@given(data=st.data())
def test_any_order_of_kills_and_scrapes(generation: str, data: st.DataObject) -> None:
    """A scraper that comes often enough sees each new series at 0 first and none fall, so that increases are exact."""
    world = World(VirtualClock())
    world.publish(5)
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(
            ExporterHarness(
                FakeLateApi(world, generation=generation),
                Path(folder) / "a.db",
                generation=generation,
                zero_hold=HOLD,
            )
        ) as exporter,
    ):
        exporter.poll()
        history = exporter.scrape().counters
        latest = Samples(history)

        def scrape() -> None:
            for series, value in exporter.scrape().counters.items():
                is_own = series[0].startswith("late_exporter_")
                assert latest[series] <= value if series in latest else is_own or value == 0, (series, value)
                latest[series] = value

        for step in [*data.draw(st.lists(st.sampled_from(STEPS), max_size=25)), "poll", "scrape", "wait"]:
            world.clock.advance(5)
            match step:
                case "publish":
                    world.publish(2, **data.draw(st.sampled_from(KINDS)))
                case "poll":
                    exporter.poll()
                case "wait":
                    scrape()
                    world.clock.advance(HOLD)
                case "kill":
                    exporter.restart()
                case "kill poll":
                    exporter.kill(data.draw(st.integers(1, 12)))
                    scrape()
            if step.startswith("kill"):
                exporter.poll()  # which a process that starts does at once
            scrape()
        increase = latest.sum(LOGS) - history.sum(LOGS)
        assert len(world.rows) - 5 == increase
