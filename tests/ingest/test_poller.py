from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from typing import Any

import pytest

from late_exporter.errors import ApiUnavailable, RateLimited
from late_exporter.exposition.negotiation import OPENMETRICS
from late_exporter.ingest import feed_publisher
from late_exporter.ingest.schedule import PollConfig, PollResult
from late_exporter.ingest.uncommitted import UncommittedBatch
from late_exporter.protocols import ApiResponse
from late_exporter.series import Histogram, IncCounter
from late_exporter.status import FeedHealth, Quota
from late_exporter.store import open_store
from tests.support.client import Handler, QueryParams
from tests.support.clock import DAY
from tests.support.exposition import read_body
from tests.support.poller import LOGS, NOW, POLLS, PollerHarness, publishing_row
from tests.support.samples import Samples

LIST = "/v1/posts/logs"
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
        )
        == harness.poller.health
    )


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


async def test_one_exemplar_per_bucket(harness: PollerHarness) -> None:
    """Of many logs in one commit, each bucket of a series gets one exemplar: that of the newest log."""
    harness.rows = [publishing_row(1, age=1000)]
    await harness.poller.poll()
    harness.rows[:0] = [
        publishing_row(number, age=400 - number, durationMs=700 if number % 2 else 70_000)
        for number in range(400, 100, -1)
    ]
    await harness.poller.poll()
    harness.exposition.publish()
    body = read_body(harness.exposition, OPENMETRICS)
    exemplars = [line.partition(" # ")[2].split()[0] for line in body.splitlines() if " # {" in line]
    assert [log_id in exemplar for log_id, exemplar in zip(("399", "400"), exemplars, strict=True)]


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
            samples = Samples.parse(read_body(harness.exposition))
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
        numbers = range(number, number + 150)
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
