from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Self
from unittest.mock import Mock

import httpx
import pytest

from late_exporter.api.client import ApiKey, LateClient
from late_exporter.api.rate_limiter import RateLimiter
from late_exporter.app.exporter import Exporter
from late_exporter.app.reload import Reloader
from late_exporter.config import sources
from late_exporter.config.settings import Settings, Workspace
from late_exporter.config.web import WebConfigWatcher
from late_exporter.errors import ExporterStopping, LateError, StoreError
from late_exporter.simulator import SimulatedApi
from late_exporter.store.thread import create_offload
from tests.support.clock import DAY, VirtualClock
from tests.support.exporter import open_store
from tests.support.exposition import read_body
from tests.support.loggers import NullLogger
from tests.support.samples import Samples
from tests.support.world import World

LOGS = "late_publishing_logs_total"
RELOADED = "late_exporter_config_last_reload_successful"
WHEN = "late_exporter_config_last_reload_success_timestamp_seconds"
PATIENCE = 30.0
KEYS = {name: "sk_" + str(number) * 64 for number, name in enumerate(("acme", "beta", "other"), 1)}


class ReloadHarness:
    """An exporter of some workspaces, each with its own world, and its configuration file."""

    def __init__(self, folder: Path, worlds: Mapping[str, World]) -> None:
        self.folder = folder
        self.worlds = worlds
        self.asked: list[tuple[str, str]] = []
        for name, key in KEYS.items():
            (folder / f"{name}.key").write_text(key)
        self.http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        self.throttles: dict[str, RateLimiter] = {}

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.split("/")[1]
        self.asked.append((name, request.headers["Authorization"].removeprefix("Bearer ")))
        path = request.url.path.removeprefix(f"/{name}")
        service = SimulatedApi(self.worlds[name].archives, clock=time.time, rate_limit=10**9)
        answer = service.handle("GET", path, request.url.query.decode(), dict(request.headers.items()))
        await asyncio.sleep(0)
        return httpx.Response(answer.status, headers=answer.headers, stream=httpx.ByteStream(answer.body))

    def write(self, *names: str, text: str = "", **keys: str) -> None:
        """Write the configuration: workspaces with their own or other keys, and more options."""
        rows = [
            f"  - {{name: {name}, api_key_file: {keys.get(name, name)}.key, api_base_url: http://127.0.0.1/{name}/api}}"
            for name in names
        ]
        lines = [
            "workspaces:",
            *rows,
            text or "poll: {interval: 100ms}",
            "state: {url: 'sqlite://'}",
        ]
        (self.folder / "late.yml").write_text("\n".join(lines))

    def read(self) -> Settings:
        """Read the settings."""
        return sources.load("run", {"config.file": str(self.folder / "late.yml"), "metrics.zero-hold": "0s"}, {})

    def connect(self, new_settings: Settings, workspace: Workspace) -> LateClient:
        """Return the client of a workspace."""
        assert workspace.key is not None
        value = workspace.key.get_secret_value()
        return LateClient(
            self.http,
            base_url=workspace.base_url,
            key=ApiKey(value, workspace.key_file),
            rate_limiter=self.throttles.setdefault(value, RateLimiter(1.0)),
            timeout=new_settings.api.timeout,
            configured_generation="late",
        )

    @asynccontextmanager
    async def opened(self, owned: AbstractSet[str] | None = None, url: str = "sqlite://") -> AsyncIterator[Exporter]:
        """Open the exporter, without polling; that of a replica has some workspaces only."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.http)
            self.offload = create_offload(stack.enter_context(ThreadPoolExecutor(1)))
            new_settings = self.read()
            self.store = await self.offload(open_store, url)
            stack.push_async_callback(self.offload, self.store.close)
            self.exporter = Exporter(new_settings, self.store, self.offload, self.connect, owned=owned)
            await self.exporter.restore()
            watcher = WebConfigWatcher(new_settings.web_config, NullLogger())
            self.control = Reloader(self.read, self.exporter, watcher)
            self.control.record_result()
            yield self.exporter

    @asynccontextmanager
    async def running(self, owned: AbstractSet[str] | None = None, url: str = "sqlite://") -> AsyncIterator[Self]:
        """Run the exporter."""
        async with self.opened(owned, url) as exporter, asyncio.TaskGroup() as self.group:
            exporter.start(self.group)
            yield self
            for unit in exporter.pipeline.workspaces.values():
                await unit.stop()

    async def reload(self) -> None:
        """Reload as a request does, and raise the error, which must not reach the group of the exporter."""
        await self.control.reload_in(self.group)

    async def scrape(self) -> Samples:
        """Scrape."""
        return Samples.parse(read_body(self.exporter.pipeline.exposition))

    async def wait_until(self, holds: Callable[[Samples], object]) -> Samples:
        """Scrape until a condition holds."""
        async with asyncio.timeout(PATIENCE):
            while not holds(samples := await self.scrape()):  # noqa: ASYNC110 - the store works in a thread
                await asyncio.sleep(0.001)
        return samples

    async def wait_for_counts(self, **expected: float) -> Samples:
        """Scrape until every workspace has a number of logs."""
        return await self.wait_until(lambda samples: log_counts(samples) == expected)


def log_counts(samples: Samples) -> dict[str, float]:
    """Return the number of logs of every workspace with series."""
    names = {dict(labels)["workspace"] for name, labels in samples if name == LOGS}
    return {name: samples.sum(LOGS, workspace=name) for name in names}


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[ReloadHarness]:
    """Return two workspaces with some logs, of which only ``acme`` is configured."""
    worlds = {name: World(VirtualClock(time.time())) for name in ("acme", "beta")}
    worlds["acme"].publish(120, over=DAY)
    worlds["beta"].publish(30, over=DAY, platform="tiktok")
    harness = ReloadHarness(tmp_path, worlds)
    harness.write("acme")
    async with harness.running() as running:
        yield running


async def test_a_feed_is_ready_once_its_first_sync_can_be_scraped(harness: ReloadHarness) -> None:
    """A probe that finds nothing unready is followed by a scrape with all logs."""
    async with asyncio.timeout(PATIENCE):
        while [*harness.exporter.unsynced_feeds()]:  # noqa: ASYNC110 - for some turns of the event loop
            await asyncio.sleep(0)
    samples = Samples.parse(read_body(harness.exporter.pipeline.exposition))
    assert samples.sum(LOGS) == 120
    assert samples.sum("late_exporter_polls_total", outcome="success") >= 2


@pytest.mark.parametrize("names", [("acme", "beta"), ("beta", "acme")])
async def test_groups_do_not_depend_on_the_order_in_the_file(harness: ReloadHarness, names: Sequence[str]) -> None:
    """Replicas whose files list workspaces of one key in another order agree on their owner."""
    harness.write(*names, beta="acme")
    await harness.control.reload()
    assert harness.exporter.settings.sharing_groups == {"acme": "acme", "beta": "acme"}


async def test_changed_key(harness: ReloadHarness) -> None:
    """Another key file is used from the next request on, and all counts stay."""
    await harness.wait_for_counts(acme=120)
    harness.write("acme", acme="other")
    await harness.control.reload()
    asked = len(harness.asked)
    await harness.wait_until(lambda _: len(harness.asked) > asked + 2)
    assert set(harness.asked[asked:]) == {("acme", KEYS["other"])}
    await harness.wait_for_counts(acme=120)


async def test_changed_interval(harness: ReloadHarness) -> None:
    """Another interval applies at once, not only after the pause in progress."""
    harness.write("acme", text="poll: {interval: 1h}")
    await harness.reload()
    await harness.wait_until(lambda _: (next(harness.exporter.health()).feeds[0].next_poll or 0) > time.time() + 3000)
    harness.worlds["acme"].publish(5)
    harness.write("acme", text="poll: {interval: 100ms}")
    await harness.reload()
    await harness.wait_for_counts(acme=125)


async def test_invalid_configuration(harness: ReloadHarness) -> None:
    """An invalid configuration is reported and changes nothing; the next valid one is applied."""
    good = await harness.wait_until(lambda samples: samples.get((RELOADED, ())) == 1)
    harness.write("acme", "beta", text="poll: {interval: soon}")
    with pytest.raises(LateError, match=r'late.yml:4: poll.interval "soon": not a duration'):
        await harness.reload()
    bad = await harness.scrape()
    assert (bad[RELOADED, ()], bad[WHEN, ()]) == (0, good[WHEN, ()])
    assert "not a duration" in harness.control.error
    await harness.wait_for_counts(acme=120)

    harness.write("acme", "beta")
    await harness.control.reload()
    healed = await harness.wait_for_counts(acme=120, beta=30)
    assert (healed[RELOADED, ()], harness.control.error) == (1, "")
    assert healed[WHEN, ()] > good[WHEN, ()]


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
async def test_a_reload_ends_when_the_process_is_stopped(harness: ReloadHarness, turns: int) -> None:
    """A reload that is requested before or after the process is stopped fails at once and starts nothing."""
    harness.write("acme", "beta")

    group = asyncio.TaskGroup()

    async def run() -> None:
        async with group:
            await asyncio.Event().wait()

    process = asyncio.ensure_future(run())
    await asyncio.sleep(0)
    reload = asyncio.ensure_future(harness.control.reload_in(group))
    for _ in range(turns):
        await asyncio.sleep(0)
    process.cancel()
    for late_reload in (reload, harness.control.reload_in(group)):
        with pytest.raises(ExporterStopping, match="the exporter is stopping"):
            await late_reload
    assert [name for name, pollers in harness.exporter.pipeline.workspaces.items() if pollers.tasks] == ["acme"]


async def test_reloads_are_shared(harness: ReloadHarness) -> None:
    """Any number of requests causes two reloads: the one in progress, and one for what changed since it began."""
    reads = 0

    def read() -> Settings:
        nonlocal reads
        reads += 1
        return harness.read()

    reloader = Reloader(read, harness.exporter, WebConfigWatcher(harness.read().web_config, NullLogger()))
    async with asyncio.TaskGroup() as group:
        first = reloader.start(group)
        await asyncio.sleep(0)
        harness.write("acme", "beta")
        requests = [reloader.reload_in(group) for _ in range(100)]
        await asyncio.gather(*requests)
        assert first is not None
        assert first.done()
        assert reloader.start(group) is not first
    assert reads == 3
    assert harness.exporter.pipeline.workspaces.keys() == {"acme", "beta"}


async def test_options_that_need_a_restart(harness: ReloadHarness) -> None:
    """An option that needs a restart is reported, and nothing is applied."""
    harness.write("acme", "beta", text="metrics: {max_accounts: 3}")
    with pytest.raises(LateError, match=r"metrics\.max-accounts: cannot be changed without a restart"):
        await harness.reload()
    await harness.wait_for_counts(acme=120)


async def test_unreadable_state(harness: ReloadHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the state of a new workspace can be read only in part, the old configuration stays in use."""
    harness.write("acme", "beta")
    await harness.control.reload()
    await harness.wait_for_counts(acme=120, beta=30)
    harness.write("acme")
    await harness.control.reload()
    harness.write("acme", "beta")
    first_page = harness.store.series_page("beta", "", 5)
    with monkeypatch.context() as patch:
        patch.setattr("late_exporter.store.thread.SERIES_PER_PAGE", 5)
        patch.setattr(harness.store, "series_page", Mock(side_effect=[first_page, StoreError("no luck")]))
        with pytest.raises(LateError, match="no luck"):
            await harness.reload()
    assert harness.exporter.pipeline.workspaces.keys() == {"acme"}
    assert "beta" not in harness.exporter.configuration()
    assert [series for series in await harness.scrape() if ("workspace", "beta") in series[1]] == []
    await harness.control.reload()
    await harness.wait_for_counts(acme=120, beta=30)


@pytest.mark.exhaustive
async def test_reloads_at_every_step_of_a_catch_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs and requests count once, however often reloads interrupt a first sync."""
    monkeypatch.setattr("late_exporter.ingest.sync.COMMIT_SIZE", 10)
    harness = ReloadHarness(tmp_path, {"acme": World(VirtualClock(time.time()))})
    harness.worlds["acme"].publish(430, over=DAY)
    harness.write("acme")
    async with harness.running():
        for step in range(0, 60, 4):
            for _ in range(step):
                await asyncio.sleep(0.001)
            harness.write("acme", text=f"poll: {{interval: {100 + step % 2}ms}}")
            await harness.control.reload()
            harness.worlds["acme"].publish(1)
        await harness.wait_for_counts(acme=445)
        polls = (await harness.scrape()).sum("late_exporter_polls_total")
        samples = await harness.wait_until(lambda samples: samples.sum("late_exporter_polls_total") > polls + 2)
        assert log_counts(samples) == {"acme": 445}
        assert samples.sum("late_exporter_api_requests_total") <= len(harness.asked)
        assert samples.sum("late_exporter_reconciled_logs_total") == 0
