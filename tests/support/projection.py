"""The increments of a single log."""

from __future__ import annotations

from collections.abc import Iterator

from late_exporter.feeds.feed import Feed
from late_exporter.metrics.aggregation import count_logs, observe_log
from late_exporter.model import Increment, LogEntry, ObserveLog


def project_log(feed: Feed, workspace: str, log: LogEntry) -> Iterator[Increment]:
    """Yield the increments of a log, with its exemplars."""
    now = log.created or 0
    for increment in feed.project(workspace, log.kind):
        if isinstance(increment, ObserveLog):
            yield observe_log(increment, log, now)
        else:
            yield from count_logs(increment, (log,), now)
