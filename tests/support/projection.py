"""The increments of a single log."""

from __future__ import annotations

from collections.abc import Iterator

from late_exporter.feeds.feed import Feed
from late_exporter.metrics.aggregation import count_logs
from late_exporter.model import Increment, LogEntry


def project_log(feed: Feed, workspace: str, log: LogEntry) -> Iterator[Increment]:
    """Yield the increments of a log."""
    for increment in feed.project(workspace, log.kind):
        yield from count_logs(increment, (log,), log.created or 0)
