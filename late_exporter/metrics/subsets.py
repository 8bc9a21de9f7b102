"""Complete the counters of subsets of a feed's logs by its main counter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from late_exporter.feeds.feed import Feed
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.model import UNKNOWN
from late_exporter.series import Labels, Series, SeriesValue


def complete_subsets(
    feed: Feed, values: Mapping[Series, SeriesValue]
) -> Mapping[Series, SeriesValue]:
    """Return what counters of subsets lack of the main counter, because a version without them has counted logs.

    Args:
        feed: Feed of the logs.
        values: All series of the feed's counters in a workspace.

    Returns:
        Series with their new values; labels that the main counter has not are unknown.
    """
    completed: dict[Series, SeriesValue] = {}
    for family, (label, value) in feed.subset_counters.items():
        names = CATALOGUE[family].labels
        common = [name for name in names if name in CATALOGUE[feed.counter].labels]
        expected = _sums(values, feed.counter, common, **{label: value})
        actual = _sums(values, family, common)
        for group, amount in (expected - actual).items():
            known = dict(zip(common, group, strict=True))
            series = family, tuple(known.get(name, UNKNOWN) for name in names)
            current = values.get(series) or SeriesValue(
                0, 0.0
            )  # history, which is shown with its full value
            completed[series] = SeriesValue(_number(current) + amount, current.created)
    return completed


def _sums(
    values: Mapping[Series, SeriesValue], family: str, names: Sequence[str], **filters: str
) -> Counter[Labels]:
    """Return the sums of a counter by some of its labels, of the series that have some label values."""
    sums = Counter[Labels]()
    for (name, labels), stored in values.items():
        if name == family:
            known = dict(zip(CATALOGUE[family].labels, labels, strict=True))
            if filters.items() <= known.items():
                sums[tuple(known[each] for each in names)] += _number(stored)
    return sums


def _number(stored: SeriesValue) -> int:
    return int(stored.value) if isinstance(stored.value, int | float) else 0
