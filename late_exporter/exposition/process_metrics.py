"""Metrics of prometheus_client collectors, rendered by prometheus_client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from late_exporter.exposition.gzip import BodySection, Segment, join_segments
from late_exporter.exposition.sections import SectionPair


class ProcessMetrics:
    """Metrics that have been collected, as ``metrics`` and as ``sections`` of lines."""

    def __init__(self, metrics: Iterable[Metric], compress_lines: Callable[[bytes], Segment]) -> None:
        self.metrics = list(metrics)
        self._compress = compress_lines
        self.sections = self._render(self.metrics)

    def sections_of(self, workspaces: Sequence[str | None], encoding: int) -> list[BodySection]:
        """Return the lines of the samples with a label ``workspace`` that is one of these; None is no label."""
        metrics = [restricted for metric in self.metrics if (restricted := _restrict(metric, workspaces)).samples]
        return [self._render(metrics)[encoding]] if metrics else []

    def _render(self, metrics: Sequence[Metric]) -> SectionPair:
        collector = _CollectedMetrics(metrics)
        text = generate_latest(collector)
        openmetrics: bytes = generate_openmetrics(collector)  # type: ignore[no-untyped-call]
        segments = self._compress(text), self._compress(openmetrics.removesuffix(b"# EOF\n"))
        return join_segments(segments[:1]), join_segments(segments[1:])


class _CollectedMetrics(Collector):
    """Metrics that have been collected already, in the form that prometheus_client renders."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Sequence[Metric]:
        return self._metrics


def _restrict(metric: Metric, workspaces: Sequence[str | None]) -> Metric:
    """Return a metric with the samples of some workspaces, without empty labels: these are labels of other ones."""
    restricted = Metric(metric.name, metric.documentation, metric.type, metric.unit)
    restricted.samples = [
        sample._replace(labels={name: value for name, value in sample.labels.items() if value})
        for sample in metric.samples
        if sample.labels.get("workspace") in workspaces
    ]
    return restricted
