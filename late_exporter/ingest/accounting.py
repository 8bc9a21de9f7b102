"""Compare the counters of a feed with the store's own accounting."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from late_exporter.feeds.feed import Feed
from late_exporter.metrics.catalogue import ENTRIES_REJECTED, LAST_AUDIT
from late_exporter.metrics.subsets import sum_counter
from late_exporter.model import Scope
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
    def surplus(self) -> int:
        return self.actual - self.expected

    def __str__(self) -> str:
        name = self.family or "the number of stored and pruned logs"
        comparison = "more" if self.surplus > 0 else "fewer"
        return f"{name} is {self.actual:,}, {abs(self.surplus):,} {comparison} than counted"


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


def count_differences(mismatches: Iterable[CounterMismatch]) -> tuple[int, int]:
    """Return how many logs the counters lack, and how many are wrong otherwise.

    The latter are counted twice, or will be, or are stored but not counted.
    """
    missing = 0
    extra = 0
    for mismatch in mismatches:
        if mismatch.family and mismatch.surplus < 0:
            missing -= mismatch.surplus
        else:
            extra += abs(mismatch.surplus)
    return missing, extra
