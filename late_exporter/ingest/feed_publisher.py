"""Publish the committed values of a feed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from late_exporter.feeds.feed import Feed
from late_exporter.metrics.aggregation import lag_micros
from late_exporter.metrics.labels import LabelLimiter
from late_exporter.metrics.names import LOGS, OLDEST_PENDING, PENDING_LOGS
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.store.cancellation import PostponedCancellation
from late_exporter.store.records import CommitResult, Observation, PendingLog

LAG = "late_exporter_log_lag_seconds"
COVERAGE_START = "late_exporter_coverage_start_timestamp_seconds"

SERIES_PER_SLICE = 300
"""Series that are set at a time, in about a millisecond."""


class FeedPublisher:
    """Write the committed values of one feed to the registry."""

    def __init__(self, feed: Feed, labels: tuple[str, str], registry: SeriesRegistry, limiter: LabelLimiter) -> None:
        self._labels = labels
        self._has_pending = feed.counter == LOGS
        self._registry = registry
        self._label_limiter = limiter
        self._pending_labels: set[tuple[str, str]] = set()

    async def update(self, result: CommitResult, pending: Mapping[str, PendingLog], complete_since: int | None) -> None:
        """Show a commit, completely even if the task is cancelled meanwhile.

        Args:
            result: Result of the commit.
            pending: The pending logs after it.
            complete_since: Time in milliseconds since which every log is recorded; None if the logs are not shown yet.
        """
        cancellation, registry = PostponedCancellation(), self._registry
        registry.defer(result.series_values)
        if complete_since is not None:
            registry.defer_feed(*self._labels)
        while registry.set_deferred(SERIES_PER_SLICE):
            await cancellation.pause()
        cancellation.end()
        if complete_since is not None:
            registry.set_gauge(COVERAGE_START, self._labels, complete_since / 1000)
            if self._has_pending:
                self._update_pending_gauges(pending)

    def _update_pending_gauges(self, pending_logs: Mapping[str, PendingLog]) -> None:
        """Show the pending logs by platform and action."""
        limit_value, set_gauge, (workspace, _) = self._label_limiter.limit_value, self._registry.set_gauge, self._labels
        counts: Counter[tuple[str, str]] = Counter()
        oldest: dict[str, int] = {}
        for log in pending_logs.values():
            platform = limit_value(workspace, "platform", log.platform)
            counts[platform, limit_value(workspace, "action", log.action)] += 1
            if log.created:
                oldest[platform] = min(log.created, oldest.get(platform, log.created))
        # Series that were shown once, and those of the platforms in use, are kept at 0.
        self._pending_labels |= counts.keys()
        self._pending_labels |= {(platform, "publish") for platform in self._label_limiter.platforms(workspace)}
        for platform, action in self._pending_labels:
            set_gauge(PENDING_LOGS, (workspace, platform, action), counts[platform, action])
            if platform in oldest:
                set_gauge(OLDEST_PENDING, (workspace, platform), oldest[platform] / 1000)
            else:
                self._registry.remove_gauge(OLDEST_PENDING, (workspace, platform))


def last_lag(observations: Sequence[Observation], now: int) -> float | None:
    """Return the lag of the last of some logs in seconds; None if none has a time."""
    for log in (observation.entry for observation in reversed(observations)):
        if log.created is not None and not log.rejection_reason:
            return lag_micros(log, now) / 1_000_000
    return None
