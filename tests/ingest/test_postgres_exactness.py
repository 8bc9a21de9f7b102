"""Exact counting with the state in PostgreSQL: the machine of test_exactness.py, with fewer examples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings

from late_exporter.ingest.schedule import PollConfig
from tests.ingest.test_exactness import Exactness
from tests.support.clock import DAY, VirtualClock
from tests.support.exporter import ExporterHarness
from tests.support.late_api import FakeLateApi
from tests.support.postgres import Cluster
from tests.support.profiles import example_count, is_thorough
from tests.support.world import World

pytestmark = pytest.mark.e2e


class PostgresExactness(Exactness):
    """The machine, with a state of its own in a PostgreSQL server."""

    cluster: ClassVar[Cluster]

    def _start(self, late: FakeLateApi, path: Path, pace: PollConfig) -> ExporterHarness:
        del path
        return ExporterHarness(late, self.cluster.create_schema(), config=pace)


@pytest.fixture(autouse=True)
def _cluster(postgres: Cluster) -> None:
    PostgresExactness.cluster = postgres


TestExactness = PostgresExactness.TestCase
TestExactness.settings = settings(
    max_examples=example_count(5, thorough=100),
    stateful_step_count=15,
    deadline=None,
    derandomize=not is_thorough(),
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def switching(postgres: Cluster) -> Iterator[ExporterHarness]:
    """Open an exporter that follows the API to another generation."""
    late = FakeLateApi(World(VirtualClock()))
    late.world.publish(150, over=2 * DAY)
    with closing(ExporterHarness(late, postgres.create_schema(), generation="auto")) as exporter:
        yield exporter


def test_a_switch_of_the_generation_counts_nothing_twice(switching: ExporterHarness) -> None:
    """The stored logs get the keys of the other generation, also across a restart; new ones are counted."""
    late = switching.api
    switching.settle()
    before = switching.scrape().sum("late_publishing_logs_total")
    assert 150 == before
    late.generation = "zernio"
    for number in range(8):
        switching.clock.advance(400.0)
        late.world.insert(late.world.clock.now - 1)
        switching.poll()
        switching.examine()
        if number == 4:
            switching.restart()
    switching.settle()
    assert "zernio" == switching.poller.generation
    assert 158 == switching.scrape().sum("late_publishing_logs_total")
    audit, mismatches = switching.run_audit()
    assert [] == mismatches
    assert [] == audit.differences
