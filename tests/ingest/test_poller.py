from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing, suppress
from typing import Any

import pytest

from late_exporter.errors import ApiUnavailable, BadPayload, LateError, RateLimited, StoreError, Unauthorized
from late_exporter.ingest import feed_publisher, sync
from late_exporter.ingest.observations import LOGS_PER_SLICE
from late_exporter.ingest.reporter import POLL_OUTCOMES
from late_exporter.ingest.schedule import PollConfig, PollResult
from late_exporter.ingest.steps import REQUEST_KINDS
from late_exporter.ingest.uncommitted_logs import ReadLogs, UncommittedBatch
from late_exporter.ingest.webhooks import WebhookReceiver, sign
from late_exporter.model import CommitResult, Coverage, FeedCommit, ListPosition, LogEntry, Scope
from late_exporter.protocols import ApiResponse
from late_exporter.series import Histogram, IncCounter
from late_exporter.status import FeedHealth, PollHealth, Quota
from late_exporter.store import open_store
from tests.support.client import Handler, QueryParams
from tests.support.clock import DAY
from tests.support.poller import LOGS, NOW, POLLS, PollerHarness, Stop, iso_time, publishing_row
from tests.support.samples import Samples

LIST = "/v1/posts/logs"
POST = "/v1/posts/{postId}/logs"
REQUESTS = "late_exporter_api_requests_total"
THROTTLED = "late_exporter_api_throttled_seconds_total"
SUCCEEDED = "late_exporter_last_successful_poll_timestamp_seconds"


@pytest.fixture
async def harness() -> AsyncIterator[PollerHarness]:
    """Return a poller that has not polled yet."""
    with closing(open_store("sqlite://")) as store:
        harness = PollerHarness(store)
        await harness.start()
        yield harness


# Results of a poll.


async def test_successful_poll(harness: PollerHarness) -> None:
    """A successful poll counts itself, its requests and the logs, and sets the gauges."""
    harness.rows = [publishing_row(2), publishing_row(1)]
    harness.client.quota = Quota(60, 59, NOW + 9)
    harness.client.wait_seconds = 1.5
    result = await harness.poller.poll()

    assert PollResult("success") == result
    # A list of one page is read twice before it is taken for the whole history.
    assert [(LIST, {"days": 7, "limit": 100, "skip": 0})] * 2 == harness.client.requests
    assert ({"success": 1}, 1, 2) == (harness.poll_counts(), harness.value("late_up", "publishing"), harness.logs())
    assert 2 == harness.value(REQUESTS, LIST, "200")
    assert 1.5 == harness.value(THROTTLED)
    assert NOW == harness.value(SUCCEEDED, "publishing")
    seconds = harness.value("late_exporter_api_request_duration_seconds", LIST)
    assert isinstance(seconds, Histogram)
    assert (500_000, 2) == (seconds.micros, sum(seconds.counts))
    quota = ("limit", "remaining", "reset_timestamp_seconds")
    assert [60, 59, NOW + 9] == [harness.value(f"late_exporter_api_quota_{name}") for name in quota]
    assert 2 == harness.value("late_exporter_state_logs")
    assert 0 == harness.value("late_publishing_pending_logs", "tiktok", "publish")


OUTCOMES_OF = [
    ("unauthorized", Unauthorized("401: the key was refused")),
    ("rate_limited", RateLimited("429: slowly", until=100.0)),
    ("unavailable", ApiUnavailable("502: Bad Gateway")),
    ("bad_payload", BadPayload("the answer is not JSON")),
]


@pytest.mark.parametrize(("outcome", "failure"), OUTCOMES_OF)
async def test_failed_poll(harness: PollerHarness, outcome: str, failure: LateError) -> None:
    """A failed poll counts by its outcome and sets late_up to 0 until a poll succeeds."""
    await harness.poller.poll()
    harness.now = 30.0
    harness.fail_requests(failure)
    assert PollResult(outcome, failure) == await harness.poller.poll()

    assert ({"success": 1, outcome: 1}, 0) == (harness.poll_counts(), harness.value("late_up", "publishing"))
    assert NOW == harness.value(SUCCEEDED, "publishing"), "the time of the last success"
    assert 1 == harness.value(REQUESTS, LIST, "error")
    health = harness.poller.health
    assert (outcome, str(failure), NOW, NOW + 30) == (
        health.outcome,
        health.error,
        health.last_success,
        health.last_poll,
    )

    harness.restore_api()
    assert PollResult("success") == await harness.poller.poll()
    assert ({"success": 2, outcome: 1}, 1) == (harness.poll_counts(), harness.value("late_up", "publishing"))
    assert ("success", "") == (harness.poller.health.outcome, harness.poller.health.error)


async def test_an_error_keeps_no_frames(harness: PollerHarness) -> None:
    """The error of a poll, which is kept until the next one, does not keep the pages that the poll had read."""

    def handler(_: str, __: QueryParams) -> ApiResponse:
        raise ApiUnavailable("502: Bad Gateway") from OSError("reset")

    harness.client.handler = handler
    error = (await harness.poller.poll()).error
    assert error is not None
    assert (None, None, None) == (error.__traceback__, error.__cause__, error.__context__)


async def test_missing_list(harness: PollerHarness) -> None:
    """A 404 for the list is a failure, not an empty list."""
    harness.client.handler = lambda _, __: None
    result = await harness.poller.poll()
    assert ("unavailable", "404: the API has no /v1/posts/logs") == (result.outcome, str(result.error))
    assert 1 == harness.value(REQUESTS, LIST, "404")


async def test_bad_payload(harness: PollerHarness) -> None:
    """A response that is no list of logs is a bad payload."""
    harness.client.handler = lambda _, __: ApiResponse(b"<html>", None)
    assert "bad_payload" == (await harness.poller.poll()).outcome


async def test_counters_start_at_zero(harness: PollerHarness) -> None:
    """Every outcome is exposed at 0 before the first poll has ended."""
    harness.fail_requests(Stop())
    with pytest.raises(Stop):
        await harness.poller.run()
    assert dict.fromkeys(POLL_OUTCOMES, 0) == {
        labels[2]: value for (family, labels), value in harness.exposition.values.items() if family == POLLS
    }
    for reason in ("no_id", "not_an_object"):
        assert 0 == harness.value("late_exporter_entries_rejected_total", "publishing", reason)
    assert 0 == harness.value("late_exporter_reconciled_logs_total", "publishing")
    assert 0 == harness.value(THROTTLED)


async def test_restart(harness: PollerHarness) -> None:
    """After a restart all counters continue from their values."""
    harness.rows = [publishing_row(1)]
    await harness.run(2)
    await harness.start()
    assert ({"success": 2}, 1) == (harness.poll_counts(), harness.logs())
    await harness.run(1)
    assert ({"success": 3}, 1) == (harness.poll_counts(), harness.logs())


async def test_health(harness: PollerHarness) -> None:
    """The health of the feed is reported from the first poll on."""
    assert FeedHealth(name="publishing") == harness.poller.health
    harness.rows = [publishing_row(2, "pending", postId="p"), publishing_row(1, age=DAY)]
    reports: list[FeedHealth] = []
    harness.on_published = lambda: reports.append(harness.poller.health)
    await harness.run(1)

    assert (False, None) == (reports[0].is_synced, reports[0].outcome), "not reported before it can be scraped"
    assert (
        FeedHealth(
            name="publishing",
            is_synced=True,
            outcome="success",
            last_poll=NOW,
            last_success=NOW,
            next_poll=NOW + 30,
            duration=0.0,
            logs=2,
            pending=1,
            coverage_start=NOW - 7 * DAY,
            recent_polls=(PollHealth(started_at=NOW, outcome="success", requests=2, logs=2),),
        )
        == harness.poller.health
    )


async def test_recent_polls(harness: PollerHarness) -> None:
    """Cost and yield of the last polls are kept, failures for longer, both bounded."""
    for number in range(5):
        harness.now = 30.0 * number
        harness.fail_requests(ApiUnavailable(f"down {number}"))
        await harness.poller.poll()
    harness.restore_api()
    for number in range(5, 20):
        harness.now = 30.0 * number
        harness.rows.insert(0, publishing_row(number, age=-harness.now))
        await harness.poller.poll()
    health = harness.poller.health

    assert [NOW + 30 * number for number in range(19, 11, -1)] == [poll.started_at for poll in health.recent_polls]
    assert {("success", 1, 1, "")} == {
        (poll.outcome, poll.requests, poll.logs, poll.error) for poll in health.recent_polls
    }
    assert [("unavailable", "down 4"), ("unavailable", "down 3"), ("unavailable", "down 2")] == [
        (poll.outcome, poll.error) for poll in health.recent_failures
    ]


async def test_lag(harness: PollerHarness) -> None:
    """The lag runs from createdAt to recording by the API's clock; history has none, and it is never negative."""
    harness.rows = [publishing_row(1, age=DAY)]
    harness.date = NOW + 1000
    await harness.poller.poll()
    assert harness.poller.health.lag is None
    assert harness.value("late_exporter_log_lag_seconds", "publishing") is None

    harness.rows.insert(0, publishing_row(2, age=-995))
    await harness.poller.poll()
    assert 5.0 == harness.poller.health.lag
    harness.rows.insert(0, publishing_row(3, age=-2000))
    await harness.poller.poll()
    assert 0.0 == harness.poller.health.lag
    lag = harness.value("late_exporter_log_lag_seconds", "publishing")
    assert isinstance(lag, Histogram)
    assert (2, 5_000_000) == (sum(lag.counts), lag.micros)


async def test_exemplars(harness: PollerHarness) -> None:
    """Live logs leave exemplars; history and logs counted before do not."""
    harness.rows = [publishing_row(1)]
    await harness.poller.poll()
    assert [] == harness.exposition.exemplars
    harness.rows.insert(0, publishing_row(2, "failed"))
    for _ in range(2):
        await harness.poller.poll()
    assert [("acme", "tiktok", "publish", "failed")] == harness.exposition.exemplars


async def test_one_exemplar_per_bucket(harness: PollerHarness) -> None:
    """Of many logs in one commit, each bucket of a series gets one exemplar: that of the newest log."""
    harness.rows = [publishing_row(1, age=1000)]
    await harness.poller.poll()
    harness.rows[:0] = [
        publishing_row(number, age=400 - number, durationMs=700 if number % 2 else 70_000)
        for number in range(400, 100, -1)
    ]
    await harness.poller.poll()
    assert 2 == len(harness.exposition.exemplars)
    harness.exposition.publish()
    body = harness.exposition.get_body("application/openmetrics-text", None).body.decode()
    exemplars = [line.partition(" # ")[2].split()[0] for line in body.splitlines() if " # {" in line]
    assert [log_id in exemplar for log_id, exemplar in zip(("399", "400"), exemplars, strict=True)]


async def test_an_unchanged_page_is_not_looked_up(harness: PollerHarness) -> None:
    """A poll at rest does not ask the store unless logs have changed."""
    look_ups: list[bool] = []

    async def look_ups_of_poll() -> int:
        look_ups.clear()
        await harness.poller.poll()
        return len(look_ups)

    async def offload(call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        look_ups.extend([True] * (call.__name__ == "lookup"))
        return call(*args, **keywords)

    harness.offload = offload  # type: ignore[method-assign]
    await harness.start(PollConfig(interval=10, late_window=0))
    harness.rows = [publishing_row(number, age=1000 - number) for number in range(250, 0, -1)]
    await harness.poller.poll()
    polls = [await look_ups_of_poll() for _ in range(3)]
    assert 0 == polls[-1]
    harness.now += 60
    assert [0, 0] == [await look_ups_of_poll() for _ in range(2)]
    harness.rows.insert(0, publishing_row(300))
    assert [1, 1, 0] == [await look_ups_of_poll() for _ in range(3)], "the page, and again now that it is recorded"
    harness.store.failures = {0: "after"}
    assert [0, 1, 0] == [await look_ups_of_poll() for _ in range(3)], "it is unknown what the failed commit has changed"


async def test_a_commit_is_never_published_in_part(harness: PollerHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tasks run while the series of a large commit are set, but no publication has a part of them."""
    monkeypatch.setattr(feed_publisher, "SERIES_PER_SLICE", 1)
    published, turns = set(), 0
    for first in (0, 10):
        harness.rows[:0] = [publishing_row(first + number, accountId=f"a{number}") for number in range(9, -1, -1)]
        poll = asyncio.ensure_future(harness.poller.poll())
        while not poll.done():
            await asyncio.sleep(0)
            harness.exposition.publish()
            samples = Samples.parse(harness.exposition.get_body(None, None).body.decode())
            published.add((samples.sum(LOGS), samples.sum("late_account_logs_total")))
            turns += 1
    assert {(0, 0), (10, 10), (20, 20)} == published
    assert turns > 2 * 30, "each commit has changed more series"


async def test_cancelled_at_any_step(harness: PollerHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """At whatever step a poll is cancelled, what is committed is shown at once, and every log is counted once."""
    monkeypatch.setattr(feed_publisher, "SERIES_PER_SLICE", 2)

    async def offload(call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        calls.append(call.__name__)
        result, is_cancelled = call(*args, **keywords), False
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            is_cancelled = True
        task = asyncio.current_task()
        if is_cancelled and task is not None:
            task.cancel()
        return result

    harness.offload = offload  # type: ignore[method-assign]
    calls: list[str] = []
    await harness.start()
    await harness.poller.poll()
    number, step, is_done = 0, 0, False
    unrecorded_steps = reading_steps = 0
    while not is_done:
        numbers = range(number, number + 2 * LOGS_PER_SLICE + 50)
        number = numbers.stop
        harness.rows[:0] = [publishing_row(each, age=100_000 - each) for each in reversed(numbers)]
        steps_before = len(harness.client.requests) + calls.count("lookup")
        task = asyncio.ensure_future(harness.poller.poll())
        for _ in range(step):
            await asyncio.sleep(0)
        is_done = task.done()
        task.cancel()
        await asyncio.wait([task])
        assert harness.stored_value(LOGS, "tiktok", "publish", "success") == harness.logs()
        unrecorded_steps += number != harness.logs()
        reading_steps = len(harness.client.requests) + calls.count("lookup") - steps_before
        await harness.poller.start()
        await harness.poller.poll()
        assert number == harness.logs()
        step += 1
    assert abs(reading_steps - unrecorded_steps) <= 5, "what is read is recorded"
    assert step > unrecorded_steps + 3


async def test_rejected_rows(harness: PollerHarness) -> None:
    """A row without an id is rejected, and counted as such once."""
    harness.rows = [publishing_row(1), {"platform": "tiktok", "status": "x"}, publishing_row(2, _id=5)]
    for _ in range(3):
        assert "success" == (await harness.poller.poll()).outcome
    assert (1, 2) == (harness.logs(), harness.value("late_exporter_entries_rejected_total", "publishing", "no_id"))


# Time of the next poll.


async def test_interval(harness: PollerHarness) -> None:
    """Polls start an interval apart whatever they take, but never without a pause."""

    def slow(seconds: float) -> Handler:
        def handler(path: str, params: QueryParams) -> ApiResponse | None:
            harness.now += seconds
            return harness.respond(path, params)

        return handler

    harness.client.handler = slow(7.0)
    assert [16.0] == await harness.run(1), "two requests"
    harness.client.handler = slow(500.0)
    assert [3.0] == await harness.run(1)


@pytest.mark.parametrize(("chance", "pauses"), [(0.0, [3.0, 27.0]), (0.4, [12.0, 29.4]), (1.0, [30.0, 33.0])])
async def test_polls_that_start_together_are_spread(
    harness: PollerHarness, chance: float, pauses: Sequence[float]
) -> None:
    """The second poll comes after any part of the interval, those after failures and later ones as usual."""
    harness.random_value = chance
    await harness.start(PollConfig(is_spread=True))
    harness.fail_requests(ApiUnavailable("down"))
    assert pytest.approx([30.0 * (0.9 + 0.2 * chance)]) == await harness.run(1)
    harness.restore_api()
    assert pytest.approx(pauses) == await harness.run(2)


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 0.9), (0.5, 1.0), (1.0, 1.1)])
async def test_backoff(harness: PollerHarness, chance: float, factor: float) -> None:
    """After each failure the pause doubles up to two minutes, with jitter; a success resets it."""
    harness.random_value = chance
    harness.fail_requests(ApiUnavailable("down"))
    assert pytest.approx([factor * pause for pause in (30, 60, 120, 120, 120)]) == await harness.run(5)
    harness.restore_api()
    assert pytest.approx([30 * factor]) == await harness.run(1)
    harness.fail_requests(BadPayload("odd"))
    assert pytest.approx([30 * factor, 60 * factor]) == await harness.run(2)


async def test_backoff_after_many_failures(harness: PollerHarness) -> None:
    """The pause is bounded after any number of failures."""
    harness.fail_requests(ApiUnavailable("down"))
    assert [120.0] * 1100 == (await harness.run(1102))[2:]
    assert {"unavailable": 1102} == harness.poll_counts()


async def test_interval_longer_than_the_backoff(harness: PollerHarness) -> None:
    """An interval longer than the maximum backoff stays the pause."""
    await harness.start(PollConfig(interval=300.0))
    harness.fail_requests(ApiUnavailable("down"))
    assert [300.0] * 3 == await harness.run(3)


@pytest.mark.parametrize(("until", "pause"), [(500.0, 500.0), (31.0, 31.0), (12.0, 30.0), (-5.0, 30.0)])
async def test_rate_limited(harness: PollerHarness, until: float, pause: float) -> None:
    """After a 429 no request is sent before the reset, nor before the next poll is due."""
    harness.fail_requests(RateLimited("429", until=until))
    assert [pause] == await harness.run(1)
    assert NOW + pause == harness.poller.health.next_poll


async def test_rate_limits_do_not_add_up(harness: PollerHarness) -> None:
    """A key that is repeatedly over its limit waits for each reset, and no longer."""

    def handler(_: str, __: QueryParams) -> ApiResponse | None:
        raise RateLimited("429", until=harness.now + 45)

    harness.client.handler = handler
    assert [45.0] * 5 == await harness.run(5)


async def test_a_new_key_is_tried_soon(harness: PollerHarness) -> None:
    """A rejected key backs off; a new key in its file is tried within an interval."""
    harness.fail_requests(Unauthorized("401"))
    assert [30.0, 30.0, 30.0, 30.0, 30.0, 30.0, 30.0] == await harness.run(7)
    assert 3 == len(harness.client.requests), "30 s, 60 s and 120 s of backoff"

    harness.restore_api()
    harness.client.has_new_key = True
    before = harness.now
    with suppress(Stop):
        await harness.poller.run()
    assert before == harness.now - harness.clock.sleeps[-1]
    assert 1 == harness.value("late_up", "publishing")


async def test_a_new_key_ends_the_pause(harness: PollerHarness) -> None:
    """A key that changes during a long pause ends it at the next check."""
    await harness.start(PollConfig(interval=10.0))
    harness.fail_requests(Unauthorized("401"))
    sleep = harness.sleep

    async def watched(seconds: float) -> None:
        if harness.now >= 100.0:
            harness.client.has_new_key = True
            harness.restore_api()
        await sleep(seconds)

    harness.sleep = watched  # type: ignore[method-assign]
    await harness.start(PollConfig(interval=10.0))
    harness.clock.sleeps, harness.max_sleeps = [], 13
    with pytest.raises(Stop):
        await harness.poller.run()
    assert {10.0} == set(harness.clock.sleeps)
    assert {"unauthorized": 4, "success": 2} == harness.poll_counts(), "at 0, 10, 30, 70 and 110 s"


async def test_a_new_key_that_another_feed_read_ends_the_pause(harness: PollerHarness) -> None:
    """A key reload by another feed ends the backoff as well."""
    await harness.start(PollConfig(interval=10.0))
    harness.fail_requests(Unauthorized("401"))
    sleep = harness.sleep

    async def watched(seconds: float) -> None:
        if harness.now >= 100.0 and not harness.client.key_reload_count:
            harness.client.key_reload_count = 1
            harness.restore_api()
        await sleep(seconds)

    harness.sleep = watched  # type: ignore[method-assign]
    await harness.start(PollConfig(interval=10.0))
    harness.clock.sleeps, harness.max_sleeps = [], 13
    with pytest.raises(Stop):
        await harness.poller.run()
    assert {"unauthorized": 4, "success": 2} == harness.poll_counts(), "at 0, 10, 30, 70 and 110 s"


async def test_a_catch_up_is_interrupted(harness: PollerHarness) -> None:
    """A catch-up longer than an interval is interrupted for the newest logs and resumed at once."""

    def slow(path: str, params: QueryParams) -> ApiResponse | None:
        harness.now += 20.0
        if len(harness.client.requests) == 5:
            harness.rows.insert(0, publishing_row(5000, "failed"))
        return harness.respond(path, params)

    harness.client.handler = slow
    harness.rows = [publishing_row(number, age=1000 - number) for number in range(950, 0, -1)]
    result = await harness.poller.poll()
    assert PollResult("success", is_partial=True) == result
    assert ("success", False, 1) == (result.outcome, harness.poller.health.is_synced, harness.poller.health.gaps)
    assert harness.logs() is None, "history is hidden until the first sync is complete"

    await harness.run(1)
    assert (950, 1, 0) == (harness.logs(), harness.logs("failed"), harness.poller.health.gaps)
    skips = [int(params["skip"]) for _, params in harness.client.requests]
    assert skips.count(0) >= 3
    assert len(skips) < 30
    assert [row[1] for row in harness.logger.above_debug].count("first sync complete") == 1


async def test_a_catch_up_is_committed_in_parts(harness: PollerHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long first sync is committed every thousand logs, and a failure in its middle costs none of them."""
    monkeypatch.setattr(sync, "COMMIT_SIZE", 1000)
    harness.rows = [publishing_row(number, age=5000 - number) for number in range(2500, 0, -1)]

    def handler(path: str, params: QueryParams) -> ApiResponse | None:
        if int(params["skip"]) > 1800:
            raise ApiUnavailable("gone")
        return harness.respond(path, params)

    harness.client.handler = handler
    assert "unavailable" == (await harness.poller.poll()).outcome
    sizes = [len(batch.observations) for batch in harness.store.batches]
    assert all(size < 1200 for size in sizes)
    assert 1800 < sum(sizes) < 2300
    held = harness.store.feed_state(Scope("acme", "publishing")).log_count
    assert 1800 < held < 1901
    assert harness.logs() is None

    harness.restore_api()
    await harness.start()
    harness.client.requests.clear()
    await harness.poller.poll()
    assert (2500, 2500) == (harness.logs(), harness.poller.health.logs)
    assert len(harness.client.requests) < 20, "only late arrivals are searched for again"


async def test_reconciliation_scan(harness: PollerHarness) -> None:
    """Known logs are scanned again every reconcile interval, page by page; otherwise a poll is one request."""
    await harness.start(PollConfig(reconcile_interval=300.0))
    harness.rows = [publishing_row(number, age=5000 - number) for number in range(450, 0, -1)]
    await harness.poller.poll()
    await harness.poller.poll()
    harness.client.requests.clear()
    await harness.poller.poll()
    assert 1 == len(harness.client.requests)

    harness.rows.insert(440, publishing_row(9999, "failed", age=4990))  # below the high-water mark
    harness.rows.pop()
    harness.now = 300.0
    for _ in range(12):
        await harness.poller.poll()
    assert 1 == harness.logs("failed")
    assert 1 == harness.value("late_exporter_reconciled_logs_total", "publishing")
    requests = len(harness.client.requests)
    await harness.poller.poll()
    assert 1 == len(harness.client.requests) - requests


async def test_background_audit(harness: PollerHarness) -> None:
    """The loop audits after its polls; if audits are disabled, the old results are removed."""
    await harness.start(PollConfig(reconcile_interval=60.0, audit_interval=3600.0))
    harness.rows = [publishing_row(number, age=5000 - number) for number in range(150, 0, -1)]
    slept = await harness.run(12)
    assert [30.0] * 12 == slept
    families = "late_exporter_audit_missing_logs", "late_exporter_audit_extra_logs"
    assert [0, 0] == [harness.value(family, "publishing") for family in families]
    last = "late_exporter_audit_last_completed_timestamp_seconds"
    assert NOW < float(str(harness.value(last, "publishing"))) <= harness.clock.time()
    started_at = harness.value("late_exporter_reconcile_last_completed_timestamp_seconds", "publishing")
    assert NOW < float(str(started_at)) < harness.clock.time()

    await harness.start(PollConfig())
    assert 0 == harness.value(families[0], "publishing")
    await harness.run(1)
    assert [None] * 3 == [harness.value(family, "publishing") for family in (*families, last)]


@pytest.mark.parametrize("failing", [1, 2, 3, None])
async def test_an_unsaved_scan_is_not_reported(harness: PollerHarness, failing: int | None) -> None:
    """A scan is reported only if all it found was committed; otherwise it begins again where that is not so."""
    await harness.start(PollConfig(reconcile_interval=600.0))
    harness.rows = [publishing_row(number, age=5000 - number) for number in range(390, 0, -1)]
    await harness.poller.poll()
    await harness.poller.poll()
    harness.now += 601
    started_at = harness.clock.time()
    for number in range(1, 8):
        harness.store.failing = {"commit"} if number == failing else set()
        await harness.poller.poll()
        harness.now += 1
    completed_at = harness.value("late_exporter_reconcile_last_completed_timestamp_seconds", "publishing")
    assert started_at <= float(str(completed_at)) <= started_at + (failing or 0)


async def test_what_a_scan_has_found_is_read_again_if_it_was_dropped(harness: PollerHarness) -> None:
    """A scan is reported as completed only with a log that a cancelled poll had found and dropped."""
    harness.client.rate_limit = 600
    await harness.start(PollConfig(reconcile_interval=600.0))
    harness.rows = [publishing_row(number, age=5000 - number) for number in range(390, 0, -1)]
    await harness.poller.poll()
    await harness.poller.poll()
    harness.rows.insert(150, publishing_row(9999, "failed", age=4760))  # on the second page
    harness.now += 601

    async def hang(path: str, params: QueryParams) -> ApiResponse | None:
        if int(params.get("skip", 0)) > 150:
            await asyncio.Event().wait()
        return harness.respond(path, params)

    harness.client.handler = hang
    running = asyncio.ensure_future(harness.poller.run())
    for _ in range(50):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert harness.logs("failed") in (None, 0)

    harness.restore_api()
    await harness.poller.start()
    await harness.poller.poll()
    assert 1 == harness.logs("failed")
    completed_at = "late_exporter_reconcile_last_completed_timestamp_seconds", "publishing"
    assert NOW < float(str(harness.value(*completed_at)))


async def test_pending_logs_are_looked_up(harness: PollerHarness) -> None:
    """The final status of a pending log is looked up by its post, whatever its id."""
    harness.rows = [publishing_row(1, "pending", postId="a/b?c", age=DAY)]
    await harness.poller.poll()
    gauges = "late_publishing_pending_logs", "late_publishing_oldest_pending_timestamp_seconds"
    assert [1, NOW - DAY] == [harness.value(gauges[0], "tiktok", "publish"), harness.value(gauges[1], "tiktok")]

    def handler(path: str, params: QueryParams) -> ApiResponse | None:
        return harness.respond(path if path == LIST else "/v1/posts/a/b?c/logs", params)

    harness.rows = [publishing_row(number) for number in range(300, 100, -1)]
    harness.rows.append(publishing_row(1, postId="a/b?c", age=DAY))
    harness.client.handler = handler
    await harness.start()
    for _ in range(2):
        await harness.poller.poll()
    assert 0 == harness.value(gauges[0], "tiktok", "publish")
    assert harness.value(gauges[1], "tiktok") is None
    assert (201, 1, 0) == (harness.logs(), harness.logs("pending"), harness.poller.health.pending)


async def test_deleted_post(harness: PollerHarness) -> None:
    """A pending log of a deleted post is not pending any more once two look-ups have not found it."""
    harness.rows = [publishing_row(1, "pending", postId="p", age=DAY)]
    await harness.poller.poll()
    harness.rows = [publishing_row(2)]
    for _ in range(2):
        await harness.poller.poll()
    assert ("/v1/posts/p/logs", {"limit": 100}) in harness.client.requests
    assert 2 == harness.value(REQUESTS, POST, "404")
    assert 0 == harness.poller.health.pending


async def test_connection_logs() -> None:
    """The connections feed is polled in the same way, without pending logs."""
    with closing(open_store("sqlite://")) as store:
        harness = PollerHarness(store, "connections")
        await harness.start()
        harness.rows = [{"_id": "a", "platform": "tiktok", "eventType": "disconnect", "createdAt": iso_time(NOW)}]
        await harness.run(1)
        assert [("/v1/connections/logs", {"days": 7, "limit": 100, "skip": 0})] * 2 == harness.client.requests
        assert 1 == harness.value("late_connection_events_total", "tiktok", "disconnect", "unknown")
        assert 1 == harness.value("late_up", "connections")
        assert not [family for family, _ in harness.exposition.values if family.startswith("late_publishing")]


# Failures of the store.


async def test_unsaved_poll(harness: PollerHarness) -> None:
    """A poll whose logs cannot be saved fails, counts none of them, and still counts itself."""
    harness.rows = [publishing_row(1)]
    await harness.poller.poll()
    harness.rows.insert(0, publishing_row(2, "failed"))
    harness.now = 30.0
    harness.store.failing = {"commit"}
    for number in (1, 2, 3):
        result = await harness.poller.poll()
        assert ("store_error", "commit: disk I/O error") == (result.outcome, str(result.error))
        assert {"success": 1, "store_error": number} == harness.poll_counts()
    assert (0, 0) == (harness.value("late_up", "publishing"), harness.logs("failed"))
    assert NOW == harness.value(SUCCEEDED, "publishing")
    assert 2 == harness.value(REQUESTS, LIST, "200")
    assert harness.stored_value(POLLS, "publishing", "store_error") is None
    assert 2 == harness.stored_value(REQUESTS, LIST, "200")

    harness.store.failing = set()
    await harness.poller.poll()
    await harness.poller.poll()
    assert {"success": 3, "store_error": 3} == harness.poll_counts()
    assert (1, 1) == (harness.logs(), harness.logs("failed"))
    assert (3, 7) == (
        harness.stored_value(POLLS, "publishing", "store_error"),
        harness.stored_value(REQUESTS, LIST, "200"),
    )
    assert harness.poll_counts() == {
        name: harness.stored_value(POLLS, "publishing", name) for name in ("success", "store_error")
    }
    assert [] == harness.recorder.unsaved_increments


async def test_unsaved_failure(harness: PollerHarness) -> None:
    """If both the API and the store fail, the poll counts once, as store_error."""
    harness.fail_requests(ApiUnavailable("down"))
    harness.store.failing = {"commit"}
    assert "store_error" == (await harness.poller.poll()).outcome
    assert {"store_error": 1} == harness.poll_counts()


async def test_unreadable_store(harness: PollerHarness) -> None:
    """A failed lookup fails the poll; nothing is counted twice later."""
    harness.rows = [publishing_row(1)]
    harness.store.failing = {"lookup"}
    result = await harness.poller.poll()
    assert ("store_error", "lookup: disk I/O error") == (result.outcome, str(result.error))
    assert (
        {"store_error": 1}
        == harness.poll_counts()
        == {"store_error": harness.stored_value(POLLS, "publishing", "store_error")}
    )
    harness.store.failing = set()
    await harness.poller.poll()
    assert 1 == harness.logs()


async def test_unsaved_start(harness: PollerHarness) -> None:
    """An exporter started on a full disk exposes its counters at once and saves them exactly once later."""
    harness.rows = [publishing_row(1)]
    harness.store.failing = {"commit"}
    assert [30.0, 60.0] == await harness.run(2)
    assert (0, {"store_error": 2}) == (harness.value(POLLS, "publishing", "success"), harness.poll_counts())
    assert harness.logs() is None

    harness.store.failing = set()
    await harness.poller.poll()
    assert ({"success": 1, "store_error": 2}, 1) == (harness.poll_counts(), harness.logs())
    await harness.start()
    assert ({"success": 1, "store_error": 2}, 1) == (harness.poll_counts(), harness.logs())
    assert 6 == harness.value(REQUESTS, LIST, "200"), "each first sync looks twice"


async def test_interrupted_first_sync(harness: PollerHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first sync that fails by the store resumes at its last commit and counts every log once."""
    monkeypatch.setattr(sync, "COMMIT_SIZE", 1000)
    harness.rows = [publishing_row(number, age=5000 - number) for number in range(1500, 0, -1)]

    def handler(path: str, params: QueryParams) -> ApiResponse | None:
        harness.store.failing = {"commit"} if 500 < int(params["skip"]) < 1400 else set()
        return harness.respond(path, params)

    harness.client.handler = handler
    assert "store_error" == (await harness.poller.poll()).outcome
    harness.restore_api()
    harness.store.failing = set()
    assert "success" == (await harness.poller.poll()).outcome
    assert (1500, 1500) == (harness.logs(), harness.poller.health.logs)


async def test_initial_zeros_survive_a_failed_commit(harness: PollerHarness) -> None:
    """A failed commit does not lose the initial zeros of a new platform."""
    await harness.poller.poll()
    harness.rows = [publishing_row(1)]
    harness.store.failing = {"commit"}
    await harness.poller.poll()
    harness.store.failing = set()
    await harness.poller.poll()

    assert (1, 0) == (harness.logs(), harness.logs("failed"))
    assert 24 == len([labels for family, labels in harness.exposition.values if family == LOGS])
    assert (LOGS, ("acme", "tiktok", "publish", "success")) in harness.exposition.zero_started


async def test_failed_size(harness: PollerHarness) -> None:
    """A failure after the commit does not undo what was committed."""
    harness.rows = [publishing_row(1)]
    harness.store.failing = {"size"}
    assert "success" == (await harness.poller.poll()).outcome
    assert (1, {"success": 1}) == (harness.logs(), harness.poll_counts())
    assert harness.value("late_exporter_state_bytes") is None
    harness.store.failing = set()
    await harness.poller.poll()
    assert (1, {"success": 2}) == (harness.logs(), harness.poll_counts())
    assert 1 == harness.value("late_exporter_state_logs")


async def test_the_feeds_of_a_workspace_share_unsaved_increments() -> None:
    """Increments that one feed could not save are saved once by the next commit of another feed, and none falls."""
    with closing(open_store("sqlite://")) as store:
        harness = PollerHarness(store, "publishing", "connections")
        await harness.start()
        other = harness.pollers["connections"].recorder
        commit = other.commit(UncommittedBatch(), 0, [IncCounter(THROTTLED, ("acme",), amount=1.0)])
        saving = asyncio.ensure_future(commit)
        await asyncio.sleep(0)  # The batch is built.
        harness.recorder.defer((), provisional=[IncCounter(THROTTLED, ("acme",), amount=5.0)])
        await saving
        assert (5.0, 1.0) == (harness.value(THROTTLED), harness.stored_value(THROTTLED))

        await other.commit(UncommittedBatch(), 0)
        assert (6.0, 6.0) == (harness.value(THROTTLED), harness.stored_value(THROTTLED))
        assert [] == harness.recorder.unsaved_increments


# Exceptions and cancellation.


async def test_a_bug_ends_the_loop(harness: PollerHarness) -> None:
    """An unexpected exception is raised by the loop."""
    harness.fail_requests(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        await harness.poller.run()
    assert {} == harness.poll_counts()


async def test_a_bug_in_the_store_ends_the_loop(harness: PollerHarness) -> None:
    """An unexpected exception of a commit is raised, and the backlog is kept."""

    def broken(commits: Sequence[FeedCommit]) -> Sequence[CommitResult | StoreError]:
        assert ["acme"] == [commit.scope.workspace for commit in commits]
        raise ZeroDivisionError

    harness.recorder.defer([IncCounter(THROTTLED, ("acme",))])
    harness.store.commit_all = broken  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        await harness.poller.run()
    assert [IncCounter(THROTTLED, ("acme",))] == harness.recorder.unsaved_increments


@pytest.mark.parametrize("steps", range(1, 14))
async def test_cancellation(harness: PollerHarness, steps: int) -> None:
    """A loop cancelled at any step ends at once; another one on the same state counts everything once."""
    harness.rows = [publishing_row(number, age=1000 - number) for number in range(150, 0, -1)]
    harness.max_sleeps = 1000
    running = asyncio.ensure_future(harness.poller.run())
    for _ in range(steps):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    await harness.start()
    await harness.poller.poll()
    assert (150, 150) == (harness.logs(), harness.stored_value(LOGS, "tiktok", "publish", "success"))


async def test_cancellation_during_a_request(harness: PollerHarness) -> None:
    """A loop that waits for a response can be cancelled; nothing of the poll is counted."""
    requested = asyncio.Event()

    async def never(path: str, params: QueryParams, *, path_template: str) -> ApiResponse | None:
        assert (LIST, LIST) == (path, path_template)
        assert 0 == params["skip"]
        requested.set()
        await asyncio.Event().wait()
        return None

    harness.client.get = never  # type: ignore[method-assign]
    running = asyncio.ensure_future(harness.poller.run())
    await requested.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert {} == harness.poll_counts()
    assert harness.value("late_up", "publishing") is None


# Logging.


async def test_log_messages(harness: PollerHarness) -> None:
    """The first sync, the first of equal failures and the recovery are logged, all else at debug level."""
    for failure in (
        None,
        None,
        ApiUnavailable("a"),
        ApiUnavailable("a"),
        ApiUnavailable("b"),
        BadPayload("b"),
        None,
        None,
    ):
        if failure is None:
            harness.restore_api()
        else:
            harness.fail_requests(failure)
        await harness.poller.poll()

    assert [
        ("info", "first sync complete"),
        ("warning", "poll failed"),
        ("warning", "poll failed"),
        ("warning", "poll failed"),
        ("info", "poll recovered"),
    ] == harness.logger.above_debug
    assert 8 == len(harness.logger.records)
    assert {"outcome": "unavailable", "seconds": 0.0, "logs": 0, "error": "a"} == harness.logger.records[2][2]
    assert 4 == harness.logger.records[6][2]["failed_polls"]


async def test_initial_zeros(harness: PollerHarness) -> None:
    """The exporter's own counters of a feed start at 0."""
    await harness.poller.start()
    labels = ("acme", "publishing")
    assert {
        *((POLLS, (*labels, outcome)) for outcome in POLL_OUTCOMES),
        ("late_exporter_entries_rejected_total", (*labels, "no_id")),
        ("late_exporter_entries_rejected_total", (*labels, "no_time")),
        ("late_exporter_entries_rejected_total", (*labels, "not_an_object")),
        *(("late_exporter_failed_requests_total", (*labels, request)) for request in REQUEST_KINDS),
        ("late_exporter_unreadable_rows_total", labels),
        ("late_exporter_reconciled_logs_total", labels),
        ("late_exporter_api_throttled_seconds_total", ("acme",)),
    } == {series for series, stored in harness.store.series_values().items() if stored.value == 0}


# Pruning.


def coverage(newest: float, floor: float = 0.0) -> Coverage:
    """Return a coverage with this time of its newest log."""
    return Coverage(
        retention_floor=int(floor * 1000),
        complete_since=0,
        newest=ListPosition(int(newest * 1000), "x"),
        is_synced=True,
    )


PRUNES = [
    # newest log, clock, clock of the API, time that pruning is based on
    (NOW, NOW, NOW, NOW),
    (NOW - 5 * DAY, NOW, NOW, NOW - 5 * DAY),
    (NOW + 5 * DAY, NOW, NOW, NOW),
    (NOW, NOW + 400 * DAY, NOW + 400 * DAY, NOW),
    (NOW, NOW - 3 * DAY, NOW, NOW - 3 * DAY),
    (NOW, NOW, NOW - 3 * DAY, NOW - 3 * DAY),
]


@pytest.mark.parametrize(("newest", "clock", "api", "by"), PRUNES)
async def test_pruning(harness: PollerHarness, newest: float, clock: float, api: float, by: float) -> None:
    """Logs are pruned a day after the API has dropped them, by the earliest of the newest log and the two clocks."""
    harness.now = clock - NOW
    await harness.recorder.commit(UncommittedBatch(coverage=coverage(newest)), int(api * 1000))

    batch = harness.store.batches[-1]
    assert int((by - 8 * DAY) * 1000) == batch.prune_before
    assert batch.coverage is not None
    assert batch.prune_before == batch.coverage.retention_floor
    assert harness.recorder.coverage == batch.coverage


async def test_pruned_logs_are_not_counted_again(harness: PollerHarness) -> None:
    """A log older than the pruned ones is not counted even if the API shows it; one without a time is."""
    entries = [
        LogEntry(key="old", status="success", created=int((NOW - 8 * DAY) * 1000) - 1),
        LogEntry(key="edge", status="success", created=int((NOW - 8 * DAY) * 1000)),
        LogEntry(key="undated", status="success"),
    ]
    batch = UncommittedBatch(pages=[ReadLogs(tuple(entries), by_reconciliation=False)], coverage=coverage(NOW))
    await harness.recorder.commit(batch, int(NOW * 1000))
    assert ["edge", "undated"] == [observation.entry.key for observation in harness.store.batches[-1].observations]

    await harness.recorder.commit(
        UncommittedBatch(pages=[ReadLogs(tuple(entries[:1]), by_reconciliation=False)]), int(NOW * 1000)
    )
    assert [] == harness.store.batches[-1].observations


async def test_the_retention_floor_never_falls(harness: PollerHarness) -> None:
    """A clock that goes back does not bring back pruned logs."""
    await harness.recorder.commit(UncommittedBatch(coverage=coverage(NOW, floor=NOW - 2 * DAY)), int(NOW * 1000))
    kept = harness.store.batches[-1].coverage
    assert kept is not None
    assert int((NOW - 2 * DAY) * 1000) == kept.retention_floor
    assert harness.store.batches[-1].prune_before == int((NOW - 8 * DAY) * 1000)


async def test_created_timestamps(harness: PollerHarness) -> None:
    """Series of the first sync are created when the record starts, others when they are first counted."""
    harness.rows = [publishing_row(1, age=DAY)]
    await harness.poller.poll()
    assert NOW - 7 * DAY == harness.store.series_values()[LOGS, ("acme", "tiktok", "publish", "success")].created
    assert NOW == harness.store.series_values()[REQUESTS, ("acme", LIST, "200")].created
    harness.now = 60.0
    harness.rows.insert(0, publishing_row(2, age=-60, action="publish", platform="reddit"))
    await harness.poller.poll()
    assert NOW + 60 == harness.store.series_values()[LOGS, ("acme", "reddit", "publish", "success")].created


# Webhooks.


@pytest.fixture
async def webhook_harness(harness: PollerHarness) -> AsyncIterator[PollerHarness]:
    """Return a running poller with webhooks that polls every 100 seconds and has polled once."""
    harness.rows = [publishing_row(1)]
    harness.client.rate_limit = 600
    await harness.start(PollConfig(interval=100.0), has_webhooks=True)
    running = asyncio.ensure_future(harness.poller.run())
    assert 2 == await harness.reach(0.0)
    harness.client.requests.pop()  # The second look of the first sync.
    yield harness
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def send_webhook(harness: PollerHarness, *, event: str = "post.failed", log: bool = True) -> None:
    """Receive a webhook, with or without a new log."""
    if log:
        harness.rows.insert(0, publishing_row(len(harness.rows) + 1))
    harness.webhook_stats.record(event, harness.clock.time() - 0.5, harness.clock.time())


async def test_a_webhook_triggers_a_poll(webhook_harness: PollerHarness) -> None:
    """Its log is counted at once and once, and so is the webhook."""
    await webhook_harness.reach(40.0)
    send_webhook(webhook_harness)
    assert 2 == await webhook_harness.reach(40.0)
    assert (2, 2) == (webhook_harness.logs(), webhook_harness.stored_value(LOGS, "tiktok", "publish", "success"))
    assert 1 == webhook_harness.value("late_exporter_webhooks_received_total", "post.failed")
    assert 0 == webhook_harness.value("late_exporter_webhooks_rejected_total", "signature")
    assert NOW + 40 == webhook_harness.value("late_exporter_webhook_last_received_timestamp_seconds")
    lag = webhook_harness.value("late_exporter_webhook_lag_seconds")
    assert isinstance(lag, Histogram)
    assert (500_000, 1) == (lag.micros, sum(lag.counts))
    assert 2 == await webhook_harness.reach(99.9)
    assert 3 == await webhook_harness.reach(100.0)
    assert 2 == webhook_harness.logs()


async def test_a_burst_of_webhooks_costs_a_poll_a_second(webhook_harness: PollerHarness) -> None:
    """The first of many webhooks triggers a poll at once, the others one per second."""
    for tenth in range(30):
        await webhook_harness.reach(10 + tenth / 10)
        send_webhook(webhook_harness)
    assert 1 + 3 == await webhook_harness.reach(12.99)
    assert 1 + 4 == await webhook_harness.reach(99.0)
    assert 31 == webhook_harness.logs()


async def test_a_webhook_ahead_of_its_log(webhook_harness: PollerHarness) -> None:
    """A triggered poll that finds nothing is repeated once, two seconds later."""
    await webhook_harness.reach(10.0)
    send_webhook(webhook_harness, log=False)
    assert 2 == await webhook_harness.reach(11.99)
    webhook_harness.rows.insert(0, publishing_row(2))
    assert 3 == await webhook_harness.reach(12.0)
    assert 2 == webhook_harness.logs()
    send_webhook(webhook_harness, log=False)
    assert (4, 5) == (await webhook_harness.reach(12.0), await webhook_harness.reach(99.0))


async def test_other_webhooks_trigger_nothing(webhook_harness: PollerHarness) -> None:
    """An event of another feed or of none is counted by the next poll and triggers none."""
    for event in ("account.connected", "comment.received"):
        send_webhook(webhook_harness, event=event, log=False)
    assert 1 == await webhook_harness.reach(99.0)
    await webhook_harness.reach(100.0)
    assert 1 == webhook_harness.value("late_exporter_webhooks_received_total", "account.connected")
    assert 1 == webhook_harness.value("late_exporter_webhooks_received_total", "other")


async def test_webhooks_do_not_shorten_a_backoff(webhook_harness: PollerHarness) -> None:
    """After a failure or a 429 a webhook does not trigger a poll."""
    webhook_harness.fail_requests(RateLimited("429: slowly", until=350.0))
    assert 2 == await webhook_harness.reach(100.0)
    for second in range(100, 350, 10):
        await webhook_harness.reach(float(second))
        send_webhook(webhook_harness)
    webhook_harness.fail_requests(ApiUnavailable("502: Bad Gateway"))
    assert (2, 3) == (await webhook_harness.reach(349.0), await webhook_harness.reach(350.0))
    send_webhook(webhook_harness)
    webhook_harness.restore_api()
    # The backoff of a second failure; one poll finds all logs since.
    assert (3, 4) == (await webhook_harness.reach(469.0), await webhook_harness.reach(470.0))
    assert 27 == webhook_harness.logs()
    assert 4 == await webhook_harness.reach(569.0)


async def test_webhooks_have_a_request_budget(webhook_harness: PollerHarness) -> None:
    """A webhook per second triggers no more requests than its share of the limit; other polls go on."""
    webhook_harness.client.rate_limit = 40
    for second in range(1, 121):
        await webhook_harness.reach(float(second))
        send_webhook(webhook_harness, log=second % 2 == 1)
    # A quarter of the limit in each of two minutes, and the polls at 0 and at 100.
    assert 2 + 2 * 10 == await webhook_harness.reach(120.5)
    await webhook_harness.reach(200.0)
    assert 61 == webhook_harness.logs()


async def test_replays_have_a_request_budget(webhook_harness: PollerHarness) -> None:
    """Old webhooks that are repeated forever cost no more than the share of genuine ones, and make no polls rarer."""
    harness = webhook_harness
    harness.client.rate_limit = 40
    receiver = WebhookReceiver("/webhook", secret=lambda: "secret", window=0.5, clock=harness.clock.time)
    receiver.stats_by_workspace["acme"] = harness.webhook_stats
    bodies = [
        json.dumps({"id": f"{number}", "event": "post.failed", "timestamp": iso_time(NOW - 86_400)}).encode()
        for number in range(20)
    ]
    for second in range(1, 121):
        await harness.reach(float(second))
        statuses = {receiver.receive("/webhook", body, [sign(body, "secret").encode()]) for body in bodies}
        assert {204} == statuses
    assert 2 + 2 * 10 == await harness.reach(120.5)
    assert not harness.webhook_stats.is_alive(harness.clock.time(), 240.0)
    await harness.reach(200.0)
    assert 20 * 120 == harness.value("late_exporter_webhooks_received_total", "post.failed")


async def test_a_triggered_poll_does_not_scan(harness: PollerHarness) -> None:
    """A triggered poll reads only what is new; scans and audits are left to the other polls."""
    harness.rows = [publishing_row(number, age=1000 - number) for number in range(350, 0, -1)]
    await harness.start(PollConfig(interval=100.0, reconcile_interval=20.0, audit_interval=1.0), has_webhooks=True)
    running = asyncio.ensure_future(harness.poller.run())
    at_first = await harness.reach(99.0)
    send_webhook(harness)
    assert at_first + 1 == await harness.reach(99.9)
    assert at_first + 4 <= await harness.reach(100.0)
    running.cancel()


async def test_webhook_interval(harness: PollerHarness) -> None:
    """While webhooks arrive, polls are a webhook interval apart."""
    await harness.start(PollConfig(interval=100.0, webhook_interval=500.0), has_webhooks=True)
    running = asyncio.ensure_future(harness.poller.run())
    assert 4 == await harness.reach(250.0)
    harness.client.requests.pop()  # The second look of the first sync.
    send_webhook(harness, event="account.connected", log=False)
    # One more at 300, then one every 500 s for ten of them.
    assert (4, 5, 6) == (await harness.reach(799.0), await harness.reach(800.0), await harness.reach(1300.0))
    assert 4 + 10 == await harness.reach(5300.0)
    assert 4 + 10 + 3 == await harness.reach(5600.0)
    running.cancel()
