"""A log of generation zernio stays the same log when its fields change."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from late_exporter.errors import ApiUnavailable
from late_exporter.ingest import sync
from late_exporter.ingest.schedule import PollConfig
from late_exporter.model import Scope
from late_exporter.protocols import ApiResponse
from late_exporter.simulator.log_list import LogRow
from tests.ingest.conftest import OpenExporter
from tests.ingest.test_exactness import NEVER
from tests.support.client import QueryParams
from tests.support.clock import DAY, HOUR, MINUTE
from tests.support.exporter import ExporterHarness
from tests.support.late_api import FakeLateApi, ListQuirks
from tests.support.loggers import RecordingLogger
from tests.support.profiles import spread
from tests.support.world import World

LAG = "late_exporter_log_lag_seconds_count"
LOGS = "late_publishing_logs_total"


@pytest.fixture
def logger(monkeypatch: pytest.MonkeyPatch) -> RecordingLogger:
    """Return the logger of the exporter."""
    logger = RecordingLogger()
    monkeypatch.setattr(ExporterHarness, "logger", logger)
    return logger


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


@pytest.mark.parametrize(
    "fields",
    [
        {"zernio": {"user_id": "u1", "request_id": None}},
        {"zernio": {"platform": "X"}},
        {"zernioId": "z"},
    ],
    ids=["user and request", "platform", "id"],
)
@pytest.mark.parametrize("size", [4, 330])
def test_a_field_of_the_key_that_the_api_shows_in_another_form(
    size: int, fields: dict[str, Any], world: World, logger: RecordingLogger, exporter: ExporterHarness
) -> None:
    """As after a switch of the API generation, only newer logs count, and none is pending; a warning says so."""
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
    assert 0 == exporter.scrape().sum("late_publishing_pending_logs")
    assert size + 2 + 3 == len(exporter.observations)
    assert sum(before.values()) + 3 == exporter.scrape().sum(LOGS)
    reason = {"reason": "none of the counted logs is recognised any more"}
    assert ("warning", "only newer logs count from now on", reason) in logger.records
    audit, mismatches = exporter.run_audit()
    assert ([], []) == (audit.differences, mismatches)


@pytest.mark.parametrize("created_at", [None, "Sun, 29 Nov 2026 10:00:00 GMT"])
@pytest.mark.parametrize("size", [3, 330])
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


@pytest.mark.parametrize("dated_count", [0, 1])
def test_new_logs_without_a_time(dated_count: int, world: World, exporter: ExporterHarness) -> None:
    """They count, also if no other log has ever had a time."""
    world.publish(dated_count)
    exporter.poll_repeatedly(2)
    world.publish(4, zernio={"created_at": None})
    assert ["success"] * 2 == [result.outcome for result in exporter.poll_repeatedly(2)]
    assert dated_count + 4 == exporter.scrape().sum(LOGS)


def test_only_known_logs_without_a_time_are_left(world: World, exporter: ExporterHarness) -> None:
    """Once all others are deleted, polls go on, because nothing could count twice."""
    dated = world.publish(2)
    world.publish(4, zernio={"created_at": None})
    exporter.poll_repeatedly(2)
    world.delete(*dated)
    assert ["success"] * 2 == [result.outcome for result in exporter.poll_repeatedly(2)]
    assert 6 == exporter.scrape().sum(LOGS)


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


def test_an_account_in_another_form(world: World, exporter: ExporterHarness) -> None:
    """It is no part of the key, so that pending logs settle."""
    ids = world.publish(120, over=DAY, kinds=[{}, {"status": "pending"}])
    exporter.poll_repeatedly(2)
    for row in list(world.rows):
        world.change(row["_id"], row["status"], zernio={"account_id": "https://zernio.com/accounts/a1"})
    world.change(ids[1], "failed")
    exporter.poll_repeatedly(3)
    exporter.settle()
    assert 121 == len(exporter.observations)


@pytest.mark.parametrize(
    ("size", "pairs"), [(120, [(40, 110)]), (120, [(99, 100)]), (250, [(0, 249), (90, 130), (5, 160)])]
)
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


@pytest.mark.parametrize("page_size", spread([5, 10, 25, 100]))
@pytest.mark.parametrize("above", spread([0, 3, 8, 12]))
def test_alike_logs_on_pages_of_any_size(page_size: int, above: int, world: World, exporter: ExporterHarness) -> None:
    """If a page has more logs of one time than the next one repeats, alike ones count, however short the pages are."""
    exporter.api.quirks = ListQuirks(max_page_size=page_size)
    world.publish(20, over=DAY)
    exporter.poll()
    world.clock.advance(HOUR)
    for number in range(37):
        world.insert(world.clock.now - MINUTE, requestId=f"r{number % 29}")
    world.publish(above, over=10.0)
    exporter.poll_repeatedly(1)
    assert 57 + above == len(exporter.observations) == exporter.poller.recorder.log_count
    exporter.settle()
    assert 57 + above == len(exporter.observations)


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


@pytest.mark.exhaustive
@pytest.mark.parametrize("failure_count", [1, 2, 1000])
@pytest.mark.parametrize("old_count", [0, 50])
def test_a_time_that_cannot_be_read_as_a_whole(
    old_count: int, failure_count: int, world: World, open_exporter: OpenExporter
) -> None:
    """It fails two polls, also those of processes that poll once, and is left to the next scan after that."""
    api = UnreliableTimes(world, generation="zernio")
    exporter = open_exporter(api, generation="zernio", config=PollConfig(reconcile_interval=NEVER))
    if old_count:
        world.publish(old_count, over=DAY)
        exporter.poll()
        world.clock.advance(DAY)
    total = old_count + publish_dense_time(world)
    api.failure_count = failure_count
    for _ in range(min(2, failure_count)):
        assert exporter.poll().error is not None
        assert bool(old_count) is exporter.poller.recorder.is_synced
        exporter.restart()
    assert exporter.poll().error is None
    assert exporter.poller.recorder.is_synced
    if failure_count > 2:
        assert total - 80 <= len(exporter.observations) < total
        failed = exporter.scrape().family("late_exporter_failed_requests_total", feed="publishing")
        assert failed["window",] >= 1
        api.failure_count = 0
        exporter.restart()
        exporter.poll_repeatedly(10)
    assert total == len(exporter.observations)


@pytest.mark.exhaustive
def test_a_kill_at_any_step_of_a_first_sync_of_a_dense_time(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first sync is complete only if all logs of a time that is on several pages are counted."""
    monkeypatch.setattr(sync, "COMMIT_SIZE", 1)  # so that each page is committed
    total = publish_dense_time(world, old=2, dense=25, different=17, new=13)
    for steps in range(1, 1000):
        api = FakeLateApi(world, generation="zernio", quirks=ListQuirks(max_page_size=10))
        config = PollConfig(reconcile_interval=NEVER)
        exporter = ExporterHarness(api, tmp_path / f"{steps}.db", generation="zernio", config=config)
        is_killed = exporter.kill(steps)
        exporter.poll()
        history = takewhile(
            lambda batch: batch.coverage is None or not batch.coverage.is_synced, exporter.store.batches
        )
        later = exporter.store.batches[len(list(history)) + 1 :]
        assert 0 == sum(len(batch.observations) for batch in later), "history counts as an increase"
        assert (total, True) == (len(exporter.observations), exporter.poller.recorder.is_synced), steps
        exporter.close()
        if not is_killed:
            break
    else:
        pytest.fail("the poll does not end")


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


@pytest.mark.exhaustive
@pytest.mark.parametrize(("page_size", "size"), [(10, 37), (100, 250)])
@pytest.mark.parametrize("above", [0, 150])
def test_an_alike_log_that_appears_after_the_others(
    page_size: int, size: int, above: int, world: World, exporter: ExporterHarness
) -> None:
    """A time that was read as a whole is read again if another log of it appears."""
    exporter.api.quirks = ListQuirks(max_page_size=page_size)
    world.publish(300, over=DAY)
    exporter.poll()
    world.clock.advance(HOUR)
    moment = world.clock.now
    for number in range(size):
        world.insert(moment, requestId=f"r{number % 29}")
    exporter.poll_repeatedly(2)
    world.publish(above, over=10.0)
    exporter.poll_repeatedly(1)
    world.insert(moment, requestId="r3")
    exporter.poll_repeatedly(8)
    assert 301 + size + above == len(exporter.observations) == exporter.poller.recorder.log_count


def test_logs_of_one_time_in_another_order_each_time_count_no_more_than_once(
    world: World, exporter: ExporterHarness
) -> None:
    """If the order of a dense time differs per request, alike logs may be missed, but none counts twice."""
    world.publish(20, over=DAY)
    exporter.poll()
    world.clock.advance(HOUR)
    for number in range(180):
        world.insert(world.clock.now - MINUTE, requestId=f"r{number % 170}")
    request_count = 0

    def rotate(rows: Sequence[LogRow]) -> Sequence[LogRow]:
        nonlocal request_count
        request_count += 1
        dense = [row for row in rows if "requestId" in row]
        shift = request_count * 61 % max(1, len(dense))
        return [*dense[shift:], *dense[:shift], *[row for row in rows if "requestId" not in row]]

    exporter.api.quirks = ListQuirks(order=rotate)
    exporter.poll_repeatedly(4)
    assert 190 <= len(exporter.observations) <= 200
    failed = exporter.scrape().family("late_exporter_failed_requests_total", feed="publishing")
    assert failed["window",] >= 1


@pytest.mark.parametrize(("count", "page_size"), [(1, 100), (250, 100), (1, 10), (25, 10)])
def test_logs_without_a_time_below_the_lookback(count: int, page_size: int, world: World, tmp_path: Path) -> None:
    """They count although the list is older than the lookback: at first as history, later within a scan."""
    config = PollConfig(lookback=DAY + MINUTE, reconcile_interval=10 * MINUTE)
    api = FakeLateApi(world, generation="zernio", quirks=ListQuirks(never_expires=True, max_page_size=page_size))
    exporter = ExporterHarness(api, tmp_path / "b.db", generation="zernio", config=config)
    world.publish(300, over=3 * DAY)
    for _ in range(count):
        world.insert(None)
    exporter.poll()
    assert 101 + count == len(exporter.observations) == exporter.scrape().sum("late_publishing_logs_total")
    world.insert(None, status="failed", statusCode=500)
    exporter.settle()
    assert 101 + count + 1 == len(exporter.observations)
    exporter.close()


def test_alike_logs_that_cannot_be_distinguished_are_reported(world: World, exporter: ExporterHarness) -> None:
    """If the API cannot filter by time, a time with more logs than two pages share is a failed request."""
    exporter.api.quirks = ListQuirks(time_filter="ignored")
    family = "late_exporter_failed_requests_total"
    world.publish(20, over=DAY)
    exporter.poll()
    world.publish(150, over=MINUTE)
    exporter.poll_repeatedly(2)
    before = exporter.scrape().sum(family)
    world.publish(150, over=0)
    exporter.poll_repeatedly(2)
    assert exporter.scrape().sum(family) > before
