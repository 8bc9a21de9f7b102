"""Reconstruct what the counters of a feed would have shown before they were first scraped.

When the counters of a feed are first exposed, they contain all that the API held by then. So history has to end at a
value that is at most the first one exposed: a higher value would look like a counter reset to Prometheus, which would
count everything again. It also has to end close below it, otherwise logs of last week seem to arrive at the border
between history and live samples. Therefore everything that came later is subtracted from the current values:

- Logs take part only in the statuses that the state has recorded. Anything else will be counted by the exporter and
  belongs to the live samples.
- Logs are placed at their creation time. If a log was counted in several statuses, the state does not record which of
  them it had at the border: all of them count as later.
- Logs that the API no longer shows have no labels any more. If they were created before the border, they stay in the
  value with which history begins. If they are younger, their series is unknown, and they are subtracted from each
  series. So are former statuses that the API no longer shows.
- A log is written when its attempt ends, so it may appear after the border but be created before it. That is why
  history ends LATE_ARRIVAL_WINDOW before the border.
- Series that were created after the border were first exposed at 0 and have no history.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import NamedTuple, TypeAlias, cast

import msgspec

from late_exporter.exposition.family import Family
from late_exporter.feeds.feed import Feed
from late_exporter.metrics.aggregation import apply_increments
from late_exporter.metrics.counting import project_log
from late_exporter.metrics.labels import LabelLimiter
from late_exporter.model import PENDING, LogEntry, Scope
from late_exporter.series import Histogram, IncCounter, Increment, Labels, ObserveHistogram, Series, SeriesValue, Value
from late_exporter.store.snapshot import RecordedStatus

SampleValue: TypeAlias = int | float | Histogram
"""Value of a counter or a histogram."""


class Change(NamedTuple):
    """A change of a series at a time in milliseconds."""

    at: int
    increment: Increment

    def apply(self, value: SampleValue | None) -> SampleValue:
        """Return the value of the series after the change."""
        return cast("SampleValue", apply_increments([self.increment], value))


class SeriesHistory(msgspec.Struct, frozen=True):
    """History of a series.

    Args:
        since: Start of the history in milliseconds.
        until: Its end.
        base: Value before the first change.
        changes: Changes in order of time.
    """

    family: Family
    labels: Labels
    since: int
    until: int
    base: SampleValue
    changes: Sequence[Change]


class RecordedLogs:
    """Logs that the state has recorded as counted, by key, from rows that are ordered by key.

    Attributes:
        unmatched_count: Number of statuses recorded after the end of the history and not yet assigned to a series.
    """

    def __init__(self, rows: Iterable[RecordedStatus], *, until: int) -> None:
        self._until = until
        self._statuses: dict[str, frozenset[str]] = {}
        self.unmatched_count = 0
        for key, group in groupby(rows, key=attrgetter("key")):
            logs = list(group)
            statuses = self._statuses[key] = frozenset(row.status for row in logs)
            if self.is_later(logs[0].created, statuses):
                self.unmatched_count += len(statuses)

    def take(self, key: str) -> frozenset[str]:
        """Return the statuses of a log, the first time that it is asked for."""
        return self._statuses.pop(key, frozenset())

    def is_later(self, created: int | None, statuses: frozenset[str]) -> bool:
        """Return whether a log may have been counted after the end of the history."""
        return created is None or created > self._until or len(statuses) > 1


class FeedHistory:
    """History of a feed of a workspace until a time in milliseconds, built from the pages of the API.

    ``values`` are the current series of the state.

    Attributes:
        log_count: Number of logs created from ``since`` to ``until``; the pages may have older ones.
    """

    def __init__(
        self,
        scope: Scope,
        feed: Feed,
        *,
        families: Mapping[str, Family],
        values: Mapping[Series, SeriesValue],
        recorded_logs: RecordedLogs,
        since: int,
        until: int,
    ) -> None:
        self._scope = scope
        self._feed = feed
        self._families = {
            name: family for name, family in families.items() if feed.name in family.feeds and family.kind != "gauge"
        }
        self._values = values
        # Every label gets the value that it was counted under, and no new values are admitted.
        self._limiter = LabelLimiter(families, max_values=0, max_accounts=1)
        self._limiter.restore(values)
        self._recorded_logs = recorded_logs
        self._since, self._until = since, until
        self._changes: dict[Series, list[Change]] = {}
        self._sums: dict[Series, SampleValue] = {}
        self.log_count = 0

    def add_page(self, entries: Sequence[LogEntry]) -> None:
        """Add the logs of a page, except those that were on an earlier one."""
        for entry in entries:
            statuses = self._recorded_logs.take(entry.key)
            is_later = self._recorded_logs.is_later(entry.created, statuses)
            if entry.rejection_reason:
                # Rejected logs are in none of these series.
                self._recorded_logs.unmatched_count -= len(statuses) if is_later else 0
            elif statuses and entry.created is not None:
                self.log_count += entry.created >= self._since and not is_later
                self._add_log(entry, statuses, None if is_later else entry.created)

    def _add_log(self, entry: LogEntry, statuses: frozenset[str], at: int | None) -> None:
        """Add a log at a time, or after the end of the history."""
        for index, observation in enumerate(_observations(entry, statuses)):
            self._recorded_logs.unmatched_count -= at is None
            for increment in self._limiter.apply(project_log(self._feed, self._scope.workspace, observation)):
                if increment.family not in self._families or (index and increment.once_per_log):
                    continue
                if isinstance(increment, IncCounter | ObserveHistogram):
                    series = (increment.family, increment.labels)
                    change = Change(at or 0, increment)
                    self._sums[series] = change.apply(self._sums.get(series))
                    if at is not None:
                        self._changes.setdefault(series, []).append(change)

    def series(self, *, published_at: int) -> Iterator[SeriesHistory]:
        """Yield the series that were exposed from the start, with their values before it.

        ``published_at`` is the time in milliseconds at which the counters of the feed were first exposed.
        """
        for (name, labels), current_value in self._values.items():
            family = self._families.get(name)
            if family is None or labels[0] != self._scope.workspace or current_value.created * 1000 > published_at:
                continue
            base = self._base(family, labels, current_value.value)
            if base is not None:
                changes = sorted(self._changes.get((name, labels), ()), key=itemgetter(0))
                yield SeriesHistory(
                    family=family, labels=labels, since=self._since, until=self._until, base=base, changes=changes
                )

    def _base(self, family: Family, labels: Labels, current_value: Value) -> SampleValue | None:
        """Return the value of a series before all logs of the pages, None if it is unknown."""
        listed_value = self._sums.get((family.name, labels))
        unmatched = max(0, self._recorded_logs.unmatched_count)
        if isinstance(current_value, Histogram):
            # The duration that a log had while it was pending is unknown once it has settled.
            if family.buckets != current_value.bounds or PENDING in labels:
                return None
            empty = Histogram(family.buckets, (0,) * (len(family.buckets) + 1))
            listed_sum = listed_value if isinstance(listed_value, Histogram) else empty
            counts = tuple(total - part for total, part in zip(current_value.counts, listed_sum.counts, strict=True))
            rest = Histogram(family.buckets, counts, current_value.micros - listed_sum.micros)
            # Unmatched logs contribute an unknown amount to the sum.
            return None if min(*counts, rest.micros) < 0 else empty if unmatched else rest
        if isinstance(current_value, int | float):
            rest_count = current_value - (listed_value if isinstance(listed_value, int | float) else 0)
            return max(0, rest_count - unmatched) if rest_count >= 0 else None
        return None


def _observations(entry: LogEntry, statuses: frozenset[str]) -> Iterator[LogEntry]:
    """Yield the recorded observations of a log whose increments can be reconstructed."""
    if entry.status in statuses:
        yield entry
    if PENDING in statuses and entry.status != PENDING:
        # A pending log has no result; the API now shows the final one.
        yield msgspec.structs.replace(entry, status=PENDING, duration=None, attempt=None)
