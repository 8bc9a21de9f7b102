"""What a poll reports, and when the next one follows: at an interval."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from late_exporter.errors import ApiUnavailable
from late_exporter.health import FeedHealth, SyncProgress
from late_exporter.ingest import sync
from tests.ingest.conftest import OpenExporter
from tests.support.clock import DAY, HOUR, VirtualClock
from tests.support.inside import InsideHarness
from tests.support.late_api import FakeLateApi, refusal
from tests.support.world import World

LOGS = "late_publishing_logs_total"
LAG = "late_exporter_log_lag_seconds"


@pytest.fixture
def exporter(world: World, start: OpenExporter) -> InsideHarness:
    """Return an exporter that has not polled yet."""
    return start(FakeLateApi(world))


def test_health(exporter: InsideHarness, world: World) -> None:
    """The health of a feed is reported from the first poll on."""
    assert exporter.poller.health == FeedHealth(name="publishing")
    now = float(int(world.clock.now))
    world.clock.now = now
    world.publish(1, over=DAY)
    world.publish(1, over=1, status="pending")
    exporter.run(1)
    assert exporter.poller.health == FeedHealth(
        name="publishing",
        is_synced=True,
        outcome="success",
        last_poll=now,
        last_success=now,
        next_poll=now + 30,
        duration=0.0,
        logs=2,
        pending=1,
        coverage_start=now - 7 * DAY,
    )
    exporter.api.fail_request(0, refusal(ApiUnavailable("502: Bad Gateway")))
    exporter.poll_repeatedly(1)
    assert exporter.poller.health.last_success == now


def test_lag(exporter: InsideHarness, world: World) -> None:
    """The lag runs from createdAt to recording by the API's clock; history has none, and it is never negative."""
    exporter.skew = 1000.0
    world.clock.now = float(int(world.clock.now))
    world.publish(1)
    exporter.poll()
    assert (exporter.poller.health.lag, exporter.scrape().sum(f"{LAG}_count")) == (None, 0)
    world.insert(world.clock.now - 5)
    exporter.poll()
    assert exporter.poller.health.lag == 5.0
    world.insert(world.clock.now + 1000)
    exporter.poll()
    assert exporter.poller.health.lag == 0.0
    assert (exporter.scrape().sum(f"{LAG}_count"), exporter.scrape().sum(f"{LAG}_sum")) == (2, 5.0)


@pytest.mark.parametrize(("latency", "pause"), [(7.0, 30), (500.0, 503)])
def test_interval(latency: float, pause: float, exporter: InsideHarness) -> None:
    """Polls start an interval apart whatever they take, but never without a pause."""
    exporter.poll_repeatedly(2)
    exporter.api.latency = latency
    *_, first, second = exporter.run(4 * pause)
    assert second - first == pytest.approx(pause)


def test_a_catch_up_is_interrupted_for_the_newest_logs(exporter: InsideHarness, world: World) -> None:
    """A first sync that takes long hides the history until it is complete, and goes on at once."""
    exporter.api.latency = 60.0
    world.publish(950, over=HOUR)
    exporter.api.before_request(5, lambda: world.publish(1, over=1, status="failed"))
    assert exporter.poll().is_partial
    assert (exporter.poller.health.is_synced, exporter.poller.health.gaps) == (False, 1)
    assert exporter.scrape().family(LOGS) == {}
    exporter.run(900.0)
    assert exporter.scrape().sum(LOGS) == 951
    assert (exporter.poller.health.is_synced, exporter.poller.health.gaps) == (True, 0)


def test_a_first_sync_reads_the_newest_page_once(exporter: InsideHarness, world: World) -> None:
    """While nothing is shown, newer logs can wait for minutes, whatever the interval is."""
    exporter.api.latency = 2.0
    world.publish(5000, over=DAY)
    while exporter.poll().is_partial:
        pass
    assert [request.skip for request in exporter.requests].count(0) == 1


def test_results_of_audits_are_removed_once_they_are_disabled(world: World, tmp_path: Path) -> None:
    """An alert about an audit that is not made any more could never end."""
    last = "late_exporter_audit_last_completed_timestamp_seconds"
    for audit_interval, has_results in ((HOUR, True), (0.0, False)):
        api = FakeLateApi(world)
        with closing(InsideHarness(api, tmp_path / "a.db", audit_interval=audit_interval)) as exporter:
            exporter.settle()
            assert has_results == bool(exporter.scrape().family(last))


def test_a_bug_ends_the_loop(exporter: InsideHarness) -> None:
    """An unexpected exception is raised by the loop."""
    exporter.api.before_request(0, lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        exporter.run(HOUR)


SIZES = {"acme": 730, "umbrella": 730, "initech": 20}


def test_logs_in_memory_do_not_grow_with_the_workspaces(
    open_exporter: OpenExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If all feeds together have read too many logs, each commits after every page."""
    monkeypatch.setattr(sync, "MAX_UNCOMMITTED", 250)
    clock = VirtualClock()
    worlds = {name: World(clock) for name in SIZES}
    for name, world in worlds.items():
        world.publish(SIZES[name], over=HOUR)
    exporter = open_exporter({name: FakeLateApi(world) for name, world in worlds.items()})
    exporter.poll_all()
    samples = exporter.scrape()
    assert {name: samples.sum(LOGS, workspace=name) for name in SIZES} == SIZES
    assert max(exporter.store.commit_sizes) <= 300


def test_progress(exporter: InsideHarness, world: World) -> None:
    """A first sync and a catch-up tell how many logs were read, also by earlier processes."""

    def progress_before(request_number: int) -> list[SyncProgress | None]:
        progress: list[SyncProgress | None] = []
        exporter.api.before_request(request_number, lambda: progress.append(exporter.poller.measure()))
        exporter.poll()
        return progress

    world.publish(500, over=DAY)
    exporter.api.fail_request(4, refusal(ApiUnavailable("502: Bad Gateway")))
    (failing,) = progress_before(4)
    assert failing is not None
    assert 300 <= failing.log_count <= 400
    assert exporter.poller.measure() is None
    exporter.restart()
    assert progress_before(0) == [failing]
    assert exporter.log.above_debug[-1] == ("info", "first sync complete")
    world.clock.advance(3 * DAY)
    world.publish(500)
    assert progress_before(0) == [None], "nothing is known to be missing before the first page"
    assert exporter.scrape().sum(LOGS) == 1000
