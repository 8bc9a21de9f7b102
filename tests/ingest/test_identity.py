"""A log of generation zernio stays the same log when its fields change."""

from __future__ import annotations

from typing import Any

import pytest

from late_exporter.errors import ApiUnavailable
from late_exporter.ingest import sync
from late_exporter.ingest.schedule import PollConfig
from late_exporter.model import Scope
from late_exporter.protocols import ApiResponse
from tests.ingest.conftest import OpenExporter
from tests.ingest.test_exactness import NEVER
from tests.support.client import QueryParams
from tests.support.clock import DAY, HOUR, MINUTE
from tests.support.exporter import ExporterHarness
from tests.support.late_api import FakeLateApi
from tests.support.world import World

LAG = "late_exporter_log_lag_seconds_count"
LOGS = "late_publishing_logs_total"


@pytest.fixture
def exporter(world: World, open_exporter: OpenExporter) -> ExporterHarness:
    """Return an exporter of generation zernio before its first poll."""
    config = PollConfig(reconcile_interval=NEVER)
    return open_exporter(FakeLateApi(world, generation="zernio"), generation="zernio", config=config)


@pytest.mark.parametrize("depth", [0, 150])
@pytest.mark.parametrize(
    "changes",
    [
        {"request_body": '{"content": "Brezeln"}'},
        {"metadata": '{"attemptNumber": 2, "postId": "p9"}'},
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
    """No log counts again, and logs that are newer than all counted ones count."""
    world.publish(size, over=DAY, kinds=[{}, {}, {"status": "failed"}])
    ids = world.publish(2, over=MINUTE, status="pending")
    exporter.poll_repeatedly(2)
    before = exporter.scrape().family(LOGS)
    for row in list(world.rows):
        world.change(row["_id"], row["status"], **fields)
    world.change(ids[-1], "success")
    world.clock.advance(MINUTE)
    world.publish(3, over=30.0, platform="tiktok", **fields)
    exporter.poll_repeatedly(3)
    exporter.settle()
    assert sum(before.values()) + 3 == exporter.scrape().sum(LOGS)
    assert 0 == exporter.scrape().sum("late_publishing_pending_logs")
    audit, mismatches = exporter.run_audit()
    assert ([], []) == (audit.differences, mismatches)


@pytest.mark.parametrize("created_at", [None, "Sun, 29 Nov 2026 10:00:00 GMT"])
@pytest.mark.parametrize("size", [30, 330])
def test_times_that_cannot_be_read_any_more(
    size: int, created_at: str | None, world: World, exporter: ExporterHarness
) -> None:
    """Nothing is counted while all times are missing or in another format; polls fail, and go on once they are back."""
    world.publish(size, over=DAY)
    exporter.poll_repeatedly(2)
    for row in list(world.rows):
        world.change(row["_id"], row["status"], zernio={"created_at": created_at})
    assert ["bad_payload"] * 5 == [result.outcome for result in exporter.poll_repeatedly(5)]
    assert size == exporter.scrape().sum(LOGS)
    for row in list(world.rows):
        world.change(row["_id"], row["status"], zernio={})
    world.publish(2, over=30.0)
    exporter.poll_repeatedly(2)
    exporter.settle()
    assert size + 2 == exporter.scrape().sum(LOGS)


@pytest.mark.parametrize(("count", "known_count"), [(2, 1), (4, 5)])
def test_new_logs_at_the_times_of_deleted_ones(
    count: int, known_count: int, world: World, exporter: ExporterHarness
) -> None:
    """They count, although they have the status of those, at two times of a page or beside more known logs."""
    world.publish(known_count, over=DAY)
    moments = [world.clock.now - HOUR * number for number in range(1, count + 1)]
    deleted = [world.insert(moment, accountId="acc1") for moment in moments]
    exporter.poll_repeatedly(2)
    world.delete(*deleted)
    for moment in moments:
        world.insert(moment, accountId="acc2")
    exporter.poll_repeatedly(2)
    exporter.settle()
    assert known_count + 2 * count == len(exporter.observations)


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


@pytest.mark.parametrize(("size", "pairs"), [(120, [(40, 110)]), (120, [(99, 100)])])
def test_alike_logs_on_different_pages(
    size: int, pairs: list[tuple[int, int]], world: World, exporter: ExporterHarness
) -> None:
    """More logs of one millisecond than a page are all counted, also those that differ in nothing."""
    world.publish(20, over=DAY)
    exporter.poll()
    world.clock.advance(HOUR)
    moment = world.clock.now - MINUTE
    request_ids = [f"r{number}" for number in range(size)]
    for first, second in pairs:
        request_ids[second] = request_ids[first]
    for request_id in request_ids:
        world.insert(moment, requestId=request_id)
    world.publish(30, over=10.0)
    exporter.poll_repeatedly(2)
    assert 50 + size == len(exporter.observations) == exporter.poller.recorder.log_count
    exporter.settle()
    assert 50 + size == len(exporter.observations)


def publish_dense_time(world: World, old: int = 20, dense: int = 250, different: int = 170, new: int = 130) -> int:
    """Publish logs of one time, some of which are alike, between older and newer ones; return how many all are."""
    world.publish(old, over=DAY)
    for number in range(dense):
        world.insert(world.clock.now - HOUR, requestId=f"r{number % different}")
    world.publish(new, over=MINUTE)
    return old + dense + new


class UnreliableTimes(FakeLateApi):
    """An API that fails requests for the logs of a range of times, ``failure_count`` times."""

    failure_count = 0

    def _respond(self, path: str, params: QueryParams) -> ApiResponse | None:
        if "from" in params and self.failure_count:
            self.failure_count -= 1
            raise ApiUnavailable("500: oops", status=500)
        return super()._respond(path, params)


def test_history_of_a_dense_time_is_created_when_the_record_starts(
    world: World, exporter: ExporterHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the logs of the time are committed by themselves, and some series have no others."""
    monkeypatch.setattr(sync, "COMMIT_SIZE", 1)
    for number in range(150):
        world.insert(world.clock.now - HOUR, platform="reddit" if number < 20 else "tiktok", requestId=f"r{number}")
    exporter.poll()
    coverage = exporter.poller.recorder.coverage
    assert coverage is not None
    values = exporter.store.accounting(Scope("default", "publishing")).series_values
    created = {labels[1]: value.created for (family, labels), value in values.items() if family == LOGS}
    assert dict.fromkeys(("reddit", "tiktok"), coverage.complete_since / 1000) == created
