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

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import InitVar, dataclass, field

from late_exporter.exposition.family import Family
from late_exporter.feeds.feed import Feed
from late_exporter.metrics.aggregation import project_log
from late_exporter.metrics.label_limiter import LabelLimiter
from late_exporter.metrics.series_history import SeriesHistory
from late_exporter.model import LogEntry, Scope
from late_exporter.series import IncCounter, Series, SeriesValue
from late_exporter.store.snapshot import RecordedStatus


@dataclass
class FeedHistory:
    """History of a feed of a workspace between two times in milliseconds, built from the pages of the API.

    Args:
        values: Current series of the state.
        recorded_statuses: Statuses in which logs were counted.

    Attributes:
        log_count: Number of logs that take part.
    """

    scope: Scope
    feed: Feed
    families: Mapping[str, Family]
    values: Mapping[Series, SeriesValue]
    recorded_statuses: InitVar[Iterable[RecordedStatus]]
    since: int
    until: int
    log_count: int = field(default=0, init=False)

    def __post_init__(self, recorded_statuses: Iterable[RecordedStatus]) -> None:
        # Every label gets the value that it was counted under, and no new values are admitted.
        self._limiter = LabelLimiter(self.families, max_values=0, max_accounts=1)
        self._limiter.restore(self.values)
        self._statuses: dict[str, str] = {}
        for row in recorded_statuses:
            self._statuses[row.key] = "" if row.key in self._statuses else row.status
        self._times = defaultdict[Series, list[int]](list)

    def add_page(self, entries: Iterable[LogEntry]) -> None:
        """Add the logs of a page, except those that were on an earlier one."""
        for entry in entries:
            is_counted = self._statuses.pop(entry.key, "") == entry.status and not entry.rejection_reason
            if not is_counted or entry.created is None or not self.since <= entry.created <= self.until:
                continue
            self.log_count += 1
            for increment in self._limiter.apply(project_log(self.feed, self.scope.workspace, entry)):
                if isinstance(increment, IncCounter):
                    self._times[increment.family, increment.labels].append(entry.created)

    def series(self, *, published_at: int) -> Iterator[SeriesHistory]:
        """Yield the counters that were exposed from the start.

        ``published_at`` is the time in milliseconds at which the counters of the feed were first exposed.
        """
        for (name, labels), current in self.values.items():
            family, times = self.families.get(name), sorted(self._times.get((name, labels), ()))
            if family is None or family.kind != "counter" or self.feed.name not in family.feeds:
                continue
            if labels[0] != self.scope.workspace or current.created * 1000 > published_at:
                continue
            if isinstance(current.value, int | float) and len(times) <= current.value:
                yield SeriesHistory(family, labels, self.since, self.until, times)
