"""A log for display: the fields of its entry, and of its row those that metrics do not need."""

from __future__ import annotations

from typing import Any

from late_exporter.feeds.decoder import error_text
from late_exporter.feeds.feed import LogView, RawLog
from late_exporter.format import iso_time
from late_exporter.model import FAILED, SUCCESS, UNKNOWN, LogEntry


def log_view(row: RawLog, entry: LogEntry) -> LogView:
    """Return a log for display, with the fields that all feeds and generations have."""
    status = entry.status
    if status == entry.action:  # Connection logs are counted by their event instead.
        status = row_text(row, "status") or event_status(status)
    return LogView(
        key=entry.key,
        row=row,
        platform=entry.platform,
        action=entry.action,
        status=status,
        log_id=row_text(row, "_id"),
        post_id=entry.post_id or "",
        created=entry.created,
        time="" if entry.created is None else iso_time(entry.created),
        account_id=entry.account_id or "",
        username=without_unknown(entry.username),
        attempt=entry.attempt,
        duration=entry.duration,
        status_code="" if entry.status_code is None else str(entry.status_code),
        error_code=without_unknown(entry.error_code),
        error=entry.error,
        endpoint=row_text(row, "endpoint"),
        method=without_unknown(entry.method),
        is_own=entry.is_own,
    )


def row_text(row: RawLog, *path: str) -> str:
    """Return the text at a path of nested objects, or an empty string."""
    value: Any = row
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return error_text(value) if isinstance(value, str) else ""


def event_status(event: str) -> str:
    """Return ``success`` or ``failed`` by the name of a connection event, or an empty text."""
    return {SUCCESS: SUCCESS, FAILED: FAILED}.get(event.rpartition("_")[2], "")


def without_unknown(text: str | None) -> str:
    """Return a text of a LogEntry, or an empty string if it is missing or unknown."""
    return "" if text in (None, UNKNOWN) else text
