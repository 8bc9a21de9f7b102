"""A store that records commits and fails on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from late_exporter.errors import StoreError
from late_exporter.model import (
    Batch,
    CommitResult,
    Coverage,
    Feed,
    FeedAccounting,
    FeedState,
    KnownLogs,
    LogEntry,
    Scope,
    StoredLog,
)
from late_exporter.series import Series, SeriesValue
from late_exporter.store import SeriesCursor, Store

LogStatus: TypeAlias = tuple[str, str]
"""Key and status of a log: an observation."""


@dataclass
class StoreProxy:
    """A store that records what was committed.

    Args:
        failures: Commits that fail, by number counted from the next one: ``before`` or ``after`` they are durable.
        failing: Names of methods that fail.
    """

    store: Store
    counted: list[tuple[Scope, LogStatus]] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    batches: list[Batch] = field(default_factory=list)

    def _check(self, method: str) -> None:
        if method in self.failing:
            raise StoreError(f"{method}: disk I/O error")

    def series_values(self) -> Mapping[Series, SeriesValue]:
        return self.store.series_values()

    def series_page(self, after: SeriesCursor, *, limit: int) -> tuple[Mapping[Series, SeriesValue], SeriesCursor]:
        self._check("series_page")
        return self.store.series_page(after, limit=limit)

    def feed_state(self, scope: Scope) -> FeedState:
        return self.store.feed_state(scope)

    def lookup(self, scope: Scope, entries: Sequence[LogEntry], *, feed: Feed, since: int, **options: Any) -> KnownLogs:
        self._check("lookup")
        return self.store.lookup(scope, entries, feed=feed, since=since, **options)

    def count_logs(self, scope: Scope, first: int, last: int) -> int:
        self._check("count_logs")
        return self.store.count_logs(scope, first, last)

    def newest_logs(self, scope: Scope, *, until: int, limit: int) -> Sequence[StoredLog]:
        self._check("newest_logs")
        return self.store.newest_logs(scope, until=until, limit=limit)

    def begin_rekey(self, scope: Scope, coverage: Coverage) -> None:
        self._check("begin_rekey")
        self.store.begin_rekey(scope, coverage)

    def accounting(self, scope: Scope) -> FeedAccounting:
        self._check("accounting")
        return self.store.accounting(scope)

    def commit(self, scope: Scope, batch: Batch) -> CommitResult:
        """Commit; may fail before or after the batch is durable."""
        self._check("commit")
        failure = self.failures.pop(0, None)
        self.failures = {number - 1: moment for number, moment in self.failures.items()}
        if failure == "before":
            raise StoreError("the state: database or disk is full")
        self.batches.append(batch)
        result = self.store.commit(scope, batch)
        self.counted += [(scope, (each.entry.key, each.entry.status)) for each in result.observations]
        if failure == "after":
            raise StoreError("the state: disk I/O error")
        return result

    def mark_served(self, series: Sequence[Series]) -> Sequence[Series]:
        self._check("mark_served")
        return self.store.mark_served(series)

    def size(self, workspace: str) -> tuple[int, int]:
        self._check("size")
        return self.store.size(workspace)

    def close(self) -> None:
        self.store.close()
