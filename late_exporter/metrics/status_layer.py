"""The series of status feeds, which cover those that logs have left behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from late_exporter.series import Series, SeriesValue

SHARED_FAMILIES = frozenset(
    {"late_account_info", "late_account_connected", "late_account_token_expiry_timestamp_seconds"}
)
"""Families that both logs and status feeds fill."""


class StatusLayer:
    """Series of one workspace that status feeds show, and the values of logs below them."""

    def __init__(self) -> None:
        self._series: dict[str, AbstractSet[Series]] = {}
        self._covered_series: set[Series] = set()
        self._log_values: dict[Series, SeriesValue] = {}

    def keep(self, series: Series, value: SeriesValue) -> bool:
        """Keep a value that comes from logs; return whether a status feed covers it."""
        if series[0] in SHARED_FAMILIES:
            self._log_values[series] = value
        return series in self._covered_series

    def replace(self, feed: str, values: Mapping[Series, SeriesValue]) -> Iterator[tuple[Series, SeriesValue | None]]:
        """Replace the series of a status feed; yield the removed ones, each with its value by logs, or None."""
        previous = self._series.pop(feed, frozenset())
        if values:
            self._series[feed] = values.keys()
        self._covered_series -= previous
        self._covered_series.update(values)
        return ((series, self._log_values.get(series)) for series in previous - values.keys())
