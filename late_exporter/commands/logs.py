"""The command ``logs``: print the logs that match a filter, newest first, or count them."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec

from late_exporter.api.client import LateClient
from late_exporter.api.generation import find_feed
from late_exporter.api.responses import ApiResponse
from late_exporter.commands.event_loop import run_interruptible
from late_exporter.commands.log_reader import (
    ListReader,
    connect_workspaces,
    report_failure,
    require_retained,
)
from late_exporter.commands.output import warn
from late_exporter.commands.tables import Row, Table, print_records
from late_exporter.config.sections import CommandFlags
from late_exporter.config.settings import CommandContext
from late_exporter.feeds.decoder import raw_rows
from late_exporter.feeds.feed import Feed, LogView
from late_exporter.feeds.view import row_text
from late_exporter.format import human_duration, iso_time
from late_exporter.model import DAY_MS, ZERNIO, LogPage

DEFAULT_SINCE = 86_400.0  # seconds

ACCOUNT_ID = re.compile(r"[0-9a-f]{24}")
HIDDEN_FIELDS = frozenset({"key", "row", "created", "time", "duration", "is_own"})
"""Fields of a log that JSON does not have, or has in another form."""

LOG_COLUMNS = (
    "TIME",
    "STATUS",
    "PLATFORM",
    "ACCOUNT",
    "ACTION",
    "TRY>",
    "HTTP>",
    "TOOK>",
    "POST",
    "DETAIL",
)


class WorkspaceLog(NamedTuple):
    """A log of a workspace."""

    workspace: str
    log: LogView


LogBatches: TypeAlias = AsyncIterator[Sequence[WorkspaceLog]]


def logs(context: CommandContext) -> int:
    return run_interruptible(_show_logs(context))


async def _show_logs(context: CommandContext) -> int:
    flags = context.flags
    now = time.time()
    unread: list[str] = []
    async with connect_workspaces(context) as connections:
        sources = [
            matching_logs(name, client, flags, now=now, unread=unread, is_silent=bool(flags.by))
            for name, client in connections.items()
        ]
        batches = newest_first(sources)
        await print_logs(batches, flags, is_several=len(connections) > 1)
    return int(bool(unread))


# Read.


async def matching_logs(
    workspace: str,
    client: LateClient,
    flags: CommandFlags,
    *,
    now: float,
    unread: list[str],
    is_silent: bool,
) -> LogBatches:
    """Yield the logs of a workspace that match, newest first.

    If they cannot be read, the error is printed and the workspace added to ``unread``: others may
    work. ``is_silent`` is whether nothing is printed meanwhile, so that progress is shown.
    """
    lower = int((now - (flags.since or DEFAULT_SINCE)) * 1000)
    with report_failure(workspace, unread):
        feed = await find_feed(flags.feed, client)
        require_retained(flags.since, feed)
        title = workspace if is_silent else ""
        reader = ListReader(client, feed, query(flags, feed), title=title)
        async for page in read_logs(reader, feed, lower):
            yield [WorkspaceLog(workspace, log) for log in page if matches(flags, log)]


async def read_logs(reader: ListReader, feed: Feed, lower: int) -> AsyncIterator[list[LogView]]:
    """Yield the logs since a time in milliseconds page by page, newest first, each once."""
    keys: set[str] = set()
    async for page, response in reader.pages(lower, leaves_out_older=True):
        logs = {log.key: log for log in log_views(page, response, feed) if log.key not in keys}
        keys |= logs.keys()
        yield [log for log in logs.values() if log.created is None or lower <= log.created]


def log_views(page: LogPage, response: ApiResponse, feed: Feed) -> list[LogView]:
    """Return the logs of a page for display; rows that are not objects are left out."""
    rows = zip(raw_rows(response.body), page.entries, strict=True)
    return [feed.view(row, entry) for row, entry in rows if isinstance(row, dict)]


async def newest_first(sources: Sequence[LogBatches]) -> LogBatches:
    """Yield the logs of several workspaces by time.

    A batch ends where the next page of one of them has to be read.
    """
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


# Select.


def query(flags: CommandFlags, feed: Feed) -> dict[str, str | int]:
    """Return the part of the filter that saves most requests, as parameters of the API."""
    days = math.ceil((flags.since or DEFAULT_SINCE) * 1000 / DAY_MS)
    parameters: dict[str, str | int] = {"days": min(days, feed.retention // DAY_MS)}
    if flags.platform:
        parameters["platform"] = flags.platform
    if len(flags.status) == 1:
        parameters["status"] = flags.status[0]
    if feed.generation == ZERNIO and flags.account and ACCOUNT_ID.fullmatch(flags.account):
        parameters["accountId"] = flags.account
    return parameters


def matches(flags: CommandFlags, log: LogView) -> bool:
    """Return whether a log matches, also by what the API cannot filter; own requests never match.

    The action is that of the metrics, or in generation ``zernio`` that of the API.
    """
    if log.is_own:
        return False
    if not _equals(flags.platform, log.platform):
        return False
    action = row_text(log.row, "action")
    if not (_equals(flags.action, log.action) or _equals(flags.action, action)):
        return False
    if flags.status and not any(_equals(status, log.status) for status in flags.status):
        return False
    if flags.account is None:
        return True
    names = (_normalize(log.username), _normalize(log.account_id))
    return _normalize(flags.account) in names


def _equals(expected_value: str | None, value: str) -> bool:
    return expected_value is None or expected_value.casefold() == value.casefold()


def _normalize(account: str) -> str:
    return account.removeprefix("@").casefold()


# Print.


async def print_logs(batches: LogBatches, flags: CommandFlags, *, is_several: bool) -> None:
    """Print the newest logs up to a limit (0 for all), or the counts of ``--by``."""
    if flags.by:
        await _print_counts(batches, flags)
        return

    columns = list(LOG_COLUMNS)
    if is_several:
        columns.insert(2, "WORKSPACE")
    table = Table(columns)
    count = 0
    async for batch in batches:
        selection = batch[: flags.limit - count] if flags.limit else batch
        print_records(selection, flags.format, table, log_row, log_fields)
        count += len(selection)
        if flags.limit and count >= flags.limit:
            warn(f"stopped at --limit {count}; --limit 0 shows all")
            return
    if not count:
        warn("no log matches")


async def _print_counts(batches: LogBatches, flags: CommandFlags) -> None:
    """Print how many logs have the same values in some columns, the most frequent values first."""
    counts: Counter[tuple[str, ...]] = Counter()
    async for batch in batches:
        for item in batch:
            cells = log_row(item)
            counts[tuple(cells[name.upper()] for name in flags.by)] += 1

    rows = counts.most_common(flags.limit or None)
    records = [
        {"logs": str(number), **dict(zip(flags.by, values, strict=True))} for values, number in rows
    ]
    columns = ("LOGS>", *map(str.upper, flags.by))

    def count_row(record: Mapping[str, str]) -> Row:
        return dict(zip(columns, record.values(), strict=True))

    print_records(records, flags.format, Table(columns), count_row, dict)
    if not rows:
        warn("no log matches")
    elif len(rows) < len(counts):
        warn(f"stopped at --limit {len(rows)} of {len(counts):,} combinations; --limit 0 shows all")


def log_row(item: WorkspaceLog) -> Row:
    """Return a log as a row of a table."""
    log = item.log
    took = ""
    if log.duration is not None:
        took = human_duration(log.duration / 1_000_000).replace(" ", "")
    error = ": ".join(filter(None, (log.error_code, log.error)))
    return {
        "TIME": log.time,
        "STATUS": log.status,
        "WORKSPACE": item.workspace,
        "PLATFORM": log.platform,
        "ACCOUNT": log.username or log.account_id,
        "ACTION": log.action,
        "TRY>": "" if log.attempt is None else str(log.attempt),
        "HTTP>": log.status_code,
        "TOOK>": took,
        "POST": log.post_id,
        "ERROR": log.error_code or log.error,
        "DETAIL": error or log.url or log.endpoint or log.method,
    }


def log_fields(item: WorkspaceLog) -> Mapping[str, Any]:
    """Return a log as JSON has it: the same fields for all feeds and generations."""
    log = item.log
    fields = msgspec.structs.asdict(log)
    visible = {name: value for name, value in fields.items() if name not in HIDDEN_FIELDS}
    return {
        "workspace": item.workspace,
        "time": log.time if log.created is None else iso_time(log.created, precise=True),
        **visible,
        "duration_seconds": None if log.duration is None else log.duration / 1_000_000,
    }
