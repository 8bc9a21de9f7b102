"""Compare the counters of a feed with the store's own accounting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from late_exporter.feeds.feed import Feed
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.metrics.names import ENTRIES_REJECTED, LAST_AUDIT
from late_exporter.model import Scope
from late_exporter.series import LatestValue, Series, SeriesValue
from late_exporter.store.records import FeedAccounting

AUDIT_GAUGES = ("late_exporter_audit_missing_logs", "late_exporter_audit_extra_logs", LAST_AUDIT)
"""Results of the last sweep of the whole list; the store keeps them until the next one."""


class CounterMismatch(msgspec.Struct, frozen=True, gc=False):
    """A count that contradicts the others.

    Args:
        family: Metric family; empty for the number of stored logs.
        expected: Count by the other sources.
        actual: Count as found.
    """

    family: str
    expected: int
    actual: int


def gauge_value(series_values: Mapping[Series, SeriesValue], series: Series) -> float:
    """Return the value of a stored gauge; 0 if it is not stored."""
    stored = series_values.get(series)
    return (
        float(stored.value.value)
        if stored is not None and isinstance(stored.value, LatestValue)
        else 0.0
    )


def last_audit(series_values: Mapping[Series, SeriesValue], scope: Scope) -> float:
    """Return the Unix time in seconds at which the last sweep of the whole list was completed, 0 if never."""
    labels = (scope.workspace, scope.feed)
    # Until one has completed, LAST_AUDIT is the time of the first sync, without the other results.
    return (
        gauge_value(series_values, (LAST_AUDIT, labels))
        if (AUDIT_GAUGES[0], labels) in series_values
        else 0.0
    )


def check_counters(scope: Scope, feed: Feed, accounting: FeedAccounting) -> list[CounterMismatch]:
    """Compare a feed's counters, its recorded observations and its stored and pruned logs.

    Every observation increments the feed's counter or the counter of rejected entries once, is
    counted in the store's own accounting, and is stored until it is pruned. The three agree only if
    nothing was counted twice or not at all.
    """
    counter = _sum(accounting.series_values, feed.counter, scope.workspace, **feed.counter_labels)
    rejected = _sum(accounting.series_values, ENTRIES_REJECTED, scope.workspace, feed=scope.feed)
    mismatches = [
        CounterMismatch(feed.counter, accounting.observation_count - rejected, counter),
        CounterMismatch(
            "", accounting.observation_count, accounting.stored_count + accounting.pruned_count
        ),
    ]
    if counter == accounting.observation_count - rejected:
        # The counters of subsets can be compared only with a counter that is right itself.
        for family, (label, value) in feed.subset_counters.items():
            share = _sum(accounting.series_values, feed.counter, scope.workspace, **{label: value})
            mismatches.append(
                CounterMismatch(
                    family, share, _sum(accounting.series_values, family, scope.workspace)
                )
            )
    return [mismatch for mismatch in mismatches if mismatch.expected != mismatch.actual]


def count_missing(mismatches: Iterable[CounterMismatch]) -> int:
    """Return how many logs the counters lack."""
    return sum(
        mismatch.expected - mismatch.actual
        for mismatch in mismatches
        if mismatch.family and mismatch.actual < mismatch.expected
    )


def count_extra(mismatches: Iterable[CounterMismatch]) -> int:
    """Return how many logs are counted more than once, or will be, or are stored but not counted."""
    return sum(
        abs(mismatch.actual - mismatch.expected)
        for mismatch in mismatches
        if not mismatch.family or mismatch.actual > mismatch.expected
    )


def _sum(
    series_values: Mapping[Series, SeriesValue], family: str, workspace: str, **filters: str
) -> int:
    names = CATALOGUE[family].labels
    required = {"workspace": workspace, **filters}.items()
    return sum(
        int(stored.value)
        for (name, labels), stored in series_values.items()
        if name == family
        and isinstance(stored.value, int | float)
        and required <= dict(zip(names, labels, strict=True)).items()
    )
