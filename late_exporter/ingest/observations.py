"""Turn logs that were read into observations, whose increments are computed once for all logs of a kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from late_exporter.concurrency import PostponedCancellation
from late_exporter.feeds.log_events import encode_event
from late_exporter.ingest.feed_publisher import LAG
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.counting import count_logs
from late_exporter.metrics.labels import LabelLimiter
from late_exporter.model import Feed, LogEntry, LogKind, Observation, Scope
from late_exporter.series import IncCounter, Increment, ObserveLog

MAX_CLOCK_SKEW = 300_000
"""Milliseconds by which a log's time may be ahead of the API's clock."""

LOGS_PER_SLICE = 100
"""Logs that become observations at a time, in less than a millisecond; other tasks run in between."""

ENTRIES_REJECTED = "late_exporter_entries_rejected_total"
RECONCILED_LOGS = "late_exporter_reconciled_logs_total"
SCHEMA_DRIFT = "late_exporter_api_schema_drift_total"

_Kind: TypeAlias = tuple[LogKind, bool, bool]
"""Kind of a log, whether only a reconciliation scan found it, and whether the first sync is complete."""


class ReadLogs(NamedTuple):
    """Logs that were read together; ``by_reconciliation`` if only a reconciliation scan found them."""

    entries: Sequence[LogEntry]
    by_reconciliation: bool


class Observations(NamedTuple):
    """Observations of a batch.

    Args:
        zeros: Increments that create series at 0, for platforms that had none.
        increments: Those of all kinds of logs in the batch, each once.
    """

    observations: Sequence[Observation]
    zeros: Sequence[Increment]
    increments: Iterable[Increment]


class ObservationBuilder:
    """Builder of the observations of one feed."""

    def __init__(self, scope: Scope, feed: Feed, label_limiter: LabelLimiter) -> None:
        self._feed = feed
        self._scope = scope
        self._label_limiter = label_limiter
        # Of the last batch only: that of a catch-up has mostly the same kinds, and a process at rest keeps none.
        self._kinds: dict[_Kind, tuple[Increment, ...]] = {}
        self._increments: dict[Increment, Increment] = {}
        self._zeros: list[Increment] = []

    def forget_kinds(self) -> None:
        """Compute all increments again, because the batch was not saved: its zeros are needed by the next one."""
        self._kinds = {}

    async def build(
        self, pages: Iterable[ReadLogs], *, now: int, retention_floor: int, is_synced: bool
    ) -> Observations:
        """Return the observations of the logs that are not older than the retention floor.

        Args:
            pages: Logs in the order in which they were read.
            now: API time in milliseconds.
            retention_floor: Creation time in milliseconds before which logs are not counted.
            is_synced: Whether the first sync is complete.
        """
        self._label_limiter.start_batch()
        observations: list[Observation] = []
        known_kinds, self._kinds, self._increments, self._zeros = self._kinds, {}, {}, []
        cancellation = PostponedCancellation()
        for entries, by_reconciliation in _slices(pages):
            for entry in entries:
                if entry.created is None or entry.created >= retention_floor:
                    kind = (entry.kind, by_reconciliation, is_synced)
                    increments = self._kinds.get(kind)
                    if increments is None:
                        increments = self._kinds[kind] = known_kinds.get(kind) or self._project(*kind)
                    observation = _observation(entry, increments, now)
                    # What the first sync reads is history.
                    if entry.detail is not None and is_synced:
                        event = encode_event(self._scope, entry, entry.detail)
                        observation = msgspec.structs.replace(observation, event=event)
                    observations.append(observation)
            await cancellation.pause()
        cancellation.end()  # Nothing but the commit follows, which is awaited all the same.
        distinct = {id(one): one for increments in self._kinds.values() for one in increments}
        return Observations(observations, self._zeros, distinct.values())

    def _project(self, log: LogKind, by_reconciliation: bool, is_synced: bool) -> tuple[Increment, ...]:  # noqa: FBT001 - parts of a key
        """Return the increments of a kind; those that other kinds have, too, are the same objects."""
        increments: list[Increment] = []
        for increment in self._limited_increments(log, by_reconciliation=by_reconciliation, is_synced=is_synced):
            if isinstance(increment, IncCounter) and not increment.amount:
                self._zeros.append(increment)
            else:
                increments.append(self._increments.setdefault(increment, increment))
        return tuple(increments)

    def _limited_increments(self, log: LogKind, *, by_reconciliation: bool, is_synced: bool) -> Iterator[Increment]:
        labels = (self._scope.workspace, self._scope.feed)
        drift = (IncCounter(SCHEMA_DRIFT, (*labels, deviation.path, deviation.kind)) for deviation in log.deviations)
        yield from self._label_limiter.apply(drift)
        if log.rejection_reason:
            yield IncCounter(ENTRIES_REJECTED, (*labels, log.rejection_reason))
            return
        yield from self._label_limiter.apply(self._feed.project(self._scope.workspace, log))
        if not log.has_time or not is_synced:
            return
        yield ObserveLog(LAG, labels, once_per_log=True, number="lag", bounds=CATALOGUE[LAG].buckets)
        if by_reconciliation:
            yield IncCounter(RECONCILED_LOGS, labels, once_per_log=True)


def _slices(pages: Iterable[ReadLogs]) -> Iterator[ReadLogs]:
    for entries, by_reconciliation in pages:
        for start in range(0, len(entries), LOGS_PER_SLICE):
            yield ReadLogs(entries[start : start + LOGS_PER_SLICE], by_reconciliation)


def _observation(entry: LogEntry, increments: tuple[Increment, ...], now: int) -> Observation:
    if entry.created is not None and entry.created > now + MAX_CLOCK_SKEW:
        # A time in the future would stay the newest one until it has passed.
        log = msgspec.structs.replace(entry, created=now)
        increments = tuple(
            counted
            for increment in increments
            for counted in ((increment,) if isinstance(increment, ObserveLog) else count_logs(increment, (log,), now))
        )
    return Observation(entry, increments)
