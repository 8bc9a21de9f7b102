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
from typing import NamedTuple, TypeAlias

import msgspec

from late_exporter.exposition.family import Family
from late_exporter.feeds.feed import Feed
from late_exporter.metrics.aggregation import apply_increments
from late_exporter.metrics.counting import project_log
from late_exporter.metrics.labels import LabelLimiter
from late_exporter.model import PENDING, LogEntry, Scope
from late_exporter.series import (
    Histogram,
    IncCounter,
    Increment,
    Labels,
    ObserveHistogram,
    Series,
    SeriesValue,
    SetLatest,
    Value,
)
from late_exporter.store.snapshot import RecordedStatus

LATEST_GAUGES = ("late_publishing_last_log_timestamp_seconds", "late_connection_last_event_timestamp_seconds")
"""Gauges whose history follows from the logs alone."""

SampleValue: TypeAlias = int | float | Histogram


class Delta(NamedTuple):
    """A change of a series.

    Args:
        at: Time in milliseconds.
        amount: Increase of a counter, observation of a histogram in millionths, or new value of a gauge.
    """

    at: int
    amount: float


class SeriesHistory(msgspec.Struct, frozen=True, kw_only=True):
    """History of a series.

    Args:
        until: End of the history in milliseconds.
        base: Value before the first change, None if there is none.
        deltas: Changes in order of time.
    """

    family: Family
    labels: Labels
    until: int
    base: SampleValue | None
    deltas: tuple[Delta, ...]


def frozen_limiter(families: Mapping[str, Family], series: Iterable[Series]) -> LabelLimiter:
    """Return a limiter that gives every label the value it was counted under, and admits no new values."""
    limiter = LabelLimiter(families, max_values=0, max_accounts=1)
    limiter.restore(series)
    return limiter


def apply_delta(family: Family, value: SampleValue | None, amount: float) -> SampleValue:
    if family.kind == "gauge":
        return amount
    increment: Increment = IncCounter(family.name, (), amount=amount)
    if family.kind == "histogram":
        increment = ObserveHistogram(family.name, (), micros=int(amount), bounds=family.buckets)
    result = apply_increments((increment,), value)
    if not isinstance(result, int | float | Histogram):
        raise TypeError(f"{family.name}: {result!r} is not the value of a sample")
    return result


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

    def statuses(self, key: str) -> frozenset[str] | None:
        return self._statuses.get(key)

    def is_later(self, created: int | None, statuses: frozenset[str]) -> bool:
        """Return whether a log may have been counted after the end of the history."""
        return created is None or created > self._until or len(statuses) > 1


class FeedHistory:
    """History of a feed of a workspace until a time in milliseconds, built from the pages of the API.

    Attributes:
        log_count: Number of logs created from ``since`` to ``until``; the pages may have older ones.
    """

    def __init__(
        self,
        scope: Scope,
        feed: Feed,
        *,
        families: Mapping[str, Family],
        limiter: LabelLimiter,
        recorded_logs: RecordedLogs,
        since: int,
        until: int,
    ) -> None:
        self._scope = scope
        self._feed = feed
        self._families = {
            name: family
            for name, family in families.items()
            if feed.name in family.feeds and (family.kind != "gauge" or name in LATEST_GAUGES)
        }
        self._limiter = limiter
        self._recorded_logs = recorded_logs
        self._since = since
        self._until = until
        self._deltas: dict[Series, list[Delta]] = {}
        self._sums: dict[Series, SampleValue] = {}
        self._matched_keys: set[str] = set()
        self.log_count = 0

    def add_page(self, entries: Sequence[LogEntry]) -> None:
        """Add the logs of a page, except those that were on an earlier one."""
        for entry in entries:
            statuses = self._recorded_logs.statuses(entry.key)
            if entry.key in self._matched_keys or statuses is None:
                continue
            self._matched_keys.add(entry.key)
            if entry.rejection_reason:
                # Rejected logs are in none of these series.
                self._recorded_logs.unmatched_count -= (
                    len(statuses) if self._recorded_logs.is_later(entry.created, statuses) else 0
                )
            elif entry.created is not None:
                self._add_log(entry, statuses, entry.created)

    def _add_log(self, entry: LogEntry, statuses: frozenset[str], created: int) -> None:
        is_later = self._recorded_logs.is_later(created, statuses)
        self.log_count += created >= self._since and not is_later
        for index, observation in enumerate(_observations(entry, statuses)):
            self._recorded_logs.unmatched_count -= is_later
            for increment in self._limiter.apply(project_log(self._feed, self._scope.workspace, observation)):
                if increment.family in self._families and not (index and increment.once_per_log):
                    self._add_delta(increment, None if is_later else created)

    def _add_delta(self, increment: Increment, at: int | None) -> None:
        """Add a change at a time, or after the end of the history."""
        family, series = self._families[increment.family], (increment.family, increment.labels)
        amount = _amount(increment)
        if not amount and family.kind == "counter":
            return
        if family.kind != "gauge":
            self._sums[series] = apply_delta(family, self._sums.get(series), amount)
        if at is not None:
            self._deltas.setdefault(series, []).append(Delta(at, amount))

    def series(self, values: Mapping[Series, SeriesValue], *, published_at: int) -> Iterator[SeriesHistory]:
        """Yield the series that were exposed from the start, with their values before it.

        ``published_at`` is the time in milliseconds at which the counters of the feed were first exposed.
        """
        for (name, labels), current_value in values.items():
            family = self._families.get(name)
            if family is None or labels[0] != self._scope.workspace or current_value.created * 1000 > published_at:
                continue
            deltas = tuple(sorted(self._deltas.get((name, labels), ()), key=itemgetter(0)))
            base = self._base(family, labels, current_value.value)
            if base is not None or (family.kind == "gauge" and deltas):
                yield SeriesHistory(family=family, labels=labels, until=self._until, base=base, deltas=deltas)

    def _base(self, family: Family, labels: Labels, current_value: Value) -> SampleValue | None:
        """Return the value of a counter or histogram before all logs of the pages, None if it is unknown."""
        listed_value = self._sums.get((family.name, labels))
        if family.kind == "counter" and isinstance(current_value, int | float):
            rest = current_value - (listed_value if isinstance(listed_value, int | float) else 0)
            return max(0, rest - max(0, self._recorded_logs.unmatched_count)) if rest >= 0 else None
        if (
            isinstance(current_value, Histogram)
            and dict(zip(family.labels, labels, strict=True)).get("status") != PENDING
        ):
            return self._histogram_base(
                family, listed_value if isinstance(listed_value, Histogram) else None, current_value
            )
        # The duration that a log had while it was pending is unknown once it has settled.
        return None

    def _histogram_base(
        self, family: Family, listed_value: Histogram | None, current_value: Histogram
    ) -> Histogram | None:
        if current_value.bounds != family.buckets:
            return None
        empty = Histogram(family.buckets, (0,) * (len(family.buckets) + 1))
        listed_value = listed_value or empty
        counts = tuple(total - part for total, part in zip(current_value.counts, listed_value.counts, strict=True))
        rest = Histogram(family.buckets, counts, current_value.micros - listed_value.micros)
        if min(*counts, rest.micros) < 0:
            return None
        # Unmatched logs contribute an unknown amount to the sum.
        return empty if self._recorded_logs.unmatched_count > 0 else rest


def _amount(increment: Increment) -> float:
    match increment:
        case IncCounter(amount=amount):
            return amount
        case ObserveHistogram(micros=micros):
            return micros
        case SetLatest(value=float() | int() as value):
            return value
        case _:
            return 0


def _observations(entry: LogEntry, statuses: frozenset[str]) -> Iterator[LogEntry]:
    """Yield the recorded observations of a log whose increments can be reconstructed."""
    if entry.status in statuses:
        yield entry
    if PENDING in statuses and entry.status != PENDING:
        # A pending log has no result; the API now shows the final one.
        yield msgspec.structs.replace(entry, status=PENDING, duration=None, attempt=None)
