"""Convert the series to data points of OpenTelemetry's SDK.

Names stay as they are and units are left out, so that a backend that translates them to Prometheus adds no suffix. Sums
and histograms are cumulative; they start at the creation time of their series, which the state keeps across restarts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.metrics_core import Metric as CollectedMetric

from late_exporter.exposition.blocks import FamilyCopy
from late_exporter.exposition.exposition import SeriesCopy
from late_exporter.series import Histogram

NANOS = 1_000_000_000
PROCESS_START = "process_start_time_seconds"
CUMULATIVE = AggregationTemporality.CUMULATIVE

Attributes: TypeAlias = dict[str, str]
Point: TypeAlias = NumberDataPoint | HistogramDataPoint


def convert(
    series: SeriesCopy, *, now: float, resource: Resource, version: str, max_points: int
) -> Iterator[MetricsData]:
    """Yield all series at a time in Unix seconds, in parts of at most ``max_points`` data points."""
    scope, time = InstrumentationScope("late-exporter", version), _nanos(now)

    def part(metrics: Sequence[Metric]) -> MetricsData:
        return MetricsData([ResourceMetrics(resource, [ScopeMetrics(scope, metrics, "")], "")])

    metrics: list[Metric] = []
    room = max_points
    for source in (*_families(series.families, time), *_process_metrics(series.process_metrics, time)):
        while points := list(islice(source.points, room)):
            metrics.append(_metric(source, points))
            room -= len(points)
            if not room:
                yield part(metrics)
                metrics, room = [], max_points
    if metrics:
        yield part(metrics)


class _Source(NamedTuple):
    """A metric whose data points have yet to be made."""

    name: str
    description: str
    kind: str
    points: Iterator[Point]


def _families(families: Sequence[FamilyCopy], time: int) -> Iterator[_Source]:
    for copy in families:
        yield _Source(copy.family.name, copy.family.help, copy.family.kind, _points(copy, time))


def _points(copy: FamilyCopy, time: int) -> Iterator[Point]:
    for labels, value, created in copy.rows():
        attributes = _attributes(zip(copy.family.labels, labels, strict=True))
        if isinstance(value, Histogram):
            yield _histogram_point(attributes, value, _nanos(created), time)
        else:
            start = 0 if copy.family.kind == "gauge" else _nanos(created)
            yield NumberDataPoint(attributes, start, time, _number(value))


def _process_metrics(collected: Sequence[CollectedMetric], time: int) -> Iterator[_Source]:
    """Yield the metrics of prometheus_client's collectors, whose counters begin with the process."""
    samples = [sample for metric in collected for sample in metric.samples]
    start = next((_nanos(sample.value) for sample in samples if sample.name == PROCESS_START), 0)
    for metric in collected:
        is_counter = metric.type == "counter"
        name = f"{metric.name}_total" if is_counter else metric.name
        points = [
            NumberDataPoint(_attributes(sample.labels.items()), start if is_counter else 0, time, sample.value)
            for sample in metric.samples
            if sample.name == name
        ]
        yield _Source(name, metric.documentation, metric.type, iter(points))


def _metric(source: _Source, points: Sequence[Any]) -> Metric:
    data: Sum | Gauge | HistogramData
    if source.kind == "counter":
        data = Sum(points, CUMULATIVE, is_monotonic=True)
    elif source.kind == "histogram":
        data = HistogramData(points, CUMULATIVE)
    else:
        data = Gauge(points)
    return Metric(source.name, source.description, "", data)


def _histogram_point(attributes: Attributes, value: Histogram, start: int, time: int) -> HistogramDataPoint:
    extremum: Any = None  # not recorded
    return HistogramDataPoint(
        attributes=attributes,
        start_time_unix_nano=start,
        time_unix_nano=time,
        count=sum(value.counts),
        sum=_number(value.micros) / 1e6,
        bucket_counts=value.counts,
        explicit_bounds=value.bounds,
        min=extremum,
        max=extremum,
    )


def _attributes(labels: Iterable[tuple[str, str]]) -> Attributes:
    # As in Prometheus, an empty label is a missing one. Lone surrogates become question marks, as in the metrics.
    return {name: text.encode(errors="replace").decode() for name, text in labels if text}


def _nanos(seconds: float | None) -> int:
    """Return nanoseconds, 0 for a time that is not known."""
    return round((seconds or 0.0) * 1000) * (NANOS // 1000)


def _number(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
