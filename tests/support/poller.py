"""A poller of one feed: production's pipeline over a scripted API, in an event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeAlias, cast

import pytest

from late_exporter.api.generation import ApiGeneration
from late_exporter.app.assembly import Pipeline, PipelineConfig
from late_exporter.app.workspace_pollers import ApiConnection
from late_exporter.feeds import FEEDS
from late_exporter.ingest.recorder import FeedRecorder
from late_exporter.ingest.schedule import PollConfig, Runtime
from late_exporter.ingest.webhooks import WebhookStats
from late_exporter.protocols import ApiResponse
from late_exporter.series import Histogram
from late_exporter.store import Store
from late_exporter.store.thread import StoreThread
from tests.support.client import FakeClient, QueryParams
from tests.support.clock import LoopClock, SleepingClock, VirtualClock
from tests.support.exposition import FakeExposition
from tests.support.loggers import RecordingLogger
from tests.support.store import StoreProxy, stored_series

NOW = 1_763_993_002.0
LOGS = "late_publishing_logs_total"
POLLS = "late_exporter_polls_total"

Row: TypeAlias = dict[str, Any]


class Stop(Exception):
    """Ends an endless loop."""


def iso_time(seconds: float) -> str:
    """Return a time as the API writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def publishing_row(number: int, status: str = "success", *, age: float = 0.0, **fields: Any) -> Row:
    """Return a publishing log; a larger number makes a newer id."""
    row = {
        "_id": f"{number:024}",
        "platform": "tiktok",
        "action": "publish",
        "status": status,
        "durationMs": 100,
        "createdAt": iso_time(NOW - age),
    }
    return {**row, **fields}


class PollerHarness:
    """A poller of workspace ``acme`` over an API with some rows.

    Attributes:
        rows: Logs of the API, newest first.
        date: Date of its responses.
        max_sleeps: Number of sleeps after which the loop is stopped.
        random_value: Random number for the jitter.
        on_published: Called when a poll waits for its publication.
    """

    def __init__(self, store: Store, *feeds: str) -> None:
        self.rows: list[Row] = []
        self.date: float | None = None
        self.max_sleeps = 1
        self.random_value = 0.5
        self.on_published: Callable[[], object] = lambda: None
        self.clock: VirtualClock = LoopClock(NOW)
        self.store = StoreProxy(store)
        self.client = FakeClient(self.respond)
        self.feeds = feeds or ("publishing",)
        self.feed = FEEDS[self.feeds[0]]

    async def start(self, config: PollConfig | None = None, *, has_webhooks: bool = False) -> None:
        """Assemble the pipeline, as at the start of a process; with webhooks, only ``reach`` moves the clock."""
        self.exposition = FakeExposition()
        self.logger = RecordingLogger()
        if has_webhooks:
            self.clock = SleepingClock(self.clock.now)
        pipeline = Pipeline(
            PipelineConfig(feeds=self.feeds),
            store_thread=StoreThread(cast("Store", self.store), self.offload),
            create_logger=lambda _: self.logger,
            runtime=Runtime(
                clock=self.clock.time,
                monotonic=self.clock.monotonic,
                sleep=self.clock.sleep if has_webhooks else self.sleep,
                random=lambda: self.random_value,
            ),
            exposition=self.exposition,
            wait_published=self._wait_published,
        )
        generation = ApiGeneration(self.feed.generation, logger=self.logger, monotonic=lambda: 0.0)
        for name in self.feeds:
            # The only examination, so that all requests of a test are those of polls.
            await generation.examine_if_due(FEEDS[name], FakeClient(lambda *_: None), state_generation=None)
        self.webhook_stats = WebhookStats("acme")
        stats = self.webhook_stats if has_webhooks else None
        await pipeline.add_workspaces(
            {"acme": ApiConnection(self.client, generation, config or PollConfig(), webhook_stats=stats)}
        )
        self.pollers = pipeline.workspaces["acme"].by_feed
        self.poller = self.pollers[self.feed.name]

    @property
    def recorder(self) -> FeedRecorder:
        return self.poller.recorder

    @property
    def now(self) -> float:
        """Monotonic time, which starts at 0."""
        return self.clock.elapsed

    @now.setter
    def now(self, elapsed: float) -> None:
        self.clock.advance(elapsed - self.clock.elapsed)

    async def offload(self, call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        """Run a call of the store after a turn of the event loop."""
        await asyncio.sleep(0)
        return call(*args, **keywords)

    async def sleep(self, seconds: float) -> None:
        """Let time pass; stop the loop after the last sleep."""
        await self.clock.sleep(seconds)
        if len(self.clock.sleeps) >= self.max_sleeps:
            raise Stop

    async def reach(self, moment: float) -> int:
        """Let time pass until a monotonic time; return the number of requests so far."""
        assert isinstance(self.clock, SleepingClock)
        await self.clock.reach(moment)
        return len(self.client.requests)

    async def run(self, sleeps: int) -> list[float]:
        """Run the loop for a number of sleeps; return their durations."""
        self.clock.sleeps, self.max_sleeps = [], sleeps
        with pytest.raises(Stop):
            await self.poller.run()
        return self.clock.sleeps

    def respond(self, path: str, params: QueryParams) -> ApiResponse | None:
        """Return a page of the rows."""
        rows = self.rows
        if path != self.feed.path:
            rows = [row for row in rows if f"/v1/posts/{row.get('postId')}/logs" == path]
            if not rows:
                return None
        if "status" in params:
            rows = [row for row in rows if row["status"] == params["status"]]
        skip, limit = int(params.get("skip", 0)), int(params["limit"])
        pagination = {"total": len(rows), "hasMore": skip + limit < len(rows)}
        document = {"logs": rows[skip : skip + limit], "pagination": pagination}
        return ApiResponse(json.dumps(document).encode(), self.date)

    def fail_requests(self, error: BaseException) -> None:
        """Fail every request from now on."""

        def handler(_path: str, _params: QueryParams) -> ApiResponse | None:
            raise error

        self.client.handler = handler

    def restore_api(self) -> None:
        self.client.handler = self.respond

    def value(self, family: str, *labels: str) -> float | Histogram | None:
        """Return the exposed value of a series; None if there is none."""
        return self.exposition.values.get((family, ("acme", *labels)))

    def logs(self, status: str = "success") -> float | Histogram | None:
        """Return the exposed number of logs with a status."""
        return self.value(LOGS, "tiktok", "publish", status)

    def poll_counts(self) -> dict[str, float | Histogram]:
        """Return the exposed number of polls by outcome, without zeros."""
        return {
            labels[2]: value
            for (family, labels), value in self.exposition.values.items()
            if family == POLLS and value != 0
        }

    def stored_value(self, family: str, *labels: str) -> object:
        """Return the stored value of a series; None if there is none."""
        stored = stored_series(cast("Store", self.store)).get((family, ("acme", *labels)))
        return stored.value if stored else None

    async def _wait_published(self) -> None:
        self.on_published()
