"""An exporter polls and shows what its session owns, also if some of it cannot be read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from unittest.mock import Mock

import pytest

from late_exporter.errors import StoreError
from late_exporter.health import ClusterHealth
from late_exporter.store.owner import WorkspaceOwner
from late_exporter.store.ownership import Ownership
from late_exporter.store.postgres import PostgresDatabase
from tests.app.test_reload import ReloadHarness
from tests.support.clock import DAY, VirtualClock
from tests.support.exporter import open_store
from tests.support.loggers import NullLogger
from tests.support.postgres import Cluster
from tests.support.store import commit, execute, observation
from tests.support.world import World

pytestmark = pytest.mark.e2e


@pytest.fixture
def harness(tmp_path: Path) -> ReloadHarness:
    """Return an exporter of two workspaces, with 30 logs each."""
    worlds = {name: World(VirtualClock(time.time())) for name in ("acme", "beta")}
    for world in worlds.values():
        world.publish(30, over=DAY)
    harness = ReloadHarness(tmp_path, worlds)
    harness.write(*worlds)
    return harness


@asynccontextmanager
async def running(harness: ReloadHarness, url: str, groups: dict[str, str]) -> AsyncIterator[WorkspaceOwner]:
    """Run the exporter on a state in PostgreSQL; it should own the workspaces of some groups, and owns none yet."""
    async with harness.running(frozenset(), url):
        database = harness.store.database
        assert isinstance(database, PostgresDatabase)
        yield WorkspaceOwner(
            Ownership(harness.store, database, is_shared=False, lease=60.0),
            poll_only=harness.exporter.own,
            groups=lambda: groups,
            registry=harness.exporter.pipeline.registry,
            offload=harness.offload,
            lease=60.0,
            logger=NullLogger(),
        )


def end_sessions(url: str) -> None:
    """End all sessions of exporters, as a restart of the server does."""
    sessions = "FROM pg_stat_activity WHERE application_name LIKE 'late-exporter %'"
    execute(url, f"SELECT pg_terminate_backend(pid, 60000) {sessions}")


async def test_a_lost_workspace_is_loaded_again(postgres: Cluster, harness: ReloadHarness) -> None:
    """It continues where its last owner has ended."""
    url = postgres.create_schema()
    async with running(harness, url, {"acme": "acme"}) as owner:
        await owner.update()
        await harness.wait_for_counts(acme=30)
        end_sessions(url)
        with closing(open_store(url)) as other:
            commit(other, observation("a"))
        with pytest.raises(StoreError):
            await owner.update()
        await owner.update()
        harness.worlds["acme"].publish(2)
        await harness.wait_for_counts(acme=33)
        assert await owner.shown_workspaces() == {"acme"}


async def test_nobody_owns_anything_as_far_as_is_known_without_a_session(
    postgres: Cluster, harness: ReloadHarness
) -> None:
    """The status page shows no replicas of before."""
    url = postgres.create_schema()
    async with running(harness, url, {"acme": "acme"}) as owner:
        await owner.update()
        assert len(owner.health().members) == 1
        end_sessions(url)
        with closing(open_store(url)):
            task = asyncio.create_task(owner.run())
            while not owner.unready_reason():  # noqa: ASYNC110 - a thread finds out
                await asyncio.sleep(0.01)
            assert owner.health() == ClusterHealth()
            task.cancel()


async def test_a_workspace_that_cannot_be_loaded_counts_as_unowned(
    postgres: Cluster, harness: ReloadHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are shown meanwhile, and an alert tells."""
    groups = {"acme": "acme"}
    async with running(harness, postgres.create_schema(), groups) as owner:
        await owner.update()
        groups["beta"] = "beta"
        with monkeypatch.context() as patch:
            patch.setattr(harness.store, "series_page", Mock(side_effect=StoreError("no luck")))
            for _ in range(2):
                with pytest.raises(StoreError, match="no luck"):
                    await owner.update()
                assert owner.health().unowned_workspaces == ("beta",)
        assert await owner.shown_workspaces() == {"acme"}
        await owner.update()
        assert owner.health().unowned_workspaces == ()
        assert await owner.shown_workspaces() == {"acme", "beta"}
