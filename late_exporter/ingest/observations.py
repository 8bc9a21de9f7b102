"""Turn logs that were read into observations, whose increments are computed once for all logs of a kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from late_exporter.feeds.feed import Feed
from late_exporter.feeds.log_events import encode_event
from late_exporter.ingest.feed_publisher import LAG
from late_exporter.ingest.uncommitted import ReadLogs
from late_exporter.metrics.aggregation import count_logs
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.labels import LabelLimiter
from late_exporter.metrics.names import ENTRIES_REJECTED, SCHEMA_DRIFT
from late_exporter.model import MAX_CLOCK_SKEW_MS, LogEntry, LogKind, Scope
from late_exporter.series import IncCounter, Increment, ObserveLog
from late_exporter.store.records import Observation

RECONCILED_LOGS = "late_exporter_reconciled_logs_total"


class Observations(NamedTuple):
    """Observations of a batch.

    Args:
        zeros: Increments that create series at 0, for platforms that have none in the state.
    """

    observations: Sequence[Observation]
    zeros: Sequence[Increment]


class ObservationBuilder:
    """Builder of the observations of one feed."""

    def __init__(self, scope: Scope, feed: Feed, label_limiter: LabelLimiter) -> None:
        self._feed = feed
        self._scope = scope
        self._label_limiter = label_limiter

    def build(self, pages: Iterable[ReadLogs], *, now: int, retention_floor: int, is_synced: bool) -> Observations:
        """Return the observations of the logs that are not older than the retention floor.

        Args:
            pages: Logs in the order in which they were read.
            now: API time in milliseconds.
            retention_floor: Creation time in milliseconds before which logs are not counted.
            is_synced: Whether the first sync is complete.
        """
        self._label_limiter.start_batch()
        observations: list[Observation] = []
        zeros: list[Increment] = []
        kinds: dict[tuple[LogKind, bool], tuple[Increment, ...]] = {}
        distinct: dict[Increment, Increment] = {}
        for entry, by_reconciliation in _entries_since(retention_floor, pages):
            kind = (entry.kind, by_reconciliation)
            increments = kinds.get(kind)
            if increments is None:
                projected = list(self._limited_increments(*kind, is_synced=is_synced))
                zeros += filter(_is_zero, projected)
                # Those that other kinds have, too, are the same objects.
                shared = [distinct.setdefault(one, one) for one in projected if not _is_zero(one)]
                increments = kinds[kind] = tuple(shared)
            if entry.created is not None and entry.created > now + MAX_CLOCK_SKEW_MS:
                increments = _present_increments(entry, increments, now)
            # What the first sync reads is history.
            detail = entry.detail if is_synced else None
            event = None if detail is None else encode_event(self._scope, entry, detail)
            observations.append(Observation(entry, increments, event))
        return Observations(observations, zeros)

    def _limited_increments(self, log: LogKind, by_reconciliation: bool, *, is_synced: bool) -> Iterator[Increment]:  # noqa: FBT001 - part of a key
        labels = (self._scope.workspace, self._scope.feed)
        drift = (IncCounter(SCHEMA_DRIFT, (*labels, deviation.path, deviation.kind)) for deviation in log.deviations)
        yield from self._label_limiter.apply(drift)
        if log.rejection_reason:
            yield IncCounter(ENTRIES_REJECTED, (*labels, log.rejection_reason))
            return
        yield from self._label_limiter.apply(self._feed.project(self._scope.workspace, log))
        if not is_synced:
            return
        yield ObserveLog(LAG, labels, once_per_log=True, number="lag", bounds=CATALOGUE[LAG].buckets)
        if by_reconciliation:
            yield IncCounter(RECONCILED_LOGS, labels, once_per_log=True)


def _entries_since(floor: int, pages: Iterable[ReadLogs]) -> Iterator[tuple[LogEntry, bool]]:
    for entries, by_reconciliation in pages:
        for entry in entries:
            if entry.created is None or entry.created >= floor:
                yield entry, by_reconciliation


def _is_zero(increment: Increment) -> bool:
    return isinstance(increment, IncCounter) and not increment.amount


def _present_increments(entry: LogEntry, increments: tuple[Increment, ...], now: int) -> tuple[Increment, ...]:
    """Return the increments of a log as if it were created now: a time in the future would stay the newest one."""
    log = msgspec.structs.replace(entry, created=now)
    return tuple(
        counted
        for increment in increments
        for counted in ((increment,) if isinstance(increment, ObserveLog) else count_logs(increment, (log,), now))
    )
