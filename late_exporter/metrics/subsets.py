"""Compare the counters of subsets of a feed's logs with its main counter, and complete them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from late_exporter.feeds.feed import Feed
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.model import UNKNOWN, Labels, Series, SeriesValue


class Completion(NamedTuple):
    """What the counters of subsets of a feed lack.

    Args:
        values: Series with their new values.
        healed_counts: Logs by counter, of the counters that have counted others. A counter that
            the state does not have at all is new in this version.
    """

    values: Mapping[Series, SeriesValue]
    healed_counts: Mapping[str, int]


def complete_subsets(feed: Feed, values: Mapping[Series, SeriesValue]) -> Completion:
    """Derive what the counters of subsets lack, such as after an upgrade, from the main counter.

    Labels that the main counter does not have are unknown.

    Args:
        feed: Feed of the logs.
        values: All series of the feed's counters in a workspace.
    """
    completed: dict[Series, SeriesValue] = {}
    healed_counts: dict[str, int] = {}
    for family, filters in feed.subset_counters.items():
        names = CATALOGUE[family].labels
        common = [name for name in names if name in CATALOGUE[feed.counter].labels]
        expected = sum_counter(values, feed.counter, common, filters)
        actual = sum_counter(values, family, common)
        for group, count in expected.items():
            amount = count - actual[group]
            # A series that is 0 is as good as any if the main counter has all of its labels.
            is_missing = group not in actual and len(common) == len(names)
            if amount <= 0 and not is_missing:
                continue
            known = dict(zip(common, group, strict=True))
            series = family, tuple(known.get(name, UNKNOWN) for name in names)
            # New series are history, which is shown with its full value.
            current = values.get(series) or SeriesValue(0, 0.0)
            completed[series] = SeriesValue(_number(current) + amount, current.created)
            if actual and amount:
                healed_counts[family] = healed_counts.get(family, 0) + amount
    return Completion(completed, healed_counts)


def sum_counter(
    values: Mapping[Series, SeriesValue],
    family: str,
    names: Sequence[str] = (),
    filters: Mapping[str, Sequence[str]] = {},
) -> Counter[Labels]:
    """Return the sums of a counter by some of its labels.

    Args:
        values: Series of any families of a workspace.
        family: The counter.
        names: Labels to sum by.
        filters: Values by label, one of which a series must have.
    """
    sums = Counter[Labels]()
    for (name, labels), stored in values.items():
        if name != family:
            continue
        known = dict(zip(CATALOGUE[family].labels, labels, strict=True))
        if all(known[label] in accepted for label, accepted in filters.items()):
            sums[tuple(known[each] for each in names)] += _number(stored)
    return sums


def _number(stored: SeriesValue) -> int:
    return int(stored.value) if isinstance(stored.value, int | float) else 0
