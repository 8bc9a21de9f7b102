"""Logs for display, read from the pages of the API."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from late_exporter.api.pages import PageResponse
from late_exporter.feeds.decoder import raw_rows
from late_exporter.feeds.feed import Feed, LogView
from late_exporter.feeds.view import row_text


def log_views(response: PageResponse, feed: Feed) -> list[LogView]:
    """Return the logs of a page for display; rows that are not objects are left out."""
    views: list[LogView] = []
    keys: set[str] = set()
    for row, entry in zip(raw_rows(response.body), response.page.entries, strict=True):
        if not isinstance(row, dict):
            continue
        view = feed.view(row, entry)
        if response.page.without_ids and view.key in keys:
            # Equal logs are numbered per status, so that two statuses may share a number.
            view = msgspec.structs.replace(view, key=f"{entry.key}/{entry.status}")
        keys.add(view.key)
        views.append(view)
    return views


def mentions(log: LogView, post_id: str) -> bool:
    """Return whether a log belongs to a post, judged by its texts if it does not name a post."""
    if log.post_id:
        return log.post_id == post_id
    return any(post_id in row_text(log.row, field) for field in ("request_id", "request_body", "metadata"))


def chronological(logs: Sequence[LogView]) -> list[LogView]:
    """Return logs oldest first, given newest first; a log without a time stays beside the one before it."""
    logs_by_time, last = [], 0
    for log in reversed(logs):
        last = last if log.created is None else log.created
        logs_by_time.append((last, log))
    return [log for _, log in sorted(logs_by_time, key=lambda pair: pair[0])]
