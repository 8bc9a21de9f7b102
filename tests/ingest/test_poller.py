"""What a poll reports, and when the next one follows: at an interval, or after a webhook."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from late_exporter.api.generation import GenerationDetector
from late_exporter.app.assembly import Pipeline, PipelineConfig
from late_exporter.app.workspace_pollers import ApiConnection
from late_exporter.errors import ApiUnavailable, RateLimited
from late_exporter.exposition.negotiation import OPENMETRICS
from late_exporter.feeds import FEEDS
from late_exporter.health import FeedHealth
from late_exporter.ingest.schedule import PollConfig, Runtime
from late_exporter.ingest.status_poller import StatusPace
from late_exporter.ingest.webhooks import WebhookStats
from late_exporter.protocols import ApiResponse
from late_exporter.simulator import SimulatedApi
from late_exporter.store import Store, open_store
from late_exporter.store.thread import StoreThread
from tests.support.client import FakeClient, QueryParams
from tests.support.clock import DAY, HOUR, SleepingClock
from tests.support.exposition import read_body
from tests.support.inside import InsideHarness
from tests.support.late_api import KEY, FakeLateApi
from tests.support.loggers import NullLogger
from tests.support.samples import Samples
from tests.support.world import World

LOGS = "late_publishing_logs_total"
LAG = "late_exporter_log_lag_seconds"


@pytest.fixture
def exporter(world: World, tmp_path: Path) -> Iterator[InsideHarness]:
    """Return an exporter that has not polled yet."""
    with closing(InsideHarness(FakeLateApi(world), tmp_path / "state.db")) as exporter:
        yield exporter


def test_health(exporter: InsideHarness, world: World) -> None:
    """The health of a feed is reported from the first poll on."""
    assert FeedHealth(name="publishing") == exporter.poller.health
    now = float(int(world.clock.now))
    world.clock.now = now
    world.publish(1, over=DAY)
    world.publish(1, over=1, status="pending")
    exporter.run(1)
    assert (
        FeedHealth(
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
        == exporter.poller.health
    )


def test_lag(exporter: InsideHarness, world: World) -> None:
    """The lag runs from createdAt to recording by the API's clock; history has none, and it is never negative."""
    exporter.skew = 1000.0
    world.clock.now = float(int(world.clock.now))
    world.publish(1)
    exporter.poll()
    assert (None, 0) == (exporter.poller.health.lag, exporter.scrape().sum(f"{LAG}_count"))
    world.insert(world.clock.now - 5)
    exporter.poll()
    assert 5.0 == exporter.poller.health.lag
    world.insert(world.clock.now + 1000)
    exporter.poll()
    assert 0.0 == exporter.poller.health.lag
    assert (2, 5.0) == (exporter.scrape().sum(f"{LAG}_count"), exporter.scrape().sum(f"{LAG}_sum"))


def test_one_exemplar_per_bucket(exporter: InsideHarness, world: World) -> None:
    """Of many logs in one commit, each bucket of a series gets one exemplar: that of the newest log."""
    exporter.poll()
    world.clock.advance(HOUR)
    newest = world.publish(300, kinds=({"durationMs": 700}, {"durationMs": 70_000}))[-2:]
    exporter.poll()
    exporter.scrape()
    body = read_body(exporter.exposition, OPENMETRICS)
    exemplars = [line.partition(" # ")[2].split()[0] for line in body.splitlines() if " # {" in line]
    assert [log_id in exemplar for log_id, exemplar in zip(newest, exemplars, strict=True)]


@pytest.mark.parametrize(("latency", "pause"), [(7.0, 30), (500.0, 503)])
def test_interval(latency: float, pause: float, exporter: InsideHarness) -> None:
    """Polls start an interval apart whatever they take, but never without a pause."""
    exporter.poll_repeatedly(2)
    exporter.api.latency = latency
    *_, first, second = exporter.run(4 * pause)
    assert pause == pytest.approx(second - first)


def test_a_catch_up_is_interrupted_for_the_newest_logs(exporter: InsideHarness, world: World) -> None:
    """One that takes longer than an interval hides the history until it is complete, and goes on at once."""
    exporter.api.latency = 20.0
    world.publish(950, over=HOUR)
    exporter.api.before_request(5, lambda: world.publish(1, over=1, status="failed"))
    assert exporter.poll().is_partial
    assert (False, 1) == (exporter.poller.health.is_synced, exporter.poller.health.gaps)
    assert {} == exporter.scrape().family(LOGS)
    exporter.run(300.0)
    assert 951 == exporter.scrape().sum(LOGS)
    assert (True, 0) == (exporter.poller.health.is_synced, exporter.poller.health.gaps)


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


# Webhooks.


async def offload(call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """Run a call of the store after a turn of the event loop."""
    await asyncio.sleep(0)
    return call(*args, **keywords)


class WebhookHarness:
    """A poller with webhooks in an event loop, whose time only a test moves.

    Attributes:
        error: Fails all requests; None if they succeed.
    """

    def __init__(self) -> None:
        self.clock = SleepingClock()
        self.world = World(self.clock)
        self.world.publish(1, over=DAY)
        self.api = FakeClient(self._respond, rate_limit=600)
        self.stats = WebhookStats("acme")
        self.error: Exception | None = None
        self._service = SimulatedApi(self.world.archives, clock=self.clock.time, rate_limit=10**9)

    async def start(self, store: Store, config: PollConfig) -> None:
        """Assemble the pipeline, as at the start of a process."""
        self.pipeline = Pipeline(
            PipelineConfig(feeds=("publishing",), zero_hold=0.0),
            store_thread=StoreThread(store, offload),
            create_logger=lambda _: NullLogger(),
            runtime=Runtime(
                clock=self.clock.time, monotonic=self.clock.monotonic, sleep=self.clock.sleep, random=lambda: 0.5
            ),
        )
        detector = GenerationDetector("late", logger=NullLogger(), monotonic=lambda: 0.0)
        # The only examination, so that all requests of a test are those of polls.
        await detector.examine_if_due(FEEDS["publishing"], FakeClient(lambda *_: None), state_generation=None)
        connection = ApiConnection(self.api, detector, StatusPace(), config, webhook_stats=self.stats)
        await self.pipeline.add_workspaces({"acme": connection})

    def _respond(self, path: str, params: QueryParams) -> ApiResponse:
        if self.error is not None:
            raise self.error
        answer = self._service.handle("GET", f"/api{path}", urlencode(params), {"Authorization": f"Bearer {KEY}"})
        return ApiResponse(answer.body, self.clock.now)

    async def reach(self, moment: float) -> int:
        """Let time pass until a monotonic time; return the number of requests so far."""
        await self.clock.reach(moment)
        return len(self.api.requests)

    def scrape(self) -> Samples:
        return Samples.parse(read_body(self.pipeline.exposition))

    def receive(self, event: str = "post.failed", *, log: bool = True) -> None:
        """Receive a webhook, with or without a new log."""
        if log:
            self.world.publish(1, over=0)
        self.stats.record(event, self.clock.now - 0.5, self.clock.now)


@pytest.fixture
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[WebhookHarness]:
    """Return a running poller that polls every 100 seconds and has polled once, with two requests."""
    with closing(open_store("sqlite://")) as store:
        harness = WebhookHarness()
        await harness.start(store, getattr(request, "param", PollConfig(interval=100.0)))
        running = asyncio.ensure_future(harness.pipeline.workspaces["acme"].by_feed["publishing"].run())
        await harness.reach(0.0)
        yield harness
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_a_webhook_triggers_a_poll(harness: WebhookHarness) -> None:
    """Its log is counted at once and once, and so is the webhook."""
    await harness.reach(40.0)
    harness.receive()
    assert 3 == await harness.reach(40.0)
    scrape = harness.scrape()
    assert 2 == scrape.sum(LOGS)
    assert 1 == scrape.sum("late_exporter_webhooks_received_total", event="post.failed")
    assert harness.clock.now == scrape.sum("late_exporter_webhook_last_received_timestamp_seconds")
    assert (1, 0.5) == tuple(scrape.sum(f"late_exporter_webhook_lag_seconds_{name}") for name in ("count", "sum"))
    assert (3, 4) == (await harness.reach(99.9), await harness.reach(100.0))
    assert 2 == harness.scrape().sum(LOGS)


async def test_a_burst_of_webhooks_costs_a_poll_a_second(harness: WebhookHarness) -> None:
    """The first of many webhooks triggers a poll at once, the others one per second."""
    for tenth in range(30):
        await harness.reach(10 + tenth / 10)
        harness.receive()
    assert (2 + 3, 2 + 4) == (await harness.reach(12.99), await harness.reach(99.0))
    assert 31 == harness.scrape().sum(LOGS)


async def test_a_webhook_ahead_of_its_log(harness: WebhookHarness) -> None:
    """A triggered poll that finds nothing is repeated once, two seconds later."""
    await harness.reach(10.0)
    harness.receive(log=False)
    assert 3 == await harness.reach(11.99)
    harness.world.publish(1, over=0)
    assert 4 == await harness.reach(12.0)
    assert 2 == harness.scrape().sum(LOGS)
    harness.receive(log=False)
    assert (5, 6) == (await harness.reach(12.0), await harness.reach(99.0))


async def test_other_webhooks_trigger_nothing(harness: WebhookHarness) -> None:
    """An event of another feed or of none is counted by the next poll and triggers none."""
    for event in ("account.connected", "comment.received"):
        harness.receive(event, log=False)
    assert (2, 3) == (await harness.reach(99.0), await harness.reach(100.0))
    received = harness.scrape().family("late_exporter_webhooks_received_total")
    assert {("account.connected",): 1, ("other",): 1} == received


async def test_webhooks_do_not_shorten_a_backoff(harness: WebhookHarness) -> None:
    """After a failure or a 429 a webhook does not trigger a poll."""
    harness.error = RateLimited("429: slowly", until=350.0)
    assert 3 == await harness.reach(100.0)
    for second in range(100, 350, 10):
        await harness.reach(float(second))
        harness.receive()
    harness.error = ApiUnavailable("502: Bad Gateway")
    assert (3, 4) == (await harness.reach(349.0), await harness.reach(350.0))
    harness.receive()
    harness.error = None
    # The backoff of a second failure; one poll finds all logs since.
    assert (4, 5) == (await harness.reach(469.0), await harness.reach(470.0))
    assert 27 == harness.scrape().sum(LOGS)


@pytest.mark.parametrize(
    "harness", [PollConfig(interval=100.0, reconcile_interval=20.0, audit_interval=1.0)], indirect=True
)
async def test_a_triggered_poll_does_not_scan(harness: WebhookHarness) -> None:
    """A triggered poll reads only what is new; scans and audits are left to the other polls."""
    harness.world.publish(350, over=HOUR)
    before = await harness.reach(199.0)
    harness.receive()
    assert before + 1 == await harness.reach(199.9)
    assert before + 4 <= await harness.reach(200.0)
