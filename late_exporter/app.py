"""The composition root: what the program is made of, and the order in which it starts and stops."""

from __future__ import annotations

import asyncio
import gc
import platform
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import astuple, replace
from functools import partial
from typing import Any, TypeAlias

import httpx
import msgspec
from prometheus_client import PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import Metric
from pydantic import SecretStr
from structlog.stdlib import BoundLogger

from late_exporter import __revision__, __url__, __version__, log
from late_exporter.api import Key, LateClient, Throttle
from late_exporter.board import Board
from late_exporter.bookkeeper import Bookkeeper
from late_exporter.checkup import examine
from late_exporter.errors import LateError
from late_exporter.exposition import Exposition
from late_exporter.feeds import FEEDS
from late_exporter.governor import Governor
from late_exporter.health import FeedHealth, WorkspaceHealth
from late_exporter.metrics import catalogue
from late_exporter.model import FeedState, Increment, Scope
from late_exporter.poller import Pace, Poller
from late_exporter.publisher import Publisher
from late_exporter.server import listen, serve
from late_exporter.settings import Settings, Simulate, Workspace
from late_exporter.simulator import Service, World
from late_exporter.simulator import create_app as create_simulator
from late_exporter.store import Store, open_store
from late_exporter.web import create_app

__all__ = ["check", "demo", "run", "simulate"]

DEMO_KEY = "sk_" + "0" * 64
DEMO_INCIDENTS = ("platform-outage", "revoked-token")
DEMO_LEAD = 900.0
"""The demo's incidents began so many seconds ago: there is something to see in its first minute."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)

Offload: TypeAlias = Callable[..., Awaitable[Any]]


def run(settings: Settings) -> int:
    """Poll and serve until told to stop."""
    return asyncio.run(_until_stopped(partial(_export, settings)))


def demo(settings: Settings) -> int:
    """The simulated API and the exporter side by side."""
    return asyncio.run(_until_stopped(partial(_demonstrate, settings)))


def simulate(settings: Settings) -> int:
    """The simulated API alone."""
    return asyncio.run(_until_stopped(partial(_simulate, settings)))


def check(settings: Settings) -> int:
    """Whether every endpoint answers to every key; prints what it finds."""
    return asyncio.run(_check(settings))


async def _until_stopped(work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Do the work until it fails or a signal comes; a second signal kills."""
    # What was imported stays: the collector need not look through it again and again.
    gc.freeze()
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    working = asyncio.ensure_future(work())
    waiting = asyncio.ensure_future(stopped.wait())
    await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
    for number in SIGNALS:
        loop.remove_signal_handler(number)
    waiting.cancel()
    if not working.done():
        _log().info("stopping")
        working.cancel()
    try:
        await working
    except asyncio.CancelledError:
        return 0
    except BaseExceptionGroup as group:
        raise _expected(group) or group from None
    return 0


def _expected(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """The error of ours that a group holds, where it holds nothing else."""
    ours, others = group.split(LateError)
    if others is not None or ours is None:
        return None
    first = ours.exceptions[0]
    return _expected(first) if isinstance(first, BaseExceptionGroup) else first


async def _export(settings: Settings) -> None:
    """Run the exporter; what is opened first is closed last."""
    async with AsyncExitStack() as stack:
        sockets = [stack.enter_context(listen(*astuple(address))) for address in settings.listen_addresses]
        offload = _offloading(stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="store")))
        store = await offload(open_store, settings.state_url)
        stack.push_async_callback(offload, store.close)
        http = await stack.enter_async_context(_http(settings))
        exporter = Exporter(settings, store, offload, http)
        await exporter.restore()
        group = await stack.enter_async_context(asyncio.TaskGroup())
        group.create_task(exporter.publisher.run())
        for poller in exporter.pollers:
            group.create_task(poller.run())
        group.create_task(serve(exporter.web, sockets))
        for bound in sockets:
            _log().info("listening", address=_url(bound))


class Exporter:
    """Everything between the API and the scrape, put together.

    Args:
        settings: What the user wants.
        store: The state, opened.
        offload: Runs a call in the store's thread.
        http: Carries the requests.
    """

    def __init__(self, settings: Settings, store: Store, offload: Offload, http: httpx.AsyncClient) -> None:
        families = catalogue(settings.duration_buckets)
        feeds = frozenset(settings.feeds)
        self._settings = settings
        self._store = store
        self._offload = offload
        shown = {
            name: family
            for name, family in families.items()
            if settings.max_accounts or "account_id" not in family.labels
        }
        self._governor = Governor(families, max_values=settings.max_label_values, max_accounts=settings.max_accounts)
        self.publisher = Publisher(Exposition(shown, created=settings.created_timestamps), _own_metrics())
        self._board = Board(shown, self.publisher, {workspace.name: feeds for workspace in settings.workspaces})
        self._clients = _clients(settings, http)
        self._pollers: dict[str, list[Poller]] = {}
        self.web = create_app(
            self.publisher,
            self.health,
            telemetry_path=settings.telemetry_path,
            version=__version__,
            documentation=f"{__url__}#readme",
        )

    @property
    def pollers(self) -> list[Poller]:
        """One a feed and workspace."""
        return [poller for pollers in self._pollers.values() for poller in pollers]

    async def restore(self) -> None:
        """Take over what the state holds, and be ready to poll."""
        totals = await self._offload(self._store.totals)
        states = {scope: await self._offload(self._store.feed, scope) for scope in self._scopes()}
        self._governor.restore(totals)
        self._board.restore(totals, _synced(states))
        self._board.gauge("late_exporter_build_info", (__version__, __revision__, platform.python_version()), 1)
        for workspace in self._settings.workspaces:
            backlog: list[Increment] = []
            self._pollers[workspace.name] = [
                self._poller(scope, state, backlog)
                for scope, state in states.items()
                if scope.workspace == workspace.name
            ]
        await self.publisher.publish()

    def _scopes(self) -> list[Scope]:
        return [Scope(workspace.name, feed) for workspace in self._settings.workspaces for feed in self._settings.feeds]

    def _poller(self, scope: Scope, state: FeedState, backlog: list[Increment]) -> Poller:
        settings, feed = self._settings, FEEDS[scope.feed]
        books = Bookkeeper(
            scope.workspace,
            feed,
            state,
            store=self._store,
            offload=self._offload,
            governor=self._governor,
            board=self._board,
            backlog=backlog,
            clock=time.time,
        )
        pace = Pace(
            interval=settings.poll_interval,
            lookback=settings.lookback,
            reconcile_interval=settings.reconcile_interval,
        )
        return Poller(
            scope.workspace,
            feed,
            client=self._clients[scope.workspace],
            books=books,
            board=self._board,
            pace=pace,
            log=_log().bind(workspace=scope.workspace, feed=scope.feed),
            shown=self.publisher.settled,
        )

    def health(self) -> list[WorkspaceHealth]:
        """How every workspace is doing."""
        return [
            WorkspaceHealth(
                name=workspace.name,
                api=workspace.base_url,
                feeds=tuple(_redacted(poller.health) for poller in self._pollers.get(workspace.name, ())),
                quota=self._clients[workspace.name].quota,
                platforms=self._board.platforms(workspace.name),
                failing=self._board.failing(workspace.name),
            )
            for workspace in self._settings.workspaces
        ]


def _redacted(health: FeedHealth) -> FeedHealth:
    return msgspec.structs.replace(health, error=log.redact(health.error))


def _synced(states: Mapping[Scope, FeedState]) -> dict[str, list[str]]:
    synced: dict[str, list[str]] = {}
    for scope, state in states.items():
        if state.coverage is not None and state.coverage.synced:
            synced.setdefault(scope.workspace, []).append(scope.feed)
    return synced


def _clients(settings: Settings, http: httpx.AsyncClient) -> dict[str, LateClient]:
    """A client a workspace; workspaces that share a key share its quota."""
    throttles: dict[str, Throttle] = {}
    clients = {}
    for workspace in settings.workspaces:
        value = workspace.key.get_secret_value() if workspace.key else ""
        clients[workspace.name] = LateClient(
            http,
            base_url=workspace.base_url,
            key=Key(value, workspace.key_file, learn=log.add_secret),
            throttle=throttles.setdefault(value, Throttle(settings.quota_share)),
            timeout=settings.api_timeout,
        )
    return clients


def _http(settings: Settings) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        follow_redirects=False,
        timeout=settings.api_timeout,
        # A connection outlives the pause between two polls.
        limits=httpx.Limits(keepalive_expiry=2 * settings.poll_interval + settings.api_timeout),
        headers={"User-Agent": f"late-exporter/{__version__}"},
    )


def _offloading(executor: Executor) -> Offload:
    async def offload(call: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(executor, partial(call, *args, **keywords))

    return offload


def _own_metrics() -> Callable[[], list[Metric]]:
    """The metrics of the process, by prometheus_client's own collectors."""
    collectors = (ProcessCollector(registry=None), PlatformCollector(registry=None))
    return lambda: [metric for collector in collectors for metric in collector.collect()]


async def _demonstrate(settings: Settings) -> None:
    """Run the exporter against a simulated API in the same process."""
    with listen(*astuple(settings.simulate.listen_address)) as bound:
        workspace = Workspace("default", f"{_url(bound)}/api", SecretStr(DEMO_KEY))
        simulate, lead = settings.simulate, 0.0
        if not simulate.incidents:
            simulate, lead = replace(simulate, incidents=DEMO_INCIDENTS), DEMO_LEAD
        async with asyncio.TaskGroup() as group:
            group.create_task(_serve_simulator(simulate, bound, lead=lead))
            group.create_task(_export(replace(settings, workspaces=(workspace,))))


async def _simulate(settings: Settings) -> None:
    with listen(*astuple(settings.simulate.listen_address)) as bound:
        await _serve_simulator(settings.simulate, bound)


async def _serve_simulator(wanted: Simulate, bound: socket.socket, *, lead: float = 0.0) -> None:
    world = await asyncio.to_thread(_world, wanted, lead)
    service = Service(world, clock=time.time, rate_limit=wanted.rate_limit)
    _log().info("simulating the Late API", address=_url(bound), logs=len(world.publishing.rows))
    await serve(create_simulator(service), [bound], date_header=False)


def _world(wanted: Simulate, lead: float) -> World:
    """A world whose incidents began ``lead`` seconds ago."""
    world = World(wanted.seed, time.time() - lead, logs_per_day=wanted.logs_per_day, history=wanted.history)
    for incident in wanted.incidents:
        world.start_incident(incident)
    world.advance(time.time())
    return world


async def _check(settings: Settings) -> int:
    async with _http(settings) as http:
        feeds = [FEEDS[name] for name in settings.feeds]
        findings = [
            finding
            for name, client in _clients(settings, http).items()
            for finding in await examine(name, client, feeds)
        ]
    for finding in findings:
        sys.stdout.write(f"{log.escape(log.redact(str(finding)))}\n")
    return 0 if all(finding.good for finding in findings) else 1


def _url(bound: socket.socket) -> str:
    """Where a person reaches a socket."""
    host, port = bound.getsockname()[:2]
    shown = {"::": "127.0.0.1", "0.0.0.0": "127.0.0.1"}.get(host, host)  # noqa: S104 - shown, not bound
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def _log() -> BoundLogger:
    return log.get_logger("late_exporter")
