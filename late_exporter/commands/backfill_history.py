"""Reconstruct what the counters of a feed would have shown before they were first scraped.

When the counters of a feed are first exposed, they contain all that the API held by then. So history has to end at a
value that is at most the first one exposed: a higher value would look like a counter reset to Prometheus, which would
count everything again. Therefore it begins at 0, and a log takes part only if it was counted before the counters were
exposed:

- Logs that the state has recorded in exactly the status that they have now. If a log was counted in several statuses,
  the state does not record which of them it had when the counters were first exposed.
- Logs created until LATE_ARRIVAL_WINDOW before that: a log is written when its attempt ends, so it may appear later.
- Series that were created after that were first exposed at 0 and have no history.

Histograms have none either: they are most of the series, and durations of long ago are of little use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from late_exporter.exposition.family import Family
from late_exporter.feeds.feed import Feed
from late_exporter.metrics.counting import project_log
from late_exporter.metrics.labels import LabelLimiter
from late_exporter.model import LogEntry, Scope
from late_exporter.series import IncCounter, Labels, Series, SeriesValue
from late_exporter.store.snapshot import RecordedStatus


class SeriesHistory(msgspec.Struct, frozen=True):
    """History of a counter between two times in milliseconds: the times at which it was incremented, in order."""

    family: Family
    labels: Labels
    since: int
    until: int
    times: Sequence[int]


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
        families: Mapping[str, Family],
        values: Mapping[Series, SeriesValue],
        recorded_statuses: Iterable[RecordedStatus],
        *,
        since: int,
        until: int,
    ) -> None:
        self._scope, self._feed, self._families = scope, feed, families
        self._values = values
        # Every label gets the value that it was counted under, and no new values are admitted.
        self._limiter = LabelLimiter(families, max_values=0, max_accounts=1)
        self._limiter.restore(values)
        self._statuses: dict[str, str] = {}
        for row in recorded_statuses:
            self._statuses[row.key] = "" if row.key in self._statuses else row.status
        self._since, self._until = since, until
        self._times: dict[Series, list[int]] = {}
        self.log_count = 0

    def add_page(self, entries: Iterable[LogEntry]) -> None:
        """Add the logs of a page, except those that were on an earlier one."""
        for entry in entries:
            is_counted = self._statuses.pop(entry.key, "") == entry.status and not entry.rejection_reason
            if not is_counted or entry.created is None or not self._since <= entry.created <= self._until:
                continue
            self.log_count += 1
            for increment in self._limiter.apply(project_log(self._feed, self._scope.workspace, entry)):
                if isinstance(increment, IncCounter):
                    self._times.setdefault((increment.family, increment.labels), []).append(entry.created)

    def series(self, *, published_at: int) -> Iterator[SeriesHistory]:
        """Yield the counters that were exposed from the start.

        ``published_at`` is the time in milliseconds at which the counters of the feed were first exposed.
        """
        for (name, labels), current in self._values.items():
            family, times = self._families.get(name), sorted(self._times.get((name, labels), ()))
            if family is None or family.kind != "counter" or self._feed.name not in family.feeds:
                continue
            if labels[0] != self._scope.workspace or current.created * 1000 > published_at:
                continue
            if isinstance(current.value, int | float) and len(times) <= current.value:
                yield SeriesHistory(family, labels, self._since, self._until, times)
