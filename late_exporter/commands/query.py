"""The commands that read from the API or the state once and exit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from late_exporter import log
from late_exporter.app.connector import Connector, open_client
from late_exporter.commands._runner import WorkspaceConnection, interruptible, write_stdout
from late_exporter.commands.audit.command import audit_feeds, print_reports
from late_exporter.commands.backfill.command import write_backfill
from late_exporter.commands.check.command import check_all
from late_exporter.commands.event_loop import run_until_stopped
from late_exporter.commands.logs import show_logs
from late_exporter.commands.post import show_post
from late_exporter.config.settings import CommandContext, Settings


@interruptible()
def check(context: CommandContext) -> int:
    checks = check_all(context, connect_workspaces(context.settings))
    return write_stdout(lambda: asyncio.run(checks), broken_pipe_code=1)


@interruptible()
def post(context: CommandContext) -> int:
    return write_stdout(lambda: asyncio.run(show_post(context, connect_workspaces(context.settings))))


def logs(context: CommandContext) -> int:
    work = show_logs(context, connect_workspaces(context.settings))
    if context.flags.follow:
        return write_stdout(lambda: asyncio.run(run_until_stopped(lambda _: work, quiet=True)))
    with interruptible():
        return write_stdout(lambda: asyncio.run(work))


@interruptible()
def audit(context: CommandContext) -> int:
    reports = asyncio.run(audit_feeds(context, connect_workspaces(context.settings)))
    return print_reports(reports, context.flags.format)


def backfill(context: CommandContext) -> int:
    return write_backfill(context, connect_workspaces(context.settings))


@asynccontextmanager
async def connect_workspaces(settings: Settings) -> AsyncIterator[Mapping[str, WorkspaceConnection]]:
    """Connect all workspaces for a command that prints its result and ends."""
    async with AsyncExitStack() as stack:
        connector = Connector(await open_client(settings, stack), lambda _: QuietLogger())
        connections = {}
        for workspace in settings.workspaces:
            client, generation = connector.connect(settings, workspace)
            connections[workspace.name] = WorkspaceConnection(generation, client)
        yield connections


class QuietLogger:
    """Logs everything at debug level, so that messages of the exporter do not disturb the output of a command."""

    def debug(self, event: str, **fields: Any) -> object:
        return log.get_logger("late_exporter").debug(event, **fields)

    info = debug
    warning = debug
