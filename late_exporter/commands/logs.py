"""The command ``logs``: print the logs that match a filter, newest first, or count them."""

from __future__ import annotations

import math
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from typing import TypeAlias

from late_exporter.api.client import LateClient
from late_exporter.api.generation import find_feed
from late_exporter.commands.connections import connect_workspaces, report_failure, require_retained
from late_exporter.commands.event_loop import run_interruptible
from late_exporter.commands.list_reader import ListReader
from late_exporter.commands.log_views import (
    LOG_COLUMNS,
    WorkspaceLog,
    log_fields,
    log_row,
    read_logs,
)
from late_exporter.commands.output import warn, write_stdout
from late_exporter.commands.progress import ProgressLine
from late_exporter.commands.records import print_records
from late_exporter.commands.tables import Row, Table, Terminal
from late_exporter.config.sections import CommandFlags
from late_exporter.config.settings import CommandContext
from late_exporter.feeds.classification import ACTIONS_BY_NAME, EVENTS_BY_NAME
from late_exporter.feeds.feed import Feed, LogView
from late_exporter.feeds.view import row_text
from late_exporter.model import DAY_MS, LATE

ACCOUNT_ID = re.compile(r"[0-9a-f]{24}")
LOCAL_ACTIONS = frozenset(
    {*(action for action, _ in ACTIONS_BY_NAME.values()), *EVENTS_BY_NAME.values(), "all"}
)
"""Actions that the API cannot filter by, because each of them stands for several of its own or for any."""

ACTION_FILTERS = {"publishing": "action", "connections": "eventType"}  # in generation late
DEFAULT_SINCE = 86_400.0  # seconds

LogBatches: TypeAlias = AsyncIterator[Sequence[WorkspaceLog]]


def logs(context: CommandContext) -> int:
    return write_stdout(lambda: run_interruptible(_show_logs(context)))


async def _show_logs(context: CommandContext) -> int:
    flags, now, unread = context.flags, time.time(), list[str]()
    async with connect_workspaces(context) as connections:
        sources = [
            matching_logs(name, client, flags, now=now, unread=unread, quiet=bool(flags.by))
            for name, client in connections.items()
        ]
        await print_logs(
            newest_first(sources), flags, Terminal.detect(), is_several=len(connections) > 1
        )
    return int(bool(unread))


async def matching_logs(
    workspace: str,
    client: LateClient,
    flags: CommandFlags,
    *,
    now: float,
    unread: list[str],
    quiet: bool,
) -> LogBatches:
    """Yield the logs of a workspace that match, newest first.

    If they cannot be read, the error is printed and the workspace added to ``unread``: others may
    work. ``quiet`` is whether nothing is printed meanwhile, so that progress is shown.
    """
    lower = int((now - (flags.since or DEFAULT_SINCE)) * 1000)
    with report_failure(workspace, unread), closing(ProgressLine(sys.stderr)) as progress:
        progress.start(workspace, client.quota_wait)
        feed = await find_feed(flags.feed, client)
        require_retained(flags.since, feed)
        reader = ListReader(client, feed, query(flags, feed), progress if quiet else None)
        async for page in read_logs(reader, feed, lower):
            yield [WorkspaceLog(workspace, log) for log in page if matches(flags, log)]


async def newest_first(sources: Sequence[LogBatches]) -> LogBatches:
    """Yield the logs of several workspaces by time, in batches that end where the next page of one has to be read."""
    pages: dict[LogBatches, list[WorkspaceLog]] = {source: [] for source in sources}
    while pages:
        for source in [source for source, page in pages.items() if not page]:
            page = await anext(source, None)
            if page is None:
                del pages[source]
            else:
                pages[source] = [*reversed(page)]
        batch = []
        while pages and all(pages.values()):
            newest = max(pages.values(), key=lambda page: page[-1].log.created or math.inf)
            batch.append(newest.pop())
        yield batch


async def print_logs(
    batches: LogBatches, flags: CommandFlags, terminal: Terminal, *, is_several: bool
) -> None:
    """Print the newest logs up to a limit (0 for all), or the counts of ``--by``."""
    if flags.by:
        await _print_counts(batches, flags, terminal)
        return
    table, count = (
        Table(terminal, (*LOG_COLUMNS[:2], *["WORKSPACE"] * is_several, *LOG_COLUMNS[2:])),
        0,
    )
    fields = (lambda item: item.log.row) if flags.format == "raw" else log_fields
    async for batch in batches:
        selection = batch[: flags.limit - count] if flags.limit else batch
        print_records(selection, flags.format, table, log_row, fields, is_first=not count)
        count += len(selection)
        if flags.limit and count >= flags.limit:
            warn(f"stopped at --limit {count}; --limit 0 shows all")
            return
    if not count:
        warn("no log matches")


async def _print_counts(batches: LogBatches, flags: CommandFlags, terminal: Terminal) -> None:
    """Print how many logs have the same values in some columns of the table, the most frequent values first."""
    counts: Counter[tuple[str, ...]] = Counter()
    async for batch in batches:
        cells = [log_row(item).cells for item in batch]
        counts.update(tuple(each[name.upper()] for name in flags.by) for each in cells)
    rows = counts.most_common(flags.limit or None)
    records = [
        {"logs": str(number), **dict(zip(flags.by, values, strict=True))} for values, number in rows
    ]
    columns = ("LOGS>", *map(str.upper, flags.by))
    print_records(
        records,
        flags.format,
        Table(terminal),
        lambda it: Row(dict(zip(columns, it.values(), strict=True))),
        dict,
    )
    if not rows:
        warn("no log matches")
    elif len(rows) < len(counts):
        warn(f"stopped at --limit {len(rows)} of {len(counts):,} combinations; --limit 0 shows all")


def query(flags: CommandFlags, feed: Feed) -> dict[str, str | int]:
    """Return the part of the filter that the API can apply, as parameters of a request."""
    filters = {
        "platform": flags.platform,
        "status": flags.status[0] if len(flags.status) == 1 else None,
    }
    if feed.generation == LATE:
        filters[ACTION_FILTERS[feed.name]] = flags.action
    else:
        filters["action"] = (
            None if (flags.action or "").casefold() in LOCAL_ACTIONS else flags.action
        )
        filters["accountId"] = flags.account if ACCOUNT_ID.fullmatch(flags.account or "") else None
    days = math.ceil((flags.since or DEFAULT_SINCE) * 1000 / DAY_MS)
    return {name: value for name, value in filters.items() if value} | {
        "days": min(days, feed.retention // DAY_MS)
    }


def matches(flags: CommandFlags, log: LogView) -> bool:
    """Return whether a log matches, including filters that the API does not support; own requests never match.

    The action is that of the metrics, or in generation ``zernio`` that of the API.
    """
    return (
        not log.is_own
        and _equals(flags.platform, log.platform)
        and (
            _equals(flags.action, log.action) or _equals(flags.action, row_text(log.row, "action"))
        )
        and (not flags.status or any(_equals(status, log.status) for status in flags.status))
        and (
            flags.account is None
            or _normalize(flags.account) in (_normalize(log.username), _normalize(log.account_id))
        )
    )


def _equals(expected_value: str | None, value: str) -> bool:
    return (
        expected_value is None
        or expected_value == "all"
        or expected_value.casefold() == value.casefold()
    )


def _normalize(account: str) -> str:
    return account.removeprefix("@").casefold()
