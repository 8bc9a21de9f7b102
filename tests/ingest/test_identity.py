"""A log of generation zernio stays the same log when its fields change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from late_exporter.ingest.schedule import PollConfig
from tests.ingest.test_exactness import NEVER
from tests.support.clock import DAY, HOUR, MINUTE, VirtualClock
from tests.support.exporter import ExporterHarness
from tests.support.late_api import FakeLateApi
from tests.support.world import World

LAG = "late_exporter_log_lag_seconds_count"


@pytest.fixture
def world() -> World:
    """Return a key without logs."""
    return World(VirtualClock())


@pytest.fixture
def exporter(world: World, tmp_path: Path) -> Iterator[ExporterHarness]:
    """Return an exporter of generation zernio before its first poll."""
    config = PollConfig(reconcile_interval=NEVER)
    exporter = ExporterHarness(
        FakeLateApi(world, generation="zernio"), tmp_path / "a.db", generation="zernio", config=config
    )
    yield exporter
    exporter.close()


@pytest.mark.parametrize("depth", [0, 150])
@pytest.mark.parametrize(
    "changes",
    [
        {"request_body": '{"content": "Brezeln"}'},
        {"metadata": '{"attemptNumber": 2, "postId": "p9"}'},
        {"action": "post.retried"},
        {"error_message": "no", "response_body": "{}", "metadata": "{"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_field_that_changes_with_the_status(
    changes: dict[str, Any], depth: int, world: World, exporter: ExporterHarness
) -> None:
    """The log counts once in each status, and once by what counts per log."""
    exporter.poll()
    (log_id,) = world.publish(1, status="pending", zernio={"request_body": None})
    (pause,) = world.publish(1, status="pending", action="rate_limit_pause", zernio={"request_body": None})
    exporter.poll_repeatedly(1)
    world.publish(depth, over=10.0)
    exporter.poll_repeatedly(1)
    world.change(log_id, "success", zernio=changes)
    world.change(pause, "skipped", zernio={"request_body": "{}"})
    exporter.poll_repeatedly(3)
    scrape = exporter.scrape()
    assert 4 + depth == len(exporter.observations)
    assert 2 + depth == scrape.sum(LAG) == exporter.poller.recorder.log_count
    assert 1 == scrape.sum("late_publishing_rate_limit_pauses_total")
    assert 0 == scrape.sum("late_publishing_pending_logs")


def test_an_account_that_is_deleted(world: World, exporter: ExporterHarness) -> None:
    """Its logs lose their account id and count no second time, nor do those of accounts in the same millisecond."""
    moment = world.clock.now - HOUR
    for account in ("acc1", "acc2", "acc3"):
        world.insert(moment, accountId=account, requestId="r1")
        world.insert(moment, accountId=account, requestId="r2", status="failed", statusCode=500)
    world.publish(40, over=MINUTE, kinds=[{"accountId": "acc2"}, {"accountId": "acc1"}])
    exporter.poll()
    before = exporter.scrape().family("late_publishing_logs_total")
    for row in list(world.rows):
        if row["accountId"] == "acc2":
            world.change(row["_id"], row["status"], accountId=None)
    exporter.poll_repeatedly(2)
    exporter.settle()
    assert before == exporter.scrape().family("late_publishing_logs_total")
    assert 46 == exporter.poller.recorder.log_count
    audit, mismatches = exporter.run_audit()
    assert ([], []) == (audit.differences, mismatches)


def test_a_pending_log_whose_account_is_deleted(world: World, exporter: ExporterHarness) -> None:
    """It settles although it lost its account id at the same time."""
    waiting = world.insert(world.clock.now - HOUR, status="pending")
    world.publish(150, over=MINUTE)
    exporter.poll()
    world.change(waiting, "failed", statusCode=400, accountId=None)
    exporter.poll_repeatedly(2)
    assert 152 == len(exporter.observations)
    assert 0 == exporter.scrape().sum("late_publishing_pending_logs")


def test_ids_that_appear_are_the_keys(world: World, exporter: ExporterHarness) -> None:
    """Logs with an id are matched once, and then found by it whatever else changes."""
    ids = world.publish(30, over=DAY)
    exporter.poll()
    for log_id in ids:
        world.change(log_id, "success", zernioId=f"z{log_id}")
    exporter.poll_repeatedly(1)
    assert 30 == len(exporter.observations)
    for log_id in ids:
        world.change(log_id, "success", accountId=None, requestId=None, platform="twitter")
    exporter.poll_repeatedly(1)
    assert 30 == len(exporter.observations)
    audit, mismatches = exporter.run_audit()
    assert ([], []) == (audit.differences, mismatches)
