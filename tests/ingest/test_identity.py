"""A log of generation zernio stays the same log when its fields change."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ingest.conftest import OpenExporter
from tests.support.clock import DAY, HOUR, MINUTE
from tests.support.exporter import NEVER, ExporterHarness
from tests.support.late_api import FakeLateApi, ListQuirks
from tests.support.world import World

LAG = "late_exporter_log_lag_seconds_count"
LOGS = "late_publishing_logs_total"


@pytest.fixture
def exporter(world: World, open_exporter: OpenExporter) -> ExporterHarness:
    """Return an exporter of generation zernio before its first poll."""
    return open_exporter(FakeLateApi(world, generation="zernio"), reconcile_interval=NEVER)


@pytest.mark.parametrize("depth", [0, 150])
def test_fields_that_change_with_the_status(depth: int, world: World, exporter: ExporterHarness) -> None:
    """The log counts once in each status, and once by what counts per log."""
    changes = {"request_body": '{"content": "Brezeln"}', "metadata": '{"attemptNumber": 2}', "error_message": "no"}
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
    assert 2 + depth == scrape.sum(LAG)
    assert scrape.sum("late_publishing_rate_limit_pauses_total") == 1
    assert scrape.sum("late_publishing_pending_logs") == 0


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


@pytest.mark.parametrize(
    "fields",
    [
        {"zernio": {"user_id": "u1", "request_id": None}},
        {"zernio": {"platform": "X"}},
    ],
    ids=["user and request", "platform"],
)
@pytest.mark.parametrize("size", [4, 330])
def test_a_field_of_the_key_that_the_api_shows_in_another_form(
    size: int, fields: dict[str, Any], world: World, exporter: ExporterHarness
) -> None:
    """As after a switch of the API generation, only newer logs count, and none is pending; a warning says so."""
    world.publish(size, over=DAY, kinds=[{}, {}, {"status": "failed"}])
    ids = world.publish(2, over=MINUTE, status="pending")
    exporter.poll_repeatedly(2)
    before = exporter.scrape().sum(LOGS)
    for row in list(world.rows):
        world.change(row["_id"], row["status"], **fields)
    world.change(ids[-1], "success")
    world.clock.advance(MINUTE)
    world.publish(3, over=30.0, platform="tiktok", **fields)
    assert {result.outcome for result in exporter.poll_repeatedly(3)} == {"success"}
    exporter.settle()
    assert exporter.scrape().sum("late_publishing_pending_logs") == 0
    assert len(exporter.observations) == size + 2 + 3
    assert exporter.scrape().sum(LOGS) == before + 3
    reason = {"reason": "none of the logs that were counted before is recognised"}
    assert exporter.log.records.count(("warning", "only newer logs count from now on", reason)) == 1


@pytest.mark.parametrize("time_filter", ["inclusive", "rejected"])
@pytest.mark.parametrize(("size", "above"), [(130, 0), (130, 30), (350, 7), (350, 99)])
def test_partly_alike_logs_of_more_than_a_page(
    size: int, above: int, time_filter: str, world: World, open_exporter: OpenExporter
) -> None:
    """Logs that are alike in all parts of the key count, with others of their millisecond in between, on any page."""
    late = FakeLateApi(world, generation="zernio", quirks=ListQuirks(time_filter=time_filter))
    exporter = open_exporter(late, reconcile_interval=NEVER)
    world.publish(20, over=DAY)
    exporter.poll()
    world.clock.advance(HOUR)
    for number in range(size):
        world.insert(world.clock.now - MINUTE, requestId=f"r{number % 29}")
    world.publish(above, over=10.0)
    exporter.poll_repeatedly(1)
    assert 20 + size + above == len(exporter.observations)
    exporter.settle()
    assert 20 + size + above == len(exporter.observations)
    request_count = len(late.requests)
    exporter.poll_repeatedly(3)
    assert len(late.requests) - request_count == 3


@pytest.mark.parametrize("moves", [1, 60])
def test_a_list_that_moves_while_a_millisecond_is_read(moves: int, world: World, exporter: ExporterHarness) -> None:
    """Its logs are read again, at once or by the next polls, and each counts once."""
    world.publish(20, over=DAY)
    exporter.poll()
    world.clock.advance(HOUR)
    for _ in range(150):
        world.insert(world.clock.now)
    for number in range(moves):
        exporter.api.before_request(4 + number, lambda: world.insert(world.clock.now))
    assert exporter.poll().outcome == "success"
    exporter.api.clear_events()
    exporter.poll_repeatedly(3)
    assert len(exporter.observations) == len(world.rows)
