"""Exact counting with the state in PostgreSQL: the machine of test_exactness.py, with fewer examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings

from tests.ingest.test_exactness import Exactness
from tests.support.exporter import ExporterHarness
from tests.support.late_api import FakeLateApi
from tests.support.postgres import Cluster
from tests.support.profiles import example_count, is_thorough

pytestmark = pytest.mark.e2e


class PostgresExactness(Exactness):
    """The machine, with a state of its own in a PostgreSQL server."""

    cluster: ClassVar[Cluster]

    def _start(self, late: FakeLateApi, path: Path, **options: Any) -> ExporterHarness:
        del path
        return ExporterHarness(late, self.cluster.create_schema(), **options)


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
