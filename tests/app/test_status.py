from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from late_exporter.api.client import LateClient
from late_exporter.api.generation import ApiGeneration
from late_exporter.app.exporter import Exporter, total_progress
from late_exporter.config import sources
from late_exporter.config.settings import Settings, Workspace
from late_exporter.format import iso_time
from late_exporter.protocols import ApiResponse
from late_exporter.status import SyncProgress
from late_exporter.store import Store, open_store
from tests.support.client import Handler, QueryParams
from tests.support.exposition import read_body
from tests.support.loggers import NullLogger
from tests.support.samples import Samples
from tests.support.status_api import StatusApi, encode

REQUESTS = "late_exporter_api_requests_total"
UP = "late_exporter_status_feed_up"
OVERFLOW = "late_exporter_label_overflow_total"
PATIENCE = 30.0
HOUR = 3600.0
FEEDS = {"posts", "accounts", "webhooks", "billing"}


class LogApi(StatusApi):
    """LateClient of an API with one publishing log, and with status endpoints.

    Attributes:
        created: Creation time of the log, in Unix seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.created = time.time() - 2 * HOUR
        assert self.handler is not None
        self._handle_status: Handler = self.handler
        self.handler = self._handle

    @property
    def status_requests(self) -> int:
        return sum(not request.path.endswith("/logs") for request in self.requests)

    def _handle(self, path: str, params: QueryParams) -> ApiResponse | Awaitable[ApiResponse | None] | None:
        if not path.endswith("/logs"):
            return self._handle_status(path, params)
        rows = [
            {
                "_id": "log1",
                "platform": "instagram",
                "action": "publish",
                "status": "success",
                "accountId": "acc1",
                "accountUsername": "name-in-logs",
                "createdAt": iso_time(self.created * 1000),
            }
        ]
        skip = int(params.get("skip", 0))
        rows = [row for row in rows if params.get("status") in {None, row["status"]}][skip:]
        return ApiResponse(encode({"logs": rows, "pagination": {"total": len(rows), "hasMore": False}}), None)


class ExporterOfStatus:
    """An exporter of some workspaces with status feeds.

    Attributes:
        apis: LateClient of each workspace.
    """

    def __init__(self, folder: Path, *names: str, options: str = "") -> None:
        self.folder = folder
        self.apis = {name: LogApi() for name in names}
        self.write(options)

    def write(self, options: str, *names: str) -> None:
        """Write the configuration, with all workspaces or some of them."""
        rows = []
        for number, name in enumerate(names or self.apis):
            (self.folder / f"{name}.key").write_text("sk_" + str(number) * 64)
            rows.append(f"  - {{name: {name}, api_key_file: {name}.key}}")
        lines = ["workspaces:", *rows, "poll: {interval: 100ms, feeds: publishing}", options]
        (self.folder / "late.yml").write_text("\n".join(lines))

    @property
    def settings(self) -> Settings:
        return sources.load(
            "run", {"config.file": [str(self.folder / "late.yml")], "state.url": ["sqlite://"]}, environ={}
        )

    def connect(self, _settings: Settings, workspace: Workspace) -> tuple[LateClient, ApiGeneration]:
        return self.apis[workspace.name], ApiGeneration("late", logger=NullLogger())

    @asynccontextmanager
    async def opened(self, store: Store | None = None) -> AsyncIterator[Exporter]:
        """Open the exporter with its publisher, without polling."""
        used_store = store or open_store("sqlite://")
        self.exporter = Exporter(self.settings, used_store, offload, self.connect)
        await self.exporter.restore()
        publishing = asyncio.ensure_future(self.exporter.publisher.run())
        try:
            yield self.exporter
        finally:
            publishing.cancel()
            if store is None:
                used_store.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Exporter]:
        """Run the exporter."""
        async with self.opened() as exporter, asyncio.TaskGroup() as group:
            exporter.start(group)
            yield exporter
            for pollers in exporter.pipeline.workspaces.values():
                await pollers.stop()

    def scrape(self) -> Samples:
        return Samples.parse(read_body(self.exporter.pipeline.exposition))

    async def wait_until(self, holds: Callable[[Samples], object]) -> Samples:
        """Scrape until a condition holds."""
        async with asyncio.timeout(PATIENCE):
            while not holds(samples := self.scrape()):
                await self.exporter.publisher.wait_published()
        return samples

    async def wait_up(self, **expected: int) -> Samples:
        """Scrape until a number of status feeds have succeeded, and the requests of all are counted."""
        return await self.wait_until(
            lambda samples: all(
                number == samples.sum(UP, workspace=name)
                and self.apis[name].status_requests == sum(request_counts(samples, name).values()) >= 9
                for name, number in expected.items()
            )
        )


async def offload(call: Callable[..., object], *args: object, **keywords: object) -> object:
    """Run a call of the store after a turn of the event loop."""
    await asyncio.sleep(0)
    return call(*args, **keywords)


def request_counts(samples: Samples, workspace: str) -> Mapping[str, float]:
    """Return the counted requests of the status feeds by path."""
    counts = {
        path: samples.sum(REQUESTS, workspace=workspace, path=path)
        for path in {labels[0] for labels in samples.family(REQUESTS, workspace=workspace)}
    }
    return {path: count for path, count in counts.items() if not path.endswith("/logs")}


async def test_a_single_run_refreshes_every_feed_once(tmp_path: Path) -> None:
    """Catching up without serving shows the status feeds, and counts each of their requests once."""
    harness = ExporterOfStatus(tmp_path, "acme")
    async with harness.opened() as exporter:
        assert await exporter.catch_up()
        harness.scrape()
        await exporter.publisher.wait_published()
        samples = harness.scrape()
    assert FEEDS == {feed for (feed,) in samples.family(UP, workspace="acme")}
    assert 1 == samples.sum("late_posts", status="scheduled")
    expected = {
        "/v1/posts": 8, "/v1/accounts/health": 1, "/v1/accounts": 1, "/v1/webhooks/settings": 1, "/v1/billing": 1,
        "/v1/usage": 1,
    }  # fmt: skip
    assert expected == request_counts(samples, "acme")
    assert samples.sum(REQUESTS) == len(harness.apis["acme"].requests)


async def test_reload(tmp_path: Path) -> None:
    """A reload applies other feeds and intervals, and a workspace that is removed leaves nothing behind."""
    harness = ExporterOfStatus(tmp_path, "acme", "beta")
    async with harness.running() as exporter:
        await harness.wait_up(acme=4, beta=4)
        harness.write("status: {feeds: 'posts,billing'}")
        await exporter.reload(harness.settings)
        samples = await harness.wait_until(lambda samples: samples.sum(UP) == 4)
        assert 0 == samples.sum("late_account_can_post")
        assert {"name-in-logs"} == {dict(labels)["username"] for name, labels in samples if name == "late_account_info"}
        harness.write("status: {feeds: none}", "acme")
        await exporter.reload(harness.settings)
        samples = await harness.wait_until(lambda samples: samples.sum(UP) == 0)
        assert {"acme"} == {dict(labels)["workspace"] for _, labels in samples if "workspace" in dict(labels)}
        assert not any(name in ("late_posts", "late_workspace_active") for name, _ in samples)
        harness.write("")
        await exporter.reload(harness.settings)
        await harness.wait_until(lambda samples: samples.sum(UP) == 8)


@pytest.mark.parametrize(("age", "recent_count"), [(HOUR / 2, 1), (2 * HOUR, 0), (-HOUR / 2, 1)])
async def test_recent_attempts(tmp_path: Path, age: float, recent_count: int) -> None:
    """The page has the attempts of the last hour, by the creation of the logs, and the configuration has no key."""
    harness = ExporterOfStatus(tmp_path, "acme")
    harness.apis["acme"].created = time.time() - age
    async with harness.opened() as exporter:
        assert await exporter.catch_up()
        (health,) = exporter.health()
        assert "api_key_file" in exporter.configuration()
        assert "0" * 64 not in exporter.configuration()
    (platform,) = health.platforms
    assert ("instagram", 1, recent_count) == (platform.name, platform.final, platform.recent.final)
    assert health.recent_since == pytest.approx(time.time() - HOUR, abs=60)


def test_progress_of_several_feeds() -> None:
    """First syncs of several workspaces are measured together; without an estimate of all, there is none."""
    part = SyncProgress(log_count=10, expected_count=30, elapsed=20.0, seconds_left=40.0)
    assert {"logs": 30, "expected": 90, "seconds_left": 40} == total_progress([part] * 3)
    assert {"logs": 20} == total_progress([part, SyncProgress(log_count=10, seconds_left=40.0)])
