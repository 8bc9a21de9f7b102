"""Families that are switched off and on, and histograms whose buckets change, across restarts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from math import inf
from pathlib import Path

import pytest

from late_exporter.app.assembly import PipelineConfig
from late_exporter.metrics.catalogue import CATALOGUE, build_catalogue
from late_exporter.metrics.platforms import platform_health
from tests.support.clock import VirtualClock
from tests.support.inside import InsideHarness
from tests.support.late_api import FakeLateApi
from tests.support.samples import Samples
from tests.support.world import World

LOGS = "late_publishing_logs_total"
DURATION = "late_publishing_duration_seconds"
ACCOUNT = "late_account_logs_total"
NO_FAMILIES: frozenset[str] = frozenset()


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[InsideHarness]:
    """Return an exporter that has exposed its history."""
    world = World(VirtualClock())
    world.publish(3)
    with closing(InsideHarness(FakeLateApi(world), tmp_path / "state.db")) as exporter:
        exporter.poll()
        exporter.scrape()
        world.clock.advance(30)
        yield exporter


def test_a_disabled_family_is_counted(exporter: InsideHarness) -> None:
    """A family that was disabled for a while has its true totals when it is exposed again, and never falls."""
    before = exporter.scrape()
    exporter.restart(disabled_families=frozenset({LOGS, DURATION, ACCOUNT}))
    exporter.poll()
    exporter.api.world.publish(4, platform="tiktok", status="failed", statusCode=None)
    exporter.clock.advance(30)
    exporter.poll()
    disabled = exporter.scrape()
    assert not [name for name, _ in disabled if name.startswith((LOGS, DURATION, ACCOUNT))]
    assert disabled.sum("late_publishing_failures_total") == 4

    exporter.restart(disabled_families=NO_FAMILIES)
    exporter.poll()
    enabled = exporter.scrape()
    assert before.sum(LOGS) + 4 == enabled.sum(LOGS)
    assert before.sum(f"{DURATION}_count") + 4 == enabled.sum(f"{DURATION}_count")
    assert all(enabled[series] >= value for series, value in before.counters.items())


def test_the_status_page_does_not_depend_on_disabled_families(exporter: InsideHarness) -> None:
    """What the status page shows is known, whatever is exposed."""
    expected = platform_health(exporter.registry, "default")
    exporter.restart(disabled_families=frozenset(CATALOGUE))
    exporter.poll()
    assert platform_health(exporter.registry, "default") == expected
    assert expected
    assert exporter.scrape() == {}


def bounds_of(samples: Samples) -> list[float]:
    """Return the bounds of the buckets of the histogram."""
    return sorted({float(dict(labels)["le"]) for name, labels in samples if name == f"{DURATION}_bucket"})


@pytest.mark.parametrize("bounds", [(1.0,), (0.5, 1.0, 2.0, 4.0)])
def test_other_buckets_lose_nothing(exporter: InsideHarness, bounds: tuple[float, ...]) -> None:
    """After a change of buckets the histogram has the same count and sum, and goes on from there."""
    before = exporter.scrape()
    exporter.restart(families=build_catalogue({DURATION: bounds}))
    exporter.poll()
    changed = exporter.scrape()
    for sample in (f"{DURATION}_count", f"{DURATION}_sum"):
        assert before.family(sample) == changed.family(sample)
    assert bounds_of(changed) == [*bounds, inf]
    kept = {series for series in before if series[0].startswith(DURATION) and series in changed}
    assert kept
    assert all(before[series] == changed[series] for series in kept)

    exporter.api.world.publish(5)
    exporter.clock.advance(30)
    exporter.poll()
    later = exporter.scrape()
    assert before.sum(f"{DURATION}_count") + 5 == later.sum(f"{DURATION}_count")
    exporter.restart(families=CATALOGUE)
    exporter.poll()
    assert later.sum(f"{DURATION}_count") == exporter.scrape().sum(f"{DURATION}_count")


def test_families_of_accounts_are_hidden_by_a_limit_of_0() -> None:
    """No account is shown if none may be."""
    config = PipelineConfig(feeds=(), max_accounts=0)
    assert {"late_account_info", "late_account_logs_total"} <= config.families.keys() - config.visible_families.keys()
    assert "late_publishing_logs_total" in config.visible_families
