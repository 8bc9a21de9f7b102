"""Three replicas that share the work, are killed, paused and stopped, and scraped by a Prometheus all the time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.handovers import FAULTS, RESTARTS, Faults, assert_exact, check_log
from tests.e2e.program import ExporterProcess, wait_equal, wait_until
from tests.e2e.prometheus import run_prometheus
from tests.e2e.replicas import Replicas, create_networks, scrape_config, scraped
from tests.e2e.traffic import in_thread, write_logs
from tests.support.postgres import Cluster, find_programs, running_cluster

SEED = 20261128

FAULT_SECONDS = float(os.environ.get("HANDOVERS", "15"))
"""Duration of the faults; make handovers sets a longer one."""


@pytest.fixture
def own_cluster(postgres: Cluster) -> Iterator[Cluster]:
    """Start a server that the test may stop."""
    del postgres  # It skips the test if PostgreSQL is missing.
    programs = find_programs()
    assert programs is not None
    with running_cluster(programs) as cluster:
        yield cluster


def test_every_log_counts_once_whatever_happens_to_replicas(
    own_cluster: Cluster, tmp_path: Path, require_tool: Callable[[str], str], exit_stack: ExitStack
) -> None:
    """In the state and in Prometheus all totals are exact, and no counter is reset by any handover."""
    url = own_cluster.create_schema()
    networks, state_urls = create_networks(url, own_cluster.port, exit_stack)
    replicas = Replicas(tmp_path, url, state_urls, exit_stack)
    with run_prometheus(require_tool("prometheus"), tmp_path, scrape_config(replicas)) as prometheus:
        for process in replicas.processes:
            process.start()
        replicas.wait_owned()
        before, faults = replicas.truth(), Faults(replicas, networks, SEED, own_cluster)
        wait_equal(before, lambda: scraped(prometheus))
        with in_thread(partial(write_logs, [*replicas.apis.values()], seed=SEED, most=10)):
            faults.run(FAULT_SECONDS)
        assert_exact(replicas, prometheus, before)
    for process in replicas.processes:
        check_log(process)
    assert {*FAULTS, *RESTARTS} <= faults.counts.keys()


def test_replicas_that_start_without_their_database_wait_for_it(
    postgres: Cluster, tmp_path: Path, exit_stack: ExitStack
) -> None:
    """They are not ready and say why; once it answers, they own the workspaces."""
    url = postgres.create_schema()
    networks, state_urls = create_networks(url, postgres.port, exit_stack)
    replicas = Replicas(tmp_path, url, state_urls, exit_stack)
    for network in networks:
        network.hang()
    for process in replicas.processes:
        process.start()
    for process in replicas.processes:
        wait_until(partial(is_without_database, process))
        response = process.get("/-/ready")
        assert response.status == 503
        assert "workspaces are not shown: " in response.text
    for network in networks:
        network.heal()
    replicas.wait_owned()


def is_without_database(process: ExporterProcess) -> bool:
    return "workspaces cannot be owned" in process.stderr
