"""Three replicas that share the work, are killed, paused and stopped, and scraped by a Prometheus all the time."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest

from late_exporter.commands.state import check_state
from tests.e2e.handovers import FAULTS, RESTARTS, Faults, compare
from tests.e2e.program import ExporterProcess, wait_equal, wait_until
from tests.e2e.prometheus import run_prometheus
from tests.e2e.replicas import WORKSPACES, Replicas, create_networks, scrape_config, scraped
from tests.e2e.traffic import LOGS, in_thread, write_logs
from tests.support.postgres import Cluster
from tests.support.proxy import Proxy

SEED = 20261128

FAULT_SECONDS = float(os.environ.get("HANDOVERS", "15"))
"""Duration of the faults; make handovers sets a longer one."""

UNSAVED_POLLS = re.compile(r"late_exporter_polls_total.*'store_error'.* fell")
"""Polls that could not be saved are shown at once, and lost with the process."""

CreateReplicas: TypeAlias = Callable[..., tuple[Replicas, list[Proxy]]]


@pytest.fixture
def create_replicas(tmp_path: Path, postgres: Cluster, exit_stack: ExitStack) -> CreateReplicas:
    """Return a function that makes three replicas that are not started yet, and their networks."""

    def create(workspaces: Sequence[str] = WORKSPACES) -> tuple[Replicas, list[Proxy]]:
        url = postgres.create_schema()
        networks, state_urls = create_networks(url, postgres.port, exit_stack)
        return Replicas(tmp_path, url, state_urls, exit_stack, workspaces), networks

    return create


def test_every_log_counts_once_whatever_happens_to_replicas(
    own_cluster: Cluster, tmp_path: Path, require_tool: Callable[[str], str], exit_stack: ExitStack
) -> None:
    """In the state and in Prometheus all totals are exact, and no counter is reset by any handover."""
    url = own_cluster.create_schema()
    networks, state_urls = create_networks(url, own_cluster.port, exit_stack)
    replicas = Replicas(tmp_path, url, state_urls, exit_stack)
    replicas.publish_history()
    with run_prometheus(require_tool("prometheus"), tmp_path, scrape_config(replicas)) as prometheus:
        replicas.start()
        before, faults = replicas.truth(), Faults(replicas, networks, SEED, own_cluster)
        wait_equal(before, lambda: scraped(prometheus))
        with in_thread(partial(write_logs, [*replicas.apis.values()], seed=SEED, most=10)):
            faults.run(FAULT_SECONDS)
        assert [*compare(replicas, prometheus, before, is_expected=UNSAVED_POLLS.match)] == []
    faults.check_logs()
    assert faults.problems == []
    assert {*FAULTS, *RESTARTS} <= faults.counts.keys()


def test_a_transaction_that_is_late(create_replicas: CreateReplicas) -> None:
    """A transaction that the network holds back changes nothing once another replica counts.

    It holds locks, and must not keep the others from taking over.
    """
    replicas, networks = create_replicas(["w00"])
    api = replicas.apis["w00"]
    api.world.publish(5, over=3600)
    replicas.start()
    owner = replicas.wait_settled("w00")
    network = networks[owner]
    others = [process for number, process in enumerate(replicas.processes) if number != owner]
    with api.lock:
        network.hang_at(b"COMMIT\0")
        (log_id,) = api.world.publish()
    wait_until(lambda: network.is_hanging)
    with api.lock:
        api.world.delete(log_id)  # so that the late transaction has a key that is not stored yet
        api.world.publish(4, over=1)
    wait_equal(9.0, lambda: sum(each.scrape().sum(LOGS, workspace="w00") for each in others))
    network.resume()
    replicas.wait_owned()
    with api.lock:
        api.world.publish(2, over=1)
    wait_equal(replicas.truth(), replicas.stored)
    assert replicas.truth().total() == 11
    assert check_state(replicas.url, None) == []


def has_text(process: ExporterProcess, text: str) -> bool:
    return text in process.stderr


def test_replicas_that_start_without_their_database_wait_for_it(create_replicas: CreateReplicas) -> None:
    """They are not ready and say why; once it answers, they own the workspaces."""
    replicas, networks = create_replicas()
    replicas.publish_history()
    for network in networks:
        network.hang()
    for process in replicas.processes:
        process.start()
    for process in replicas.processes:
        wait_until(partial(has_text, process, "workspaces cannot be owned"))
        response = process.get("/-/ready")
        assert response.status == 503
        assert "workspaces are not shown: " in response.text
    for network in networks:
        network.heal()
    replicas.wait_owned()
