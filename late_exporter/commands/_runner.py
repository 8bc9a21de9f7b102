"""The commands that ask Late for logs and print them."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import NamedTuple, TypeAlias

from late_exporter import log
from late_exporter.api.client import LateClient
from late_exporter.api.generation import ApiGeneration
from late_exporter.commands.audit.report import render_json, render_text
from late_exporter.commands.audit.run import AuditRunner
from late_exporter.commands.feed_choice import current_feed, recorded_feed, require_retained
from late_exporter.commands.logs import LogFilter, LogFollower, follow, log_formatter, print_newest
from late_exporter.commands.pager import LogPager
from late_exporter.commands.post import print_history
from late_exporter.commands.state import StateCommand
from late_exporter.commands.terminal import Terminal
from late_exporter.config.settings import CommandContext
from late_exporter.config.types import quote
from late_exporter.errors import ConfigError
from late_exporter.model import Coverage, Feed, Scope
from late_exporter.store import open_snapshot

__all__ = [
    "ConnectWorkspaces",
    "WorkspaceConnection",
    "audit_feeds",
    "follow_logs",
    "manage_state",
    "show_logs",
    "show_post",
    "write_stdout",
]

DAY = 86_400.0


class WorkspaceConnection(NamedTuple):
    """How a workspace is asked: the generation of its API, and the client."""

    generation: ApiGeneration
    client: LateClient


ConnectWorkspaces: TypeAlias = AbstractAsyncContextManager[Mapping[str, WorkspaceConnection]]
"""Opens the line of every workspace."""


@asynccontextmanager
async def _connect(call: CommandContext, clients: ConnectWorkspaces) -> AsyncIterator[tuple[str, WorkspaceConnection]]:
    """The workspace that is asked for, and its line."""
    names, wanted = [workspace.name for workspace in call.settings.workspaces], call.flags.workspace
    if wanted is None and len(names) > 1:
        raise ConfigError(f"--workspace: is needed, as there are several: {', '.join(names)}")
    if wanted is not None and wanted not in names:
        raise ConfigError(f"--workspace{quote(wanted)}: there is no such workspace, but {', '.join(names)}")
    name = wanted or names[0]
    async with clients as known:
        yield name, known[name]


async def show_post(call: CommandContext, clients: ConnectWorkspaces) -> int:
    """Print what became of a post."""
    async with _connect(call, clients) as (workspace, line):
        await print_history(
            line.client,
            await current_feed("publishing", *line),
            call.args[0],
            workspace=workspace,
            form=call.flags.format,
            screen=Terminal.detect(sys.stdout, os.environ),
            write=_write,
            clock=time.time,
        )
    return 0


async def show_logs(call: CommandContext, clients: ConnectWorkspaces) -> int:
    """Print the logs that match."""
    asked, wanted = call.flags, _log_filter(call)
    async with _connect(call, clients) as (_, line):
        feed = await current_feed(asked.feed, *line)
        require_retained(asked.since, feed)
        listing = LogPager(line.client, feed, wanted.query(feed, following=False), wanted.since, clock=time.time)
        form = log_formatter(asked.format, feed.name, Terminal.detect(sys.stdout, os.environ))
        count, more = await print_newest(listing, wanted, form, limit=asked.limit, write=_write)
    if more:
        _note(f"these are the newest {count:,}; --limit 0 shows all")
    elif not count:
        _note("no log matches")
    return 0


async def follow_logs(call: CommandContext, clients: ConnectWorkspaces) -> None:
    """Print the logs that match, and go on with those that come."""
    asked, wanted = call.flags, _log_filter(call)
    async with _connect(call, clients) as (_, line):
        feed = await current_feed(asked.feed, *line)
        require_retained(asked.since, feed)
        listing = LogPager(line.client, feed, wanted.query(feed, following=True), wanted.since, clock=time.time)
        form = log_formatter(asked.format, feed.name, Terminal.detect(sys.stdout, os.environ))
        follower = LogFollower(line.client, feed, listing, wanted, form, _write)
        await follow(follower, limit=asked.limit, interval=call.settings.poll.interval, note=_note)


async def audit_feeds(call: CommandContext, clients: ConnectWorkspaces) -> tuple[Callable[[], int], int]:
    """Compare what was counted with what Late shows; gives what prints the outcome, and the exit code."""
    settings, asked = call.settings, call.flags
    names = [workspace.name for workspace in settings.workspaces]
    if asked.workspace is not None and asked.workspace not in names:
        raise ConfigError(f"--workspace{quote(asked.workspace)}: there is no such workspace, but {', '.join(names)}")
    async with clients as known:
        reports = [
            await AuditRunner(
                Scope(name, feed),
                partial(_recorded_feed, feed, known[name]),
                client=known[name].client,
                records=partial(open_snapshot, settings.state.url),
                interval=settings.longest_poll_interval,
                wait=asked.wait,
                log=log.get_logger("late_exporter").bind(workspace=name, feed=feed),
            ).run(asked.since)
            for name in names
            if asked.workspace in (None, name)
            for feed in settings.poll.feeds
        ]
    exit_code = int(not all(report.ok for report in reports))
    lines = [render_json(reports)] if asked.format == "json" else [log.escape(line) for line in render_text(reports)]

    def show() -> int:
        for line in lines:
            _write(log.redact(line))
        return exit_code

    return show, exit_code


async def _recorded_feed(name: str, line: WorkspaceConnection, coverage: Coverage) -> Feed:
    return await recorded_feed(name, coverage, *line)


def manage_state(call: CommandContext) -> int:
    """Do to the state what is asked; who reads half of an export has none, so that this is a failure."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")
    action, *rest = call.args
    if action == "export" and rest in ([], ["-"]):
        return write_stdout(lambda: _run_state_command(call, _write_buffered), broken_pipe_code=1)
    told: list[str] = []
    code = _run_state_command(call, told.append)
    return write_stdout(lambda: _write_all(told, code), broken_pipe_code=code)


def _run_state_command(call: CommandContext, put: Callable[[str], None]) -> int:
    keeper = StateCommand(call.settings.state.url, put, sys.stdin)
    code = keeper.run(call.args, form=call.flags.format, confirmed=call.flags.yes)
    sys.stdout.flush()
    return code


def _write_all(lines: Iterable[str], code: int) -> int:
    for line in lines:
        _write(line)
    return code


def _log_filter(call: CommandContext) -> LogFilter:
    asked = call.flags
    since = DAY if asked.since is None else asked.since
    return LogFilter(
        platform=asked.platform, status=asked.status, action=asked.action, account=asked.account, since=since
    )


def write_stdout(command: Callable[[], int], *, broken_pipe_code: int = 0) -> int:
    """Run a command that writes to standard output; return ``broken_pipe_code`` if the reader closes the pipe."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        return command()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return broken_pipe_code


def _write_buffered(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _write(line: str) -> None:
    _write_buffered(line)
    sys.stdout.flush()


def _note(words: str) -> None:
    sys.stderr.write(f"late-exporter: {log.escape(log.redact(words))}\n")
