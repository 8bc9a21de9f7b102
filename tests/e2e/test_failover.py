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
from tests.e2e.prometheus import run_prometheus
from tests.e2e.replicas import PLATFORMS, Replicas, scrape_config, scraped, shown, supervise
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


def wait_stored(replicas: Replicas, amount: int) -> None:
    """Wait until replicas have counted more logs."""
    before = replicas.stored().total()
    wait_until(
        lambda: replicas.stored().total() >= before + amount,
        describe=lambda: "\n".join(process.stderr for process in replicas.processes),
    )


@pytest.mark.thorough
def test_replicas_follow_a_standby_that_lags(
    pair: ReplicatedCluster, tmp_path: Path, require_tool: Callable[[str], str], exit_stack: ExitStack
) -> None:
    """What was lost, also claims of workspaces, is counted again, and Prometheus has every log once."""
    url, errors = pair.create_database(), list[str]()
    replicas = Replicas(tmp_path, url, [url] * 3, exit_stack)
    replicas.publish_history(PLATFORMS)
    prometheus = exit_stack.enter_context(run_prometheus(require_tool("prometheus"), tmp_path, scrape_config(replicas)))
    replicas.start()
    before = replicas.truth()
    wait_equal(before, lambda: scraped(prometheus))
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
    assert list(compare(replicas, prometheus, before, is_expected=is_expected)) == []
    assert errors == []
