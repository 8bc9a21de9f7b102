"""Replicas that are updated one after the other to a version with another schema, while logs are written."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from late_exporter.store.postgres.schema import MIGRATIONS
from tests.e2e.handovers import compare
from tests.e2e.program import wait_equal
from tests.e2e.prometheus import run_prometheus
from tests.e2e.replicas import Place, Replicas, scrape_config, scraped
from tests.e2e.traffic import in_thread
from tests.support.postgres import Cluster

pytestmark = pytest.mark.e2e

SEED = 20261130
MEMBERS_AND_UNOWNED = """
    SELECT (SELECT count(*) FROM late_member), (SELECT count(*) FROM late_workspace WHERE owner IS NULL)
"""
NEWER, INCOMPATIBLE = "tests.support.newer_version", "tests.support.incompatible_version"


def test_a_rolling_update_with_a_migration(
    tmp_path: Path, postgres: Cluster, exit_stack: ExitStack, require_tool: Callable[[str], str]
) -> None:
    """Both versions use the state meanwhile, all totals are exact, and no counter falls.

    A version that the newest one excludes goes on until it is stopped, and is refused when it is started again.
    """
    url = postgres.create_schema()
    replicas = Replicas(tmp_path, url, [Place(url)] * 3, exit_stack)
    replicas.publish_history()
    config = scrape_config(replicas)
    with run_prometheus(require_tool("prometheus"), tmp_path, config) as prometheus:
        replicas.start()
        before = replicas.truth()
        wait_equal(before, lambda: scraped(prometheus))
        with in_thread(partial(replicas.write_logs, seed=SEED)):
            for number, process in enumerate(replicas.processes):
                assert 0 == process.stop(), process.stderr
                process.module = NEWER
                process.start()
                # A scrape of the test could take the initial 0 of a new series before Prometheus.
                wait_equal([(len(replicas.processes), 0)], partial(Cluster.execute, url, MEMBERS_AND_UNOWNED))
                assert len(MIGRATIONS) + 1 == schema_version(url), number
        assert [] == list(compare(replicas, prometheus, before))
    assert [] == [process.stderr for process in replicas.processes if "Traceback" in process.stderr]

    older, _, newest = replicas.processes
    older.stop()
    older.module = "late_exporter"
    older.start()
    replicas.wait_owned()  # The present version, on a state of the newer one.
    newest.stop()
    newest.module = INCOMPATIBLE
    newest.start()
    replicas.wait_owned()
    assert 0 == older.stop()
    assert 1 == older.start().wait_exit()
    assert (
        f"was written by a newer late-exporter (schema {len(MIGRATIONS) + 2}, this version supports"
        f" {len(MIGRATIONS)}); it was not changed"
    ) in older.stderr


def schema_version(url: str) -> int:
    return int(Cluster.execute(url, "SELECT schema FROM late_state")[0][0])
