from __future__ import annotations

import time
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from late_exporter.api.client import LateClient
from late_exporter.api.responses import ApiResponse
from late_exporter.app.exporter import WorkspaceInfo
from late_exporter.config.settings import Settings, Workspace
from late_exporter.format import iso_time
from tests.app.test_reload import KEYS, ReloadHarness
from tests.support.client import QueryParams
from tests.support.clock import VirtualClock
from tests.support.status_api import StatusApi, encode
from tests.support.world import World

REQUESTS = "late_exporter_api_requests_total"
UP = "late_exporter_status_feed_up"
HOUR = 3600.0
FEEDS = {"posts", "accounts", "webhooks", "billing"}

LOG = {
    "_id": "log1",
    "platform": "instagram",
    "action": "publish",
    "status": "success",
    "accountId": "acc1",
    "accountUsername": "name-in-logs",
    "createdAt": iso_time((time.time() - 2 * HOUR) * 1000),
}


class LogApi(StatusApi):
    """Client of an API with one publishing log, and with status endpoints."""

    def _respond(self, path: str, params: QueryParams) -> ApiResponse | None:
        if not path.endswith("/logs"):
            return super()._respond(path, params)
        rows = [] if "status" in params or params.get("skip") else [LOG]
        return ApiResponse(encode({"logs": rows, "pagination": {"total": len(rows), "hasMore": False}}), None)


class ExporterOfStatus(ReloadHarness):
    """An exporter of some workspaces with status feeds.

    Attributes:
        apis: Client of each workspace.
    """

    def __init__(self, folder: Path, *names: str) -> None:
        super().__init__(folder, {})
        self.apis = {name: LogApi() for name in names}
        self.configure()

    def configure(self, options: str = "", *names: str) -> None:
        """Write the configuration, with all workspaces or some of them."""
        self.write(*(names or self.apis), text=f"poll: {{interval: 100ms, feeds: publishing}}\n{options}")

    def connect(self, new_settings: Settings, workspace: Workspace) -> LateClient:
        del new_settings
        return self.apis[workspace.name]


async def test_a_single_run_refreshes_every_feed_once(tmp_path: Path) -> None:
    """Catching up without serving shows the status feeds, and counts each of their requests once."""
    harness = ExporterOfStatus(tmp_path, "acme")
    async with harness.opened() as exporter:
        assert await exporter.catch_up()
        samples = await harness.scrape()
    assert {feed for (feed,) in samples.family(UP, workspace="acme")} == FEEDS
    assert samples.sum("late_posts", status="scheduled") == 1
    assert samples.sum(REQUESTS) == len(harness.apis["acme"].requests)


async def test_reload(tmp_path: Path) -> None:
    """A reload applies other feeds and intervals, and a workspace that is removed leaves nothing behind."""
    harness = ExporterOfStatus(tmp_path, "acme", "beta")
    async with harness.running():
        await harness.wait_until(lambda samples: samples.sum(UP) == 8)
        harness.configure("status: {feeds: 'posts,billing'}")
        await harness.reload()
        samples = await harness.wait_until(lambda samples: samples.sum(UP) == 4)
        assert samples.sum("late_account_can_post") == 0
        assert {dict(labels)["username"] for name, labels in samples if name == "late_account_info"} == {"name-in-logs"}
        harness.configure("status: {feeds: none}", "acme")
        await harness.reload()
        samples = await harness.wait_until(lambda samples: samples.sum(UP) == 0)
        assert {dict(labels)["workspace"] for _, labels in samples if "workspace" in dict(labels)} == {"acme"}
        assert not any(name in ("late_posts", "late_workspace_active") for name, _ in samples)
        harness.configure()
        await harness.reload()
        await harness.wait_until(lambda samples: samples.sum(UP) == 8)


@pytest.mark.parametrize(("age", "recent_count"), [(HOUR / 2, 1), (2 * HOUR, 0), (-HOUR / 2, 1)])
async def test_recent_attempts(tmp_path: Path, age: float, recent_count: int) -> None:
    """The page has the attempts of the last hour, by creation, and the post that is pending for longest, but no key."""
    world = World(VirtualClock(time.time()))
    world.insert(time.time() - age)
    world.insert(time.time() - 60, status="pending", postId="oldest")
    world.insert(time.time() - 30, status="pending", postId="newer")
    harness = ReloadHarness(tmp_path, {"acme": world})
    harness.write("acme")
    async with harness.opened() as exporter:
        assert await exporter.catch_up()
        (health,) = exporter.health()
        assert "api_key_file" in exporter.configuration()
        assert KEYS["acme"] not in exporter.configuration()
    (platform,) = health.platforms
    assert ("instagram", 1, recent_count) == (platform.name, platform.final, platform.recent.final)
    assert platform.oldest_post == "oldest"
    assert health.recent_since == pytest.approx(time.time() - HOUR, abs=60)


@pytest.mark.parametrize(
    ("labels", "lines"),
    [((), []), ((("team", 'b"x'),), [r'late_workspace_info{team="b\"x",workspace="a"} 1.0'])],
)
def test_labels_of_workspaces(labels: tuple[tuple[str, str], ...], lines: list[str]) -> None:
    """A workspace with labels has a series; without any there is no metric."""
    workspace = Workspace("a", "https://zernio.com/api", labels=labels)
    text = generate_latest(WorkspaceInfo(lambda: {"a": workspace})).decode()
    assert lines == [line for line in text.splitlines() if not line.startswith("#")]
