from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from late_exporter import log
from late_exporter.api.client import ApiKey, LateClient, RateLimiter
from late_exporter.api.generation import ApiGeneration
from late_exporter.app.exporter import Exporter
from late_exporter.app.reload import LifecycleController
from late_exporter.commands.run import create_offload
from late_exporter.config import sources
from late_exporter.config.settings import OPTIONS, Settings, Workspace
from late_exporter.config.web import WebConfigWatcher
from late_exporter.errors import LateError, StoreError
from late_exporter.ingest.webhooks import sign
from late_exporter.simulator import SimulatedApi
from late_exporter.store import open_store
from tests.support.worlds import DAY, HOUR, NullLogger, Samples, VirtualClock, World

LOGS = "late_publishing_logs_total"
RELOADED = "late_exporter_config_last_reload_successful"
WHEN = "late_exporter_config_last_reload_success_timestamp_seconds"
PATIENCE = 30.0
KEYS = {name: "sk_" + str(number) * 64 for number, name in enumerate(("acme", "beta", "other"), 1)}


class Rig:
    """An exporter of some workspaces with one world each, a configuration file, and what takes that over."""

    def __init__(self, folder: Path, worlds: Mapping[str, World]) -> None:
        self.folder = folder
        self.worlds = worlds
        self.asked: list[tuple[str, str]] = []
        self.stopped = 0
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
        """Write the configuration: workspaces, each with its own key or another one, and more."""
        rows = [
            f"  - {{name: {name}, api_key_file: {keys.get(name, name)}.key, api_base_url: http://127.0.0.1/{name}/api}}"
            for name in names
        ]
        lines = ["workspaces:", *rows, text or "poll: {interval: 100ms}", "state: {url: 'sqlite://'}"]
        (self.folder / "late.yml").write_text("\n".join(lines))

    def read(self) -> Settings:
        """The settings, read anew."""
        return sources.load("run", {"config.file": [str(self.folder / "late.yml")]}, {})

    def connect(self, wanted: Settings, workspace: Workspace) -> tuple[LateClient, ApiGeneration]:
        """The client of a workspace, and its generation."""
        assert workspace.key is not None
        value = workspace.key.get_secret_value()
        client = LateClient(
            self.http,
            base_url=workspace.base_url,
            key=ApiKey(value, workspace.key_file),
            rate_limiter=self.throttles.setdefault(value, RateLimiter(1.0)),
            timeout=wanted.api.timeout,
        )
        return client, ApiGeneration("late", logger=NullLogger())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Rig]:
        """Run the exporter."""
        async with AsyncExitStack() as stack:
            offload = create_offload(stack.enter_context(ThreadPoolExecutor(1)))
            wanted = self.read()
            self.store = await offload(open_store, wanted.state.url)
            stack.push_async_callback(offload, self.store.close)
            self.exporter = Exporter(wanted, self.store, offload, self.connect, collect_process_metrics=list)
            await self.exporter.restore()
            self.control = LifecycleController(
                wanted, self.read, self.exporter, WebConfigWatcher(wanted.web_config, NullLogger()), self._stop
            )
            self.control.record_result(succeeded=True)
            group = await stack.enter_async_context(asyncio.TaskGroup())
            publishing = group.create_task(self.exporter.publisher.run())
            self.exporter.start(group)
            yield self
            for unit in self.exporter.workspaces.values():
                await unit.stop()
            publishing.cancel()

    def _stop(self) -> None:
        self.stopped += 1

    async def scrape(self) -> Samples:
        """What a scraper gets, once it has seen the births."""
        await self._look()
        return await self._look()

    async def _look(self) -> Samples:
        await self.exporter.publisher.publish()
        answer = self.exporter.exposition.get_body(None, None)
        self.exporter.exposition.mark_served(answer.version)
        return Samples.parse(answer.body.decode())

    async def until(self, holds: Callable[[Samples], object]) -> Samples:
        """The scrape in which something holds."""
        async with asyncio.timeout(PATIENCE):
            while not holds(samples := await self.scrape()):
                await self.passing()
        return samples

    async def passing(self) -> None:
        """Let a moment pass."""
        await asyncio.sleep(0.005)

    async def counts(self, **expected: float) -> Samples:
        """The scrape in which every workspace has so many logs."""
        return await self.until(lambda samples: logs(samples) == expected)


def logs(samples: Samples) -> dict[str, float]:
    """How many logs every workspace has; a workspace without series is left out."""
    names = {dict(labels)["workspace"] for name, labels in samples if name == LOGS}
    return {name: samples.sum(LOGS, workspace=name) for name in names}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """Two workspaces with some logs, of which only ``acme`` is configured."""
    worlds = {name: World(VirtualClock(time.time())) for name in ("acme", "beta")}
    worlds["acme"].publish(120, over=DAY)
    worlds["beta"].publish(30, over=DAY, platform="tiktok")
    rig = Rig(tmp_path, worlds)
    rig.write("acme")
    async with rig.running() as running:
        yield running
    await rig.http.aclose()


async def test_a_workspace_comes_and_goes_and_comes_back(rig: Rig) -> None:
    """A new workspace is read, one that is taken out leaves no series, and finds its totals when it returns."""
    await rig.counts(acme=120)
    rig.write("acme", "beta")
    await rig.control.reload()
    both = await rig.counts(acme=120, beta=30)

    rig.write("acme")
    await rig.control.reload()
    gone = await rig.scrape()
    assert [] == [series for series in gone if ("workspace", "beta") in series[1]]
    assert {series for series in both if ("workspace", "beta") not in series[1]} <= gone.keys()
    asked = len(rig.asked)
    rig.worlds["beta"].publish(7, over=HOUR)
    await rig.until(lambda _: len(rig.asked) > asked + 5)
    assert {"acme"} == {name for name, _ in rig.asked[asked:]}

    rig.write("beta", "acme")
    await rig.control.reload()
    await rig.counts(acme=120, beta=37)
    assert ["beta", "acme"] == [workspace.name for workspace in rig.exporter.health()]


async def test_a_workspace_that_stays_is_not_disturbed(rig: Rig) -> None:
    """A reload that does not concern a workspace leaves its pollers running, and no series of it falls."""
    before = await rig.counts(acme=120)
    running = rig.exporter.workspaces["acme"].tasks.copy()
    rig.write("acme", "beta")
    await rig.control.reload()
    assert running == rig.exporter.workspaces["acme"].tasks
    after = await rig.scrape()
    assert {} == {series: value for series, value in before.counters.items() if after.get(series, -1) < value}


async def test_another_key(rig: Rig) -> None:
    """Another key file is used from the next request on, and what is counted stays counted."""
    await rig.counts(acme=120)
    rig.write("acme", acme="other")
    await rig.control.reload()
    asked = len(rig.asked)
    await rig.until(lambda _: len(rig.asked) > asked + 2)
    assert {("acme", KEYS["other"])} == set(rig.asked[asked:])
    await rig.counts(acme=120)


async def test_another_secret_of_webhooks(tmp_path: Path) -> None:
    """Webhooks follow another secret and window, and workspaces that come and go."""
    worlds = {name: World(VirtualClock(time.time())) for name in ("acme", "beta")}
    rig = Rig(tmp_path, worlds)
    common = "poll: {interval: 1h}\nwebhook: {path: /webhook, secret-file: "
    rig.write("acme", text=f"{common}acme.key}}")
    async with rig.running():
        await rig.until(lambda samples: samples.sum("late_up") == 2)
        webhooks = rig.exporter.webhook_receiver
        assert webhooks is not None

        def send(key: str, path: str, event: str) -> int:
            body = f'{{"event": "{event}", "path": "{path}"}}'.encode()
            return webhooks.receive(path, body, [sign(body, KEYS[key]).encode()])

        assert [204, 404, 401] == [
            send(*case, "post.failed")
            for case in (("acme", "/webhook"), ("acme", "/webhook/beta"), ("beta", "/webhook"))
        ]
        await rig.until(lambda samples: samples.sum("late_exporter_webhooks_received_total", workspace="acme") == 1)
        rig.write("beta", text=f"{common}beta.key}}")
        await rig.control.reload()
        assert "[redacted]" == log.redact(KEYS["beta"])
        assert [204, 404, 401] == [
            send(*case, "account.connected")
            for case in (("beta", "/webhook/beta"), ("beta", "/webhook/acme"), ("acme", "/webhook/beta"))
        ]
        await rig.until(lambda samples: samples.sum("late_exporter_webhooks_received_total", workspace="beta") == 1)
    await rig.http.aclose()


async def test_another_interval(rig: Rig) -> None:
    """Another interval is kept from the reload on, not only from the end of the pause under way."""
    rig.write("acme", text="poll: {interval: 1h}")
    await rig.control.reload()
    await rig.counts(acme=120)
    rig.worlds["acme"].publish(5)
    rig.write("acme", text="poll: {interval: 100ms}")
    await rig.control.reload()
    await rig.counts(acme=125)


async def test_a_configuration_that_is_wrong_changes_nothing(rig: Rig) -> None:
    """A mistake is told, all stays as it was, and the next good configuration is taken over."""
    good = await rig.until(lambda samples: samples.get((RELOADED, ())) == 1)
    rig.write("acme", "beta", text="poll: {interval: soon}")
    with pytest.raises(LateError, match=r'late.yml:4: poll.interval "soon": not a duration'):
        await rig.control.reload()
    bad = await rig.scrape()
    assert (0, good[WHEN, ()]) == (bad[RELOADED, ()], bad[WHEN, ()])
    await rig.counts(acme=120)

    rig.write("acme", "beta")
    await rig.control.on_sighup()
    healed = await rig.counts(acme=120, beta=30)
    assert 1 == healed[RELOADED, ()]
    assert healed[WHEN, ()] > good[WHEN, ()]


async def test_a_hang_up_survives_a_wrong_configuration(rig: Rig) -> None:
    """SIGHUP with a wrong configuration ends nothing."""
    (rig.folder / "late.yml").unlink()
    await rig.control.on_sighup()
    await rig.counts(acme=120)
    assert 0 == (await rig.scrape())[RELOADED, ()]


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("poll: {interval: 100ms, feeds: publishing}", "poll.feeds"),
        ("web: {listen-address: ':1'}", "web.listen-address"),
        ("web: {telemetry-path: /other}", "web.telemetry-path"),
        ("metrics: {max-accounts: 3}", "metrics.max-accounts"),
        ("webhook: {path: /webhook, secret-file: other.key}", "webhook.path"),
    ],
)
async def test_what_only_a_restart_changes(rig: Rig, text: str, option: str) -> None:
    """An option that cannot change while the process runs is named, and nothing else is taken over."""
    rig.write("acme", "beta", text=text)
    with pytest.raises(LateError, match=f"{option}: cannot be changed without a restart"):
        await rig.control.reload()
    await rig.counts(acme=120)


def test_live_options_are_those_that_a_reload_applies() -> None:
    """A reload applies the sections of API, polls, webhooks and logs, and the web configuration file."""
    live = [option for option in OPTIONS if option.reload == "live"]
    assert {"api", "poll", "webhook", "log", "web"} == {option.section for option in live}
    assert ["web.config.file"] == [option.name for option in live if option.section == "web"]


async def test_a_state_that_cannot_be_read_changes_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the state of a new workspace cannot be read, the old configuration stays whole."""
    await rig.counts(acme=120)
    totals = rig.store.series_values
    monkeypatch.setattr(rig.store, "series_values", _broken)
    rig.write("acme", "beta")
    with pytest.raises(LateError, match="no luck"):
        await rig.control.reload()
    assert {"acme"} == rig.exporter.workspaces.keys()
    monkeypatch.setattr(rig.store, "series_values", totals)
    await rig.control.reload()
    await rig.counts(acme=120, beta=30)


def _broken() -> None:
    raise StoreError("no luck")


async def test_a_new_key_is_a_secret(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """What a reload brings in is redacted from then on."""
    rig.write("acme", acme="other")
    await rig.control.reload()
    assert "[redacted]" == log.redact(KEYS["other"])
    assert KEYS["other"] not in caplog.text


@pytest.mark.parametrize("together", [10, 1000])
async def test_reloads_at_every_step_of_a_catch_up(
    tmp_path: Path, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a first sync is interrupted by reloads, every log and every request is counted once."""
    monkeypatch.setattr("late_exporter.ingest.poller.COMMIT_SIZE", together)
    rig = Rig(tmp_path, {"acme": World(VirtualClock(time.time()))})
    rig.worlds["acme"].publish(430, over=DAY)
    rig.write("acme")
    async with rig.running():
        for step in range(60):
            for _ in range(step):
                await asyncio.sleep(0)
            rig.write("acme", text=f"poll: {{interval: {100 + step % 2}ms}}")
            await rig.control.reload()
            rig.worlds["acme"].publish(1)
        await rig.counts(acme=490)
        polls = (await rig.scrape()).sum("late_exporter_polls_total")
        samples = await rig.until(lambda samples: samples.sum("late_exporter_polls_total") > polls + 2)
        assert {"acme": 490} == logs(samples)
        assert samples.sum("late_exporter_api_requests_total") <= len(rig.asked)
        assert 490 == sum(total.value for (name, _), total in rig.store.series_values().items() if name == LOGS)
        assert 0 == samples.sum("late_exporter_reconciled_logs_total")
    await rig.http.aclose()


async def test_a_call_under_way_ends_before_a_cancellation() -> None:
    """Whoever is cancelled while the store works still gets its answer, and is cancelled at the next occasion."""
    started, answers = asyncio.Event(), []
    loop = asyncio.get_running_loop()

    def call() -> str:
        loop.call_soon_threadsafe(started.set)
        time.sleep(0.05)
        return "durable"

    async def work(offload: Callable[..., Awaitable[str]]) -> None:
        answers.append(await offload(call))
        await asyncio.sleep(0)
        answers.append("too much")

    with ThreadPoolExecutor(1) as executor:
        working = asyncio.ensure_future(work(create_offload(executor)))
        await started.wait()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
    assert ["durable"] == answers
