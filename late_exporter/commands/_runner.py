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
from late_exporter.api.generation import Dialect
from late_exporter.commands.audit.report import as_json, as_text
from late_exporter.commands.audit.run import Examiner
from late_exporter.commands.feed_choice import counted, require_kept, spoken
from late_exporter.commands.logs import Follower, Wanted, follow, printer, show
from late_exporter.commands.pager import Listing
from late_exporter.commands.post import history
from late_exporter.commands.state import Keeper
from late_exporter.commands.terminal import Screen
from late_exporter.config.settings import CommandContext
from late_exporter.config.types import quote
from late_exporter.errors import ConfigError
from late_exporter.model import Coverage, Feed, Scope
from late_exporter.store import open_records

__all__ = ["Clients", "Line", "audit_feeds", "follow_logs", "keep_state", "printing", "show_logs", "tell_of_post"]

DAY = 86_400.0


class Line(NamedTuple):
    """How a workspace is asked: the generation of its API, and the client."""

    dialect: Dialect
    client: LateClient


Clients: TypeAlias = AbstractAsyncContextManager[Mapping[str, Line]]
"""Opens the line of every workspace."""


@asynccontextmanager
async def _asking(call: CommandContext, clients: Clients) -> AsyncIterator[tuple[str, Line]]:
    """The workspace that is asked for, and its line."""
    names, wanted = [workspace.name for workspace in call.settings.workspaces], call.flags.workspace
    if wanted is None and len(names) > 1:
        raise ConfigError(f"--workspace: is needed, as there are several: {', '.join(names)}")
    if wanted is not None and wanted not in names:
        raise ConfigError(f"--workspace{quote(wanted)}: there is no such workspace, but {', '.join(names)}")
    name = wanted or names[0]
    async with clients as known:
        yield name, known[name]


async def tell_of_post(call: CommandContext, clients: Clients) -> int:
    """Print what became of a post."""
    async with _asking(call, clients) as (workspace, line):
        await history(
            line.client,
            await spoken("publishing", *line),
            call.args[0],
            workspace=workspace,
            form=call.flags.format,
            screen=Screen.of(sys.stdout, os.environ),
            write=_write,
            clock=time.time,
        )
    return 0


async def show_logs(call: CommandContext, clients: Clients) -> int:
    """Print the logs that match."""
    asked, wanted = call.flags, _wanted(call)
    async with _asking(call, clients) as (_, line):
        feed = await spoken(asked.feed, *line)
        require_kept(asked.since, feed)
        listing = Listing(line.client, feed, wanted.query(feed, lasting=False), wanted.since, clock=time.time)
        form = printer(asked.format, feed.name, Screen.of(sys.stdout, os.environ))
        count, more = await show(listing, wanted, form, limit=asked.limit, write=_write)
    if more:
        _note(f"these are the newest {count:,}; --limit 0 shows all")
    elif not count:
        _note("no log matches")
    return 0


async def follow_logs(call: CommandContext, clients: Clients) -> None:
    """Print the logs that match, and go on with those that come."""
    asked, wanted = call.flags, _wanted(call)
    async with _asking(call, clients) as (_, line):
        feed = await spoken(asked.feed, *line)
        require_kept(asked.since, feed)
        listing = Listing(line.client, feed, wanted.query(feed, lasting=True), wanted.since, clock=time.time)
        form = printer(asked.format, feed.name, Screen.of(sys.stdout, os.environ))
        follower = Follower(line.client, feed, listing, wanted, form, _write)
        await follow(follower, limit=asked.limit, interval=call.settings.poll_interval, note=_note)


async def audit_feeds(call: CommandContext, clients: Clients) -> tuple[Callable[[], int], int]:
    """Compare what was counted with what Late shows; gives what prints the outcome, and the exit code."""
    settings, asked = call.settings, call.flags
    names = [workspace.name for workspace in settings.workspaces]
    if asked.workspace is not None and asked.workspace not in names:
        raise ConfigError(f"--workspace{quote(asked.workspace)}: there is no such workspace, but {', '.join(names)}")
    async with clients as known:
        reports = [
            await Examiner(
                Scope(name, feed),
                partial(_counted, feed, known[name]),
                client=known[name].client,
                records=partial(open_records, settings.state_url),
                interval=max(settings.poll_interval, settings.webhook_poll_interval),
                wait=asked.wait,
                log=log.get_logger("late_exporter").bind(workspace=name, feed=feed),
            ).examine(asked.since)
            for name in names
            if asked.workspace in (None, name)
            for feed in settings.feeds
        ]
    found = int(not all(report.good for report in reports))
    lines = [as_json(reports)] if asked.format == "json" else [log.escape(line) for line in as_text(reports)]

    def show() -> int:
        for line in lines:
            _write(log.redact(line))
        return found

    return show, found


async def _counted(name: str, line: Line, coverage: Coverage) -> Feed:
    return await counted(name, coverage, *line)


def keep_state(call: CommandContext) -> int:
    """Do to the state what is asked; who reads half of an export has none, so that this is a failure."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")
    action, *rest = call.args
    if action == "export" and rest in ([], ["-"]):
        return printing(lambda: _keep(call, _put), torn=1)
    told: list[str] = []
    code = _keep(call, told.append)
    return printing(lambda: _tell(told, code), torn=code)


def _keep(call: CommandContext, put: Callable[[str], None]) -> int:
    keeper = Keeper(call.settings.state_url, put, sys.stdin)
    code = keeper.act(call.args, form=call.flags.format, confirmed=call.flags.yes)
    sys.stdout.flush()
    return code


def _tell(lines: Iterable[str], code: int) -> int:
    for line in lines:
        _write(line)
    return code


def _wanted(call: CommandContext) -> Wanted:
    asked = call.flags
    since = DAY if asked.since is None else asked.since
    return Wanted(platform=asked.platform, status=asked.status, action=asked.action, account=asked.account, since=since)


def printing(work: Callable[[], int], *, torn: int = 0) -> int:
    """Do what prints to standard output, for as long as somebody reads it; ``torn`` is the exit code after that."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        return work()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return torn


def _put(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _write(line: str) -> None:
    _put(line)
    sys.stdout.flush()


def _note(words: str) -> None:
    sys.stderr.write(f"late-exporter: {log.escape(log.redact(words))}\n")
