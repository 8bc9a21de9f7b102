"""Logs for display: read from the pages of the API, as rows of tables, and as fields of CSV and JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import msgspec

from late_exporter.commands.list_reader import ListReader
from late_exporter.commands.tables import Row
from late_exporter.feeds.decoder import raw_rows
from late_exporter.feeds.feed import Feed, LogView
from late_exporter.format import human_duration, iso_time
from late_exporter.model import LogPage
from late_exporter.protocols import ApiResponse

TONES = {
    "success": "good",
    "published": "good",
    "failed": "bad",
    "pending": "warn",
    "paused": "warn",
    "skipped": "idle",
    "cancelled": "idle",
}
"""Tones of statuses, and of the outcomes of posts."""

HIDDEN_FIELDS = frozenset({"key", "row", "created", "time", "duration", "is_own"})
"""Fields of a log that CSV and JSON do not have, or have in another form."""

POST_COLUMNS = (
    "TIME",
    "STATUS",
    "PLATFORM",
    "ACCOUNT",
    "ACTION",
    "TRY>",
    "HTTP>",
    "TOOK>",
    "DETAIL",
)
LOG_COLUMNS = (*POST_COLUMNS[:-1], "POST", "DETAIL")


class WorkspaceLog(NamedTuple):
    """A log of a workspace."""

    workspace: str
    log: LogView


async def read_logs(reader: ListReader, feed: Feed, lower: int) -> AsyncIterator[list[LogView]]:
    """Yield the logs since a time in milliseconds page by page, newest first, without those of an earlier page."""
    keys: set[str] = set()
    async for page, response in reader.pages(lower, leaves_out_older=True):
        logs = {log.key: log for log in log_views(page, response, feed) if log.key not in keys}
        keys |= logs.keys()
        yield [log for log in logs.values() if log.created is None or lower <= log.created]


def log_views(page: LogPage, response: ApiResponse, feed: Feed) -> list[LogView]:
    """Return the logs of a page for display; rows that are not objects are left out."""
    rows = zip(raw_rows(response.body), page.entries, strict=True)
    return [feed.view(row, entry) for row, entry in rows if isinstance(row, dict)]


def log_fields(item: WorkspaceLog) -> Mapping[str, Any]:
    """Return a log as CSV and JSON have it: fields of the same names for all feeds and generations."""
    workspace, log = item
    return {
        "workspace": workspace,
        "time": log.time if log.created is None else iso_time(log.created, precise=True),
        **{
            name: value
            for name, value in msgspec.structs.asdict(log).items()
            if name not in HIDDEN_FIELDS
        },
        "duration_seconds": None if log.duration is None else log.duration / 1_000_000,
    }


def log_row(item: WorkspaceLog) -> Row:
    """Return a log as a row of a table."""
    workspace, log = item
    cells = {
        "TIME": log.time,
        "STATUS": log.status,
        "WORKSPACE": workspace,
        "PLATFORM": log.platform,
        "ACCOUNT": log.username or log.account_id,
        "ACTION": log.action,
        "TRY>": "" if log.attempt is None else str(log.attempt),
        "HTTP>": log.status_code,
        "TOOK>": ""
        if log.duration is None
        else human_duration(log.duration / 1_000_000).replace(" ", ""),
        "POST": log.post_id,
        "ERROR": log.error_code or log.error,
        "DETAIL": ": ".join(filter(None, (log.error_code, log.error)))
        or log.url
        or log.endpoint
        or log.method,
    }
    return Row(cells, TONES.get(log.status, ""))
