"""Registry of the current series: their values, and which of them are visible."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from late_exporter.exposition.exposition import Exposition
from late_exporter.exposition.family import Family
from late_exporter.metrics.aggregation import exemplar_of, rebucket
from late_exporter.metrics.catalogue import LAST_AUDIT, LAST_POLL, LAST_RECONCILE
from late_exporter.model import (
    FailureStreak,
    Histogram,
    IncCounter,
    Labels,
    LatestValue,
    LogEntry,
    ObserveLog,
    Scope,
    Series,
    SeriesValue,
    SetCurrent,
)

OWN_TIMES = frozenset({LAST_POLL, LAST_RECONCILE, LAST_AUDIT})
"""Stored gauges with times at which the exporter did something.

Alerts compare them with the present.
"""


class _WorkspaceSeries:
    """Series of one workspace.

    Attributes:
        synced_feeds: Feeds that have completed their first sync.
        hidden_values: Values of series that are not visible yet.
        values: Visible values by family, except those of status feeds.
        status_values: Visible values of each status feed.
    """

    def __init__(self) -> None:
        self.synced_feeds: set[str] = set()
        self.hidden_values: dict[Series, SeriesValue] = {}
        self.values: defaultdict[str, dict[Labels, SeriesValue]] = defaultdict(dict)
        self.status_values: dict[str, Mapping[Series, SeriesValue]] = {}

    def get(self, series: Series) -> SeriesValue | None:
        """Return what a series shows."""
        for values in self.status_values.values():
            if series in values:
                return values[series]
        return self.values[series[0]].get(series[1])


class SeriesRegistry:
    """Current value of every series; writes the visible ones to the exposition.

    The logs that exist before the first sync of a feed are history: the families of the feed are
    hidden until that sync is complete, and then appear with their full values. Series that are
    created later show 0 for some time first, so that Prometheus sees their first increase.

    Values are kept by workspace, so that no call takes longer because other workspaces exist.

    Args:
        families: Catalogue of the metric families.
        exposition: Receives the visible series. It may lack families: their series are counted, but
            not shown.
    """

    def __init__(self, families: Mapping[str, Family], exposition: Exposition) -> None:
        self._families = families
        self._exposition = exposition
        self._workspaces: dict[str, _WorkspaceSeries] = {}
        self._without_workspace = _WorkspaceSeries()

    def add_workspace(self, workspace: str) -> None:
        self._workspaces[workspace] = _WorkspaceSeries()

    def remove_workspace(self, workspace: str) -> None:
        workspace_series = self._workspaces[workspace]
        for feed in workspace_series.status_values:
            self.replace_status(workspace, feed, {})
        for family, values in workspace_series.values.items():
            for labels, current in values.items():
                self._exposition.remove(*_exposed((family, labels), current))
        del self._workspaces[workspace]

    def restore(self, values: Mapping[Series, SeriesValue]) -> None:
        """Load some of the stored series, except those of other workspaces and families."""
        for series, value in values.items():
            if series[0] in self._families and series[1][0] in self._workspaces:
                self._set(series, value)

    def apply(
        self,
        scope: Scope,
        values: Mapping[Series, SeriesValue],
        *,
        now: float,
        is_synced: bool,
    ) -> None:
        """Show committed values of a feed together.

        Args:
            scope: The feed, and its workspace.
            values: New values.
            now: API time in Unix seconds, by which the ages of series are measured.
            is_synced: Whether the families of the feed are shown from now on.
        """
        self._exposition.set_api_time(scope.workspace, now)
        workspace_series = self._workspaces[scope.workspace]
        if is_synced and scope.feed not in workspace_series.synced_feeds:
            workspace_series.synced_feeds.add(scope.feed)
            values = {**workspace_series.hidden_values, **values}
            workspace_series.hidden_values = {}
        with self._exposition.changing:
            for series, value in values.items():
                self._set(series, value)

    def add_uncommitted(self, increments: Iterable[IncCounter]) -> None:
        """Add increments of the exporter's own counters that could not be committed yet.

        Later values include them.
        """
        for increment in increments:
            series = (increment.family, increment.labels)
            current = self.get(series) or SeriesValue(0, 0.0)
            self._set(series, SeriesValue(_number(current) + increment.amount, current.created))

    def correct_times(self, workspace: str, now: float) -> Sequence[SetCurrent]:
        """Set the OWN_TIMES of a workspace that are ahead of ``now`` to it.

        Return increments that do so in the state. Such a time was set while the clock was ahead.
        Until the clock reaches it again, no alert on its age would fire.
        """
        corrections = [
            SetCurrent(family, labels, value=now)
            for family in sorted(OWN_TIMES)
            for labels, time in self.numbers(workspace, family).items()
            if time > now
        ]
        for each in corrections:
            self._set((each.family, each.labels), SeriesValue(each.value, 0.0))
        return corrections

    def set_gauge(self, family: str, labels: Labels, value: float) -> None:
        """Set a gauge that is not stored; most polls change few of theirs."""
        series = (family, labels)
        current = SeriesValue(value, 0.0)
        workspace_series = self._series_of(series)
        shown = workspace_series.get(series)
        if current not in (shown, workspace_series.hidden_values.get(series)):
            self._set(series, current)

    def gauge(self, family: str, labels: Labels) -> float:
        """Return the value of a gauge of a workspace; 0 if it does not exist."""
        return self.numbers(labels[0], family).get(labels, 0.0)

    def remove_gauge(self, family: str, labels: Labels) -> None:
        """Remove a gauge, if it exists."""
        workspace_series = self._series_of((family, labels))
        workspace_series.hidden_values.pop((family, labels), None)
        workspace_series.values[family].pop(labels, None)
        self._exposition.remove(family, labels)

    def replace_status(
        self, workspace: str, feed: str, values: Mapping[Series, SeriesValue]
    ) -> None:
        """Show the gauges of a status feed instead of its previous ones.

        They cover the values of logs.
        """
        workspace_series = self._workspaces[workspace]
        previous = {
            series: workspace_series.get(series)
            for series in workspace_series.status_values.get(feed, {}).keys() | values.keys()
        }
        workspace_series.status_values[feed] = values
        for series, value in previous.items():
            self._show(series, value, workspace_series.get(series))

    def add_exemplar(self, increment: ObserveLog, log: LogEntry, now: int) -> None:
        """Attach a log to the bucket of its observation, if the series is visible.

        ``now`` is the API time in milliseconds.
        """
        series = (increment.family, increment.labels)
        exemplar = exemplar_of(increment, log, now)
        if exemplar is not None and not self._is_hidden(self._series_of(series), series):
            self._exposition.add_exemplar(*series, exemplar)

    def get(self, series: Series) -> SeriesValue | None:
        """Return what a series shows; None if it is not visible."""
        return self._series_of(series).get(series)

    def values(self, workspace: str, family: str) -> Mapping[Labels, SeriesValue]:
        """Return the visible values of a family, except those of status feeds."""
        if workspace not in self._workspaces:
            return {}
        return self._workspaces[workspace].values.get(family, {})

    def numbers(self, workspace: str, family: str) -> Mapping[Labels, float]:
        """Return the same values as numbers."""
        return {
            labels: _number(current) for labels, current in self.values(workspace, family).items()
        }

    def _series_of(self, series: Series) -> _WorkspaceSeries:
        family, labels = series
        if self._families[family].labels[:1] != ("workspace",):
            return self._without_workspace
        return self._workspaces.get(labels[0], self._without_workspace)

    def _is_hidden(self, workspace_series: _WorkspaceSeries, series: Series) -> bool:
        family = self._families[series[0]]
        feeds = family.feeds
        if "type" in family.labels:  # the label that names the only feed that fills a series
            feeds = (series[1][family.labels.index("type")],)
        return bool(feeds) and workspace_series.synced_feeds.isdisjoint(feeds)

    def _set(self, series: Series, value: SeriesValue) -> None:
        name, labels = series
        workspace_series = self._series_of(series)
        if self._is_hidden(workspace_series, series):
            workspace_series.hidden_values[series] = value
            return
        previous = workspace_series.get(series)
        family = self._families[name]
        if previous is not None and family.kind == "counter" and not family.feeds:
            # It must not fall when its uncommitted increments are committed bit by bit.
            value = SeriesValue(max(_number(previous), _number(value)), value.created)
        workspace_series.values[name][labels] = value
        self._show(series, previous, workspace_series.get(series))

    def _show(
        self, series: Series, previous: SeriesValue | None, current: SeriesValue | None
    ) -> None:
        """Show a value instead of the previous one; None is no series."""
        exposed = None if current is None else _exposed(series, current)
        if previous is not None and _exposed(series, previous) != exposed:
            self._exposition.remove(*_exposed(series, previous))
        if current is None or exposed is None:
            return
        family = self._families[series[0]]
        number: float | Histogram = _number(current)
        if isinstance(current.value, Histogram):
            number = rebucket(current.value, family.buckets)
        created = None if family.kind == "gauge" else current.created
        self._exposition.put(*exposed, number, created=created)


def _exposed(series: Series, current: SeriesValue) -> Series:
    """Return how a series is exposed: texts are labels, with the value 1."""
    value = current.value.value if isinstance(current.value, LatestValue) else None
    if isinstance(value, tuple):
        return series[0], (*series[1], *value)
    return series


def _number(current: SeriesValue) -> float:
    value = current.value.value if isinstance(current.value, LatestValue) else current.value
    if isinstance(value, FailureStreak):
        return value.length
    return value if isinstance(value, int | float) else 1
