"""The command ``logs``: print the logs that match a filter, newest first, or count them."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec.structs import asdict, replace

from late_exporter.api.client import LateClient
from late_exporter.api.generation import find_feed
from late_exporter.api.responses import ApiResponse
from late_exporter.commands.api_reader import (
    ListReader,
    connect_workspaces,
    report_failure,
    require_retained,
)
from late_exporter.commands.event_loop import run_interruptible
from late_exporter.commands.output import warn
from late_exporter.commands.tables import Row, Table, no_match, print_records, print_selection
from late_exporter.config.sections import CommandFlags
from late_exporter.config.settings import CommandContext
from late_exporter.feeds.decoder import raw_rows
from late_exporter.feeds.feed import Feed, LogView
from late_exporter.feeds.view import row_text
from late_exporter.format import human_duration, iso_time
from late_exporter.model import DAY_MS, ZERNIO, LogPage

DEFAULT_SINCE = 86_400.0  # seconds

ACCOUNT_ID = re.compile(r"[0-9a-f]{24}")
HIDDEN_FIELDS = ("key", "row", "created", "duration", "is_own")
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


LogBatches: TypeAlias = AsyncIterator[Sequence[LogView]]


def logs(context: CommandContext) -> int:
    return run_interruptible(_show_logs(context))


async def _show_logs(context: CommandContext) -> int:
    flags = context.flags
    now = time.time()
    unread: list[str] = []
    async with connect_workspaces(context) as connections:
        sources = [
            matching_logs(name, client, flags, now=now, unread=unread)
            for name, client in connections.items()
        ]
        batches = newest_first(sources)
        await print_logs(batches, flags, is_several=len(connections) > 1, unread=unread)
    return int(bool(unread))


# Read.


async def matching_logs(
    workspace: str, client: LateClient, flags: CommandFlags, *, now: float, unread: list[str]
) -> LogBatches:
    """Yield the logs of a workspace that match, newest first.

    If they cannot be read, the error is printed and the workspace added to ``unread``: others may
    work.
    """
    lower = int((now - (flags.since or DEFAULT_SINCE)) * 1000)
    with report_failure(workspace, unread):
        feed = await find_feed(flags.feed, client)
        require_retained(flags.since, feed)
        reader = ListReader(client, feed, workspace, query(flags, feed))
        async for page in read_logs(reader, lower):
            yield [log for log in page if matches(flags, log)]


async def read_logs(reader: ListReader, lower: int) -> AsyncIterator[list[LogView]]:
    """Yield the logs since a time in milliseconds page by page, newest first, each once."""
    keys: set[str] = set()
    async for page, response in reader.pages(lower):
        views = log_views(page, response, reader.feed, reader.title)
        logs = {log.key: log for log in views if log.key not in keys}
        keys |= logs.keys()
        yield [log for log in logs.values() if log.created is None or lower <= log.created]


def log_views(
    page: LogPage, response: ApiResponse, feed: Feed, workspace: str
) -> Sequence[LogView]:
    """Return the logs of a page for display; rows that are not objects are left out."""
    rows = zip(raw_rows(response.body), page.entries, strict=True)
    return [
        replace(feed.view(row, entry), workspace=workspace)
        for row, entry in rows
        if isinstance(row, dict)
    ]


async def newest_first(sources: Sequence[LogBatches]) -> LogBatches:
    """Yield the logs of several workspaces by time.

    A batch ends where the next page of one of them has to be read.
    """
    pages: dict[LogBatches, list[LogView]] = {source: [] for source in sources}
    while pages:
        for source in [source for source, page in pages.items() if not page]:
            page = await anext(source, None)
            if page is None:
                del pages[source]
            else:
                pages[source] = [*reversed(page)]
        batch = []
        while pages and all(pages.values()):
            newest = max(pages.values(), key=lambda page: page[-1].created or math.inf)
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


async def print_logs(
    batches: LogBatches, flags: CommandFlags, *, is_several: bool, unread: Sequence[str]
) -> None:
    """Print the newest logs up to a limit (0 for all), or the counts of ``--by``.

    ``unread`` has the workspaces that cannot be read, once the batches are read.
    """
    if flags.by:
        await _print_counts(batches, flags, unread)
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
        warn(no_match("log", unread))


async def _print_counts(batches: LogBatches, flags: CommandFlags, unread: Sequence[str]) -> None:
    """Print how many logs have the same values in some columns, the most frequent values first."""
    counts: Counter[tuple[str, ...]] = Counter()
    async for batch in batches:
        for log in batch:
            cells = log_row(log)
            counts[tuple(cells[name.upper()] for name in flags.by)] += 1

    titles = ("LOGS>", *map(str.upper, flags.by))
    rows = [
        dict(zip(titles, (str(count), *values), strict=True))
        for values, count in counts.most_common()
    ]

    def fields(row: Row) -> Mapping[str, str]:
        return {title.rstrip(">").lower(): text for title, text in row.items()}

    print_selection(rows, "log", flags, titles, dict, fields, unread)


def log_row(log: LogView) -> Row:
    """Return a log as a row of a table."""
    took = ""
    if log.duration is not None:
        took = human_duration(log.duration / 1_000_000).replace(" ", "")
    error = ": ".join(filter(None, (log.error_code, log.error)))
    return {
        "TIME": log.time,
        "STATUS": log.status,
        "WORKSPACE": log.workspace,
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


def log_fields(log: LogView) -> Mapping[str, Any]:
    """Return a log as JSON has it: the same fields for all feeds and generations."""
    fields = asdict(log)
    for name in HIDDEN_FIELDS:
        del fields[name]
    if log.created is not None:
        fields["time"] = iso_time(log.created, precise=True)
    fields["duration_seconds"] = None if log.duration is None else log.duration / 1_000_000
    return fields
