from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from late_exporter.app.assembly import PipelineConfig
from late_exporter.model import Series, SeriesValue
from late_exporter.store import Store
from tests.support.clock import HOUR, VirtualClock
from tests.support.inside import InsideHarness
from tests.support.late_api import FakeLateApi
from tests.support.store import stored_series
from tests.support.world import World


def test_families_of_accounts_are_hidden_by_a_limit_of_0() -> None:
    """No account is shown if none may be."""
    config = PipelineConfig(feeds=(), max_accounts=0)
    assert {"late_account_info", "late_account_logs_total"} <= config.families.keys() - config.visible_families.keys()
    assert "late_publishing_logs_total" in config.visible_families


def test_series_are_restored_in_pages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After a restart every series has its value, although no more than a page of them is in memory at once."""
    monkeypatch.setattr("late_exporter.store.thread.SERIES_PER_PAGE", 7)
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
        before = exporter.scrape().family("late_publishing_logs_total")
        exporter.restart()
        stored_count = sum(len(stored_series(exporter.store.store, name)) for name in worlds)
        exporter.poll_all()
        assert exporter.scrape().family("late_publishing_logs_total") == before
    assert (7, stored_count) == (max(sizes[: -len(worlds)]), sum(sizes[: -len(worlds)]))
