from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace

from late_exporter.api.generation import ApiGeneration
from late_exporter.app import assembly
from late_exporter.app.assembly import ApiConnection, Pipeline, PipelineConfig
from late_exporter.errors import StoreError
from late_exporter.ingest.details import EventSelection
from late_exporter.model import FeedState, Scope
from late_exporter.series import Series, SeriesValue
from late_exporter.store import Store, open_store
from late_exporter.store.thread import StoreThread
from tests.support.client import FakeClient
from tests.support.clock import HOUR, VirtualClock
from tests.support.inside import InsideHarness
from tests.support.late_api import FakeLateApi
from tests.support.loggers import NullLogger
from tests.support.steps import drive, offload_in_steps
from tests.support.store import StoreProxy, stored_series
from tests.support.world import World

EVERYTHING = PipelineConfig(feeds=(), has_webhooks=True, has_replicas=True, events=EventSelection())


@pytest.mark.parametrize(
    ("config", "hidden"),
    [
        (replace(EVERYTHING, has_webhooks=False), {"late_exporter_webhook_lag_seconds"}),
        (replace(EVERYTHING, has_replicas=False), {"late_exporter_cluster_members"}),
        (replace(EVERYTHING, events=None), {"late_exporter_events_pending"}),
        (replace(EVERYTHING, max_accounts=0), {"late_account_info", "late_account_logs_total"}),
        (EVERYTHING, set()),
    ],
)
def test_families_that_cannot_have_values_are_hidden(config: PipelineConfig, hidden: set[str]) -> None:
    """Families of webhooks, replicas and events are hidden without these, families of accounts with a limit of 0."""
    assert hidden <= config.families.keys() - config.visible_families.keys()
    assert "late_publishing_logs_total" in config.visible_families
    assert bool(hidden) == (len(config.visible_families) < len(config.families))


class BrokenStore(StoreProxy):
    """A store whose feed states cannot be read."""

    def feed_states(self, scopes: Sequence[Scope]) -> Mapping[Scope, FeedState]:
        """Fail."""
        raise StoreError(f"cannot read {scopes[0].feed}")


def test_a_workspace_is_not_added_if_its_state_cannot_be_read() -> None:
    """A store error leaves the pipeline without the workspace."""
    with closing(BrokenStore(open_store("sqlite://"))) as store:
        pipeline = Pipeline(
            PipelineConfig(feeds=("publishing",)),
            store_thread=StoreThread(cast("Store", store), offload_in_steps),
            create_logger=lambda _: NullLogger(),
        )
        connection = ApiConnection(FakeClient(), ApiGeneration("late", logger=NullLogger()))
        with pytest.raises(StoreError, match="cannot read publishing"):
            drive(pipeline.add_workspaces({"acme": connection}))
        assert {} == pipeline.pollers


def test_a_removed_workspace_has_no_series() -> None:
    """Series of a removed workspace disappear, those of the others stay."""
    clock = VirtualClock()
    worlds = {name: World(clock) for name in ("acme", "umbrella")}
    for world in worlds.values():
        world.publish(5, over=HOUR)
    with closing(InsideHarness({name: FakeLateApi(world) for name, world in worlds.items()})) as exporter:
        for name in worlds:
            exporter.poll(name)
        exporter.pipeline.remove_workspace("acme")
        samples = exporter.scrape()
        assert {"umbrella"} == {dict(labels)["workspace"] for _, labels in samples}
        assert 5 == samples.sum("late_publishing_logs_total", workspace="umbrella")


def test_series_are_restored_in_pages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After a restart every series has its value, although no more than a page of them is in memory at once."""
    monkeypatch.setattr("late_exporter.app.assembly.SERIES_PER_PAGE", 7)
    sizes: list[int] = []
    read_page = Store.series_page

    def count_series(store: Store, workspace: str, after: str, limit: int) -> tuple[Mapping[Series, SeriesValue], str]:
        page, cursor = read_page(store, workspace, after, limit)
        sizes.append(len(page))
        return page, cursor

    monkeypatch.setattr(Store, "series_page", count_series)
    clock = VirtualClock()
    worlds = {name: World(clock) for name in ("acme", "umbrella")}
    for world in worlds.values():
        world.publish(30, over=HOUR)
    apis = {name: FakeLateApi(world) for name, world in worlds.items()}
    with closing(InsideHarness(apis, path=tmp_path / "state.db")) as exporter:
        exporter.poll_all()
        before = {
            series: value for series, value in exporter.scrape().items() if series[0].startswith("late_publishing")
        }
        exporter.restart()
        stored_count = sum(len(stored_series(exporter.store.store, name)) for name in worlds)
        exporter.poll_all()
        after = {
            series: value for series, value in exporter.scrape().items() if series[0].startswith("late_publishing")
        }
    assert before == after
    assert (7, stored_count) == (max(sizes[: -len(worlds)]), sum(sizes[: -len(worlds)]))


def test_restored_objects_are_left_out_of_collections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The garbage collector does not look at a large state while it is loaded, which would hold the event loop."""
    world = World(VirtualClock())
    world.publish(20, over=HOUR)
    with closing(InsideHarness(FakeLateApi(world), tmp_path / "state.db")) as exporter:
        exporter.poll()
        freezes: list[None] = []
        monkeypatch.setattr(gc, "freeze", lambda: freezes.append(None))
        exporter.restart()
        assert [] == freezes, "a small state is less than a page"
        monkeypatch.setattr(assembly, "SERIES_PER_PAGE", 5)
        exporter.restart()
        assert len(freezes) > 2
