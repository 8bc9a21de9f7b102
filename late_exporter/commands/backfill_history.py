"""Reconstruct what the counters of a feed would have shown before they were first scraped.

When the counters of a feed are first exposed, they contain all that the API held by then. So history has to end at a
value that is at most the first one exposed: a higher value would look like a counter reset to Prometheus, which would
count everything again. Therefore it begins at 0, and a log takes part only if it was counted before the counters were
exposed:

- Logs that the state has recorded in exactly the status that they have now. If a log was counted in several statuses,
  the state does not record which of them it had when the counters were first exposed.
- Logs created until LATE_ARRIVAL_WINDOW before that: a log is written when its attempt ends, so it may appear later.
- Series that were created after that were first exposed at 0 and have no history.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from operator import itemgetter
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

    def apply(self, value: SampleValue) -> SampleValue:
        """Return the value of the series after the change."""
        return cast("SampleValue", apply_increments([self.increment], value))


class SeriesHistory(msgspec.Struct, frozen=True):
    """History of a series.

    Args:
        since: Start of the history in milliseconds.
        until: Its end.
        changes: Changes in order of time.
    """

    family: Family
    labels: Labels
    since: int
    until: int
    changes: Sequence[Change]

    @property
    def base(self) -> SampleValue:
        """Value before the first change."""
        buckets = self.family.buckets
        return Histogram(buckets, (0,) * (len(buckets) + 1)) if self.family.kind == "histogram" else 0


class FeedHistory:
    """History of a feed of a workspace between two times in milliseconds, built from the pages of the API.

    Args:
        values: Current series of the state.
        recorded_statuses: Statuses in which logs were counted.

    Attributes:
        log_count: Number of logs that take part.
    """

    def __init__(
        self,
        scope: Scope,
        feed: Feed,
        *,
        families: Mapping[str, Family],
        values: Mapping[Series, SeriesValue],
        recorded_statuses: Iterable[RecordedStatus],
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
        self._statuses: dict[str, str] = {}
        for row in recorded_statuses:
            self._statuses[row.key] = "" if row.key in self._statuses else row.status
        self._since, self._until = since, until
        self._changes: dict[Series, list[Change]] = {}
        self.log_count = 0

    def add_page(self, entries: Iterable[LogEntry]) -> None:
        """Add the logs of a page, except those that were on an earlier one."""
        for entry in entries:
            is_counted = self._statuses.pop(entry.key, "") == entry.status and not entry.rejection_reason
            if not is_counted or entry.created is None or not self._since <= entry.created <= self._until:
                continue
            self.log_count += 1
            for increment in self._limiter.apply(project_log(self._feed, self._scope.workspace, entry)):
                if increment.family in self._families and isinstance(increment, IncCounter | ObserveHistogram):
                    changes = self._changes.setdefault((increment.family, increment.labels), [])
                    changes.append(Change(entry.created, increment))

    def series(self, *, published_at: int) -> Iterator[SeriesHistory]:
        """Yield the series that were exposed from the start.

        ``published_at`` is the time in milliseconds at which the counters of the feed were first exposed.
        """
        for (name, labels), current in self._values.items():
            family = self._families.get(name)
            if family is None or labels[0] != self._scope.workspace or current.created * 1000 > published_at:
                continue
            if family.kind == "histogram" and PENDING in labels:
                continue  # The duration of a pending log may change.
            changes = sorted(self._changes.get((name, labels), ()), key=itemgetter(0))
            history = SeriesHistory(family, labels, self._since, self._until, changes)
            if not _exceeds(reduce(lambda value, change: change.apply(value), changes, history.base), current.value):
                yield history


def _exceeds(value: SampleValue, limit: Value) -> bool:
    """Return whether a value is above another one, or cannot be compared with it."""
    if not (isinstance(value, Histogram) and isinstance(limit, Histogram)):
        return not isinstance(limit, int | float) or not isinstance(value, int | float) or value > limit
    above = any(map(operator.gt, (*value.counts, value.micros), (*limit.counts, limit.micros)))
    return above or value.bounds != limit.bounds
