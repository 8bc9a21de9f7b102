"""The command ``run``: the exporter, until it is stopped or once."""

from __future__ import annotations

import asyncio
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import PlatformCollector, ProcessCollector
from prometheus_client.registry import Collector
from structlog.stdlib import BoundLogger

from late_exporter import __revision__, __version__, log
from late_exporter.app.connector import Connector, open_clients
from late_exporter.app.exporter import Exporter
from late_exporter.app.reload import Reloader
from late_exporter.commands.assets import runbooks
from late_exporter.commands.event_loop import Stop, run_until_stopped
from late_exporter.config.settings import CommandContext, Settings
from late_exporter.config.web import WebConfigWatcher
from late_exporter.errors import ConfigError, LateError
from late_exporter.exposition.exposition import BodyRequest
from late_exporter.store import Store, database_at, import_postgres, is_postgres
from late_exporter.store.migrations import open_state
from late_exporter.store.thread import create_offload
from late_exporter.web.app import ExporterApp, HealthSource, Lifecycle
from late_exporter.web.auth import AuthMiddleware
from late_exporter.web.server import bind_socket, serve, url_of
from late_exporter.web.thread import call_in_loop, run_in_thread

if TYPE_CHECKING:
    from late_exporter.store.owner import WorkspaceOwner


def run(context: CommandContext) -> int:
    """Poll and serve until stopped, or poll once and print the metrics."""
    if context.flags.once:
        if context.settings.state.replicas:
            raise ConfigError(
                "--once: drop it, or drop --state.replicas: replicas run all the time"
            )
        export = partial(_export_once, context.settings)
        return asyncio.run(run_until_stopped(export, stopped_code=1))
    return asyncio.run(
        run_until_stopped(partial(serve_exporter, context.settings, context.reload_settings))
    )


async def serve_exporter(
    settings: Settings, reload_settings: Callable[[], Settings], stop: Stop
) -> None:
    """Run the exporter; resources are closed in reverse order."""
    async with AsyncExitStack() as stack:
        sockets = [
            stack.enter_context(bind_socket(address)) for address in settings.web.listen_address
        ]
        collectors: list[Collector] = []
        if "process_*" not in settings.metrics.disable:
            collectors.append(ProcessCollector(registry=None))
        if "python_*" not in settings.metrics.disable:
            collectors.append(PlatformCollector(registry=None))
        exporter, owner = await _open(settings, stack, collectors)
        _logger().info(
            "starting", version=__version__, revision=__revision__, python=platform.python_version()
        )
        group = await stack.enter_async_context(asyncio.TaskGroup())
        watcher = WebConfigWatcher(settings.web_config, _logger())
        reloader = Reloader(reload_settings, exporter, watcher)
        reloader.record_result()
        loop = asyncio.get_running_loop()
        watcher.on_read = lambda succeeded: loop.call_soon_threadsafe(
            reloader.record_web_config, succeeded
        )
        loop.add_signal_handler(signal.SIGHUP, partial(reloader.start, group))
        group.create_task(exporter.log_progress())
        exporter.start(group)
        if owner is not None:
            group.create_task(owner.run())
        lifecycle = Lifecycle(reload=partial(reloader.reload_in, group), quit=stop)
        health = HealthSource(
            workspaces=exporter.health,
            failures=exporter.failures,
            reload_error=lambda: reloader.error,
            unsynced_feeds=exporter.unsynced_feeds,
            configuration=exporter.configuration,
            cluster=owner.health if owner and settings.state.replicas else lambda: None,
            unready_reason=owner.unready_reason if owner else str,
            names=exporter.names,
            visible_workspaces=partial(call_in_loop, loop, owner.shown_workspaces)
            if owner
            else None,
        )
        app = ExporterApp(
            health,
            exporter.pipeline.exposition,
            telemetry_path=settings.web.telemetry_path,
            version=__version__,
            lifecycle=lifecycle if settings.web.enable_lifecycle else None,
            runbooks=runbooks,
        )
        protected_app = AuthMiddleware(
            app,
            watcher.current,
            needs_password=lambda path: path not in settings.web.unauthenticated_paths,
        )
        # In a thread: a scrape only reads what is published, so it need not wait for this event
        # loop.
        group.create_task(
            run_in_thread(partial(serve, protected_app, sockets, web_config=watcher.current))
        )
        for bound in sockets:
            _logger().info(
                "listening",
                address=url_of(bound, secure=settings.web_config.ssl_context is not None),
            )


async def _open(
    settings: Settings, stack: AsyncExitStack, collectors: Sequence[Collector] = ()
) -> tuple[Exporter, WorkspaceOwner | None]:
    """Return the exporter with the workspaces of this process.

    In PostgreSQL, others may own them later, as the workspace owner says.
    """
    offload = create_offload(stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="store")))
    state = settings.state
    database = database_at(state.url, state.password_path)
    if not is_postgres(state.url):  # Otherwise the owner of the workspaces opens it.
        await offload(open_state, database, logger=_logger())
    store = Store(database)
    stack.push_async_callback(offload, store.close)
    connector = Connector(await open_clients(settings, stack))
    exporter = Exporter(
        settings,
        store,
        offload,
        connector.connect,
        collectors=collectors,
        owned=frozenset() if is_postgres(state.url) else None,
    )
    await exporter.restore()
    if not is_postgres(state.url):
        return exporter, None

    from late_exporter.store.owner import WorkspaceOwner  # noqa: PLC0415 - less memory without

    ownership = import_postgres("ownership").Ownership(
        store,
        database,
        is_shared=state.replicas,
        lease=state.lease_duration,
        logger=_logger(),
    )
    owner = WorkspaceOwner(
        ownership,
        poll_only=exporter.own,
        groups=lambda: exporter.settings.sharing_groups,
        registry=exporter.pipeline.registry,
        offload=offload,
        lease=state.lease_duration,
        logger=_logger(),
    )
    stack.push_async_callback(owner.close)
    if not state.replicas:  # A replica waits for its database.
        await owner.update()
    return exporter, owner


async def _export_once(settings: Settings, _: Stop) -> None:
    """Poll until every feed is caught up; print the metrics without those of the process.

    They are printed even if a poll fails.
    """
    async with AsyncExitStack() as stack:
        exporter, _owner = await _open(settings, stack)
        async with asyncio.TaskGroup() as group:
            progress = group.create_task(exporter.log_progress())
            succeeded = await exporter.catch_up()
            progress.cancel()
        sys.stdout.write(exporter.pipeline.exposition.get_body(BodyRequest()).decode())
        if not succeeded:
            raise LateError("a poll failed")


def _logger() -> BoundLogger:
    return log.get_logger("late_exporter")
