"""The series of a family with their lines, which are rendered once per change."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from types import MappingProxyType

import msgspec
from prometheus_client.core import Exemplar as ClientExemplar
from prometheus_client.core import Metric

from late_exporter.exposition.family import Family
from late_exporter.exposition.text import Exemplars, FamilyFormatter, format_number, seconds
from late_exporter.series import Histogram, Labels

NO_EXEMPLARS: Exemplars = MappingProxyType({})


class SeriesLines(msgspec.Struct, gc=False):
    """A series: what it shows, and its lines as text and as OpenMetrics."""

    value: float | Histogram
    created: float | None
    exemplars: Exemplars = NO_EXEMPLARS
    is_zero: bool = False
    text: bytes = b""
    openmetrics: bytes = b""


class FamilyLines:
    """Series of a family, sorted by their labels when they are read.

    Args:
        shows_created: Whether OpenMetrics has the creation times of counters and histograms.
    """

    def __init__(self, family: Family, *, shows_created: bool) -> None:
        self.family = family
        self.has_workspaces = family.labels[:1] == ("workspace",)
        self._formatter = FamilyFormatter(family)
        self._shows_created = shows_created and family.kind != "gauge"
        self._series: dict[Labels, SeriesLines] = {}
        self._order: list[Labels] | None = []

    def __contains__(self, labels: Labels) -> bool:
        return labels in self._series

    def set(self, labels: Labels, series: SeriesLines) -> None:
        """Set a series, without rendering it; it keeps the exemplars of the one before."""
        if labels in self._series:
            series.exemplars = self._series[labels].exemplars
        else:
            self._order = None
        self._series[labels] = series

    def set_exemplars(self, labels: Labels, exemplars: Exemplars) -> None:
        if labels in self._series:
            self._series[labels].exemplars = exemplars

    def remove(self, labels: Labels) -> None:
        if self._series.pop(labels, None) is not None:
            self._order = None

    def render(self, labels: Labels, *, is_zero: bool) -> None:
        """Render the lines of a series, if it exists."""
        series = self._series.get(labels)
        if series is not None:
            series.is_zero = is_zero
            value, created, exemplars = self._visible(series)
            series.text, series.openmetrics = self._formatter.format(labels, value, created, exemplars)

    def lines(self, workspaces: Sequence[str] | None, *, is_openmetrics: bool) -> list[bytes]:
        """Return the header and the lines of some workspaces, or of all, as text or as OpenMetrics."""
        order = self._sort()
        if workspaces is None:
            series: Iterable[SeriesLines] = self._series.values()
        else:
            ranges = ((bisect_left(order, (name,)), bisect_left(order, (f"{name}\0",))) for name in workspaces)
            series = (self._series[labels] for start, end in ranges for labels in order[start:end])
        lines = [each.openmetrics if is_openmetrics else each.text for each in series]
        return [self._formatter.header[is_openmetrics], *lines] if lines else []

    def collect(self) -> Iterator[Metric]:
        """Yield the family in the model of prometheus_client, unless it has no series."""
        self._sort()
        if self._series:
            metric = Metric(self._formatter.stem, self.family.help, self.family.kind)
            for labels, series in self._series.items():
                self._add(metric, dict(zip(self.family.labels, labels, strict=True)), *self._visible(series))
            yield metric

    def _visible(self, series: SeriesLines) -> tuple[float | Histogram, float | None, Exemplars]:
        created = series.created if self._shows_created else None
        return (self._formatter.zero, created, {}) if series.is_zero else (series.value, created, series.exemplars)

    def _sort(self) -> list[Labels]:
        if self._order is None:
            self._order = sorted(self._series)
            self._series = {labels: self._series[labels] for labels in self._order}  # so that it is sorted sooner next
        return self._order

    def _add(
        self,
        metric: Metric,
        labels: dict[str, str],
        value: float | Histogram,
        created: float | None,
        exemplars: Exemplars,
    ) -> None:
        clients = {
            line: ClientExemplar(dict(each.labels), observed, each.timestamp)
            for line, (observed, each) in exemplars.items()
        }
        name = self.family.name
        if isinstance(value, Histogram):
            counts = list(accumulate(value.counts))
            for line, bound in enumerate((*self.family.buckets, math.inf)):
                le = format_number(bound)
                metric.add_sample(f"{name}_bucket", {**labels, "le": le}, counts[line], exemplar=clients.get(line))
            metric.add_sample(f"{name}_count", labels, counts[-1])
            metric.add_sample(f"{name}_sum", labels, float(seconds(value.micros)))
        else:
            metric.add_sample(name, labels, value, exemplar=clients.get(0))
        if created:
            metric.add_sample(f"{metric.name}_created", labels, created)
