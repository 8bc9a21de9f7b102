"""Read the details of the logs whose events are to be delivered."""

from __future__ import annotations

import msgspec

from late_exporter.errors import BadPayload
from late_exporter.feeds.decoder import raw_rows
from late_exporter.feeds.feed import Feed
from late_exporter.feeds.log_events import outcome, read_detail
from late_exporter.model import FAILED, LogEntry, LogPage


class EventSelection(msgspec.Struct, frozen=True, kw_only=True):
    """The observations that become events, and what these show.

    Args:
        all_statuses: Whether all observations do, rather than failures only.
        captions: Whether events have the beginning of the post's text.
    """

    all_statuses: bool = False
    captions: bool = False

    def includes(self, entry: LogEntry) -> bool:
        if entry.rejection_reason or entry.is_own:
            return False
        return self.all_statuses or outcome(entry) == FAILED

    def add_details(self, feed: Feed, page: LogPage, body: bytes) -> LogPage:
        """Return the page in a response body with the details of the selected logs."""
        if not any(map(self.includes, page.entries)):
            return page
        try:
            rows = raw_rows(body)
        except BadPayload:  # The logs are counted anyway, and their events have only the counted fields.
            rows = [{}] * len(page.entries)
        entries = [
            msgspec.structs.replace(entry, detail=read_detail(feed.view(row, entry), captions=self.captions))
            if self.includes(entry)
            else entry
            for entry, row in zip(page.entries, rows, strict=True)
        ]
        return msgspec.structs.replace(page, entries=tuple(entries))
