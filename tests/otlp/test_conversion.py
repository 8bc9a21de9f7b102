from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.resources import Resource
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

from late_exporter.exposition.exposition import Exposition
from late_exporter.metrics.catalogue import CATALOGUE
from late_exporter.otlp.conversion import convert
from late_exporter.series import Histogram

LOGS = "late_publishing_logs_total"
ATTEMPTS = "late_publishing_attempts"
LAST = "late_publishing_last_log_timestamp_seconds"
LABELS = ("default", "tiktok", "publish", "success")
NOW = 1_800_000_000.25
NANOS = 10**9


def exposition() -> Exposition:
    """Return an exposition that keeps creation times."""
    result = Exposition(CATALOGUE)
    result.keep_created()
    return result


def pushed(source: Exposition, resource: Mapping[str, str] | None = None) -> ExportMetricsServiceRequest:
    """Return the message for everything that was set."""
    source.publish()
    attributes = Resource(dict(resource or {}))
    (data,) = convert(source.copy_series(), now=NOW, resource=attributes, version="1.2", max_points=1000)
    return ExportMetricsServiceRequest.FromString(encode_metrics(data).SerializeToString())


def metrics(source: Exposition) -> dict[str, Any]:
    """Return the metrics of the message by name."""
    (resource,) = pushed(source).resource_metrics
    (scope,) = resource.scope_metrics
    return {metric.name: metric for metric in scope.metrics}


def attributes(point: Any) -> dict[str, str]:
    """Return the attributes of a data point."""
    return {pair.key: pair.value.string_value for pair in point.attributes}


def test_a_counter_is_a_cumulative_sum_since_its_creation() -> None:
    """It is monotonic, has its labels, its name and no unit, and starts when its series was created."""
    source = exposition()
    source.put(LOGS, LABELS, 7, created=1_790_000_000.125)
    metric = metrics(source)[LOGS]
    (point,) = metric.sum.data_points
    assert metric.sum.is_monotonic
    assert 2 == metric.sum.aggregation_temporality
    assert (CATALOGUE[LOGS].help, "") == (metric.description, metric.unit)
    assert dict(zip(CATALOGUE[LOGS].labels, LABELS, strict=True)) == attributes(point)
    assert 7.0 == point.as_double
    assert 1_790_000_000 * NANOS + 125_000_000 == point.start_time_unix_nano
    assert 1_800_000_000 * NANOS + 250_000_000 == point.time_unix_nano


def test_a_histogram_has_the_buckets_of_its_family() -> None:
    """Counts are per bucket and have one more than there are bounds; there is no minimum and no maximum."""
    source = exposition()
    bounds = CATALOGUE[ATTEMPTS].buckets
    counts = (3, *([0] * (len(bounds) - 1)), 2)
    source.put(ATTEMPTS, ("default", "x", "failed"), Histogram(bounds, counts, 2_500_000), created=1000.0)
    metric = metrics(source)[ATTEMPTS]
    (point,) = metric.histogram.data_points
    assert 2 == metric.histogram.aggregation_temporality
    assert (list(bounds), list(counts), 5, 2.5) == (
        list(point.explicit_bounds),
        list(point.bucket_counts),
        point.count,
        point.sum,
    )
    assert 1000 * NANOS == point.start_time_unix_nano
    assert not point.HasField("min")
    assert not point.HasField("max")


def test_a_gauge_has_no_start() -> None:
    """Only sums and histograms have one."""
    source = exposition()
    source.put(LAST, LABELS, 5.5)
    (point,) = metrics(source)[LAST].gauge.data_points
    assert (5.5, 0) == (point.as_double, point.start_time_unix_nano)


def test_a_new_series_is_pushed_as_it_is_shown() -> None:
    """While a series shows its initial zero in /metrics, it is pushed as 0, a histogram as an empty one."""
    source = exposition()
    source.put(LOGS, LABELS, 7, created=1000.0, start_at_zero=True)
    bounds = CATALOGUE[ATTEMPTS].buckets
    histogram = Histogram(bounds, tuple([1] * (len(bounds) + 1)), 9)
    source.put(ATTEMPTS, ("default", "x", "failed"), histogram, created=1000.0, start_at_zero=True)
    by_name = metrics(source)
    assert 0.0 == by_name[LOGS].sum.data_points[0].as_double
    assert (0, 0.0) == (
        by_name[ATTEMPTS].histogram.data_points[0].count,
        by_name[ATTEMPTS].histogram.data_points[0].sum,
    )
    source.end_zeros([(LOGS, LABELS)])
    assert 7.0 == metrics(source)[LOGS].sum.data_points[0].as_double


def test_labels_without_value_and_surrogates() -> None:
    """A label without a value is left out, and lone surrogates are sent as in the metrics."""
    source = exposition()
    source.put(LOGS, ("default", "\ud800x", "", "success"), 1, created=1000.0)
    (point,) = metrics(source)[LOGS].sum.data_points
    assert {"workspace": "default", "platform": "?x", "status": "success"} == attributes(point)


def test_numbers_beyond_a_float() -> None:
    """An integer too large for a float is infinite, as in the metrics."""
    source = exposition()
    source.put(LOGS, LABELS, 10**400, created=1000.0)
    assert float("inf") == metrics(source)[LOGS].sum.data_points[0].as_double


def test_metrics_of_the_process() -> None:
    """Its counters begin with the process; other types than counters and gauges are left out."""
    source = exposition()
    counter = CounterMetricFamily("process_cpu_seconds", "CPU time.", value=3.5)
    start = GaugeMetricFamily("process_start_time_seconds", "Start.", value=1_799_999_000.0)
    source.set_process_metrics([counter, start, InfoMetricFamily("python", "Version.", value={"version": "3"})])
    source.publish()
    by_name = metrics(source)
    (point,) = by_name["process_cpu_seconds_total"].sum.data_points
    assert (3.5, 1_799_999_000 * NANOS) == (point.as_double, point.start_time_unix_nano)
    assert 1_799_999_000.0 == by_name["process_start_time_seconds"].gauge.data_points[0].as_double
    assert {"process_cpu_seconds_total", "process_start_time_seconds"} == by_name.keys()


def test_resource_and_scope() -> None:
    """The message has the attributes of the resource, and the program as its scope."""
    source = exposition()
    source.put(LOGS, LABELS, 1, created=1000.0)
    (resource,) = pushed(source, {"service.name": "late"}).resource_metrics
    assert [("service.name", "late")] == [(pair.key, pair.value.string_value) for pair in resource.resource.attributes]
    scope = resource.scope_metrics[0].scope
    assert ("late-exporter", "1.2") == (scope.name, scope.version)


def test_parts_are_bounded() -> None:
    """More series than fit into a request are sent in several ones, each once and none empty."""
    source = exposition()
    for number in range(7):
        source.put(LOGS, ("default", f"p{number}", "publish", "success"), number, created=1000.0)
    source.put(LAST, LABELS, 5.5)
    source.put(LAST, ("default", "x", "publish", "success"), 5.5)
    source.publish()
    parts = convert(source.copy_series(), now=NOW, resource=Resource({}), version="1.2", max_points=3)
    metrics_of = [part.resource_metrics[0].scope_metrics[0].metrics for part in parts]
    sizes = [[(metric.name, len(metric.data.data_points)) for metric in each] for each in metrics_of]
    assert [[(LOGS, 3)], [(LOGS, 3)], [(LOGS, 1), (LAST, 2)]] == sizes
    points: list[Any] = [point for each in metrics_of for metric in each for point in metric.data.data_points]
    assert 9 == len({(point.attributes["platform"], point.value) for point in points})


def test_creation_times_are_kept_on_demand_only() -> None:
    """Without a push they cost no memory, and with one /metrics does not show them."""
    plain, keeping = Exposition(CATALOGUE), exposition()
    for source in (plain, keeping):
        source.put(LOGS, LABELS, 1, created=1000.0)
        source.publish()
    copies = [dict(zip(CATALOGUE, source.copy_series().families, strict=True))[LOGS] for source in (plain, keeping)]
    assert [{}, {LABELS: 1000.0}] == [copy.created for copy in copies]
    openmetrics = "application/openmetrics-text; version=1.0.0"
    assert plain.get_body(openmetrics, None).body == keeping.get_body(openmetrics, None).body
    keeping.remove(LOGS, LABELS)
    keeping.publish()
    assert [{}] == [copy.created for copy in keeping.copy_series().families if copy.family.name == LOGS]
