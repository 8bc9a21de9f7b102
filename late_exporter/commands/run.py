"""The composition root: what the program is made of, and the order in which it starts and stops."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import httpx
import msgspec
from prometheus_client.metrics_core import Metric
from structlog.stdlib import BoundLogger

from late_exporter import __url__, __version__, log
from late_exporter.api.client import ApiKey, LateClient, RateLimiter
from late_exporter.api.generation import ApiGeneration
from late_exporter.app.exporter import Exporter, process_collector
from late_exporter.app.reload import LifecycleController
from late_exporter.commands._runner import (
    WorkspaceConnection,
    audit_feeds,
    follow_logs,
    manage_state,
    show_logs,
    show_post,
    write_stdout,
)
from late_exporter.commands.backfill.command import backfill
from late_exporter.commands.check import (
    Finding,
    Level,
    check_addresses,
    check_api,
    check_generation,
    check_key_file,
    check_state,
    check_web,
    format_findings,
    recorded_generations,
)
from late_exporter.commands.textfile import require_textfile, write_textfile
from late_exporter.config.settings import CommandContext, Settings, SimulateSettings, Workspace
from late_exporter.config.types import UnixPath
from late_exporter.config.web import WebConfigWatcher
from late_exporter.errors import LateError
from late_exporter.protocols import Offload
from late_exporter.simulator import RETENTION, ZERNIO_RETENTION, SimulatedApi, SimulatedWorld, create_simulator
from late_exporter.store import open_store
from late_exporter.threads import DaemonThreadExecutor
from late_exporter.web.app import Lifecycle, create_app
from late_exporter.web.auth import AuthMiddleware, PasswordVerifier
from late_exporter.web.server import bind_socket, serve, systemd_sockets

__all__ = ["ACTIONS", "create_offload"]

DEMO_KEY = "sk_" + "0" * 64
DEMO_INCIDENTS = ("platform-outage", "revoked-token")
DEMO_LEAD = 900.0
"""The demo's incidents began so many seconds ago: there is something to see in its first minute."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Reread: TypeAlias = Callable[[], Settings]
Stop: TypeAlias = Callable[[], None]


def run(call: CommandContext) -> int:
    """Poll and serve until told to stop, or poll once and print the metrics."""
    if call.flags.once:
        return asyncio.run(_until_stopped(partial(_export_once, call.settings, _print)))
    return asyncio.run(_until_stopped(partial(_export, call.settings, call.reload_settings)))


def demo(call: CommandContext) -> int:
    """The simulated API and the exporter side by side."""
    return asyncio.run(_until_stopped(partial(_run_demo, call)))


def simulate(call: CommandContext) -> int:
    """The simulated API alone."""
    return asyncio.run(_until_stopped(lambda _: _simulate(call)))


def textfile(call: CommandContext) -> int:
    """Poll once and write the metrics to a file."""
    path = Path(call.args[0])
    require_textfile(path)
    return asyncio.run(_until_stopped(partial(_export_once, call.settings, partial(write_textfile, path))))


def check(call: CommandContext) -> int:
    """Whether every endpoint answers to every key; prints what it finds."""
    return asyncio.run(_check(call.settings, call.flags.format))


def post(call: CommandContext) -> int:
    """What became of one post."""
    return write_stdout(lambda: asyncio.run(show_post(call, _connect_workspaces(call.settings))))


def logs(call: CommandContext) -> int:
    """The logs that match, or those that come."""
    clients = _connect_workspaces(call.settings)
    if call.flags.follow:
        return write_stdout(lambda: asyncio.run(_until_stopped(lambda _: follow_logs(call, clients), quiet=True)))
    return write_stdout(lambda: asyncio.run(show_logs(call, clients)))


def audit(call: CommandContext) -> int:
    """Whether what was counted is what the API shows; who stops reading learns it too."""
    show, found = asyncio.run(audit_feeds(call, _connect_workspaces(call.settings)))
    write_stdout(show)
    return found


def _backfill(call: CommandContext) -> int:
    """The past, for a Prometheus that was not there."""
    return backfill(call, _connect_workspaces(call.settings))


ACTIONS: Mapping[str, Callable[[CommandContext], int]] = MappingProxyType(
    {
        "run": run,
        "demo": demo,
        "simulate": simulate,
        "check": check,
        "post": post,
        "logs": logs,
        "audit": audit,
        "backfill": _backfill,
        "textfile": textfile,
        "state": manage_state,
    }
)
"""What the commands do."""


async def _until_stopped(work: Callable[[Stop], Coroutine[Any, Any, None]], *, quiet: bool = False) -> int:
    """Do the work until it fails, stops itself, or a signal comes; a second signal kills."""
    # What was imported stays: the collector need not look through it again and again.
    gc.freeze()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(DaemonThreadExecutor())
    stopped = asyncio.Event()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # until there is something to reload
    working = asyncio.ensure_future(work(stopped.set))
    waiting = asyncio.ensure_future(stopped.wait())
    await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
    for number in STOP_SIGNALS:
        loop.remove_signal_handler(number)
    waiting.cancel()
    if not working.done():
        if not quiet:
            _log().info("stopping")
        working.cancel()
    try:
        await working
    except asyncio.CancelledError:
        return 0
    except BaseExceptionGroup as group:
        raise _single_error(group) or group from None
    return 0


def _single_error(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """The error of ours that a group holds, where it holds nothing else."""
    ours, others = group.split(LateError)
    if others is not None or ours is None:
        return None
    first = ours.exceptions[0]
    return _single_error(first) if isinstance(first, BaseExceptionGroup) else first


async def _export(settings: Settings, reread: Reread, stop: Stop) -> None:
    """Run the exporter; what is opened first is closed last."""
    async with AsyncExitStack() as stack:
        sockets = [stack.enter_context(bound) for bound in _sockets(settings, stack)]
        exporter = await _open(settings, stack, process_collector())
        group = await stack.enter_async_context(asyncio.TaskGroup())
        source = WebConfigWatcher(settings.web_config, _log())
        control = LifecycleController(settings, reread, exporter, source, stop)
        control.record_result(succeeded=True)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: group.create_task(control.on_sighup()))
        group.create_task(exporter.publisher.run())
        exporter.start(group)
        app = create_app(
            exporter.exposition,
            exporter.health,
            telemetry_path=settings.web.telemetry_path,
            version=__version__,
            documentation=f"{__url__}#readme",
            lifecycle=Lifecycle(reload=control.reload, quit=control.quit) if settings.web.enable_lifecycle else None,
            webhooks=exporter.webhook_receiver,
        )
        opened = exporter.webhook_receiver.handles if exporter.webhook_receiver else None
        gate = AuthMiddleware(app, source.current, passwords=PasswordVerifier(), log=_log(), is_public=opened)
        group.create_task(serve(gate, sockets, web_config=source.current))
        for bound in sockets:
            _log().info("listening", address=_url(bound, secure=settings.web_config.ssl_context is not None))


async def _open(settings: Settings, stack: AsyncExitStack, collect: Callable[[], Iterable[Metric]]) -> Exporter:
    """An exporter that is ready to poll."""
    offload = create_offload(stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="store")))
    store = await offload(open_store, settings.state.url)
    stack.push_async_callback(offload, store.close)
    http = await stack.enter_async_context(_http(settings))
    exporter = Exporter(settings, store, offload, partial(_connect, http, {}, {}), collect_process_metrics=collect)
    await exporter.restore()
    return exporter


async def _export_once(settings: Settings, show: Callable[[bytes], None], _: Stop) -> None:
    """Poll every feed until it is caught up, and show the metrics, without those of a process that is about to end.

    Raises:
        LateError: A poll failed; the metrics say so too.
    """
    async with AsyncExitStack() as stack:
        exporter = await _open(settings, stack, list)
        publishing = asyncio.ensure_future(exporter.publisher.run())
        try:
            succeeded = await exporter.catch_up()
        finally:
            publishing.cancel()
        show(exporter.exposition.get_body(None, None).body)
        if not succeeded:
            raise LateError("a poll failed")


def _sockets(settings: Settings, stack: AsyncExitStack) -> list[socket.socket]:
    """What to serve on: the sockets of systemd, or those that the settings name."""
    sockets = systemd_sockets()
    if settings.web.systemd_socket and not sockets:
        raise LateError("--web.systemd-socket: systemd has passed no socket on")
    if sockets:
        return sockets
    for address in settings.web.listen_address:
        sockets.append(bind_socket(address))
        if isinstance(address, UnixPath):
            stack.callback(address.path.unlink, missing_ok=True)
    return sockets


def _connect(
    http: httpx.AsyncClient,
    throttles: dict[str, RateLimiter],
    dialects: dict[tuple[str, str], ApiGeneration],
    settings: Settings,
    workspace: Workspace,
) -> tuple[LateClient, ApiGeneration]:
    """A client of the workspace, and the generation of its API; whoever reads from the same place shares that."""
    place = (workspace.base_url, settings.api.generation)
    dialect = dialects.setdefault(
        place, ApiGeneration(settings.api.generation, logger=_log().bind(api=workspace.base_url))
    )
    return _client(http, throttles, settings, workspace), dialect


def _client(
    http: httpx.AsyncClient, throttles: dict[str, RateLimiter], settings: Settings, workspace: Workspace
) -> LateClient:
    """A client of the workspace; workspaces that share a key share its quota."""
    value = workspace.key.get_secret_value() if workspace.key else ""
    throttle = throttles.setdefault(value, RateLimiter(settings.api.quota_share))
    throttle.quota_share = settings.api.quota_share
    return LateClient(
        http,
        base_url=workspace.base_url,
        key=ApiKey(value, workspace.key_file, on_change=log.add_secret),
        rate_limiter=throttle,
        timeout=settings.api.timeout,
    )


def _http(settings: Settings) -> httpx.AsyncClient:
    interval = settings.longest_poll_interval
    return httpx.AsyncClient(
        follow_redirects=False,
        timeout=settings.api.timeout,
        # A connection outlives the pause between two polls.
        limits=httpx.Limits(keepalive_expiry=2 * interval + settings.api.timeout),
        headers={"User-Agent": f"late-exporter/{__version__}"},
    )


def create_offload(executor: Executor) -> Offload:
    """Runs calls in a thread. One under way ends before a cancellation takes effect: it may have made logs durable."""

    async def offload(call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        running = asyncio.get_running_loop().run_in_executor(executor, partial(call, *args, **keywords))
        cancelled = False
        while not running.done():
            try:
                await asyncio.wait((running,))
            except asyncio.CancelledError:
                cancelled = True
        task = asyncio.current_task()
        if cancelled and task is not None:
            task.cancel()
        return running.result()

    return offload


async def _run_demo(call: CommandContext, stop: Stop) -> None:
    """Run the exporter against a simulated API in the same process."""
    settings = call.settings
    with bind_socket(settings.simulate.listen_address) as bound:
        url = f"{_url(bound)}/api"
        simulate, lead = settings.simulate, 0.0
        if not simulate.incident:
            simulate, lead = simulate.model_copy(update={"incident": DEMO_INCIDENTS}), DEMO_LEAD
        async with asyncio.TaskGroup() as group:
            group.create_task(_serve_simulator(simulate, bound, call.flags.generation, lead=lead))
            group.create_task(
                _export(
                    settings.with_api(url, DEMO_KEY),
                    lambda: call.reload_settings().with_api(url, DEMO_KEY),
                    stop,
                )
            )


async def _simulate(call: CommandContext) -> None:
    with bind_socket(call.settings.simulate.listen_address) as bound:
        await _serve_simulator(call.settings.simulate, bound, call.flags.generation)


async def _serve_simulator(
    options: SimulateSettings, bound: socket.socket, generation: str, *, lead: float = 0.0
) -> None:
    world = await asyncio.to_thread(_world, options, lead, late=generation == "late")
    service = SimulatedApi(world, clock=time.time, rate_limit=options.rate_limit, generation=generation)
    _log().info("simulating the Late API", address=_url(bound), logs=len(world.publishing.rows))
    await serve(create_simulator(service), [bound], date_header=False)


def _world(options: SimulateSettings, lead: float, *, late: bool) -> SimulatedWorld:
    """A world whose incidents began ``lead`` seconds ago; generation ``late`` shows less of it."""
    world = SimulatedWorld(
        options.seed,
        time.time() - lead,
        logs_per_day=options.logs_per_day,
        history=options.history,
        retention=RETENTION if late else ZERNIO_RETENTION,
        with_activity=not late,
    )
    for incident in options.incident:
        world.start_incident(incident)
    world.advance(time.time())
    return world


@asynccontextmanager
async def _connect_workspaces(settings: Settings) -> AsyncIterator[Mapping[str, WorkspaceConnection]]:
    """The line of every workspace, for commands that ask and end."""
    throttles: dict[str, RateLimiter] = {}
    dialects: dict[str, ApiGeneration] = {}
    async with _http(settings) as http:
        yield {
            workspace.name: WorkspaceConnection(
                dialects.setdefault(workspace.base_url, ApiGeneration(settings.api.generation, logger=QuietLogger())),
                _client(http, throttles, settings, workspace),
            )
            for workspace in settings.workspaces
        }


class QuietLogger:
    """A log for commands that print something else: what the exporter tells everyone is for those who look for it."""

    def debug(self, event: str, **fields: Any) -> object:
        """For those who look for something."""
        return _log().debug(event, **fields)

    info = debug
    warning = debug


async def _check(settings: Settings, format: str) -> int:  # noqa: A002 - the flag's word
    secure = settings.web_config.ssl_context is not None
    findings = [Finding(level=Level.OK, subject="configuration", message=_workspace_count(settings.workspaces))]
    counted = await asyncio.to_thread(recorded_generations, settings.state.url)
    async with _connect_workspaces(settings) as known:
        for workspace in settings.workspaces:
            findings += check_key_file(workspace.name, workspace.key_file)
            client = known[workspace.name].client
            spoken = await check_generation(
                workspace.name,
                client,
                settings.poll.feeds,
                configured=settings.api.generation,
                recorded=counted.get(workspace.name),
            )
            findings += spoken.findings
            findings += await check_api(
                workspace.name,
                client,
                spoken.feeds,
                interval=settings.poll.interval,
                share=settings.api.quota_share,
            )
    findings.append(await asyncio.to_thread(check_state, settings.state.url))
    findings += check_web(settings.web.config_file, settings.web_config)
    findings += await asyncio.to_thread(lambda: list(check_addresses(settings.web.listen_address, secure=secure)))
    printed = (
        [msgspec.json.encode(findings).decode()] if format == "json" else map(log.escape, format_findings(findings))
    )
    sys.stdout.write(log.redact("\n".join(printed)) + "\n")
    return int(any(finding.level is Level.ERROR for finding in findings))


def _workspace_count(workspaces: Sequence[Workspace]) -> str:
    return "1 workspace" if len(workspaces) == 1 else f"{len(workspaces)} workspaces"


def _print(body: bytes) -> None:
    sys.stdout.write(body.decode())
    sys.stdout.flush()


def _url(bound: socket.socket, *, secure: bool = False) -> str:
    """Where a person reaches a socket."""
    if bound.family == socket.AF_UNIX:
        return f"unix:{bound.getsockname()}"
    host, port = bound.getsockname()[:2]
    shown = {"::": "127.0.0.1", "0.0.0.0": "127.0.0.1"}.get(host, host)  # noqa: S104 - shown, not bound
    scheme = "https" if secure else "http"
    return f"{scheme}://[{shown}]:{port}" if ":" in shown else f"{scheme}://{shown}:{port}"


def _log() -> BoundLogger:
    return log.get_logger("late_exporter")
