"""Collect what was read since the last commit of a feed.

Increments are computed once for all logs of a kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from late_exporter.feeds.feed import Feed
from late_exporter.feeds.publishing import FINAL_STATUSES
from late_exporter.feeds.vocabulary import ACTIONS
from late_exporter.ingest.steps import Record
from late_exporter.metrics.catalogue import CATALOGUE, ENTRIES_REJECTED, LOGS, SCHEMA_DRIFT
from late_exporter.metrics.label_limiter import LabelLimiter
from late_exporter.model import IncCounter, Increment, LogKind, ObserveLog, Scope
from late_exporter.store.records import Coverage, Observation

LAG = "late_exporter_log_lag_seconds"
RECONCILED_LOGS = "late_exporter_reconciled_logs_total"

PLATFORM_SERIES = (
    *((LOGS, (action, status)) for action in ACTIONS for status in ACTIONS[action]),
    *(("late_publishing_attempts_total", (status,)) for status in FINAL_STATUSES),
    *(("late_publishing_retries_total", (status,)) for status in ACTIONS["retry"]),
    ("late_publishing_rate_limit_pauses_total", ()),
    ("late_publishing_without_link_total", ()),
)
"""Series that a platform has from its first log on, by their labels after the platform."""


class BatchBuilder:
    """Builder of the next batch of one feed.

    Args:
        is_synced: Whether the first sync is complete; what it reads is history.

    Attributes:
        observations: The logs that were read, in that order.
        coverage: Coverage once they are committed; None leaves it.
        deleted_keys: Keys of pending logs that the API no longer has.
        started_at: Monotonic time of the first record.
    """

    def __init__(
        self, scope: Scope, feed: Feed, label_limiter: LabelLimiter, *, is_synced: bool
    ) -> None:
        self._scope = scope
        self._feed = feed
        self._label_limiter = label_limiter
        self._is_synced = is_synced
        self._kinds: dict[tuple[LogKind, bool], tuple[Increment, ...]] = {}
        self._platforms: set[str] = set()
        self.observations: list[Observation] = []
        self.coverage: Coverage | None = None
        self.deleted_keys: list[str] = []
        self.started_at = 0.0

    @property
    def zeros(self) -> Sequence[Increment]:
        """Increments that create the series of the platforms that have none in the state."""
        workspace = self._scope.workspace
        new = sorted(self._platforms - self._label_limiter.platforms(workspace))
        series = [
            (family, (workspace, each, *labels))
            for each in new
            for family, labels in PLATFORM_SERIES
        ]
        return [IncCounter(*each, amount=0) for each in series]

    def add(self, record: Record) -> None:
        """Add logs, and what is true once they are committed."""
        for entry in record.entries:
            was_missed = entry.created is not None and entry.created < record.missed_before
            increments = self._increments(entry.kind, was_missed=was_missed)
            self.observations.append(Observation(entry, increments))
        self.coverage = record.coverage or self.coverage
        self.deleted_keys += record.deleted_keys

    def _increments(self, log: LogKind, *, was_missed: bool) -> tuple[Increment, ...]:
        """Return the increments of a kind of logs."""
        increments = self._kinds.get((log, was_missed))
        if increments is None:
            increments = tuple(self._project(log, was_missed=was_missed))
            self._kinds[log, was_missed] = increments
            self._platforms |= {one.labels[1] for one in increments if one.family == LOGS}
        return increments

    def _project(self, log: LogKind, *, was_missed: bool) -> Iterator[Increment]:
        labels = (self._scope.workspace, self._scope.feed)
        drift = (
            IncCounter(SCHEMA_DRIFT, (*labels, deviation.path, deviation.kind))
            for deviation in log.deviations
        )
        yield from self._label_limiter.apply(drift)
        if log.rejection_reason:
            yield IncCounter(ENTRIES_REJECTED, (*labels, log.rejection_reason))
            return
        yield from self._label_limiter.apply(self._feed.project(self._scope.workspace, log))
        if not self._is_synced:
            return
        yield ObserveLog(
            LAG, labels, once_per_log=True, number="lag", bounds=CATALOGUE[LAG].buckets
        )
        if was_missed:
            yield IncCounter(RECONCILED_LOGS, labels, once_per_log=True)
