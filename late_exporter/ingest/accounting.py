"""Compare the counters of a feed with the store's own accounting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from late_exporter.feeds.feed import Feed
from late_exporter.format import plural
from late_exporter.metrics.catalogue import ENTRIES_REJECTED, LAST_AUDIT
from late_exporter.metrics.subsets import sum_counter
from late_exporter.model import LatestValue, Scope, Series, SeriesValue
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

    @property
    def text(self) -> str:
        """Return what differs, and what it means."""
        surplus = self.actual - self.expected
        difference = f"{abs(surplus):,} {'more' if surplus > 0 else 'fewer'} than counted"
        if self.family:
            twice = "Logs were counted twice."
            meaning = twice if surplus > 0 else "Logs are missing in this metric."
            return f"{self.family} is {self.actual:,}, {difference}. {meaning}"
        never = "These logs were never counted."
        meaning = never if surplus > 0 else "Missing records would be counted again."
        return f"{plural(self.actual, 'log')} stored or pruned, {difference}. {meaning}"


def gauge_value(series_values: Mapping[Series, SeriesValue], series: Series) -> float:
    """Return the value of a stored gauge; 0 if it is not stored."""
    stored = series_values.get(series)
    value = stored.value if stored is not None else None
    if isinstance(value, LatestValue) and isinstance(value.value, int | float):
        return float(value.value)
    return 0.0


def check_counters(scope: Scope, feed: Feed, accounting: FeedAccounting) -> list[CounterMismatch]:
    """Compare a feed's counters, its recorded observations and its stored and pruned logs.

    Every observation increments the feed's counter or the counter of rejected entries once, is
    counted in the store's own accounting, and is stored until it is pruned. The three agree only if
    nothing was counted twice or not at all.
    """
    values = accounting.series_values
    labels = {name: (value,) for name, value in feed.counter_labels.items()}
    counter = sum_counter(values, feed.counter, filters=labels).total()
    rejected = sum_counter(values, ENTRIES_REJECTED, filters={"feed": (scope.feed,)}).total()
    observations = accounting.observation_count
    mismatches = [
        CounterMismatch(feed.counter, observations - rejected, counter),
        CounterMismatch("", observations, accounting.stored_count + accounting.pruned_count),
    ]
    if counter == observations - rejected:
        # The counters of subsets can be compared only with a counter that is right itself.
        for family, filters in feed.subset_counters.items():
            expected = sum_counter(values, feed.counter, filters=filters).total()
            actual = sum_counter(values, family).total()
            mismatches.append(CounterMismatch(family, expected, actual))
    return [mismatch for mismatch in mismatches if mismatch.expected != mismatch.actual]


def count_missing(mismatches: Iterable[CounterMismatch]) -> int:
    """Return how many logs the counters lack."""
    return sum(
        mismatch.expected - mismatch.actual
        for mismatch in mismatches
        if mismatch.family and mismatch.actual < mismatch.expected
    )


def count_extra(mismatches: Iterable[CounterMismatch]) -> int:
    """Return how many logs are counted twice, or will be, or are stored but not counted."""
    return sum(
        abs(mismatch.actual - mismatch.expected)
        for mismatch in mismatches
        if not mismatch.family or mismatch.actual > mismatch.expected
    )
