"""Failovers of PostgreSQL to a standby by streaming replication, while logs are written all the time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.handovers import compare
from tests.e2e.program import wait_equal, wait_until
from tests.e2e.prometheus import PrometheusApi, run_prometheus
from tests.e2e.replicas import PLATFORMS, Replicas, Totals, scrape_config, scraped, shown, supervise
from tests.e2e.traffic import in_thread
from tests.support.postgres import Cluster, find_programs
from tests.support.replication import ReplicatedCluster, running_pair

SEED = 20261129


@pytest.fixture
def pair(postgres: Cluster) -> Iterator[ReplicatedCluster]:
    """Start a primary and a standby."""
    del postgres  # It skips the test if PostgreSQL is missing.
    programs = find_programs()
    assert programs is not None
    with running_pair(programs) as servers:
        yield servers


@pytest.fixture
def replicas(tmp_path: Path, pair: ReplicatedCluster, exit_stack: ExitStack) -> Replicas:
    """Return three replicas that are not started yet, whose state follows a failover."""
    url = pair.create_database()
    new_replicas = Replicas(tmp_path, url, [url] * 3, exit_stack)
    new_replicas.publish_history(PLATFORMS)
    return new_replicas


@pytest.fixture
def prometheus(tmp_path: Path, require_tool: Callable[[str], str], replicas: Replicas) -> Iterator[PrometheusApi]:
    """Run a Prometheus that scrapes all replicas."""
    with run_prometheus(require_tool("prometheus"), tmp_path, scrape_config(replicas)) as api:
        yield api


def start(replicas: Replicas, prometheus: PrometheusApi) -> Totals:
    """Start replicas, wait until Prometheus has all their logs, and return these."""
    replicas.start()
    before = replicas.truth()
    wait_equal(before, lambda: scraped(prometheus))
    return before


def wait_stored(replicas: Replicas, amount: int) -> None:
    """Wait until replicas have counted more logs."""
    before = replicas.stored().total()
    wait_until(
        lambda: replicas.stored().total() >= before + amount,
        describe=lambda: "\n".join(process.stderr for process in replicas.processes),
    )


def test_replicas_follow_a_standby_that_lags(
    replicas: Replicas, prometheus: PrometheusApi, pair: ReplicatedCluster
) -> None:
    """What was lost, also claims of workspaces, is counted again, and Prometheus has every log once."""
    before, errors = start(replicas, prometheus), list[str]()
    first, *others = replicas.processes
    with in_thread(partial(supervise, replicas.processes, errors)), in_thread(partial(replicas.write_logs, seed=SEED)):
        wait_stored(replicas, 100)
        pair.wait_replayed()
        pair.lag()
        wait_stored(replicas, 50)
        first.kill()
        wait_until(lambda: replicas.apis.keys() == {name for each in others for name in shown(each)})
        wait_stored(replicas, 50)
        pair.fail_over()
        first.start()
        wait_stored(replicas, 200)
    # The counters of the exporter begin at 0, and logs that were pending cannot be counted again.
    is_expected = re.compile(r"late_exporter_|.*'pending'").match
    assert [] == list(compare(replicas, prometheus, before, is_expected=is_expected))
    assert [] == errors
