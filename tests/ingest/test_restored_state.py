"""A state that was restored from an older copy shows no counter that has fallen."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from late_exporter.model import Scope
from late_exporter.simulator.log_list import LogRow
from late_exporter.store import open_store
from late_exporter.store.admin import SqliteAdmin
from tests.support.clock import DAY, HOUR, MINUTE, VirtualClock
from tests.support.inside import InsideHarness
from tests.support.late_api import FakeLateApi, unavailable
from tests.support.poller import PollerHarness
from tests.support.samples import Samples
from tests.support.world import World


def counters(samples: Samples) -> Samples:
    """Return the counters of logs, without those that only logs seen pending have."""
    return Samples(
        {
            series: value
            for series, value in samples.items()
            if series[0].startswith(("late_publishing", "late_account"))
            and series[0].endswith(("_total", "_count", "_bucket"))
            and ("status", "pending") not in series[1]
        }
    )


@pytest.mark.exhaustive
@pytest.mark.parametrize("generation", ["late", "zernio"])
def test_counters_are_hidden_until_they_have_caught_up(tmp_path: Path, generation: str) -> None:
    """Nothing that was served falls: not while the API fails, not after kills, and not once everything is read."""
    world = World(VirtualClock())
    late = FakeLateApi(world, generation=generation)
    path, copy = tmp_path / "state.db", tmp_path / "copy.db"
    with closing(InsideHarness(late, path, generation=generation, zero_hold=75.0)) as exporter:
        kinds: tuple[LogRow, ...] = (
            {},
            {"status": "failed", "statusCode": 500},
            {"action": "retry", "platform": "tiktok"},
        )
        world.publish(300, over=DAY, kinds=kinds)
        exporter.poll()
        SqliteAdmin(path).backup(copy)
        for _ in range(4):
            world.clock.advance(HOUR)
            world.publish(110, over=HOUR, kinds=(*kinds, {"platform": "bluesky"}))
            exporter.poll()
        served = counters(exporter.scrape())
        assert 740 == served.sum("late_publishing_logs_total")

        exporter.close()
        path.unlink()
        shutil.copy(copy, path)
        exporter.restart(5 * MINUTE)
        late.fail_request(0, unavailable)
        exporter.poll()
        for step in range(3, 24, 4):
            assert not counters(exporter.scrape()), "hidden until the feed is read"
            assert exporter.kill(step)
        exporter.poll()
        caught_up = counters(exporter.scrape())
        assert served.keys() <= caught_up.keys()
        assert not {series for series, value in served.items() if caught_up[series] < value}
        assert 740 == caught_up.sum("late_publishing_logs_total")
        exporter.restart()
        assert caught_up == counters(exporter.scrape())


async def test_a_restored_state_is_logged(tmp_path: Path) -> None:
    """The log names the feed that is hidden, and says what it waits for."""
    path, copy = tmp_path / "state.db", tmp_path / "copy.db"
    for backed_up in (True, False):
        with closing(open_store(f"sqlite:///{path}")) as store:
            harness = PollerHarness(store)
            await harness.start()
            await harness.poller.poll()
            assert [] == [event for level, event, _ in harness.logger.records if level == "warning"]
            if backed_up:
                SqliteAdmin(path).backup(copy)
    path.unlink()
    shutil.copy(copy, path)
    with closing(open_store(f"sqlite:///{path}")) as store:
        harness = PollerHarness(store)
        await harness.start()
        assert [
            "the state is older than when it was last used; the metrics of the feed appear once its logs are read again"
        ] == [event for level, event, _ in harness.logger.records if level == "warning"]
        assert store.feed_state(Scope("acme", "publishing")).is_restored
