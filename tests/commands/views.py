"""Logs for display, made of rows as the API sends them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from late_exporter.api.responses import ApiResponse
from late_exporter.commands.logs import log_views
from late_exporter.feeds.feed import Feed, LogView


def parse_rows(feed: Feed, *rows: object) -> Sequence[LogView]:
    """Return the logs of a page with these rows."""
    body = json.dumps({"logs": rows}).encode()
    return log_views(feed.parse(body), ApiResponse(body, None), feed, "brand")
