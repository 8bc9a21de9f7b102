"""Publish the committed values of a feed."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from late_exporter.concurrency import PostponedCancellation
from late_exporter.metrics.counting import lag_micros, observe_log
from late_exporter.metrics.labels import LabelLimiter
from late_exporter.metrics.names import OLDEST_PENDING, PENDING_LOGS
from late_exporter.metrics.registry import SeriesRegistry
from late_exporter.model import CommitResult, Observation, PendingLog, Scope
from late_exporter.series import IncCounter, Labels, ObserveHistogram, ObserveLog

LAG = "late_exporter_log_lag_seconds"
COVERAGE_START = "late_exporter_coverage_start_timestamp_seconds"

SERIES_PER_SLICE = 300
"""Series that are set at a time, in about a millisecond."""


class CommittedBatch(NamedTuple):
    """The result of a commit, and what is shown of it.

    Args:
        exemplars: Newest observation with an exemplar of every bucket.
        last_lag: Lag of the last log in seconds; None if it has none.
        state_size: Stored logs of the workspace and their size in bytes; None if it is not to be shown again.
    """

    result: CommitResult
    exemplars: Sequence[ObserveHistogram]
    last_lag: float | None
    state_size: tuple[int, int] | None


class FeedPublisher:
    """Write the committed values of one feed to the registry."""

    def __init__(self, scope: Scope, registry: SeriesRegistry, label_limiter: LabelLimiter) -> None:
        self._workspace = scope.workspace
        self._feed = scope.feed
        self._registry = registry
        self._label_limiter = label_limiter
        self._pending_labels: set[tuple[str, str]] = set()
        self.last_lag: float | None = None

    async def update(self, committed: CommittedBatch, *, is_live: bool, is_shown: bool) -> None:
        """Show a commit, completely even if the task is cancelled meanwhile.

        Args:
            committed: The commit.
            is_live: Whether its logs are those of the present.
            is_shown: Whether the families of the feed are visible from now on.
        """
        cancellation = PostponedCancellation()
        self._registry.defer(committed.result.series_values)
        if is_shown:
            self._registry.defer_feed(self._workspace, self._feed)
        while self._registry.set_deferred(SERIES_PER_SLICE):
            await cancellation.pause()
        cancellation.end()
        if is_live:
            for observation in committed.exemplars:
                self._registry.add_exemplar(observation)
            self.last_lag = self.last_lag if committed.last_lag is None else committed.last_lag
        if committed.state_size is not None:
            log_count, size_bytes = committed.state_size
            self._registry.set_gauge("late_exporter_state_logs", (self._workspace,), log_count)
            self._registry.set_gauge("late_exporter_state_bytes", (self._workspace,), size_bytes)

    def add_unsaved(self, increments: Sequence[IncCounter]) -> None:
        self._registry.add_unsaved(increments)

    def show_feed(self, complete_since: int) -> None:
        self._registry.show_feed(self._workspace, self._feed)
        self._registry.set_gauge(COVERAGE_START, (self._workspace, self._feed), complete_since / 1000)

    def hide_feed(self) -> None:
        self._registry.hide_feed(self._workspace, self._feed)
        self._registry.remove_gauge(COVERAGE_START, (self._workspace, self._feed))

    def update_pending_gauges(self, pending_logs: Mapping[str, PendingLog]) -> None:
        """Show the pending logs by platform and action."""
        workspace, limit_value = self._workspace, self._label_limiter.limit_value
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
            self._registry.set_gauge(PENDING_LOGS, (workspace, platform, action), counts[platform, action])
        for platform in {platform for platform, _ in self._pending_labels}:
            if platform in oldest:
                self._registry.set_gauge(OLDEST_PENDING, (workspace, platform), oldest[platform] / 1000)
            else:
                self._registry.remove_gauge(OLDEST_PENDING, (workspace, platform))


def select_exemplars(observations: Iterable[Observation], now: int) -> list[ObserveHistogram]:
    """Return the newest observation with an exemplar of every bucket; ``now`` is the API time in milliseconds."""
    newest: dict[tuple[str, Labels, int], tuple[float, ObserveHistogram]] = {}
    for observation in observations:
        for increment in observation.increments:
            if not isinstance(increment, ObserveLog) or not increment.has_exemplar:
                continue
            observed = observe_log(increment, observation.entry, now)
            if observed.exemplar is None:
                continue
            bucket = (increment.family, increment.labels, bisect_left(increment.bounds, observed.micros / 1_000_000))
            time = observed.exemplar.timestamp
            if bucket not in newest or time >= newest[bucket][0]:
                newest.pop(bucket, None)  # so that the order is that of the last updates
                newest[bucket] = (time, observed)
    return [observed for _, observed in newest.values()]


def last_lag(observations: Sequence[Observation], now: int) -> float | None:
    """Return the lag of the last of some logs in seconds; None if none has a time."""
    for log in (observation.entry for observation in reversed(observations)):
        if log.created is not None and not log.rejection_reason:
            return lag_micros(log, now) / 1_000_000
    return None
